//! The fixed encoding of everything that is signed, hashed or kept on the ledger.
//!
//! Numbers are little endian, fixed-length fields stand side by side, a list or text is preceded by its
//! length (u16), an option by 0 or 1. A value has one encoding and bytes have one value: what is left
//! over, out of bounds or not in its order is refused.

use crate::message::Violation;
use crate::types::{
    BatchId, BlockId, CollectionTag, GrantId, Hash, Height, LogHash, NetworkId, PublicKey, RecordTag, Round,
    ScopeTag, SegmentId, Timestamp, TransactionId, VaultId,
};

/// A value with one encoding.
pub trait Canonical: Sized {
    /// Appends the encoding.
    fn write(&self, to: &mut Vec<u8>);

    /// Reads one value and leaves the bytes after it.
    ///
    /// # Errors
    /// [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    fn read(from: &mut &[u8]) -> Result<Self, Violation>;

    /// The encoding.
    #[must_use]
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// Reads a value that is all there is.
    ///
    /// # Errors
    /// As [`Self::read`], and [`Violation::Malformed`] if bytes are left.
    fn decode(mut bytes: &[u8]) -> Result<Self, Violation> {
        let value = Self::read(&mut bytes)?;
        if bytes.is_empty() { Ok(value) } else { Err(Violation::Malformed) }
    }
}

/// Takes the next bytes.
pub(crate) fn take<'a>(from: &mut &'a [u8], len: usize) -> Result<&'a [u8], Violation> {
    let (head, rest) = from.split_at_checked(len).ok_or(Violation::Malformed)?;
    *from = rest;
    Ok(head)
}

impl<const N: usize> Canonical for [u8; N] {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let (head, rest) = from.split_first_chunk().ok_or(Violation::Malformed)?;
        *from = rest;
        Ok(*head)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Canonical for $number {
            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn read(from: &mut &[u8]) -> Result<Self, Violation> {
                Canonical::read(from).map(Self::from_le_bytes)
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64);

macro_rules! wrappers {
    ($($name:ident),*) => {$(
        impl Canonical for $name {
            fn write(&self, to: &mut Vec<u8>) {
                self.0.write(to);
            }

            fn read(from: &mut &[u8]) -> Result<Self, Violation> {
                Canonical::read(from).map(Self)
            }
        }
    )*};
}

wrappers!(
    BlockId,
    CollectionTag,
    Hash,
    LogHash,
    NetworkId,
    PublicKey,
    SegmentId,
    TransactionId,
    VaultId,
    Height,
    Round,
    BatchId,
    GrantId,
    RecordTag,
    ScopeTag
);

impl Canonical for Timestamp {
    fn write(&self, to: &mut Vec<u8>) {
        self.unix_micros().write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Canonical::read(from).map(Self::from_unix_micros)
    }
}

impl Canonical for bool {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(*self));
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        match u8::read(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Violation::Malformed),
        }
    }
}

impl<T: Canonical> Canonical for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        bool::read(from)?.then(|| T::read(from)).transpose()
    }
}

/// Writes a list of at most `u16::MAX` values, which every limit here keeps.
pub(crate) fn write_list<T: Canonical>(list: &[T], to: &mut Vec<u8>) {
    write_len(list.len(), to);
    list.iter().for_each(|value| value.write(to));
}

/// Reads a list of at most `max` values.
pub(crate) fn read_list<T: Canonical>(from: &mut &[u8], max: usize) -> Result<Vec<T>, Violation> {
    let len = read_len(from, max)?;
    (0..len).map(|_| T::read(from)).collect()
}

/// Writes bytes or text of at most `u16::MAX` bytes.
pub(crate) fn write_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    write_len(bytes.len(), to);
    to.extend_from_slice(bytes);
}

/// Reads at most `max` bytes.
pub(crate) fn read_bytes(from: &mut &[u8], max: usize) -> Result<Vec<u8>, Violation> {
    let len = read_len(from, max)?;
    take(from, len).map(<[u8]>::to_vec)
}

/// Writes bytes of any length, which is a `u32` before them.
pub(crate) fn write_long(bytes: &[u8], to: &mut Vec<u8>) {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).write(to);
    to.extend_from_slice(bytes);
}

/// Reads what [`write_long`] wrote, of at most `max` bytes.
pub(crate) fn read_long(from: &mut &[u8], max: usize) -> Result<Vec<u8>, Violation> {
    let len = usize::try_from(u32::read(from)?).map_err(|_| Violation::OutOfBounds)?;
    if len > max {
        return Err(Violation::OutOfBounds);
    }
    take(from, len).map(<[u8]>::to_vec)
}

/// Reads text of 1 to `max` bytes that people and log clients can be shown: ASCII letters, digits and
/// `. _ - :` only, so that no name needs quoting anywhere.
pub(crate) fn read_label(from: &mut &[u8], max: usize) -> Result<String, Violation> {
    let text = String::from_utf8(read_bytes(from, max)?).map_err(|_| Violation::Malformed)?;
    if is_label(&text, max) { Ok(text) } else { Err(Violation::OutOfBounds) }
}

/// Whether [`read_label`] would take the text.
pub(crate) fn is_label(text: &str, max: usize) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    (1..=max).contains(&text.len()) && text.chars().all(plain)
}

/// # Panics
/// If there are more than `u16::MAX`: a bug, since every list is bounded where it is built.
fn write_len(len: usize, to: &mut Vec<u8>) {
    u16::try_from(len).unwrap_or_else(|_| panic!("a list of {len}")).write(to);
}

fn read_len(from: &mut &[u8], max: usize) -> Result<usize, Violation> {
    let len = usize::from(u16::read(from)?);
    if len <= max { Ok(len) } else { Err(Violation::OutOfBounds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_encoding() {
        assert_eq!(Option::<u16>::decode(&[1, 2, 0]), Ok(Some(2)));
        assert_eq!(Option::<u16>::decode(&[0]), Ok(None));
        assert_eq!(Option::<u16>::decode(&[2, 2, 0]), Err(Violation::Malformed));
        assert_eq!(Option::<u16>::decode(&[0, 0]), Err(Violation::Malformed));
        assert_eq!(u64::decode(&[0; 7]), Err(Violation::Malformed));
    }

    #[test]
    fn lists_and_labels_are_bounded() {
        let list = |bytes: &[u8]| read_list::<u8>(&mut &*bytes, 2);
        assert_eq!(list(&[2, 0, 7, 8]), Ok(vec![7, 8]));
        assert_eq!(list(&[3, 0, 7, 8, 9]), Err(Violation::OutOfBounds));
        assert_eq!(list(&[2, 0, 7]), Err(Violation::Malformed));
        let label = |text: &str| {
            let mut bytes = Vec::new();
            write_bytes(text.as_bytes(), &mut bytes);
            read_label(&mut &bytes[..], 8)
        };
        assert_eq!(label("a.b_c-1"), Ok("a.b_c-1".into()));
        for wrong in ["", "a b", "a\n", "a+b", "ä", "123456789"] {
            assert!(label(wrong).is_err(), "{wrong:?}");
        }
    }
}
