//! Giving a transaction to the kernel and reading its answers.

mod answer;

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt,
            socket, sockopt,
        },
        time::TimeVal,
    },
};

use self::answer::{Answer, Malformed};
use crate::encode::Batch;

/// Carries out `batch` in this process's network namespace.
///
/// # Errors
/// Nothing was changed then. The error says what the kernel refused and what
/// can be done about it.
pub fn install(batch: &Batch) -> Result<(), InstallError> {
    let socket = open().map_err(InstallError::Socket)?;
    let sent = send(socket.as_raw_fd(), batch.bytes(), MsgFlags::empty())
        .map_err(|error| InstallError::refused("the transaction", error))?;
    if sent != batch.bytes().len() {
        return Err(InstallError::Socket(Errno::EMSGSIZE));
    }
    await_acknowledgements(&socket, batch)
}

/// Why the rules are not in place.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No way to talk to the kernel's nf_tables.
    #[error("cannot talk to the kernel's nf_tables: {0}{advice}", advice = Advice(*.0))]
    Socket(Errno),
    /// The kernel said no.
    #[error("the kernel refused {step}: {errno}{advice}", advice = Advice(*.errno))]
    Refused {
        /// What for.
        step: String,
        /// Its reason.
        errno: Errno,
    },
    /// The kernel did not answer in time.
    #[error(
        "the kernel acknowledged only {acknowledged} of {expected} steps within {ANSWER_TIME:?}"
    )]
    Silent {
        /// How many steps it acknowledged.
        acknowledged: usize,
        /// How many there are.
        expected: usize,
    },
    /// The kernel's answer makes no sense.
    #[error("the kernel's answer is no row of netlink messages")]
    Malformed,
}

impl InstallError {
    fn refused(step: &str, errno: Errno) -> Self {
        Self::Refused {
            step: step.into(),
            errno,
        }
    }
}

/// What a person can do about it.
struct Advice(Errno);

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Errno::EPERM | Errno::EACCES => {
                " (the container must run as root with the capability NET_ADMIN: \
                 securityContext.runAsUser: 0, capabilities.add: [NET_ADMIN])"
            }
            Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => {
                " (the node's kernel has no nf_tables: it needs Linux 5.2 or newer with \
                 CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET, or the module nf_tables loaded)"
            }
            Errno::ENOENT => {
                " (the node's kernel lacks a part of nf_tables: it needs CONFIG_NFT_NAT and \
                 CONFIG_NFT_REDIR, or the modules nft_chain_nat and nft_redir loaded)"
            }
            _ => "",
        })
    }
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let seconds = i64::try_from(ANSWER_TIME.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))?;
    Ok(socket)
}

/// The kernel answers each step once. Its first refusal ends everything: the
/// transaction is rolled back.
fn await_acknowledgements(socket: &OwnedFd, batch: &Batch) -> Result<(), InstallError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut acknowledged = 0;
    while acknowledged < batch.len() {
        let length = match receive(socket, &mut buffer) {
            Ok(length) => length,
            Err(Errno::EAGAIN) => {
                let expected = batch.len();
                return Err(InstallError::Silent {
                    acknowledged,
                    expected,
                });
            }
            Err(error) => return Err(InstallError::Socket(error)),
        };
        let answers =
            answer::read(&buffer[..length]).map_err(|Malformed| InstallError::Malformed)?;
        for Answer { sequence, error } in answers {
            match error {
                None => acknowledged += 1,
                Some(errno) => return Err(InstallError::refused(batch.step(sequence), errno)),
            }
        }
    }
    Ok(())
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            // An empty datagram would otherwise be asked for again forever.
            Ok(0) => return Err(Errno::EAGAIN),
            other => return other,
        }
    }
}

/// The kernel answers within the call that asks; this is for one that never does.
const ANSWER_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_errno_and_what_to_do() {
        for (errno, expected) in [
            (Errno::EPERM, "capabilities.add: [NET_ADMIN]"),
            (Errno::EOPNOTSUPP, "CONFIG_NF_TABLES"),
            (Errno::ENOENT, "nft_redir"),
        ] {
            let text = InstallError::refused("making the table", errno).to_string();
            assert!(text.contains(&format!("{errno:?}")), "{text}");
            assert!(text.contains("making the table"), "{text}");
            assert!(text.contains(expected), "{text}");
        }
    }
}
