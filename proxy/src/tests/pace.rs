//! One connection between two sidecars that carries much over a long path, and those
//! that are opened beside it.

use std::time::Instant;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::sleep_until,
};

use super::{
    world::{Client, World, soon},
    *,
};

/// A path between two sidecars.
struct Path {
    port: u16,
    /// Connections that were asked for.
    asked: Arc<AtomicUsize>,
}

impl Path {
    /// Leads to this port, takes so long in each direction, and lets so many connections
    /// through.
    async fn to(port: u16, takes: Duration, most: usize) -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let (own, asked) = (
            listener.local_addr().unwrap().port(),
            Arc::new(AtomicUsize::new(0)),
        );
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if count.fetch_add(1, Ordering::SeqCst) < most {
                    let far = TcpStream::connect((HOST, port)).await.unwrap();
                    let ((up, reply), (answers, down)) = (near.into_split(), far.into_split());
                    tokio::spawn(late(up, down, takes));
                    tokio::spawn(late(answers, reply, takes));
                }
            }
        });
        Self { port: own, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Passes on what comes, `takes` later.
async fn late(
    mut from: impl AsyncRead + Send + Unpin + 'static,
    mut to: impl AsyncWrite + Unpin,
    takes: Duration,
) {
    // As much as a path holds.
    let (send, mut receive) = mpsc::channel::<(Instant, Vec<u8>)>(1000);
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + takes;
            if send.send((due, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    });
    while let Some((due, bytes)) = receive.recv().await {
        sleep_until(due.into()).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Answers `/much` without an end, and anything else shortly.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = Client(stream);
                while !wire.head().await.starts_with("GET /much ") {
                    wire.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood")
                        .await;
                }
                wire.say("HTTP/1.1 200 OK\r\n\r\n").await;
                let much = vec![b'x'; 64 * 1024];
                while wire.0.write_all(&much).await.is_ok() {}
            });
        }
    });
    address
}

/// A client whose sidecar reaches the application by `path`, and one that loads much
/// already; told is how much.
async fn loading(takes: Duration, most: usize) -> (Path, Client, watch::Receiver<usize>) {
    let root = TestRoot::new("west");
    let application = application().await;
    let server = Server::before(root.tls(SERVER), application);
    let path = Path::to(server.sidecar, takes, most).await;
    let target = first_of(vec![vec![endpoint(application, path.port)]]);
    let (_, heads) = mpsc::channel(1);
    let world = World::to(&root, target, heads, Protocol::Http1).await;
    let mut much = world.client().await;
    much.say("GET /much HTTP/1.1\r\nhost: web\r\n\r\n").await;
    much.head().await;
    let (tell, told) = watch::channel(0);
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = much.0.read(&mut buffer).await {
            tell.send_modify(|all| *all += length);
        }
    });
    (path, world.client().await, told)
}

async fn ask(client: &mut Client) {
    client.say("GET / HTTP/1.1\r\nhost: web\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.hear("good").await;
}

const FAR: Duration = Duration::from_millis(10);

#[tokio::test]
async fn beside_a_connection_that_carries_much_over_a_long_path_there_is_another() {
    let (path, mut client, _told) = loading(FAR, usize::MAX).await;
    let relieved = async {
        while path.asked() < 2 {
            ask(&mut client).await;
        }
    };
    soon(relieved).await;
    ask(&mut client).await;
}

#[tokio::test]
async fn who_gets_no_second_connection_goes_on_with_the_first() {
    let (path, mut client, _told) = loading(FAR, 1).await;
    let relieved = async {
        while path.asked() < 2 {
            ask(&mut client).await;
        }
    };
    soon(relieved).await;
    for _ in 0..20 {
        ask(&mut client).await;
    }
    // It is not asked for at once again.
    assert_eq!(path.asked(), 2);
}

#[tokio::test]
async fn within_a_cluster_one_connection_carries_all() {
    let (path, mut client, mut told) = loading(Duration::ZERO, usize::MAX).await;
    // More than the pace is looked at for, and enough to count as much.
    let (start, enough) = (Instant::now(), Duration::from_secs(2));
    while start.elapsed() < enough {
        soon(told.changed()).await.unwrap();
        ask(&mut client).await;
    }
    assert!(*told.borrow() > 8 << 20, "{} bytes", *told.borrow());
    assert_eq!(path.asked(), 1);
}
