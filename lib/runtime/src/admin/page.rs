//! Pages that are made when somebody asks: read-only JSON.
//!
//! Any pod can ask, so a page is made for one at a time, within a deadline,
//! and kept for a moment for those who ask the same.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::{sync::Mutex, time::timeout};

use super::{plain, with_type};

/// What a page says: JSON, or why the question is none.
pub type PageResult = Result<String, &'static str>;

type Making = Pin<Box<dyn Future<Output = PageResult> + Send>>;

/// One page. Clones share what was last made.
#[derive(Clone)]
pub(super) struct Page {
    make: Arc<dyn Fn(Query) -> Making + Send + Sync>,
    last: Arc<Mutex<Option<Made>>>,
}

struct Made {
    question: String,
    at: Instant,
    status: StatusCode,
    body: Bytes,
}

/// The query of a request: names and values, nothing decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// The value of `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Page {
    pub(super) fn new<Make, Answer>(make: Make) -> Self
    where
        Make: Fn(Query) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = PageResult> + Send + 'static,
    {
        Self {
            make: Arc::new(move |query| Box::pin(make(query))),
            last: Arc::default(),
        }
    }

    /// The answer to `question`, the query of a request.
    pub(super) async fn answer(&self, question: String) -> Response<Full<Bytes>> {
        if question.len() > LONGEST_QUESTION {
            return plain(StatusCode::URI_TOO_LONG, "the question is too long\n");
        }
        // One at a time: who waits here waits for the page that is being made.
        match timeout(DEADLINE, self.last_or_new(question)).await {
            Ok((status, body)) => with_type(status, "application/json", body),
            Err(_) => plain(StatusCode::GATEWAY_TIMEOUT, "no answer in time\n"),
        }
    }

    async fn last_or_new(&self, question: String) -> (StatusCode, Bytes) {
        let mut last = self.last.lock().await;
        if let Some(made) = &*last
            && made.question == question
            && made.at.elapsed() < FRESH
        {
            return (made.status, made.body.clone());
        }
        let (status, body) = match (self.make)(Query::parse(&question)).await {
            Ok(json) => (StatusCode::OK, Bytes::from(json)),
            Err(why) => (
                StatusCode::BAD_REQUEST,
                Bytes::from(format!("{{\"error\":\"{why}\"}}")),
            ),
        };
        *last = Some(Made {
            question,
            at: Instant::now(),
            status,
            body: body.clone(),
        });
        (status, body)
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

/// Below the deadline of a connection, so that a late page is still answered.
const DEADLINE: Duration = Duration::from_millis(9500);
/// How long a page is kept for those who ask the same.
const FRESH: Duration = Duration::from_secs(2);
/// Bytes.
const LONGEST_QUESTION: usize = 512;
