//! Bytes both ways.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

/// One buffer for each way. Larger ones did not pay in memory what they saved
/// in calls at the sizes that proxied connections have.
const BUFFER: usize = 32 * 1024;

/// How many bytes went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// From the first stream to the second.
    pub sent: u64,
    /// From the second stream to the first.
    pub received: u64,
}

/// Copies both ways until both have ended. The end of one way is passed on as
/// a half-close while the other goes on.
///
/// # Errors
/// The first error of either stream; both are then of no further use.
pub async fn copy<A, B>(first: &mut A, second: &mut B) -> io::Result<Copied>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (sent, received) = copy_bidirectional_with_sizes(first, second, BUFFER, BUFFER).await?;
    Ok(Copied { sent, received })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn one_way_ends_while_the_other_goes_on() {
        let (mut client, mut near) = duplex(16);
        let (mut far, mut server) = duplex(16);
        let copying = tokio::spawn(async move { copy(&mut near, &mut far).await });

        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        server.read_to_string(&mut asked).await.unwrap();
        server
            .write_all(b"a longer answer than that")
            .await
            .unwrap();
        drop(server);
        let mut answered = String::new();
        client.read_to_string(&mut answered).await.unwrap();

        assert_eq!((asked.as_str(), answered.len()), ("question", 25));
        let copied = copying.await.unwrap().unwrap();
        assert_eq!(
            copied,
            Copied {
                sent: 8,
                received: 25
            }
        );
    }
}
