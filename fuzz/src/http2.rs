//! HTTP/2, both roles: see [`endure`](crate::endure). The peer's preface comes
//! by itself unless the input does without.

use crate::endure::endure;

/// Anything from the network, to a server or a client.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    endure(true, input);
}
