//! T3: no session goes on where another ended. No ticket is given or taken, and nothing
//! is said or heard early, whatever has been replaced meanwhile.

use std::{io::Cursor, sync::Arc};

use mesh_testing::ca::{TestRoot, id};
use mesh_tls::{ALPN_MESH, Tls, Trust};
use rustls_pki_types::ServerName;
use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    join,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, HandshakeKind, ServerConfig},
};

use crate::{
    hellos::{EARLY_DATA, KEY_SHARE, PRE_SHARED_KEY, SESSION_TICKET, extensions, record_length},
    hostile::{HONEST, TLS13_ONLY, client, honest, server},
};

const CALLER: &str = "spiffe://west/ns/shop/sa/caller";
const EARLY: &[u8] = b"early";
const LATE: &[u8] = b"late";
const PIPE: usize = 64 * 1024;

/// A client of others that remembers sessions, and says something early if it can.
fn eager(root: &TestRoot) -> Arc<ClientConfig> {
    let shown = root.issue_with(CALLER, |_| ());
    Arc::new(client(TLS13_ONLY, Some(&shown), &[ALPN_MESH]))
}

/// A server of others that remembers sessions, hands out tickets and listens early.
fn generous(root: &TestRoot) -> Arc<ServerConfig> {
    let shown = root.issue_with(CALLER, |_| ());
    let mut config = server(TLS13_ONLY, &shown, &[ALPN_MESH]);
    config.max_early_data_size = 1 << 14;
    Arc::new(config)
}

/// What a client knows of a visit.
#[derive(Debug, PartialEq)]
struct Visit {
    kind: HandshakeKind,
    tickets: u32,
    spoke_early: bool,
    was_heard_early: bool,
}

/// A visit of somebody who brings nothing and takes nothing away.
const FIRST: Visit = Visit {
    kind: HandshakeKind::Full,
    tickets: 0,
    spoke_early: false,
    was_heard_early: false,
};

/// The same of somebody with a ticket, whom it does not help.
const WITH_A_TICKET: Visit = Visit {
    spoke_early: true,
    ..FIRST
};

async fn visit(caller: &Arc<ClientConfig>, io: DuplexStream) -> Visit {
    let name = ServerName::try_from("honest.invalid").unwrap();
    let mut spoke_early = false;
    let connecting = TlsConnector::from(caller.clone()).connect_with(name, io, |session| {
        use std::io::Write as _;
        if let Some(mut early) = session.early_data() {
            spoke_early = early.write(EARLY).unwrap() == EARLY.len();
        }
    });
    let mut stream = connecting.await.unwrap();
    stream.write_all(LATE).await.unwrap();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let session = stream.get_ref().1;
    Visit {
        kind: session.handshake_kind().unwrap(),
        tickets: session.tls13_tickets_received(),
        spoke_early,
        was_heard_early: session.is_early_data_accepted(),
    }
}

async fn visit_us(caller: &Arc<ClientConfig>, tls: &Tls) -> Visit {
    let (ours, theirs) = duplex(PIPE);
    let serve = async {
        let (mut session, _) = tls.accept(ours, ALPN_MESH).await.unwrap();
        let mut heard = Vec::new();
        session.read_to_end(&mut heard).await.unwrap();
        session.write_all(b"!").await.unwrap();
        session.shutdown().await.unwrap();
        heard
    };
    let (visit, heard) = join!(visit(caller, theirs), serve);
    assert_eq!(heard, LATE);
    visit
}

async fn visit_others(caller: &Arc<ClientConfig>, others: &Arc<ServerConfig>) -> Visit {
    let (near, far) = duplex(PIPE);
    let serve = async {
        let accepting = TlsAcceptor::from(others.clone()).accept(near);
        let mut stream = accepting.await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        stream.write_all(b"!").await.unwrap();
        stream.shutdown().await.unwrap();
    };
    join!(visit(caller, far), serve).0
}

/// Gets tickets from others, who do resume sessions and do listen early.
async fn get_tickets(caller: &Arc<ClientConfig>, others: &Arc<ServerConfig>) {
    visit_others(caller, others).await;
    let again = visit_others(caller, others).await;
    assert_eq!(again.kind, HandshakeKind::Resumed);
    assert!(again.tickets > 0 && again.was_heard_early, "{again:?}");
}

type Rotation<'a> = Box<dyn Fn(&Tls) + 'a>;

/// A new certificate, a new root beside the old one, and a certificate below the new one.
fn rotations<'a>(old: &'a TestRoot, new: &'a TestRoot) -> [Rotation<'a>; 3] {
    let both = [old.bundle(), new.bundle()].concat();
    let both = Trust::new(old.trust_domain().clone(), &both).unwrap();
    [
        Box::new(move |tls: &Tls| tls.set_certificate(old.issue(HONEST))),
        Box::new(move |tls: &Tls| tls.set_trust(both.clone())),
        Box::new(move |tls: &Tls| tls.set_certificate(new.issue(HONEST))),
    ]
}

#[tokio::test]
async fn t3_our_server_never_resumes_and_hears_nothing_early_also_across_a_rotation() {
    let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
    let (tls, caller, others) = (honest(&old, &[]), eager(&old), generous(&old));
    for _ in 0..3 {
        assert_eq!(visit_us(&caller, &tls).await, FIRST);
    }
    for rotate in rotations(&old, &new) {
        for _ in 0..2 {
            get_tickets(&caller, &others).await;
            assert_eq!(visit_us(&caller, &tls).await, WITH_A_TICKET);
        }
        // It has some left.
        rotate(&tls);
        assert_eq!(visit_us(&caller, &tls).await, WITH_A_TICKET);
    }
}

/// What is said first on `io`, and the same `io` as if it had not been read yet.
async fn overheard(mut io: DuplexStream) -> (Vec<u8>, impl AsyncRead + AsyncWrite + Unpin) {
    let mut first = vec![0; PIPE];
    let length = io.read(&mut first).await.unwrap();
    first.truncate(length);
    let (reader, writer) = io::split(io);
    let again = Cursor::new(first.clone()).chain(reader);
    (first, io::join(again, writer))
}

/// Our client calls others, who would go on with a session that they remember.
async fn call_others(tls: &Tls, others: &Arc<ServerConfig>) {
    let (ours, theirs) = duplex(PIPE);
    let expected = [id(CALLER)];
    let serve = async {
        let (first, io) = overheard(theirs).await;
        let accepting = TlsAcceptor::from(others.clone()).accept(io);
        let mut stream = accepting.await.unwrap();
        stream.write_all(b"!").await.unwrap();
        stream.shutdown().await.unwrap();
        (first, stream.get_ref().1.handshake_kind())
    };
    let call = async {
        let session = tls.connect(ours, &expected, None, ALPN_MESH).await;
        let mut heard = Vec::new();
        // The tickets come before it.
        session.unwrap().read_to_end(&mut heard).await.unwrap();
        heard
    };
    let ((first, kind), heard) = join!(serve, call);
    assert_eq!((kind, &*heard), (Some(HandshakeKind::Full), &b"!"[..]));
    assert_eq!(first.len(), record_length(&first), "more than a hello");
    let asked = extensions(&first);
    let unwanted = [SESSION_TICKET, PRE_SHARED_KEY, EARLY_DATA];
    assert!(asked.contains(&KEY_SHARE), "{asked:?}");
    assert!(unwanted.iter().all(|it| !asked.contains(it)), "{asked:?}");
}

#[tokio::test]
async fn t3_our_client_never_resumes_and_says_nothing_early_also_across_a_rotation() {
    let (old, new) = (TestRoot::new("west"), TestRoot::new("west"));
    let (tls, others) = (honest(&old, &[]), generous(&old));
    get_tickets(&eager(&old), &others).await;
    for _ in 0..3 {
        call_others(&tls, &others).await;
    }
    for rotate in rotations(&old, &new) {
        rotate(&tls);
        for _ in 0..2 {
            call_others(&tls, &others).await;
        }
    }
}
