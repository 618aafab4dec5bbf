//! Names that are for sidecars alone: what an application says in them, at either end,
//! is neither believed nor passed on.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use mesh_pair::{
    control::Port,
    namespace::{B, SERVICE},
};

use crate::{
    http2::{Client, on_local, request},
    messages::{self, equal},
    place::{Place, detected},
    wire::Message,
};

/// A port, past A, that policy opens to the client behind A alone, and to nobody who
/// shows no identity. Through A it is greater by so much.
pub(crate) const GUARDED: u16 = 9001;
const THROUGH_A: u16 = 100;

/// What would lead a request elsewhere, or make it another one, if it were believed.
const CONTROL: &[(&str, &str)] = &[
    // The guarded port.
    ("mesh-port", "9001"),
    ("Mesh-Proto", "tcp"),
    ("MESH-METHOD", "DELETE"),
    ("mesh-endpoint", "0000000000000002"),
    ("mesh-hops", "9"),
    ("mesh-error", "not-allowed"),
    ("mesh-anything", "1"),
    ("l5d-dst-override", "10.211.0.10:9101"),
    ("L5D-Remote-IP", "127.0.0.1"),
];
/// What an ingress tells its applications. It is theirs, and nothing to us.
const FORWARDED: &[(&str, &str)] = &[
    ("forwarded", "for=127.0.0.1;host=other.example;proto=https"),
    ("x-forwarded-for", "127.0.0.1, 10.210.0.9"),
    ("x-forwarded-host", "other.example"),
    ("x-forwarded-proto", "https"),
];
/// Ways to say who one is.
const FORGED: &[&[(&str, &str)]] = &[
    &[("l5d-client-id", "somebody")],
    &[("L5D-CLIENT-ID", "somebody")],
    &[("L5d-Client-Id", "somebody")],
    &[("l5d-client-id", "a"), ("L5D-client-ID", "b")],
];
/// Ways to have it taken out behind the sidecar that says it.
const NAMED: &[&[(&str, &str)]] = &[
    &[("Connection", "l5d-client-id, mesh-port")],
    &[
        ("Connection", "L5D-Client-ID, mesh-port"),
        ("l5d-client-id", "somebody"),
        ("mesh-port", "9001"),
    ],
    &[
        ("connection", "close, l5d-client-id"),
        ("l5d-client-id", "somebody"),
    ],
];

/// Asks a server that answers as [`crate::origin::answer`].
type Ask = fn(&Place, SocketAddr, &Message) -> Result<Message>;

/// In HTTP/1: with trailers in chunks, and else without a body.
pub(crate) fn http1(place: &Place, to: SocketAddr, asked: &Message) -> Result<Message> {
    let method = asked.head.first.split(' ').next().unwrap_or_default();
    let mut head = asked.head.clone();
    head.first.push_str(" HTTP/1.1");
    head.fields.extend(owned(&[("Host", "web")]));
    let mut body = String::new();
    if !asked.trailers.is_empty() {
        head.fields
            .extend(owned(&[("Transfer-Encoding", "chunked")]));
        let text = String::from_utf8_lossy(&asked.body);
        let trailers = asked.trailers.iter();
        let trailers: String = trailers.map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        body = format!("{:x}\r\n{text}\r\n0\r\n{trailers}\r\n", text.len());
    }
    let mut answers = messages::ask(place, to, &(head.text() + &body), &[method])?;
    answers.pop().context("no answer")
}

/// In HTTP/2.
pub(crate) fn http2(place: &Place, to: SocketAddr, asked: &Message) -> Result<Message> {
    let (socket, asked) = (place.connect_to(to)?, asked.clone());
    on_local(async || Client::new(socket).await?.ask(asked).await)
}

/// The guarded port's, for a Service.
pub(crate) fn guarded() -> [Port; 2] {
    let through_a = detected(GUARDED + THROUGH_A).at(GUARDED);
    [detected(GUARDED), through_a]
}

/// H8: no name opens a port to whom policy keeps out.
pub(crate) fn opens_nothing(place: &Place, speak: Ask) -> Result<()> {
    let way = |to: (Ipv4Addr, u16)| Way {
        place,
        to: to.into(),
        speak,
    };
    let id = [("l5d-client-id", place.client())];
    let said = [CONTROL, FORWARDED, &id].concat();
    for said in [&Vec::new(), &said] {
        let answer = way((B, GUARDED)).get("/port", said)?;
        equal(&answer.head.status()?, &403)?;
    }
    // There is something to be kept from.
    let answer = way((SERVICE, GUARDED + THROUGH_A)).get("/port", &said)?;
    equal(&answer.head.status()?, &200)?;
    equal(&&*answer.body, &GUARDED.to_string().as_bytes())
}

/// A way to a server, and what is spoken on it.
pub(crate) struct Way<'a> {
    pub(crate) place: &'a Place,
    pub(crate) to: SocketAddr,
    pub(crate) speak: Ask,
}

impl Way<'_> {
    /// Cases of each version of HTTP.
    pub(crate) fn cases(&self) -> [(&'static str, Result<()>); 4] {
        [
            ("the server is told who asks", self.tells(FORGED)),
            ("nobody says it in trailers", self.trailers()),
            ("names of ours lead nowhere", self.leads_nowhere()),
            (
                "the client hears no name of ours",
                self.client_hears_nothing(),
            ),
        ]
    }

    /// H6, in HTTP/1 alone: who takes names out of a request takes none of ours.
    pub(crate) fn named(&self) -> Result<()> {
        self.tells(NAMED)
    }

    /// H7: however a client says who it is, the server is told by B.
    fn tells(&self, forged: &[&[(&str, &str)]]) -> Result<()> {
        forged.iter().try_for_each(|fields| {
            let told = self.check_request(&self.get("/head", fields)?);
            told.map(drop).with_context(|| format!("{fields:?}"))
        })
    }

    /// H7: the others arrive.
    fn trailers(&self) -> Result<()> {
        let mut asked = request("POST", "/head");
        asked.body = b"body".to_vec();
        asked.trailers = owned(&[
            ("l5d-client-id", "somebody"),
            ("x-kept", "1"),
            ("L5D-CLIENT-ID", "somebody"),
            ("mesh-port", "9001"),
            ("l5d-remote-ip", "127.0.0.1"),
        ]);
        let answer = (self.speak)(self.place, self.to, &asked)?;
        let seen = self.check_request(&answer)?;
        equal(&seen.trailers, &owned(&[("x-kept", "1")]))
    }

    /// H8: a request goes where it would go without.
    fn leads_nowhere(&self) -> Result<()> {
        let said = [CONTROL, FORWARDED].concat();
        let (without, with) = (self.get("/port", &[])?, self.get("/port", &said)?);
        for answer in [&without, &with] {
            equal(&answer.head.status()?, &200)?;
            equal(&answer.body, &without.body)?;
        }
        let seen = self.check_request(&self.get("/head", &said)?)?;
        for (name, value) in FORWARDED {
            equal(&seen.values(name), &vec![*value])?;
        }
        let is_for_web = seen.first.contains("//web/") || seen.values("host") == ["web"];
        ensure!(is_for_web, "{seen:?}");
        Ok(())
    }

    /// H7, H8: what a server says in them is for nobody, in head and trailers.
    fn client_hears_nothing(&self) -> Result<()> {
        let answer = self.get("/ours", &[])?;
        equal(&answer.head.status()?, &200)?;
        equal(&&*answer.body, &&b"ours"[..])?;
        for fields in [&answer.head.fields, &answer.trailers] {
            equal(&ours(fields), &Vec::new())?;
            let mut names = fields.iter().map(|(name, _)| name);
            ensure!(
                names.any(|name| name.eq_ignore_ascii_case("x-kept")),
                "{fields:?}"
            );
        }
        Ok(())
    }

    fn get(&self, path: &str, fields: &[(&str, &str)]) -> Result<Message> {
        let mut asked = request("GET", path);
        asked.head.fields = owned(fields);
        (self.speak)(self.place, self.to, &asked)
    }

    /// Of names of ours the server has seen the verified id, once and in the head, and
    /// nothing else.
    fn check_request(&self, answer: &Message) -> Result<Seen> {
        let seen = Seen::of(answer)?;
        // Nobody vouches for a client without a sidecar.
        let verified = [("l5d-client-id", self.place.client())];
        let verified = if self.to.ip() == B {
            &[][..]
        } else {
            &verified
        };
        equal(&&*ours(&seen.fields), &verified)?;
        equal(&ours(&seen.trailers), &Vec::new())?;
        Ok(seen)
    }
}

type Fields = Vec<(String, String)>;

/// What a server has seen of a request.
#[derive(Debug)]
struct Seen {
    first: String,
    fields: Fields,
    trailers: Fields,
}

impl Seen {
    /// As it answers to `/head`.
    fn of(answer: &Message) -> Result<Self> {
        equal(&answer.head.status()?, &200)?;
        let text: String = answer.body.iter().map(|byte| char::from(*byte)).collect();
        let (head, trailers) = text.split_once("\r\n\r\n").context("no whole head")?;
        let (first, head) = head.split_once("\r\n").unwrap_or((head, ""));
        Ok(Self {
            first: first.to_owned(),
            fields: fields(head),
            trailers: fields(trailers),
        })
    }

    /// All values of a name in the head.
    fn values(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| &**value).collect()
    }
}

fn fields(lines: &str) -> Fields {
    let fields = lines.lines().filter_map(|line| line.split_once(": "));
    fields.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn owned(fields: &[(&str, &str)]) -> Fields {
    let fields = fields.iter();
    fields
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

/// Those with a name of ours.
fn ours(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    let is_ours = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("mesh-") || name.starts_with("l5d-")
    };
    let ours = fields.iter().filter(|(name, _)| is_ours(name));
    ours.map(|(name, value)| (&**name, &**value)).collect()
}
