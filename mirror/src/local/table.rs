//! The objects of one kind, from the events of a watch.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;

/// What a watch says exists. While the watch lists everything anew, the old
/// rows stay.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    rows: BTreeMap<K, V>,
    listing: Option<BTreeMap<K, V>>,
    complete: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            listing: None,
            complete: false,
        }
    }
}

impl<K: Ord, V: PartialEq> Table<K, V> {
    pub(super) const fn rows(&self) -> &BTreeMap<K, V> {
        &self.rows
    }

    /// Whether everything has been listed once.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Applies an event and says whether anything changed. An object without a
    /// row is as good as deleted.
    pub(super) fn apply<T>(
        &mut self,
        event: Event<T>,
        key: impl Fn(&T) -> K,
        row: impl Fn(T) -> Option<V>,
    ) -> bool {
        match event {
            Event::Init => {
                self.listing = Some(BTreeMap::new());
                false
            }
            Event::InitApply(object) => {
                let listing = self.listing.get_or_insert_default();
                let key = key(&object);
                listing.extend(row(object).map(|row| (key, row)));
                false
            }
            Event::InitDone => self.replace(),
            Event::Apply(object) => {
                let key = key(&object);
                match row(object) {
                    Some(row) => self.insert(key, row),
                    None => self.rows.remove(&key).is_some(),
                }
            }
            Event::Delete(object) => self.rows.remove(&key(&object)).is_some(),
        }
    }

    fn insert(&mut self, key: K, row: V) -> bool {
        if self.rows.get(&key) == Some(&row) {
            return false;
        }
        self.rows.insert(key, row);
        true
    }

    fn replace(&mut self) -> bool {
        let rows = self.listing.take().unwrap_or_default();
        let changed = !self.complete || rows != self.rows;
        self.rows = rows;
        self.complete = true;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(table: &mut Table<char, u8>, event: Event<(char, u8)>) -> bool {
        table.apply(event, |o| o.0, |o| (o.1 > 0).then_some(o.1))
    }

    fn listed() -> Table<char, u8> {
        let mut table = Table::default();
        for event in [Event::Init, Event::InitApply(('a', 1)), Event::InitDone] {
            apply(&mut table, event);
        }
        table
    }

    #[test]
    fn a_table_is_complete_after_its_first_listing() {
        let mut table = Table::default();
        apply(&mut table, Event::Init);
        assert!(!table.is_complete());
        assert!(apply(&mut table, Event::InitDone));
        assert!(table.is_complete());
    }

    #[test]
    fn m6_a_listing_that_is_cut_off_removes_nothing() {
        let mut table = listed();
        assert!(!apply(&mut table, Event::Init));
        assert!(!apply(&mut table, Event::InitApply(('b', 2))));
        assert!(!apply(&mut table, Event::Init));
        assert_eq!(table.rows(), &BTreeMap::from([('a', 1)]));
        apply(&mut table, Event::InitApply(('c', 3)));
        assert!(apply(&mut table, Event::InitDone));
        assert_eq!(table.rows(), &BTreeMap::from([('c', 3)]));
    }

    #[test]
    fn only_changes_count_as_changes() {
        let mut table = listed();
        assert!(!apply(&mut table, Event::Apply(('a', 1))));
        assert!(apply(&mut table, Event::Apply(('a', 2))));
        assert!(apply(&mut table, Event::Apply(('a', 0))));
        assert!(!apply(&mut table, Event::Delete(('a', 0))));
    }
}
