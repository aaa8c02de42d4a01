//! The vault on the ledger: what its transactions need, and how they become final.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::context::{Context, guard};
use crate::client::ledger::wrong_answer;
use crate::client::settle::{LIFE_BLOCKS, Verdict, refused};
use crate::client::{Ack, Error, ErrorKind, LedgerClient, rotation};
use crate::crypto::seed::VaultKeys;
use crate::ledger::ask::{Answer, Proven, Question};
use crate::ledger::rows::Head;
use crate::message::anchor::{Anchor, AnchoredSegment, AnchoredShard, NodeNumber};
use crate::message::{Action, Descriptor, Rejection, SignedTransaction, Transaction};
use crate::types::{CollectionTag, Height, PublicKey, TransactionId};

/// How often static nodes are asked again for what must be there.
const FINAL_TRIES: usize = 100;
/// Between two such tries: a static node is behind for as long as a block takes.
pub(crate) const BEHIND_PAUSE: Duration = Duration::from_millis(50);

/// Registers a vault that has nothing yet: nodes store for no other, and a network that does not let it in says so before
/// anything is sent.
pub(crate) async fn register(ctx: &Context, ack: Ack) -> Result<(), Error> {
    let Some(vault) = &ctx.vault else { return Ok(()) };
    let is_new = ctx.index.with(|index| index.has_no_heads()).await?;
    if !is_new || ctx.is_registered.load(Ordering::Relaxed) {
        return Ok(());
    }
    match vault.create(&|text| ctx.notice(text)).await {
        Ok(()) => ctx.is_registered.store(true, Ordering::Relaxed),
        // It may be registered all the same, and is asked again when it is anchored.
        Err(error) if error.kind() == ErrorKind::Unavailable && ack < Ack::Anchored => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The vault of these keys on its network's ledger.
#[derive(Debug)]
pub(crate) struct Vault {
    pub(crate) ledger: LedgerClient,
    pub(crate) keys: VaultKeys,
    /// Numbers of storage nodes, as far as they were asked for.
    nodes: Mutex<BTreeMap<PublicKey, NodeNumber>>,
    /// The highest block that was heard of.
    height: AtomicU64,
    /// Whose commit key opened the last commit that was read.
    pub(crate) commit_generation: AtomicUsize,
}

impl Vault {
    pub(crate) fn new(ledger: LedgerClient, keys: VaultKeys) -> Arc<Self> {
        let commit_generation = AtomicUsize::new(keys.commit_keys().len() - 1);
        Arc::new(Self { ledger, keys, nodes: Mutex::default(), height: AtomicU64::new(0), commit_generation })
    }

    fn heard_of(&self, height: Height) -> Height {
        Height(self.height.fetch_max(height.0, Ordering::Relaxed).max(height.0))
    }

    async fn height(&self) -> Result<Height, Error> {
        match self.heard_of(Height(0)) {
            Height(0) => Ok(self.heard_of(self.ledger.tip().await?.record.height)),
            height => Ok(height),
        }
    }

    /// The head of a collection, as one static node says.
    pub(crate) async fn head(&self, collection: CollectionTag) -> Result<Option<Head>, Error> {
        match self.ledger.ask(&Question::Head { vault: *self.keys.vault(), collection }).await? {
            Answer::Head(head) => Ok(head),
            _ => Err(wrong_answer()),
        }
    }

    /// The collections of the vault, as one static node says.
    pub(crate) async fn collections(&self) -> Result<Vec<(CollectionTag, Head)>, Error> {
        let mut found: Vec<(CollectionTag, Head)> = Vec::new();
        loop {
            let after = found.last().map(|(tag, _)| *tag);
            let question = Question::Collections { vault: *self.keys.vault(), after };
            let Answer::Collections(page) = self.ledger.ask(&question).await? else {
                return Err(wrong_answer());
            };
            // In ascending order, so that it ends.
            let page: Vec<_> = page.into_iter().filter(|(tag, _)| Some(*tag) > after).collect();
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page);
        }
    }

    /// A final transaction, proven.
    pub(crate) async fn transaction(&self, id: TransactionId) -> Result<Proven, Error> {
        let proven = self.find_transaction(id).await?;
        let wrong = |violation: crate::message::Violation| {
            let message = format!("a static node's proof of transaction {id} is wrong: {violation}");
            Error::new(ErrorKind::Unavailable, message).caused_by(violation)
        };
        if proven.transaction.id() != id {
            return Err(wrong(crate::message::Violation::WrongProof));
        }
        self.ledger.verify(&proven).map_err(wrong)?;
        self.heard_of(proven.height);
        Ok(*proven)
    }

    /// Looks for a transaction that is known to be final. A static node may be a moment behind.
    async fn find_transaction(&self, id: TransactionId) -> Result<Box<Proven>, Error> {
        for _ in 0..FINAL_TRIES {
            let is_there = |answer: &Answer| matches!(answer, Answer::Transaction(Some(_)));
            match self.ledger.ask_for(&Question::Transaction { id }, is_there).await? {
                Answer::Transaction(Some(proven)) => return Ok(proven),
                Answer::Transaction(None) => tokio::time::sleep(BEHIND_PAUSE).await,
                _ => return Err(wrong_answer()),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("no static node shows transaction {id}")))
    }

    /// The anchors of a collection from `head` back to the one after `until`, the oldest first. The newest is proven, and
    /// each names the one before by its hash.
    pub(crate) async fn anchors(
        &self,
        head: TransactionId,
        until: Option<TransactionId>,
    ) -> Result<Vec<(TransactionId, Anchor)>, Error> {
        self.transaction(head).await?;
        let (mut found, mut next) = (Vec::new(), Some(head));
        while let Some(from) = next.filter(|next| Some(*next) != until) {
            // A static node that took a snapshot may not have old ones yet.
            let has_some = |answer: &Answer| matches!(answer, Answer::Anchors(page) if !page.is_empty());
            let question = Question::Anchors { from, until };
            let Answer::Anchors(page) = self.ledger.ask_for(&question, has_some).await? else {
                return Err(wrong_answer());
            };
            if page.is_empty() {
                return Err(wrong_answer());
            }
            for signed in page {
                let Action::Anchor(anchor) = &signed.transaction().action else { return Err(wrong_answer()) };
                if Some(signed.id()) != next || next == until {
                    return Err(wrong_answer());
                }
                next = anchor.previous;
                found.push((signed.id(), anchor.clone()));
            }
        }
        if next != until {
            let message = "the local index is of another history than the ledger's";
            let hint = "was the network set up anew? use another --home for it";
            return Err(Error::new(ErrorKind::Corrupt, message).with_hint(hint));
        }
        found.reverse();
        Ok(found)
    }

    /// Asks for the numbers of storage nodes if some of these are not known.
    async fn learn_nodes(
        &self,
        wanted: impl Fn(&BTreeMap<PublicKey, NodeNumber>) -> bool,
    ) -> Result<(), Error> {
        if wanted(&guard(&self.nodes)) {
            return Ok(());
        }
        let mut after = guard(&self.nodes).values().max().copied();
        loop {
            let Answer::Nodes(page) = self.ledger.ask(&Question::Nodes { after }).await? else {
                return Err(wrong_answer());
            };
            let page: Vec<_> = page.into_iter().filter(|(number, _)| Some(*number) > after).collect();
            if page.is_empty() {
                return Ok(());
            }
            after = page.last().map(|(number, _)| *number);
            guard(&self.nodes).extend(page.into_iter().map(|(number, node)| (node.key, number)));
        }
    }

    /// Descriptors as anchors have them. A holder that the ledger does not know is left out.
    pub(crate) async fn anchored(&self, descriptors: &[&Descriptor]) -> Result<Vec<AnchoredSegment>, Error> {
        let holders = || descriptors.iter().flat_map(|descriptor| descriptor.holders.iter().flatten());
        self.learn_nodes(|known| holders().all(|node| known.contains_key(node))).await?;
        let nodes = guard(&self.nodes);
        let shard = |(root, holder): (&_, &Option<PublicKey>)| AnchoredShard {
            root: *root,
            holder: holder.and_then(|node| nodes.get(&node).copied()),
        };
        let segment = |found: &&Descriptor| AnchoredSegment {
            segment: found.segment,
            code: found.code,
            len: found.len,
            shards: found.roots.iter().zip(&found.holders).map(shard).collect(),
        };
        let mut segments: Vec<_> = descriptors.iter().map(segment).collect();
        segments.sort_by_key(|segment| segment.segment);
        Ok(segments)
    }

    /// The descriptor of an anchored segment.
    pub(crate) async fn descriptor(&self, found: &AnchoredSegment) -> Result<Descriptor, Error> {
        let holders = || found.shards.iter().filter_map(|shard| shard.holder);
        self.learn_nodes(|known| holders().all(|number| known.values().any(|known| *known == number)))
            .await?;
        let nodes = guard(&self.nodes);
        let key = |number: NodeNumber| nodes.iter().find(|(_, known)| **known == number).map(|(key, _)| *key);
        Ok(Descriptor {
            segment: found.segment,
            code: found.code,
            len: found.len,
            roots: found.shards.iter().map(|shard| shard.root).collect(),
            holders: found.shards.iter().map(|shard| shard.holder.and_then(key)).collect(),
        })
    }

    /// Signs an anchor that is to be the `nonce`th of its collection, from 0.
    pub(crate) async fn sign(&self, nonce: u64, action: Action) -> Result<SignedTransaction, Error> {
        let expires = Height(self.height().await?.0 + LIFE_BLOCKS);
        let (network, author) = (self.ledger.genesis().network, self.keys.signing().public());
        Ok(Transaction { network, author, nonce, expires, action }.sign(self.keys.signing()))
    }

    /// Registers the vault, unless it is already.
    pub(crate) async fn create(&self, notice: &(dyn Fn(&str) + Sync)) -> Result<(), Error> {
        let author = self.keys.signing().public();
        let Answer::Nonce(nonce) = self.ledger.ask(&Question::Nonce { author }).await? else {
            return Err(wrong_answer());
        };
        let action = Action::CreateVault { vault: *self.keys.vault(), sponsor: None };
        match self.settle(&self.sign(nonce, action).await?, notice).await? {
            Verdict::Final { .. } => {}
            Verdict::Rejected(Rejection::VaultExists | Rejection::WrongNonce { .. }) => return Ok(()),
            Verdict::Rejected(rejection) => return Err(refused(&rejection)),
        }
        // Right away, before anybody can have stolen the key; what fails here is done by who rotates or lets a device in.
        if let Err(error) = self.pledge(notice).await {
            tracing::warn!(%error, "the vault's next key is not pledged yet");
        }
        Ok(())
    }

    /// Pledges the vault's next key on the ledger, unless one is already; nothing where the owner's root is not known.
    pub(crate) async fn pledge(&self, notice: &(dyn Fn(&str) + Sync)) -> Result<(), Error> {
        rotation::pledge(&self.ledger, &self.keys, notice).await
    }

    /// Submits a transaction to all static nodes until it is final, or will not be.
    pub(crate) async fn settle(
        &self,
        signed: &SignedTransaction,
        notice: &(dyn Fn(&str) + Sync),
    ) -> Result<Verdict, Error> {
        let settled = self.ledger.settle(signed, notice).await?;
        if let Verdict::Final { height } = settled {
            self.heard_of(height);
        }
        Ok(settled)
    }
}
