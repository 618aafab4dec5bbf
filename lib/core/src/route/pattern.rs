//! Regular expressions of routes, each compiled once for as long as any route
//! has it: routes are read anew whenever anything changes, and to compile an
//! expression takes longer than all the rest of that.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use regex::bytes::{Regex, RegexBuilder};

/// Memory that one compiled expression may take, twice: for itself and for
/// what it remembers while it searches. Whoever may write routes decides how
/// many of them there are, within the bounds of [`MOST_PATTERNS`].
const LARGEST_PATTERN: usize = 32 * 1024;
/// Expressions that the routes of one Service may have.
pub const MOST_PATTERNS: usize = 256;
/// How deep an expression may nest.
const DEEPEST_PATTERN: u32 = 32;
/// Bytes of an expression's text; the Gateway API allows 1024 at most.
const LONGEST_PATTERN: usize = 4096;
/// Texts of which it is remembered that they cannot be compiled.
const MOST_FAILURES: usize = 256;

/// A regular expression that describes the whole of a text. Its size is
/// bounded, and the time that it takes grows with the text's length only.
/// Patterns of the same text share what they were compiled to.
///
/// Classes such as `\w` and `.` are about bytes, as in RE2, unless the text has
/// other than ASCII characters or says `(?u)`: of all the letters that there are,
/// `\w` alone would be larger than an expression may be.
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
    /// Why what could not be compiled could not: routes are read anew with
    /// every change, and to find that out again takes as long as to compile.
    failures: HashMap<Box<str>, InvalidPattern>,
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
            return known.map(Pattern);
        }
        // Not under the lock: others do not wait for it. What two compile at
        // the same time both keep.
        let compiled = compile(text).map(Arc::new);
        match &compiled {
            Ok(compiled) => self.known().insert(compiled),
            Err(error) => self.known().insert_failure(text, error),
        }
        compiled.map(Pattern)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn get(&self, text: &str) -> Option<Result<Arc<Compiled>, InvalidPattern>> {
        let failure = || self.failures.get(text).cloned().map(Err);
        let compiled = self.by_text.get(text).and_then(Weak::upgrade);
        compiled.map(Ok).or_else(failure)
    }

    fn insert(&mut self, compiled: &Arc<Compiled>) {
        if self.by_text.len() >= self.full.max(FEW) {
            self.by_text.retain(|_, known| known.strong_count() > 0);
            self.full = self.by_text.len() * 2;
        }
        let text = compiled.text.clone();
        self.by_text.insert(text, Arc::downgrade(compiled));
    }

    fn insert_failure(&mut self, text: &str, error: &InvalidPattern) {
        // Of those that are too long this is known without a look.
        if text.len() > LONGEST_PATTERN {
            return;
        }
        if self.failures.len() >= MOST_FAILURES {
            self.failures.clear();
        }
        self.failures.insert(text.into(), error.clone());
    }
}

fn compiled(text: &str) -> Result<Regex, InvalidPattern> {
    RegexBuilder::new(text)
        .unicode(!text.is_ascii())
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
    fn what_cannot_be_compiled_is_not_tried_with_every_change() {
        let counted = Counted::default();
        let first = counted.pattern("(").unwrap_err();
        for _ in 0..10 {
            assert_eq!(counted.pattern("("), Err(first.clone()));
        }
        assert_eq!(counted.count.get(), 1);
        for n in 0..1000 {
            counted.pattern(&format!("({n}")).unwrap_err();
            assert!(counted.patterns.known().failures.len() <= MOST_FAILURES);
        }
        let long = "(".repeat(LONGEST_PATTERN + 1);
        counted.pattern(&long).unwrap_err();
        assert!(!counted.patterns.known().failures.contains_key(&*long));
    }

    #[test]
    fn what_routes_are_written_with_is_small_enough_and_little_more() {
        for usual in [
            r"/users/\w+/orders/\d{1,10}",
            r"(/[^/]+){1,5}/(index|main)\.html?",
            "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
            ".*/[äöü].*",
        ] {
            let error = Pattern::new(usual).err();
            assert_eq!(error, None, "{usual}");
        }
        assert!(Pattern::new(r"\w+").unwrap().matches(b"web_1"));
        for large in ["(?u)[\\w]", "[a-z]{4000}", "(a{50}){50}"] {
            assert!(Pattern::new(large).is_err(), "{large}");
        }
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
