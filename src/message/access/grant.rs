//! A grant: whom a vault's owner lets in, into what, from when until when.

use crate::message::Violation;
use crate::message::access::emergency::EmergencyPolicy;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::types::limits::MAX_GRANT_SCOPES;
use crate::types::{GrantId, Hash, PublicKey, ScopeTag, Timestamp, VaultId};

/// What who holds a grant may do: one thing at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Open records.
    pub const READ: Self = Self(1);
    /// Bring records.
    pub const APPEND: Self = Self(2);
    /// See which records there are.
    pub const LIST: Self = Self(4);
    const ALL: u8 = 7;

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether these include others.
    #[must_use]
    pub const fn include(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::fmt::Display for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = [(Self::READ, "read"), (Self::APPEND, "append"), (Self::LIST, "list")];
        let held: Vec<&str> =
            named.iter().filter(|(right, _)| self.include(*right)).map(|(_, name)| *name).collect();
        f.write_str(&held.join(", "))
    }
}

impl Canonical for Rights {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(self.0);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        match u8::read(from)? {
            0 => Err(Violation::OutOfBounds),
            bits if bits & !Self::ALL != 0 => Err(Violation::Malformed),
            bits => Ok(Self(bits)),
        }
    }
}

/// A scope in a grant, in some of its generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedScope {
    /// The scope.
    pub scope: ScopeTag,
    /// The first generation.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

/// A grant. Its author is the vault's owner, whose signature of the transaction covers all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The vault.
    pub vault: VaultId,
    /// The grant.
    pub grant: GrantId,
    /// The key of the one who is let in: made for this grant, so that two grants do not show whether they are one person's.
    pub grantee: PublicKey,
    /// The scopes, ascending.
    pub scopes: Vec<GrantedScope>,
    /// What may be done in them.
    pub rights: Rights,
    /// From when on.
    pub not_before: Timestamp,
    /// Until before when.
    pub expires: Timestamp,
    /// Records that may be opened in a day, by each static node's count; none for as many as one likes.
    pub quota: Option<u32>,
    /// Ciphertext bytes that may be brought in all; there with [`Rights::APPEND`] and only then.
    pub append_bytes: Option<u64>,
    /// BLAKE3 of the sealed body, which has the keys.
    pub body: Hash,
    /// If it opens in emergencies only: under which terms.
    pub emergency: Option<EmergencyPolicy>,
}

impl Grant {
    /// Whether the grant lets a right be used on a scope.
    #[must_use]
    pub fn covers(&self, right: Rights, scope: &ScopeTag, generation: u32) -> bool {
        let matches = |granted: &&GrantedScope| granted.scope == *scope;
        let range = self.scopes.iter().find(matches).map(|granted| granted.first..=granted.last);
        self.rights.include(right) && range.is_some_and(|range| range.contains(&generation))
    }

    /// Whether it is in its time.
    #[must_use]
    pub fn is_in_time(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.expires
    }
}

impl Canonical for GrantedScope {
    fn write(&self, to: &mut Vec<u8>) {
        self.scope.write(to);
        self.first.write(to);
        self.last.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            scope: Canonical::read(from)?,
            first: Canonical::read(from)?,
            last: Canonical::read(from)?,
        };
        if found.first <= found.last { Ok(found) } else { Err(Violation::OutOfBounds) }
    }
}

impl Canonical for Grant {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.grant.write(to);
        self.grantee.write(to);
        write_list(&self.scopes, to);
        self.rights.write(to);
        self.not_before.write(to);
        self.expires.write(to);
        self.quota.write(to);
        self.append_bytes.write(to);
        self.body.write(to);
        self.emergency.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            vault: Canonical::read(from)?,
            grant: Canonical::read(from)?,
            grantee: Canonical::read(from)?,
            scopes: read_list(from, MAX_GRANT_SCOPES)?,
            rights: Canonical::read(from)?,
            not_before: Canonical::read(from)?,
            expires: Canonical::read(from)?,
            quota: Canonical::read(from)?,
            append_bytes: Canonical::read(from)?,
            body: Canonical::read(from)?,
            emergency: Canonical::read(from)?,
        };
        if found.scopes.is_empty() || found.not_before >= found.expires || found.quota == Some(0) {
            return Err(Violation::OutOfBounds);
        }
        // Who brings something in is known by its own key, which a card is not.
        let may_append = found.rights.include(Rights::APPEND);
        let is_bounded = found.append_bytes.is_some_and(|bytes| bytes > 0);
        if may_append != is_bounded || (may_append && found.emergency.is_some()) {
            return Err(Violation::OutOfBounds);
        }
        let is_ordered = found.scopes.is_sorted_by(|one, next| one.scope < next.scope);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}
