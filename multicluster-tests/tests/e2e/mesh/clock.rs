//! Clocks that are off: what is said of them, and that it ends with them.

use mesh_lab::fault::clock::{Program, set_clock};

use super::installed::{EAST, WEST, client, explain, linked};
use crate::shared::{Shared, eventually};

/// The sidecar of web in east.
pub(super) const SIDECAR: Program<'_> = Program {
    namespace: "shop",
    deployment: "web",
    container: "mesh-proxy",
};
/// Longer than any certificate lives, in seconds.
pub(super) const DAY_AND_HOUR: i32 = 25 * 3600;

fn answers(shared: &Shared) -> bool {
    client(shared, &["get", "http://web-east"]).is_ok()
}

/// Waits until `explain` says what is to be done, with a clock as the reason.
fn said(shared: &Shared, what: &str) {
    let mut last = String::new();
    eventually(
        &format!("explain says {what:?}"),
        shared.cluster(WEST),
        || {
            last = explain(&["web-east"])
                .map_or_else(|said| said, |content| format!("content: {content}"));
            last.contains(what) && last.contains("Broken at: Endpoints.")
        },
    );
    println!("{last}");
}

#[test]
fn t7_a_sidecar_whose_clock_is_a_day_ahead_is_named_and_works_when_it_is_set_right() {
    let shared = linked();
    let east = shared.cluster(EAST);
    eventually("web-east answers", shared.cluster(WEST), || {
        answers(&shared)
    });
    let fault = set_clock(east, SIDECAR, DAY_AND_HOUR).expect("the clock is off");
    // It may take some seconds from the page to the look at this machine's.
    said(&shared, "the clock of the sidecar of web-");
    said(&shared, "ahead of this machine's");
    assert!(!answers(&shared), "nobody can certify such a sidecar");
    fault.undo().expect("the clock is right");
    eventually("web-east answers again", shared.cluster(WEST), || {
        answers(&shared)
    });
    eventually("explain is content", shared.cluster(WEST), || {
        explain(&["web-east"]).is_ok()
    });
}

#[test]
fn t7_a_clock_that_is_off_by_less_than_the_leeway_does_no_harm() {
    let shared = linked();
    let fault = set_clock(shared.cluster(EAST), SIDECAR, 30).expect("the clock is off");
    eventually("web-east answers", shared.cluster(WEST), || {
        answers(&shared)
    });
    eventually("explain is content", shared.cluster(WEST), || {
        explain(&["web-east"]).is_ok()
    });
    fault.undo().expect("the clock is right");
}
