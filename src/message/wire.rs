//! What the decoders here share: schema, fixed-length fields, bounds and text for people.

use prost::Message;

use crate::message::Violation;
use crate::types::limits::{MAX_MESSAGE_LEN, MAX_SHARDS};
use crate::types::{Hash, PublicKey, SegmentId, VaultId};

/// Bytes of one text for people. Enough for an I/O error with its path.
const MAX_TEXT_LEN: usize = 1_024;

/// Reads a message of any length; the caller bounds it.
pub(super) fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Violation> {
    M::decode(bytes).map_err(|_| Violation::Malformed)
}

/// Reads a message that travelled as a header.
pub(super) fn decode_header<M: Message + Default>(bytes: &[u8]) -> Result<M, Violation> {
    if bytes.len() > MAX_MESSAGE_LEN {
        return Err(Violation::TooLong);
    }
    decode(bytes)
}

/// A field of exactly `N` bytes.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Violation> {
    bytes.try_into().map_err(|_| Violation::Malformed)
}

pub(super) fn vault(bytes: &[u8]) -> Result<VaultId, Violation> {
    array(bytes).map(VaultId)
}

pub(super) fn segment(bytes: &[u8]) -> Result<SegmentId, Violation> {
    array(bytes).map(SegmentId)
}

pub(super) fn hash(bytes: &[u8]) -> Result<Hash, Violation> {
    array(bytes).map(Hash)
}

/// A hash, or none where the field is empty.
pub(super) fn optional_hash(bytes: &[u8]) -> Result<Option<Hash>, Violation> {
    if bytes.is_empty() { Ok(None) } else { hash(bytes).map(Some) }
}

/// A public key, or none where the field is empty.
pub(super) fn optional_key(bytes: &[u8]) -> Result<Option<PublicKey>, Violation> {
    if bytes.is_empty() { Ok(None) } else { array(bytes).map(|key| Some(PublicKey(key))) }
}

/// The index of a shard in its segment.
pub(super) fn shard_index(index: u32) -> Result<u8, Violation> {
    let index = u8::try_from(index).map_err(|_| Violation::OutOfBounds)?;
    within(usize::from(index) < MAX_SHARDS).map(|()| index)
}

/// [`Violation::OutOfBounds`] unless `fits`.
pub(super) fn within(fits: bool) -> Result<(), Violation> {
    if fits { Ok(()) } else { Err(Violation::OutOfBounds) }
}

/// Reads text that a peer wrote for people: bounded, and without the control characters that would
/// let it write over a reader's terminal.
pub(super) fn text(text: String) -> Result<String, Violation> {
    within(text.len() <= MAX_TEXT_LEN && !text.chars().any(char::is_control)).map(|()| text)
}

/// Makes any text one that [`text`] accepts.
pub(super) fn plain_text(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT_LEN);
    // A control character may take two bytes (U+0080..): the space in its place is never longer.
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
