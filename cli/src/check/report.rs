//! What was found, as text.

use std::fmt;

use crate::text::escaped_lines;

/// All findings.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) sections: Vec<Section>,
}

/// Findings about one part of the mesh.
#[derive(Clone, Debug)]
pub(super) struct Section {
    title: String,
    findings: Vec<Finding>,
}

#[derive(Clone, Debug)]
struct Finding {
    verdict: Verdict,
    text: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Warning,
    Bad,
}

impl Report {
    /// Whether anything is broken.
    pub(super) fn failed(&self) -> bool {
        self.count(Verdict::Bad) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        let findings = self.sections.iter().flat_map(|section| &section.findings);
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    }
}

impl Section {
    /// A section without findings yet.
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            findings: Vec::new(),
        }
    }

    /// Something is as it should be.
    pub(super) fn good(&mut self, text: impl Into<String>) {
        self.push(Verdict::Good, text.into(), None);
    }

    /// Something works and deserves attention.
    pub(super) fn warn(&mut self, text: impl Into<String>, hint: impl Into<String>) {
        self.push(Verdict::Warning, text.into(), Some(hint.into()));
    }

    /// Something is broken.
    pub(super) fn bad(&mut self, text: impl Into<String>, hint: impl Into<String>) {
        self.push(Verdict::Bad, text.into(), Some(hint.into()));
    }

    /// Something could not be read.
    pub(super) fn unreadable(&mut self, error: &str) {
        self.push(Verdict::Bad, format!("could not be checked: {error}"), None);
    }

    fn push(&mut self, verdict: Verdict, text: String, hint: Option<String>) {
        self.findings.push(Finding {
            verdict,
            text,
            hint,
        });
    }
}

/// What this command does not look at; it would be wrong to suggest otherwise.
const NOT_CHECKED: &str = "\
Not checked: whether requests get through (no traffic is sent), the pods' own
certificates, and policies. `mesh explain SERVICE` and `mesh multicluster check`
look at those.
";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            writeln!(f, "{}", escaped_lines(&section.title))?;
            for finding in &section.findings {
                write!(f, "{finding}")?;
            }
            writeln!(f)?;
        }
        f.write_str(NOT_CHECKED)?;
        writeln!(
            f,
            "\n{} good, {} to look at, {} failed",
            self.count(Verdict::Good),
            self.count(Verdict::Warning),
            self.count(Verdict::Bad)
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Good => "√",
            Verdict::Warning => "‼",
            Verdict::Bad => "×",
        };
        writeln!(f, "{mark} {}", escaped_lines(&self.text))?;
        if let Some(hint) = &self.hint {
            writeln!(f, "    {}", escaped_lines(hint))?;
        }
        Ok(())
    }
}
