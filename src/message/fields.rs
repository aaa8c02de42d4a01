//! Fields of the fixed encodings: what is signed or hashed has exactly one form.
//!
//! Numbers are little endian, keys and hashes plain, what varies has its length or count before it.

use crate::message::Violation;
use crate::types::{BlockId, Hash, Height, NetworkId, PublicKey, Round};

/// Takes the fields of an encoding one after the other; nothing may be left at the end.
#[derive(Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// All of the bytes are still to be taken.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Violation::Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if there are fewer.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Violation::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    /// All bytes that are left.
    pub const fn rest(&mut self) -> &'a [u8] {
        let rest = self.0;
        self.0 = &[];
        rest
    }

    /// The next byte.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn byte(&mut self) -> Result<u8, Violation> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A yes or no; only 0 and 1 are.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for another byte.
    pub fn flag(&mut self) -> Result<bool, Violation> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Violation::Malformed),
        }
    }

    /// A number of four bytes.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of eight bytes.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of two bytes, of at most `most`.
    ///
    /// # Errors
    /// [`Violation::OutOfBounds`] if it is more.
    pub fn count(&mut self, most: usize) -> Result<usize, Violation> {
        let count = usize::from(u16::from_le_bytes(self.array()?));
        if count > most { Err(Violation::OutOfBounds) } else { Ok(count) }
    }

    /// A network.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn network(&mut self) -> Result<NetworkId, Violation> {
        self.array().map(NetworkId)
    }

    /// A key.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn key(&mut self) -> Result<PublicKey, Violation> {
        self.array().map(PublicKey)
    }

    /// A hash.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn hash(&mut self) -> Result<Hash, Violation> {
        self.array().map(Hash)
    }

    /// The height of a block: not of the genesis, about which nothing is voted.
    ///
    /// # Errors
    /// [`Violation::OutOfBounds`] for 0.
    pub fn height(&mut self) -> Result<Height, Violation> {
        match self.u64()? {
            0 => Err(Violation::OutOfBounds),
            height => Ok(Height(height)),
        }
    }

    /// A round.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub fn round(&mut self) -> Result<Round, Violation> {
        self.u32().map(Round)
    }

    /// A block, or none: then 32 zeros stand in its place, so that the field has one length.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for anything else there.
    pub fn optional_block(&mut self) -> Result<Option<BlockId>, Violation> {
        let (there, id) = (self.flag()?, BlockId(self.array()?));
        match there {
            true => Ok(Some(id)),
            false if id == BlockId([0; 32]) => Ok(None),
            false => Err(Violation::Malformed),
        }
    }

    /// A round, or none: then a zero stands in its place.
    ///
    /// # Errors
    /// [`Violation::Malformed`] for anything else there.
    pub fn optional_round(&mut self) -> Result<Option<Round>, Violation> {
        let (there, round) = (self.flag()?, self.round()?);
        match there {
            true => Ok(Some(round)),
            false if round == Round(0) => Ok(None),
            false => Err(Violation::Malformed),
        }
    }

    /// Nothing is left.
    ///
    /// # Errors
    /// [`Violation::Malformed`] if something is.
    pub const fn end(self) -> Result<(), Violation> {
        if self.0.is_empty() { Ok(()) } else { Err(Violation::Malformed) }
    }
}

/// Writes what [`Fields::optional_block`] reads.
pub fn put_optional_block(out: &mut Vec<u8>, block: Option<BlockId>) {
    out.push(u8::from(block.is_some()));
    out.extend_from_slice(&block.map_or([0; 32], |id| id.0));
}

/// Writes what [`Fields::optional_round`] reads.
pub fn put_optional_round(out: &mut Vec<u8>, round: Option<Round>) {
    out.push(u8::from(round.is_some()));
    out.extend_from_slice(&round.unwrap_or_default().0.to_le_bytes());
}

/// Writes what [`Fields::count`] reads.
///
/// # Panics
/// If it is more than 65,535: no list here is as long.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or_else(|_| panic!("a list of {count}"));
    out.extend_from_slice(&count.to_le_bytes());
}
