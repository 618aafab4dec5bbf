//! What a request costs a pair of sidecars, in allocations.

use super::*;

/// As browsers send them.
const ASK: &str = "GET /basket?item=42 HTTP/1.1\r\nhost: web\r\nuser-agent: Mozilla/5.0 (X11; \
                   Linux x86_64)\r\naccept: text/html\r\naccept-language: en\r\naccept-encoding: \
                   gzip, br\r\ncookie: session=0123456789abcdef\r\nreferer: http://web/\r\nx-request-id: \
                   0123456789abcdef\r\n\r\n";
/// Of both sidecars, the client and the application together, for one request.
const ALLOCATIONS: u64 = 18;

/// A client's connection to a sidecar of its own.
async fn connected(root: &TestRoot, server: &Server) -> tokio::io::DuplexStream {
    let outbound = outbound_of(root.tls(CLIENT), Metrics::default());
    let target = first_available(&[server]);
    let (client, ours) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let limits = outbound.bounds.clients();
        let answer =
            move |request| outbound::http::answer(outbound.clone(), target.clone(), request);
        serve::http(ours, Spoken::Http1, limits, &Shutdown::new(), answer).await
    });
    client
}

async fn ask(client: &mut tokio::io::DuplexStream) {
    client.write_all(ASK.as_bytes()).await.expect("sent");
    let (mut answer, mut length) = ([0; 4096], 0);
    while !answer[..length].ends_with(b"good") {
        let read = timeout(LONG, client.read(&mut answer[length..])).await;
        length += read.expect("an answer in time").expect("an answer");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

#[test]
fn a_warm_request_allocates_little() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let root = TestRoot::new("west");
    let mut client = runtime.block_on(async {
        let server = Server::start(&root, Habit::Answers).await;
        connected(&root, &server).await
    });
    let mut ask = || runtime.block_on(ask(&mut client));
    (0..50).for_each(|_| ask());
    let counted = allocation_counter::measure(|| (0..200).for_each(|_| ask()));
    let each = counted.count_total / 200;
    println!("{each} allocations for a request");
    assert!(each <= ALLOCATIONS, "{each}");
}
