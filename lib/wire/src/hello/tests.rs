use super::*;

/// What is behind its length, in two bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

/// The extension that asks for `name`.
fn asks_for(name: &[u8]) -> (u16, Vec<u8>) {
    (0, sized(&[&[0][..], &sized(name)].concat()))
}

/// A ClientHello with these extensions, without a record.
fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let listed = extensions
        .iter()
        .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &sized(data)].concat());
    let listed: Vec<u8> = listed.collect();
    let mut body = [&[3, 3][..], &[7; 32], &[4, 1, 2, 3, 4]].concat();
    body.extend(sized(&[0x13, 0x01, 0xc0, 0x2b]));
    body.extend([1, 0]);
    body.extend(sized(&listed));
    [&[1, 0][..], &sized(&body)].concat()
}

/// The same in records of at most `most` bytes.
fn in_records(message: &[u8], most: usize) -> Vec<u8> {
    let records = message.chunks(most);
    records
        .flat_map(|part| [&[22, 3, 1][..], &sized(part)].concat())
        .collect()
}

fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    in_records(&message(extensions), 1 << 14)
}

fn tls(name: &str) -> Hello {
    Hello::Tls(Some(name.into()))
}

/// Every prefix says `NeedMore` or already the final answer, which the whole, followed
/// by anything, gives too.
fn holds_for_every_split(bytes: &[u8], answer: &Hello) {
    for end in 0..=bytes.len() {
        let so_far = client_hello(&bytes[..end]);
        let is_consistent = so_far == Hello::NeedMore || so_far == *answer;
        assert!(is_consistent, "{end} of {bytes:?} are {so_far:?}");
    }
    for next in 0..=255_u8 {
        let longer = [bytes, &[next]].concat();
        assert_eq!(client_hello(&longer), *answer, "{bytes:?} and {next}");
    }
}

#[test]
fn the_server_name_is_found_among_other_extensions() {
    let key_share = (51, vec![5; 1_300]);
    let early = hello(&[asks_for(b"web.example.com"), key_share.clone()]);
    let late = hello(&[(0x0a0a, vec![]), key_share, asks_for(b"Web.EXAMPLE.com")]);
    for hello in [early, late] {
        holds_for_every_split(&hello, &tls("web.example.com"));
    }
}

#[test]
fn records_may_be_cut_anywhere() {
    let message = message(&[(51, vec![5; 300]), asks_for(b"web")]);
    for most in [1, 2, 3, 5, 100, message.len() - 1] {
        holds_for_every_split(&in_records(&message, most), &tls("web"));
    }
}

#[test]
fn a_hello_may_name_nobody_or_nothing_that_can_be_read() {
    let other_kind = (0, sized(&[&[1][..], &sized(b"web")].concat()));
    for extensions in [
        vec![],
        vec![(51, vec![5; 9])],
        vec![other_kind],
        vec![asks_for(b"")],
        vec![asks_for(b"we b")],
        vec![asks_for(b"w\0b")],
        vec![asks_for("wéb".as_bytes())],
        vec![asks_for(b"\xff")],
        vec![(0, vec![])],
        vec![(0, vec![0, 9, 0, 0, 3])],
    ] {
        let answer = client_hello(&hello(&extensions));
        assert_eq!(answer, Hello::Tls(None), "{extensions:?}");
    }
    // Of TLS 1.0 and before: no extensions at all.
    let body = [&[3, 1][..], &[7; 32], &[0, 0, 2, 0, 47, 1, 0]].concat();
    let old = [&[1, 0][..], &sized(&body)].concat();
    holds_for_every_split(&in_records(&old, 1 << 14), &Hello::Tls(None));
}

#[test]
fn lengths_that_lie_are_no_name() {
    let good = hello(&[asks_for(b"web")]);
    // From the session's length on; of another name's letters a name may be made.
    for at in 5 + 4 + 34..good.len() {
        for value in [0, 1, 2, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let found = client_hello(&bad);
            assert!(matches!(found, Hello::Tls(_)), "{at} {value}: {found:?}");
        }
    }
}

#[test]
fn what_goes_on_with_something_else_is_no_name() {
    let message = message(&[asks_for(b"web")]);
    let half = in_records(&message[..20], 1 << 14);
    assert_eq!(client_hello(&half), Hello::NeedMore);
    for behind in [&[21, 3, 3, 0, 2, 2, 40][..], &[22, 2], &[22, 3, 1, 0, 0]] {
        holds_for_every_split(&[&half[..], behind].concat(), &Hello::Tls(None));
    }
}

#[test]
fn other_protocols_are_no_hello() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x\r\n",
        &[0],
        // SSL 2.
        &[0x80, 0x2e, 1, 0, 2],
        // A ServerHello, and a record of SSL that has no version of ours.
        &[22, 3, 3, 0, 4, 2],
        &[22, 2, 0, 0, 4, 1],
        &[21, 3, 3, 0, 2, 2, 40],
    ] {
        holds_for_every_split(bytes, &Hello::Other);
    }
    assert_eq!(client_hello(&[]), Hello::NeedMore);
}

#[test]
fn h20_what_is_looked_at_is_bounded() {
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 40_000]].concat();
    assert_eq!(client_hello(&endless[..MAX_HELLO - 1]), Hello::NeedMore);
    assert_eq!(client_hello(&endless[..MAX_HELLO]), Hello::Tls(None));
    assert_eq!(client_hello(&endless), Hello::Tls(None));
}
