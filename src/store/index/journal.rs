//! Uploads under way: what a client that starts anew needs to go on where another stopped.
//!
//! A chunk is noted, with the roots of its shards, *before* the first of them is sent. So an upload that
//! is taken up again can tell whether its source is still the same, and nothing that was ever sent is
//! forgotten: what an abandoned upload left at nodes is released.

use redb::{ReadableDatabase as _, ReadableTable as _, WriteTransaction};
use zeroize::Zeroizing;

use crate::crypto::frame::Dek;
use crate::message::{Descriptor, StagedPut};
use crate::store::index::tables::{self, CHUNKS, RELEASES, SEGMENTS, STAGED, UPLOADS};
use crate::store::index::{Index, IndexError, damaged};
use crate::types::{SegmentId, Timestamp, VersionId};

/// What an upload is known by: derived from its source, or random where it cannot resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadId(pub [u8; 32]);

/// An upload under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// The version that it will be.
    pub version: VersionId,
    /// Its data key.
    pub dek: Dek,
    /// When it began.
    pub begun: Timestamp,
}

/// A chunk that was coded and perhaps sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournaledChunk {
    /// Which chunk of the record.
    pub number: u64,
    /// The salt of its frame key.
    pub salt: [u8; 16],
    /// Its plaintext bytes, padding included.
    pub plain_len: u64,
    /// Its segment; the holders are those known so far.
    pub descriptor: Descriptor,
}

impl Index {
    /// Notes that an upload begins, or has begun again.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn begin_upload(&mut self, id: &UploadId, row: &UploadRow) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        let value = (row.version.as_bytes(), row.dek.as_bytes(), row.begun.unix_micros());
        txn.open_table(UPLOADS)?.insert(&id.0, value)?;
        txn.commit()?;
        Ok(())
    }

    /// Notes a chunk: before it is sent, and again when its holders are known. The segment of another chunk
    /// that had the number is to be released.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn put_chunk(&mut self, id: &UploadId, chunk: &JournaledChunk) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        {
            let mut chunks = txn.open_table(CHUNKS)?;
            let bytes = chunk.descriptor.encode();
            let before = chunks.insert((&id.0, chunk.number), (&chunk.salt, chunk.plain_len, &bytes[..]))?;
            let before = before.map(|row| tables::decode_descriptor(row.value().2)).transpose()?;
            if let Some(before) = before.filter(|before| before.segment != chunk.descriptor.segment) {
                txn.open_table(RELEASES)?.insert(before.segment.as_bytes(), ())?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// An upload that was begun and not finished, and its chunks in order.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn upload(&self, id: &UploadId) -> Result<Option<(UploadRow, Vec<JournaledChunk>)>, IndexError> {
        let txn = self.db.begin_read()?;
        let uploads = txn.open_table(UPLOADS)?;
        let Some(row) = uploads.get(&id.0)? else { return Ok(None) };
        let (version, dek, begun) = row.value();
        let row = UploadRow {
            version: VersionId(*version),
            dek: Dek::from_bytes(*Zeroizing::new(*dek)),
            begun: Timestamp::from_unix_micros(begun),
        };
        let mut found = Vec::new();
        for chunk in txn.open_table(CHUNKS)?.range((&id.0, 0)..=(&id.0, u64::MAX))? {
            let (key, value) = chunk?;
            let (salt, plain_len, descriptor) = value.value();
            let descriptor = tables::decode_descriptor(descriptor)?;
            found.push(JournaledChunk { number: key.value().1, salt: *salt, plain_len, descriptor });
        }
        Ok(Some((row, found)))
    }

    /// Gives up one upload: what it left at nodes is to be released.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn abandon_upload(&mut self, id: &UploadId) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        drop_upload(&txn, id)?;
        txn.commit()?;
        Ok(())
    }

    /// Gives up uploads that began before `older_than`: what they left at nodes is to be released. How many they were.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn abandon_uploads(&mut self, older_than: Timestamp) -> Result<usize, IndexError> {
        let old: Vec<_> = {
            let txn = self.db.begin_read()?;
            let uploads = txn.open_table(UPLOADS)?;
            let rows = uploads.iter()?.map(|row| row.map(|(id, row)| (UploadId(*id.value()), row.value().2)));
            let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
            rows.into_iter()
                .filter(|(_, begun)| *begun < older_than.unix_micros())
                .map(|(id, _)| id)
                .collect()
        };
        if !old.is_empty() {
            let txn = self.begin_write()?;
            old.iter().try_for_each(|id| drop_upload(&txn, id))?;
            txn.commit()?;
        }
        Ok(old.len())
    }
}

impl Index {
    /// Takes on a put whose bytes are durable in a file of the home folder.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn stage(&mut self, put: &StagedPut) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        {
            let mut staged = txn.open_table(STAGED)?;
            let turn = staged.last()?.map_or(0, |(turn, _)| turn.value()) + 1;
            staged.insert(turn, &put.encode()[..])?;
        }
        txn.commit()?;
        Ok(())
    }

    /// The puts that wait in files, in the order in which they came, each with its turn.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn staged(&self) -> Result<Vec<(u64, StagedPut)>, IndexError> {
        let txn = self.db.begin_read()?;
        let mut found = Vec::new();
        for row in txn.open_table(STAGED)?.iter()? {
            let (turn, bytes) = row?;
            let put = StagedPut::decode(bytes.value()).map_err(|_| damaged("a staged put"))?;
            found.push((turn.value(), put));
        }
        Ok(found)
    }

    /// Whether a staged put is still to be done.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn is_staged(&self, turn: u64) -> Result<bool, IndexError> {
        let txn = self.db.begin_read()?;
        Ok(txn.open_table(STAGED)?.get(turn)?.is_some())
    }

    /// A staged put is done.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn unstage(&mut self, turn: u64) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        txn.open_table(STAGED)?.remove(turn)?;
        txn.commit()?;
        Ok(())
    }
}

impl Index {
    /// The uploads that are under way.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn uploads(&self) -> Result<Vec<UploadId>, IndexError> {
        let txn = self.db.begin_read()?;
        let table = txn.open_table(UPLOADS)?;
        table.iter()?.map(|row| Ok(UploadId(*row?.0.value()))).collect()
    }

    /// Forgets an upload whose chunks are in use: nodes keep them, and nobody resumes it.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn forget_uploads(&mut self, ids: &[UploadId]) -> Result<(), IndexError> {
        let txn = self.begin_write()?;
        {
            let mut chunks = txn.open_table(CHUNKS)?;
            for id in ids {
                txn.open_table(UPLOADS)?.remove(&id.0)?;
                chunks.retain_in((&id.0, 0)..=(&id.0, u64::MAX), |_, _| false)?;
            }
        }
        txn.commit()?;
        Ok(())
    }
}

/// Ends an upload: its rows go, and chunks that no version uses are to be released.
pub(super) fn drop_upload(txn: &WriteTransaction, id: &UploadId) -> Result<(), IndexError> {
    txn.open_table(UPLOADS)?.remove(&id.0)?;
    let mut chunks = txn.open_table(CHUNKS)?;
    let segments = txn.open_table(SEGMENTS)?;
    let mut releases = txn.open_table(RELEASES)?;
    let mut numbers = Vec::new();
    for row in chunks.range((&id.0, 0)..=(&id.0, u64::MAX))? {
        let (key, value) = row?;
        numbers.push(key.value().1);
        let segment: SegmentId = tables::decode_descriptor(value.value().2)?.segment;
        if segments.get(segment.as_bytes())?.is_none() {
            releases.insert(segment.as_bytes(), ())?;
        }
    }
    for number in numbers {
        chunks.remove((&id.0, number))?;
    }
    Ok(())
}
