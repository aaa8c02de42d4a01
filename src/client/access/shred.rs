//! Shreddable collections: their data keys are in keyslots of the owner's own at the static nodes, and nowhere else for longer than
//! a put or a read takes.
//!
//! A keyslot is kept durably by a quorum, and its batch is named on the ledger, before the version that it opens is anchored: so
//! whatever is acknowledged can be read. What is given up on the way leaves a keyslot of a version that nobody ever
//! names.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::access::desk::Desks;
use crate::client::access::slots::{SlotWriter, Version};
use crate::client::context::Context;
use crate::client::get::read_header;
use crate::client::ledger::{no_ledger, wrong_answer};
use crate::client::vault::Vault;
use crate::client::{Error, ErrorKind, RecordAddress, sync};
use crate::crypto::access::{AccessKeys, Kek, Keyslot};
use crate::crypto::frame::Dek;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::access::open::OpenItem;
use crate::message::access::own_slots::{OwnSlot, OwnSlots};
use crate::message::access::{DepositKind, TaggedVersion};
use crate::message::{Action, Canonical as _, Member, Rejection, SlottedVersion, StoredVersion};
use crate::store::access::batch_hash;
use crate::types::limits::{MAX_BATCH_ENTRIES, MAX_RELEASE_ITEMS};
use crate::types::{CollectionClass, CollectionName, Hash, ScopePath, ScopeTag, VersionId};

use super::owner::is_rejection;

/// The scope of the owner's own keyslots. It begins with a control character, so that no scope that people name is it.
const OWN_SCOPE: &str = "\u{1}owner";
/// The generation of the owner's scope: nobody is ever shut out of it, so it never counts up.
const GENERATION: u32 = 0;
/// How long a static node may take before another one is asked too.
const PATIENCE: Duration = Duration::from_millis(300);

/// The path of the owner's own scope.
pub(crate) fn own_scope() -> ScopePath {
    OWN_SCOPE.parse().unwrap_or_else(|_| unreachable!("a path of six bytes"))
}

/// The class of a collection. One that this home does not know is looked for on the ledger; if that cannot be asked it counts as
/// durable, and its anchor is refused if it is not.
pub(crate) async fn class_of(
    ctx: &Arc<Context>,
    collection: &CollectionName,
) -> Result<CollectionClass, Error> {
    let Some(vault) = &ctx.vault else { return Ok(CollectionClass::Durable) };
    let known = || {
        let collection = collection.clone();
        ctx.index.with(move |index| index.class(&collection))
    };
    if let Some(class) = known().await? {
        return Ok(class);
    }
    if let Err(error) = sync::collection(ctx, vault, collection).await {
        tracing::debug!(%error, %collection, "it is not known whether there is such a collection");
    }
    Ok(known().await?.unwrap_or_default())
}

/// The static nodes, as the keeper of this vault's keyslots.
pub(crate) struct Shredder {
    ctx: Arc<Context>,
    vault: Arc<Vault>,
    desks: Desks,
}

/// A version whose keyslot is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) at: RecordAddress,
    pub(crate) version: VersionId,
    pub(crate) slotted: SlottedVersion,
}

/// What came of a question for a keyslot so far.
#[derive(Debug, Clone, Default)]
struct Found {
    dek: Option<Dek>,
    /// Static nodes that say that it was erased.
    erased: usize,
}

impl Shredder {
    pub(crate) fn new(ctx: &Arc<Context>) -> Result<Self, Error> {
        let vault = Arc::clone(ctx.vault.as_ref().ok_or_else(no_ledger)?);
        let desks = ctx.desks(&vault);
        desks.follow(&vault.ledger.roster());
        Ok(Self { ctx: Arc::clone(ctx), vault, desks })
    }

    /// The owner's keys and scope as they were in a generation of the vault's keys.
    fn own(&self, generation: u32) -> Result<(AccessKeys, ScopeTag), Error> {
        let keys = self.vault.keys.access().of_generation(generation).ok_or_else(|| {
            let message = format!("the record is under generation {generation} of the vault's keys");
            Error::new(ErrorKind::Refused, message).with_hint("this device has older keys: use the 24 words")
        })?;
        let scope = keys.scope_tag(&own_scope());
        Ok((keys, scope))
    }

    /// Under which of the vault's PRF keys slots are written now.
    pub(crate) async fn dealing(&self) -> Result<u32, Error> {
        let access = self.desks.access(*self.vault.keys.vault()).await?;
        let missing = || {
            Error::new(ErrorKind::Unavailable, "the static nodes do not have the vault's key yet")
                .with_hint("try again; see `xvault static status`")
        };
        Ok(access.ok_or_else(missing)?.sharing.dealing)
    }

    async fn carry_out(&self, action: Action) -> Result<(), Error> {
        let notice = |text: &str| self.ctx.notice(text);
        self.vault.ledger.carry_out(self.vault.keys.signing(), action, &notice).await.map(drop)
    }

    /// Has the keyslots of versions kept by a quorum of the static nodes, and their batches on the ledger.
    pub(crate) async fn keep(&self, dealing: u32, versions: &[Version]) -> Result<(), Error> {
        let of = (self.vault.ledger.genesis().network, *self.vault.keys.vault(), dealing);
        let writer = Arc::new(SlotWriter::new(of, self.vault.keys.access(), &own_scope(), GENERATION));
        let roster = self.vault.ledger.roster();
        for some in versions.chunks(MAX_BATCH_ENTRIES) {
            let (made, job) = (some.to_vec(), Arc::clone(&writer));
            let package = self.ctx.workers.run(move || job.batch(&made)).await??;
            let (batch, bytes) = (package.batch(), package.encode());
            let deposit = DeskRequest::Deposit { vault: of.1, kind: DepositKind::Batch, bytes };
            self.desks.have_kept(&roster, &deposit, &batch_hash(&batch).0).await?;
            // If we crash here or later, the slots are of versions that nothing names.
            self.carry_out(Action::AddEntries(batch)).await?;
        }
        Ok(())
    }

    /// Has the keyslots of a version deleted that did not come to be.
    pub(crate) async fn drop_slots(&self, at: &RecordAddress, version: VersionId) -> Result<(), Error> {
        let TaggedVersion { record, version } = self.tagged(at, version);
        match self.carry_out(Action::Erase { vault: *self.vault.keys.vault(), record, version }).await {
            Err(error) if is_rejection(&error, Rejection::AlreadyErased) => Ok(()),
            done => done,
        }
    }

    /// Takes a version out of all scopes but its owner's, which is of this generation of the vault's keys.
    pub(crate) async fn withdraw(
        &self,
        at: &RecordAddress,
        version: VersionId,
        key_generation: u32,
    ) -> Result<(), Error> {
        let (vault, version) = (*self.vault.keys.vault(), self.tagged(at, version));
        let (_, keep) = self.own(key_generation)?;
        match self.carry_out(Action::Withdraw { vault, version, keep }).await {
            Err(error)
                if is_rejection(&error, Rejection::AlreadyWithdrawn)
                    || is_rejection(&error, Rejection::AlreadyErased) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    fn tagged(&self, at: &RecordAddress, version: VersionId) -> TaggedVersion {
        let record = self.vault.keys.access().record_tag(&at.collection, &at.name);
        TaggedVersion { record, version }
    }

    /// A version with its data key and what its header says.
    pub(crate) async fn open(&self, wanted: Wanted) -> Result<StoredVersion, Error> {
        let gone = erased(&wanted.at);
        let slotted = wanted.slotted.clone();
        let dek = self.keys(&[wanted]).await?.pop().flatten().ok_or(gone)?;
        let mut stored = slotted.complete(dek, Hash([0; 32]));
        let header = read_header(&self.ctx, &stored).await?;
        (stored.content, stored.extents) = (header.content, header.extents);
        Ok(stored)
    }

    /// The data keys of versions; none of those that were erased. One static node that has a slot suffices: what it gives is
    /// checked against the commitment in the owner's own commit. That a version was erased, more must say than can be wrong.
    pub(crate) async fn keys(&self, wanted: &[Wanted]) -> Result<Vec<Option<Dek>>, Error> {
        let mut keys = Vec::with_capacity(wanted.len());
        // One question is about one generation of the vault's keys.
        for of_one in wanted.chunk_by(|one, next| one.slotted.key_generation == next.slotted.key_generation) {
            for some in of_one.chunks(MAX_RELEASE_ITEMS) {
                keys.extend(self.keys_of_page(some[0].slotted.key_generation, some).await?);
            }
        }
        Ok(keys)
    }

    async fn keys_of_page(&self, key_generation: u32, wanted: &[Wanted]) -> Result<Vec<Option<Dek>>, Error> {
        let (_, scope) = self.own(key_generation)?;
        let roster = self.vault.ledger.roster();
        let need = roster.committee().one_honest();
        let versions = wanted.iter().map(|wanted| self.tagged(&wanted.at, wanted.version)).collect();
        let vault = *self.vault.keys.vault();
        let asked = OwnSlots { vault, scope, generation: GENERATION, versions };
        let request = DeskRequest::OwnSlots(asked);
        let mut found = vec![Found::default(); wanted.len()];
        let is_settled = |found: &Found| found.dek.is_some() || found.erased >= need;
        let (mut members, mut asking, mut reasons) = (roster.members().iter(), JoinSet::new(), Vec::new());
        loop {
            if let Some(member) = members.next() {
                let (desks, member, request) = (self.desks.clone(), member.clone(), request.clone());
                asking.spawn(async move { (desks.say(&member, &request).await, member) });
            } else if asking.is_empty() {
                break;
            }
            let patience = if members.len() > 0 { PATIENCE } else { Duration::MAX };
            let Ok(Some(answered)) = tokio::time::timeout(patience, asking.join_next()).await else {
                continue;
            };
            let Ok((answer, member)) = answered else { continue };
            if let Err(error) = answer.and_then(|answer| self.take(&member, answer, wanted, &mut found)) {
                reasons.push(error.to_string());
            }
            if found.iter().all(is_settled) {
                return Ok(found.into_iter().map(|found| found.dek).collect());
            }
        }
        let left = found.iter().zip(wanted).find(|(found, _)| !is_settled(found));
        let what = left.map_or_else(String::new, |(_, wanted)| wanted.at.to_string());
        reasons.push(format!("none that answers has that of {what}"));
        let message = format!("the keyslot of a shreddable record cannot be had: {}", reasons.join("; "));
        Err(Error::new(ErrorKind::Unavailable, message)
            .with_hint("see `xvault static status`, then try again"))
    }

    /// Takes what one static node answers.
    fn take(
        &self,
        member: &Member,
        answer: DeskAnswer,
        wanted: &[Wanted],
        found: &mut [Found],
    ) -> Result<(), Error> {
        let DeskAnswer::OwnSlots(slots) = answer else { return Err(wrong_answer()) };
        if slots.len() != wanted.len() {
            return Err(wrong_answer());
        }
        let mut wrong = 0;
        for ((slot, wanted), found) in slots.iter().zip(wanted).zip(found) {
            match slot {
                OwnSlot::Here(slot) if found.dek.is_none() => {
                    found.dek = self.unwrap(slot, wanted);
                    wrong += usize::from(found.dek.is_none());
                }
                OwnSlot::Erased => found.erased += 1,
                OwnSlot::Here(_) | OwnSlot::Missing => {}
            }
        }
        if wrong == 0 {
            return Ok(());
        }
        let message = format!("{} gives {wrong} keyslots that are not this vault's", member.label);
        Err(Error::new(ErrorKind::Corrupt, message))
    }

    /// The data key in a slot, if it is the one that the version commits to.
    fn unwrap(&self, slot: &Keyslot, wanted: &Wanted) -> Option<Dek> {
        let Wanted { at, version, slotted } = wanted;
        let ((keys, scope), vault) = (self.own(slotted.key_generation).ok()?, *self.vault.keys.vault());
        let record = keys.record_tag(&at.collection, &at.name);
        let item = OpenItem::Record { record, version: *version, scope, generation: GENERATION };
        let id = item.slot(self.vault.ledger.genesis().network, vault, slotted.dealing);
        let scope_key = keys.scope_key(&own_scope(), GENERATION);
        let day = slot.day(&scope_key.list_key());
        let output = keys.prf_key(slotted.dealing).evaluate(&id);
        let content = slot.unwrap(&Kek::new(&scope_key.day(day), &output, &id), &id, &slotted.dek_commit);
        let content = content.ok()?;
        let is_it = (content.content_version, content.header) == (slotted.content_version, slotted.header);
        is_it.then_some(content.dek)
    }
}

/// That a version was erased.
pub(crate) fn erased(at: &RecordAddress) -> Error {
    Error::new(ErrorKind::NotFound, format!("{at} was erased: its keyslots are gone, and nobody can read it"))
}
