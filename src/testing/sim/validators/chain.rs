//! Blocks of a ledger that has one rule: a block says of itself whether it is valid.

use bytes::Bytes;

use crate::testing::sim::rng::Rng;
use crate::types::{BlockId, Height};

/// Height, previous block, nonce, validity, hash of the body.
const HEADER_LEN: usize = 8 + 32 + 8 + 1 + 32;

/// Makes a block. The id is that of its header, so the body may be exchanged: as in the real ledger.
pub(super) fn make(height: Height, previous: BlockId, nonce: u64, valid: bool) -> (BlockId, Bytes) {
    let mut body = vec![0; Rng::new(nonce).index(600)];
    Rng::new(nonce).fill(&mut body);
    let mut block = Vec::with_capacity(HEADER_LEN + body.len());
    block.extend_from_slice(&height.0.to_le_bytes());
    block.extend_from_slice(&previous.0);
    block.extend_from_slice(&nonce.to_le_bytes());
    block.push(u8::from(valid));
    block.extend_from_slice(blake3::hash(&body).as_bytes());
    let id = BlockId(*blake3::hash(&block).as_bytes());
    block.extend_from_slice(&body);
    (id, block.into())
}

/// Whether these bytes are the valid block of this id at this place.
pub(super) fn check(block: &[u8], id: BlockId, height: Height, previous: BlockId) -> bool {
    let Some((header, body)) = block.split_at_checked(HEADER_LEN) else { return false };
    id.0 == *blake3::hash(header).as_bytes()
        && header[..8] == height.0.to_le_bytes()
        && header[8..40] == previous.0
        && header[48] == 1
        && header[49..] == *blake3::hash(body).as_bytes()
}
