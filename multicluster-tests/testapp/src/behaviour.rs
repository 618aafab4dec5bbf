//! How the server behaves for one request: what its flags say, unless the
//! request's query or headers say otherwise.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use thiserror::Error;

use crate::duration::parse_duration;

/// Largest answer a request may ask for: 16 MiB, built in memory.
pub(crate) const MAX_SIZE: usize = 16 << 20;

/// Longest delay a request may ask for.
pub(crate) const MAX_LATENCY: Duration = Duration::from_secs(3600);

/// Delay, status and size of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Behaviour {
    latency: Duration,
    status: Option<StatusCode>,
    error_rate: Option<f64>,
    size: usize,
}

/// A setting that cannot be read; the client is told.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{name}: {reason}")]
pub(crate) struct BadSetting {
    name: &'static str,
    reason: String,
}

impl Behaviour {
    /// The server's defaults. Refuses an error rate outside 0 to 1 and a size
    /// or delay above the bounds.
    pub(crate) fn new(
        latency: Duration,
        status: Option<StatusCode>,
        error_rate: Option<f64>,
        size: usize,
    ) -> Result<Self, BadSetting> {
        if let Some(rate) = error_rate {
            checked_rate(rate).map_err(|reason| BadSetting {
                name: "error-rate",
                reason,
            })?;
        }
        checked_latency(latency).map_err(|reason| BadSetting {
            name: "latency",
            reason,
        })?;
        checked_size(size).map_err(|reason| BadSetting {
            name: "size",
            reason,
        })?;
        Ok(Self {
            latency,
            status,
            error_rate,
            size,
        })
    }

    /// What one request asks for: `?latency=`, `?status=`, `?error-rate=`,
    /// `?size=` or the same as `x-testapp-` headers, over these defaults. The
    /// query wins.
    pub(crate) fn for_request(&self, query: &str, headers: &HeaderMap) -> Result<Self, BadSetting> {
        let asked = Asked { query, headers };
        Ok(Self {
            latency: asked.setting("latency", latency)?.unwrap_or(self.latency),
            status: asked.setting("status", status)?.or(self.status),
            error_rate: asked.setting("error-rate", error_rate)?.or(self.error_rate),
            size: asked.setting("size", size)?.unwrap_or(self.size),
        })
    }

    pub(crate) fn latency(&self) -> Duration {
        self.latency
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The status for a dice throw in 0..1. A status alone is always given;
    /// with an error rate it is given to that share, and 200 to the others.
    pub(crate) fn status(&self, dice: f64) -> StatusCode {
        match (self.error_rate, self.status) {
            (None, status) => status.unwrap_or(StatusCode::OK),
            (Some(rate), status) if dice < rate => {
                status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            (Some(_), _) => StatusCode::OK,
        }
    }
}

struct Asked<'a> {
    query: &'a str,
    headers: &'a HeaderMap,
}

impl Asked<'_> {
    fn setting<T>(
        &self,
        name: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, BadSetting> {
        self.text(name)
            .map(|text| parse(text).map_err(|reason| BadSetting { name, reason }))
            .transpose()
    }

    fn text(&self, name: &str) -> Option<&str> {
        let in_query = self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then_some(value)
        });
        in_query.or_else(|| {
            let value = self.headers.get(format!("x-testapp-{name}"))?;
            value.to_str().ok()
        })
    }
}

fn latency(text: &str) -> Result<Duration, String> {
    checked_latency(parse_duration(text)?)
}

fn checked_latency(latency: Duration) -> Result<Duration, String> {
    if latency <= MAX_LATENCY {
        Ok(latency)
    } else {
        Err("at most 1h".into())
    }
}

fn status(text: &str) -> Result<StatusCode, String> {
    let status: StatusCode = text
        .parse()
        .map_err(|_| format!("`{text}` is not a status"))?;
    // 1xx are not final answers.
    if status.is_informational() {
        Err("want 200 to 999".into())
    } else {
        Ok(status)
    }
}

fn error_rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number"))?;
    checked_rate(rate)
}

fn checked_rate(rate: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("want 0 to 1".into())
    }
}

fn size(text: &str) -> Result<usize, String> {
    let size = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of bytes"))?;
    checked_size(size)
}

fn checked_size(size: usize) -> Result<usize, String> {
    if size <= MAX_SIZE {
        Ok(size)
    } else {
        Err(format!("at most {MAX_SIZE}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Behaviour {
        Behaviour::new(Duration::ZERO, None, None, 0).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    #[test]
    fn a_request_without_settings_gets_the_defaults() {
        let defaults = Behaviour::new(Duration::from_millis(5), None, Some(0.5), 10).unwrap();
        assert_eq!(
            defaults.for_request("a=b", &HeaderMap::new()),
            Ok(defaults.clone())
        );
    }

    #[test]
    fn the_query_wins_over_headers_over_defaults() {
        let headers = headers(&[("x-testapp-latency", "7ms"), ("x-testapp-size", "9")]);
        let asked = quiet()
            .for_request("latency=50ms&status=503", &headers)
            .unwrap();
        assert_eq!(asked.latency(), Duration::from_millis(50));
        assert_eq!(asked.size(), 9);
        assert_eq!(asked.status(0.99), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn the_error_rate_decides_by_the_dice() {
        for (query, dice, want) in [
            ("", 0.0, 200),
            ("status=404", 0.9, 404),
            ("error-rate=0.1", 0.05, 500),
            ("error-rate=0.1", 0.1, 200),
            ("error-rate=0.1&status=503", 0.05, 503),
            ("error-rate=0.1&status=503", 0.5, 200),
            ("error-rate=0", 0.0, 200),
            ("error-rate=1", 0.999, 500),
        ] {
            let asked = quiet().for_request(query, &HeaderMap::new()).unwrap();
            assert_eq!(asked.status(dice).as_u16(), want, "{query} at {dice}");
        }
    }

    #[test]
    fn bad_settings_are_named() {
        for (query, name) in [
            ("latency=5", "latency"),
            ("latency=2h", "latency"),
            ("status=100", "status"),
            ("status=abc", "status"),
            ("error-rate=1.1", "error-rate"),
            ("error-rate=NaN", "error-rate"),
            ("size=-1", "size"),
            ("size=16777217", "size"),
        ] {
            let error = quiet().for_request(query, &HeaderMap::new()).unwrap_err();
            assert_eq!(error.name, name, "{query}");
        }
    }
}
