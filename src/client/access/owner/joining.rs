//! Which versions are in which scopes: those that come join them, those that are over leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::client::access::scope::{Scope, Subject};
use crate::client::access::shred::{Shredder, Wanted};
use crate::client::access::slots::{SlotWriter, Version};
use crate::client::get::read_header;
use crate::client::ledger::wrong_answer;
use crate::client::{Error, ErrorKind, ListEntry, ListOptions, RecordAddress, RecordInfo};
use crate::crypto::access::DayRange;
use crate::ledger::rows::Access;
use crate::message::access::DepositKind;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::{Action, Canonical as _, Member, Rejection, StoredVersion, VersionEntry, VersionState};
use crate::store::Index;
use crate::store::access::batch_hash;
use crate::types::limits::MAX_BATCH_ENTRIES;
use crate::types::{CollectionName, Day, Hash, RecordTag, ScopePath, ScopeTag, Timestamp, VersionId};

use super::{Owner, is_rejection};

/// Records of a page while a collection is looked through.
const PAGE: usize = 1_000;
/// Versions that are in scopes: scope, generation, version → the record's address.
const SLOT: &[u8] = b"slot/";

fn parse_address(text: &str) -> Option<RecordAddress> {
    let (collection, name) = text.split_once('/')?;
    Some(RecordAddress { collection: collection.parse().ok()?, name: name.parse().ok()? })
}

fn slot_note(scope: &ScopeTag, generation: u32, version: &VersionId) -> Vec<u8> {
    [SLOT, &scope.0, &generation.to_be_bytes(), &version.0].concat()
}

/// A version that is in a scope. Its data key may be in a keyslot, which is fetched only if the version is to join.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    at: RecordAddress,
    entry: VersionEntry,
}

/// What came of bringing records into a scope.
pub(super) struct Brought {
    /// Records that are in it, and their days.
    covered: Vec<(RecordAddress, Day)>,
    /// Versions that were not before.
    pub(super) new: usize,
}

impl Brought {
    /// The records of some days that are in it.
    pub(super) fn of_days(self, days: DayRange) -> impl Iterator<Item = RecordAddress> {
        let is_of = move |day: &Day| (days.first()..=days.last()).contains(day);
        self.covered.into_iter().filter(move |(_, day)| is_of(day)).map(|(at, _)| at)
    }
}

/// Scopes of which this home knows which versions are in them: scope, generation.
const LEARNED: &[u8] = b"slots of/";

impl Owner<'_> {
    /// Learns which versions are in a scope, if this home never did: what another home brought is not brought again, and leaves
    /// when it is over. That is so under keys of before as well, which grants have that still stand.
    pub(super) async fn learn_slots(&self, path: &ScopePath) -> Result<(), Error> {
        let scope = self.vault.keys.access().scope_tag(path);
        for generation in 0..=self.generation(scope).await? {
            self.learn_generation(scope, generation).await?;
        }
        Ok(())
    }

    async fn learn_generation(&self, scope: ScopeTag, generation: u32) -> Result<(), Error> {
        let of = [&scope.0[..], &generation.to_be_bytes()].concat();
        let learned = [LEARNED, &of].concat();
        let key = learned.clone();
        if !self.client.ctx.index.with(move |index| index.notes(&key)).await?.is_empty() {
            return Ok(());
        }
        let mut notes = vec![(learned, Vec::new())];
        let members = self.members(scope, generation).await?;
        if !members.is_empty() {
            let names = self.records().await?;
            let known = members.iter().filter_map(|(record, version)| Some((version, names.get(record)?)));
            notes.extend(known.map(|(version, at)| {
                let key = [SLOT, &of, &version.0].concat();
                (key, format!("{}/{}", at.collection, at.name).into_bytes())
            }));
        }
        Ok(self.client.ctx.index.with(move |index| index.note(&notes)).await?)
    }

    /// The versions in a scope, as more static nodes say than can be wrong.
    async fn members(
        &self,
        scope: ScopeTag,
        generation: u32,
    ) -> Result<BTreeSet<(RecordTag, VersionId)>, Error> {
        let roster = self.vault.ledger.roster();
        let committee = roster.committee();
        let (mut said, mut answered, mut reasons) = (BTreeMap::<_, usize>::new(), 0, Vec::new());
        for member in roster.members() {
            match self.members_at(member, scope, generation).await {
                Ok(found) => {
                    answered += 1;
                    found.into_iter().for_each(|found| *said.entry(found).or_default() += 1);
                }
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if answered < committee.quorum() {
            let message =
                format!("too few static nodes say which records are in a scope: {}", reasons.join("; "));
            return Err(Error::new(ErrorKind::Unavailable, message).with_hint("see `xvault static status`"));
        }
        let enough = |(_, by): &(_, usize)| *by >= committee.one_honest();
        Ok(said.into_iter().filter(enough).map(|(found, _)| found).collect())
    }

    async fn members_at(
        &self,
        member: &Member,
        scope: ScopeTag,
        generation: u32,
    ) -> Result<Vec<(RecordTag, VersionId)>, Error> {
        let (vault, mut found, mut after) = (self.id(), Vec::new(), None);
        loop {
            let request = DeskRequest::Members { vault, scope, generation, after };
            let DeskAnswer::Members(page) = self.desks.say(member, &request).await? else {
                return Err(wrong_answer());
            };
            // In ascending order, so that it ends.
            let page: Vec<_> = page.into_iter().filter(|found| Some(*found) > after).collect();
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(*last);
            found.extend(page.into_iter().map(|(_, record, version)| (record, version)));
        }
    }

    /// Brings those records into a scope that are not in it yet.
    pub(super) async fn bring(
        &self,
        access: &Access,
        path: &ScopePath,
        scope: &Scope,
        only: Option<&[RecordAddress]>,
    ) -> Result<Brought, Error> {
        let of = (self.vault.ledger.genesis().network, self.id(), access.sharing.dealing);
        let generation = self.generation(self.vault.keys.access().scope_tag(path)).await?;
        let writer = SlotWriter::new(of, self.vault.keys.access(), path, generation);
        let writer = Arc::new(writer);
        let known: BTreeSet<Vec<u8>> = {
            let prefix = [SLOT, &writer.scope().0, &generation.to_be_bytes()].concat();
            let notes = self.client.ctx.index.with(move |index| index.notes(&prefix)).await?;
            notes.into_iter().map(|(key, _)| key).collect()
        };
        let mut found = match only {
            Some(records) => self.versions_among(scope, records).await?,
            None => self.versions_of(scope).await?,
        };
        let covered = found.iter().map(|found| (found.at.clone(), day_of(&found.entry))).collect();
        let note = |found: &Candidate| slot_note(&writer.scope(), generation, &found.entry.version);
        found.retain(|found| !known.contains(&note(found)));
        let versions = self.complete(found).await?;
        let roster = self.vault.ledger.roster();
        for some in versions.chunks(MAX_BATCH_ENTRIES) {
            let (made, job) = (some.to_vec(), Arc::clone(&writer));
            let package = self.client.ctx.workers.run(move || job.batch(&made)).await?;
            let package = package?;
            let (batch, bytes) = (package.batch(), package.encode());
            let deposit = DeskRequest::Deposit { vault: self.id(), kind: DepositKind::Batch, bytes };
            self.desks.have_kept(&roster, &deposit, &batch_hash(&batch).0).await?;
            self.carry_out(Action::AddEntries(batch)).await?;
            let notes: Vec<_> = some
                .iter()
                .map(|version| {
                    let note = slot_note(&writer.scope(), generation, &version.version);
                    (note, version.address().into_bytes())
                })
                .collect();
            self.client.ctx.index.with(move |index| index.note(&notes)).await?;
        }
        Ok(Brought { covered, new: versions.len() })
    }

    /// Takes versions out of all scopes that are not their records' latest any more, or whose records were removed: a grant
    /// shows what is there now.
    pub(super) async fn withdraw(&self, only: Option<&[RecordAddress]>) -> Result<(), Error> {
        let only = only.map(|only| only.iter().collect::<BTreeSet<_>>());
        let notes = self.client.ctx.index.with(|index| index.notes(SLOT)).await?;
        let mut stale: BTreeMap<VersionId, (RecordAddress, Vec<Vec<u8>>)> = BTreeMap::new();
        for (key, address) in notes {
            let version = key.last_chunk().copied().map(VersionId);
            let at = std::str::from_utf8(&address).ok().and_then(parse_address);
            let Some((version, at)) = version.zip(at) else { continue };
            if only.as_ref().is_some_and(|only| !only.contains(&at)) {
                continue;
            }
            stale.entry(version).or_insert_with(|| (at, Vec::new())).1.push(key);
        }
        for (version, (at, keys)) in stale {
            let address = at.clone();
            let find = move |index: &mut Index| index.latest(&address.collection, &address.name);
            let latest = self.client.ctx.index.with(find).await?;
            let is_current =
                latest.is_some_and(|entry| entry.version == version && entry.state != VersionState::Deleted);
            if !is_current {
                self.take_out(&at, version).await?;
                self.client.ctx.index.with(move |index| index.unnote(&keys)).await?;
            }
        }
        Ok(())
    }

    /// Takes a version out of all scopes that others were let into. Of a shreddable one the owner's keyslot stays.
    async fn take_out(&self, at: &RecordAddress, version: VersionId) -> Result<(), Error> {
        if self.client.class(&at.collection).await?.unwrap_or_default().is_shreddable() {
            let address = at.clone();
            let find = move |index: &mut Index| index.versions(&address.collection, &address.name);
            let versions = self.client.ctx.index.with(find).await?;
            let entry = versions.into_iter().find(|entry| entry.version == version);
            // Of one that is not there any more nothing is to be kept.
            let Some(VersionState::Slotted(slotted)) = entry.map(|entry| entry.state) else {
                return self.erase_version(at, version).await;
            };
            let shredder = Shredder::new(&self.client.ctx)?;
            return shredder.withdraw(at, version, slotted.key_generation).await;
        }
        self.erase_version(at, version).await
    }

    /// Fetches the data keys that are in keyslots. A version that was erased meanwhile is left out.
    async fn complete(&self, found: Vec<Candidate>) -> Result<Vec<Version>, Error> {
        let (mut wanted, mut versions) = (Vec::new(), Vec::new());
        for Candidate { at, entry } in found {
            match entry.state {
                VersionState::Stored(stored) => {
                    versions.push(version_of(at, &entry.version, entry.created, stored));
                }
                VersionState::Slotted(slotted) => {
                    wanted.push((Wanted { at, version: entry.version, slotted }, entry.created));
                }
                VersionState::Deleted => {}
            }
        }
        if wanted.is_empty() {
            return Ok(versions);
        }
        let asked: Vec<_> = wanted.iter().map(|(wanted, _)| wanted.clone()).collect();
        let keys = Shredder::new(&self.client.ctx)?.keys(&asked).await?;
        for ((wanted, created), dek) in wanted.into_iter().zip(keys) {
            let Some(dek) = dek else { continue };
            // Nobody asks for the hash of its content here.
            let stored = wanted.slotted.complete(dek, Hash([0; 32]));
            versions.push(version_of(wanted.at, &wanted.version, created, stored));
        }
        Ok(versions)
    }

    /// Has the keyslots of a version deleted.
    pub(super) async fn erase_version(&self, at: &RecordAddress, version: VersionId) -> Result<(), Error> {
        let record = self.vault.keys.access().record_tag(&at.collection, &at.name);
        match self.carry_out(Action::Erase { vault: self.id(), record, version }).await {
            // By an attempt before this one.
            Err(error) if is_rejection(&error, Rejection::AlreadyErased) => Ok(()),
            done => done.map(drop),
        }
    }

    /// The latest versions of the records of a scope.
    pub(super) async fn versions_of(&self, scope: &Scope) -> Result<Vec<Candidate>, Error> {
        let collections: Vec<CollectionName> = match scope.only_collection() {
            Some(collection) => vec![collection.clone()],
            None => self.client.collections().await?.into_iter().map(|found| found.name).collect(),
        };
        let mut found = Vec::new();
        for collection in collections {
            for info in self.every_record(&collection, false).await? {
                let at = RecordAddress { collection: collection.clone(), name: info.name };
                found.extend(self.version_in(scope, &at).await?);
            }
        }
        Ok(found)
    }

    /// The records of the vault, also those that were removed, by their tags.
    pub(super) async fn records(&self) -> Result<BTreeMap<RecordTag, RecordAddress>, Error> {
        let keys = self.vault.keys.access();
        let mut found = BTreeMap::new();
        for collection in self.client.collections().await? {
            for info in self.every_record(&collection.name, true).await? {
                let tag = keys.record_tag(&collection.name, &info.name);
                let at = RecordAddress { collection: collection.name.clone(), name: info.name };
                found.insert(tag, at);
            }
        }
        Ok(found)
    }

    async fn every_record(
        &self,
        collection: &CollectionName,
        include_deleted: bool,
    ) -> Result<Vec<RecordInfo>, Error> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let options =
                ListOptions { prefix: String::new(), delimiter: None, after, limit: PAGE, include_deleted };
            let page = self.client.list(collection, options).await?;
            found.extend(page.entries.into_iter().filter_map(|entry| match entry {
                ListEntry::Record(info) => Some(info),
                ListEntry::Prefix(_) => None,
            }));
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// The latest versions of those of these records that are of a scope.
    pub(super) async fn versions_among(
        &self,
        scope: &Scope,
        records: &[RecordAddress],
    ) -> Result<Vec<Candidate>, Error> {
        let mut found = Vec::new();
        for at in records {
            found.extend(self.version_in(scope, at).await?);
        }
        Ok(found)
    }

    /// A record's latest version, if it is in a scope.
    pub(super) async fn version_in(
        &self,
        scope: &Scope,
        at: &RecordAddress,
    ) -> Result<Option<Candidate>, Error> {
        let address = at.clone();
        let find = move |index: &mut Index| index.latest(&address.collection, &address.name);
        let Some(entry) = self.client.ctx.index.with(find).await? else { return Ok(None) };
        let metadata = match &entry.state {
            VersionState::Deleted => return Ok(None),
            _ if !scope.asks_metadata() => BTreeMap::new(),
            VersionState::Stored(stored) => read_header(&self.client.ctx, stored).await?.metadata,
            VersionState::Slotted(slotted) => {
                let (version, slotted) = (entry.version, slotted.clone());
                let wanted = Wanted { at: at.clone(), version, slotted };
                let opened = Shredder::new(&self.client.ctx)?.open(wanted).await;
                match opened {
                    // It was erased, and this home is yet to hear of it.
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    opened => read_header(&self.client.ctx, &opened?).await?.metadata,
                }
            }
        };
        let subject = Subject { collection: &at.collection, name: &at.name, metadata: &metadata };
        Ok(scope.contains(&subject).then(|| Candidate { at: at.clone(), entry }))
    }
}

/// The day of a version, by which it is let be seen.
fn day_of(entry: &VersionEntry) -> Day {
    let modified = match &entry.state {
        VersionState::Stored(stored) => stored.modified,
        VersionState::Slotted(slotted) => slotted.modified,
        VersionState::Deleted => None,
    };
    Day::of(modified.unwrap_or(entry.created))
}

fn version_of(at: RecordAddress, version: &VersionId, created: Timestamp, stored: StoredVersion) -> Version {
    Version { collection: at.collection, name: at.name, version: *version, created, stored }
}
