//! What a pair of sidecars costs, ours and others' (`make bench`): processor
//! time, latency, throughput and memory, of the same load in the same topology.
//!
//! A client, the outbound proxy A, mutual TLS 1.3, the inbound proxy B, and a
//! back end: A in one network namespace, B in another, joined by a veth. Both
//! proxies are on core 0 with one worker each, load and back end on core 1.
//! Subjects take turns, so that a machine whose speed drifts is unfair to none;
//! only ratios within one run mean something.
//!
//! It does not start clusters, and none of its load is real traffic: what it
//! measures is the data path's engine.
//!
//! Where to start reading: [`run`], then `measure.rs`. Main types:
//! [`pair::Pair`], two proxies of one subject with their surroundings;
//! [`measure::Group`], what is measured together.

mod backend;
mod bars;
mod cores;
mod facts;
mod interrupt;
mod load;
mod measure;
mod options;
mod pair;
mod peers;
mod pki;
mod plot;
mod report;
mod run;
mod share;
mod stats;
mod subject;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match run::run(&options::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
