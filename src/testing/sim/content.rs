//! What the clients of a run store: bytes that can be made again and searched for.

use crate::testing::sim::leak::Needle;
use crate::testing::sim::rng::Rng;
use crate::types::RecordName;
use crate::types::limits::FRAME_LEN;

/// In every 64 bytes of every content.
pub const CONTENT_NEEDLE: Needle = *b"xvPlaint";

/// In every record name.
pub const NAME_NEEDLE: Needle = *b"xvRecord";

/// Bytes from one needle to the next; the rest of each block is random.
const BLOCK_LEN: usize = 64;

/// The content of one version: no two blocks of a run are alike, so bytes out of place are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    seed: u64,
    /// Bytes.
    pub len: usize,
}

impl Content {
    /// Content of a random length: mostly small, now and then of several segments, often beside a boundary.
    pub fn random(rng: &mut Rng) -> Self {
        let len = match rng.below(20) {
            0 => rng.index(3),
            1 => FRAME_LEN + rng.index(3) - 1,
            2 => 4 * FRAME_LEN + rng.index(3) - 1,
            3..=12 => rng.index(5_000),
            13..=16 => 40_000 + rng.index(100_000),
            17 | 18 => 200_000 + rng.index(400_000),
            _ => 800_000 + rng.index(800_000),
        };
        Self { seed: rng.bits(), len }
    }

    /// Content of this length.
    pub const fn of_len(len: usize, rng: &mut Rng) -> Self {
        Self { seed: rng.bits(), len }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut rng = Rng::new(self.seed);
        let mut bytes = vec![0; self.len];
        rng.fill(&mut bytes);
        for block in bytes.chunks_mut(BLOCK_LEN) {
            let shown = block.len().min(CONTENT_NEEDLE.len());
            block[..shown].copy_from_slice(&CONTENT_NEEDLE[..shown]);
        }
        bytes
    }
}

/// The name of a client's nth record.
///
/// # Panics
/// Never: the text is a name.
#[must_use]
#[expect(clippy::expect_used, reason = "the text is a name")]
pub fn record_name(nth: u64) -> RecordName {
    format!("{}/{nth}", String::from_utf8_lossy(&NAME_NEEDLE)).parse().expect("a name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sim::leak::LeakDetector;

    #[test]
    fn contents_and_names_show_their_needles_and_repeat() {
        let mut detector = LeakDetector::default();
        detector.watch(CONTENT_NEEDLE, "content");
        detector.watch(NAME_NEEDLE, "name");
        let content = Content { seed: 5, len: 1_000 };
        assert_eq!(content.bytes(), content.bytes());
        assert_ne!(content.bytes(), Content { seed: 6, len: 1_000 }.bytes());
        assert_eq!(detector.find(&content.bytes()[100..200]), Some("content"));
        assert_eq!(detector.find(record_name(7).as_str().as_bytes()), Some("name"));
    }
}
