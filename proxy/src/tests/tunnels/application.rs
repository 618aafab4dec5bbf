//! Applications that agree to tunnels, and some that do not.

use mesh_drive::conduit::Request;

use super::*;

/// What it says when the client has ended.
pub(super) const BYE: &str = "bye";

/// An application of HTTP/1: by path it switches, or does not; it agrees to any
/// CONNECT but one to `refused`.
pub(super) async fn http1() -> (SocketAddr, Heads) {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heads) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(Client(stream), tell.clone()));
        }
    });
    (address, heads)
}

async fn converse(mut wire: Client, tell: mpsc::Sender<String>) {
    while let Some(head) = request(&mut wire).await {
        let target = head.split([' ', '?']).nth(1).unwrap().to_owned();
        let (is_connect, wished) = (head.starts_with("CONNECT "), wished(&head));
        tell.send(head).await.unwrap();
        if target == "/silent" {
            // Until the client leaves.
            let _ = wire.0.read_u8().await;
            return;
        }
        let answer = match (&*target, wished) {
            ("refused:1", _) => "HTTP/1.1 403 No\r\ncontent-length: 4\r\n\r\ngood".to_owned(),
            _ if is_connect => "HTTP/1.1 200 Yes\r\n\r\n".to_owned(),
            ("/chat" | "/reset", Some(wished)) => format!(
                "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: {wished}\r\nmesh-status: \
                 204\r\n\r\n"
            ),
            ("/nothing", _) => "HTTP/1.1 204 Nothing\r\n\r\n".to_owned(),
            ("/required", _) => "HTTP/1.1 426 Upgrade\r\nconnection: upgrade\r\nupgrade: \
                                 websocket\r\ncontent-length: 4\r\n\r\ngood"
                .to_owned(),
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood".to_owned(),
        };
        wire.say(&answer).await;
        if target == "/reset" {
            // The answer has arrived by then.
            let _ = wire.0.read_u8().await;
            return wire.0.set_zero_linger().unwrap();
        }
        if answer.starts_with("HTTP/1.1 101 ") || answer.starts_with("HTTP/1.1 200 Yes") {
            return echo(wire.0).await;
        }
    }
}

/// The next request, whole; none if the client has left.
async fn request(wire: &mut Client) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(wire.0.read_u8().await.ok()?);
    }
    let length = bytes.len() + length(&String::from_utf8_lossy(&bytes));
    while bytes.len() < length {
        bytes.push(wire.0.read_u8().await.ok()?);
    }
    Some(String::from_utf8(bytes).unwrap())
}

fn length(head: &str) -> usize {
    let length = head.split_once("content-length: ");
    length.map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap())
}

fn wished(head: &str) -> Option<String> {
    let (_, rest) = head.split_once("\r\nupgrade: ")?;
    rest.lines().next().map(str::to_owned)
}

/// Sends back what comes, and has the last word.
async fn echo(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.write_all(BYE.as_bytes()).await;
        let _ = writer.shutdown().await;
    }
}

/// An application of HTTP/2 that takes extended CONNECTs. It agrees to any CONNECT
/// but one to `refused`, and tells what each is.
pub(super) async fn extended() -> (SocketAddr, Heads) {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heads) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let tell = tell.clone();
            let serve = move |request| drop(tokio::spawn(agree(request, tell.clone())));
            let (_, life) = conduit::serve(socket, Version::Http2, message::limits(), serve);
            tokio::spawn(life);
        }
    });
    (address, heads)
}

async fn agree(request: Request, tell: mpsc::Sender<String>) {
    let Request { exchange, head, .. } = request;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let authority = text(head.authority().unwrap());
    let seen = format!(
        "{} {authority} {} {}",
        text(head.method()),
        text(head.path()),
        text(head.protocol().unwrap_or(b"-")),
    );
    tell.send(seen).await.unwrap();
    let is_refused = authority == "refused:1";
    let answer = Head::response(if is_refused { 403 } else { 200 }).unwrap();
    exchange.send_head(&answer, is_refused).unwrap();
    if !is_refused {
        echo(ByteStream::new(exchange)).await;
    }
}

/// An application of HTTP/2 whose SETTINGS say nothing, and that reads for ever.
pub(super) async fn refuser() -> SocketAddr {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // SETTINGS without any, then that it has seen those of the client.
                let said = [[0, 0, 0, 4, 0, 0, 0, 0, 0], [0, 0, 0, 4, 1, 0, 0, 0, 0]];
                let _ = stream.write_all(said.as_flattened()).await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
    address
}
