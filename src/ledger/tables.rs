//! How the state lies in the map: one byte for the table, then the key, numbers big endian so that
//! they sort.
//!
//! Tables up to [`LAST_UNHASHED`] are what a node keeps beside the state: they are not in the state
//! hash and not in a snapshot, because they follow from the blocks or are checked against a header.

use std::marker::PhantomData;

use crate::ledger::read::{Overlay, Read, ReadError};
use crate::message::canonical::Canonical;
use crate::types::{
    BatchId, CollectionTag, GrantId, Hash, Height, PublicKey, RecordTag, ScopeTag, SegmentId, TransactionId,
    VaultId, VersionId,
};

/// A key of a table, as bytes that sort as the key does.
pub trait Key {
    /// Appends the bytes.
    fn push(&self, to: &mut Vec<u8>);
}

macro_rules! plain_keys {
    ($($name:ty),*) => {$(
        impl Key for $name {
            fn push(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(self.as_bytes());
            }
        }
    )*};
}

plain_keys!(
    BatchId,
    CollectionTag,
    GrantId,
    Hash,
    PublicKey,
    RecordTag,
    ScopeTag,
    SegmentId,
    TransactionId,
    VaultId,
    VersionId
);

macro_rules! number_keys {
    ($($name:ty),*) => {$(
        impl Key for $name {
            fn push(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}

number_keys!(u8, u16, u32, u64);

impl Key for Height {
    fn push(&self, to: &mut Vec<u8>) {
        self.0.push(to);
    }
}

impl Key for () {
    fn push(&self, _to: &mut Vec<u8>) {}
}

impl<A: Key, B: Key> Key for (A, B) {
    fn push(&self, to: &mut Vec<u8>) {
        self.0.push(to);
        self.1.push(to);
    }
}

/// A table: its byte, and what its keys and values are.
#[derive(Debug)]
pub struct Table<K, V> {
    tag: u8,
    name: &'static str,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Key, V: Canonical> Table<K, V> {
    /// The table under a byte; the name is for errors.
    pub const fn new(tag: u8, name: &'static str) -> Self {
        Self { tag, name, types: PhantomData }
    }

    /// The bytes of a key.
    #[must_use]
    pub fn key(&self, key: &K) -> Vec<u8> {
        let mut bytes = vec![self.tag];
        key.push(&mut bytes);
        bytes
    }

    /// What follows the table's byte in a key of this table; none of another table.
    #[must_use]
    pub fn rest<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.split_first().filter(|(table, _)| **table == self.tag).map(|(_, rest)| rest)
    }

    /// Reads a value of this table.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`].
    pub fn read_value(&self, value: &[u8]) -> Result<V, ReadError> {
        self.value(value)
    }

    /// The row of a key.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn get(&self, state: &impl Read, key: &K) -> Result<Option<V>, ReadError> {
        state.get(&self.key(key))?.map(|value| self.value(&value)).transpose()
    }

    /// The row of a key that is always there.
    ///
    /// # Errors
    /// [`ReadError::Missing`], or as [`Self::get`].
    pub fn expect(&self, state: &impl Read, key: &K) -> Result<V, ReadError> {
        self.get(state, key)?.ok_or(ReadError::Missing(self.name))
    }

    /// Whether there is such a row.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn contains(&self, state: &impl Read, key: &K) -> Result<bool, ReadError> {
        Ok(state.get(&self.key(key))?.is_some())
    }

    /// Sets a row.
    pub fn put<R: Read>(&self, state: &mut Overlay<'_, R>, key: &K, value: &V) {
        state.put(self.key(key), value.encode());
    }

    /// Takes a row away.
    pub fn delete<R: Read>(&self, state: &mut Overlay<'_, R>, key: &K) {
        state.delete(self.key(key));
    }

    /// The keys' bytes and values whose keys begin with `prefix`, from the one after `after` on; at most
    /// `limit`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn scan(
        &self,
        state: &impl Read,
        prefix: &impl Key,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, V)>, ReadError> {
        let mut start = vec![self.tag];
        prefix.push(&mut start);
        // The key after another is that key and a zero.
        let from = after.map(|key| [key, &[0]].concat()).unwrap_or_default();
        let rows = state.scan(&start, &from, limit)?;
        rows.into_iter().map(|(key, value)| Ok((key, self.value(&value)?))).collect()
    }

    fn value(&self, bytes: &[u8]) -> Result<V, ReadError> {
        V::decode(bytes).map_err(|violation| ReadError::Corrupt { table: self.name, violation })
    }
}

/// The last table that is not in the state hash.
pub const LAST_UNHASHED: u8 = 0x0f;

/// Whether a row with this key is in the state hash and in snapshots.
#[must_use]
pub fn is_hashed(key: &[u8]) -> bool {
    key.first().is_some_and(|table| *table > LAST_UNHASHED)
}
