//! Grants after a rotation of the vault's keys: all are over then, and those that stood are given again, under the new keys, to
//! the key packages that their grantees made.

use super::{GrantTerms, Granted, Owner, parsed};
use crate::client::{Client, Error};
use crate::crypto::access::DayRange;
use crate::message::access::{KeyPackage, NotedScope};
use crate::message::canonical::Canonical as _;
use crate::store::index::Note;
use crate::types::GrantId;

/// To whom a grant can be given again: grant → key package. What it is about is a record of the vault.
const RENEW: &[u8] = b"renew/";
/// Notes that a new home of the vault takes over.
const KEPT: [&[u8]; 3] = [RENEW, b"held/", b"guardian/"];

/// What became of the grants that stood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Those that were given again: the grant before, and now.
    pub given: Vec<(GrantId, GrantId)>,
    /// Those of which this home does not know enough: their grantees have to make new key packages.
    pub lost: Vec<Granted>,
}

/// The note by which a grant can be given again.
pub(super) fn note_of(grant: &GrantId, package: &KeyPackage) -> Note {
    ([RENEW, &grant.0].concat(), package.encode())
}

impl Client {
    /// What a new home of this vault is to know that is nowhere but here.
    pub(in crate::client) async fn kept_notes(index: &crate::store::SharedIndex) -> Result<Vec<Note>, Error> {
        let mut kept = Vec::new();
        for prefix in KEPT {
            kept.extend(index.with(move |index| index.notes(prefix)).await?);
        }
        Ok(kept)
    }

    /// Deals the vault's key of this generation, if one was ever shared, and gives the grants again that stood before the last
    /// rotation. What was done already is not done again.
    ///
    /// # Errors
    /// As [`grant`](Self::grant): what was given stays.
    pub async fn renew_grants(&self) -> Result<Renewed, Error> {
        let owner = self.owner()?;
        let mut renewed = Renewed::default();
        if owner.access_of_now().await?.is_none() {
            return Ok(renewed);
        }
        let since = self.recovery_state().await?.keys.map(|keys| keys.since);
        let now = crate::runtime::wall_time();
        for granted in owner.grants().await? {
            let row = &granted.row;
            let stood = row.revoked.is_none() && row.grant.expires > now;
            if !stood || since.is_none_or(|since| row.height > since) {
                continue;
            }
            match owner.terms_of(&granted).await? {
                Some((package, terms)) => {
                    let report = owner.give(&package, terms).await?;
                    renewed.given.push((row.grant.grant, report.grant));
                }
                None => renewed.lost.push(granted),
            }
        }
        Ok(renewed)
    }
}

impl Owner<'_> {
    /// What a grant was given for, and to whom, as far as all of it is known here.
    async fn terms_of(&self, granted: &Granted) -> Result<Option<(KeyPackage, GrantTerms)>, Error> {
        let (row, Some(about)) = (&granted.row, &granted.about) else { return Ok(None) };
        let key = [RENEW, &row.grant.grant.0].concat();
        let notes = self.client.ctx.index.with(move |index| index.notes(&key)).await?;
        let package = notes.first().and_then(|(_, value)| KeyPackage::decode(value).ok());
        let (Some(package), Some(days)) = (package, DayRange::new(about.days.0, about.days.1)) else {
            return Ok(None);
        };
        // A name means what it means now, also where it meant something else when the grant was given.
        let meant = self.client.access_notes().await?.granted;
        let of_now =
            |given: &NotedScope| meant.iter().find(|scope| scope.path == given.path).unwrap_or(given).clone();
        let scopes = parsed(&about.scopes.iter().map(of_now).collect::<Vec<_>>());
        if scopes.len() != about.scopes.len() {
            return Ok(None);
        }
        let (rights, quota, note) = (row.grant.rights, row.grant.quota, about.note.clone());
        let (not_before, expires) = (row.grant.not_before, row.grant.expires);
        // What was brought before is not brought once more.
        let append_bytes = row.grant.append_bytes.map(|bytes| bytes.saturating_sub(row.brought).max(1));
        let terms = GrantTerms { scopes, rights, not_before, expires, days, quota, append_bytes, note };
        Ok(Some((package, terms)))
    }
}
