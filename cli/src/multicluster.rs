//! The commands that join clusters.

pub(crate) mod install;
