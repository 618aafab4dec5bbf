//! Frames where they may not be (RFC 9113 §3 to §6), and header blocks that
//! cannot be decoded (RFC 7541).

use super::{
    super::frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE,
        PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, block, first,
        frame, get, headers, setting,
    },
    Case,
};

fn one(name: &str, frame: Vec<u8>) -> Case {
    Case::new(name, &[frame])
}

/// A head that is not over, then something else.
fn begun(name: &str, then: Vec<u8>) -> Case {
    let head = headers(1, END_STREAM, &first("GET", "/"));
    Case::new(name, &[[head, then].concat()])
}

/// A request that was answered, then something else.
fn after(name: &str, then: Vec<u8>) -> Case {
    Case::new(name, &[get(1, "/"), then])
}

/// A request whose body has not come, then something else.
fn open(name: &str, then: Vec<u8>) -> Case {
    let head = headers(1, END_HEADERS, &first("POST", "/"));
    Case::new(name, &[[head, then].concat()])
}

fn beginnings() -> Vec<Case> {
    let ping = frame(PING, 0, 0, &[0; 8]);
    vec![
        Case::bare(
            "preface-other",
            &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".to_vec()],
        ),
        Case::bare(
            "preface-http1",
            &[b"GET / HTTP/1.1\r\nhost: web\r\n\r\n".to_vec()],
        ),
        Case::bare("preface-then-ping", &[[PREFACE, &ping].concat()]),
        Case::bare(
            "preface-then-ack",
            &[[PREFACE, &frame(SETTINGS, ACK, 0, &[])].concat()],
        ),
        Case::bare("preface-then-request", &[[PREFACE, &get(1, "/")].concat()]),
    ]
}

fn settings() -> Vec<Case> {
    let of = |name: &str, id, value| one(name, frame(SETTINGS, 0, 0, &setting(id, value)));
    vec![
        one("settings-5-bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        one("settings-on-a-stream", frame(SETTINGS, 0, 1, &[])),
        one(
            "settings-ack-with-bytes",
            frame(SETTINGS, ACK, 0, &setting(1, 0)),
        ),
        of("settings-unknown", 0xabcd, 7),
        of("settings-push-2", 2, 2),
        of("settings-window-large", 4, 1 << 31),
        of("settings-frame-small", 5, 16_383),
        of("settings-frame-large", 5, 1 << 24),
        of("settings-connect-protocol-2", 8, 2),
        Case::new(
            "settings-connect-protocol-back",
            &[[
                frame(SETTINGS, 0, 0, &setting(8, 1)),
                frame(SETTINGS, 0, 0, &setting(8, 0)),
            ]
            .concat()],
        ),
        open(
            "settings-window-overflow",
            [
                frame(WINDOW_UPDATE, 0, 1, &0x7fff_0000_u32.to_be_bytes()),
                frame(SETTINGS, 0, 0, &setting(4, 0x7fff_ffff)),
            ]
            .concat(),
        ),
    ]
}

fn control() -> Vec<Case> {
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    vec![
        one("ping-7-bytes", frame(PING, 0, 0, &[0; 7])),
        one("ping-on-a-stream", frame(PING, 0, 1, &[0; 8])),
        one("ping-ack-unasked", frame(PING, ACK, 0, &[7; 8])),
        one("go-away-on-a-stream", frame(GOAWAY, 0, 1, &[0; 8])),
        one("go-away-7-bytes", frame(GOAWAY, 0, 0, &[0; 7])),
        open("go-away", frame(GOAWAY, 0, 0, &[0; 8])),
        one("priority-4-bytes", frame(PRIORITY, 0, 1, &[0; 4])),
        one("priority-on-0", frame(PRIORITY, 0, 0, &[0; 5])),
        one("priority-idle", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        one(
            "priority-of-itself",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 1]),
        ),
        one(
            "push-promise",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        ),
        one("rst-idle", frame(RST_STREAM, 0, 1, &[0; 4])),
        one("rst-on-0", frame(RST_STREAM, 0, 0, &[0; 4])),
        one("rst-3-bytes", frame(RST_STREAM, 0, 1, &[0; 3])),
        after("rst-closed", frame(RST_STREAM, 0, 1, &[0; 4])),
        open("rst-open", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        one("window-idle", window(1, 1)),
        one("window-by-0", window(0, 0)),
        one("window-overflow", window(0, 0x7fff_ffff)),
        one("window-3-bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        open("window-stream-by-0", window(1, 0)),
        open("window-stream-overflow", window(1, 0x7fff_ffff)),
        after("window-closed", window(1, 1)),
        one("unknown-frame", frame(0xbb, 0xff, 5, b"abc")),
        one("unknown-frame-on-0", frame(0xbb, 0xff, 0, b"abc")),
        one("h14-frame-too-large", frame(0xbb, 0, 0, &[0; 16_385])),
        one("h14-empty-settings", frame(SETTINGS, 0, 0, &[])),
    ]
}

fn streams() -> Vec<Case> {
    let ends = END_HEADERS | END_STREAM;
    let head = block(&first("GET", "/"));
    let padded = |pad: u8, zeros: usize| [&[pad][..], &head, &vec![0; zeros]].concat();
    let weighted = |parent: u8| [&[0, 0, 0, parent, 9][..], &head].concat();
    vec![
        one("stream-0", frame(HEADERS, ends, 0, &head)),
        one("stream-even", frame(HEADERS, ends, 2, &head)),
        one(
            "stream-reserved-bit",
            frame(HEADERS, ends, 1 << 31 | 1, &head),
        ),
        Case::new("stream-smaller", &[get(5, "/"), get(3, "/3")]),
        after("stream-again", get(1, "/again")),
        one("data-idle", frame(DATA, END_STREAM, 1, b"x")),
        one("data-on-0", frame(DATA, END_STREAM, 0, b"x")),
        after("data-closed", frame(DATA, END_STREAM, 1, b"x")),
        open(
            "data-padded",
            frame(DATA, PADDED | END_STREAM, 1, b"\x02hi\0\0"),
        ),
        open(
            "data-padding-long",
            frame(DATA, PADDED | END_STREAM, 1, b"\x05hi\0\0"),
        ),
        open(
            "data-padding-missing",
            frame(DATA, PADDED | END_STREAM, 1, b""),
        ),
        open("data-empty", frame(DATA, END_STREAM, 1, b"")),
        one(
            "head-padded",
            frame(HEADERS, ends | PADDED, 1, &padded(3, 3)),
        ),
        one(
            "head-padding-long",
            frame(HEADERS, ends | PADDED, 1, &[9, 0, 0]),
        ),
        one(
            "head-priority",
            frame(HEADERS, ends | WITH_PRIORITY, 1, &weighted(3)),
        ),
        one(
            "head-priority-of-itself",
            frame(HEADERS, ends | WITH_PRIORITY, 1, &weighted(1)),
        ),
        one(
            "head-priority-short",
            frame(HEADERS, ends | WITH_PRIORITY, 1, &[0; 4]),
        ),
        one(
            "continuation-alone",
            frame(CONTINUATION, END_HEADERS, 1, &head),
        ),
        after(
            "continuation-closed",
            frame(CONTINUATION, END_HEADERS, 1, &head),
        ),
        begun(
            "continuation-empty",
            frame(CONTINUATION, END_HEADERS, 1, &[]),
        ),
        begun(
            "continuation-other-stream",
            frame(CONTINUATION, END_HEADERS, 3, &[]),
        ),
        begun("continuation-then-ping", frame(PING, 0, 0, &[0; 8])),
        begun("continuation-then-data", frame(DATA, 0, 1, b"x")),
        begun("continuation-then-unknown", frame(0xbb, 0, 0, &[])),
        begun(
            "h14-continuation-empty-x20",
            frame(CONTINUATION, 0, 1, &[]).repeat(20),
        ),
        begun(
            "h14-continuation-empty-x2000",
            frame(CONTINUATION, 0, 1, &[]).repeat(2000),
        ),
    ]
}

/// A request's block with something behind or before it.
fn compression() -> Vec<Case> {
    let head = block(&first("GET", "/"));
    let whole =
        |name: &str, block: &[u8]| one(name, frame(HEADERS, END_HEADERS | END_STREAM, 1, block));
    let behind = |name: &str, more: &[u8]| whole(name, &[&head, more].concat());
    let before = |name: &str, more: &[u8]| whole(name, &[more, &head].concat());
    vec![
        behind("hpack-index-0", &[0x80]),
        behind("hpack-index-70", &[0x80 | 70]),
        behind(
            "hpack-index-endless",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        behind(
            "hpack-index-zeros",
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
        ),
        behind("hpack-name-index-70", &[0x40 | 0x3f, 7, 1, b'x']),
        behind("hpack-name-indexed", &[0x40, 1, b'a', 1, b'b', 0x80 | 62]),
        behind("hpack-never-indexed", &[0x10, 1, b'a', 1, b'b']),
        behind("hpack-cut-off", &[0x00, 1, b'a', 5, b'b']),
        behind("hpack-cut-off-name", &[0x00, 5, b'a']),
        behind("hpack-huffman", &[0x00, 1, b'a', 0x82, 0x64, 0x02]),
        behind(
            "hpack-huffman-padding-zero",
            &[0x00, 1, b'a', 0x81, 0b0001_1000],
        ),
        behind(
            "hpack-huffman-padding-long",
            &[0x00, 1, b'a', 0x82, 0b0001_1111, 0xff],
        ),
        behind(
            "hpack-huffman-end",
            &[0x00, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff],
        ),
        before("hpack-size", &[0x20]),
        before("hpack-size-twice", &[0x20, 0x3f, 0xe1, 0x1f]),
        before("hpack-size-large", &[0x3f, 0xe2, 0x1f]),
        behind("hpack-size-behind", &[0x20]),
        whole("hpack-empty", &[]),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = beginnings();
    for more in [settings(), control(), streams(), compression()] {
        all.extend(more);
    }
    all
}
