//! The mesh on two linked clusters: what gets across, what must not, and what
//! has to go on when something breaks.

mod audited;
mod broken;
mod clock;
mod crossing;
mod explain;
mod exports;
mod fail_over;
mod failures;
mod gateways;
pub(crate) mod installed;
mod intruder;
mod link_status;
mod outages;
mod policy;
mod refusals;
mod repeated;
mod rotation;
mod routes;
mod server_names;
mod third_party;
