//! The list of differences, `differences.txt`: what it says is compared with
//! what is.

use std::collections::BTreeMap;

use crate::peers;

const LIST: &str = include_str!("differences.txt");
/// What the list calls this engine.
const OURS: &str = "mesh";
const WHY: &str = "why: ";

/// A case, what this engine makes of it, and what others do.
#[derive(Clone, Debug)]
pub(crate) struct Result {
    pub(crate) case: String,
    pub(crate) ours: String,
    /// By the other's name.
    pub(crate) theirs: BTreeMap<&'static str, String>,
}

impl Result {
    /// What the list has to say, without the reason; nothing where all agree.
    fn entry(&self) -> Option<String> {
        let mut said: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let differ = self.theirs.iter().filter(|(_, what)| **what != self.ours);
        for (name, what) in differ {
            said.entry(what).or_default().push(name);
        }
        let others = said
            .iter()
            .map(|(what, names)| format!("\n{}: {what}", names.join(", ")));
        let others: String = others.collect();
        let head = format!("{}\n{OURS}: {}", self.case, self.ours);
        (!others.is_empty()).then(|| head + &others)
    }
}

/// Fails unless the list says just that for the cases whose names begin with
/// `kind`.
pub(crate) fn check(kind: &str, results: &[Result]) {
    let found: Vec<String> = results.iter().filter_map(Result::entry).collect();
    println!(
        "{kind}: {} cases, {} differences",
        results.len(),
        found.len()
    );
    // Other versions may differ in other ways.
    for name in ["haproxy", "nghttpx"] {
        println!("{name}: {}", peers::version(name));
    }
    let faults = faults(LIST, kind, &found);
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

/// What is not in the list, and what only the list has.
fn faults(list: &str, kind: &str, found: &[String]) -> Vec<String> {
    let (entries, mut faults) = parse(list);
    let listed: Vec<&String> = entries
        .iter()
        .filter(|entry| entry.split(' ').next() == Some(kind))
        .collect();
    let missing = found.iter().filter(|entry| !listed.contains(entry));
    faults.extend(missing.map(|entry| format!("Not in the list:\n{entry}")));
    let gone = listed.iter().filter(|entry| !found.contains(entry));
    faults.extend(gone.map(|entry| format!("In the list, but not so:\n{entry}")));
    faults
}

/// The list's entries without their reasons, and those that have none.
fn parse(list: &str) -> (Vec<String>, Vec<String>) {
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    let text: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    for entry in text.join("\n").split("\n\n") {
        let entry = entry.trim_matches('\n');
        if entry.is_empty() {
            continue;
        }
        let (what, why) = entry.split_once(&format!("\n{WHY}")).unwrap_or((entry, ""));
        if why.trim().len() < 10 {
            faults.push(format!("Without a reason:\n{entry}"));
        }
        entries.push(what.to_owned());
    }
    (entries, faults)
}

#[test]
fn the_list_and_what_is_have_to_agree() {
    let theirs = [("a", "400"), ("b", "taken"), ("c", "taken"), ("d", "501")];
    let theirs = theirs.map(|(name, what)| (name, what.to_owned())).into();
    let (case, ours) = ("x one".to_owned(), "400".to_owned());
    let found = [Result { case, ours, theirs }.entry().unwrap()];
    let entry = "x one\nmesh: 400\nd: 501\nb, c: taken";
    assert_eq!(found[0], entry);
    let list =
        format!("# text\n\n{entry}\nwhy: it is like that\n\ny other\nmesh: 1\nwhy: long enough\n");
    assert_eq!(faults(&list, "x", &found), Vec::<String>::new());
    assert_eq!(faults(&list, "y", &[]).len(), 1, "listed, and not so");
    assert_eq!(faults("", "x", &found).len(), 1, "not listed");
    assert_eq!(faults(entry, "x", &found).len(), 1, "no reason");
    let changed = list.replace("501", "502");
    assert_eq!(
        faults(&changed, "x", &found).len(),
        2,
        "another way to differ"
    );
}

#[test]
fn nobody_differs_where_all_agree() {
    let theirs = [("a", "400".to_owned())].into();
    let (case, ours) = ("x one".to_owned(), "400".to_owned());
    assert_eq!(Result { case, ours, theirs }.entry(), None);
}
