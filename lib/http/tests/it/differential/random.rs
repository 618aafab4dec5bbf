//! Streams of HTTP/1 that were valid and have been damaged: what this engine
//! passes on must not be something else to the next one.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{Observed, Ours, Understood, proxies::Proxy};
use crate::{mutations::mutate, splits::requests};

const STREAMS: u64 = 3000;

#[test]
fn h1_h2_what_is_taken_is_understood_as_haproxy_does() {
    let proxy = Proxy::haproxy();
    let (mut same, mut refused) = (0, 0);
    for seed in 0..STREAMS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = requests(false, &mut random);
        if random.random_bool(0.9) {
            mutate(&mut bytes, &mut random);
        }
        let ours = Ours::of(false, &bytes);
        if ours.refused {
            continue;
        }
        let theirs = proxy.http1(&bytes, &ours);
        match theirs.requests.len() {
            all if all == ours.requests.len() => same += 1,
            _ => refused += 1,
        }
        let (ours, theirs) = (shown(&ours), shown(&theirs));
        assert!(
            ours.starts_with(&theirs),
            "seed {seed}\n{ours:#?}\n{theirs:#?}"
        );
    }
    println!("{same} streams that we take are the same to HAProxy, {refused} it refuses in part");
    assert!(
        same > STREAMS / 10 && refused < same / 4,
        "{same} the same, {refused} refused"
    );
}

fn shown(observed: &Observed) -> Vec<String> {
    observed.requests.iter().map(Understood::shown).collect()
}
