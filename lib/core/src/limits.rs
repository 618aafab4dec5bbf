//! What sidecar and gateway bear of others, in one table: names, variables,
//! defaults, ranges. `docs/limits.md` shows the same table to users, and a test
//! compares the two.
//!
//! Nothing here enforces anything: whoever does takes the number from
//! [`Limits`].

mod setting;
mod text;

use std::{fmt, time::Duration};

pub use self::{
    setting::{Program, Setting, Unit},
    text::InvalidLimit,
};

/// One thing that is bounded. [`Setting`] says all there is to say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// All fields of a head together.
    HeaderBytes,
    /// Lines of fields in a head.
    HeaderLines,
    /// A request's target.
    TargetBytes,
    /// Streams of one HTTP/2 connection at one time.
    Streams,
    /// Connections of one direction at one time.
    Connections,
    /// The same from one peer: an identity, or an address that shows none.
    ConnectionsPerPeer,
    /// Connections whose handshake is under way.
    Handshakes,
    /// The same from one address.
    HandshakesPerAddress,
    /// Tunnels at one time.
    Tunnels,
    /// How wide one stream's window may become.
    StreamBytes,
    /// What may wait for the readers of one connection's streams.
    ConnectionBytes,
    /// What all windows and buffers of the process have beyond their first size.
    ProcessBytes,
    /// From a head's first byte to its last.
    HeaderTime,
    /// Between bytes of a request's body.
    BodyTime,
    /// Between messages of a client.
    IdleTime,
    /// How long a connection to a server is kept that nobody uses.
    ServerIdleTime,
    /// Without the peer taking a byte of what waits for it.
    WriteTime,
    /// Until a peer has shown who it is.
    HandshakeTime,
    /// Until HTTP/2's settings are acknowledged.
    SettingsTime,
    /// Until a connection has shown what it speaks.
    DetectTime,
}

impl Limit {
    /// All of them, in the table's order.
    pub const ALL: [Self; COUNT] = [
        Self::HeaderBytes,
        Self::HeaderLines,
        Self::TargetBytes,
        Self::Streams,
        Self::Connections,
        Self::ConnectionsPerPeer,
        Self::Handshakes,
        Self::HandshakesPerAddress,
        Self::Tunnels,
        Self::StreamBytes,
        Self::ConnectionBytes,
        Self::ProcessBytes,
        Self::HeaderTime,
        Self::BodyTime,
        Self::IdleTime,
        Self::ServerIdleTime,
        Self::WriteTime,
        Self::HandshakeTime,
        Self::SettingsTime,
        Self::DetectTime,
    ];

    /// Those that a program has.
    pub fn of(program: Program) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |limit| limit.setting().default_of(program).is_some())
    }

    /// The limit of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }

    /// Its name in annotations and in the table: `header-bytes`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.setting().name()
    }

    /// Its name as a metric's label: `header_bytes`.
    #[must_use]
    pub fn label(self) -> String {
        self.name().replace('-', "_")
    }
}

const COUNT: usize = 20;

/// The numbers that hold for one program.
#[derive(Clone, PartialEq, Eq)]
pub struct Limits {
    program: Program,
    /// By the limits' order; those that the program does not have included.
    values: [u64; COUNT],
}

impl Limits {
    /// The defaults.
    #[must_use]
    pub fn of(program: Program) -> Self {
        let default = |limit: Limit| {
            let setting = limit.setting();
            let own = setting.default_of(program);
            own.or_else(|| setting.default_of(Program::Sidecar))
                .unwrap_or_default()
        };
        Self {
            program,
            values: Limit::ALL.map(default),
        }
    }

    /// The defaults but for what `text` says: `header-bytes=128Ki,idle-time=10m`.
    ///
    /// # Errors
    /// [`InvalidLimit`], for the first thing that is wrong.
    pub fn parse(program: Program, text: &str) -> Result<Self, InvalidLimit> {
        let mut limits = Self::of(program);
        let mut seen = Vec::new();
        if text.trim().is_empty() {
            return Ok(limits);
        }
        for entry in text.split(',') {
            let (name, value) = entry
                .split_once('=')
                .ok_or_else(|| InvalidLimit::entry(entry))?;
            let limit = Limit::named(name.trim()).ok_or_else(|| InvalidLimit::unknown(name))?;
            if seen.contains(&limit) {
                return Err(InvalidLimit::Twice(limit));
            }
            seen.push(limit);
            limits.set(limit, limits.value_of(limit, value.trim())?);
        }
        limits.check()?;
        Ok(limits)
    }

    /// The number that `text` says for a limit, if it is one that may be set.
    ///
    /// # Errors
    /// [`InvalidLimit`].
    pub fn value_of(&self, limit: Limit, text: &str) -> Result<u64, InvalidLimit> {
        if limit.setting().default_of(self.program).is_none() {
            let program = self.program;
            return Err(InvalidLimit::NotHere { limit, program });
        }
        text::value(limit, text)
    }

    /// Sets a limit to a number that [`value_of`](Self::value_of) has given.
    pub const fn set(&mut self, limit: Limit, value: u64) {
        self.values[limit as usize] = value;
    }

    /// Whether the numbers fit each other.
    ///
    /// # Errors
    /// [`InvalidLimit::Contradiction`] if one stream could keep all others of its
    /// connection from moving.
    pub fn check(&self) -> Result<(), InvalidLimit> {
        let (stream, connection) = (Limit::StreamBytes, Limit::ConnectionBytes);
        if self.get(stream) > self.get(connection) {
            return Err(InvalidLimit::Contradiction {
                larger: stream,
                than: connection,
            });
        }
        Ok(())
    }

    /// Bytes, a count, or milliseconds.
    #[must_use]
    pub const fn get(&self, limit: Limit) -> u64 {
        self.values[limit as usize]
    }

    /// Bytes or a count.
    #[must_use]
    pub fn size(&self, limit: Limit) -> usize {
        usize::try_from(self.get(limit)).unwrap_or(usize::MAX)
    }

    /// The same, where a protocol has 32 bits for it.
    #[must_use]
    pub fn size_u32(&self, limit: Limit) -> u32 {
        u32::try_from(self.get(limit)).unwrap_or(u32::MAX)
    }

    /// How long something may take.
    #[must_use]
    pub const fn time(&self, limit: Limit) -> Duration {
        Duration::from_millis(self.get(limit))
    }

    /// Those that are not as they are by default, with their values as text.
    pub fn changed(&self) -> impl Iterator<Item = (Limit, String)> {
        let default = Self::of(self.program);
        Limit::ALL
            .into_iter()
            .filter(move |limit| self.get(*limit) != default.get(*limit))
            .map(|limit| (limit, limit.setting().unit.text(self.get(limit))))
    }
}

/// What holds, whether it was set or not.
impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |limit: Limit| limit.setting().unit.text(self.get(limit));
        let all = Limit::of(self.program).map(|limit| (limit, text(limit)));
        f.debug_map()
            .entries(all.map(|(limit, text)| (limit.name(), text)))
            .finish()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of the documents' table, without what happens.
    fn line(limit: Limit) -> String {
        let setting = limit.setting();
        let text = |value| setting.unit.text(value);
        let default = |program| {
            setting
                .default_of(program)
                .map_or_else(|| "-".to_owned(), text)
        };
        let (sidecar, gateway) = (default(Program::Sidecar), default(Program::Gateway));
        let (least, most) = (text(setting.range.0), text(setting.range.1));
        let (name, variable) = (limit.name(), setting.variable);
        format!("| `{name}` | `{variable}` | {sidecar} | {gateway} | {least} to {most} | ")
    }

    #[test]
    fn the_documents_have_each_limit_once_as_it_is() {
        let text = include_str!("../../../docs/limits.md");
        let lines: Vec<_> = text.lines().filter(|it| it.starts_with("| `")).collect();
        assert_eq!(lines.len(), Limit::ALL.len());
        for (found, limit) in lines.into_iter().zip(Limit::ALL) {
            let rest = found.strip_prefix(&*line(limit));
            let rest = rest.unwrap_or_else(|| panic!("{found}\nis not\n{}", line(limit)));
            let label = format!(" | `{}` |", limit.label());
            let strikes = rest.strip_suffix(&*label).expect("a label at the end");
            assert!(strikes.len() > 20, "{limit}: {strikes}");
        }
    }

    fn parsed(text: &str) -> Result<Limits, String> {
        Limits::parse(Program::Sidecar, text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_table_is_in_the_limits_order() {
        for (at, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, at, "{limit:?}");
            let words: String = limit
                .name()
                .split('-')
                .map(|word| word[..1].to_uppercase() + &word[1..])
                .collect();
            assert_eq!(words, format!("{limit:?}"));
        }
    }

    #[test]
    fn what_is_said_changes_and_the_rest_stays() {
        let limits = parsed(" header-bytes=128Ki , idle-time=10m,streams=7").unwrap();
        assert_eq!(limits.size(Limit::HeaderBytes), 128 * 1024);
        assert_eq!(limits.time(Limit::IdleTime), Duration::from_secs(600));
        assert_eq!(limits.get(Limit::HeaderLines), 100);
        let changed: Vec<_> = limits.changed().map(|(limit, _)| limit.name()).collect();
        assert_eq!(changed, ["header-bytes", "streams", "idle-time"]);
        assert_eq!(parsed("").unwrap(), Limits::of(Program::Sidecar));
        assert_eq!(Limits::of(Program::Gateway).changed().count(), 0);
    }

    #[test]
    fn c2_what_is_no_limit_is_refused_with_its_reason() {
        for (text, reason) in [
            ("header-bytes", "\"header-bytes\" is no name=value"),
            ("header-bytes=1,", "is not from 1Ki to 1Mi"),
            ("header-bytes=64Ki,", "\"\" is no name=value"),
            ("headerbytes=1", "\"headerbytes\" is no limit"),
            ("header-bytes=64KB", "no number of bytes"),
            ("header-bytes=-1", "no number of bytes"),
            ("header-bytes=99999999999999999999", "no number of bytes"),
            ("process-bytes=17179869184Gi", "no number of bytes"),
            ("header-lines=129", "is not from 8 to 128"),
            ("streams=0", "is not from 1 to 100000"),
            ("streams=1Ki", "no whole number"),
            ("idle-time=10", "no time"),
            ("idle-time=1d", "no time"),
            ("idle-time=99999999999999999h", "no time"),
            ("idle-time=25h", "is not from 1s to 24h"),
            ("streams=1,streams=2", "streams is set twice"),
            ("handshakes=5", "is no limit of the sidecar"),
            (
                "stream-bytes=64Mi",
                "must not be more than connection-bytes",
            ),
            ("header-bytes=1\u{0}\u{1b}[2J", r"\0\u{1b}[2J"),
        ] {
            let said = parsed(text).unwrap_err();
            assert!(said.contains(reason), "{text:?}: {said}");
            assert!(said.len() < 200, "{said}");
        }
        let long = parsed(&"x".repeat(1 << 20)).unwrap_err();
        assert!(long.len() < 200, "{long}");
    }
}
