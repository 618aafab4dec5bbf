//! HTTP/1: the rules of RFC 9112 §2 to §7 and RFC 9110 §5, broken one by one.
//! Behind each input comes a request that must be seen as itself, or not at all.

mod framing;
mod heads;

use std::thread;

use super::{Observed, Ours, hyper::hyper, list, proxies::Proxy};

const CANARY: &str = "GET /canary HTTP/1.1\r\nhost: web\r\n\r\n";
const HOST: &str = "host: web\r\n";

type Case = (String, Vec<u8>);

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\n{HOST}{lines}\r\n")
}

fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\n{HOST}{lines}\r\n{body}")
}

fn line(line: &str) -> String {
    format!("{line}\r\n{HOST}\r\n")
}

fn hosts(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\n{lines}\r\n")
}

fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";

fn named(prefix: &str, cases: Vec<(&str, String)>) -> Vec<Case> {
    let name = |(name, text): (&str, String)| (format!("{prefix}-{name}"), text.into_bytes());
    cases.into_iter().map(name).collect()
}

fn cases() -> Vec<Case> {
    let all = [framing::cases(), heads::cases()];
    let behind = |(name, mut bytes): Case| {
        bytes.extend_from_slice(CANARY.as_bytes());
        (format!("http1 {name}"), bytes)
    };
    all.concat().into_iter().map(behind).collect()
}

fn through(proxy: &Proxy, cases: &[Case], ours: &[Observed]) -> Vec<String> {
    let both = cases.iter().zip(ours);
    both.map(|((_, input), ours)| proxy.http1(input, ours).of_http1())
        .collect()
}

fn through_hyper(cases: &[Case]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let mut all = Vec::new();
        for (_, input) in cases {
            all.push(hyper(input).await.of_http1());
        }
        all
    })
}

#[test]
fn h1_h2_h3_h4_h9_h10_h12_every_difference_is_listed() {
    let cases = cases();
    let ours = cases.iter().map(|(_, input)| Ours::of(false, input));
    let ours: Vec<Observed> = ours.collect();
    let (haproxy, nghttpx) = thread::scope(|scope| {
        let haproxy = scope.spawn(|| through(&Proxy::haproxy(), &cases, &ours));
        let nghttpx = scope.spawn(|| through(&Proxy::nghttpx(), &cases, &ours));
        (haproxy.join().unwrap(), nghttpx.join().unwrap())
    });
    let hyper = through_hyper(&cases);
    let result = |index: usize| list::Result {
        case: cases[index].0.clone(),
        ours: ours[index].of_http1(),
        theirs: [
            ("hyper", hyper[index].clone()),
            ("haproxy", haproxy[index].clone()),
            ("nghttpx", nghttpx[index].clone()),
        ]
        .into(),
    };
    let results: Vec<list::Result> = (0..cases.len()).map(result).collect();
    list::check("http1", &results);
}
