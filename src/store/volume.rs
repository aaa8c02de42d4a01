//! Volumes: append-only files of shards, the truth from which the index can always be rebuilt.
//!
//! A volume is a row of entries, each at a multiple of [`ENTRY_ALIGN`]:
//! ```text
//! header 256 | chaining values of the slices, 32 each | shard bytes | zeros up to ENTRY_ALIGN
//! ```
//! A *tombstone* is a header alone; it ends the life of every shard of its vault and segment before it.
//! Every header says how far the volume was durable when it was written ([`Header::durable_to`]). That tells, at
//! recovery, a torn end of the log (never acknowledged: cut off) from damage before it (reported, never
//! skipped silently).
//!
//! Of the very last batch no later header tells. The index does, once it is durable, as after every orderly stop. If
//! a node was killed, or its index is lost, rot in that one batch cannot be told from a torn write, of which any
//! sectors may be there: it is cut off from the first entry that is not whole, and what goes is logged.

use std::io;

use crate::message::ShardRef;
use crate::store::disk::DiskFile;
use crate::types::limits::{MAX_SHARD_LEN, SLICE_LEN};
use crate::types::{Hash, SegmentId, Timestamp, VaultId};

/// Entries begin at multiples of this: a disk block, so that a torn write of one leaves the others whole, and
/// that long batches can be written past the page cache.
pub(crate) const ENTRY_ALIGN: u64 = ENTRY_ALIGN_LEN as u64;
/// The same as a length in memory.
pub(crate) const ENTRY_ALIGN_LEN: usize = 4_096;
/// Bytes of an entry's header.
pub(crate) const HEADER_LEN: usize = 256;
const MAGIC: &[u8; 8] = b"xvshard1";
/// The hash covers the header before it.
const HASH_AT: usize = HEADER_LEN - 32;

/// Keys the hash of every header, so that nobody who stores bytes here can make them look like an entry: a
/// forged tombstone inside a shard would free another vault's data when a torn log is searched for entries.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderKey(pub [u8; 32]);

impl std::fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HeaderKey(..)")
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A shard.
    Shard,
    /// The end of a segment's shards.
    Tombstone,
}

/// The head of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) vault: VaultId,
    /// Of a tombstone only the segment counts.
    pub(crate) shard: ShardRef,
    pub(crate) root: Hash,
    /// Bytes of the shard; 0 for a tombstone.
    pub(crate) len: u64,
    /// Bytes of this volume that were durable when the entry was written.
    pub(crate) durable_to: u64,
    /// When the shard was stored, by the ledger's time; zero where that was not known, as in volumes of before it was noted.
    pub(crate) stored_at: Timestamp,
}

impl Header {
    /// Bytes of the chaining values after the header.
    pub(crate) const fn leaves_len(&self) -> u64 {
        self.len.div_ceil(SLICE_LEN as u64) * 32
    }

    /// Where the shard's bytes begin in the entry.
    pub(crate) const fn data_at(&self) -> u64 {
        HEADER_LEN as u64 + self.leaves_len()
    }

    /// Bytes of the entry, alignment included.
    pub(crate) const fn entry_len(&self) -> u64 {
        (self.data_at() + self.len).next_multiple_of(ENTRY_ALIGN)
    }

    /// The header's bytes at `offset` of volume `volume`, which its hash covers too: an entry that a disk wrote to
    /// the wrong place is no entry.
    pub(crate) fn encode(&self, key: &HeaderKey, volume: u32, offset: u64) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = match self.kind {
            Kind::Shard => 1,
            Kind::Tombstone => 2,
        };
        bytes[9] = self.shard.index;
        bytes[16..48].copy_from_slice(self.vault.as_bytes());
        bytes[48..80].copy_from_slice(self.shard.segment.as_bytes());
        bytes[80..112].copy_from_slice(self.root.as_bytes());
        bytes[112..120].copy_from_slice(&self.len.to_le_bytes());
        bytes[120..128].copy_from_slice(&self.durable_to.to_le_bytes());
        bytes[128..136].copy_from_slice(&self.stored_at.unix_micros().to_le_bytes());
        let hash = header_hash(&bytes, key, volume, offset);
        bytes[HASH_AT..].copy_from_slice(&hash);
        bytes
    }

    /// Reads a header that was written at `offset` of volume `volume`; `None` if there is none.
    pub(crate) fn decode(
        bytes: &[u8; HEADER_LEN],
        key: &HeaderKey,
        volume: u32,
        offset: u64,
    ) -> Option<Self> {
        if !bytes.starts_with(MAGIC) || bytes[HASH_AT..] != header_hash(bytes, key, volume, offset) {
            return None;
        }
        let kind = match bytes[8] {
            1 => Kind::Shard,
            2 => Kind::Tombstone,
            _ => return None,
        };
        let number = |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let header = Self {
            kind,
            vault: VaultId::from_slice(&bytes[16..48])?,
            shard: ShardRef { segment: SegmentId::from_slice(&bytes[48..80])?, index: bytes[9] },
            root: Hash::from_slice(&bytes[80..112])?,
            len: number(112)?,
            durable_to: number(120)?,
            stored_at: Timestamp::from_unix_micros(number(128)?),
        };
        (header.len <= MAX_SHARD_LEN && header.durable_to <= offset).then_some(header)
    }
}

fn header_hash(bytes: &[u8; HEADER_LEN], key: &HeaderKey, volume: u32, offset: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    hasher.update(&bytes[..HASH_AT]);
    hasher.update(&volume.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.finalize().into()
}

/// An entry as a scan finds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) header: Header,
}

/// What a scan of a volume says.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The entries that count, in order.
    pub(crate) entries: Vec<Found>,
    /// Ranges that were durable and hold no entry any more: damage.
    pub(crate) damaged: Vec<std::ops::Range<u64>>,
    /// Where the log goes on.
    pub(crate) end: u64,
    /// Entries with a sound header after that: of a write that was not finished.
    pub(crate) unfinished: usize,
}

/// Reads the headers of a volume from `start`, which is an entry's offset, to the end of the log. `is_whole` says
/// whether an entry's bytes are what its header promises; it is asked only where that decides how the log ends.
/// A volume is `sealed` if there is one after it: it was cut to its length before, so all of it was durable.
///
/// # Errors
/// As the file reports.
pub(crate) fn scan(
    file: &dyn DiskFile,
    key: &HeaderKey,
    volume: u32,
    start: u64,
    sealed: bool,
    is_whole: impl Fn(&Found) -> io::Result<bool>,
) -> io::Result<Scan> {
    let file_len = file.len()?;
    let mut found = Vec::new();
    let mut gaps = Vec::new();
    let mut at = start;
    while at + HEADER_LEN as u64 <= file_len {
        match header_at(file, key, volume, at)? {
            Some(header) if at + header.entry_len() <= file_len => {
                found.push(Found { offset: at, header });
                at += header.entry_len();
            }
            _ => {
                let gap = at;
                let next = next_header(file, key, volume, at + ENTRY_ALIGN, file_len)?;
                let Some(next) = next.or_else(|| sealed.then_some(file_len)) else { break };
                gaps.push(gap..next);
                at = next;
            }
        }
    }
    if sealed {
        return Ok(Scan { entries: found, damaged: gaps, end: at, unfinished: 0 });
    }
    // What any entry says was durable is durable: a gap before it is damage, one after it a torn end.
    let durable_to = found.iter().map(|entry| entry.header.durable_to).max().unwrap_or(start).max(start);
    let mut end = gaps.iter().map(|gap| gap.start).find(|gap| *gap >= durable_to);
    // The last batch may be torn inside an entry whose header is whole.
    for entry in found.iter().filter(|entry| entry.offset >= durable_to) {
        if end.is_none_or(|end| entry.offset < end) && !is_whole(entry)? {
            end = Some(entry.offset);
        }
    }
    let end = end.unwrap_or_else(|| found.last().map_or(start, |last| last.offset + last.header.entry_len()));
    let headers = found.len();
    found.retain(|entry| entry.offset < end);
    gaps.retain(|gap| gap.start < end);
    Ok(Scan { unfinished: headers - found.len(), entries: found, damaged: gaps, end })
}

fn header_at(file: &dyn DiskFile, key: &HeaderKey, volume: u32, offset: u64) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER_LEN];
    file.read_at(offset, &mut bytes)?;
    Ok(Header::decode(&bytes, key, volume, offset))
}

/// The next offset with a header, looking through the file in large pieces.
fn next_header(
    file: &dyn DiskFile,
    key: &HeaderKey,
    volume: u32,
    from: u64,
    file_len: u64,
) -> io::Result<Option<u64>> {
    const PIECE: u64 = 1 << 20;
    let mut piece = Vec::new();
    let mut at = from;
    while at + HEADER_LEN as u64 <= file_len {
        let len = PIECE.min(file_len - at);
        piece.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        file.read_at(at, &mut piece)?;
        let mut offset = at;
        for sector in piece.chunks(ENTRY_ALIGN_LEN) {
            let head = sector.first_chunk::<HEADER_LEN>();
            if head.is_some_and(|head| Header::decode(head, key, volume, offset).is_some()) {
                return Ok(Some(offset));
            }
            offset += ENTRY_ALIGN;
        }
        at += len;
    }
    Ok(None)
}

/// The file name of a volume.
pub(crate) fn file_name(volume: u32) -> String {
    format!("volume-{volume:08}")
}

/// The volume of a file name, if it is one's.
pub(crate) fn volume_of(name: &str) -> Option<u32> {
    name.strip_prefix("volume-").filter(|digits| digits.len() == 8)?.parse().ok()
}
