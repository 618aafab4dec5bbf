//! How one root takes the place of another: what a wish of the user makes of
//! what the Secret `mesh-root` holds.
//!
//! `begin` makes a second root, which everybody learns to trust; `use` signs
//! with it; `finish` takes the old one away. Each waits until the one before
//! has come through everywhere, unless told not to. No step ever removes a
//! root that signs.

pub(crate) mod secret;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::authority::RootPem;

/// How long a new root is published before it signs: ConfigMaps are mounted
/// anew within two minutes, linked clusters hear of it by their streams.
pub(crate) const PUBLISHED: Duration = Duration::from_secs(5 * 60);
/// How long the old root is kept after it has signed for the last time: what
/// it signed ends within that.
pub(crate) const OUTLIVED: Duration = Duration::from_secs(24 * 3600);

/// A root certificate. Two are the same if their bytes are, however the text is
/// laid out.
#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) pem: String,
    pub(crate) der: Vec<u8>,
}

impl PartialEq for Root {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Root {}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mesh_tls::fingerprint(&self.der))
    }
}

/// What the Secret holds.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) signing: Signing,
    /// What is published beside the root that signs.
    pub(crate) others: Vec<Root>,
    pub(crate) phase: Phase,
    /// When this phase began, if that is known.
    pub(crate) since: Option<SystemTime>,
}

/// A root and its key.
#[derive(Clone)]
pub(crate) struct Signing {
    pub(crate) root: Root,
    pub(crate) key: String,
}

/// How far a rotation is.
#[derive(Clone)]
pub(crate) enum Phase {
    /// There is none.
    Still,
    /// The next root is published, and does not sign.
    Begun { next: Signing },
    /// The next root signs; this one is still trusted.
    Used { previous: Root },
}

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Begin,
    Use { now: bool },
    Finish { now: bool },
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0:?} is none of begin, use, use-now, finish, finish-now")]
    Unknown(String),
    #[error("a rotation is under way already")]
    UnderWay,
    #[error("no new root has been made: begin first")]
    NotBegun,
    #[error("the new root does not sign yet: use it first")]
    NotUsed,
    #[error("too early: {} seconds are left until everybody {}", .left.as_secs(), .until)]
    TooEarly { left: Duration, until: &'static str },
    #[error("the bundle holds as many roots as it may")]
    Full,
    #[error("no root could be made: {0}")]
    Making(String),
}

/// Roots of a bundle, as `mesh-tls` bounds them.
const MOST_ROOTS: usize = 16;

impl std::str::FromStr for Wish {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        match text {
            "begin" => Ok(Self::Begin),
            "use" => Ok(Self::Use { now: false }),
            "use-now" => Ok(Self::Use { now: true }),
            "finish" => Ok(Self::Finish { now: false }),
            "finish-now" => Ok(Self::Finish { now: true }),
            // What a user wrote is repeated, within bounds.
            other => Err(Refused::Unknown(other.chars().take(40).collect())),
        }
    }
}

/// What the Secret should hold after `wish`; `make` makes a root.
pub(crate) fn step(
    held: &Held,
    wish: Wish,
    now: SystemTime,
    make: impl FnOnce() -> anyhow::Result<RootPem>,
) -> Result<Held, Refused> {
    let mut after = held.clone();
    after.since = Some(now);
    match (wish, &held.phase) {
        (Wish::Begin, Phase::Still) => {
            if held.published().len() >= MOST_ROOTS {
                return Err(Refused::Full);
            }
            let making = |error: anyhow::Error| Refused::Making(format!("{error:#}"));
            let made = make().map_err(making)?;
            let next = Signing::try_from(made).map_err(making)?;
            after.others.push(next.root.clone());
            after.phase = Phase::Begun { next };
        }
        (Wish::Use { now: at_once }, Phase::Begun { next }) => {
            if !at_once {
                held.wait(now, PUBLISHED, "trusts the new root")?;
            }
            let previous = held.signing.root.clone();
            after.others.retain(|root| *root != next.root);
            after.others.insert(0, previous.clone());
            after.signing = next.clone();
            after.phase = Phase::Used { previous };
        }
        (Wish::Finish { now: at_once }, Phase::Used { previous }) => {
            if !at_once {
                held.wait(now, OUTLIVED, "has a certificate of the new root")?;
            }
            after.others.retain(|root| root != previous);
            after.phase = Phase::Still;
        }
        (Wish::Begin, Phase::Begun { .. } | Phase::Used { .. })
        | (Wish::Use { .. }, Phase::Used { .. }) => return Err(Refused::UnderWay),
        (Wish::Use { .. } | Wish::Finish { .. }, Phase::Still) => return Err(Refused::NotBegun),
        (Wish::Finish { .. }, Phase::Begun { .. }) => return Err(Refused::NotUsed),
    }
    Ok(after)
}

impl Held {
    /// Everything that is to be trusted, the root that signs first.
    pub(crate) fn published(&self) -> Vec<&Root> {
        std::iter::once(&self.signing.root)
            .chain(&self.others)
            .collect()
    }

    /// Refuses unless this phase has lasted for `long`. A phase whose start is
    /// not known, or lies in the future, has just begun.
    fn wait(&self, now: SystemTime, long: Duration, until: &'static str) -> Result<(), Refused> {
        let lasted = self.since.and_then(|since| now.duration_since(since).ok());
        match long.checked_sub(lasted.unwrap_or_default()) {
            Some(left) if !left.is_zero() => Err(Refused::TooEarly { left, until }),
            Some(_) | None => Ok(()),
        }
    }
}

impl Signing {
    pub(crate) fn pem(&self) -> RootPem {
        RootPem {
            certificate: self.root.pem.clone(),
            key: self.key.clone(),
        }
    }
}

impl TryFrom<RootPem> for Signing {
    type Error = anyhow::Error;

    fn try_from(made: RootPem) -> anyhow::Result<Self> {
        let der = mesh_tls::parse_bundle(&made.certificate)?.swap_remove(0);
        Ok(Self {
            root: Root {
                pem: made.certificate,
                der,
            },
            key: made.key,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mesh_tls::Clock;

    use super::*;
    use crate::authority::new_root;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    pub(crate) fn make() -> anyhow::Result<RootPem> {
        new_root(&"west".parse()?, Clock::SYSTEM.now())
    }

    pub(crate) fn still() -> Held {
        Held {
            signing: make().and_then(Signing::try_from).expect("a root"),
            others: Vec::new(),
            phase: Phase::Still,
            since: None,
        }
    }

    fn done(held: &Held, wish: &str, now: SystemTime) -> Held {
        step(held, wish.parse().expect("a wish"), now, make).expect("allowed")
    }

    fn refused(held: &Held, wish: &str, now: SystemTime) -> Refused {
        let wish = wish.parse().expect("a wish");
        step(held, wish, now, make).map(drop).expect_err("refused")
    }

    #[test]
    fn t5_a_root_is_trusted_before_it_signs_and_after_it_has() {
        let old = still();
        let begun = done(&old, "begin", START);
        assert_eq!(begun.signing.root, old.signing.root);
        let new = begun.others[0].clone();
        assert_eq!(begun.published(), [&old.signing.root, &new]);

        let used = done(&begun, "use", START + PUBLISHED);
        assert_eq!(used.published(), [&new, &old.signing.root]);
        assert_ne!(used.signing.key, old.signing.key);

        let finished = done(&used, "finish", START + PUBLISHED + OUTLIVED);
        assert_eq!(finished.published(), [&new]);
        assert!(matches!(finished.phase, Phase::Still));
        // And once more.
        done(&finished, "begin", START + PUBLISHED + OUTLIVED);
    }

    #[test]
    fn t5_a_step_that_comes_too_early_is_refused_unless_it_is_forced() {
        let soon = START + Duration::from_secs(1);
        let begun = done(&still(), "begin", START);
        let left = PUBLISHED - Duration::from_secs(1);
        assert!(matches!(
            refused(&begun, "use", soon),
            Refused::TooEarly { left: l, .. } if l == left
        ));
        let used = done(&begun, "use-now", soon);
        let error = refused(&used, "finish", soon + OUTLIVED - Duration::from_secs(7));
        assert_eq!(
            error.to_string(),
            "too early: 7 seconds are left until everybody has a certificate of the new root"
        );
        done(&used, "finish-now", soon);
    }

    #[test]
    fn t7_a_clock_that_went_back_makes_no_step_early() {
        let late = START + Duration::from_secs(9_000);
        let mut begun = done(&still(), "begin", late);
        assert!(matches!(
            refused(&begun, "use", START),
            Refused::TooEarly { left, .. } if left == PUBLISHED
        ));
        begun.since = None;
        assert!(matches!(
            refused(&begun, "use", late + OUTLIVED),
            Refused::TooEarly { .. }
        ));
    }

    #[test]
    fn steps_out_of_order_are_refused() {
        let (start, still) = (START, still());
        assert_eq!(refused(&still, "use-now", start), Refused::NotBegun);
        assert_eq!(refused(&still, "finish-now", start), Refused::NotBegun);
        let begun = done(&still, "begin", start);
        assert_eq!(refused(&begun, "begin", start), Refused::UnderWay);
        assert_eq!(refused(&begun, "finish-now", start), Refused::NotUsed);
        let used = done(&begun, "use-now", start);
        assert_eq!(refused(&used, "begin", start), Refused::UnderWay);
        assert_eq!(refused(&used, "use-now", start), Refused::UnderWay);
        let unknown = "Begin".parse::<Wish>().unwrap_err();
        assert!(matches!(unknown, Refused::Unknown(said) if said == "Begin"));
    }

    #[test]
    fn other_roots_of_the_bundle_stay_and_are_bounded() {
        let mut held = still();
        let other = still().signing.root;
        held.others.push(other.clone());
        let used = done(&done(&held, "begin", START), "use-now", START);
        let finished = done(&used, "finish-now", START);
        assert_eq!(finished.others, std::slice::from_ref(&other));
        held.others = vec![other; MOST_ROOTS - 1];
        assert_eq!(refused(&held, "begin", START), Refused::Full);
    }
}
