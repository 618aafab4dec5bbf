//! Rules as the bytes that the kernel takes: netlink messages of nf_tables.
//!
//! Numbers are those of `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
//! Attribute numbers are big endian, netlink's own headers in host order.

mod attributes;
mod expression;

use self::attributes::Attributes;
use crate::rules::{Chain, Hook, Rule};

/// The table that is ours, in the family that has both IPv4 and IPv6.
pub const TABLE: &str = "mesh";

/// One transaction: the kernel does all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    steps: Vec<String>,
}

impl Batch {
    /// The messages, one behind the other.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages the kernel acknowledges. Their sequence numbers are
    /// 1 to this.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What the message of this sequence number is for.
    #[must_use]
    pub fn step(&self, sequence: u32) -> &str {
        let index = usize::try_from(sequence).unwrap_or(usize::MAX);
        index
            .checked_sub(1)
            .and_then(|index| self.steps.get(index))
            .map_or("the transaction", String::as_str)
    }
}

/// The transaction that leaves exactly these chains in our table, whatever was
/// in it before.
#[must_use]
pub fn encode(chains: &[Chain]) -> Batch {
    let mut batch = Batch {
        bytes: message(NFNL_MSG_BATCH_BEGIN, 0, 0, &batch_header()),
        steps: Vec::new(),
    };
    // Deleting needs something to delete.
    batch.push("making the table", NEWTABLE, CREATE, table());
    batch.push("deleting the old table", DELTABLE, 0, table());
    batch.push("making the table", NEWTABLE, CREATE, table());
    for chain in chains {
        let name = chain.name;
        batch.push(
            format!("making the chain {name}"),
            NEWCHAIN,
            CREATE,
            chain_attributes(chain),
        );
        for (index, rule) in chain.rules.iter().enumerate() {
            let step = format!("adding rule {} of the chain {name}", index + 1);
            batch.push(step, NEWRULE, CREATE | APPEND, rule_attributes(name, rule));
        }
    }
    let end = message(NFNL_MSG_BATCH_END, 0, 0, &batch_header());
    batch.bytes.extend(end);
    batch
}

impl Batch {
    fn push(&mut self, step: impl Into<String>, kind: u16, flags: u16, attributes: Attributes) {
        self.steps.push(step.into());
        let sequence = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        let mut payload = vec![NFPROTO_INET, NFNETLINK_V0, 0, 0];
        payload.extend(attributes.into_bytes());
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        self.bytes
            .extend(message(kind, flags | ACK, sequence, &payload));
    }
}

fn table() -> Attributes {
    let mut table = Attributes::default();
    table.text(NFTA_TABLE_NAME, TABLE);
    table
}

fn chain_attributes(chain: &Chain) -> Attributes {
    let mut hook = Attributes::default();
    hook.number(NFTA_HOOK_HOOKNUM, hook_number(chain.hook));
    hook.number(NFTA_HOOK_PRIORITY, DSTNAT_PRIORITY.cast_unsigned());

    let mut attributes = Attributes::default();
    attributes.text(NFTA_CHAIN_TABLE, TABLE);
    attributes.text(NFTA_CHAIN_NAME, chain.name);
    attributes.nested(NFTA_CHAIN_HOOK, hook);
    attributes.number(NFTA_CHAIN_POLICY, NF_ACCEPT);
    attributes.text(NFTA_CHAIN_TYPE, "nat");
    attributes
}

fn rule_attributes(chain: &str, rule: &Rule) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text(NFTA_RULE_TABLE, TABLE);
    attributes.text(NFTA_RULE_CHAIN, chain);
    attributes.nested(NFTA_RULE_EXPRESSIONS, expression::of_rule(rule));
    attributes
}

const fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
    }
}

/// One netlink message: `nlmsghdr` and payload, padded.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // from us: the kernel fills the port in
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `nfgenmsg` of a batch's first and last message: for which subsystem it is.
const fn batch_header() -> [u8; 4] {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    [0, NFNETLINK_V0, high, low]
}

/// Size of `nlmsghdr`.
const HEADER: usize = 16;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNETLINK_V0: u8 = 0;
const NFPROTO_INET: u8 = 1;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;

const NF_ACCEPT: u32 = 1;
/// `NF_IP_PRI_NAT_DST`.
const DSTNAT_PRIORITY: i32 = -100;

#[cfg(test)]
mod tests;
