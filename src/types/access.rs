//! The words of access: scopes, days, keyslots and places in a sharing.

use std::fmt;
use std::str::FromStr;

use crate::types::limits::{MAX_COMMITTEE, MAX_SCOPE_PATH_LEN};
use crate::types::{NetworkId, Timestamp, VaultId, VersionId};

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The bytes of the identifier.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), data_encoding::HEXLOWER.encode(&self.0[..4]))
            }
        }
    };
}

opaque_id!(
    /// A scope as the ledger and the static nodes know it: a keyed hash of its path.
    ScopeTag
);
opaque_id!(
    /// A record as the static nodes know it. It tells nothing of the record's name.
    RecordTag
);

opaque_id!(
    /// A grant. The owner draws it at random.
    GrantId
);
opaque_id!(
    /// A batch of record entries. Whoever writes it draws it at random.
    BatchId
);

/// Why text is not a scope's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope's path has 1 to {MAX_SCOPE_PATH_LEN} bytes and no NUL: this has {len} bytes")]
pub struct ScopePathError {
    /// Bytes of the refused text.
    pub len: usize,
}

/// What the owner calls a scope: a collection, a label, a single record, a bundle. Only who is let in sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopePath(String);

impl ScopePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ScopePath {
    type Err = ScopePathError;
    fn from_str(text: &str) -> Result<Self, ScopePathError> {
        let sound = (1..=MAX_SCOPE_PATH_LEN).contains(&text.len()) && !text.contains('\0');
        if sound { Ok(Self(text.to_owned())) } else { Err(ScopePathError { len: text.len() }) }
    }
}

impl fmt::Display for ScopePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A day of a record, counted from 2000-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u16);

impl Day {
    /// Microseconds of a day.
    const MICROS: u64 = 86_400_000_000;
    /// The Unix day of day 0.
    const EPOCH: u64 = 10_957;

    /// The day of a time. What is older than day 0 is of day 0, what is later than the last day, in 2179, of the last.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        let day = (time.unix_micros() / Self::MICROS).saturating_sub(Self::EPOCH);
        Self(u16::try_from(day).unwrap_or(u16::MAX))
    }

    /// When it begins.
    #[must_use]
    pub fn start(self) -> Timestamp {
        Timestamp::from_unix_micros((Self::EPOCH + u64::from(self.0)) * Self::MICROS)
    }
}

/// A member's place in a sharing: its position in the committee, counted from 1, as 0 is where the secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareIndex(u8);

impl ShareIndex {
    /// The index of this number; `None` if it is 0 or no committee has so many members.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (1..=MAX_COMMITTEE).contains(&usize::from(number)).then_some(Self(number))
    }

    /// The index of the member at a position in its committee, which counts from 0.
    #[must_use]
    pub fn at(position: usize) -> Option<Self> {
        u8::try_from(position.checked_add(1)?).ok().and_then(Self::new)
    }

    /// The number, from 1.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for ShareIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a keyslot is for: one version of one record, in one generation of one scope. Whoever asks for it and whoever
/// answers build it each from what they know; its bytes are what the vault's PRF is evaluated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// The network.
    pub network: NetworkId,
    /// The vault.
    pub vault: VaultId,
    /// Which of the vault's PRF keys: it counts up when the owner deals a new one.
    pub dealing: u32,
    /// The scope.
    pub scope: ScopeTag,
    /// Generation of the scope: it counts up when somebody loses access.
    pub generation: u32,
    /// The record.
    pub record: RecordTag,
    /// The version of the record.
    pub version: VersionId,
}

impl SlotId {
    /// What the bytes begin with.
    const LABEL: &'static [u8; 11] = b"xvault/v1/b";
    /// Bytes of [`Self::to_bytes`].
    pub const LEN: usize = 11 + 32 + 32 + 4 + 16 + 4 + 16 + 16;

    /// The input of the PRF, called x in the design: the label, then the fields in order, numbers little endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let fields: [&[u8]; 8] = [
            Self::LABEL,
            self.network.as_bytes(),
            self.vault.as_bytes(),
            &self.dealing.to_le_bytes(),
            self.scope.as_bytes(),
            &self.generation.to_le_bytes(),
            self.record.as_bytes(),
            self.version.as_bytes(),
        ];
        let mut bytes = [0; Self::LEN];
        let mut at = 0;
        for field in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_from_2000_and_stay_within_16_bits() {
        let at = |seconds: u64| Day::of(Timestamp::from_unix_micros(seconds * 1_000_000));
        assert_eq!((at(0), at(946_684_799)), (Day(0), Day(0)));
        assert_eq!((at(946_684_800), at(946_771_200)), (Day(0), Day(1)));
        assert_eq!(at(1_795_737_600), Day(9_827), "2026-11-27");
        assert_eq!(Day::of(Timestamp::from_unix_micros(u64::MAX)), Day(u16::MAX));
    }

    #[test]
    fn paths_and_places_are_bounded() {
        assert_eq!("clinic/2026".parse::<ScopePath>().unwrap().to_string(), "clinic/2026");
        assert!("x".repeat(MAX_SCOPE_PATH_LEN).parse::<ScopePath>().is_ok());
        for wrong in ["", "a\0b", &"x".repeat(MAX_SCOPE_PATH_LEN + 1)] {
            assert_eq!(wrong.parse::<ScopePath>(), Err(ScopePathError { len: wrong.len() }));
        }
        assert_eq!(ShareIndex::new(0), None);
        assert_eq!(ShareIndex::at(0), ShareIndex::new(1));
        assert_eq!(ShareIndex::at(MAX_COMMITTEE - 1).map(|at| usize::from(at.get())), Some(MAX_COMMITTEE));
        assert_eq!((ShareIndex::at(MAX_COMMITTEE), ShareIndex::at(usize::MAX)), (None, None));
    }

    #[test]
    fn every_field_of_a_slot_id_is_in_its_bytes() {
        let id = SlotId {
            network: NetworkId([1; 32]),
            vault: VaultId([2; 32]),
            dealing: 3,
            scope: ScopeTag([4; 16]),
            generation: 5,
            record: RecordTag([6; 16]),
            version: VersionId([7; 16]),
        };
        let others = [
            SlotId { network: NetworkId([0; 32]), ..id },
            SlotId { vault: VaultId([0; 32]), ..id },
            SlotId { dealing: 0, ..id },
            SlotId { scope: ScopeTag([0; 16]), ..id },
            SlotId { generation: 0, ..id },
            SlotId { record: RecordTag([0; 16]), ..id },
            SlotId { version: VersionId([0; 16]), ..id },
        ];
        for other in others {
            assert_ne!(id.to_bytes(), other.to_bytes());
        }
        assert!(id.to_bytes().starts_with(b"xvault/v1/b\x01\x01"));
    }
}
