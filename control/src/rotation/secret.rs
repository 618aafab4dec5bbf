//! What the Secret `mesh-root` holds, read strictly and written back.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use mesh_api::names;
use mesh_tls::{InvalidBundle, RootCertificate, parse_bundle};
use rcgen::{KeyPair, PublicKeyData as _};

use super::{Held, Phase, Root, Signing};

/// The root that signs, as in every Secret of its type.
pub(crate) const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub(crate) const KEY: &str = "tls.key";
/// All roots that are trusted.
pub(crate) const BUNDLE: &str = "ca.crt";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const PREVIOUS: &str = "previous.crt";

/// Why the Secret is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("there is no Secret mesh-system/mesh-root")]
    Gone,
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("{0} is no text")]
    NotText(&'static str),
    #[error("{0}: {1}")]
    Certificate(&'static str, InvalidBundle),
    #[error("{0} holds more than one certificate")]
    Several(&'static str),
    #[error("the certificate in {0} has expired, or is not valid yet")]
    Time(&'static str),
    #[error("{0} is no private key")]
    Key(&'static str),
    #[error("{0} is not the key of the certificate")]
    KeyMismatch(&'static str),
    #[error("a certificate is there without its key, or two phases at one time")]
    Phase,
}

impl Wrong {
    /// A label for metrics; the set of values is closed.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Missing(_) | Self::NotText(_) | Self::Phase => "incomplete",
            Self::Certificate(..) | Self::Several(_) => "certificate",
            Self::Time(_) => "time",
            Self::Key(_) => "key",
            Self::KeyMismatch(_) => "key_mismatch",
        }
    }
}

/// Reads the Secret as of `now`.
pub(crate) fn read(secret: &Secret, now: SystemTime) -> Result<Held, Wrong> {
    let signs_now = |root: &RootCertificate| (root.not_before..root.not_after).contains(&now);
    // What does not sign yet stops nobody whose clock is behind its maker's.
    let may_sign = |root: &RootCertificate| now < root.not_after;
    let signing = signing(secret, CERTIFICATE, KEY, signs_now)?;
    let signing = signing.ok_or(Wrong::Missing(CERTIFICATE))?;
    let next = self::signing(secret, NEXT_CERTIFICATE, NEXT_KEY, may_sign)?;
    let previous = match text(secret, PREVIOUS)? {
        Some(pem) => Some(single(PREVIOUS, pem)?),
        None => None,
    };
    let mut others = match text(secret, BUNDLE)? {
        Some(pem) => bundle(pem)?,
        None => Vec::new(),
    };
    // Whatever the bundle says, what signs now, next or did so last is in it.
    let phase = match (next, previous) {
        (None, None) => Phase::Still,
        (Some(next), None) => {
            others.push(next.root.clone());
            Phase::Begun { next }
        }
        (None, Some(previous)) => {
            others.push(previous.clone());
            Phase::Used { previous }
        }
        (Some(_), Some(_)) => return Err(Wrong::Phase),
    };
    let mut seen = vec![signing.root.der.clone()];
    others.retain(|root| {
        let new = !seen.contains(&root.der);
        seen.push(root.der.clone());
        new
    });
    Ok(Held {
        signing,
        others,
        phase,
        since: since(secret),
    })
}

/// Writes what is held into the Secret; what is not ours there stays.
pub(crate) fn write(secret: &mut Secret, held: &Held) {
    let bundle: String = held.published().into_iter().map(|r| &*r.pem).collect();
    let (next, previous) = match &held.phase {
        Phase::Still => (None, None),
        Phase::Begun { next } => (Some(next), None),
        Phase::Used { previous } => (None, Some(previous)),
    };
    let data = secret.data.get_or_insert_default();
    put(data, CERTIFICATE, Some(&held.signing.root.pem));
    put(data, KEY, Some(&held.signing.key));
    put(data, BUNDLE, Some(&bundle));
    put(data, NEXT_CERTIFICATE, next.map(|next| &next.root.pem));
    put(data, NEXT_KEY, next.map(|next| &next.key));
    put(data, PREVIOUS, previous.map(|root| &root.pem));
    let since = held
        .since
        .and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    // For those who may not read keys.
    let phase = match &held.phase {
        Phase::Still => None,
        Phase::Begun { .. } => Some("begun"),
        Phase::Used { .. } => Some("used"),
    };
    let annotations = secret.metadata.annotations.get_or_insert_default();
    for (key, value) in [
        (
            names::ROTATE_ROOT_SINCE,
            since.map(|since| since.as_secs().to_string()),
        ),
        (names::ROTATE_ROOT_PHASE, phase.map(str::to_owned)),
    ] {
        match value {
            Some(value) => annotations.insert(key.to_owned(), value),
            None => annotations.remove(key),
        };
    }
}

fn put(data: &mut BTreeMap<String, ByteString>, key: &str, value: Option<&String>) {
    match value {
        Some(value) => {
            let value = ByteString(value.clone().into_bytes());
            data.insert(key.to_owned(), value);
        }
        None => drop(data.remove(key)),
    }
}

fn since(secret: &Secret) -> Option<SystemTime> {
    let annotations = secret.metadata.annotations.as_ref()?;
    let seconds = annotations.get(names::ROTATE_ROOT_SINCE)?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// A root that is `in_time`, and its key.
fn signing(
    secret: &Secret,
    certificate: &'static str,
    key_name: &'static str,
    in_time: impl FnOnce(&RootCertificate) -> bool,
) -> Result<Option<Signing>, Wrong> {
    let (pem, key) = match (text(secret, certificate)?, text(secret, key_name)?) {
        (Some(pem), Some(key)) => (pem, key),
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(Wrong::Missing(key_name)),
        (None, Some(_)) => return Err(Wrong::Missing(certificate)),
    };
    let root = single(certificate, pem)?;
    let facts = RootCertificate::read(&root.der).map_err(|e| Wrong::Certificate(certificate, e))?;
    if !in_time(&facts) {
        return Err(Wrong::Time(certificate));
    }
    let pair = KeyPair::from_pem(key).map_err(|_| Wrong::Key(key_name))?;
    if pair.subject_public_key_info() != facts.public_key {
        return Err(Wrong::KeyMismatch(key_name));
    }
    let key = key.to_owned();
    Ok(Some(Signing { root, key }))
}

fn single(key: &'static str, pem: &str) -> Result<Root, Wrong> {
    let certificates = parse_bundle(pem).map_err(|error| Wrong::Certificate(key, error))?;
    let [der] = &certificates[..] else {
        return Err(Wrong::Several(key));
    };
    RootCertificate::read(der).map_err(|error| Wrong::Certificate(key, error))?;
    Ok(Root {
        pem: bare(pem),
        der: der.clone(),
    })
}

/// The certificates of a bundle, one by one, in both forms.
fn bundle(pem: &str) -> Result<Vec<Root>, Wrong> {
    parse_bundle(pem).map_err(|error| Wrong::Certificate(BUNDLE, error))?;
    let certificates = pem.split_inclusive(END).filter(|part| part.ends_with(END));
    certificates
        .map(|part| single(BUNDLE, part.trim_start()))
        .collect()
}

/// The section of a certificate without what people write around it.
fn bare(pem: &str) -> String {
    let start = pem.find(BEGIN).unwrap_or_default();
    let end = pem.rfind(END).map_or(pem.len(), |end| end + END.len());
    format!("{}\n", pem.get(start..end).unwrap_or_default())
}

fn text<'s>(secret: &'s Secret, key: &'static str) -> Result<Option<&'s str>, Wrong> {
    let data = secret.data.as_ref().and_then(|data| data.get(key));
    // An empty value is what a Secret of this type has before it is filled.
    let Some(ByteString(bytes)) = data.filter(|data| !data.0.is_empty()) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes).map_err(|_| Wrong::NotText(key))?;
    Ok(Some(text))
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
pub(crate) mod tests {
    use mesh_tls::Clock;

    use super::{
        super::{
            Wish, step,
            tests::{make, still},
        },
        *,
    };
    use crate::authority::new_root;

    pub(crate) fn secret() -> Secret {
        let mut secret = Secret::default();
        write(&mut secret, &still());
        secret
    }

    fn set(secret: &mut Secret, key: &str, value: &str) {
        let data = secret.data.as_mut().expect("it has some");
        put(data, key, Some(&value.to_owned()));
    }

    #[test]
    fn every_phase_is_read_as_it_was_written() {
        let now = Clock::SYSTEM.now();
        let mut held = still();
        for wish in [
            Wish::Begin,
            Wish::Use { now: true },
            Wish::Finish { now: true },
        ] {
            held = step(&held, wish, now, make).unwrap();
            let mut secret = Secret::default();
            write(&mut secret, &held);
            let read = read(&secret, now).unwrap();
            assert_eq!(read.published(), held.published());
            assert_eq!(read.signing.key, held.signing.key);
            let phases = [&read.phase, &held.phase].map(std::mem::discriminant);
            assert_eq!(phases[0], phases[1]);
            let mut again = secret.clone();
            write(&mut again, &read);
            assert_eq!(again, secret);
        }
    }

    #[test]
    fn a_bundle_without_the_root_that_signs_gets_it_first() {
        let (mut secret, other) = (secret(), still().signing.root);
        set(&mut secret, BUNDLE, &format!("# both\n{0}{0}", other.pem));
        let held = read(&secret, Clock::SYSTEM.now()).unwrap();
        assert_eq!(held.published(), [&held.signing.root, &other]);
        secret.data.as_mut().unwrap().remove(BUNDLE);
        let held = read(&secret, Clock::SYSTEM.now()).unwrap();
        assert_eq!(held.published(), [&held.signing.root]);
    }

    #[test]
    fn i5_what_is_wrong_or_half_written_is_not_a_root() {
        let now = Clock::SYSTEM.now();
        let other = still().signing;
        let leaf = mesh_testing::ca::TestRoot::new("west");
        let leaf = leaf.sign(
            &mesh_testing::ca::leaf("spiffe://west/ns/a/sa/b"),
            &mesh_testing::ca::key(),
        );
        let not_a_ca = Wrong::Certificate(CERTIFICATE, InvalidBundle::NotAnAuthority);
        let leaf = pem(&leaf.chain_der[0]);
        let two = format!("{0}{0}", other.root.pem);
        let table: [(&'static str, &str, Wrong); 8] = [
            (CERTIFICATE, "", Wrong::Missing(CERTIFICATE)),
            (KEY, "", Wrong::Missing(KEY)),
            (KEY, "junk", Wrong::Key(KEY)),
            (KEY, &other.key, Wrong::KeyMismatch(KEY)),
            (CERTIFICATE, &other.root.pem, Wrong::KeyMismatch(KEY)),
            (CERTIFICATE, &leaf, not_a_ca),
            (CERTIFICATE, &two, Wrong::Several(CERTIFICATE)),
            (NEXT_CERTIFICATE, &two, Wrong::Missing(NEXT_KEY)),
        ];
        for (key, value, wrong) in table {
            let mut secret = secret();
            set(&mut secret, key, value);
            assert_eq!(read(&secret, now).map(drop), Err(wrong));
        }
        for bundle in ["junk", &leaf] {
            let mut secret = secret();
            set(&mut secret, BUNDLE, bundle);
            let wrong = read(&secret, now).map(drop).unwrap_err();
            assert_eq!(wrong.label(), "certificate", "{wrong}");
        }
        let half = &other.root.pem[..200];
        let mut cut = secret();
        set(&mut cut, CERTIFICATE, half);
        assert!(read(&cut, now).is_err());
        let in_20_years = now + Duration::from_secs(20 * 365 * 24 * 3600);
        for time in [in_20_years, UNIX_EPOCH] {
            let read = read(&secret(), time).map(drop);
            assert_eq!(read, Err(Wrong::Time(CERTIFICATE)));
        }
    }

    #[test]
    fn t7_a_next_root_from_the_future_stops_nobody_and_one_that_has_ended_does() {
        let now = Clock::SYSTEM.now();
        let day = Duration::from_secs(24 * 3600);
        let read_with_next_made = |at: SystemTime| {
            let begun = step(&still(), Wish::Begin, now, || {
                new_root(&"west".parse()?, at)
            });
            let mut secret = Secret::default();
            write(&mut secret, &begun.unwrap());
            read(&secret, now).map(|held| held.published().len())
        };
        assert_eq!(read_with_next_made(now + 30 * day), Ok(2));
        let ended = read_with_next_made(now - 11 * 365 * day);
        assert_eq!(ended, Err(Wrong::Time(NEXT_CERTIFICATE)));
    }

    #[test]
    fn t7_a_new_root_signs_for_those_whose_clock_is_hours_behind() {
        let behind = Clock::off_by(-20 * 3600).now();
        assert_eq!(read(&secret(), behind).map(drop), Ok(()));
    }

    fn pem(der: &[u8]) -> String {
        use k8s_openapi::serde_json::json;
        // A ByteString is base64 in JSON.
        let text = json!(ByteString(der.to_vec()));
        let text = text.as_str().expect("a string");
        format!("-----BEGIN CERTIFICATE-----\n{text}\n{END}\n")
    }
}
