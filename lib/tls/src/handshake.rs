//! The life of a handshake: rustls decides, and the bytes come and go here.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::rustls::{
    self, CommonState, ConnectionTrafficSecrets, ExtractedSecrets,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};

use crate::error::TlsError;

/// Read with one call.
const READ: usize = 4096;
/// What a peer may say that makes no whole message; rustls bounds messages, too.
const MOST: usize = 64 * 1024 + READ;
/// Messages that may still have to be said when it has failed: our part of the handshake,
/// and why it ends.
const MOST_LEFT: usize = 16;

/// A side of a handshake.
pub(crate) trait Side: Sized {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn state(&self) -> &CommonState;

    /// The secrets of a handshake that is over, and what makes new ones of them.
    fn into_secrets(self) -> Result<(ExtractedSecrets, Box<dyn Renewal>), rustls::Error>;
}

/// Makes new secrets, for when a key was used often enough (RFC 8446 §7.2).
pub(crate) trait Renewal: Send + Sync {
    fn sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>;
    fn receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>;
}

impl<Data: Send + Sync> Renewal for KernelConnection<Data> {
    fn sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.update_tx_secret()
    }

    fn receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.update_rx_secret()
    }
}

/// Both sides have the same methods, of no common trait.
macro_rules! side {
    ($connection:ty, $data:ty) => {
        impl Side for $connection {
            type Data = $data;

            fn process<'c, 'i>(
                &'c mut self,
                incoming: &'i mut [u8],
            ) -> UnbufferedStatus<'c, 'i, Self::Data> {
                self.process_tls_records(incoming)
            }

            fn state(&self) -> &CommonState {
                self
            }

            fn into_secrets(self) -> Result<(ExtractedSecrets, Box<dyn Renewal>), rustls::Error> {
                let (secrets, renewal) = self.dangerous_into_kernel_connection()?;
                Ok((secrets, Box::new(renewal)))
            }
        }
    };
}

side!(UnbufferedClientConnection, ClientConnectionData);
side!(UnbufferedServerConnection, ServerConnectionData);

/// What came behind a handshake.
#[derive(Default)]
pub(crate) struct Behind {
    /// Records that were not looked at.
    pub(crate) records: Vec<u8>,
    /// What those carried that were.
    pub(crate) data: Vec<u8>,
    /// The peer said goodbye behind that.
    pub(crate) is_over: bool,
}

/// What is to be done next.
enum Next {
    LookAgain,
    /// The peer says goodbye.
    End,
    Send,
    Receive,
    Finish,
    Fail(TlsError),
}

/// Shakes hands. A peer that is refused is told so.
pub(crate) async fn shake<IO, S>(io: &mut IO, side: &mut S) -> Result<Behind, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Side,
{
    let (mut incoming, mut outgoing, mut behind) = (Vec::new(), Vec::new(), Behind::default());
    loop {
        let (discard, next) = step(side, &mut incoming, &mut outgoing, &mut behind.data);
        incoming.drain(..discard);
        match next {
            Next::LookAgain => {}
            Next::End if side.state().is_handshaking() => {
                return Err(TlsError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            Next::End => behind.is_over = true,
            Next::Send => send(io, &mut outgoing).await?,
            Next::Receive => receive(io, &mut incoming).await?,
            Next::Finish => {
                // The session may last for days.
                incoming.shrink_to_fit();
                behind.records = incoming;
                return Ok(behind);
            }
            Next::Fail(why) => {
                // The alert that says so, if there is one and the peer still listens, and
                // what was to go before it: one message each time, of a few.
                for _ in 0..MOST_LEFT {
                    if !side.state().wants_write() {
                        break;
                    }
                    step(side, &mut incoming, &mut outgoing, &mut Vec::new());
                }
                let _ = send(io, &mut outgoing).await;
                return Err(why);
            }
        }
    }
}

/// Lets rustls look at `incoming`; how much of it is done with, and what is next.
fn step<S: Side>(
    side: &mut S,
    incoming: &mut [u8],
    outgoing: &mut Vec<u8>,
    data: &mut Vec<u8>,
) -> (usize, Next) {
    let UnbufferedStatus { mut discard, state } = side.process(incoming);
    let next = match state {
        Ok(ConnectionState::EncodeTlsData(mut message)) => match encode(&mut message, outgoing) {
            Ok(()) => Next::LookAgain,
            Err(error) => Next::Fail(TlsError::Io(io::Error::other(error))),
        },
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            transmit.done();
            Next::Send
        }
        Ok(ConnectionState::BlockedHandshake) => Next::Receive,
        Ok(ConnectionState::WriteTraffic(_)) => Next::Finish,
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut next = Next::LookAgain;
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        data.extend_from_slice(record.payload);
                    }
                    Err(error) => next = Next::Fail(error.into()),
                }
            }
            next
        }
        Ok(ConnectionState::PeerClosed) => Next::End,
        // It has ended, or says something too early.
        Ok(_) => Next::Fail(TlsError::Io(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Next::Fail(error.into()),
    };
    (discard, next)
}

fn encode<Data>(
    message: &mut EncodeTlsData<'_, Data>,
    outgoing: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = outgoing.len();
    let mut room = READ;
    loop {
        outgoing.resize(start + room, 0);
        match message.encode(&mut outgoing[start..]) {
            Ok(length) => {
                outgoing.truncate(start + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(wanted)) if wanted.required_size > room => {
                room = wanted.required_size;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn send<IO>(io: &mut IO, outgoing: &mut Vec<u8>) -> Result<(), TlsError>
where
    IO: AsyncWrite + Unpin,
{
    io.write_all(outgoing).await.map_err(TlsError::Io)?;
    io.flush().await.map_err(TlsError::Io)?;
    outgoing.clear();
    Ok(())
}

async fn receive<IO>(io: &mut IO, incoming: &mut Vec<u8>) -> Result<(), TlsError>
where
    IO: AsyncRead + Unpin,
{
    let end = incoming.len();
    if end > MOST {
        return Err(rustls::Error::General("it is longer than any handshake".into()).into());
    }
    incoming.resize(end + READ, 0);
    let read = io.read(&mut incoming[end..]).await;
    incoming.truncate(end + *read.as_ref().unwrap_or(&0));
    match read {
        Ok(0) => Err(TlsError::Io(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(TlsError::Io(error)),
    }
}
