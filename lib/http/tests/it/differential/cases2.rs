//! HTTP/2: the rules of RFC 9113 and RFC 7541, broken one by one. What breaks a
//! rule of the connection comes alone, so that nobody's order of work matters.

mod connection;
mod messages;

use std::thread;

use super::{
    Observed, Ours,
    frames::{END_HEADERS, END_STREAM, canary, headers, preface},
    h2::h2,
    list,
    proxies::Proxy,
};

/// A name, and what is sent in steps: each when what went before was seen.
struct Case {
    name: String,
    steps: Vec<Vec<u8>>,
}

impl Case {
    /// Frames behind a preface.
    fn new(name: &str, steps: &[Vec<u8>]) -> Self {
        Self::bare(name, &[&[preface()], steps].concat())
    }

    fn bare(name: &str, steps: &[Vec<u8>]) -> Self {
        let (name, steps) = (format!("http2 {name}"), steps.to_vec());
        Self { name, steps }
    }

    /// A head alone, which is a whole request.
    fn head(name: &str, fields: &[(&str, &str)]) -> Self {
        Self::new(name, &[headers(1, END_HEADERS | END_STREAM, fields)])
    }
}

/// What this engine makes of a case, and how many requests it has seen after
/// each step.
fn ours(case: &Case) -> (Observed, Vec<usize>) {
    let mut ours = Ours::new(true);
    let counts = case.steps.iter().map(|step| {
        ours.feed(step);
        ours.observed.requests.len()
    });
    let counts = counts.collect();
    ours.feed(&canary());
    (ours.observed, counts)
}

fn through(proxy: &Proxy, cases: &[Case]) -> Vec<String> {
    let one = |case: &Case| proxy.http2(&case.steps, &ours(case).1, &canary());
    cases.iter().map(|case| one(case).of_http2()).collect()
}

fn through_h2(cases: &[Case]) -> Vec<String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let mut all = Vec::new();
        for case in cases {
            let input = [&case.steps[..], &[canary()]].concat().concat();
            all.push(h2(&input).await.of_http2());
        }
        all
    })
}

#[test]
fn h14_h16_every_difference_is_listed() {
    let mut cases = messages::cases();
    cases.extend(connection::cases());
    let (haproxy, nghttpx) = thread::scope(|scope| {
        let haproxy = scope.spawn(|| through(&Proxy::haproxy(), &cases));
        let nghttpx = scope.spawn(|| through(&Proxy::nghttpx(), &cases));
        (haproxy.join().unwrap(), nghttpx.join().unwrap())
    });
    let h2 = through_h2(&cases);
    let result = |index: usize| list::Result {
        case: cases[index].name.clone(),
        ours: ours(&cases[index]).0.of_http2(),
        theirs: [
            ("h2", h2[index].clone()),
            ("haproxy", haproxy[index].clone()),
            ("nghttpx", nghttpx[index].clone()),
        ]
        .into(),
    };
    let results: Vec<list::Result> = (0..cases.len()).map(result).collect();
    list::check("http2", &results);
}
