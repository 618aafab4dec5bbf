//! Adds the sidecar to the pods of a manifest.
//!
//! What is not a workload, and what has its sidecar already, keeps every byte.
//! The result depends on the manifest and the images alone, never on a cluster.

mod object;
mod pod;
mod port_list;

use std::fmt;

use crate::{
    manifests::images::Images,
    yaml::{print, read, split},
};

/// What became of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Injected {
    /// The manifest with sidecars.
    pub(crate) text: String,
    /// What happened to each workload in it, in order.
    pub(crate) notes: Vec<Note>,
}

/// What happened to one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// `deployment/web`.
    pub(crate) workload: String,
    /// What happened.
    pub(crate) outcome: Outcome,
}

/// What happened to a workload that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has a sidecar now, or another than before.
    Injected,
    /// It had this sidecar already.
    Unchanged,
    /// It gets none, for this reason.
    LeftAlone(&'static str),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workload = &self.workload;
        match self.outcome {
            Outcome::Injected => write!(f, "{workload} injected"),
            Outcome::Unchanged => write!(f, "{workload} unchanged"),
            Outcome::LeftAlone(why) => write!(f, "{workload} left alone: {why}"),
        }
    }
}

/// A part of a manifest that cannot be injected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct Refusal {
    /// Where its document begins, from 1.
    pub(crate) line: usize,
    /// What is wrong, and with which workload.
    pub(crate) reason: String,
}

/// The manifest `stream` with a sidecar in each pod that can have one.
///
/// # Errors
/// All parts that are malformed or that a sidecar would break.
pub(crate) fn manifest(stream: &str, images: &Images) -> Result<Injected, Vec<Refusal>> {
    let mut injected = Injected {
        text: String::with_capacity(stream.len()),
        notes: Vec::new(),
    };
    let mut refusals = Vec::new();
    for document in split::documents(stream) {
        match inject_document(document, images, &mut injected.notes) {
            Ok(text) => injected.text.push_str(&text),
            Err(reason) => refusals.push(Refusal {
                line: document.line,
                reason,
            }),
        }
    }
    if refusals.is_empty() {
        Ok(injected)
    } else {
        Err(refusals)
    }
}

fn inject_document(
    document: split::Document<'_>,
    images: &Images,
    notes: &mut Vec<Note>,
) -> Result<String, String> {
    let before = read::document(document.text).map_err(|error| error.to_string())?;
    let Some(before) = before else {
        return Ok(document.text.into());
    };
    let mut after = before.clone();
    object::inject(&mut after, images, notes).map_err(|refusal| refusal.to_string())?;
    if after == before {
        return Ok(document.text.into());
    }
    let separator = if document.separated { "---\n" } else { "" };
    Ok(format!("{separator}{}", print::document(&after)))
}

#[cfg(test)]
mod tests;
