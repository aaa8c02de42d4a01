//! What happens in a run, and what must hold while it does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ledger::Ledger;
use super::node::Node;
use crate::crypto::access::{AccessKeys, Dealing, Keyslot, Purpose, SealKey, Sharing};
use crate::crypto::frame::DekCommit;
use crate::crypto::seed::Seed;
use crate::crypto::sign::KeyPair;
use crate::ledger::follow::height_heard;
use crate::message::access::desk::{DeskAnswer, DeskRequest, LogEntry, SignedSealKey};
use crate::message::access::open::{OpenItem, OpenRequest};
use crate::message::access::package::{SealedShare, line_hash};
use crate::message::access::{
    BatchPackage, DealingPackage, DepositKind, Grant, GrantedScope, RecordEntry, Rights, SealedSlot,
    SlotEntry,
};
use crate::message::{Action, Canonical as _, SignedTransaction};
use crate::testing::sim::rng::Rng;
use crate::types::{
    BatchId, GrantId, Hash, Height, RecordTag, ScopeTag, ShareIndex, Timestamp, VaultId, VersionId,
};

pub(super) const VAULT: VaultId = VaultId([7; 32]);
pub(super) const SCOPE: ScopeTag = ScopeTag([8; 16]);
/// Records that are there from the beginning.
pub(super) const RECORDS: u8 = 30;
/// Things that happen in a run.
const STEPS: u32 = 160;

/// What a run does otherwise than it should, so that a test sees that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    /// Nothing.
    #[default]
    None,
    /// f + 1 parts open, not 2f + 1.
    FewerParts,
}

/// What must not happen, and did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, step {step}: {what}")]
pub struct Wrong {
    seed: u64,
    step: u32,
    what: String,
}

/// What came about in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Requests that enough nodes opened.
    pub opened: u32,
    /// Requests that they did not.
    pub denied: u32,
    /// Revocations that a quorum acknowledged.
    pub revoked: u32,
    /// Versions that were erased.
    pub erased: u32,
    /// Power losses.
    pub crashes: u32,
    /// Nodes that were restored from a copy.
    pub restored: u32,
    /// Erasures for which a quorum gave receipts.
    pub certified: u32,
    /// Nodes and clients that heard only faulty nodes.
    pub eclipsed: u32,
}

struct Given {
    key: KeyPair,
    grant: GrantId,
    /// Final from here on.
    height: Height,
    /// A quorum has acknowledged its revocation.
    is_revoked: bool,
    /// Its revocation was asked for.
    is_ending: bool,
}

/// A run. See [`desks`](super).
pub struct Desks {
    pub(super) seed: u64,
    pub(super) step: u32,
    pub(super) rng: Rng,
    pub(super) control: Control,
    pub(super) now: Timestamp,
    pub(super) ledger: Ledger,
    pub(super) nodes: Vec<Node>,
    pub(super) owner: KeyPair,
    pub(super) access: AccessKeys,
    pub(super) waiting: Vec<SignedTransaction>,
    given: Vec<Given>,
    /// Versions that are erased, and since which height.
    pub(super) erased: BTreeMap<u8, Height>,
    /// Requests that were opened, and by which honest nodes.
    pub(super) opened: Vec<(Hash, BTreeSet<usize>)>,
    /// Nodes whose log lost something that it had, by being restored.
    pub(super) forgetful: BTreeSet<usize>,
    /// Versions for whose erasure a quorum gave receipts.
    pub(super) certified: BTreeSet<u8>,
    /// Nodes that hear only faulty ones, while they are cut off.
    pub(super) eclipsed: BTreeSet<usize>,
    /// Nodes that were started while they were cut off, and have heard of nobody honest since.
    pub(super) deaf: BTreeSet<usize>,
    pub(super) summary: Summary,
}

impl std::fmt::Debug for Desks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Desks(seed {})", self.seed)
    }
}

fn record(nth: u8) -> OpenItem {
    let (record, version) = (RecordTag([nth; 16]), VersionId([nth; 16]));
    OpenItem::Record { record, version, scope: SCOPE, generation: 0 }
}

impl Desks {
    /// The run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Control::None)
    }

    /// The same with something that a test must find.
    #[must_use]
    pub fn with(seed: u64, control: Control) -> Self {
        let mut rng = Rng::new(seed);
        let now = Timestamp::from_unix_millis(1_700_000_000_000);
        let ledger = Ledger::new(*rng.pick(&[4, 4, 5, 7]), now);
        let count = ledger.pairs.len();
        let keys = Seed::from_entropy([9; 32]).vault(0, 0);
        Self {
            seed,
            step: 0,
            control,
            now,
            nodes: (0..count).map(Node::new).collect(),
            owner: KeyPair::from_secret(&[200; 32]),
            access: keys.access(),
            waiting: Vec::new(),
            given: Vec::new(),
            erased: BTreeMap::new(),
            opened: Vec::new(),
            forgetful: BTreeSet::new(),
            certified: BTreeSet::new(),
            eclipsed: BTreeSet::new(),
            deaf: BTreeSet::new(),
            summary: Summary::default(),
            ledger,
            rng,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// [`Wrong`] says what happened that must not.
    pub fn run(mut self) -> Result<Summary, Wrong> {
        self.begin();
        let faults = self.rng.index(self.f() + 1);
        for _ in 0..faults {
            let at = self.rng.index(self.nodes.len());
            self.nodes[at].is_faulty = true;
        }
        for step in 1..=STEPS {
            self.step = step;
            self.happen()?;
        }
        self.mend();
        self.check_logs()?;
        Ok(self.summary)
    }

    fn f(&self) -> usize {
        self.ledger.genesis.roster.committee().f()
    }

    pub(super) fn quorum(&self) -> usize {
        self.ledger.genesis.roster.committee().quorum()
    }

    /// Parts that it takes to open.
    fn parts(&self) -> usize {
        match self.control {
            Control::None => Sharing::among(self.ledger.genesis.roster.committee()).threshold(),
            Control::FewerParts => self.f() + 1,
        }
    }

    pub(super) fn wrong(&self, what: String) -> Wrong {
        Wrong { seed: self.seed, step: self.step, what }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for node in &self.nodes {
            node.set_time(self.now.unix_micros());
        }
    }

    pub(super) fn submit(&mut self, action: Action) -> SignedTransaction {
        let mut signed = self.ledger.sign(&self.owner, action);
        // Numbers go on after those that wait.
        if let Some(last) = self.waiting.last() {
            let mut transaction = signed.transaction().clone();
            transaction.nonce = last.transaction().nonce + 1;
            signed = transaction.sign(&self.owner);
        }
        self.waiting.push(signed.clone());
        signed
    }

    /// A block with all that waits.
    fn block(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let refused = self.ledger.decide(&waiting, self.now);
        assert!(refused.is_empty(), "the owner's transactions are in order: {refused:?}");
    }

    /// Nodes that are up and not cut off take what there is, and hear how high the ledger is.
    fn deliver(&mut self) {
        let height = self.ledger.height();
        for node in self.nodes.iter_mut().filter(|node| node.is_up() && !node.is_cut) {
            node.take_blocks(&self.ledger, height);
        }
        let claims: Vec<Height> =
            self.nodes.iter().filter(|node| node.is_up() && !node.is_cut).map(Node::height).collect();
        let heard = height_heard(&claims, self.ledger.genesis.roster.committee());
        for node in self.nodes.iter().filter(|node| node.is_up() && !node.is_cut) {
            node.hear(heard);
        }
        self.deaf.retain(|at| self.nodes[*at].is_cut);
        self.hear_liars();
    }

    /// The vault's key is dealt, records are there, and one grant is given.
    fn begin(&mut self) {
        self.pass(Duration::from_secs(1));
        for at in 0..self.nodes.len() {
            let (ledger, rng) = (&self.ledger, &mut self.rng);
            assert!(self.nodes[at].start(ledger, rng), "a new node starts");
        }
        self.submit(Action::CreateVault { vault: VAULT, sponsor: None });
        self.block();
        self.deliver();
        let dealing = self.dealing();
        let sharing = dealing.sharing(self.ledger.genesis.roster.hash());
        self.keep_everywhere(DepositKind::Dealing, &dealing.encode());
        self.submit(Action::ShareKey(sharing));
        let batch = batch();
        self.keep_everywhere(DepositKind::Batch, &batch.encode());
        self.submit(Action::AddEntries(batch.batch()));
        self.give();
        self.block();
        self.deliver();
    }

    fn keep_everywhere(&self, kind: DepositKind, bytes: &[u8]) {
        for node in &self.nodes {
            let request = DeskRequest::Deposit { vault: VAULT, kind, bytes: bytes.to_vec() };
            let kept = node.answer(&self.owner.public(), request);
            assert!(matches!(kept, Some(Ok(DeskAnswer::Done(_)))), "{kept:?}");
        }
    }

    fn dealing(&self) -> DealingPackage {
        let committee = self.ledger.genesis.roster.committee();
        let Dealing { commitments, shares } =
            self.access.prf_key(0).deal(Sharing::among(committee), &[5; 32]);
        let sealed = shares.iter().zip(&self.nodes).enumerate().map(|(at, (share, node))| {
            let Some(Ok(DeskAnswer::SealKey(key))) = node.answer(&self.owner.public(), DeskRequest::SealKey)
            else {
                panic!("a node that is up has a key");
            };
            let place = ShareIndex::at(at).unwrap_or_else(|| panic!("a place"));
            let context = DealingPackage::share_context(&commitments, place);
            let nth = u8::try_from(at).unwrap_or(u8::MAX);
            let sealed = key.key.seal(Purpose::Share, &context, &*share.to_bytes(), &[nth; 64]);
            SealedShare { to: SignedSealKey::hash_of(&key.key), sealed }
        });
        DealingPackage {
            network: self.ledger.genesis.network,
            vault: VAULT,
            dealing: 0,
            inbox: self.access.inbox().public().clone(),
            audit: self.access.audit().public().clone(),
            shares: sealed.collect(),
            commitments,
        }
    }

    /// Another grant.
    fn give(&mut self) {
        let nth = u8::try_from(self.given.len()).unwrap_or(u8::MAX);
        let (key, grant) = (KeyPair::from_secret(&[100 + nth; 32]), GrantId([nth; 16]));
        let action = Action::Grant(Grant {
            vault: VAULT,
            grant,
            grantee: key.public(),
            scopes: vec![GrantedScope { scope: SCOPE, first: 0, last: 0 }],
            rights: Rights::READ,
            not_before: Timestamp::from_unix_micros(0),
            expires: Timestamp::from_unix_micros(u64::MAX),
            quota: None,
            append_bytes: None,
            body: Hash([nth; 32]),
            emergency: None,
        });
        self.submit(action);
        let height = self.ledger.height().next();
        self.given.push(Given { key, grant, height, is_revoked: false, is_ending: false });
    }

    /// One thing happens.
    fn happen(&mut self) -> Result<(), Wrong> {
        let at = self.rng.index(self.nodes.len());
        match self.rng.below(100) {
            0..=39 => self.open()?,
            40..=57 => {
                let time = Duration::from_millis(500 + self.rng.below(9_500));
                self.pass(time);
                self.block();
                self.deliver();
            }
            58..=65 => self.revoke(),
            66..=67 => self.erase(),
            68..=69 => self.certify()?,
            70..=75 if self.given.len() < 40 => self.give(),
            76..=78 => {
                self.nodes[at].lose_power(&mut self.rng);
                self.summary.crashes += 1;
            }
            // Somebody who is down comes back, else somebody is started anew.
            79..=89 => {
                let down = self.nodes.iter().position(|node| !node.is_up()).unwrap_or(at);
                self.nodes[down].come_back(&self.ledger, &mut self.rng);
                self.note_deaf(down);
            }
            90..=91 => self.cut(at),
            92..=93 if self.nodes[at].is_up() => self.nodes[at].copy(),
            94..=96 => self.restore(at),
            97 => {
                // No block for longer than nodes may go on without one.
                let time = Duration::from_secs(20 + self.rng.below(30));
                self.pass(time);
            }
            98 if self.nodes[at].is_up() => self.nodes[at].tidy(),
            _ => self.deliver(),
        }
        Ok(())
    }

    /// As many may be wrong at a time as the committee bears: who was restored is, until it has caught up.
    fn restore(&mut self, at: usize) {
        let others = |(nth, node): &(usize, &Node)| *nth != at && (node.is_faulty || node.restored.is_some());
        let wrong = self.nodes.iter().enumerate().filter(others).count();
        if wrong < self.f() && self.nodes[at].restore(&self.ledger, &mut self.rng) {
            self.summary.restored += 1;
            self.forgetful.insert(at);
            self.note_deaf(at);
        }
    }

    fn revoke(&mut self) {
        let standing = |given: &Given| !given.is_ending;
        let Some(at) = self.given.iter().position(standing) else { return };
        let grant = self.given[at].grant;
        if self.given[at].height > self.ledger.height() {
            return;
        }
        let signed = self.submit(Action::Revoke { vault: VAULT, grant });
        self.given[at].is_ending = true;
        let (mut acknowledged, is_eclipsed) = (0, self.is_eclipsed());
        for nth in 0..self.nodes.len() {
            // The request may get lost on its way.
            let is_reached = self.rng.chance(800) && !self.nodes[nth].is_cut;
            if is_reached && (!is_eclipsed || self.nodes[nth].is_faulty) {
                let request = DeskRequest::Revoke(signed.bytes().to_vec());
                let answer = self.nodes[nth].answer(&self.owner.public(), request);
                // A faulty node says that it has it.
                acknowledged +=
                    usize::from(self.nodes[nth].is_faulty || matches!(answer, Some(Ok(DeskAnswer::Done(_)))));
            }
        }
        if acknowledged >= self.quorum() {
            self.given[at].is_revoked = true;
            self.summary.revoked += 1;
        }
    }

    /// Somebody who was let in, or was once, asks every node that it reaches.
    fn open(&mut self) -> Result<(), Wrong> {
        let at = self.rng.index(self.given.len());
        let nth = 1 + u8::try_from(self.rng.below(RECORDS.into())).unwrap_or(0);
        let request = OpenRequest {
            network: self.ledger.genesis.network,
            vault: VAULT,
            dealing: 0,
            epoch: 0,
            grant: self.given[at].grant,
            nonce: self.rng.bytes(),
            time: self.now,
            reply_to: SealKey::from_seed(&[3; 32]).public().clone(),
            items: vec![record(nth)],
            lines_from: ShareIndex::at(0).unwrap_or_else(|| panic!("the first place")),
            purpose: "read".into(),
            emergency: None,
        };
        let signed = request.sign(&self.given[at].key);
        let (mut parts, mut honest, is_eclipsed) = (0, BTreeSet::new(), self.is_eclipsed());
        for (place, node) in self.nodes.iter().enumerate() {
            let is_reached = self.rng.chance(950) && !is_eclipsed;
            if node.is_faulty || node.restored.is_some() {
                parts += 1;
                continue;
            }
            if !is_reached {
                continue;
            }
            let answer =
                node.answer(&self.given[at].key.public(), DeskRequest::Open(signed.bytes().to_vec()));
            if matches!(answer, Some(Ok(DeskAnswer::Opened(_)))) {
                parts += 1;
                honest.insert(place);
                self.check_slot(place, nth)?;
            }
        }
        let given = &self.given[at];
        let is_open = parts >= self.parts();
        if is_open && given.is_revoked {
            return Err(
                self.wrong(format!("C3: {parts} parts for a grant that a quorum knows to be revoked"))
            );
        }
        if is_open && self.certified.contains(&nth) {
            return Err(self.wrong(format!("C13: {parts} parts for version {nth}, which a quorum erased")));
        }
        if is_open && given.height > self.ledger.height() {
            return Err(self.wrong(format!("{parts} parts for a grant that is not final")));
        }
        if is_open {
            self.opened.push((signed.hash(), honest));
            self.summary.opened += 1;
        } else {
            self.summary.denied += 1;
        }
        Ok(())
    }

    /// An honest node that opened a version has its keyslot, and does not know of its erasure.
    fn check_slot(&self, place: usize, nth: u8) -> Result<(), Wrong> {
        let node = &self.nodes[place];
        if self.deaf.contains(&place) {
            return Err(self.wrong(format!("C10: node {place} opened before it heard of anybody honest")));
        }
        if self.erased.get(&nth).is_some_and(|height| node.height() >= *height) {
            return Err(self.wrong(format!("C13: node {place} opened version {nth} after it was erased")));
        }
        Ok(())
    }

    /// All faults end.
    fn mend(&mut self) {
        for node in &mut self.nodes {
            node.is_cut = false;
            // Also those that are up: what their disks have is what counts.
            node.come_back(&self.ledger, &mut self.rng);
        }
        for _ in 0..3 {
            self.pass(Duration::from_secs(5));
            self.block();
            self.deliver();
        }
    }

    fn check_logs(&self) -> Result<(), Wrong> {
        let logs: Vec<BTreeSet<Hash>> = (0..self.nodes.len()).map(|place| self.log_of(place)).collect();
        for (request, honest) in &self.opened {
            let lost = honest
                .iter()
                .find(|place| !self.forgetful.contains(place) && !logs[**place].contains(request));
            if let Some(place) = lost {
                return Err(self.wrong(format!("C11: node {place} opened a request that its log has not")));
            }
            if honest.len() + self.f() < self.parts() {
                let what = format!("C11: {} honest nodes have an opening in their logs", honest.len());
                return Err(self.wrong(what));
            }
        }
        for nth in self.erased.keys() {
            for (place, node) in self.nodes.iter().enumerate() {
                let Some(view) = node.store().and_then(|store| store.view().ok()) else { continue };
                let (record, version) = (RecordTag([*nth; 16]), VersionId([*nth; 16]));
                if !matches!(view.slot(&VAULT, &record, &version, &SCOPE, 0), Ok(None)) {
                    return Err(self.wrong(format!("C13: node {place} has a keyslot of version {nth} still")));
                }
            }
        }
        Ok(())
    }

    /// The requests in a node's log, opened with the vault's audit key.
    fn log_of(&self, place: usize) -> BTreeSet<Hash> {
        let audit = self.access.audit();
        let view = self.nodes[place].store().and_then(|store| store.view().ok());
        let rows = view.and_then(|view| view.log_rows(&VAULT, 0, usize::MAX).ok()).unwrap_or_default();
        let key = self.ledger.pairs[place].public();
        let read = rows.into_iter().filter_map(|row| {
            let context = LogEntry::context(&key, row.sequence);
            let plain = audit.open(Purpose::Audit, &context, &row.sealed).ok()?;
            let entry = LogEntry::decode(&plain).ok()?;
            entry.denied.is_none().then_some(entry.request)
        });
        read.collect()
    }
}

/// All records of a run, in one scope. Nobody opens their keyslots here.
fn batch() -> BatchPackage {
    let made = (1..=RECORDS).map(|nth| {
        let slot = [&[1][..], &[nth; Keyslot::LEN - 1]].concat();
        let slot = Keyslot::from_slice(&slot).unwrap_or_else(|wrong| panic!("a slot: {wrong}"));
        let sealed = SealedSlot { slot, line: vec![nth; 64] };
        let named = SlotEntry {
            scope: SCOPE,
            generation: 0,
            slot: sealed.slot.hash(),
            line: line_hash(&sealed.line),
        };
        let entry = RecordEntry {
            record: RecordTag([nth; 16]),
            version: VersionId([nth; 16]),
            dek_commit: DekCommit([nth; 32]),
            header: Hash([nth; 32]),
            slots: vec![named],
        };
        (entry, Some(sealed))
    });
    let (entries, slots) = made.unzip();
    BatchPackage { vault: VAULT, batch: BatchId([1; 16]), entries, slots }
}
