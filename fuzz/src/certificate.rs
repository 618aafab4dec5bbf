//! `lib/tls`: certificates of peers, and roots that somebody was given. What is taken for
//! a certificate of ours has one name and is no authority's, also for a reader that
//! shares nothing with `lib/tls`; and only what the root has signed is vouched for.

use mesh_tls::{Certificate, RootCertificate, Trust, parse_bundle};

/// Certificates one behind the other, a root, and a bundle as text.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    chain(&certificates(input));
    root(input);
    if let Ok(text) = str::from_utf8(input) {
        bundle(text);
    }
}

/// The key of all leaves that the inputs begin from: others are refused for theirs.
const KEY: &[u8] = include_bytes!("certificate/key.der");
const LEAF: &[u8] = include_bytes!("../corpus/certificate/leaf");
const ROOT: &[u8] = include_bytes!("../corpus/certificate/root");
/// The name that the root has signed.
const NAME: &str = "spiffe://west/ns/shop/sa/web";

/// A leaf and as many others as a peer may show.
const MOST: usize = 5;
/// Of roots in a bundle.
const MOST_ROOTS: usize = 16;

/// The certificates that `input` begins with; what is none is taken for one.
fn certificates(input: &[u8]) -> Vec<&[u8]> {
    let (mut found, mut rest) = (Vec::new(), input);
    while !rest.is_empty() && found.len() < MOST {
        let behind = element(rest).map_or(0, |element| element.behind.len());
        let (one, more) = rest.split_at(rest.len() - behind);
        found.push(one);
        rest = more;
    }
    found
}

fn chain(shown: &[&[u8]]) {
    let owned = shown.iter().map(|der| der.to_vec()).collect();
    let taken = Certificate::from_parts(owned, KEY.to_vec()).ok();
    let is_ours = shown == [LEAF];
    assert!(taken.is_some() || !is_ours, "the good one is refused");
    let (Some(certificate), Some(leaf)) = (taken, shown.first()) else {
        return;
    };
    let name = certificate.id().as_uri();
    let names = names(leaf);
    assert!(
        names.is_some() || !is_ours,
        "the other reader reads nothing"
    );
    // It wants to have all of it in good order, ours only what it looks at.
    if let Some(names) = names {
        assert_eq!(names, [(URI, name.as_bytes())], "{name}");
    }
    let domain = certificate.id().trust_domain().clone();
    let as_root = Trust::new(domain, &[leaf.to_vec()]);
    assert!(as_root.is_err(), "a leaf that is an authority");
    let is_vouched_for = certificate.is_rooted_in(ROOT);
    assert!(
        is_vouched_for || !is_ours,
        "the good one is not vouched for"
    );
    assert!(name == NAME || !is_vouched_for, "{name}");
}

/// What is taken for a root has its key from what it was read from.
fn root(der: &[u8]) {
    let Ok(root) = RootCertificate::read(der) else {
        assert!(der != ROOT, "the good one is refused");
        return;
    };
    let key = &root.public_key[..];
    let is_there = der.windows(key.len()).any(|part| part == key);
    assert!(is_there, "a key from elsewhere");
}

/// Whether a certificate begins behind this line (RFC 7468 §3), for a reader that takes
/// blanks among the dashes at its end.
fn begins(line: &str) -> bool {
    let Some(dashes) = line.strip_prefix("-----BEGIN CERTIFICATE") else {
        return false;
    };
    dashes.starts_with('-') && dashes.replace(' ', "") == "-----"
}

fn bundle(text: &str) {
    let Ok(roots) = parse_bundle(text) else {
        return;
    };
    let begun = text.split(['\n', '\r']).filter(|line| begins(line));
    let most = begun.count().min(MOST_ROOTS);
    assert!((1..=most).contains(&roots.len()), "{} roots", roots.len());
    for der in &roots {
        root(der);
    }
}

/// Tags: subjectAltName's URI, a value, the extensions, an identifier; and the
/// identifier of subjectAltName.
const URI: u8 = 0x86;
const OCTETS: u8 = 0x04;
const EXTENSIONS: u8 = 0xa3;
const IDENTIFIER: u8 = 0x06;
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// All alternative names of a certificate (RFC 5280 §4.1), with their tags.
fn names(certificate: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let signed = element(element(certificate)?.content)?;
    let mut names = Vec::new();
    for (tag, fields) in elements(signed.content)? {
        if tag != EXTENSIONS {
            continue;
        }
        for (_, extension) in elements(element(fields)?.content)? {
            let parts = elements(extension)?;
            if parts.first() == Some(&(IDENTIFIER, SUBJECT_ALT_NAME)) {
                let (_, value) = parts.iter().find(|(tag, _)| *tag == OCTETS)?;
                names.extend(elements(element(value)?.content)?);
            }
        }
    }
    // Whether it is made of parts is not looked at.
    Some(
        names
            .into_iter()
            .map(|(tag, name)| (tag & !0x20, name))
            .collect(),
    )
}

/// All elements of `bytes`, if they are nothing else.
fn elements(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let next = element(bytes)?;
        found.push((next.tag, next.content));
        bytes = next.behind;
    }
    Some(found)
}

/// What DER begins with (X.690 §8.1), and what is behind it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    behind: &'a [u8],
}

fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let ([tag, length], rest) = bytes.split_first_chunk::<2>()?;
    // Tags of several bytes are in no certificate.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x83 => {
            let (long, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
            (long.iter().fold(0, add), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some(Element {
        tag: *tag,
        content,
        behind,
    })
}
