//! The access log: one line for each request and each TCP connection that was
//! carried, on a tracing target of its own. It is off unless asked for.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mesh_core::destination::Endpoint;
use mesh_dataplane::message::{Body, BoxError};
use mesh_drive::exchange::Carried;
use tracing::{Level, enabled, info};

use crate::metrics::BackendLabels;

/// The tracing target.
const TARGET: &str = "access";
/// Characters of what an application says that are logged.
const LONGEST: usize = 1024;

/// The log's filter with the access log on or off, if it does not say itself.
pub(crate) fn filter(log: &str, is_on: bool) -> String {
    let mut directives = log.split(',').map(str::trim);
    if directives.any(|directive| directive.starts_with(TARGET)) {
        return log.to_owned();
    }
    let level = if is_on { "info" } else { "off" };
    format!("{log},{TARGET}={level}")
}

/// Where a request or connection went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Went {
    service: String,
    cluster: String,
    endpoint: String,
}

impl Went {
    /// To an endpoint of a Service; nothing if nobody wants to know.
    pub(crate) fn out(labels: &BackendLabels, endpoint: &Endpoint) -> Option<Self> {
        is_on().then(|| Self {
            service: labels.service().to_owned(),
            cluster: labels.cluster().to_owned(),
            endpoint: endpoint.address.to_string(),
        })
    }
}

/// A line that is written when it is dropped, however the request ends.
pub(crate) struct Line {
    start: Instant,
    direction: &'static str,
    client: String,
    went: Went,
    method: Option<Method>,
    path: String,
    status: Option<u16>,
    bytes: u64,
}

impl Line {
    /// For a request; none if the log is off.
    pub(crate) fn request<B>(
        direction: &'static str,
        client: &str,
        request: &Request<B>,
    ) -> Option<Self> {
        let mut line = Self::stream(direction, client, Went::default())?;
        line.method = Some(request.method().clone());
        line.path = clean(request.uri().path());
        Some(line)
    }

    /// For a TCP connection; none if the log is off.
    pub(crate) fn stream(direction: &'static str, client: &str, went: Went) -> Option<Self> {
        is_on().then(|| Self {
            start: Instant::now(),
            direction,
            client: clean(client),
            went,
            method: None,
            path: String::new(),
            status: None,
            bytes: 0,
        })
    }

    /// The connection ended well, and carried so much.
    pub(crate) const fn carried(&mut self, carried: Carried) {
        self.bytes = carried.sent.saturating_add(carried.received);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        info!(
            target: TARGET,
            direction = self.direction,
            client = %self.client,
            service = %self.went.service,
            cluster = %self.went.cluster,
            endpoint = %self.went.endpoint,
            method = self.method.as_ref().map(tracing::field::display),
            path = %self.path,
            status = self.status,
            bytes = self.bytes,
            duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
        );
    }
}

/// The answer, whose line is written when its body has ended.
pub(crate) fn answered(line: Option<Line>, mut response: Response<Body>) -> Response<Body> {
    let went = response.extensions_mut().remove::<Went>();
    let Some(mut line) = line else {
        return response;
    };
    line.status = Some(response.status().as_u16());
    line.went = went.unwrap_or_default();
    response.map(|inner| Body::Other(Counted { inner, line }.boxed()))
}

fn is_on() -> bool {
    enabled!(target: TARGET, Level::INFO)
}

/// Applications and peers write no lines of their own.
fn clean(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(LONGEST).map(visible).collect()
}

/// A body that is counted on its way.
struct Counted {
    inner: Body,
    line: Line,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.line.bytes += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged while `act` runs.
    fn logged(filter: &str, act: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(log, act);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    async fn one_request() {
        let request = Request::get("http://web/cart?card=4111").body(()).unwrap();
        let line = Line::request("outbound", "a\nb", &request);
        let mut response = Response::new(Body::from("hello"));
        let went = Went {
            service: "shop/web".to_owned(),
            cluster: "east".to_owned(),
            endpoint: "[fd6d::1]:80".to_owned(),
        };
        response.extensions_mut().insert(went);
        let answer = answered(line, response);
        answer.into_body().collect().await.unwrap();
    }

    #[test]
    fn a_request_is_one_line_that_says_where_it_went_and_no_secret() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let text = logged(&filter("info", true), || runtime.block_on(one_request()));
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in [
            "direction=\"outbound\" client=a?b service=shop/web cluster=east",
            "endpoint=[fd6d::1]:80 method=GET path=/cart status=200 bytes=5",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("4111"));
        let silent = logged(&filter("info", false), || runtime.block_on(one_request()));
        assert_eq!(silent, "");
    }

    #[test]
    fn the_log_filter_has_the_last_word() {
        for (log, is_on, expected) in [
            ("info", false, "info,access=off"),
            ("info", true, "info,access=info"),
            ("warn,access=info", false, "warn,access=info"),
            ("debug, access=off", true, "debug, access=off"),
        ] {
            assert_eq!(filter(log, is_on), expected);
        }
    }
}
