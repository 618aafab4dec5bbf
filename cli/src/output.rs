//! What the user sees.

use std::io::{self, ErrorKind, Write};

use crate::text::escaped_lines;

/// Writes `text` to standard output. If its reader has gone, nobody minds.
///
/// # Errors
/// If it cannot be written for another reason, such as a full disk.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).map_err(|error| anyhow::anyhow!("cannot write the output: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a message and a line break to standard error.
pub(crate) fn complain(message: &str) {
    // There is nobody left to tell if this fails.
    let _ = writeln!(io::stderr().lock(), "{}", escaped_lines(message));
}
