//! `testapp load`: requests at a fixed rate, whatever the answers do.
//!
//! The load is open: request number n starts n/rate seconds after the start,
//! and its latency counts from that moment, also when a connection was free
//! only later. A slow server therefore shows in the percentiles and cannot
//! slow the load down.
//!
//! Each request that is started has an id: the run's name and a number, from
//! 0 without gaps. Servers remember how often they saw an id and give it back,
//! so that a request ends in one of these ways:
//! - *ok*: the answer has the id and the body that were sent;
//! - *refused*: an answer that is an error, counted by its status;
//! - *wrong*: the answer to another request, another body, or one cut short;
//! - *lost*: no answer at all, counted by the failure;
//! - *shed*: never started, because too many were in flight.
//!
//! The load cannot see that a request was doubled, nor whether a lost one
//! reached a server: `testapp audit` asks the servers. A pod that is gone
//! cannot be asked, so the report names the requests without an answer
//! (`unanswered`), and only those can be lost; with `--answers` it also names
//! the requests that each pod answered, so that those of a pod that is gone
//! count as seen, and as doubled when another pod saw them too. What the load
//! keeps for this is eight bytes per request.

mod check;
mod pool;
mod report;
mod route;
mod schedule;
mod tally;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::LoadArgs;
use crate::id::{RequestId, Run as RunName};
use crate::stop;
pub(crate) use report::{Report, Slice};
use route::Route;
use schedule::Schedule;
use tally::Tally;

/// Prints the report; SIGTERM and SIGINT end the load early and still give
/// one. Exits with 1 when not one request succeeded.
pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let stop = stop::on_signal()?;
    let json = args.json;
    let on_slice =
        move |slice: &Slice| println!("{}", if json { slice.json() } else { slice.text() });
    let report = load(&args, stop, args.timeline.then_some(on_slice)).await?;
    println!("{}", if json { report.json() } else { report.text() });
    Ok(ExitCode::from(u8::from(report.ok == 0)))
}

/// Runs the load to its end, or until `stop`, and waits for the requests in
/// flight. `on_slice` is told about each second as it ends.
pub(crate) async fn load<F: Fn(&Slice)>(
    args: &LoadArgs,
    stop: CancellationToken,
    on_slice: Option<F>,
) -> anyhow::Result<Report> {
    let run = Arc::new(Run {
        name: args.run.clone().unwrap_or_else(RunName::random),
        route: Route::new(args).map_err(anyhow::Error::msg)?,
        timeout: args.timeout,
        in_flight: args.in_flight.into(),
        tally: Mutex::default(),
    });
    let start = Instant::now();
    let requests = dispatch(
        run.clone(),
        Schedule::new(args.rate, args.duration),
        start,
        stop,
    );
    let mut requests = std::pin::pin!(requests);
    let mut seconds = interval_at(start + SECOND, SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut second = 0;
    let ran = loop {
        tokio::select! {
            ran = requests.as_mut() => break ran,
            _ = seconds.tick() => {
                let slice = run.tally().end_second(second);
                on_slice.iter().for_each(|tell| tell(&slice));
                second += 1;
            }
        }
    };
    let mut tally = run.tally();
    let last = tally.end_second(second);
    on_slice
        .iter()
        .filter(|_| !last.is_empty())
        .for_each(|tell| tell(&last));
    let mut report = tally.report(&run.name, ran);
    if args.answers {
        report.answered = Some(tally.answered());
    }
    Ok(report)
}

const SECOND: Duration = Duration::from_secs(1);

/// What the requests of one run share.
struct Run {
    name: RunName,
    route: Route,
    timeout: Duration,
    /// Requests in flight, at most.
    in_flight: usize,
    tally: Mutex<Tally>,
}

impl Run {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no one panics while counting")
    }

    async fn request(&self, number: u64, due: Instant) {
        let id = RequestId {
            run: self.name.clone(),
            number,
        };
        let outcome = self.route.send(&id, due + self.timeout).await;
        self.tally().record(number, &outcome, due.elapsed());
    }
}

/// Starts every request when it is due and waits for them all. Gives the time
/// in which requests were started.
async fn dispatch(
    run: Arc<Run>,
    schedule: Schedule,
    start: Instant,
    stop: CancellationToken,
) -> Duration {
    let requests = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(run.in_flight));
    let mut number = 0;
    for offset in schedule.offsets() {
        let due = start + offset;
        tokio::select! {
            () = sleep_until(due) => {}
            () = stop.cancelled() => break,
        }
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            run.tally().shed();
            continue;
        };
        let run = run.clone();
        requests.spawn(async move {
            run.request(number, due).await;
            drop(permit);
        });
        number += 1;
    }
    let ran = start.elapsed();
    requests.close();
    requests.wait().await;
    ran
}
