//! Heads: what is taken can be passed on, in either version, and says there what
//! it said here.

use mesh_http::{event::Role, head::Head};

use crate::{
    choices::{bit, first},
    rules::{check, same},
    side::{Seen, Side},
};

/// A head of HTTP/1, of a request or an answer.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    let (options, input) = first(input);
    if bit(options, 0) {
        answer(input, bit(options, 1));
    } else {
        request(input);
    }
}

fn request(input: &[u8]) {
    let mut server = Side::new(false, Role::Server);
    server.rest.extend_from_slice(input);
    let Some(Seen::Head(_, seen, end)) = server.next() else {
        return;
    };
    check(&server.head);
    for http2 in [false, true] {
        let (mut client, mut far) = (
            Side::new(http2, Role::Client),
            Side::far(http2, Role::Server),
        );
        let now = client.now;
        if http2 {
            // What an extended CONNECT needs is in the server's settings.
            client.rest.extend(far.take_all());
            while client.next().is_some() {}
        }
        let opened = client.core.open(now, &server.head, end);
        if opened.is_err() {
            continue;
        }
        far.rest.extend(client.take_all());
        let Some(Seen::Head(_, there, _)) = far.next() else {
            panic!("{seen}\nwas taken, and is refused when passed on to HTTP/{http2}");
        };
        same(&seen, &there);
        check(&far.head);
    }
}

fn answer(input: &[u8], head_only: bool) {
    let method = if head_only { "HEAD" } else { "GET" };
    let Ok(request) = Head::request(method, "web", "/") else {
        return;
    };
    let mut client = Side::new(false, Role::Client);
    let Ok(_) = client.core.open(client.now, &request, true) else {
        return;
    };
    client.rest.extend_from_slice(input);
    let (seen, end) = match client.next() {
        Some(Seen::Head(_, seen, end)) => (seen, end),
        Some(Seen::Informational(_, seen)) => (seen, false),
        _ => return,
    };
    check(&client.head);
    for http2 in [false, true] {
        let (mut server, mut far) = (
            Side::new(http2, Role::Server),
            Side::far(http2, Role::Client),
        );
        if far.core.open(far.now, &request, true).is_err() {
            continue;
        }
        server.rest.extend(far.take_all());
        let Some(Seen::Head(stream, ..)) = server.next() else {
            panic!("a plain request is refused");
        };
        let sent = server.core.send_head(server.now, stream, &client.head, end);
        if sent.is_err() {
            continue;
        }
        far.rest.extend(server.take_all());
        match far.next() {
            Some(Seen::Head(_, there, _) | Seen::Informational(_, there)) => same(&seen, &there),
            other => panic!("{seen}\nwas taken, and is {other:?} when passed on"),
        }
        check(&far.head);
    }
}
