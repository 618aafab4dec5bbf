//! What every web server and every proxy in front of one has to do, asked by curl.

use anyhow::{Context as _, Result, ensure};

use crate::{
    content::{SIZES, check, content},
    messages::{check_many, equal},
    place::Place,
    report::Report,
};

/// The HTTP that curl speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Where [`crate::origin::answer`] answers, directly or behind somebody.
#[derive(Clone, Copy)]
pub(crate) struct Web<'a> {
    pub(crate) place: &'a Place,
    /// What is shown to work.
    pub(crate) name: &'a str,
    pub(crate) version: Version,
    /// `http://` and an authority.
    pub(crate) url: &'a str,
}

/// One request of curl.
struct Ask<'a> {
    path: String,
    /// The file for the body, or for the head of an answer to HEAD.
    out: &'a str,
    more: &'a [&'a str],
}

/// What curl said of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    status: u16,
    version: String,
    /// How many connections were opened for it.
    connects: u32,
}

/// Reports all cases.
pub(crate) fn cases(report: &mut Report, web: Web<'_>) {
    let mut case = |what: &str, outcome| report.case(format!("{}: {what}", web.name), outcome);
    for size in SIZES {
        case(&format!("GET of {size} bytes"), web.get(size));
        case(&format!("POST of {size} bytes"), web.post(size, &[]));
    }
    case("HEAD, and a request behind it", web.head());
    case("204 and 304, and a request behind them", web.bodiless());
    case("names that are there more than once", web.many());
    case("404", web.absent());
    if web.version == Version::Http1 {
        case("20 requests on a connection", web.kept());
        case("Expect: 100-continue", web.expects());
        case("a chunked POST", web.post(300_000, &CHUNKED));
        case("HTTP/1.0", web.http10());
    }
}

const CHUNKED: [&str; 2] = ["--header", "transfer-encoding: chunked"];

impl Web<'_> {
    /// Asks one after the other, and on one connection if that stays open.
    fn curl(&self, asks: &[Ask<'_>]) -> Result<Vec<Said>> {
        let version = match self.version {
            Version::Http1 => "--http1.1",
            Version::Http2 => "--http2-prior-knowledge",
        };
        let urls: Vec<String> = asks
            .iter()
            .map(|ask| format!("{}{}", self.url, ask.path))
            .collect();
        let mut words = Vec::new();
        for (ask, url) in asks.iter().zip(&urls) {
            if !words.is_empty() {
                words.push("--next");
            }
            words.extend(["--silent", "--show-error", "--max-time", "25", version]);
            words.extend([
                "--write-out",
                "%{http_code} %{http_version} %{num_connects}\n",
            ]);
            words.extend(["--output", ask.out]);
            words.extend(ask.more);
            words.push(url);
        }
        let said = self.place.run("curl", &words)?;
        said.lines()
            .map(|line| parse(line).context(line.to_owned()))
            .collect()
    }

    /// Asks once; fails unless there is a good answer of the right version, whose
    /// body is returned.
    fn fetch(&self, path: &str, more: &[&str]) -> Result<Vec<u8>> {
        let ask = Ask {
            path: path.to_owned(),
            out: "out",
            more,
        };
        let said = self.curl(&[ask])?;
        let version = match self.version {
            Version::Http1 => "1.1",
            Version::Http2 => "2",
        };
        ensure!(
            said[0].status == 200 && said[0].version == version,
            "{said:?}"
        );
        self.file("out")
    }

    fn file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.place.file(name);
        std::fs::read(path).context("curl has written nothing")
    }

    fn get(&self, length: usize) -> Result<()> {
        check(&self.fetch(&format!("/bytes/{length}"), &[])?, length)
    }

    fn post(&self, length: usize, more: &[&str]) -> Result<()> {
        self.place.write("in", content(length));
        let more = [&["--data-binary", "@in"], more].concat();
        check(&self.fetch("/echo", &more)?, length)
    }

    /// curl waits for the server's word before it sends the body, and would give up
    /// before it sends it without.
    fn expects(&self) -> Result<()> {
        let patient = [
            "--header",
            "expect: 100-continue",
            "--expect100-timeout",
            "100",
        ];
        self.post(5000, &patient)
    }

    fn http10(&self) -> Result<()> {
        let ask = Ask {
            path: "/bytes/5000".to_owned(),
            out: "out",
            more: &["--http1.0"],
        };
        equal(&self.curl(&[ask])?[0].status, &200)?;
        check(&self.file("out")?, 5000)
    }

    /// Asks for these and then for some bytes, all on one connection. (Not with
    /// HTTP/2: this curl uses a connection with prior knowledge once only, and so
    /// with every server.)
    fn in_a_row(&self, asks: &[(&str, &[&str])]) -> Result<Vec<u16>> {
        let asks = asks.iter().map(|(path, more)| Ask {
            path: (*path).to_owned(),
            out: "out",
            more,
        });
        let last = Ask {
            path: "/bytes/5".to_owned(),
            out: "last",
            more: &[],
        };
        let asks: Vec<Ask<'_>> = asks.chain([last]).collect();
        let said = match self.version {
            Version::Http1 => self.curl(&asks)?,
            Version::Http2 => {
                let said = asks.iter().map(|ask| self.curl(std::slice::from_ref(ask)));
                said.collect::<Result<Vec<_>>>()?.concat()
            }
        };
        ensure!(
            self.version == Version::Http2 || said.iter().skip(1).all(|said| said.connects == 0),
            "not on one connection: {said:?}"
        );
        check(&self.file("last")?, 5)?;
        Ok(said.iter().map(|said| said.status).collect())
    }

    fn head(&self) -> Result<()> {
        let statuses = self.in_a_row(&[("/bytes/1024", &["--head"])])?;
        equal(&statuses, &vec![200, 200])?;
        let length = ("content-length".to_owned(), "1024".to_owned());
        let fields = fields(&self.file("out")?);
        ensure!(fields.contains(&length), "{fields:?}");
        Ok(())
    }

    fn bodiless(&self) -> Result<()> {
        let statuses = self.in_a_row(&[("/status/204", &[]), ("/status/304", &[])])?;
        equal(&statuses, &vec![204, 304, 200])
    }

    fn kept(&self) -> Result<()> {
        let statuses = self.in_a_row(&[("/bytes/1000", &[] as &[&str]); 19])?;
        equal(&statuses, &vec![200; 20])
    }

    fn many(&self) -> Result<()> {
        self.fetch("/many", &["--dump-header", "head"])?;
        check_many(&fields(&self.file("head")?))
    }

    fn absent(&self) -> Result<()> {
        let ask = Ask {
            path: "/nothing".to_owned(),
            out: "out",
            more: &[],
        };
        equal(&self.curl(&[ask])?[0].status, &404)?;
        equal(&&*self.file("out")?, &&b"no such path"[..])
    }
}

/// A line as curl was told to write it.
fn parse(line: &str) -> Option<Said> {
    let mut words = line.split(' ');
    Some(Said {
        status: words.next()?.parse().ok()?,
        version: words.next()?.to_owned(),
        connects: words.next()?.parse().ok()?,
    })
}

/// The fields of a head, names in lower case.
fn fields(head: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(head);
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}
