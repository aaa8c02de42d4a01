//! Identifiers: fixed-length byte strings, shown in lower-case hex (versions: Crockford base 32).

use std::fmt;
use std::str::FromStr;

use crate::types::Timestamp;

/// Text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: expected {expected}")]
pub struct ParseIdError {
    /// The word of the identifier, for example "segment id".
    pub what: &'static str,
    /// The form that would have been accepted.
    pub expected: &'static str,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The bytes of the identifier.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Reads an identifier from exactly 32 bytes; `None` for any other length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The first eight hex digits: enough to tell a handful apart on a screen.
            #[must_use]
            pub fn short(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                data_encoding::HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| Self::from_slice(&bytes))
                    .ok_or(ParseIdError { what: $what, expected: "64 hex digits" })
            }
        }
    };
}

hex_id!(
    /// A network: random, made when the network is created; every signed statement names it.
    NetworkId,
    "network id"
);
hex_id!(
    /// A segment: random, chosen by the client that codes it, so that it tells nothing of the content.
    SegmentId,
    "segment id"
);
hex_id!(
    /// An Ed25519 public key: the identity of a storage node or of a vault's owner.
    PublicKey,
    "public key"
);
hex_id!(
    /// A BLAKE3 output: the root of a shard or a chaining value of its tree.
    Hash,
    "hash"
);
hex_id!(
    /// A block: the domain-separated BLAKE3 of its encoded header.
    BlockId,
    "block id"
);

hex_id!(
    /// A vault: random, chosen by its owner, registered on the ledger.
    VaultId,
    "vault id"
);
hex_id!(
    /// A collection as the ledger knows it: a keyed hash of its name, so that the ledger learns no name.
    CollectionTag,
    "collection tag"
);

impl CollectionTag {
    /// Stands for the segments of deposits that no collection has yet; no collection has this tag.
    pub const INBOX: Self = Self([0; 32]);
}

hex_id!(
    /// A transaction: domain-separated BLAKE3 of its signed bytes. A collection's head is one of these.
    TransactionId,
    "transaction id"
);
hex_id!(
    /// A SHA-256 hash in a tree of RFC 6962: the transparency log, or the version commitments of an anchor.
    LogHash,
    "log hash"
);

/// One immutable state of a record: 48 bits of Unix milliseconds, then 80 random bits (a ULID).
///
/// The time is for people who read it; the order of versions is the order of commits in the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub [u8; 16]);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl VersionId {
    /// Builds a version id from the time of its creation and ten random bytes.
    #[must_use]
    pub fn new(created: Timestamp, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&created.unix_millis().to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        Self(bytes)
    }

    /// The bytes of the identifier.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads an identifier from exactly 16 bytes; `None` for any other length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u128::from_be_bytes(self.0);
        for digit in (0..26).rev() {
            let value = (number >> (digit * 5)) & 31;
            let symbol = usize::try_from(value).map_or(b'0', |at| CROCKFORD[at]);
            fmt::Write::write_char(f, char::from(symbol))?;
        }
        Ok(())
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionId({self})")
    }
}

impl FromStr for VersionId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = ParseIdError {
            what: "version id",
            expected: "26 characters of Crockford base 32, as `versions` prints them",
        };
        if text.len() != 26 {
            return Err(wrong);
        }
        let mut number: u128 = 0;
        for (at, symbol) in text.bytes().enumerate() {
            let upper = symbol.to_ascii_uppercase();
            let Some(value) = CROCKFORD.iter().position(|&c| c == upper) else {
                return Err(wrong);
            };
            // 26 digits carry 130 bits: the first may only use its low three.
            if at == 0 && value > 7 {
                return Err(wrong);
            }
            number = (number << 5) | value as u128;
        }
        Ok(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_id_survives_its_text_form() {
        for bytes in [[0; 16], [0xff; 16], *b"0123456789abcdef"] {
            let id = VersionId(bytes);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        }
    }

    #[test]
    fn a_version_id_sorts_by_time_in_both_forms() {
        let early = VersionId::new(Timestamp::from_unix_millis(1_000), [0xff; 10]);
        let late = VersionId::new(Timestamp::from_unix_millis(1_001), [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn text_that_is_not_an_id_is_refused() {
        for text in ["", "0", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0000000000000000000000000U"] {
            assert!(text.parse::<VersionId>().is_err(), "{text}");
        }
        for text in ["", "zz", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64)] {
            assert!(text.parse::<SegmentId>().is_err(), "{text}");
        }
        assert_eq!("ab".repeat(32).parse(), Ok(Hash([0xab; 32])));
    }
}
