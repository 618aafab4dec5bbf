//! Loads and audits through a middle man: they count what he does wrong, and
//! nothing else.

use super::middle_man::{Fault, Speech, relay};
use super::*;
use crate::audit::{Audit, Sent, audit};

/// What the load counts of ten requests, then what the audit does.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    ok: u64,
    failures: String,
    wrong: u64,
    unanswered: String,
    seen: u64,
    doubled: String,
    lost: String,
}

/// What is counted with each fault, where `no_answer` is what the protocol
/// calls an answer that does not come.
fn cases(no_answer: &str) -> [(Option<Fault>, Counted); 6] {
    let fine = || Counted {
        ok: 10,
        failures: String::new(),
        wrong: 0,
        unanswered: String::new(),
        seen: 10,
        doubled: String::new(),
        lost: String::new(),
    };
    let unanswered = || Counted {
        ok: 8,
        failures: format!("{no_answer} 2"),
        unanswered: "3,7".into(),
        ..fine()
    };
    let wrong = |how: &str| Counted {
        ok: 8,
        failures: format!("{how} 2"),
        wrong: 2,
        ..fine()
    };
    let undelivered = Counted {
        seen: 8,
        lost: "3,7".into(),
        ..unanswered()
    };
    let doubled = Counted {
        doubled: "3,7".into(),
        ..fine()
    };
    [
        (None, fine()),
        (Some(Fault::Drop), undelivered),
        (Some(Fault::DropAnswer), unanswered()),
        (Some(Fault::Twice), doubled),
        (Some(Fault::OtherId), wrong("wrong id")),
        (Some(Fault::Cut), wrong("answer cut short")),
    ]
}

const TEXT: &str = "hello";

/// A load of ten requests, to its end.
async fn ten(target: &str, flags: &[&str]) -> load::Report {
    let schedule = ["--rate", "1000", "--duration", "10ms"];
    let words = [&["load", target], &schedule[..], flags].concat();
    let Command::Load(args) = parse(&words) else {
        unreachable!("`load` was given")
    };
    load_to_end(&args).await
}

async fn audited(report: &load::Report, server: &Running) -> Audit {
    let sent = Sent::parse(&report.json()).expect("a load's report");
    let pods = [server.at.http.to_string()];
    audit(&sent, &pods, SOON).await.expect("the server answers")
}

/// What is counted of a load of `target`, and of what reached `server`.
async fn counted(target: &str, protocol: &str, server: &Running) -> Counted {
    let flags = ["--protocol", protocol, "--data", TEXT];
    let report = ten(target, &flags).await;
    let audit = audited(&report, server).await;
    let failures = report.failures.iter();
    let failures: Vec<_> = failures.map(|(cause, n)| format!("{cause} {n}")).collect();
    assert_eq!(report.lost, report.unanswered.len());
    Counted {
        ok: report.ok,
        failures: failures.join(", "),
        wrong: report.wrong,
        unanswered: report.unanswered.to_string(),
        seen: audit.seen,
        doubled: audit.doubled_ids.to_string(),
        lost: audit.lost_ids.to_string(),
    }
}

#[tokio::test]
async fn faults_of_http1_are_counted() {
    let server = serve(&[]).await;
    for (fault, want) in cases("connection closed") {
        let man = relay(server.at.http, Speech::Http, fault).await;
        let target = format!("http://{}", man.at);
        let got = counted(&target, "http1", &server).await;
        assert_eq!(got, want, "{fault:?}");
    }
}

#[tokio::test]
async fn faults_of_http2_are_counted() {
    let server = serve(&[]).await;
    for (fault, want) in cases("connection reset") {
        let man = relay(server.at.http, Speech::Http, fault).await;
        let target = format!("http://{}", man.at);
        let got = counted(&target, "http2", &server).await;
        assert_eq!(got, want, "{fault:?}");
    }
}

#[tokio::test]
async fn faults_of_grpc_are_counted() {
    let server = serve(&[]).await;
    for (fault, want) in cases("connection reset") {
        let man = relay(server.at.grpc, Speech::Http, fault).await;
        let got = counted(&man.at.to_string(), "grpc", &server).await;
        assert_eq!(got, want, "{fault:?}");
    }
}

#[tokio::test]
async fn faults_of_tcp_are_counted() {
    let server = serve(&[]).await;
    for (fault, want) in cases("connection closed") {
        let man = relay(server.at.tcp, Speech::Tcp(TEXT), fault).await;
        let got = counted(&man.at.to_string(), "tcp", &server).await;
        assert_eq!(got, want, "{fault:?}");
    }
}

#[tokio::test]
async fn a_pod_that_forgot_what_it_answered_has_lost_nothing() {
    let (server, anew) = (serve(&[]).await, serve(&[]).await);
    let target = format!("http://{}", server.at.http);
    for (flags, seen) in [(&["--answers"][..], 10), (&[], 0)] {
        let report = ten(&target, flags).await;
        let audit = audited(&report, &anew).await;
        assert_eq!((audit.seen, audit.doubled, audit.lost), (seen, 0, 0));
    }
}

#[tokio::test]
async fn other_programs_are_loaded_unchecked() {
    let server = serve(&[]).await;
    let health = format!("http://{}/healthz", server.at.http);
    let missing = format!("http://{}/ids", server.at.http);
    // The banner comes first, so it knows no id.
    let banner = server.at.banner.to_string();
    let tcp = ["--protocol", "tcp"];
    for (target, flags, cause) in [
        (&health, &[][..], Some("wrong body")),
        (&health, &["--unchecked"], None),
        (&missing, &["--unchecked"], Some("status 400")),
        (&banner, &tcp, Some("wrong id")),
        (&banner, &["--protocol", "tcp", "--unchecked"], None),
    ] {
        let report = ten(target, flags).await;
        let causes: Vec<_> = report.failures.keys().map(String::as_str).collect();
        assert_eq!(causes, Vec::from_iter(cause), "{target} {flags:?}");
        assert_eq!(report.ok + report.failed, 10);
    }
}
