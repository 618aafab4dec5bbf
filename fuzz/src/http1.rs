//! HTTP/1, both roles: see [`endure`](crate::endure).

use crate::endure::endure;

/// Anything from the network, to a server or a client.
///
/// # Panics
/// When something does not hold.
pub fn try_input(input: &[u8]) {
    endure(false, input);
}
