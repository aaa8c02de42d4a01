//! The thread that keeps the ledger: it drives consensus, builds and checks blocks, makes them durable, and only
//! then speaks of them.
//!
//! One thread has the log of consensus, the chain and the mempool, so that the order of what it does is the
//! order of the lines here. Everybody else talks to it through a bounded queue of [`Command`]s.
//!
//! Here is no thread, no clock and no network: the keeper is told what came ([`Keeper::take`]) and when its time is up
//! ([`Keeper::expire`]), and finds the time and the others in [`Outside`]. [`thread`] runs it in a node; the simulator
//! (`testing::sim`) runs many in virtual time.

mod catch_up;
pub(crate) mod outside;
mod statements;
mod take;
pub(super) mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::consensus::{Consensus, Effect, Event, Settings, Stop, Timing, To, WalEntry};
use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Fate, FinalBlock, Proven};
use crate::ledger::log::Paths;
use crate::ledger::mempool::NotQueued;
use crate::ledger::rows::{ARCHIVE, PLACES, ROSTER_CHANGES, STATICS, Standing};
use crate::ledger::snapshot::SnapshotDownload;
use crate::ledger::{self, ApplyError, Changes, Draft, Mempool, ReadError, query};
use crate::message::block::{Block, Header};
use crate::message::canonical::Canonical as _;
use crate::message::proposal::block_hash;
use crate::message::transaction::Lane;
use crate::message::{
    Action, CommitCertificate, Cosignature, Genesis, SignedTransaction, VerifiedTransaction,
};
use crate::roles::static_node::keeper::catch_up::LOOK_EVERY;
use crate::roles::static_node::keeper::outside::{Letter, Outside};
use crate::roles::static_node::keeper::statements::Statements;
use crate::roles::static_node::prove::{self, ProvenHead};
use crate::roles::static_node::shared::Shared;
use crate::roles::static_node::snapshots::Snapshots;
use crate::roles::static_node::tree_heads::{Added, SignedHead, TreeHeads, read_cosignatures};
use crate::store::chain::{Chain, ChainError};
use crate::store::wal::{Wal, WalError};
use crate::types::{
    BlockId, Committee, Hash, Height, Machine as _, PublicKey, Round, Timestamp, TransactionId,
};

/// How far a block's time may be ahead of this clock.
const MAX_SKEW: Duration = Duration::from_secs(10);
/// The log of consensus is begun anew at this length: each time costs a sync.
const WAL_RESTART_LEN: u64 = 8 << 20;
/// Blocks whose cosignatures are kept: more than any tree head still grows for.
const COSIGNATURES_KEPT: u64 = 128;
/// How much longer than a heartbeat a block may take: rounds of proposers that are gone.
const BLOCK_GRACE: Duration = Duration::from_secs(5);

/// What the keeper is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A message of consensus arrived.
    Message { from: PublicKey, bytes: Bytes },
    /// A static node can be reached, for the first time or again.
    Connected { peer: PublicKey },
    /// A static node does not take this one for one.
    Refused { peer: PublicKey },
    /// Somebody wants a transaction on the ledger.
    Submit { transaction: Box<VerifiedTransaction>, answer: oneshot::Sender<Fate> },
    /// Final blocks, as asked for.
    Synced { from: PublicKey, blocks: Vec<FinalBlock> },
    /// A static node cosigned a tree head.
    Cosignature { from: PublicKey, height: Height, signed: Box<SignedHead> },
    /// Who cosigned the tree head of a block, as asked for.
    Gathered { height: Height, cosignatures: Vec<Cosignature> },
    /// An answer to what was asked under this number; none if none came.
    Answered { from: PublicKey, number: u64, answer: Option<Box<Answer>> },
    /// This node has something to say on the ledger.
    Say(Box<Action>),
    /// The node is to stop.
    Stop,
}

/// Why the keeper stopped by itself. The node must not go on without it.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The log of consensus cannot be used.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The chain cannot be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Consensus must not go on.
    #[error(transparent)]
    Stop(Stop),
    /// A block was decided that this node finds invalid: it or a quorum of the others is wrong.
    #[error("block {height} was decided, but is not valid here: {reason}")]
    Disagrees {
        /// Its height.
        height: Height,
        /// Why.
        reason: String,
    },
    /// A quorum signed a ledger that does not go on from this node's.
    #[error("the static nodes' ledger at block {other} does not follow from this node's block {own}")]
    Forked {
        /// The block that this node has.
        own: Height,
        /// The block that does not follow.
        other: Height,
    },
}

impl From<ReadError> for KeeperError {
    fn from(error: ReadError) -> Self {
        Self::Chain(error.into())
    }
}

/// Who is told what became of a transaction.
type Waiting = BTreeMap<TransactionId, Vec<oneshot::Sender<Fate>>>;

/// A transaction that is final and whose proof waits for cosignatures.
struct Unproven {
    height: Height,
    /// The transaction, if somebody waits for its proof.
    wanted: Option<SignedTransaction>,
}

pub(crate) struct Keeper {
    genesis: Arc<Genesis>,
    key: KeyPair,
    pq_key: PqKeyPair,
    chain: Chain,
    wal: Wal,
    machine: Consensus,
    mempool: Mempool,
    heads: TreeHeads,
    outside: Box<dyn Outside>,
    shared: Arc<Shared>,
    /// Blocks for the next height that are known to be valid, with what they change.
    valid: BTreeMap<BlockId, (Hash, Block, Changes)>,
    /// Blocks that came ahead of their turn, from whom.
    synced: BTreeMap<Height, (PublicKey, FinalBlock)>,
    waiting: Waiting,
    /// Transactions that are final and whose proof waits for cosignatures.
    unproven: BTreeMap<TransactionId, Unproven>,
    /// What this node itself has to say on the ledger.
    statements: Statements,
    /// The newest tree head up to which all is proved: by a quorum's cosignatures of it, and of every change of the
    /// static nodes before it.
    proven: Option<Arc<ProvenHead>>,
    /// Changes of the static nodes that this node cannot prove yet.
    gaps: BTreeSet<Height>,
    /// How long there may be no block before the others are asked for one.
    block_patience: Duration,
    /// When the last block was committed.
    committed_at: Timestamp,
    /// When to look whether others are ahead.
    look_at: Timestamp,
    /// Who sent blocks that are not all carried out yet, and may have more.
    fetching: Option<PublicKey>,
    /// Takes a snapshot when this node is far behind.
    download: SnapshotDownload,
    /// How many blocks that is.
    snapshot_gap: u64,
    /// How patient consensus is.
    timing: Timing,
    /// The states that others take.
    snapshots: Arc<Snapshots>,
    /// Until when an answer may come to what was asked for the archive.
    filling_until: Option<Timestamp>,
    /// Told of who votes.
    voters: watch::Sender<Option<Committee>>,
}

/// What a keeper works with.
pub(crate) struct Parts {
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) key: KeyPair,
    pub(crate) chain: Chain,
    pub(crate) wal: Wal,
    pub(crate) outside: Box<dyn Outside>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) timing: Timing,
    pub(crate) snapshot_gap: u64,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) voters: watch::Sender<Option<Committee>>,
}

impl Keeper {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { genesis, key, chain, wal, outside, shared, timing, .. } = parts;
        let (snapshots, snapshot_gap, voters) = (parts.snapshots, parts.snapshot_gap, parts.voters);
        let settings = Settings::new(genesis.network, key.clone(), timing);
        Self {
            pq_key: PqKeyPair::from_node_secret(&key.secret()),
            heads: TreeHeads::new(genesis.network),
            machine: Consensus::new(settings),
            download: SnapshotDownload::new(Arc::clone(&genesis)),
            snapshot_gap,
            timing,
            snapshots,
            filling_until: None,
            genesis,
            key,
            chain,
            wal,
            mempool: Mempool::default(),
            outside,
            shared,
            valid: BTreeMap::new(),
            synced: BTreeMap::new(),
            waiting: Waiting::new(),
            unproven: BTreeMap::new(),
            statements: Statements::default(),
            proven: None,
            gaps: BTreeSet::new(),
            block_patience: timing.heartbeat + BLOCK_GRACE,
            committed_at: Timestamp::ZERO,
            look_at: Timestamp::ZERO,
            fetching: None,
            voters,
        }
    }

    /// When [`expire`](Self::expire) is due, unless something comes before.
    pub(crate) fn deadline(&self) -> Timestamp {
        let deadlines = [self.machine.deadline(), self.download.deadline()];
        deadlines.into_iter().flatten().fold(self.look_at, Timestamp::min)
    }

    /// Does what is due by now, if anything is.
    pub(crate) fn expire(&mut self) -> Result<(), KeeperError> {
        let now = self.now();
        if self.machine.deadline().is_some_and(|at| at <= now) {
            self.machine.expire(now);
        }
        if self.download.deadline().is_some_and(|at| at <= now) {
            self.download.expire(now);
        }
        if self.look_at <= now {
            self.look(now)?;
        }
        self.carry_on_download()?;
        self.carry_out()
    }

    fn now(&self) -> Timestamp {
        self.outside.now()
    }

    /// Takes part, from where the chain and the log of consensus are.
    pub(crate) fn start(&mut self, log: Vec<Vec<u8>>) -> Result<(), KeeperError> {
        let view = self.chain.view()?;
        let tip = view.tip()?;
        let height = tip.record.height;
        let roster = query::next_roster(&view)?;
        self.set_voters(&roster);
        self.committed_at = self.now();
        // Who votes hears from the others. To call them at once, while they start too, would only find them gone.
        self.look_at = if self.votes() { self.committed_at + LOOK_EVERY } else { self.committed_at };
        self.gaps = prove::unproven_changes(&view)?.into_iter().collect();
        if height > Height::GENESIS {
            let kept = view.cosignatures(height)?.unwrap_or_default();
            self.open_head(&tip)?;
            for cosignature in read_cosignatures(&kept).unwrap_or_default() {
                let signed = SignedHead { size: tip.record.log_size, root: tip.log_root, cosignature };
                self.cosigned(height, signed)?;
            }
            // If we crashed before the cosignatures were durable, nobody may have this node's any more.
            self.cosign(height)?;
        }
        let wal = log.into_iter().map(|entry| WalEntry(entry.into())).collect();
        let committee = query::next_committee(&view)?;
        self.event(Event::Start { height: height.next(), committee, wal });
        self.carry_out()
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        self.machine.handle(now, event);
    }

    /// Carries out what consensus wants, in its order. If we crash between any two of these the log of
    /// consensus leads to the same again.
    fn carry_out(&mut self) -> Result<(), KeeperError> {
        while let Some(effect) = self.machine.poll() {
            match effect {
                Effect::Append(entry) => self.wal.append(&entry.0),
                Effect::Flush => self.wal.flush()?,
                // Who does not vote has nothing to say that others would hear.
                Effect::Send { to, bytes } => {
                    if self.votes() {
                        self.outside.send(to, Letter::Consensus(bytes));
                    }
                }
                Effect::Build { height, round } => self.build(height, round)?,
                Effect::Check { height, id, bytes, block, agreed, .. } => {
                    let valid = self.check(height, id, bytes, &block, agreed)?;
                    self.event(Event::Checked { height, id, bytes, valid });
                }
                Effect::Decide { height, id, block, certificate } => {
                    self.decide(height, id, &block, &certificate)?;
                }
                Effect::Grown(certificate) => self.chain.grow(&certificate)?,
                Effect::Misbehaved(evidence) => self.say(Action::Evidence(evidence))?,
                Effect::Invalid { proposal, .. } => {
                    let (offender, height) = (proposal.proposer, proposal.proposal.height);
                    self.say(Action::Accuse { offender, height })?;
                }
                Effect::NeedBlock { height, from } => self.need(height, &from)?,
                Effect::Blame { peer, violation } => {
                    tracing::warn!(peer = %peer.short(), %violation, "a static node breaks the protocol");
                }
                Effect::Stop(stop) => return Err(KeeperError::Stop(stop)),
            }
        }
        Ok(())
    }

    /// Takes in what came.
    pub(crate) fn take(&mut self, command: Command) -> Result<(), KeeperError> {
        match command {
            Command::Message { from, bytes } => self.event(Event::Received { from, bytes }),
            Command::Connected { peer } => self.event(Event::Connected { peer }),
            // It may know of blocks that say so.
            Command::Refused { peer } => self.catch_up(peer)?,
            Command::Submit { transaction, answer } => self.submit(*transaction, answer)?,
            Command::Synced { from, blocks } => self.fetched(from, blocks)?,
            Command::Cosignature { from, height, signed } => {
                if signed.cosignature.signer == from {
                    self.cosigned(height, *signed)?;
                }
            }
            Command::Gathered { height, cosignatures } => self.gathered(height, cosignatures)?,
            Command::Answered { from, number, answer } => self.answered(from, number, answer)?,
            Command::Say(action) => self.say(*action)?,
            Command::Stop => {}
        }
        self.carry_out()
    }

    fn build(&mut self, height: Height, round: Round) -> Result<(), KeeperError> {
        let view = self.chain.view()?;
        let tip = view.tip()?;
        if tip.record.height.next() != height {
            return Ok(());
        }
        let certificate = view.certificate(tip.record.height)?;
        let draft = Draft { proposer: self.key.public(), time: self.now(), certificate };
        let built = ledger::build(&view, draft, self.mempool.candidates()).map_err(|error| match error {
            ApplyError::Read(error) => KeeperError::from(error),
            // The certificate is the one that decided the block before.
            ApplyError::Invalid(error) => KeeperError::Disagrees { height, reason: error.to_string() },
        })?;
        for refused in &built.refused {
            self.mempool.refused(refused);
            if !self.mempool.contains(&refused.id) {
                self.tell(&refused.id, &Fate::Rejected(refused.rejection));
            }
        }
        let (id, block) = (built.block.header.id(), Bytes::from(built.block.encode()));
        self.valid.insert(id, (block_hash(&block), built.block, built.changes));
        self.event(Event::Built { height, round, id, block });
        Ok(())
    }

    /// Whether these bytes are a valid next block of this id. Of one that a quorum `agreed` on, the clock has no say.
    fn check(
        &mut self,
        height: Height,
        id: BlockId,
        hash: Hash,
        bytes: &[u8],
        agreed: bool,
    ) -> Result<bool, KeeperError> {
        if self.valid.get(&id).is_some_and(|(known, ..)| *known == hash) {
            return Ok(true);
        }
        let (block, changes) = match self.applied(height, id, bytes)? {
            Ok(applied) => applied,
            Err(reason) => {
                tracing::warn!(%height, reason, "a proposed block is not valid");
                return Ok(false);
            }
        };
        if !agreed && block.header.record.time > self.now() + MAX_SKEW {
            tracing::warn!(%height, "a proposed block is ahead of this machine's clock");
            return Ok(false);
        }
        self.valid.insert(id, (hash, block, changes));
        Ok(true)
    }

    /// The block of these bytes and what it changes, or what is wrong with it.
    fn applied(
        &self,
        height: Height,
        id: BlockId,
        bytes: &[u8],
    ) -> Result<Result<(Block, Changes), String>, KeeperError> {
        let block = match Block::decode_bounded(bytes) {
            Ok(block) if block.header.id() == id && block.header.record.height == height => block,
            Ok(_) => return Ok(Err("another block than its id says".to_owned())),
            Err(violation) => return Ok(Err(violation.to_string())),
        };
        let known = |transaction: &TransactionId| self.mempool.contains(transaction);
        match ledger::check(&self.chain.view()?, &block, known) {
            Ok(changes) => Ok(Ok((block, changes))),
            Err(ApplyError::Invalid(error)) => Ok(Err(error.to_string())),
            Err(ApplyError::Read(error)) => Err(error.into()),
        }
    }

    fn decide(
        &mut self,
        height: Height,
        id: BlockId,
        bytes: &[u8],
        certificate: &CommitCertificate,
    ) -> Result<(), KeeperError> {
        let hash = block_hash(bytes);
        let known = self.valid.remove(&id).filter(|(known, ..)| *known == hash);
        let (block, changes) = match known {
            Some((_, block, changes)) => (block, changes),
            None => self
                .applied(height, id, bytes)?
                .map_err(|reason| KeeperError::Disagrees { height, reason })?,
        };
        self.chain.commit(bytes, certificate, &changes)?;
        // From here on the block is durable, and what is said of it is true after any crash.
        self.shared.committed();
        self.valid.clear();
        if self.wal.len() >= WAL_RESTART_LEN {
            self.wal.restart()?;
        }
        for dead in self.mempool.decided(&block.transactions, height.next()) {
            self.tell(&dead.id, &Fate::Rejected(dead.rejection));
        }
        self.synced = self.synced.split_off(&height.next());
        self.committed_at = self.now();
        if changes.header.record.new_roster.is_some() {
            self.gaps.insert(height);
        }
        self.forget_stale();
        for signed in block.transactions {
            let id = signed.id();
            let wanted = self.waiting.contains_key(&id).then_some(signed);
            self.unproven.insert(id, Unproven { height, wanted });
        }
        self.open_head(&changes.header)?;
        self.cosign(height)?;
        if changes.header.record.new_roster.is_some() {
            self.set_voters(&changes.next);
        }
        self.amend()?;
        self.speak()?;
        let pending = !self.mempool.is_empty();
        let next_committee = query::next_committee(&self.chain.view()?)?;
        self.event(Event::Committed { height, next_committee, pending });
        self.next_synced();
        Ok(())
    }

    /// Opens a final block's tree head for cosignatures, also those that came before the block.
    fn open_head(&mut self, header: &Header) -> Result<(), KeeperError> {
        let view = self.chain.view()?;
        let height = header.record.height;
        let missing = KeeperError::Chain(ChainError::Block(height));
        let roster = query::roster(&view, &header.record.roster)?.ok_or(missing)?;
        for early in self.heads.open(header, roster) {
            self.cosigned(height, early)?;
        }
        // Receipts need those of the last tree head, and of every one that changed the static nodes.
        let old = Height(height.0.saturating_sub(COSIGNATURES_KEPT));
        if !ROSTER_CHANGES.contains(&view, &old)? {
            self.chain.drop_cosignatures(old)?;
        }
        Ok(())
    }

    /// Cosigns the tree head of a block that is durable, and tells everybody.
    fn cosign(&mut self, height: Height) -> Result<(), KeeperError> {
        let key = self.key.public();
        let Some(checkpoint) = self.heads.unsigned_by(height, &key) else { return Ok(()) };
        let seconds = self.outside.wall_time().unix_micros() / 1_000_000;
        let cosignature = checkpoint.cosign(seconds, &self.key, &self.pq_key);
        let signed = SignedHead { size: checkpoint.size, root: checkpoint.root, cosignature };
        let bytes = Bytes::from(signed.encode());
        self.cosigned(height, signed)?;
        self.outside.send(To::All, Letter::Cosign(height, bytes));
        Ok(())
    }

    fn cosigned(&mut self, height: Height, signed: SignedHead) -> Result<(), KeeperError> {
        let signer = signed.cosignature.signer;
        match self.heads.add(height, signed) {
            Ok(Added::Known) => {}
            Ok(Added::Grown) => {
                self.chain.put_cosignatures(height, &self.heads.encode(height))?;
                if self.heads.is_proven(height) {
                    self.gaps.remove(&height);
                }
                self.advance_proven()?;
            }
            Ok(Added::False(proof)) => self.say(Action::FalseCosignature(*proof))?,
            Err(violation) => {
                tracing::debug!(signer = %signer.short(), %violation, "a cosignature does not count");
            }
        }
        Ok(())
    }

    /// Answers those whose transactions a quorum's tree head now covers.
    fn answer_proven(&mut self) -> Result<(), KeeperError> {
        let Some(head) = self.proven.clone() else { return Ok(()) };
        let view = self.chain.view()?;
        let mut paths = Paths::new(&view);
        let ready: Vec<_> =
            self.unproven.extract_if(.., |_, unproven| unproven.height <= head.height).collect();
        for (id, unproven) in ready {
            if self.waiting.contains_key(&id)
                && let Some(proof) = head.prove(&mut paths, &id, unproven.wanted)?
            {
                self.tell(&id, &Fate::Final(Box::new(proof)));
            }
        }
        Ok(())
    }

    fn prove(&self, id: &TransactionId) -> Result<Option<Proven>, KeeperError> {
        let Some(head) = &self.proven else { return Ok(None) };
        Ok(head.prove(&mut Paths::new(&self.chain.view()?), id, None)?)
    }

    fn tell(&mut self, id: &TransactionId, fate: &Fate) {
        for answer in self.waiting.remove(id).unwrap_or_default() {
            // Who asked may be gone.
            drop(answer.send(fate.clone()));
        }
    }

    /// Those who gave up waiting.
    fn forget_stale(&mut self) {
        self.waiting.retain(|_, answers| {
            answers.retain(|answer| !answer.is_closed());
            !answers.is_empty()
        });
    }

    fn submit(
        &mut self,
        transaction: VerifiedTransaction,
        answer: oneshot::Sender<Fate>,
    ) -> Result<(), KeeperError> {
        let id = transaction.signed().id();
        if let Some(proof) = self.prove(&id)? {
            drop(answer.send(Fate::Final(Box::new(proof))));
            return Ok(());
        }
        let (lane, nonce) =
            (transaction.signed().transaction().lane(), transaction.signed().transaction().nonce);
        let fate = match self.queue(transaction)? {
            Ok(()) | Err(NotQueued::Waiting) => {
                self.waiting.entry(id).or_default().push(answer);
                self.event(Event::Wake);
                return Ok(());
            }
            // It may be final already and wait for cosignatures, also since before this node's start.
            Err(NotQueued::Rejected(_)) if self.is_final(&id)? => {
                self.waiting.entry(id).or_default().push(answer);
                return Ok(());
            }
            // It may be in a block that a snapshot passed over.
            Err(NotQueued::Rejected(_)) if self.may_be_passed_over(&lane, nonce)? => Fate::Waiting,
            Err(NotQueued::NonceTaken) => Fate::NonceTaken,
            Err(NotQueued::AuthorFull { blocks } | NotQueued::Full { blocks }) => Fate::Busy { blocks },
            Err(NotQueued::Rejected(rejection)) => Fate::Rejected(rejection),
        };
        drop(answer.send(fate));
        Ok(())
    }

    /// Whether a transaction is in a block. If so, who waits for it will have its proof.
    fn is_final(&mut self, id: &TransactionId) -> Result<bool, KeeperError> {
        let place = PLACES.get(&self.chain.view()?, id)?;
        if let Some(place) = &place {
            self.unproven.entry(*id).or_insert(Unproven { height: place.height, wanted: None });
        }
        Ok(place.is_some())
    }

    /// Whether a transaction of this turn may be in a block of before a snapshot that is not here yet.
    fn may_be_passed_over(&self, lane: &Lane, nonce: u64) -> Result<bool, KeeperError> {
        let view = self.chain.view()?;
        let archive = ARCHIVE.get(&view, &())?;
        let misses_blocks = archive.is_some_and(|archive| archive.missing.is_some());
        Ok(misses_blocks && nonce < query::next_nonce(&view, lane)?)
    }

    fn queue(&mut self, transaction: VerifiedTransaction) -> Result<Result<(), NotQueued>, KeeperError> {
        let view = self.chain.view()?;
        // What is worthless takes nobody's place.
        if let Some(rejection) = ledger::precheck(&view, transaction.signed())? {
            return Ok(Err(NotQueued::Rejected(rejection)));
        }
        let nonce = query::next_nonce(&view, &transaction.signed().transaction().lane())?;
        let next = view.tip()?.record.height.next();
        Ok(self.mempool.insert(transaction, next, nonce))
    }

    /// Answers the ledger's request to mend our ways, once we are back.
    fn amend(&mut self) -> Result<(), KeeperError> {
        let row = STATICS.get(&self.chain.view()?, &self.key.public())?;
        match row.map(|row| row.standing) {
            Some(Standing::Warned { .. }) => self.say(Action::Correct),
            _ => Ok(()),
        }
    }
}
