//! HTTP/2 against the `h2` crate.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep, timeout_at},
};

use super::{Observed, Ours, Understood, fields_of, is_odd};
use crate::{mutations::mutate, splits::requests};

const PAUSE: Duration = Duration::from_millis(1);

type Seen = Arc<Mutex<Vec<Understood>>>;

/// What `h2` makes of all of `input`.
pub(crate) async fn h2(input: &[u8]) -> Observed {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let (seen, mut tasks) = (Seen::default(), tokio::task::JoinSet::new());
    let frames: Vec<Vec<u8>> = frames(input).into_iter().map(<[u8]>::to_vec).collect();
    let pauses = u32::try_from(frames.len()).unwrap();
    let writer = tokio::spawn(async move {
        for frame in frames {
            let _ = client.write_all(&frame).await;
            // What a frame completes is read before a later one is found bad.
            sleep(PAUSE).await;
        }
        client
    });
    // Nothing follows then; the clock is a paused one.
    let (mut refused, end) = (true, Instant::now() + PAUSE * (pauses + 10));
    if let Ok(Ok(mut connection)) = timeout_at(end, h2::server::handshake(server)).await {
        refused = loop {
            match timeout_at(end, connection.accept()).await {
                Ok(Some(Ok((request, respond)))) => {
                    tasks.spawn(read(request, respond, seen.clone()));
                }
                ended => break ended.is_ok(),
            }
        };
    }
    tasks.shutdown().await;
    let (mut client, mut output) = (writer.await.unwrap(), Vec::new());
    client.read_to_end(&mut output).await.unwrap();
    let requests = seen.lock().unwrap().clone();
    Observed {
        requests,
        output,
        refused,
    }
}

/// The preface and each frame, as their lengths say.
fn frames(input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let (preface, mut rest) = input.split_at(input.len().min(24));
    pieces.push(preface);
    while let Some([a, b, c]) = rest.first_chunk() {
        let len = 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (frame, more) = rest.split_at(len.min(rest.len()));
        pieces.push(frame);
        rest = more;
    }
    pieces.push(rest);
    pieces
}

async fn read(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    seen: Seen,
) {
    let mut understood = Understood::of(&request);
    let answer = http::Response::builder().status(204).body(()).unwrap();
    if understood.method == "CONNECT" {
        // A tunnel's bytes are no part of the request.
        seen.lock().unwrap().push(understood);
        let _ = respond.send_response(answer, true);
        return;
    }
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let Ok(data) = data else {
            return;
        };
        let _ = body.flow_control().release_capacity(data.len());
        understood.body.extend_from_slice(&data);
    }
    let Ok(trailers) = body.trailers().await else {
        return;
    };
    understood.trailers = trailers.as_ref().map(fields_of).unwrap_or_default();
    seen.lock().unwrap().push(understood);
    let _ = respond.send_response(answer, true);
}

/// Whether we have reset a stream for a malformed message, as RFC 9113 §8.1.1
/// asks. `h2` ends the connection for most of them, or for what follows on the
/// stream, since it never opened it.
fn reset_a_stream(output: &[u8]) -> bool {
    const PROTOCOL_ERROR: &[u8] = &[0, 0, 0, 1];
    let preface = [&[0; 24], output].concat();
    let is_reset =
        |frame: &&[u8]| frame.get(3) == Some(&3) && frame.get(9..) == Some(PROTOCOL_ERROR);
    frames(&preface).iter().any(is_reset)
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_is_understood_as_h2_does() {
    let (mut same, mut stricter, mut odd, mut kept) = (0, 0, 0, 0);
    for seed in 0..3000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = requests(true, &mut random);
        if random.random_bool(0.9) {
            mutate(&mut bytes, &mut random);
        }
        let Observed {
            requests: ours,
            output,
            ..
        } = Ours::of(true, &bytes);
        let theirs = h2(&bytes).await.requests;
        if ours == theirs {
            same += 1;
        } else if ours.iter().all(|request| theirs.contains(request)) {
            stricter += 1;
        } else if ours.iter().any(|request| is_odd(&request.path)) {
            odd += 1;
        } else {
            // We go on where `h2` has ended; what both have seen is the same.
            assert!(
                theirs.iter().all(|request| ours.contains(request)),
                "seed {seed}"
            );
            assert!(reset_a_stream(&output), "seed {seed}");
            kept += 1;
        }
    }
    println!(
        "3,000 streams: {same} the same, {stricter} of which we refuse more than h2, {odd} with \
         odd paths, {kept} in which a malformed request does not end the connection"
    );
    assert!(same > 2900);
}
