//! Regular expressions of routes, each compiled once for as long as any route
//! has it: routes are read anew whenever anything changes, and to compile an
//! expression takes longer than all the rest of that.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use regex::bytes::{Regex, RegexBuilder};

/// Memory that one compiled expression may take, twice: for itself and for
/// what it remembers while it searches.
const LARGEST_PATTERN: usize = 256 * 1024;
/// How deep an expression may nest.
const DEEPEST_PATTERN: u32 = 32;
/// Bytes of an expression's text; the Gateway API allows 1024 at most.
const LONGEST_PATTERN: usize = 4096;

/// A regular expression that describes the whole of a text. Its size is
/// bounded, and the time that it takes grows with the text's length only.
/// Patterns of the same text share what they were compiled to.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<Compiled>);

/// The text is no regular expression, or one that would take too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the regular expression is not usable: {0}")]
pub struct InvalidPattern(String);

#[derive(Debug)]
struct Compiled {
    text: Box<str>,
    regex: Regex,
}

impl Pattern {
    /// Compiles `text`, unless there is a pattern of the same text.
    ///
    /// # Errors
    /// If it is malformed, or would take too much memory.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        static IN_USE: LazyLock<Patterns> = LazyLock::new(Patterns::default);
        IN_USE.pattern(text, Compiled::new)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.0.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Compiled {
    fn new(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > LONGEST_PATTERN {
            return Err(InvalidPattern("it is too long".to_owned()));
        }
        // Alone too, so that no parenthesis can close the one around it.
        compiled(text)?;
        Ok(Self {
            text: text.into(),
            regex: compiled(&format!("^(?:{text})$"))?,
        })
    }
}

/// Patterns that are in use. It keeps none of them alive, and forgets those
/// that are gone before it has twice as many entries as there are patterns.
#[derive(Default)]
struct Patterns(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_text: HashMap<Box<str>, Weak<Compiled>>,
    /// With so many entries it is looked which are still in use.
    full: usize,
}

/// Fewer entries are not worth a look.
const FEW: usize = 64;

impl Patterns {
    fn pattern(
        &self,
        text: &str,
        compile: impl FnOnce(&str) -> Result<Compiled, InvalidPattern>,
    ) -> Result<Pattern, InvalidPattern> {
        if let Some(known) = self.known().get(text) {
            return Ok(Pattern(known));
        }
        // Not under the lock: others do not wait for it. What two compile at
        // the same time both keep.
        let compiled = Arc::new(compile(text)?);
        self.known().insert(&compiled);
        Ok(Pattern(compiled))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn get(&self, text: &str) -> Option<Arc<Compiled>> {
        self.by_text.get(text).and_then(Weak::upgrade)
    }

    fn insert(&mut self, compiled: &Arc<Compiled>) {
        if self.by_text.len() >= self.full.max(FEW) {
            self.by_text.retain(|_, known| known.strong_count() > 0);
            self.full = self.by_text.len() * 2;
        }
        let text = compiled.text.clone();
        self.by_text.insert(text, Arc::downgrade(compiled));
    }
}

fn compiled(text: &str) -> Result<Regex, InvalidPattern> {
    RegexBuilder::new(text)
        .size_limit(LARGEST_PATTERN)
        .dfa_size_limit(LARGEST_PATTERN)
        .nest_limit(DEEPEST_PATTERN)
        .build()
        .map_err(|error| InvalidPattern(in_one_line(&error.to_string())))
}

/// What is wrong, without the drawing of where it is.
fn in_one_line(error: &str) -> String {
    let last = error.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Patterns, and how often one was compiled.
    #[derive(Default)]
    struct Counted {
        patterns: Patterns,
        count: Cell<usize>,
    }

    impl Counted {
        fn pattern(&self, text: &str) -> Result<Pattern, InvalidPattern> {
            self.patterns.pattern(text, |text| {
                self.count.set(self.count.get() + 1);
                Compiled::new(text)
            })
        }
    }

    #[test]
    fn a_pattern_is_compiled_once_while_it_is_in_use() {
        let counted = Counted::default();
        let mut snapshot = vec![counted.pattern("/a.*"), counted.pattern("/b.*")];
        assert_eq!(counted.count.get(), 2);
        for _ in 0..10 {
            // The next is made while the last is in use.
            snapshot = vec![counted.pattern("/b.*"), counted.pattern("/a.*")];
        }
        assert_eq!(counted.count.get(), 2);
        drop(snapshot);
        assert!(counted.pattern("/a.*").unwrap().matches(b"/abc"));
        assert_eq!(counted.count.get(), 3, "nobody had it any more");
    }

    #[test]
    fn patterns_that_nobody_has_are_forgotten() {
        let counted = Counted::default();
        let kept: Vec<_> = (0..10)
            .map(|n| counted.pattern(&format!("kept{n}")))
            .collect();
        for n in 0..1000 {
            counted.pattern(&format!("gone{n}")).unwrap();
            assert!(counted.patterns.known().by_text.len() <= FEW);
        }
        let before = counted.count.get();
        for pattern in kept.iter().flatten() {
            assert_eq!(counted.pattern(pattern.as_str()).as_ref(), Ok(pattern));
        }
        assert_eq!(counted.count.get(), before);
    }

    #[test]
    fn what_cannot_be_compiled_says_why_in_one_line() {
        let error = Pattern::new("(a").unwrap_err().to_string();
        assert_eq!(
            error,
            "the regular expression is not usable: unclosed group"
        );
        assert!(Pattern::new(&"a".repeat(LONGEST_PATTERN + 1)).is_err());
    }
}
