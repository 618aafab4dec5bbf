//! Header blocks (RFC 7541): blocks of one connection, in frames however cut,
//! become the same heads; and a head that was taken is the same again after it
//! was written and read.

use mesh_http::event::Role;

use crate::{
    choices::Choices,
    rules::{check, same},
    side::{Seen, Side},
};

/// Blocks, each behind two bytes with its length.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    let blocks = blocks(input);
    let whole = heads(&blocks, |block| vec![block]);
    let mut choices = Choices::of(input);
    let cut = heads(&blocks, |block| cut(block, &mut choices));
    assert_eq!(whole, cut, "in one frame, and in several");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn blocks(mut input: &[u8]) -> Vec<&[u8]> {
    let mut blocks = Vec::new();
    while let Some((len, rest)) = input.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len) % 16_384);
        let (block, rest) = rest.split_at(len.min(rest.len()));
        blocks.push(block);
        input = rest;
    }
    blocks
}

/// In up to eight pieces, some of them empty.
fn cut<'a>(block: &'a [u8], choices: &mut Choices) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), block);
    for _ in 0..choices.below(8) {
        let (piece, more) = rest.split_at(choices.below(rest.len() + 1));
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}

/// What a server sees of requests with these blocks.
fn heads<'a>(blocks: &[&'a [u8]], mut cut: impl FnMut(&'a [u8]) -> Vec<&'a [u8]>) -> Vec<Seen> {
    let (mut server, mut all) = (Side::new(true, Role::Server), Vec::new());
    server.rest.extend_from_slice(PREFACE);
    for (index, block) in blocks.iter().enumerate().take(200) {
        let stream = index as u32 * 2 + 1;
        let pieces = cut(block);
        for (at, piece) in pieces.iter().enumerate() {
            let (kind, end_stream) = if at == 0 { (1, 1) } else { (9, 0) };
            let end_headers = if at + 1 == pieces.len() { 4 } else { 0 };
            server
                .rest
                .extend_from_slice(&(piece.len() as u32).to_be_bytes()[1..]);
            server
                .rest
                .extend_from_slice(&[kind, end_stream | end_headers]);
            server.rest.extend_from_slice(&stream.to_be_bytes());
            server.rest.extend_from_slice(piece);
        }
        while let Some(seen) = server.next() {
            if let Seen::Head(stream, head, _) = &seen {
                check(&server.head);
                again(&server, head);
                server
                    .core
                    .reset(server.now, *stream, mesh_http::fault::Code::NoError);
            }
            all.push(seen);
        }
        server.take_all();
    }
    all
}

/// The head that `server` has, written and read.
fn again(server: &Side, head: &str) {
    let (mut client, mut far) = (Side::new(true, Role::Client), Side::new(true, Role::Server));
    client.rest.extend(far.take_all());
    while client.next().is_some() {}
    if client
        .core
        .open(client.now, &server.head, !server.head.is_connect())
        .is_err()
    {
        return;
    }
    far.rest.extend(client.take_all());
    match far.next() {
        Some(Seen::Head(_, there, _)) => same(head, &there),
        other => panic!("{head}\nwas taken, and is {other:?} when passed on"),
    }
}
