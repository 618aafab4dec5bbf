//! Both sidecars, with their drivers, between a client and an application that
//! speak HTTP/1: what one of them sends arrives at the other as it was, whole, once
//! and in order, or is refused. An independent reader says what that is.

mod ends;
mod strict;

use self::{
    ends::{Carried, Habit, carry},
    strict::{Message, Next},
};
use crate::choices::{Choices, bit, first};

/// Pieces that an input comes in, at most.
const MOST_PIECES: usize = 100;

/// A client that sends anything, or an application that answers anything.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    let (options, input) = first(input);
    if bit(options, 0) {
        answers(&input[..input.len().min(AT_ONCE)], bit(options, 1));
    } else {
        requests(input);
    }
}

/// What comes in one piece, whatever reads it.
const AT_ONCE: usize = 4000;

fn pieces(input: &[u8]) -> Vec<Vec<u8>> {
    let cut = Choices::of(input).cut(input);
    let (few, rest) = cut.split_at(cut.len().min(MOST_PIECES));
    let few = few.iter().map(|piece| piece.to_vec());
    few.chain([rest.concat()]).collect()
}

/// Anything from a client, to an application that answers well.
fn requests(input: &[u8]) {
    let sent = strict::requests(input);
    let carried = carry(pieces(input), Habit::Good);
    clear(&carried);
    let mut arrived = carried.arrived.iter();
    let mut answers = Answers(&carried.to_client);
    let mut was_asked_for_tunnel = false;
    for message in &sent.messages {
        let method = &message.first[0];
        let Some(answer) = answers.next(method) else {
            assert!(was_asked_for_tunnel, "a request without an answer");
            break;
        };
        was_asked_for_tunnel |= message.asks_for_tunnel;
        let status = &answer.first[0];
        if status.starts_with('2') {
            let came = arrived.next().expect("an answer to nobody's request");
            same(message, came);
            let told = ends::told(came);
            let body = if method == "HEAD" { "" } else { &*told };
            assert_eq!(answer.body, body.as_bytes());
        } else {
            assert!(status.starts_with(['4', '5']), "{answer:?}");
            break;
        }
    }
    let more = arrived.next();
    assert!(more.is_none(), "{more:?} of {}", input.escape_ascii());
    // What is wrong behind them is refused, if it is answered at all.
    while let Some(refusal) = answers.next("GET") {
        assert!(refusal.first[0].starts_with(['4', '5']), "{refusal:?}");
    }
    assert!(answers.0.is_empty(), "half an answer");
}

/// What came to the application is clear, and says whom it is from.
fn clear(carried: &Carried) {
    for bytes in &carried.to_application {
        let all = strict::requests(bytes);
        assert!(all.is_good, "{}", bytes.escape_ascii());
        let text = bytes.escape_ascii().to_string();
        let ids = text.matches(r"\r\nl5d-client-id: ").count();
        let ours = format!(r"\r\nl5d-client-id: {}\r\n", ends::CLIENT);
        // A body may say anything.
        let heads = text.matches(&*ours).count();
        assert!(heads >= all.messages.len() && ids >= heads, "{text}");
    }
}

/// As it was sent, to whom it was meant for.
fn same(sent: &Message, came: &Message) {
    let mut sent = sent.clone();
    if sent.first[1].is_empty() {
        "unknown".clone_into(&mut sent.first[1]);
    }
    // The connections are two.
    sent.is_last = came.is_last;
    sent.asks_for_tunnel = came.asks_for_tunnel;
    assert_eq!(&sent, came);
}

/// Methods of a client's requests.
const ASKED: [&str; 3] = ["GET", "HEAD", "POST"];

/// Anything from an application, to a client that asks well. It says all at once:
/// what it says when it has the next request may be the answer to that.
fn answers(input: &[u8], closes: bool) {
    let asked = ASKED.map(|method| {
        let body = match method {
            "POST" => "content-length: 2\r\n\r\nhi",
            _ => "\r\n",
        };
        format!("{method} / HTTP/1.1\r\nhost: web\r\n{body}").into_bytes()
    });
    let carried = carry(asked.into(), Habit::Says(input.to_vec(), closes));
    clear(&carried);
    let mut answers = Answers(&carried.to_client);
    for method in ASKED {
        // An answer that breaks off ends the connection.
        let Some(answer) = answers.next(method) else {
            break;
        };
        if answer.fields.iter().any(|(name, _)| name == ends::REFUSED) {
            continue;
        }
        let Next::Whole(said, _) = strict::answer(input, method, closes) else {
            panic!("{method}: {answer:?} of {}", input.escape_ascii());
        };
        let said = Message {
            is_last: answer.is_last,
            ..said
        };
        assert_eq!(said, answer, "{method}: {}", input.escape_ascii());
    }
    for bytes in &carried.to_application {
        let asked = strict::requests(bytes).messages;
        let Some(first) = asked.first() else {
            continue;
        };
        let said = strict::answer(input, &first.first[0], closes);
        let is_clear = matches!(said, Next::Whole(_, used) if used == input.len());
        assert!(asked.len() == 1 || is_clear && !closes, "used again");
    }
}

/// What is left of what the client was answered.
struct Answers<'a>(&'a [u8]);

impl Answers<'_> {
    /// The next one, if it is whole.
    fn next(&mut self, method: &str) -> Option<Message> {
        match strict::answer(self.0, method, false) {
            Next::Whole(message, used) => {
                self.0 = &self.0[used..];
                Some(message)
            }
            Next::More => None,
            Next::Bad => panic!("{} is no answer", self.0.escape_ascii()),
        }
    }
}
