//! What is not worth being passed on by itself.

use std::borrow::Cow;

use mesh_http::event::{Event, StreamId};

/// Bytes of a piece of a body that is worth waiting for the next one.
const CRUMB: usize = 256;

/// Small pieces of one stream's body that have come one behind the other: passing them on
/// costs more than they do.
#[derive(Default)]
pub(crate) struct Crumbs<'a>(pub(crate) Option<(StreamId, Cow<'a, [u8]>)>);

impl<'a> Crumbs<'a> {
    /// Takes a small piece, if it can be put behind those that are there.
    pub(crate) fn take(&mut self, event: &Event<'a>) -> bool {
        let Event::Data { stream, bytes, end } = *event else {
            return false;
        };
        match &mut self.0 {
            _ if end || bytes.len() > CRUMB => return false,
            None => self.0 = Some((stream, Cow::Borrowed(bytes))),
            Some((first, _)) if *first != stream => return false,
            Some((_, all)) => all.to_mut().extend_from_slice(bytes),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_http::{connection::Connection, event::Role, head::Head, limits::Limits};

    use super::*;
    use crate::conduit::now;

    #[test]
    fn h14_only_small_pieces_of_one_stream_are_gathered() {
        let mut client = Connection::http2(Role::Client, Arc::new(Limits::default()), now());
        let head = Head::request("POST", "web", "/").unwrap();
        let [first, second] = [(); 2].map(|()| client.open(now(), &head, false).unwrap());
        let data = |stream, bytes, end| Event::Data { stream, bytes, end };
        let mut crumbs = Crumbs::default();
        assert!(crumbs.take(&data(first, b"a", false)));
        assert!(crumbs.take(&data(first, b"bc", false)));
        for other in [
            data(second, b"d", false),
            data(first, b"d", true),
            data(first, &[b'd'; CRUMB + 1], false),
            Event::Pong { payload: 0 },
        ] {
            assert!(!crumbs.take(&other), "{other:?}");
        }
        assert_eq!(crumbs.0, Some((first, Cow::Borrowed(&b"abc"[..]))));
    }
}
