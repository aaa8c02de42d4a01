//! What an owner noted of access: names of scopes, what grants are about. A record of the vault, so that every home of the
//! owner has it, and one that was recovered.

use crate::crypto::access::SUITE;
use crate::message::Violation;
use crate::message::access::body::{MAX_NOTE_LEN, read_text};
use crate::message::access::package::read_suite;
use crate::message::canonical::{Canonical, read_list, write_bytes, write_list};
use crate::types::limits::{MAX_DEFINED_SCOPES, MAX_GRANT_SCOPES, MAX_SCOPE_PATH_LEN, MAX_VAULT_SCOPES};
use crate::types::{Day, GrantId, ScopePath};

/// Grants that are noted: those that a vault may have at a time, and as many that have ended.
pub const MAX_NOTED_GRANTS: usize = 8_192;

/// A scope, and which records are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedScope {
    /// What the owner calls it.
    pub path: ScopePath,
    /// The expression that says which records it has.
    pub meaning: String,
}

/// What a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedGrant {
    /// The grant.
    pub grant: GrantId,
    /// What the grantee calls itself.
    pub name: String,
    /// The scopes, as they were when it was given.
    pub scopes: Vec<NotedScope>,
    /// The first day and the last one of its records.
    pub days: (Day, Day),
    /// What the grantee was told.
    pub note: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessNotes {
    /// Names that were given to scopes, ascending.
    pub defined: Vec<NotedScope>,
    /// Scopes that were granted, ascending: records that come join them.
    pub granted: Vec<NotedScope>,
    /// Grants, ascending by their ids.
    pub grants: Vec<NotedGrant>,
}

/// Puts a scope in its place among others, instead of one of the same path.
pub fn put_scope(scopes: &mut Vec<NotedScope>, scope: NotedScope) {
    match scopes.binary_search_by(|known| known.path.cmp(&scope.path)) {
        Ok(at) => scopes[at] = scope,
        Err(at) => scopes.insert(at, scope),
    }
}

impl AccessNotes {
    /// Notes a grant.
    pub fn put_grant(&mut self, grant: NotedGrant) {
        match self.grants.binary_search_by(|known| known.grant.cmp(&grant.grant)) {
            Ok(at) => self.grants[at] = grant,
            Err(at) => self.grants.insert(at, grant),
        }
    }

    /// What a grant is about, if that was noted.
    #[must_use]
    pub fn grant(&self, grant: &GrantId) -> Option<&NotedGrant> {
        let at = self.grants.binary_search_by(|known| known.grant.cmp(grant)).ok()?;
        self.grants.get(at)
    }

    /// What a name means, if it was given.
    #[must_use]
    pub fn definition(&self, path: &ScopePath) -> Option<&NotedScope> {
        self.defined.iter().find(|scope| scope.path == *path)
    }
}

impl Canonical for NotedScope {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(self.path.as_str().as_bytes(), to);
        write_bytes(self.meaning.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let path = read_text(from, MAX_SCOPE_PATH_LEN)?.parse().map_err(|_| Violation::OutOfBounds)?;
        Ok(Self { path, meaning: read_text(from, MAX_SCOPE_PATH_LEN)? })
    }
}

impl Canonical for NotedGrant {
    fn write(&self, to: &mut Vec<u8>) {
        self.grant.write(to);
        write_bytes(self.name.as_bytes(), to);
        write_list(&self.scopes, to);
        self.days.0.0.write(to);
        self.days.1.0.write(to);
        write_bytes(self.note.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            grant: Canonical::read(from)?,
            name: read_text(from, MAX_NOTE_LEN)?,
            scopes: read_list(from, MAX_GRANT_SCOPES)?,
            days: (Day(Canonical::read(from)?), Day(Canonical::read(from)?)),
            note: read_text(from, MAX_NOTE_LEN)?,
        };
        if found.days.0 <= found.days.1 { Ok(found) } else { Err(Violation::OutOfBounds) }
    }
}

impl Canonical for AccessNotes {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        write_list(&self.defined, to);
        write_list(&self.granted, to);
        write_list(&self.grants, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        let found = Self {
            defined: read_list(from, MAX_DEFINED_SCOPES)?,
            granted: read_list(from, MAX_VAULT_SCOPES)?,
            grants: read_list(from, MAX_NOTED_GRANTS)?,
        };
        let by_path = |scopes: &[NotedScope]| scopes.is_sorted_by(|one, next| one.path < next.path);
        let is_ordered = by_path(&found.defined)
            && by_path(&found.granted)
            && found.grants.is_sorted_by(|one, next| one.grant < next.grant);
        if is_ordered { Ok(found) } else { Err(Violation::Malformed) }
    }
}
