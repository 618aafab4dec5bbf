//! The access log: one line for each request and each TCP connection that was
//! carried, on a tracing target of its own. It is off unless asked for.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use mesh_core::destination::Endpoint;
use mesh_dataplane::message::{Body, BoxError, Response};
use mesh_drive::exchange::Carried;
use mesh_http::head::Head;
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
        is_on().then(|| Self::to(labels, endpoint))
    }

    fn to(labels: &BackendLabels, endpoint: &Endpoint) -> Self {
        Self {
            service: labels.service().to_owned(),
            cluster: labels.cluster().to_owned(),
            endpoint: endpoint.address.to_string(),
        }
    }
}

/// A line that is written when it is dropped, however the request ends.
pub(crate) struct Line {
    start: Instant,
    direction: &'static str,
    client: String,
    went: Went,
    server_name: Option<String>,
    method: Option<String>,
    path: String,
    status: Option<u16>,
    bytes: u64,
}

impl Line {
    /// For a request; none if the log is off.
    pub(crate) fn request(direction: &'static str, client: &str, head: &Head) -> Option<Self> {
        let mut line = Self::stream(direction, client, Went::default())?;
        let path = head.path().split(|byte| *byte == b'?').next();
        line.method = Some(clean(&String::from_utf8_lossy(head.method())));
        line.path = clean(&String::from_utf8_lossy(path.unwrap_or_default()));
        Some(line)
    }

    /// For a TCP connection; none if the log is off.
    pub(crate) fn stream(direction: &'static str, client: &str, went: Went) -> Option<Self> {
        is_on().then(|| Self {
            start: Instant::now(),
            direction,
            client: clean(client),
            went,
            server_name: None,
            method: None,
            path: String::new(),
            status: None,
            bytes: 0,
        })
    }

    /// The request went there.
    pub(crate) fn went(&mut self, labels: &BackendLabels, endpoint: &Endpoint) {
        self.went = Went::to(labels, endpoint);
    }

    /// It is TLS, and asks for this server.
    pub(crate) fn is_for(&mut self, server_name: &str) {
        self.server_name = Some(clean(server_name));
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
            server_name = self.server_name.as_ref().map(tracing::field::display),
            method = self.method.as_ref().map(tracing::field::display),
            path = %self.path,
            status = self.status,
            bytes = self.bytes,
            duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
        );
    }
}

/// The answer, whose line is written when its body or its tunnel has ended.
pub(crate) fn answered(line: Option<Line>, response: Response) -> Response {
    let Some(mut line) = line else {
        return response;
    };
    line.status = Some(response.status());
    response.map(|inner| match inner {
        Body::Reset(..) => inner,
        Body::Tunnel(tunnel) => Body::Tunnel(tunnel.telling(move |carried| line.carried(carried))),
        Body::Whole(_) | Body::Incoming(_) | Body::Other(_) => {
            Body::Other(Counted { inner, line }.boxed())
        }
    })
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
pub(crate) mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _};

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

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
        logging(filter, &written, act);
        written.text()
    }

    /// Logs what `act` does.
    pub(crate) fn logging(filter: &str, written: &Written, act: impl FnOnce()) {
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false);
        let filter: Targets = filter.parse().unwrap();
        let log = tracing_subscriber::registry().with(lines).with(filter);
        tracing::subscriber::with_default(log, act);
    }

    async fn one_request() {
        let request = Head::request("GET", "web", "/cart?card=4111").unwrap();
        let mut line = Line::request("outbound", "a\nb", &request);
        let went = Went {
            service: "shop/web".to_owned(),
            cluster: "east".to_owned(),
            endpoint: "[fd6d::1]:80".to_owned(),
        };
        if let Some(line) = &mut line {
            line.went = went;
        }
        let response = Response {
            head: Head::response(200).unwrap(),
            body: Body::from("hello"),
        };
        let answer = answered(line, response);
        answer.body.collect().await.unwrap();
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
