//! Where the header of a version is.

use crate::types::SegmentId;

/// Where the sealed header frame of a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locator {
    /// The segment.
    pub segment: SegmentId,
    /// Offset in the segment's ciphertext.
    pub offset: u64,
    /// Ciphertext bytes.
    pub len: u32,
    /// With the data key it gives the header frame's key.
    pub salt: [u8; 16],
}
