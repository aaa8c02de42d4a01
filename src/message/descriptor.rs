//! The descriptor: what is public about a segment.

use prost::Message as _;

use crate::message::generated as wire_format;
use crate::message::{Violation, wire};
use crate::types::limits::MAX_SEGMENT_LEN;
use crate::types::{Code, Hash, PublicKey, SegmentId};

/// Public description of a segment: its code, length, shard roots, and which node holds which shard.
///
/// Invariant: `roots.len() == holders.len() == code.total()`, `1 <= len <= MAX_SEGMENT_LEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The segment.
    pub segment: SegmentId,
    /// How it is coded.
    pub code: Code,
    /// Ciphertext bytes, without the zeros that fill the last stripe.
    pub len: u64,
    /// BLAKE3 root of each shard, by index.
    pub roots: Vec<Hash>,
    /// The node that holds each shard, by index; `None` where no node does.
    pub holders: Vec<Option<PublicKey>>,
}

impl Descriptor {
    /// Takes over the holders that are known elsewhere; what is not known there stays. Whether anything changed.
    pub fn learn(&mut self, holders: &[Option<PublicKey>]) -> bool {
        let before = self.holders.clone();
        for (known, told) in self.holders.iter_mut().zip(holders) {
            *known = told.or(*known);
        }
        self.holders != before
    }

    /// The protobuf bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        wire_format::Descriptor {
            segment: self.segment.0.to_vec(),
            k: count(self.code.k()),
            m: count(self.code.m()),
            len: self.len,
            roots: self.roots.iter().map(|root| root.0.to_vec()).collect(),
            holders: self.holders.iter().map(|key| key.map_or_else(Vec::new, |key| key.0.to_vec())).collect(),
        }
        .encode_to_vec()
    }

    /// Reads and checks a descriptor.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if it is not the schema's, or a key, root or id has a wrong length;
    /// [`Violation::OutOfBounds`] if the code, the length or the number of shards is not allowed.
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let found: wire_format::Descriptor = wire::decode_header(bytes)?;
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let code = Code::new(count(found.k), count(found.m)).map_err(|_| Violation::OutOfBounds)?;
        wire::within((1..=MAX_SEGMENT_LEN).contains(&found.len))?;
        wire::within(found.roots.len() == code.total() && found.holders.len() == code.total())?;
        Ok(Self {
            segment: wire::segment(&found.segment)?,
            code,
            len: found.len,
            roots: found.roots.iter().map(|root| wire::hash(root)).collect::<Result<_, _>>()?,
            holders: found.holders.iter().map(|key| wire::optional_key(key)).collect::<Result<_, _>>()?,
        })
    }
}
