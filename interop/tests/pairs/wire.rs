//! HTTP/1 as it is on the wire: what was written is what is told.

use std::{io, net, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    runtime,
    time::timeout,
};

/// How long an answer may take.
const SOON: Duration = Duration::from_secs(20);
/// The longest head that is read.
const HEAD: usize = 1 << 20;

/// Runs what a client does.
pub(crate) fn block_on<T>(client: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(soon(client))
}

/// Fails if it does not happen soon.
pub(crate) async fn soon<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    let done = timeout(SOON, what).await;
    done.with_context(|| format!("nothing within {SOON:?}"))?
}

/// The lines of a head. Bytes are as they came, each a character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The request line, or the status line.
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The first value of a name, in whatever case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> Result<u16> {
        let code = self.first.split(' ').nth(1).context("no status")?;
        Ok(code.parse()?)
    }

    /// The head as it is written.
    pub(crate) fn text(&self) -> String {
        let fields = self.fields.iter();
        let fields: String = fields.map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        format!("{}\r\n{fields}\r\n", self.first)
    }
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// One end of a connection.
pub(crate) struct Wire(BufReader<TcpStream>);

impl Wire {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self(BufReader::new(socket))
    }

    /// The client's end. To be called inside of [`block_on`].
    pub(crate) fn client(socket: net::TcpStream) -> Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self::new(TcpStream::from_std(socket)?))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref()).await
    }

    /// Nothing more is sent.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.0.get_mut().shutdown().await
    }

    /// The next head; none if the connection ends before it.
    pub(crate) async fn head(&mut self) -> Result<Option<Head>> {
        let Some(first) = self.line().await? else {
            return Ok(None);
        };
        let fields = self.fields().await?;
        Ok(Some(Head { first, fields }))
    }

    /// A request; none if the connection ends before it.
    pub(crate) async fn request_body(&mut self, head: &Head) -> Result<Message> {
        let mut message = Message {
            head: head.clone(),
            ..Message::default()
        };
        if is_chunked(head) {
            self.chunks(&mut message).await?;
        } else if let Some(length) = head.get("content-length") {
            message.body = self.exactly(length.parse()?).await?;
        }
        Ok(message)
    }

    /// The final answer to a request of that method; informational ones are left
    /// out.
    pub(crate) async fn answer(&mut self, method: &str) -> Result<Message> {
        loop {
            let head = self.some_head().await?;
            if !(100..200).contains(&head.status()?) || head.status()? == 101 {
                return self.answer_body(head, method).await;
            }
        }
    }

    /// The next head of an answer, informational or final.
    pub(crate) async fn some_head(&mut self) -> Result<Head> {
        let head = self.head().await?;
        head.context("the connection has ended without an answer")
    }

    pub(crate) async fn answer_body(&mut self, head: Head, method: &str) -> Result<Message> {
        let mut message = Message {
            head: head.clone(),
            ..Message::default()
        };
        let status = head.status()?;
        let has_none = method == "HEAD" || matches!(status, 100..200 | 204 | 304);
        if has_none || (method == "CONNECT" && status == 200) {
            return Ok(message);
        }
        if is_chunked(&head) {
            self.chunks(&mut message).await?;
        } else if let Some(length) = head.get("content-length") {
            message.body = self.exactly(length.parse()?).await?;
        } else {
            message.body = self.rest().await?;
        }
        Ok(message)
    }

    /// All that is still to come.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await?;
        Ok(rest)
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = self.0.read_exact(&mut bytes).await;
        read.with_context(|| format!("less than {length} bytes"))?;
        Ok(bytes)
    }

    /// Sends back what comes, until it ends.
    pub(crate) async fn echo(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = self.0.read(&mut buffer).await?;
            if read == 0 {
                return self.finish().await;
            }
            self.send(&buffer[..read]).await?;
        }
    }

    async fn chunks(&mut self, message: &mut Message) -> Result<()> {
        loop {
            let line = self.line().await?.context("no chunk")?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).context("no chunk's size")?;
            if size == 0 {
                message.trailers = self.fields().await?;
                return Ok(());
            }
            message.body.extend(self.exactly(size).await?);
            ensure!(self.exactly(2).await? == b"\r\n", "no end of a chunk");
        }
    }

    async fn fields(&mut self) -> Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?.context("the head breaks off")?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some((name, value)) = line.split_once(':') else {
                bail!("no field: {line}");
            };
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// A line without its end; none at the end of the connection.
    async fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.0).take(HEAD as u64);
        if limited.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.strip_suffix(b"\r\n").context("a line breaks off")?;
        Ok(Some(line.iter().map(|byte| char::from(*byte)).collect()))
    }
}

/// Bytes of which each was made a character.
pub(crate) fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().filter_map(|c| u8::try_from(c).ok()).collect()
}

fn is_chunked(head: &Head) -> bool {
    let coding = head.get("transfer-encoding");
    coding.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
}
