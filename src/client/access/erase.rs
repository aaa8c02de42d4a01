//! Erasing what is in shreddable collections, and the certificate of it.
//!
//! First the ledger: from then on no static node opens a version, and each deletes its keyslots. Then the records themselves go, and
//! with them the segments that nothing else uses. Then those who had a part sign that it is gone. Each step may be done
//! again: what an interruption leaves the next `erase` of the same takes up, by the [`Plan`] in the index.

mod collect;
mod ended;
mod plan;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::client::access::desk::Desks;
use crate::client::access::owner::is_rejection;
use crate::client::ledger::{no_ledger, wrong_answer};
use crate::client::packer::{Item, ItemKind};
use crate::client::vault::Vault;
use crate::client::{
    Ack, Client, Condition, Error, ErrorKind, ListEntry, ListOptions, RecordAddress, home_key, sync,
};
use crate::ledger::ask::{Answer, Question};
use crate::message::access::certificate::NamedRecord;
use crate::message::access::{Erasure, ErasureCertificate, TaggedVersion};
use crate::message::{Action, Canonical as _, Descriptor, Genesis, Rejection, VersionState};
use crate::types::{CollectionClass, CollectionName, Height, VersionId};

pub(in crate::client) use ended::ended;
use plan::{Going, Plan};

/// Records of a page while a collection is looked through, and changes on their way at once.
const PAGE: usize = 1_000;
/// Erasures under way and done: subject → plan.
const NOTE: &[u8] = b"erasure/";

/// What is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EraseTarget {
    /// A record: all its versions, or one.
    Record(RecordAddress, Option<VersionId>),
    /// All that is in a collection. The collection stays.
    Collection(CollectionName),
    /// All that is in the vault, durable or not, and the vault with it.
    Vault,
}

impl EraseTarget {
    const fn collection(&self) -> Option<&CollectionName> {
        match self {
            Self::Record(at, _) => Some(&at.collection),
            Self::Collection(collection) => Some(collection),
            Self::Vault => None,
        }
    }
}

impl std::fmt::Display for EraseTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Record(at, None) => write!(f, "{at}"),
            Self::Record(at, Some(version)) => write!(f, "{at} version {version}"),
            Self::Collection(collection) => write!(f, "xv://{collection}"),
            Self::Vault => f.write_str("the vault"),
        }
    }
}

/// An erasure at work.
struct Eraser<'a> {
    client: &'a Client,
    vault: Arc<Vault>,
    desks: Desks,
    subject: String,
    plan: Plan,
}

impl Client {
    /// Erases what is in a shreddable collection: for good, and for whoever has the seed and all shards too. What was
    /// erased before is certified anew, with the receipts that came since.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the collection is durable, [`ErrorKind::NotFound`]; [`ErrorKind::Unavailable`] if too few
    /// static nodes have signed yet: then it is erased, and the same call goes on from there.
    pub async fn erase(&self, target: &EraseTarget) -> Result<ErasureCertificate, Error> {
        let vault = Arc::clone(self.ctx.vault.as_ref().ok_or_else(no_ledger)?);
        match target.collection() {
            Some(collection) => {
                sync::collection(&self.ctx, &vault, collection).await?;
                require_shreddable(self.class(collection).await?, collection)?;
            }
            None => {
                if let Some(height) = vault.ledger.vault_erased(*vault.keys.vault()).await?
                    && !self.noted_plan(&target.to_string()).await?.is_of_vault()
                {
                    return Err(ended(height));
                }
                // What other homes wrote goes too. And shares that were never dealt cannot be erased.
                sync::all(&self.ctx, &vault, |_| {}).await?;
                self.require_shared_key().await?;
            }
        }
        vault.ledger.follow().await?;
        let desks = self.ctx.desks(&vault);
        desks.follow(&vault.ledger.roster());
        let subject = target.to_string();
        let plan = self.noted_plan(&subject).await?;
        let mut eraser = Eraser { client: self, vault, desks, subject, plan };
        eraser.extend_plan(target).await?;
        if *target == EraseTarget::Vault {
            return eraser.run_for_vault().await;
        }
        if eraser.plan.erasures.is_empty() && eraser.plan.going.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is nothing to erase in {target}")));
        }
        eraser.run().await
    }

    /// What all proofs hang on.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the network has no ledger.
    pub fn genesis(&self) -> Result<&Genesis, Error> {
        self.ctx.vault.as_deref().map(|vault| vault.ledger.genesis()).ok_or_else(no_ledger)
    }

    async fn noted_plan(&self, subject: &str) -> Result<Plan, Error> {
        let key = [NOTE, subject.as_bytes()].concat();
        let wanted = key.clone();
        let notes = self.ctx.index.with(move |index| index.notes(&wanted)).await?;
        let Some((_, bytes)) = notes.into_iter().find(|(found, _)| *found == key) else {
            return Ok(Plan::default());
        };
        Plan::decode(&bytes).map_err(|violation| {
            Error::new(ErrorKind::Corrupt, "the note of an erasure in the local index does not read")
                .caused_by(violation)
        })
    }
}

fn require_shreddable(class: Option<CollectionClass>, collection: &CollectionName) -> Result<(), Error> {
    let Some(class) = class else {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no collection xv://{collection}")));
    };
    if class.is_shreddable() {
        return Ok(());
    }
    let message = format!(
        "xv://{collection} is durable: its data keys are in the vault's own commits, so that nobody can promise that what was \
         stored is unreadable for whoever has the 24 words and k shards"
    );
    let hint = "`xvault rm --all-versions` frees it as well as can be; what is to be erasable belongs in a collection that \
                `xvault collection create --shreddable` began";
    Err(Error::new(ErrorKind::Refused, message).with_hint(hint))
}

impl Eraser<'_> {
    /// Adds what is there now to what an earlier attempt was to do, and notes it.
    async fn extend_plan(&mut self, target: &EraseTarget) -> Result<(), Error> {
        let keys = self.vault.keys.access();
        let (mut tagged, mut names, mut going, mut segments) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::<Descriptor>::new());
        for at in self.records(target).await? {
            let record = keys.record_tag(&at.collection, &at.name);
            names.push(NamedRecord { record, name: at.to_string() });
            let address = at.clone();
            let index = &self.client.ctx.index;
            let versions =
                index.with(move |index| index.versions(&address.collection, &address.name)).await?;
            for entry in versions {
                if matches!(target, EraseTarget::Record(_, Some(only)) if *only != entry.version) {
                    continue;
                }
                let version = entry.version;
                if entry.state != VersionState::Deleted {
                    tagged.push(TaggedVersion { record, version });
                }
                going.push(Going { address: at.to_string(), version });
                let address = at.clone();
                segments.extend(
                    index
                        .with(move |index| index.segments_of(&address.collection, &address.name, &version))
                        .await?,
                );
            }
        }
        if going.is_empty() {
            return Ok(());
        }
        if !self.plan.add(*self.vault.keys.vault(), tagged, names, going, &segments) {
            let message = "these are more versions than one certificate has room for";
            return Err(Error::new(ErrorKind::Invalid, message).with_hint("erase records of it apart"));
        }
        // If we crash after this the next attempt knows what was to go, also when the index has forgotten it.
        self.note().await
    }

    /// The records that a target has, removed ones too.
    async fn records(&self, target: &EraseTarget) -> Result<Vec<RecordAddress>, Error> {
        let collections = match target {
            EraseTarget::Record(at, _) => return Ok(vec![at.clone()]),
            EraseTarget::Collection(collection) => vec![collection.clone()],
            EraseTarget::Vault => {
                let found = self.client.ctx.index.with(|index| index.collections()).await?;
                found.into_iter().map(|(name, ..)| name).collect()
            }
        };
        let mut found = Vec::new();
        for collection in collections {
            found.extend(self.records_of(&collection).await?);
        }
        Ok(found)
    }

    async fn records_of(&self, collection: &CollectionName) -> Result<Vec<RecordAddress>, Error> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let options = ListOptions {
                prefix: String::new(),
                delimiter: None,
                after,
                limit: PAGE,
                include_deleted: true,
            };
            let page = self.client.list(collection, options).await?;
            for entry in page.entries {
                let ListEntry::Record(info) = entry else { continue };
                found.push(RecordAddress { collection: collection.clone(), name: info.name });
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    async fn note(&self) -> Result<(), Error> {
        let note = ([NOTE, self.subject.as_bytes()].concat(), self.plan.encode());
        Ok(self.client.ctx.index.with(move |index| index.note(&[note])).await?)
    }

    async fn run(mut self) -> Result<ErasureCertificate, Error> {
        self.erase_on_ledger().await?;
        self.forget().await?;
        // What a crash or a change of mind left of uploads opens no more.
        let under_way = self.client.ctx.index.with(|index| index.uploads()).await?;
        home_key::sweep(&self.client.ctx.home, &under_way)?;
        self.collect().await?;
        self.note().await?;
        self.certify().await
    }

    /// The same for all of the vault: once its records are gone the ledger ends it, and with that frees what no anchor can.
    async fn run_for_vault(mut self) -> Result<ErasureCertificate, Error> {
        self.erase_on_ledger().await?;
        self.forget().await?;
        if !self.plan.is_of_vault() {
            // What is left are commits: that a collection began, that something was erased.
            let left = self.client.ctx.index.with(|index| index.descriptors()).await?;
            self.plan.end_vault(*self.vault.keys.vault(), &left);
            self.note().await?;
        }
        self.run().await
    }

    /// Has the ledger erase: when this is done no static node opens any of it.
    async fn erase_on_ledger(&mut self) -> Result<(), Error> {
        for at in 0..self.plan.erasures.len() {
            if self.plan.erasures[at].height.is_some() {
                continue;
            }
            let erasure = self.plan.erasures[at].erasure.clone();
            let height = self.carry_out(erasure).await?;
            self.plan.erasures[at].height = Some(height);
            self.note().await?;
        }
        Ok(())
    }

    async fn carry_out(&self, erasure: Erasure) -> Result<Height, Error> {
        let question = Question::Erasure { vault: erasure.vault, erasure: erasure.hash() };
        let notice = |text: &str| self.client.ctx.notice(text);
        let author = self.vault.keys.signing();
        let done = self.vault.ledger.carry_out(author, Action::EraseVersions(erasure), &notice).await;
        match done {
            // By an attempt before this one.
            Err(error) if is_rejection(&error, Rejection::AlreadyErased) => {
                match self.desks.agreed(&question).await? {
                    Answer::Erasure(Some(height)) => Ok(height),
                    Answer::Erasure(None) => Err(error),
                    _ => Err(wrong_answer()),
                }
            }
            done => done,
        }
    }

    /// Takes the versions out of the collection: its next anchor releases the segments that nothing uses any more.
    async fn forget(&self) -> Result<(), Error> {
        for some in self.plan.going.chunks(PAGE) {
            let mut erasing = JoinSet::new();
            for going in some {
                let Some(at) = going.at() else { continue };
                let (address, version) = (at.clone(), going.version);
                let find = move |index: &mut crate::store::Index| {
                    index.version(&address.collection, &address.name, &version)
                };
                if self.client.ctx.index.with(find).await?.is_none() {
                    continue;
                }
                let (packer, what) = (self.client.packer.clone(), ItemKind::Erase(version));
                erasing.spawn(async move {
                    packer.commit(Item { at, condition: Condition::Any, ack: Ack::Anchored, what }).await
                });
            }
            while let Some(done) = erasing.join_next().await {
                let panicked =
                    |error| Error::new(ErrorKind::Internal, "an erasure panicked").caused_by(error);
                done.map_err(panicked)??;
            }
        }
        Ok(())
    }
}
