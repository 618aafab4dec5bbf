//! Manifests as text: documents in, documents out.
//!
//! Scalars are read as `kubectl` reads them (YAML 1.1: `0644` is a number,
//! `yes` is true), since that is what the user's manifest means, and are
//! written so that every reader agrees: whatever could be taken for something
//! else than text is quoted.

pub(crate) mod print;
pub(crate) mod read;
mod scalar;
pub(crate) mod split;
