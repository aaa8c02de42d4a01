//! What the ledger's rules see of the state: a map of bytes in key order, and changes on top of it.

use std::collections::BTreeMap;

use crate::message::Violation;

/// A row: key and value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The state cannot be read. Never the fault of a transaction: a node stops on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The storage below failed.
    #[error("the ledger's state cannot be read: {0}")]
    Storage(String),
    /// A row that this code wrote is not one it can read.
    #[error("the ledger's state is damaged: a row under {table} is not one: {violation}")]
    Corrupt {
        /// The table of the row.
        table: &'static str,
        /// What is wrong with it.
        violation: Violation,
    },
    /// A row is missing that is always there.
    #[error("the ledger's state is damaged: no {0}")]
    Missing(&'static str),
}

/// A state that can be read: redb in a node, a [`BTreeMap`] in tests and in the simulator.
pub trait Read {
    /// The value of a key.
    ///
    /// # Errors
    /// [`ReadError::Storage`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;

    /// The first rows, in key order, whose keys begin with `prefix` and are not before `from`; at most
    /// `limit` of them.
    ///
    /// # Errors
    /// [`ReadError::Storage`].
    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Entry>, ReadError>;
}

impl Read for BTreeMap<Vec<u8>, Vec<u8>> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(Self::get(self, key).cloned())
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Entry>, ReadError> {
        let rows = self.range(prefix.max(from).to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// Changes on top of a state, which is not touched: a transaction or a block that fails is forgotten by
/// dropping its overlay.
#[derive(Debug)]
pub struct Overlay<'a, R> {
    base: &'a R,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a, R: Read> Overlay<'a, R> {
    /// No changes yet.
    pub const fn new(base: &'a R) -> Self {
        Self { base, writes: BTreeMap::new() }
    }

    /// Sets a row.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.insert(key, Some(value));
    }

    /// Takes a row away.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// The changes: a new value, or none where the row goes.
    #[must_use]
    pub fn into_writes(self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        self.writes
    }

    /// Takes over the changes of an overlay on top of this one.
    pub fn absorb(&mut self, writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        self.writes.extend(writes);
    }

    /// The changes so far.
    #[must_use]
    pub const fn writes(&self) -> &BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        &self.writes
    }

    /// The state below.
    #[must_use]
    pub const fn base(&self) -> &'a R {
        self.base
    }
}

impl<R: Read> Read for Overlay<'_, R> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Entry>, ReadError> {
        let start = prefix.max(from);
        let written = self.writes.range(start.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let written: Vec<_> = written.collect();
        // As many rows of the base as may be hidden by deletions, and `limit` more.
        let hidden = written.iter().filter(|(_, value)| value.is_none()).count();
        let rows = self.base.scan(prefix, from, limit.saturating_add(hidden))?;
        let mut merged: BTreeMap<Vec<u8>, Option<Vec<u8>>> =
            rows.into_iter().map(|(key, value)| (key, Some(value))).collect();
        merged.extend(written.into_iter().map(|(key, value)| (key.clone(), value.clone())));
        let present = merged.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Ok(present.take(limit).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> BTreeMap<Vec<u8>, Vec<u8>> {
        ["a1", "a2", "a3", "b1"].map(|key| (key.into(), key.to_uppercase().into_bytes())).into()
    }

    fn keys(rows: Vec<Entry>) -> Vec<String> {
        rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn an_overlay_reads_as_the_state_with_its_changes_would() {
        let base = base();
        let mut overlay = Overlay::new(&base);
        overlay.put(b"a0".to_vec(), b"new".to_vec());
        overlay.delete(b"a2".to_vec());
        overlay.put(b"b1".to_vec(), b"changed".to_vec());
        let mut applied = base.clone();
        for (key, value) in overlay.writes().clone() {
            match value {
                Some(value) => drop(applied.insert(key, value)),
                None => drop(applied.remove(&key)),
            }
        }
        for key in ["a0", "a1", "a2", "a3", "b1", "c"] {
            assert_eq!(overlay.get(key.as_bytes()), Read::get(&applied, key.as_bytes()), "{key}");
        }
        for (prefix, from) in [("", ""), ("a", ""), ("a", "a1"), ("a", "a2"), ("b", "a"), ("c", "")] {
            for limit in 0..6 {
                let (prefix, from) = (prefix.as_bytes(), from.as_bytes());
                assert_eq!(overlay.scan(prefix, from, limit), applied.scan(prefix, from, limit));
            }
        }
    }

    #[test]
    fn overlays_stack_and_the_upper_one_can_be_forgotten() {
        let base = base();
        let mut lower = Overlay::new(&base);
        lower.delete(b"a1".to_vec());
        let mut upper = Overlay::new(&lower);
        upper.put(b"a1".to_vec(), b"back".to_vec());
        assert_eq!(keys(upper.scan(b"a", b"", 9).unwrap()), ["a1", "a2", "a3"]);
        assert_eq!(keys(lower.scan(b"a", b"", 9).unwrap()), ["a2", "a3"]);
        let writes = upper.into_writes();
        lower.absorb(writes);
        assert_eq!(lower.get(b"a1"), Ok(Some(b"back".to_vec())));
    }
}
