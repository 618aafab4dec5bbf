use super::*;

fn head() -> Head {
    let mut head = Head::request("POST", "web:80", "/a?b").unwrap();
    for (name, value) in [("accept", "a"), ("x", "1"), ("accept", "b"), ("x", "2")] {
        head.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    head
}

#[test]
fn fields_keep_their_order_and_stay_apart() {
    let head = head();
    let values: Vec<_> = head.fields().map(|(_, value)| value).collect();
    assert_eq!(values, [b"a", b"1", b"b", b"2"]);
    let all: Vec<_> = head.get_all(b"x").collect();
    assert_eq!(all, [b"1", b"2"]);
    assert_eq!(head.get(b"accept"), Some(&b"a"[..]));
    assert_eq!(head.authority(), Some(&b"web:80"[..]));
}

#[test]
fn removal_takes_every_field_of_the_name() {
    let mut head = head();
    assert!(head.remove(b"x") && !head.remove(b"x"));
    assert_eq!(head.len(), 2);
}

#[test]
fn what_was_added_can_be_taken_off_again() {
    let mut head = head();
    head.push(b"content-length", b"5").unwrap();
    head.truncate(3);
    assert_eq!((head.len(), head.content_length()), (3, None));
    head.truncate(7);
    assert_eq!(head.get_single(b"x"), Some(&b"1"[..]));
    assert_eq!(head.get_single(b"accept"), None, "there are two");
}

#[test]
fn a_cleared_head_is_empty_and_keeps_its_arena() {
    let mut head = head();
    let room = head.0.arena.capacity();
    head.clear();
    assert!(head.is_empty() && head.method().is_empty() && head.path().is_empty());
    assert_eq!(head.0.arena.capacity(), room);
}

#[test]
fn h2_one_length_and_a_number() {
    let mut head = head();
    for bad in ["", "+5", "5,5", "0x5", "18446744073709551616", "5 5"] {
        let pushed = head.push(b"content-length", bad.as_bytes());
        assert_eq!(pushed, Err(Invalid::ContentLength), "{bad}");
    }
    head.push(b"content-length", b"5").unwrap();
    let second = head.push(b"content-length", b"5");
    assert_eq!(second, Err(Invalid::ContentLength));
    assert_eq!(head.content_length(), Some(5));
    head.remove(b"content-length");
    assert_eq!(head.content_length(), None);
}

#[test]
fn h3_nothing_invalid_gets_in() {
    let mut head = head();
    let cases: [(&[u8], &[u8], Invalid); 7] = [
        (b"", b"", Invalid::Name),
        (b"A", b"", Invalid::Name),
        (b"a b", b"", Invalid::Name),
        (b"a", b"x\r\ny: z", Invalid::Value),
        (b"connection", b"close", Invalid::ConnectionSpecific),
        (b"te", b"gzip", Invalid::ConnectionSpecific),
        (b"host", b"other", Invalid::Authority),
    ];
    for (name, value, expected) in cases {
        assert_eq!(head.push(name, value), Err(expected), "{name:?}");
    }
    assert_eq!(head.len(), 4);
    assert_eq!(head.set_path(b"a"), Err(Invalid::Path));
    assert_eq!(head.set_authority(b"a b"), Err(Invalid::Authority));
    assert_eq!(head.set_status(99), Err(Invalid::Status));
}

#[test]
fn a_head_is_small_before_it_holds_anything() {
    assert!(size_of::<Head>() <= 160, "{}", size_of::<Head>());
    assert!(size_of::<Field>() <= 16, "{}", size_of::<Field>());
}
