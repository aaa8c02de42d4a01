//! What an owner does: deals the vault's key, brings records into scopes, grants, revokes, and reads who opened what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::access::desk::Desks;
use crate::client::access::scope::{Scope, Subject};
use crate::client::access::slots::{SlotWriter, Version};
use crate::client::context::random;
use crate::client::get::read_header;
use crate::client::ledger::{no_ledger, wrong_answer};
use crate::client::settle::{LIFE_BLOCKS, Verdict, refused};
use crate::client::vault::{self, Vault};
use crate::client::{Ack, Client, Error, ErrorKind, ListEntry, ListOptions, RecordAddress};
use crate::crypto::access::{DayRange, Dealing, Purpose, Sharing};
use crate::ledger::ask::{Answer, Question};
use crate::ledger::rows::{Access, GrantRow};
use crate::message::access::desk::body_hash;
use crate::message::access::desk::{DeskAnswer, DeskRequest, LogEntry, chain};
use crate::message::access::open::OpenItem;
use crate::message::access::package::{SealedShare, commitments_hash};
use crate::message::access::{
    BodyScope, DealingPackage, Denial, DepositKind, Grant, GrantBody, GrantedScope, KeyPackage, Rights,
};
use crate::message::{
    Action, Canonical as _, Member, Rejection, Roster, SignedTransaction, Transaction, VersionEntry,
    VersionState,
};
use crate::store::Index;
use crate::store::access::batch_hash;
use crate::types::limits::{MAX_BATCH_ENTRIES, MAX_GRANT_SCOPES};
use crate::types::{
    CollectionName, Day, GrantId, Hash, Height, ScopePath, ScopeTag, ShareIndex, Timestamp, VaultId,
    VersionId,
};

/// Records of a page while a collection is looked through.
const PAGE: usize = 1_000;
/// Between two looks at whether the static nodes have what the ledger named.
const PAUSE: Duration = Duration::from_millis(50);

/// What somebody is let into.
#[derive(Debug, Clone)]
pub struct GrantTerms {
    /// The scopes, by what the owner calls them, and which records each has.
    pub scopes: Vec<(ScopePath, Scope)>,
    /// What may be done in them.
    pub rights: Rights,
    /// From when on.
    pub not_before: Timestamp,
    /// Until before when.
    pub expires: Timestamp,
    /// Records of which days.
    pub days: DayRange,
    /// Records that may be opened in a day; none for as many as one likes.
    pub quota: Option<u32>,
    /// What the owner says of it, for the grantee.
    pub note: String,
}

/// A grant that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantReport {
    /// The grant.
    pub grant: GrantId,
    /// Its block.
    pub height: Height,
    /// Versions that were brought into its scopes.
    pub brought: usize,
    /// Records that its scopes have now, counted for each scope.
    pub covered: usize,
}

/// What came of bringing records into a scope.
struct Brought {
    /// Records that are in it.
    covered: usize,
    /// Versions that were not before.
    new: usize,
}

/// How a revocation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Until a quorum of the static nodes had it: from then on nothing is opened.
    pub acknowledged: Duration,
    /// Until it was final.
    pub settled: Duration,
    /// Its block.
    pub height: Height,
}

/// A grant of the vault, as the ledger has it and as the owner noted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// As the ledger has it.
    pub row: GrantRow,
    /// What the grantee calls itself, if this home gave the grant.
    pub name: Option<String>,
    /// What the owner calls the scopes, where this home gave the grant.
    pub scopes: Vec<String>,
}

/// An entry of the access log, as the static nodes have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessEvent {
    /// When, by the clock of the first that has it.
    pub time: Timestamp,
    /// The grant.
    pub grant: GrantId,
    /// Hash of the request.
    pub request: Hash,
    /// The records and lists that were asked for, by their names where this home knows them.
    pub items: Vec<String>,
    /// What for, in the grantee's word.
    pub purpose: String,
    /// Why it was denied, if it was; by each node that denied it.
    pub denied: Option<Denial>,
    /// The static nodes that say so.
    pub nodes: Vec<String>,
}

/// What is said of access to a vault: the desks, and the vault.
struct Owner<'a> {
    client: &'a Client,
    vault: &'a Vault,
    desks: Desks,
}

impl Client {
    fn owner(&self) -> Result<Owner<'_>, Error> {
        let vault = self.ctx.vault.as_deref().ok_or_else(no_ledger)?;
        let desks = Desks::new(vault.ledger.clone(), vault.keys.signing());
        desks.follow(&vault.ledger.roster());
        Ok(Owner { client: self, vault, desks })
    }

    /// Lets the owner of a key package in. Deals the vault's key if that was never done, and brings the records of the scopes
    /// into them that are not yet.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the package is not good or the ledger refuses, [`ErrorKind::Invalid`],
    /// [`ErrorKind::Unavailable`] if too few static nodes answer.
    pub async fn grant(&self, package: &KeyPackage, terms: GrantTerms) -> Result<GrantReport, Error> {
        self.owner()?.grant(package, terms).await
    }

    /// Takes a grant back. `acknowledged` is told when nothing is opened for it any more, which is before it is final.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few static nodes have it, [`ErrorKind::NotFound`], [`ErrorKind::Refused`].
    pub async fn revoke(
        &self,
        grant: GrantId,
        acknowledged: impl FnOnce(Duration),
    ) -> Result<Revoked, Error> {
        self.owner()?.revoke(grant, acknowledged).await
    }

    /// The grants of the vault, also those that have ended.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn grants(&self) -> Result<Vec<Granted>, Error> {
        self.owner()?.grants().await
    }

    /// Brings records that were put since into the scopes that were granted: those that are named, or all; how many versions.
    /// On a network without a ledger there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few static nodes answer.
    pub async fn join_scopes(&self, only: Option<&[RecordAddress]>) -> Result<usize, Error> {
        if self.ctx.vault.is_none() {
            return Ok(0);
        }
        let owner = self.owner()?;
        let scopes = self.noted(GRANTED).await?;
        if scopes.is_empty() {
            return Ok(0);
        }
        let Some(access) = owner.desks.access(*owner.vault.keys.vault()).await? else { return Ok(0) };
        owner.withdraw(only).await?;
        let mut brought = 0;
        for (path, scope) in scopes {
            brought += owner.bring(&access, &path, &scope, only).await?.new;
        }
        Ok(brought)
    }

    /// Gives a name to a set of records. What the name meant before stays in the scope.
    ///
    /// # Errors
    /// Those of the local index.
    pub async fn define_scope(&self, name: &ScopePath, scope: &Scope) -> Result<(), Error> {
        let notes = [([DEFINED, name.as_str().as_bytes()].concat(), scope.to_string().into_bytes())];
        Ok(self.ctx.index.with(move |index| index.note(&notes)).await?)
    }

    /// The names that were given, and what they mean.
    ///
    /// # Errors
    /// Those of the local index.
    pub async fn defined_scopes(&self) -> Result<Vec<(ScopePath, Scope)>, Error> {
        self.noted(DEFINED).await
    }

    async fn noted(&self, prefix: &'static [u8]) -> Result<Vec<(ScopePath, Scope)>, Error> {
        let notes = self.ctx.index.with(move |index| index.notes(prefix)).await?;
        let parsed = notes.iter().filter_map(|(key, value)| {
            let path = std::str::from_utf8(&key[prefix.len()..]).ok()?.parse().ok()?;
            let scope = std::str::from_utf8(value).ok()?.parse().ok()?;
            Some((path, scope))
        });
        Ok(parsed.collect())
    }

    /// Has the keyslots of versions deleted, where the vault's key was ever shared: nobody opens them any more, whoever was let
    /// in.
    pub(in crate::client) async fn erase_slots(
        &self,
        at: &RecordAddress,
        versions: &[VersionEntry],
    ) -> Result<(), Error> {
        let owner = self.owner()?;
        if versions.is_empty() || owner.desks.access(owner.id()).await?.is_none() {
            return Ok(());
        }
        for entry in versions {
            owner.erase_version(at, entry.version).await?;
        }
        Ok(())
    }

    /// Who opened what, and who was denied, as a quorum of the static nodes have it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few answer, [`ErrorKind::Corrupt`] if a node's log does not read.
    pub async fn access_log(&self) -> Result<Vec<AccessEvent>, Error> {
        self.owner()?.access_log().await
    }
}

fn is_rejection(error: &Error, rejection: Rejection) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<Rejection>()) == Some(&rejection)
}

/// Names that were given to scopes.
const DEFINED: &[u8] = b"define/";
/// Scopes that were granted: records that come join them.
const GRANTED: &[u8] = b"scope/";

fn scope_note(path: &ScopePath) -> Vec<u8> {
    [GRANTED, path.as_str().as_bytes()].concat()
}

fn grant_note(grant: &GrantId) -> Vec<u8> {
    [&b"grant/"[..], &grant.0].concat()
}

/// Versions that are in scopes: scope, generation, version → the record's address.
const SLOT: &[u8] = b"slot/";

fn parse_address(text: &str) -> Option<RecordAddress> {
    let (collection, name) = text.split_once('/')?;
    Some(RecordAddress { collection: collection.parse().ok()?, name: name.parse().ok()? })
}

fn slot_note(scope: &ScopeTag, generation: u32, version: &Version) -> Vec<u8> {
    [SLOT, &scope.0, &generation.to_be_bytes(), &version.version.0].concat()
}

impl Owner<'_> {
    fn id(&self) -> VaultId {
        *self.vault.keys.vault()
    }

    async fn carry_out(&self, action: Action) -> Result<Height, Error> {
        let notice = |text: &str| self.client.ctx.notice(text);
        self.vault.ledger.carry_out(self.vault.keys.signing(), action, &notice).await
    }

    /// The vault's key in the static nodes' care: as it is, or dealt to those of now.
    async fn shared(&self) -> Result<Access, Error> {
        if let Some(access) = self.desks.access(self.id()).await? {
            return Ok(access);
        }
        vault::register(&self.client.ctx, Ack::Anchored).await?;
        self.deal(0).await?;
        loop {
            // More of them have it in a moment.
            if let Some(access) = self.desks.access(self.id()).await? {
                return Ok(access);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Deals the vault's key to the static nodes of now.
    async fn deal(&self, dealing: u32) -> Result<Height, Error> {
        self.vault.ledger.follow().await?;
        let roster = self.vault.ledger.roster();
        self.desks.follow(&roster);
        let keys = self.seal_keys(&roster).await?;
        let access = self.vault.keys.access();
        let Dealing { commitments, shares } =
            access.prf_key(dealing).deal(Sharing::among(roster.committee()), &random()?);
        let mut sealed = Vec::new();
        for (at, (share, key)) in shares.iter().zip(&keys).enumerate() {
            let place = ShareIndex::at(at).ok_or_else(wrong_answer)?;
            let context = DealingPackage::share_context(&commitments, place);
            let bytes = match key {
                Some(key) => key.seal(Purpose::Share, &context, &*share.to_bytes(), &random()?),
                None => Vec::new(),
            };
            let to = key.as_ref().map_or(Hash([0; 32]), crate::message::access::desk::SignedSealKey::hash_of);
            sealed.push(SealedShare { to, sealed: bytes });
        }
        let package = DealingPackage {
            network: self.vault.ledger.genesis().network,
            vault: self.id(),
            dealing,
            inbox: access.inbox().public().clone(),
            audit: access.audit().public().clone(),
            commitments,
            shares: sealed,
        };
        let bytes = package.encode();
        let deposit = DeskRequest::Deposit { vault: self.id(), kind: DepositKind::Dealing, bytes };
        self.desks.have_kept(&roster, &deposit, &package.hash().0).await?;
        self.carry_out(Action::ShareKey(package.sharing(roster.hash()))).await
    }

    /// The keys of the static nodes to seal shares to, in the order of the roster; none of those that do not answer.
    async fn seal_keys(
        &self,
        roster: &Roster,
    ) -> Result<Vec<Option<crate::crypto::access::SealPublic>>, Error> {
        let mut asked = self.desks.say_to_all(roster, &DeskRequest::SealKeys);
        let network = self.vault.ledger.genesis().network;
        let mut keys = vec![None; roster.members().len()];
        while let Some(answered) = asked.join_next().await {
            let Ok((_, Ok(DeskAnswer::SealKeys(found)))) = answered else { continue };
            for (node, signed) in found {
                let at =
                    roster.committee().position(&node).filter(|_| signed.verify(&network, &node).is_ok());
                if let Some(slot) = at.and_then(|at| keys.get_mut(at)) {
                    *slot = Some(signed.key);
                }
            }
        }
        let have = keys.iter().flatten().count();
        if have < roster.committee().quorum() {
            let message = format!("{have} static nodes say which key shares are sealed to: too few");
            return Err(Error::new(ErrorKind::Unavailable, message).with_hint("see `xvault static status`"));
        }
        Ok(keys)
    }

    async fn generation(&self, scope: ScopeTag) -> Result<u32, Error> {
        match self.desks.agreed(&Question::Generation { vault: self.id(), scope }).await? {
            Answer::Generation(generation) => Ok(generation),
            _ => Err(wrong_answer()),
        }
    }

    async fn grant(&self, package: &KeyPackage, terms: GrantTerms) -> Result<GrantReport, Error> {
        let refuse = |message: &str| Error::new(ErrorKind::Refused, message);
        if package.network != self.vault.ledger.genesis().network {
            return Err(refuse("the key package is for another network"));
        }
        package
            .verify()
            .map_err(|wrong| refuse("the key package's signature is not good").caused_by(wrong))?;
        let now = crate::runtime::wall_time();
        if package.expires <= now {
            return Err(refuse("the key package has expired").with_hint("ask for a new one"));
        }
        if terms.scopes.is_empty() || terms.scopes.len() > MAX_GRANT_SCOPES {
            let message = format!("a grant has 1 to {MAX_GRANT_SCOPES} scopes");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if terms.expires <= terms.not_before || terms.expires <= now {
            return Err(Error::new(ErrorKind::Invalid, "the grant would be over before it begins"));
        }
        let access = self.shared().await?;
        self.withdraw(None).await?;
        let (mut brought, mut covered) = (0, 0);
        let mut granted = Vec::new();
        let mut bodies = Vec::new();
        let keys = self.vault.keys.access();
        for (path, scope) in &terms.scopes {
            let tag = keys.scope_tag(path);
            let generation = self.generation(tag).await?;
            let found = self.bring(&access, path, scope, None).await?;
            (brought, covered) = (brought + found.new, covered + found.covered);
            let key = keys.scope_key(path, generation);
            let days = key.cover(terms.days);
            bodies.push(BodyScope { path: path.clone(), scope: tag, generation, list: key.list_key(), days });
            granted.push(GrantedScope { scope: tag, first: generation, last: generation });
        }
        granted.sort_by_key(|scope| scope.scope);
        granted.dedup_by_key(|scope| scope.scope);
        let mut grant = Grant {
            vault: self.id(),
            grant: GrantId(random()?),
            grantee: package.auth,
            scopes: granted,
            rights: terms.rights,
            not_before: terms.not_before,
            expires: terms.expires,
            quota: terms.quota,
            body: Hash([0; 32]),
        };
        let body = GrantBody {
            vault: self.id(),
            owner: self.vault.keys.signing().public(),
            dealing: access.sharing.dealing,
            key: *keys.prf_key(access.sharing.dealing).public().as_bytes(),
            scopes: bodies,
            note: terms.note,
        };
        let plain = zeroize::Zeroizing::new(body.encode());
        let sealed = package.seal.seal(Purpose::Grant, &GrantBody::context(&grant), &plain, &random()?);
        grant.body = body_hash(&sealed);
        let deposit = DeskRequest::Deposit { vault: self.id(), kind: DepositKind::GrantBody, bytes: sealed };
        self.desks.have_kept(&self.vault.ledger.roster(), &deposit, &grant.body.0).await?;
        // Noted before it is on the ledger: records that are put from here on join its scopes.
        let mut notes: Vec<_> = terms
            .scopes
            .iter()
            .map(|(path, scope)| (scope_note(path), scope.to_string().into_bytes()))
            .collect();
        let scopes: Vec<&str> = terms.scopes.iter().map(|(path, _)| path.as_str()).collect();
        let about = format!("{}\n{}", package.name, scopes.join("\n"));
        notes.push((grant_note(&grant.grant), about.into_bytes()));
        self.client.ctx.index.with(move |index| index.note(&notes)).await?;
        let id = grant.grant;
        let height = self.carry_out(Action::Grant(grant)).await.map_err(|error| {
            if is_rejection(&error, Rejection::GranteeKnown) {
                return refuse("the key package has served for a grant already")
                    .with_hint("ask for a new one");
            }
            error
        })?;
        Ok(GrantReport { grant: id, height, brought, covered })
    }

    /// Brings those records into a scope that are not in it yet.
    async fn bring(
        &self,
        access: &Access,
        path: &ScopePath,
        scope: &Scope,
        only: Option<&[RecordAddress]>,
    ) -> Result<Brought, Error> {
        let of = (self.vault.ledger.genesis().network, self.id(), access.sharing.dealing);
        let generation = self.generation(self.vault.keys.access().scope_tag(path)).await?;
        let writer = SlotWriter::new(of, self.vault.keys.access(), path, generation);
        let writer = std::sync::Arc::new(writer);
        let known: BTreeSet<Vec<u8>> = {
            let prefix = [SLOT, &writer.scope().0, &generation.to_be_bytes()].concat();
            let notes = self.client.ctx.index.with(move |index| index.notes(&prefix)).await?;
            notes.into_iter().map(|(key, _)| key).collect()
        };
        let mut versions = match only {
            Some(records) => self.versions_among(scope, records).await?,
            None => self.versions_of(scope).await?,
        };
        let covered = versions.len();
        versions.retain(|version| !known.contains(&slot_note(&writer.scope(), generation, version)));
        let roster = self.vault.ledger.roster();
        for some in versions.chunks(MAX_BATCH_ENTRIES) {
            let (made, job) = (some.to_vec(), std::sync::Arc::clone(&writer));
            let package = self.client.ctx.workers.run(move || job.batch(&made)).await?;
            let package = package?;
            let (batch, bytes) = (package.batch(), package.encode());
            let deposit = DeskRequest::Deposit { vault: self.id(), kind: DepositKind::Batch, bytes };
            self.desks.have_kept(&roster, &deposit, &batch_hash(&batch).0).await?;
            self.carry_out(Action::AddEntries(batch)).await?;
            let notes: Vec<_> = some
                .iter()
                .map(|version| {
                    (slot_note(&writer.scope(), generation, version), version.address().into_bytes())
                })
                .collect();
            self.client.ctx.index.with(move |index| index.note(&notes)).await?;
        }
        Ok(Brought { covered, new: versions.len() })
    }

    /// Takes versions out of all scopes that are not their records' latest any more, or whose records were removed: a grant
    /// shows what is there now.
    async fn withdraw(&self, only: Option<&[RecordAddress]>) -> Result<(), Error> {
        let notes = self.client.ctx.index.with(|index| index.notes(SLOT)).await?;
        let mut stale: BTreeMap<VersionId, (RecordAddress, Vec<Vec<u8>>)> = BTreeMap::new();
        for (key, address) in notes {
            let version = key.last_chunk().copied().map(VersionId);
            let at = std::str::from_utf8(&address).ok().and_then(parse_address);
            let Some((version, at)) = version.zip(at) else { continue };
            if only.is_some_and(|only| !only.contains(&at)) {
                continue;
            }
            stale.entry(version).or_insert_with(|| (at, Vec::new())).1.push(key);
        }
        for (version, (at, keys)) in stale {
            let address = at.clone();
            let find = move |index: &mut Index| index.latest(&address.collection, &address.name);
            let latest = self.client.ctx.index.with(find).await?;
            let is_current = latest.is_some_and(|entry| {
                entry.version == version && matches!(entry.state, VersionState::Stored(_))
            });
            if !is_current {
                self.erase_version(&at, version).await?;
                self.client.ctx.index.with(move |index| index.unnote(&keys)).await?;
            }
        }
        Ok(())
    }

    /// Has the keyslots of a version deleted.
    async fn erase_version(&self, at: &RecordAddress, version: VersionId) -> Result<(), Error> {
        let record = self.vault.keys.access().record_tag(&at.collection, &at.name);
        match self.carry_out(Action::Erase { vault: self.id(), record, version }).await {
            // By an attempt before this one.
            Err(error) if is_rejection(&error, Rejection::AlreadyErased) => Ok(()),
            done => done.map(drop),
        }
    }

    /// The latest versions of the records of a scope.
    async fn versions_of(&self, scope: &Scope) -> Result<Vec<Version>, Error> {
        let collections: Vec<CollectionName> = match scope.only_collection() {
            Some(collection) => vec![collection.clone()],
            None => self.client.collections().await?.into_iter().map(|found| found.name).collect(),
        };
        let mut found = Vec::new();
        for collection in collections {
            let mut after = None;
            loop {
                let options = ListOptions {
                    prefix: String::new(),
                    delimiter: None,
                    after,
                    limit: PAGE,
                    include_deleted: false,
                };
                let page = self.client.list(&collection, options).await?;
                for entry in page.entries {
                    let ListEntry::Record(info) = entry else { continue };
                    let at = RecordAddress { collection: collection.clone(), name: info.name.clone() };
                    if let Some(version) = self.version_in(scope, &at).await? {
                        found.push(version);
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The latest versions of those of these records that are of a scope.
    async fn versions_among(&self, scope: &Scope, records: &[RecordAddress]) -> Result<Vec<Version>, Error> {
        let mut found = Vec::new();
        for at in records {
            found.extend(self.version_in(scope, at).await?);
        }
        Ok(found)
    }

    /// A record's latest version, if it is in a scope.
    async fn version_in(&self, scope: &Scope, at: &RecordAddress) -> Result<Option<Version>, Error> {
        let address = at.clone();
        let find = move |index: &mut Index| index.latest(&address.collection, &address.name);
        let Some(entry) = self.client.ctx.index.with(find).await? else { return Ok(None) };
        let VersionState::Stored(stored) = entry.state else { return Ok(None) };
        let metadata = if scope.asks_metadata() {
            read_header(&self.client.ctx, &stored).await?.metadata
        } else {
            BTreeMap::new()
        };
        let subject = Subject { collection: &at.collection, name: &at.name, metadata: &metadata };
        Ok(scope.contains(&subject).then(|| Version {
            collection: at.collection.clone(),
            name: at.name.clone(),
            version: entry.version,
            created: entry.created,
            stored,
        }))
    }

    async fn revoke(&self, grant: GrantId, acknowledged: impl FnOnce(Duration)) -> Result<Revoked, Error> {
        let known = self.grants().await?.into_iter().find(|granted| granted.row.grant.grant == grant);
        let known = known.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the vault has no such grant").with_hint("see `xvault grants`")
        })?;
        if let Some(height) = known.row.revoked {
            let message = format!("the grant is revoked already, since block {height}");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let begun = Instant::now();
        let author = self.vault.keys.signing();
        let Answer::Nonce(nonce) =
            self.vault.ledger.ask(&Question::Nonce { author: author.public() }).await?
        else {
            return Err(wrong_answer());
        };
        let expires = Height(self.vault.ledger.tip().await?.record.height.0 + LIFE_BLOCKS);
        let action = Action::Revoke { vault: self.id(), grant };
        let network = self.vault.ledger.genesis().network;
        let transaction =
            Transaction { network, author: author.public(), nonce, expires, action: action.clone() };
        let signed = transaction.sign(author);
        let roster = self.vault.ledger.roster();
        let request = DeskRequest::Revoke(signed.bytes().to_vec());
        self.desks.have_kept(&roster, &request, &signed.id().0).await?;
        let after = begun.elapsed();
        acknowledged(after);
        let height = self.settle(&signed, action).await?;
        Ok(Revoked { acknowledged: after, settled: begun.elapsed(), height })
    }

    /// Has the transaction final, or another of the same action if its number was taken.
    async fn settle(&self, signed: &SignedTransaction, action: Action) -> Result<Height, Error> {
        let notice = |text: &str| self.client.ctx.notice(text);
        match self.vault.ledger.settle(signed, &notice).await? {
            Verdict::Final { height } => Ok(height),
            Verdict::Rejected(Rejection::WrongNonce { .. }) => self.carry_out(action).await,
            Verdict::Rejected(rejection) => Err(refused(&rejection)),
        }
    }

    async fn grants(&self) -> Result<Vec<Granted>, Error> {
        let mut rows: Vec<GrantRow> = Vec::new();
        loop {
            let after = rows.last().map(|row| row.grant.grant);
            let question = Question::Grants { vault: self.id(), after };
            let Answer::Grants(page) = self.vault.ledger.ask(&question).await? else {
                return Err(wrong_answer());
            };
            // In ascending order, so that it ends.
            let page: Vec<_> = page.into_iter().filter(|row| Some(row.grant.grant) > after).collect();
            if page.is_empty() {
                break;
            }
            rows.extend(page);
        }
        let notes = self.client.ctx.index.with(|index| index.notes(b"grant/")).await?;
        let about = |grant: &GrantId| {
            let key = grant_note(grant);
            let note = notes.iter().find(|(found, _)| *found == key)?;
            String::from_utf8(note.1.clone()).ok()
        };
        let granted = rows.into_iter().map(|row| {
            let about = about(&row.grant.grant).unwrap_or_default();
            let mut lines = about.lines().map(str::to_owned);
            let name = lines.next();
            Granted { name, scopes: lines.collect(), row }
        });
        let mut granted: Vec<_> = granted.collect();
        granted.sort_by_key(|granted| granted.row.height);
        Ok(granted)
    }

    async fn access_log(&self) -> Result<Vec<AccessEvent>, Error> {
        self.vault.ledger.follow().await?;
        if self.desks.access(self.id()).await?.is_none() {
            return Ok(Vec::new());
        }
        let roster = self.vault.ledger.roster();
        self.desks.follow(&roster);
        let (mut events, mut answered, mut reasons) = (Vec::<AccessEvent>::new(), 0, Vec::new());
        for member in roster.members() {
            match self.log_of(member).await {
                Ok(entries) => {
                    answered += 1;
                    entries.into_iter().for_each(|entry| note(&mut events, member, entry));
                }
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if answered < roster.committee().quorum() {
            let message = format!("too few static nodes show their access log: {}", reasons.join("; "));
            return Err(Error::new(ErrorKind::Unavailable, message).with_hint("see `xvault static status`"));
        }
        let names = self.record_names().await?;
        for event in &mut events {
            event.items.iter_mut().for_each(|item| {
                if let Some(name) = names.get(item) {
                    name.clone_into(item);
                }
            });
        }
        events.sort_by_key(|event| event.time);
        Ok(events)
    }

    /// Names of records by their tags.
    async fn record_names(&self) -> Result<BTreeMap<String, String>, Error> {
        let keys = self.vault.keys.access();
        let mut names = BTreeMap::new();
        for collection in self.client.collections().await? {
            let mut after = None;
            loop {
                let options = ListOptions {
                    prefix: String::new(),
                    delimiter: None,
                    after,
                    limit: PAGE,
                    include_deleted: true,
                };
                let page = self.client.list(&collection.name, options).await?;
                for entry in page.entries {
                    let ListEntry::Record(info) = entry else { continue };
                    let tag = keys.record_tag(&collection.name, &info.name);
                    names.insert(tag.to_string(), format!("xv://{}/{}", collection.name, info.name));
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(names)
    }

    /// The whole log of the vault at one static node, checked against the head that it signs.
    async fn log_of(&self, member: &Member) -> Result<Vec<LogEntry>, Error> {
        let damaged =
            |what: &str| Error::new(ErrorKind::Corrupt, format!("the access log of {} {what}", member.label));
        let (network, vault, nonce) = (self.vault.ledger.genesis().network, self.id(), random()?);
        let audit = self.vault.keys.access().audit();
        let (mut entries, mut head, mut after) = (Vec::new(), Hash([0; 32]), None);
        loop {
            let DeskAnswer::Log(page) =
                self.desks.say(member, &DeskRequest::Log { vault, after, nonce }).await?
            else {
                return Err(wrong_answer());
            };
            page.verify(&network, &vault, &nonce, &member.key)
                .map_err(|wrong| damaged("is not signed by it").caused_by(wrong))?;
            let first = after.map_or(0, |after: u64| after + 1);
            if page.first != first {
                return Err(damaged("has a gap"));
            }
            for (sequence, sealed) in (first..).zip(&page.entries) {
                head = chain(&head, sealed);
                let context = LogEntry::context(&member.key, sequence);
                let plain = audit.open(Purpose::Audit, &context, sealed);
                let entry = plain.ok().and_then(|plain| LogEntry::decode(&plain).ok());
                entries.push(entry.ok_or_else(|| damaged("has an entry that does not open"))?);
                after = Some(sequence);
            }
            let have = u64::try_from(entries.len()).unwrap_or(u64::MAX);
            if have >= page.size {
                // It may have grown since the first page: what it signed last must be what there is.
                let is_it = have > page.size || page.head == head;
                return if is_it { Ok(entries) } else { Err(damaged("is not what it signs")) };
            }
            if page.entries.is_empty() {
                return Err(damaged("is shorter than it says"));
            }
        }
    }
}

/// Adds what one node has to what others have of the same request.
fn note(events: &mut Vec<AccessEvent>, member: &Member, entry: LogEntry) {
    let same = |event: &&mut AccessEvent| event.request == entry.request && event.denied == entry.denied;
    if let Some(known) = events.iter_mut().find(same) {
        known.time = known.time.min(entry.time);
        if !known.nodes.contains(&member.label) {
            known.nodes.push(member.label.clone());
        }
        return;
    }
    let item = |item: &OpenItem| match item {
        OpenItem::Record { record, .. } => record.to_string(),
        OpenItem::List { .. } => "a list".to_owned(),
    };
    events.push(AccessEvent {
        time: entry.time,
        grant: entry.grant,
        request: entry.request,
        items: entry.items.iter().map(item).collect(),
        purpose: entry.purpose,
        denied: entry.denied,
        nodes: vec![member.label.clone()],
    });
}

/// Whether the commitments of a dealing are those that the ledger names.
pub(super) fn is_named(access: &Access, commitments: &crate::crypto::access::Commitments) -> bool {
    commitments_hash(commitments) == access.sharing.commitments
}

/// All days there are.
#[must_use]
pub fn every_day() -> DayRange {
    match DayRange::new(Day(0), Day(u16::MAX)) {
        Some(range) => range,
        None => unreachable!("from the first day to the last"),
    }
}
