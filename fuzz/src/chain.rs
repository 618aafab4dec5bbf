//! A proxy's two connections: what comes out of one is what went into the other,
//! whole or not at all. Never more messages, never a shorter or a longer body.

mod answers;
mod requests;

use crate::{
    choices::{bit, first},
    rules::same,
    side::Seen,
};

/// A client that sends anything, or an origin that answers anything.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    let (options, input) = first(input);
    let (down, up) = (bit(options, 0), bit(options, 1));
    if bit(options, 2) {
        answers::try_input(down, up, bit(options, 3), input);
    } else {
        requests::try_input(down, up, input);
    }
}

/// A message as one connection told it.
#[derive(Clone, Debug, Default)]
struct Message {
    head: Option<String>,
    body: Vec<u8>,
    trailers: Option<String>,
    whole: bool,
    /// A byte stream without an end of its own.
    tunnel: bool,
    /// An answer that has no body in HTTP/1, whatever follows.
    bodiless: bool,
}

impl Message {
    fn note(&mut self, seen: &Seen) {
        match seen {
            Seen::Head(_, head, end) => {
                assert!(self.head.is_none(), "two heads");
                self.head = Some(head.clone());
                self.whole = *end;
            }
            Seen::Data(_, bytes, end) => {
                assert!(!self.whole, "data behind the end");
                self.body.extend_from_slice(bytes);
                self.whole = *end;
            }
            Seen::Trailers(_, trailers) => {
                assert!(!self.whole, "trailers behind the end");
                self.trailers = Some(trailers.clone());
                self.whole = true;
            }
            _ => {}
        }
    }

    /// What has come out is what went in, as far as it got.
    fn came_out(&self, out: &Self) {
        let (Some(sent), Some(head)) = (&self.head, &out.head) else {
            assert!(out.head.is_none(), "a message that nobody sent: {out:?}");
            return;
        };
        same(sent, head);
        assert!(
            self.body.starts_with(&out.body),
            "{self:?}\nbecame\n{out:?}"
        );
        if out.whole && !self.tunnel {
            // What is as long as it said is whole in HTTP/1, though in HTTP/2 its
            // end may still be missing, and more be sent that is refused.
            let length = if self.bodiless { Some(0) } else { length(sent) };
            let whole = self.whole || length == Some(out.body.len());
            assert!(whole, "what is not whole came out as if: {out:?}");
            assert!(self.body == out.body || !self.whole, "{sent}");
            let (trailers, there) = (self.trailers.as_ref(), out.trailers.as_ref());
            // They are dropped where there is no place for them.
            if let (Some(trailers), Some(there)) = (trailers, there) {
                same(trailers, there);
            }
            assert!(
                trailers.is_some() || there.is_none(),
                "trailers from nowhere"
            );
        }
    }
}

/// The length that a head declares.
fn length(head: &str) -> Option<usize> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
}
