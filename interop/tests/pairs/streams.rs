//! HTTP/2, stream by stream, at both ends.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use h2::Reason;
use mesh_core::destination::Protocol;
use mesh_pair::namespace::{B, SERVICE};
use tokio::task::JoinSet;

use crate::{
    content::{SIZES, check, content},
    http2::{Client, Ends, on_local, origin, request},
    messages::{check_many, equal},
    ours::{self, GUARDED, Way},
    place::{Place, UNMESHED, declared, detected, open},
    report::{Group, Report},
    wire::{Head, Message},
};

const PORT: u16 = 8000;
/// The same server's, declared to be HTTP/2.
const DECLARED: u16 = 8001;

#[test]
fn h7_h8_http2_arrives_as_it_was_written() {
    let ports = [
        detected(PORT),
        declared(DECLARED, Protocol::Http2).at(PORT),
        open(UNMESHED, Protocol::Detect),
    ];
    let mut place = Place::new(&[&ports[..], &ours::guarded()].concat());
    let _origins = [PORT, UNMESHED, GUARDED].map(|port| origin(&place, port));
    let mut report = Report::new(Group::Http2);
    for (how, to) in [
        ("detected", (SERVICE, PORT)),
        ("declared", (SERVICE, DECLARED)),
        ("without a sidecar", (B, UNMESHED)),
    ] {
        for size in SIZES {
            let outcome = both_ways(&place, to.into(), size);
            report.case(format!("{how}: {size} bytes both ways"), outcome);
        }
        for (name, case) in CASES {
            report.case(format!("{how}: {name}"), case(&place, to.into()));
        }
        let way = Way {
            place: &place,
            to: to.into(),
            speak: ours::http2,
        };
        for (name, outcome) in way.cases() {
            report.case(format!("{how}: {name}"), outcome);
        }
    }
    let outcome = ours::opens_nothing(&place, ours::http2);
    report.case("without a sidecar: no name opens a port", outcome);
    report.finish(&mut place);
}

pub(crate) type Case = fn(&Place, SocketAddr) -> Result<()>;

pub(crate) const CASES: &[(&str, Case)] = &[
    ("a request's names and their order", request_names),
    ("an answer's names and their order", answer_names),
    ("crumbs of a cookie", crumbs),
    ("trailers in both directions", trailers),
    ("trailers without a body", bare_trailers),
    ("HEAD, 204 and 304", bodiless),
    ("100 streams at a time", many_streams),
    ("a stream that is not read stops no other", stalled),
    ("a reset by the server", server_reset),
    ("a reset by the server keeps its code", server_reset_code),
    ("a reset by the server instead of an answer", reset_at_once),
    ("a reset by the client", client_reset),
    ("a server that goes away after each answer", goaway),
    ("extended CONNECT", websocket),
    ("extended CONNECT that is refused", websocket_refused),
    ("CONNECT", connect),
];

fn post(path: &str, length: usize) -> Message {
    Message {
        body: content(length),
        ..request("POST", path)
    }
}

pub(crate) fn both_ways(place: &Place, to: SocketAddr, length: usize) -> Result<()> {
    let socket = place.connect_to(to)?;
    let answer = on_local(async || Client::new(socket).await?.ask(post("/echo", length)).await)?;
    equal(&answer.head.status()?, &200)?;
    check(&answer.body, length)
}

/// The fields that the server saw, of which some are these.
fn seen(place: &Place, to: SocketAddr, fields: &[(&str, &str)]) -> Result<Vec<String>> {
    let fields = fields.iter();
    let fields = fields.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let asked = Message {
        head: Head {
            fields: fields.collect(),
            ..request("GET", "/head").head
        },
        ..Message::default()
    };
    let socket = place.connect_to(to)?;
    let answer = on_local(async || Client::new(socket).await?.ask(asked).await)?;
    let text: String = answer.body.iter().map(|b| char::from(*b)).collect();
    Ok(text.lines().map(str::to_owned).collect())
}

/// All values of a name, in order.
fn values<'a>(seen: &'a [String], name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}: ");
    let values = seen.iter().filter_map(|line| line.strip_prefix(&prefix));
    values.collect()
}

fn request_names(place: &Place, to: SocketAddr) -> Result<()> {
    let sent = [
        ("x-many", "1"),
        ("x-between", "caf\u{e9}"),
        ("x-many", "2, 3"),
        ("x-empty", ""),
        ("x-many", "1"),
        ("te", "trailers"),
    ];
    let seen = seen(place, to, &sent)?;
    equal(&values(&seen, "x-many"), &vec!["1", "2, 3", "1"])?;
    equal(&values(&seen, "x-between"), &vec!["caf\u{e9}"])?;
    equal(&values(&seen, "x-empty"), &vec![""])?;
    equal(&values(&seen, "te"), &vec!["trailers"])?;
    ensure!(seen[0].contains("//web/head"), "{}", seen[0]);
    Ok(())
}

fn answer_names(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    let answer = on_local(async || Client::new(socket).await?.get("/many").await)?;
    check_many(&answer.head.fields)
}

/// They may arrive in one piece (RFC 9113 §8.2.3).
fn crumbs(place: &Place, to: SocketAddr) -> Result<()> {
    let sent = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
    let seen = seen(place, to, &sent)?;
    equal(&&*values(&seen, "cookie").join("; "), &"a=1; b=2; c=3; d=4")
}

fn trailers(place: &Place, to: SocketAddr) -> Result<()> {
    with_trailers(place, to, 100_000)
}

fn bare_trailers(place: &Place, to: SocketAddr) -> Result<()> {
    with_trailers(place, to, 0)
}

fn with_trailers(place: &Place, to: SocketAddr, length: usize) -> Result<()> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let sent = [field("x-sum", "1"), field("x-sum", "2")];
    let mut asked = post("/trailers", length);
    asked.trailers = sent.to_vec();
    let socket = place.connect_to(to)?;
    let answer = on_local(async || Client::new(socket).await?.ask(asked).await)?;
    check(&answer.body, length)?;
    let expected = [&sent[..], &[field("x-of-server", "yes")]].concat();
    equal(&answer.trailers, &expected)
}

fn bodiless(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    on_local(async || {
        let client = Client::new(socket).await?;
        let head = client.ask(request("HEAD", "/bytes/1024")).await?;
        equal(&head.body.len(), &0)?;
        for status in [204, 304] {
            let answer = client.get(&format!("/status/{status}")).await?;
            equal(&(answer.head.status()?, answer.body.len()), &(status, 0))?;
        }
        check(&client.get("/bytes/5").await?.body, 5)
    })
}

fn many_streams(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    on_local(async || {
        let client = Client::new(socket).await?;
        let mut asking = JoinSet::new();
        for number in 0..100 {
            let (client, length) = (client.clone(), 1000 * number);
            asking.spawn_local(async move {
                check(&client.ask(post("/echo", length)).await?.body, length)
            });
        }
        asking.join_all().await.into_iter().collect()
    })
}

fn stalled(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    on_local(async || {
        let client = Client::new(socket).await?;
        // Larger than any window, and nobody reads it.
        let asked = request("GET", "/bytes/40000000");
        let (answer, _sending) = client.begin(&asked, Ends::Yes).await?;
        let answer = answer.await?;
        equal(&answer.status().as_u16(), &200)?;
        for _ in 0..10 {
            check(&client.ask(post("/echo", 50_000)).await?.body, 50_000)?;
        }
        drop(answer);
        Ok(())
    })
}

/// Why a stream broke off on which the server has begun to answer.
fn reset(place: &Place, to: SocketAddr) -> Result<h2::Error> {
    let socket = place.connect_to(to)?;
    on_local(async || {
        let client = Client::new(socket).await?;
        let (answer, mut sending) = client.begin(&request("POST", "/reset"), Ends::No).await?;
        let mut body = answer.await?.into_body();
        let first = body.data().await.context("no data")??;
        equal(&&*first, &&b"a beginning"[..])?;
        sending.send_data(bytes::Bytes::new(), true)?;
        match body.data().await {
            Some(Err(error)) => Ok(error),
            other => anyhow::bail!("{other:?} instead of an error"),
        }
    })
}

fn server_reset(place: &Place, to: SocketAddr) -> Result<()> {
    let error = reset(place, to)?;
    ensure!(error.is_reset() && error.is_remote(), "{error}");
    Ok(())
}

fn server_reset_code(place: &Place, to: SocketAddr) -> Result<()> {
    equal(
        &reset(place, to)?.reason(),
        &Some(Reason::ENHANCE_YOUR_CALM),
    )
}

fn reset_at_once(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    on_local(async || {
        let client = Client::new(socket).await?;
        let (answer, _sending) = client.begin(&request("GET", "/gone"), Ends::Yes).await?;
        match answer.await {
            Err(error) => equal(&error.reason(), &Some(Reason::ENHANCE_YOUR_CALM)),
            Ok(answer) => anyhow::bail!("{} instead of a reset", answer.status()),
        }
    })
}

fn client_reset(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    on_local(async || {
        let client = Client::new(socket).await?;
        let before = given_up(&client).await?;
        let (answer, mut sending) = client.begin(&request("GET", "/wait"), Ends::No).await?;
        // It is there when a later one was answered.
        client.get("/many").await?;
        sending.send_reset(Reason::CANCEL);
        drop(answer);
        while given_up(&client).await? == before {
            tokio::task::yield_now().await;
        }
        Ok(())
    })
}

async fn given_up(client: &Client) -> Result<usize> {
    let answer = client.get("/given-up").await?;
    Ok(String::from_utf8(answer.body)?.parse()?)
}

fn goaway(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    on_local(async || {
        let client = Client::new(socket).await?;
        for number in 0..20 {
            let answer = client.get("/goaway").await?;
            equal(&(number, answer.head.status()?), &(number, 200))?;
        }
        Ok(())
    })
}

fn websocket(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    let sent = content(100_000);
    let client = async || Client::new(socket).await?.websocket("/chat", &sent).await;
    let (status, back) = on_local(client)?;
    equal(&status, &200)?;
    check(&back, sent.len())
}

/// The connection goes on.
fn websocket_refused(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    on_local(async || {
        let client = Client::new(socket).await?;
        for _ in 0..3 {
            let refused = client.websocket("/refused", b"never sent").await?;
            equal(&refused, &(403, b"no".to_vec()))?;
        }
        check(&client.get("/bytes/5").await?.body, 5)
    })
}

fn connect(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = place.connect_to(to)?;
    let sent = content(100_000);
    let client = async || {
        Client::new(socket)
            .await?
            .connect("shop.example:443", &sent)
            .await
    };
    let (status, back) = on_local(client)?;
    equal(&status, &200)?;
    check(&back, sent.len())
}
