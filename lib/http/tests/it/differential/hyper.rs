//! HTTP/1 against hyper.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Observed, Ours, Understood, fields_of, is_odd};
use crate::{mutations::mutate, splits::requests};

/// What hyper makes of all of `input`.
pub(crate) async fn hyper(input: &[u8]) -> Observed {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: http::Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let mut understood = Understood::of(&request);
            if let Ok(body) = request.into_body().collect().await {
                understood.trailers = body.trailers().map(fields_of).unwrap_or_default();
                understood.body = body.to_bytes().to_vec();
                seen.lock().unwrap().push(understood);
            }
            let answer = http::Response::builder()
                .status(204)
                .body(Empty::<&[u8]>::new());
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    let mut builder = http1::Builder::new();
    builder.half_close(true);
    let served = builder
        .serve_connection(TokioIo::new(server), service)
        .await;
    let mut output = Vec::new();
    client.read_to_end(&mut output).await.unwrap();
    let requests = seen.lock().unwrap().clone();
    Observed {
        requests,
        output,
        refused: served.is_err(),
    }
}

/// How the two differ over a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differ {
    Not,
    /// We refuse what hyper takes.
    Stricter,
    /// We take what hyper refuses, or understand it in another way.
    Otherwise,
}

async fn differ(input: &[u8]) -> Differ {
    let ours = Ours::of(false, input).requests;
    let theirs = hyper(input).await.requests;
    if ours == theirs {
        Differ::Not
    } else if theirs.starts_with(&ours) {
        Differ::Stricter
    } else {
        Differ::Otherwise
    }
}

#[tokio::test]
async fn what_is_taken_is_understood_as_hyper_does() {
    let mut stricter = 0;
    for seed in 0..4000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = requests(false, &mut random);
        if random.random_bool(0.9) {
            mutate(&mut bytes, &mut random);
        }
        match differ(&bytes).await {
            Differ::Not => {}
            Differ::Stricter => stricter += 1,
            Differ::Otherwise => assert!(has_odd_path(&bytes), "seed {seed}"),
        }
    }
    println!("4,000 streams, of which we refuse {stricter} that hyper takes");
}

fn has_odd_path(bytes: &[u8]) -> bool {
    Ours::of(false, bytes)
        .requests
        .iter()
        .any(|request| is_odd(&request.path))
}
