//! What mirrors and monitors of the log ask for, and what they get: C2SP `tlog-tiles`, <https://c2sp.org/tlog-tiles>.
//!
//! A log is a finite set of files that do not change, and a checkpoint that does. Here are the names of these
//! files and the bundles of entries; [`log::tile`](crate::ledger::log::tile) has the tiles. *Not* here: who may ask,
//! and how: that is the server of a static node.

use std::fmt;

use crate::ledger::log::TILE_WIDTH;
use crate::ledger::query;
use crate::ledger::read::{Read, ReadError};
use crate::message::Block;
use crate::types::Height;
use crate::types::limits::{MAX_COMMITTEE, MAX_TRANSACTION_LEN};

/// The longest path there is: level, the seven parts of the largest index, and a width.
const MAX_PATH_LEN: usize = 64;

/// A file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// "Checkpoints": the tree head that most static nodes have signed, as a signed note.
    Checkpoint,
    /// "Merkle Tree": hashes beside each other at one level; fewer than [`TILE_WIDTH`] in a partial tile.
    Tile {
        /// Tiles below it, down to the leaves.
        level: u8,
        /// Tiles to the left of it.
        index: u64,
        /// Hashes.
        width: u64,
    },
    /// "Log entries": the leaves under a tile of level 0.
    Entries {
        /// Bundles before it.
        index: u64,
        /// Leaves.
        width: u64,
    },
}

impl Resource {
    /// Reads a path; each file has one, so what is written in any other way is none.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let found = Self::read(path)?;
        (found.to_string() == path).then_some(found)
    }

    fn read(path: &str) -> Option<Self> {
        if path == "/checkpoint" {
            return Some(Self::Checkpoint);
        }
        let rest = path.strip_prefix("/tile/").filter(|_| path.len() <= MAX_PATH_LEN)?;
        let (level, place) = rest.split_once('/')?;
        let (index, width) = match place.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok()?),
            None => (place, TILE_WIDTH),
        };
        let index = index.replace(['x', '/'], "").parse().ok()?;
        if width == 0 || width > TILE_WIDTH {
            return None;
        }
        match level {
            "entries" => Some(Self::Entries { index, width }),
            // "a decimal ASCII integer between 0 and 63"
            _ => level.parse().ok().filter(|level| *level <= 63).map(|level| Self::Tile {
                level,
                index,
                width,
            }),
        }
    }

    /// Whether it stays as it is for ever. Partial tiles do too: a log only grows.
    #[must_use]
    pub const fn is_immutable(self) -> bool {
        !matches!(self, Self::Checkpoint)
    }

    /// Bytes that it has at most.
    #[must_use]
    pub const fn max_len(self) -> usize {
        match self {
            // Each cosigner has two lines, the longer of 3.4 KiB.
            Self::Checkpoint => MAX_COMMITTEE * 4096,
            Self::Tile { .. } => 256 * 32,
            Self::Entries { .. } => 256 * (2 + MAX_TRANSACTION_LEN),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, width) = match self {
            Self::Checkpoint => return f.write_str("/checkpoint"),
            Self::Tile { level, index, width } => {
                write!(f, "/tile/{level}/")?;
                (*index, *width)
            }
            Self::Entries { index, width } => {
                f.write_str("/tile/entries/")?;
                (*index, *width)
            }
        };
        write_index(index / 1000, f)?;
        write!(f, "{:03}", index % 1000)?;
        if width < TILE_WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
    }
}

/// All but the last three digits: "zero-padded 3-digit path elements. All but the last path element MUST begin with an `x`."
fn write_index(rest: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if rest == 0 {
        return Ok(());
    }
    write_index(rest / 1000, f)?;
    write!(f, "x{:03}/", rest % 1000)
}

/// A bundle of entries: "big-endian uint16 length-prefixed log entries". `None` if it is not all there, also where
/// `block` has a block no more.
///
/// # Errors
/// What `block` says, or [`ReadError`].
pub fn entries<E: From<ReadError>>(
    state: &impl Read,
    index: u64,
    width: u64,
    mut block: impl FnMut(Height) -> Result<Option<Block>, E>,
) -> Result<Option<Vec<u8>>, E> {
    let Some(first) = index.checked_mul(TILE_WIDTH) else { return Ok(None) };
    let end = first.saturating_add(width);
    if end > query::tip(state)?.record.log_size {
        return Ok(None);
    }
    let Some(mut height) = query::block_of_leaf(state, first)? else { return Ok(None) };
    let (mut next, mut bytes) = (first, Vec::new());
    while next < end {
        let Some(found) = block(height)? else { return Ok(None) };
        let leaves: Vec<_> = found.leaves().collect();
        let count = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        // Where a snapshot begins, the first block that is known has only later leaves.
        let begin = found.header.record.log_size.checked_sub(count).filter(|begin| *begin <= next);
        let Some(begin) = begin else { return Ok(None) };
        for (_, leaf) in (begin..).zip(leaves).filter(|(at, _)| (next..end).contains(at)) {
            // No transaction is longer, and no record.
            let len = u16::try_from(leaf.len()).map_err(|_| ReadError::Missing("leaf of bounded length"))?;
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&leaf);
        }
        next = next.max(found.header.record.log_size);
        height = height.next();
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_one_path() {
        let tile = |level, index, width| Resource::Tile { level, index, width };
        let entries = |index, width| Resource::Entries { index, width };
        for (path, resource) in [
            ("/checkpoint", Resource::Checkpoint),
            ("/tile/0/000", tile(0, 0, 256)),
            ("/tile/0/000.p/1", tile(0, 0, 1)),
            ("/tile/63/x001/x234/067", tile(63, 1_234_067, 256)),
            ("/tile/1/x001/000.p/255", tile(1, 1_000, 255)),
            ("/tile/entries/999", entries(999, 256)),
            ("/tile/entries/x018/x446/x744/x073/x709/x551/615.p/17", entries(u64::MAX, 17)),
        ] {
            assert_eq!(Resource::parse(path), Some(resource), "{path}");
            assert_eq!(resource.to_string(), path);
        }
    }

    #[test]
    fn what_is_written_in_another_way_is_no_path() {
        for path in [
            "",
            "/",
            "checkpoint",
            "/checkpoint/",
            "/Checkpoint",
            "/tile",
            "/tile/",
            "/tile/0",
            "/tile/0/",
            "/tile/0/0",
            "/tile/0/00",
            "/tile/0/0000",
            "/tile/00/000",
            "/tile/64/000",
            "/tile/256/000",
            "/tile/-1/000",
            "/tile/+1/000",
            "/tile/0/+00",
            "/tile/0/x000/000",
            "/tile/0/x000",
            "/tile/0/001/000",
            "/tile/0/x1/000",
            "/tile/0/x001/x000",
            "/tile/0/1000",
            "/tile/0/000.p",
            "/tile/0/000.p/",
            "/tile/0/000.p/0",
            "/tile/0/000.p/01",
            "/tile/0/000.p/+1",
            "/tile/0/000.p/256",
            "/tile/0/000.p/1/",
            "/tile/0/000.p/1.p/1",
            "/tile/entries",
            "/tile/entries/0",
            "/tile/data/000",
            "/tile/0/000/",
            "//tile/0/000",
            "/tile//000",
            "/tile/0/../checkpoint",
            "/tile/0/x018/x446/x744/x073/x709/x551/616",
            "/tile/0/٠٠٠",
            "/tile/0/%30",
        ] {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
        assert_eq!(Resource::parse(&format!("/tile/0/{}000", "x000/".repeat(10_000))), None);
    }
}
