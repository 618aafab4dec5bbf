//! What `mesh trust` prints.

use std::fmt::Write as _;

use mesh_api::names;
use mesh_tls::fingerprint;

use super::Facts;
use crate::text::escaped;

/// The roots, what each is for, and what comes next.
pub(super) fn status(facts: &Facts) -> String {
    let phase = facts.annotations.get(names::ROTATE_ROOT_PHASE);
    let phase = phase.map(String::as_str);
    let mut text = String::new();
    for (number, root) in facts.roots.iter().enumerate() {
        let role = if number == 0 { "signs" } else { "trusted" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{role:8}{}", fingerprint(root));
    }
    if let Some(wish) = facts.annotations.get(names::ROTATE_ROOT) {
        let _ = writeln!(text, "waiting for mesh-control to: {}", escaped(wish));
    }
    text.push_str(match phase {
        None => "No rotation is under way. `mesh trust rotate begin` starts one.\n",
        Some("begun") => {
            "A new root is published and does not sign yet. When linked clusters show it in \
             their Link's status: `mesh trust rotate use`\n"
        }
        Some("used") => {
            "The new root signs; the old one is still trusted. When all certificates of the old \
             one have ended, 24 hours later: `mesh trust rotate finish`\n"
        }
        Some(_) => "A rotation is in a phase that this version does not know.\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_phase_says_what_comes_next() {
        let facts = |phase: Option<&str>| Facts {
            roots: vec![b"new".to_vec(), b"old".to_vec()],
            annotations: phase
                .map(|phase| (names::ROTATE_ROOT_PHASE.to_owned(), phase.to_owned()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        };
        for (phase, next) in [
            (None, "rotate begin"),
            (Some("begun"), "rotate use"),
            (Some("used"), "rotate finish"),
        ] {
            let text = status(&facts(phase));
            assert!(text.contains(next), "{text}");
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines[0], format!("signs   {}", fingerprint(b"new")));
            assert_eq!(lines[1], format!("trusted {}", fingerprint(b"old")));
        }
    }

    #[test]
    fn c6_a_wish_that_somebody_else_wrote_is_escaped() {
        let wish = (names::ROTATE_ROOT.to_owned(), "a\u{1b}b".to_owned());
        let facts = Facts {
            roots: Vec::new(),
            annotations: BTreeMap::from([wish]),
        };
        assert!(status(&facts).contains("a\\u{1b}b"));
    }
}
