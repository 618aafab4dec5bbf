//! `testapp tcp`: one TCP connection to an echo port.

use std::io;
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::NO_ANSWER;
use crate::args::TcpArgs;
use crate::dial::Dialer;
use crate::failure::Failure;

/// Longest line that a server may introduce itself with.
const MAX_BANNER: u64 = 64 << 10;

/// Prints `{"server":…,"echo":…}`, or `{"error":…}` and exits with 3.
pub(crate) async fn run(args: TcpArgs) -> anyhow::Result<ExitCode> {
    let Some((host, port)) = args.address.rsplit_once(':') else {
        bail!("`{}` is not host:port", args.address);
    };
    let deadline = Instant::now() + args.timeout;
    let io = Dialer::from_system()
        .connect(host, port.parse()?, deadline)
        .await;
    let outcome = match io {
        Ok(io) => talk_before(deadline, io, &args).await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(Heard { server, echo }) => {
            println!("{}", json!({ "server": server, "echo": echo }));
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            println!("{}", json!({ "error": failure }));
            Ok(ExitCode::from(NO_ANSWER))
        }
    }
}

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) server: Value,
    pub(crate) echo: String,
}

async fn talk_before(deadline: Instant, io: TcpStream, args: &TcpArgs) -> Result<Heard, Failure> {
    timeout_at(deadline, talk(io, args.send.as_bytes(), args.expect_banner))
        .await
        .map_err(|_| Failure::Timeout)?
        .map_err(|error| Failure::of_io(&error))
}

/// Sends `text` and reads the server's line and the echo, then ends the
/// connection from this side and waits for the other's end.
pub(crate) async fn talk(io: TcpStream, text: &[u8], banner_first: bool) -> io::Result<Heard> {
    let mut io = BufReader::new(io);
    let server = if banner_first {
        let line = read_line(&mut io).await?;
        io.write_all(text).await?;
        line
    } else {
        io.write_all(text).await?;
        read_line(&mut io).await?
    };
    let mut echo = vec![0; text.len()];
    io.read_exact(&mut echo).await?;
    io.shutdown().await?;
    if io.read(&mut [0]).await? != 0 {
        return Err(io::Error::other("more came back than was sent"));
    }
    Ok(Heard {
        server: serde_json::from_str(&server)?,
        echo: String::from_utf8_lossy(&echo).into_owned(),
    })
}

async fn read_line(io: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    io.take(MAX_BANNER).read_line(&mut line).await?;
    if line.ends_with('\n') {
        Ok(line)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
