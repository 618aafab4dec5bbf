use super::*;
use crate::{
    config::Config,
    rules::{Condition, Verdict, ruleset},
};

/// A netlink message: kind, flags, sequence, payload.
fn messages(mut bytes: &[u8]) -> Vec<(u16, u16, u32, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let u16_at = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let length = usize::from(u16_at(0));
        let sequence = u32::from(u16_at(8));
        found.push((
            u16_at(4),
            u16_at(6),
            sequence,
            bytes[HEADER..length].to_vec(),
        ));
        bytes = &bytes[length.next_multiple_of(4)..];
    }
    found
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_batch_starts_and_ends_and_replaces_the_table() {
    let batch = encode(&[]);
    let kinds: Vec<u16> = messages(batch.bytes()).iter().map(|m| m.0).collect();
    assert_eq!(kinds, [0x10, 0xa00, 0xa02, 0xa00, 0x11]);
}

#[test]
fn every_step_asks_for_an_acknowledgement_under_its_own_number() {
    let batch = encode(&ruleset(&Config::default()));
    let all = messages(batch.bytes());
    let steps = &all[1..all.len() - 1];
    assert_eq!(steps.len(), batch.len());
    for (index, (_, flags, sequence, _)) in steps.iter().enumerate() {
        assert_eq!(flags & ACK, ACK);
        assert_eq!(usize::try_from(*sequence).unwrap(), index + 1);
    }
}

#[test]
fn steps_are_named_for_error_messages() {
    let batch = encode(&ruleset(&Config::default()));
    assert_eq!(batch.step(0), "the transaction");
    assert_eq!(batch.step(2), "deleting the old table");
    assert_eq!(batch.step(4), "making the chain prerouting");
    assert_eq!(batch.step(5), "adding rule 1 of the chain prerouting");
    assert_eq!(batch.step(u32::MAX), "the transaction");
}

#[test]
fn chains_are_nat_chains_of_the_inet_family_before_other_nat() {
    let batch = encode(&ruleset(&Config::default()));
    let chains: Vec<Vec<u8>> = messages(batch.bytes())
        .into_iter()
        .filter(|m| m.0 == 0xa03)
        .map(|m| m.3)
        .collect();
    assert_eq!(chains.len(), 2);
    for chain in chains {
        assert_eq!(chain[0], NFPROTO_INET);
        assert!(contains(&chain, b"nat\0"));
        assert!(contains(&chain, &(-100i32).to_be_bytes()));
    }
}

#[test]
fn expressions_say_what_the_rule_says() {
    for (condition, name, value) in [
        (Condition::Tcp, "meta\0", &[6][..]),
        (Condition::ByUser(2102), "meta\0", &2102u32.to_ne_bytes()),
        (Condition::ThroughLoopback, "meta\0", b"lo\0\0\0\0\0\0"),
        (
            Condition::ToPort(8080.into()),
            "payload\0",
            &8080u16.to_be_bytes(),
        ),
        (
            Condition::ToPort("5-9".parse().unwrap()),
            "payload\0",
            &9u16.to_be_bytes(),
        ),
    ] {
        let rule = Rule {
            conditions: vec![condition],
            verdict: Verdict::Leave,
        };
        let bytes = expression::of_rule(&rule).into_bytes();
        assert!(contains(&bytes, name.as_bytes()), "{condition:?}");
        assert!(contains(&bytes, value), "{condition:?}");
        assert!(contains(&bytes, &(-5i32).to_be_bytes()), "{condition:?}");
    }
}

#[test]
fn a_redirect_names_its_port() {
    let rule = Rule {
        conditions: Vec::new(),
        verdict: Verdict::RedirectTo(4143),
    };
    let bytes = expression::of_rule(&rule).into_bytes();
    assert!(contains(&bytes, b"redir\0"));
    assert!(contains(&bytes, &4143u16.to_be_bytes()));
}
