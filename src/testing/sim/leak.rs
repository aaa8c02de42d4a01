//! I5: no byte of plaintext, name or key leaves the owner's side.
//!
//! Every secret of a run contains an eight-byte needle: contents and names are made around one, data keys
//! and derived keys give their first bytes. Whatever leaves a client, and whatever rests on a node, is
//! searched for all of them at once. Ciphertext has a given needle by chance once in 2^64 places.

use std::collections::BTreeMap;

/// Eight bytes that may not be seen.
pub type Needle = [u8; 8];

/// Finds needles in bytes, in one pass however many there are.
#[derive(Debug)]
pub struct LeakDetector {
    needles: BTreeMap<u64, &'static str>,
    /// Whether any needle ends in these two bytes: rules almost every place out.
    filter: Vec<bool>,
}

impl Default for LeakDetector {
    fn default() -> Self {
        Self { needles: BTreeMap::new(), filter: vec![false; 1 << 16] }
    }
}

impl LeakDetector {
    /// Watches for a needle.
    pub fn watch(&mut self, needle: Needle, what: &'static str) {
        let value = u64::from_be_bytes(needle);
        self.needles.insert(value, what);
        self.filter[usize::from(low_bits(value))] = true;
    }

    /// Watches for the first bytes of a secret of at least eight.
    ///
    /// # Panics
    /// If it is shorter.
    pub fn watch_secret(&mut self, secret: &[u8], what: &'static str) {
        let Some(needle) = secret.first_chunk() else { panic!("a secret of {} bytes", secret.len()) };
        self.watch(*needle, what);
    }

    /// What secret the bytes show, if any.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        let mut window = 0_u64;
        for (at, byte) in bytes.iter().enumerate() {
            window = window << 8 | u64::from(*byte);
            if self.filter[usize::from(low_bits(window))]
                && at >= 7
                && let Some(what) = self.needles.get(&window)
            {
                return Some(what);
            }
        }
        None
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
const fn low_bits(window: u64) -> u16 {
    window as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_is_found_wherever_it_is() {
        let mut detector = LeakDetector::default();
        detector.watch(*b"password", "a word");
        detector.watch_secret(b"12345678 and more", "a number");
        for at in 0..20 {
            let mut bytes = vec![b'x'; 40];
            assert_eq!(detector.find(&bytes), None);
            bytes[at..at + 8].copy_from_slice(b"password");
            assert_eq!(detector.find(&bytes), Some("a word"));
            assert_eq!(detector.find(&bytes[..at + 7]), None);
        }
        assert_eq!(detector.find(b"0123456789"), Some("a number"));
    }
}
