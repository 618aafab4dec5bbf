//! What a message must lose before it is passed on. (What concerns one connection
//! only, the engine takes out.)

use crate::mesh1;

/// Whether the header of this name, in lower case, is for our programs alone, in
/// either direction: what an application or a peer says in it is never believed
/// and never passed on. Also in trailers. The names of Linkerd's proxies, of which
/// we say one, are among them: an application that believes one believes all.
#[must_use]
pub fn is_ours(name: &[u8]) -> bool {
    name.starts_with(mesh1::PREFIX.as_bytes()) || name.starts_with(LINKERD)
}

const LINKERD: &[u8] = b"l5d-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h7_h8_names_of_ours_are_known() {
        for name in [
            mesh1::CLIENT_ID,
            "l5d-client",
            "l5d-dst-override",
            "mesh-port",
            "mesh-anything",
            "mesh-",
        ] {
            assert!(is_ours(name.as_bytes()), "{name}");
        }
        for name in [
            "meshed",
            "x-mesh-port",
            "l5d",
            "x-l5d-client",
            "x-forwarded-for",
            "forwarded",
            "host",
            "",
        ] {
            assert!(!is_ours(name.as_bytes()), "{name}");
        }
    }
}
