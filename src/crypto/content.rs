//! The content hash: plain BLAKE3 of a record's bytes, computed over its chunks side by side.
//!
//! A chunk of [`BODY_SEGMENT_PLAIN_LEN`] bytes is a whole subtree of BLAKE3's tree, so each is hashed where it is sealed,
//! on any core, and the subtrees are merged at the end (BLAKE3 paper, section 2.1).

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::types::Hash;
use crate::types::limits::BODY_SEGMENT_PLAIN_LEN;

/// What the hash of a record needs of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHash {
    /// Of the chunk as a part of a longer record.
    subtree: ChainingValue,
    /// Of the chunk as a whole record.
    alone: Hash,
}

impl ChunkHash {
    /// Hashes the `number`th chunk of a record, padding excluded, given in pieces.
    #[must_use]
    pub fn of<'a>(number: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(number * BODY_SEGMENT_PLAIN_LEN as u64);
        for piece in pieces {
            hasher.update(piece);
        }
        let subtree = hasher.finalize_non_root();
        let alone = if number == 0 { hasher.finalize().into() } else { [0; 32] };
        Self { subtree, alone: Hash(alone) }
    }
}

/// BLAKE3 of a record from its chunks in order: all but the last have [`BODY_SEGMENT_PLAIN_LEN`] bytes, and the last is
/// not empty unless it is the only one.
#[must_use]
pub fn content_hash(chunks: &[ChunkHash]) -> Hash {
    match chunks {
        [] => Hash(blake3::hash(&[]).into()),
        [only] => only.alone,
        _ => {
            let (left, right) = halves(chunks);
            Hash(merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).into())
        }
    }
}

fn subtree(chunks: &[ChunkHash]) -> ChainingValue {
    match chunks {
        [only] => only.subtree,
        _ => {
            let (left, right) = halves(chunks);
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// The left subtree is the largest whole one that leaves something for the right.
fn halves(chunks: &[ChunkHash]) -> (&[ChunkHash], &[ChunkHash]) {
    chunks.split_at(chunks.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hash_to_what_the_whole_hashes_to() {
        const CHUNK: usize = BODY_SEGMENT_PLAIN_LEN;
        let bytes: Vec<u8> =
            (0..5 * CHUNK + 1).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect();
        let lens = [
            0,
            1,
            1_023,
            1_025,
            CHUNK - 1,
            CHUNK,
            CHUNK + 1,
            2 * CHUNK,
            3 * CHUNK - 7,
            4 * CHUNK,
            5 * CHUNK + 1,
        ];
        for len in lens {
            let chunks: Vec<_> = (0..)
                .zip(bytes[..len].chunks(CHUNK))
                .map(|(number, chunk)| ChunkHash::of(number, chunk.chunks(65_536)))
                .collect();
            assert_eq!(content_hash(&chunks), Hash(blake3::hash(&bytes[..len]).into()), "{len} bytes");
        }
    }
}
