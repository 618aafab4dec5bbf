//! Servers that answer in two ways at once.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::net::TcpStream;

use super::{both, told, ways};
use crate::{
    messages::equal,
    origin::Origin,
    place::Place,
    report::{Group, Report},
    wire::{Wire, block_on, bytes_of},
};

const PORT: u16 = 9004;

/// What nobody may ever be answered.
const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON";

/// What a client gets instead of an answer that cannot be trusted.
#[derive(Clone, Copy, Debug)]
enum Gets {
    /// 502.
    Refusal,
    /// An answer that does not look whole.
    Half,
    /// One of these, or this one answer: the rest, whenever it comes, is nobody's.
    Ok(&'static str),
}

struct Case {
    name: &'static str,
    /// What the server says, and whether it closes then.
    says: String,
    closes: bool,
    gets: Gets,
}

fn says(name: &'static str, says: impl Into<String>, gets: Gets) -> Case {
    Case {
        name,
        says: says.into(),
        closes: false,
        gets,
    }
}

/// A status line of 200 with these lines, and a body.
fn ok(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{body}")
}

fn cases() -> Vec<Case> {
    use Gets::{Half, Ok, Refusal};
    let two = format!("ok{POISON}");
    let chunks = |body: &str| ok("transfer-encoding: chunked", body);
    let huge = format!("x: {}", "y".repeat(70_000));
    let lines = vec!["x: y"; 101].join("\r\n");
    let bodiless = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 6\r\n\r\nPOISON");
    let ends = |case: Case| Case {
        closes: true,
        ..case
    };
    vec![
        says(
            "two lengths",
            ok("content-length: 2\r\ncontent-length: 9", &two),
            Refusal,
        ),
        says(
            "a list of lengths",
            ok("content-length: 2, 9", &two),
            Refusal,
        ),
        says(
            "a length with a sign",
            ok("content-length: +2", &two),
            Refusal,
        ),
        says(
            "a length and a coding",
            ok(
                "content-length: 5\r\ntransfer-encoding: chunked",
                &format!("0\r\n\r\n{POISON}"),
            ),
            Refusal,
        ),
        says(
            "another coding",
            ok("transfer-encoding: gzip, chunked", "0\r\n\r\n"),
            Refusal,
        ),
        says(
            "bytes behind the body",
            ok("content-length: 2", &two),
            Ok("ok"),
        ),
        says(
            "two answers in chunks",
            chunks(&format!("2\r\nok\r\n0\r\n\r\n{POISON}")),
            Ok("ok"),
        ),
        says(
            "a wrong chunk",
            chunks(&format!("2\r\nok\r\n+0\r\n\r\n{POISON}")),
            Half,
        ),
        says(
            "a longer chunk",
            chunks(&format!("2\r\noks\r\n0\r\n\r\n{POISON}")),
            Half,
        ),
        says(
            "1xx without end",
            "HTTP/1.1 102 Processing\r\n\r\n".repeat(200),
            Refusal,
        ),
        says(
            "101 that was not asked for",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nPOISON",
            Refusal,
        ),
        says("204 with a body", bodiless("204 No Content"), Refusal),
        says("304 with a body", bodiless("304 Not Modified"), Refusal),
        says("a huge field", ok(&huge, "ok"), Refusal),
        says(
            "101 fields",
            ok(&format!("{lines}\r\ncontent-length: 2"), "ok"),
            Refusal,
        ),
        says(
            "a folded field",
            ok("a: b\r\n c\r\ncontent-length: 2", "ok"),
            Refusal,
        ),
        says(
            "NUL in a field",
            ok("a: b\0c\r\ncontent-length: 2", "ok"),
            Refusal,
        ),
        says(
            "a bare CR in a field",
            ok("a: b\rc\r\ncontent-length: 2", "ok"),
            Refusal,
        ),
        says(
            "a space before a colon",
            ok("content-length : 2", "ok"),
            Refusal,
        ),
        says(
            "no number",
            "HTTP/1.1 2OO OK\r\ncontent-length: 2\r\n\r\nok",
            Refusal,
        ),
        says(
            "a long number",
            "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok",
            Refusal,
        ),
        says("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", Refusal),
        ends(says("half a body", ok("content-length: 9", "ok"), Half)),
        ends(says("half a chunk", chunks("9\r\nok"), Half)),
        ends(says("chunks without an end", chunks("2\r\nok\r\n"), Half)),
        ends(says(
            "half a head",
            "HTTP/1.1 200 OK\r\ncontent-len",
            Refusal,
        )),
    ]
}

/// Which connections served what, in that order.
type Log = Arc<Mutex<Vec<(usize, String)>>>;

/// Answers `/evil/N` as the case says, and anything else well.
async fn serve(socket: TcpStream, connection: usize, log: Log) -> Result<()> {
    let mut wire = Wire::new(socket);
    let cases = cases();
    while let Some(head) = wire.head().await? {
        let path = head.first.split(' ').nth(1).context("no path")?.to_owned();
        log.lock().unwrap().push((connection, path.clone()));
        let number = path.strip_prefix("/evil/");
        let Some(case) = number.and_then(|n| cases.get(n.parse::<usize>().ok()?)) else {
            let length = path.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}");
            wire.send(answer).await?;
            continue;
        };
        wire.send(bytes_of(&case.says)).await?;
        if case.closes {
            return Ok(wire.finish().await?);
        }
    }
    Ok(())
}

#[test]
fn h11_what_a_server_says_in_two_ways_is_nobodys_answer() {
    let mut place = Place::new(&both(PORT));
    let (log, number) = (Log::default(), AtomicUsize::new(0));
    let to_server = log.clone();
    let _origin = Origin::start(&place, PORT, move |socket| {
        let connection = number.fetch_add(1, Ordering::Relaxed);
        serve(socket, connection, to_server.clone())
    });
    let mut report = Report::new(Group::Answers);
    for (way, address) in ways(PORT) {
        for (number, case) in cases().iter().enumerate() {
            let outcome = block_on(async {
                let mut wire = Wire::client(place.connect_to(address)?)?;
                asks(&mut wire, number, case.gets).await?;
                let mut other = Wire::client(place.connect_to(address)?)?;
                after(&mut other, "/after").await
            });
            let outcome = outcome.and_then(|()| never_again(&log, &format!("/evil/{number}")));
            report.case(format!("{way}: {}", case.name), outcome);
        }
    }
    report.finish(&mut place);
}

async fn asks(wire: &mut Wire, number: usize, gets: Gets) -> Result<()> {
    let asked = format!("GET /evil/{number} HTTP/1.1\r\nhost: web\r\n\r\n");
    wire.send(asked).await?;
    match (wire.answer("GET").await, gets) {
        (Ok(answer), Gets::Refusal) => equal(&answer.head.status()?, &502)?,
        (Ok(answer), Gets::Ok(_)) if answer.head.status()? == 502 => {}
        (Ok(answer), Gets::Ok(body)) => told(&answer, body)?,
        (Err(_), Gets::Half | Gets::Ok(_)) => return Ok(()),
        (Ok(answer), Gets::Half) => bail!("{answer:?} instead of half an answer"),
        (Err(error), Gets::Refusal) => bail!("{error:#} instead of 502"),
    }
    // The client's own connection goes on.
    after(wire, "/again").await
}

async fn after(wire: &mut Wire, path: &str) -> Result<()> {
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n"))
        .await?;
    told(&wire.answer("GET").await?, path)
}

/// A connection on which that was answered has carried nothing since.
fn never_again(log: &Log, path: &str) -> Result<()> {
    let log = log.lock().unwrap();
    for (at, (connection, asked)) in log.iter().enumerate() {
        if asked == path {
            let since = log[at + 1..].iter().find(|(other, _)| other == connection);
            ensure!(since.is_none(), "its connection was used again: {since:?}");
        }
    }
    ensure!(
        log.iter().any(|(_, asked)| asked == path),
        "it was not asked"
    );
    Ok(())
}
