//! T3: first messages written by hand, which no library of today says any more, or never
//! should: of versions before 1.3, and with a ticket that nobody gave.

use mesh_testing::ca::TestRoot;
use mesh_tls::ALPN_MESH;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    join,
};

use crate::hostile::honest;

// Extensions, by their numbers.
const GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
pub(crate) const SESSION_TICKET: u16 = 35;
pub(crate) const PRE_SHARED_KEY: u16 = 41;
pub(crate) const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const PSK_MODES: u16 = 45;
pub(crate) const KEY_SHARE: u16 = 51;

// Alerts, by theirs.
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

const X25519: [u8; 2] = [0, 29];
const ECDSA_P256_SHA256: [u8; 2] = [4, 3];

/// What is behind its length, in two bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

/// A ClientHello of this version, with these extensions and no other.
fn hello(version: u16, extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut listed = Vec::new();
    for (number, content) in extensions {
        listed.extend(number.to_be_bytes());
        listed.extend(sized(content));
    }
    let mut body = version.to_be_bytes().to_vec();
    // A random number, and no session.
    body.extend([7; 32]);
    body.push(0);
    // One cipher suite of 1.3, and three of before.
    body.extend(sized(&[0x13, 0x01, 0xc0, 0x2b, 0xc0, 0x09, 0x00, 0x2f]));
    // No compression.
    body.extend([1, 0]);
    if !extensions.is_empty() {
        body.extend(sized(&listed));
    }
    let message = [&[1, 0][..], &sized(&body)[..]].concat();
    [&[22, 3, 1][..], &sized(&message)[..]].concat()
}

/// The numbers of the extensions of a client's or a server's first message, which
/// `flight` begins with.
pub(crate) fn extensions(flight: &[u8]) -> Vec<u16> {
    let is_client = flight[5] == 1;
    // Behind the headers, the version, the random number and the session.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(flight[at]);
    if is_client {
        at += 2 + number(&flight[at..]);
        at += 1 + usize::from(flight[at]);
    } else {
        at += 3;
    }
    let mut rest = &flight[at + 2..][..number(&flight[at..])];
    let mut found = Vec::new();
    while let Some(([high, low, length @ ..], behind)) = rest.split_first_chunk::<4>() {
        found.push(u16::from_be_bytes([*high, *low]));
        rest = &behind[number(length)..];
    }
    found
}

/// The length of the record that `flight` begins with, and of its header.
pub(crate) fn record_length(flight: &[u8]) -> usize {
    5 + number(&flight[3..])
}

fn number(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// What our server answers a client that says this and leaves, and what it says of it.
async fn answer(said: &[u8]) -> (Vec<u8>, &'static str) {
    let west = TestRoot::new("west");
    let tls = honest(&west, &[]);
    let (ours, mut theirs) = duplex(64 * 1024);
    let client = async {
        theirs.write_all(said).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (served, answer) = join!(tls.accept(ours, ALPN_MESH), client);
    (answer, served.map(drop).unwrap_err().reason())
}

async fn refused_with(alert: u8, what: &str, said: &[u8]) {
    let told = vec![21, 3, 3, 0, 2, 2, alert];
    assert_eq!(answer(said).await, (told, "protocol"), "{what}");
}

#[tokio::test]
async fn t3_g15_hellos_of_older_versions_are_refused_with_an_alert() {
    let algorithms = (SIGNATURE_ALGORITHMS, sized(&ECDSA_P256_SHA256));
    for (what, version) in [
        ("SSL 3.0", 0x300),
        ("TLS 1.0", 0x301),
        ("TLS 1.1", 0x302),
        ("TLS 1.2", 0x303),
        ("TLS 1.3 where 1.2 has its version", 0x304),
    ] {
        let said = hello(version, std::slice::from_ref(&algorithms));
        refused_with(PROTOCOL_VERSION, what, &said).await;
    }
    for (what, versions) in [
        ("a list with TLS 1.2 only", &[2, 3, 3][..]),
        ("a list with TLS 1.2, 1.1 and 1.0", &[6, 3, 3, 3, 2, 3, 1]),
        ("a list with what nobody knows", &[2, 0x7a, 0x7a]),
    ] {
        let versions = (SUPPORTED_VERSIONS, versions.to_vec());
        let said = hello(0x303, &[algorithms.clone(), versions]);
        refused_with(PROTOCOL_VERSION, what, &said).await;
    }
}

/// They had no extensions, and rustls misses one before it looks at the version.
#[tokio::test]
async fn t3_hellos_without_extensions_are_refused_with_an_alert() {
    for version in [0x300, 0x301, 0x302, 0x303] {
        let what = format!("{version:x}");
        refused_with(HANDSHAKE_FAILURE, &what, &hello(version, &[])).await;
    }
}

/// A ClientHello of TLS 1.3 that wants to go on with a session, and to say something
/// before it has an answer.
fn resuming() -> Vec<u8> {
    let mut ticket = sized(&[9; 64]);
    // Its age.
    ticket.extend([0, 0, 1, 0]);
    let mut binder = vec![32];
    binder.extend([5; 32]);
    let mut name = vec![u8::try_from(ALPN_MESH.len()).unwrap()];
    name.extend(ALPN_MESH);
    let share = [&X25519[..], &sized(&[9; 32])[..]].concat();
    let extensions = [
        (GROUPS, sized(&X25519)),
        (SIGNATURE_ALGORITHMS, sized(&ECDSA_P256_SHA256)),
        (ALPN, sized(&name)),
        (SUPPORTED_VERSIONS, vec![2, 3, 4]),
        (PSK_MODES, vec![1, 1]),
        (KEY_SHARE, sized(&share)),
        (EARLY_DATA, vec![]),
        // The last one, as it has to be.
        (PRE_SHARED_KEY, [sized(&ticket), sized(&binder)].concat()),
    ];
    hello(0x303, &extensions)
}

#[tokio::test]
async fn t3_a_ticket_that_nobody_gave_resumes_nothing_and_what_comes_early_is_not_read() {
    let hello = resuming();
    let asked = extensions(&hello);
    assert!(asked.ends_with(&[EARLY_DATA, PRE_SHARED_KEY]), "{asked:?}");
    // As if it were sealed by what the ticket is about.
    let early = [&[23, 3, 3][..], &sized(&[0x17; 40])[..]].concat();
    let (answer, reason) = answer(&[hello, early].concat()).await;
    // The server waits for the client's certificate, and has no session before.
    assert_eq!(reason, "io");
    assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello");
    let mut agreed = extensions(&answer);
    agreed.sort_unstable();
    assert_eq!(agreed, [SUPPORTED_VERSIONS, KEY_SHARE]);
}
