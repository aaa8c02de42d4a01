//! Names of collections and records, and the `xv://collection/name` form that addresses them.

use std::fmt;
use std::str::FromStr;

use crate::types::limits::{MAX_COLLECTION_NAME_LEN, MAX_RECORD_NAME_LEN};

/// Why a name is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("a name may not be empty")]
    Empty,
    /// Longer than the limit.
    #[error("a name of {len} bytes is too long: at most {max} are allowed")]
    TooLong {
        /// Bytes of the refused name.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The bytes are not UTF-8.
    #[error("a name must be UTF-8: byte {at} is not")]
    NotUtf8 {
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// It has a NUL, which no file system and no protocol could carry back.
    #[error("a name may not contain a NUL byte")]
    Nul,
    /// A collection name has a character outside `a-z 0-9 . _ -` or does not begin with a letter or digit.
    #[error(
        "a collection name uses a-z, 0-9, '.', '_' and '-' and begins with a letter or digit: {0:?} does not"
    )]
    Collection(String),
    /// Not an address.
    #[error("not an address: expected xv://COLLECTION/NAME, found {0:?}")]
    Address(String),
}

/// A named part of a vault: 1 to 63 bytes of `a-z 0-9 . _ -`, first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(String);

impl CollectionName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CollectionName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_COLLECTION_NAME_LEN {
            return Err(NameError::TooLong { len: text.len(), max: MAX_COLLECTION_NAME_LEN });
        }
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = text.bytes().all(|c| plain(c) || matches!(c, b'.' | b'_' | b'-'));
        if !fits || !text.bytes().next().is_some_and(plain) {
            return Err(NameError::Collection(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a record in its collection: 1 to 1,024 bytes of UTF-8 without NUL, any slashes.
///
/// As in S3 a name is not a path: `a//b`, `../x` and `a\nb` are names like others. Whoever makes
/// files of them (`get` into a folder) must refuse those that would leave the folder, and whoever shows
/// them to people must escape what moves a terminal's cursor or hides text; what is for programs has them as they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordName(String);

impl RecordName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a name from bytes that may not be UTF-8.
    ///
    /// # Errors
    /// [`NameError`] says which rule the name breaks.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => text.parse(),
            Err(wrong) => Err(NameError::NotUtf8 { at: wrong.valid_up_to() }),
        }
    }
}

impl FromStr for RecordName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_RECORD_NAME_LEN {
            return Err(NameError::TooLong { len: text.len(), max: MAX_RECORD_NAME_LEN });
        }
        if text.contains('\0') {
            return Err(NameError::Nul);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address `xv://COLLECTION/REST`; REST is a record name, a prefix of names, or empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPath {
    /// The collection addressed.
    pub collection: CollectionName,
    /// What follows the slash after the collection; may be empty.
    pub rest: String,
}

impl RecordPath {
    /// The text before the collection in every address.
    pub const SCHEME: &'static str = "xv://";

    /// The rest as the name of a record.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, too long or has a NUL.
    pub fn record_name(&self) -> Result<RecordName, NameError> {
        self.rest.parse()
    }
}

impl FromStr for RecordPath {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let rest = text.strip_prefix(Self::SCHEME).ok_or_else(|| NameError::Address(text.to_owned()))?;
        let (collection, rest) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.len() > MAX_RECORD_NAME_LEN {
            return Err(NameError::TooLong { len: rest.len(), max: MAX_RECORD_NAME_LEN });
        }
        if rest.contains('\0') {
            return Err(NameError::Nul);
        }
        Ok(Self { collection: collection.parse()?, rest: rest.to_owned() })
    }
}

impl fmt::Display for RecordPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/{}", Self::SCHEME, self.collection, self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_names_are_bounded_utf8_without_nul() {
        assert!(RecordName::from_str(&"n".repeat(1_024)).is_ok());
        assert_eq!(
            RecordName::from_str(&"n".repeat(1_025)),
            Err(NameError::TooLong { len: 1_025, max: 1_024 })
        );
        assert_eq!(RecordName::from_str(""), Err(NameError::Empty));
        assert_eq!(RecordName::from_str("a\0b"), Err(NameError::Nul));
        assert_eq!(RecordName::from_bytes(b"ab\xff"), Err(NameError::NotUtf8 { at: 2 }));
        for name in ["..", "../x", "a\nb", "a//b", " ", "ünï"] {
            assert!(name.parse::<RecordName>().is_ok(), "{name:?}");
        }
    }

    #[test]
    fn collection_names_are_plain() {
        for name in ["a", "clinic-2026", "a.b_c", "0"] {
            assert!(name.parse::<CollectionName>().is_ok(), "{name}");
        }
        for name in ["", "A", "-a", ".a", "a/b", "a b", "ü", &"a".repeat(64)] {
            assert!(name.parse::<CollectionName>().is_err(), "{name}");
        }
    }

    #[test]
    fn addresses_split_at_the_first_slash() {
        let path: RecordPath = "xv://clinic/2026/scan.dcm".parse().unwrap();
        assert_eq!((path.collection.as_str(), path.rest.as_str()), ("clinic", "2026/scan.dcm"));
        assert_eq!(path.to_string(), "xv://clinic/2026/scan.dcm");
        assert_eq!("xv://clinic".parse::<RecordPath>().unwrap().rest, "");
        assert!(matches!("clinic/x".parse::<RecordPath>(), Err(NameError::Address(_))));
        assert!("xv://".parse::<RecordPath>().is_err());
    }
}
