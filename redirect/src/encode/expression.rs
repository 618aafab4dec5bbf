//! A rule as the expressions of the kernel's little machine: load something
//! into a register, compare it, and at the end say what becomes of the packet.

use super::attributes::Attributes;
use crate::rules::{Condition, Rule, Verdict};

pub(super) fn of_rule(rule: &Rule) -> Attributes {
    let mut expressions = Attributes::default();
    for &condition in &rule.conditions {
        add_condition(&mut expressions, condition);
    }
    match rule.verdict {
        Verdict::Leave => add(&mut expressions, "immediate", return_verdict()),
        Verdict::RedirectTo(port) => {
            add(&mut expressions, "immediate", load_port(port));
            add(&mut expressions, "redir", redirect_to_loaded_port());
        }
    }
    expressions
}

fn add_condition(expressions: &mut Attributes, condition: Condition) {
    match condition {
        Condition::Tcp => {
            add(expressions, "meta", load_meta(NFT_META_L4PROTO));
            add(
                expressions,
                "cmp",
                compare(Comparison::Equal, &[IPPROTO_TCP]),
            );
        }
        Condition::ByUser(uid) => {
            add(expressions, "meta", load_meta(NFT_META_SKUID));
            add(
                expressions,
                "cmp",
                compare(Comparison::Equal, &uid.to_ne_bytes()),
            );
        }
        Condition::ThroughLoopback => {
            add(expressions, "meta", load_meta(NFT_META_OIFNAME));
            add(
                expressions,
                "cmp",
                compare(Comparison::Equal, &LOOPBACK_NAME),
            );
        }
        Condition::ToPort(ports) if ports.first() == ports.last() => {
            add(expressions, "payload", load_destination_port());
            let port = ports.first().to_be_bytes();
            add(expressions, "cmp", compare(Comparison::Equal, &port));
        }
        Condition::ToPort(ports) => {
            add(expressions, "payload", load_destination_port());
            let (first, last) = (ports.first().to_be_bytes(), ports.last().to_be_bytes());
            add(expressions, "cmp", compare(Comparison::AtLeast, &first));
            add(expressions, "cmp", compare(Comparison::AtMost, &last));
        }
    }
}

fn add(expressions: &mut Attributes, name: &str, data: Attributes) {
    let mut expression = Attributes::default();
    expression.text(NFTA_EXPR_NAME, name);
    expression.nested(NFTA_EXPR_DATA, data);
    expressions.nested(NFTA_LIST_ELEM, expression);
}

fn load_meta(key: u32) -> Attributes {
    let mut data = Attributes::default();
    data.number(NFTA_META_KEY, key);
    data.number(NFTA_META_DREG, REGISTER);
    data
}

fn load_destination_port() -> Attributes {
    let mut data = Attributes::default();
    data.number(NFTA_PAYLOAD_DREG, REGISTER);
    data.number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
    data.number(NFTA_PAYLOAD_OFFSET, 2);
    data.number(NFTA_PAYLOAD_LEN, 2);
    data
}

#[derive(Clone, Copy)]
enum Comparison {
    Equal = 0,
    AtMost = 3,
    AtLeast = 5,
}

fn compare(comparison: Comparison, value: &[u8]) -> Attributes {
    let mut data = Attributes::default();
    data.number(NFTA_CMP_SREG, REGISTER);
    data.number(NFTA_CMP_OP, comparison as u32);
    data.nested(NFTA_CMP_DATA, plain_value(value));
    data
}

fn return_verdict() -> Attributes {
    let mut code = Attributes::default();
    code.number(NFTA_VERDICT_CODE, NFT_RETURN.cast_unsigned());
    let mut verdict = Attributes::default();
    verdict.nested(NFTA_DATA_VERDICT, code);
    let mut data = Attributes::default();
    data.number(NFTA_IMMEDIATE_DREG, VERDICT_REGISTER);
    data.nested(NFTA_IMMEDIATE_DATA, verdict);
    data
}

fn load_port(port: u16) -> Attributes {
    let mut data = Attributes::default();
    data.number(NFTA_IMMEDIATE_DREG, REGISTER);
    data.nested(NFTA_IMMEDIATE_DATA, plain_value(&port.to_be_bytes()));
    data
}

fn redirect_to_loaded_port() -> Attributes {
    let mut data = Attributes::default();
    data.number(NFTA_REDIR_REG_PROTO_MIN, REGISTER);
    data.number(NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
    data
}

fn plain_value(value: &[u8]) -> Attributes {
    let mut data = Attributes::default();
    data.bytes(NFTA_DATA_VALUE, value);
    data
}

/// `lo` in the 16 bytes that the kernel gives an interface's name.
const LOOPBACK_NAME: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The one register we need, `NFT_REG_1`.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
const NFTA_REDIR_FLAGS: u16 = 3;

const NFT_META_OIFNAME: u32 = 7;
const NFT_META_SKUID: u32 = 10;
const NFT_META_L4PROTO: u32 = 16;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const NFT_RETURN: i32 = -5;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
const IPPROTO_TCP: u8 = 6;
