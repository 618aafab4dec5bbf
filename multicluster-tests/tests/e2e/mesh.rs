//! The mesh on two linked clusters: what gets across, what must not, and what
//! has to go on when something breaks.

mod crossing;
mod explain;
mod failures;
mod installed;
mod intruder;
mod refusals;
mod repeated;
mod third_party;
