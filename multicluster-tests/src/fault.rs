//! Faults that tests put into the lab, each undone by a guard.

pub mod path;
