//! The first process of every pod of the lab: holds its namespaces until it is
//! told to end, and buries what others leave.

fn main() {
    use nix::{
        errno::Errno,
        sys::{
            signal::{SigSet, Signal},
            wait::{WaitPidFlag, WaitStatus, waitpid},
        },
    };

    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    if signals.thread_block().is_err() {
        std::process::exit(1);
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => loop {
                match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) | Err(_) => break,
                    Ok(_) => {}
                }
            },
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}
