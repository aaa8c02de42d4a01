//! What happens in a run: effects of machines, messages, blocks, and power that is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::rogue::Rogue;
use crate::crypto::access::KeyShare;
use crate::crypto::seed::Seed;
use crate::crypto::sign::KeyPair;
use crate::ledger::handoff::machine::{Done, Effect, Event, Found, HandingOn, Ready, Task};
use crate::ledger::query;
use crate::message::access::package::commitments_hash;
use crate::message::{Action, Roster};
use crate::testing::sim::desks::ledger::Ledger;
use crate::testing::sim::desks::node::Node;
use crate::testing::sim::rng::Rng;
use crate::types::{Hash, Machine as _, PublicKey, Timestamp, VaultId};

/// A bug that is put in, so that a test sees that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    /// None.
    #[default]
    None,
    /// A node erases its old share as soon as it took the new one.
    ErasesEarly,
    /// A node says that it took a share, and does not keep it.
    KeepsNothing,
    /// Nobody shows a bad piece to others.
    NobodyComplains,
    /// Nobody waits for those who did not sign for their piece.
    NobodyWaits,
}

/// What must not happen, and did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, at {at:?}: {what}")]
pub struct Wrong {
    pub(super) seed: u64,
    /// Since the run began.
    pub(super) at: Duration,
    pub(super) what: String,
}

/// What came about in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Changes of the static nodes, and refreshes.
    pub changes: u32,
    /// Sharings that came into effect.
    pub switches: u32,
    /// Power losses.
    pub crashes: u32,
    /// Nodes that were away for long.
    pub absences: u32,
    /// Bad pieces that honest nodes found.
    pub bad_pieces: u32,
    /// Complaints without cause.
    pub false_complaints: u32,
    /// Packages that were excluded.
    pub excluded: u32,
    /// Handoffs that were begun anew.
    pub attempts: u32,
    /// All that happened, in one number.
    pub trace: [u8; 8],
}

/// A static node, of now or of before.
pub(super) struct Member {
    pub(super) node: Node,
    pub(super) machine: Option<HandingOn>,
    pub(super) rogue: Option<Rogue>,
    /// How often it was started: what was for a former life is not heard.
    pub(super) life: u32,
    wake: Option<Timestamp>,
    /// It is down or cut off for so long that it counts as faulty.
    pub(super) is_away: bool,
    /// Since when it is there.
    pub(super) since: Timestamp,
}

/// A vault.
pub(super) struct Vault {
    pub(super) id: VaultId,
    pub(super) seed: u8,
    /// The sharing that was in effect when this was last looked at.
    pub(super) epoch: u32,
}

/// What is on its way.
#[derive(Debug)]
pub(super) enum What {
    Block,
    Blocks { to: usize },
    Request { from: usize, to: usize, call: u64, life: u32, bytes: Vec<u8> },
    Answer { from: usize, to: usize, call: u64, life: u32, bytes: Option<Vec<u8>> },
    Said { by: usize, action: Box<Action> },
    Wake { at: usize },
    Start { at: usize },
    Back { at: usize },
    Trouble,
    Change,
}

/// A run. See [`reshare`](super).
pub struct Reshare {
    pub(super) seed: u64,
    pub(super) control: Control,
    pub(super) rng: Rng,
    pub(super) began: Timestamp,
    pub(super) now: Timestamp,
    /// From here on nothing goes wrong any more by chance.
    pub(super) calm: Timestamp,
    pub(super) ledger: Ledger,
    pub(super) members: Vec<Member>,
    pub(super) owner: KeyPair,
    pub(super) vaults: Vec<Vault>,
    pub(super) changes_left: u32,
    queue: BTreeMap<(Timestamp, u64), What>,
    sequence: u64,
    /// Said, and in no block yet.
    pub(super) pool: Vec<(usize, Action)>,
    /// Shares that honest nodes had: by vault, epoch and node.
    pub(super) seen: BTreeMap<(VaultId, u32, usize), KeyShare>,
    pub(super) excluded: BTreeSet<Hash>,
    /// Whom faulty nodes dealt a bad piece, by the package.
    pub(super) victims: BTreeSet<(Hash, PublicKey)>,
    trace: blake3::Hasher,
    pub(super) summary: Summary,
}

impl std::fmt::Debug for Reshare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reshare(seed {})", self.seed)
    }
}

impl Member {
    pub(super) const fn new(node: Node, since: Timestamp) -> Self {
        Self { node, machine: None, rogue: None, life: 0, wake: None, is_away: false, since }
    }
}

impl Reshare {
    /// The run of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Control::None)
    }

    /// The same with a bug that a test must find.
    #[must_use]
    pub fn with(seed: u64, control: Control) -> Self {
        let mut rng = Rng::new(seed);
        let now = Timestamp::from_unix_millis(1_700_000_000_000);
        let ledger = Ledger::new(*rng.pick(&[4, 4, 5, 7]), now);
        let vaults = 1 + u8::try_from(rng.below(2)).unwrap_or(0);
        let vault = |nth: u8| Vault { id: VaultId([nth; 32]), seed: 100 + nth, epoch: 0 };
        Self {
            seed,
            control,
            began: now,
            now,
            calm: now + Duration::from_secs(45 + rng.below(75)),
            members: (0..ledger.pairs.len()).map(|at| Member::new(Node::new(at), Timestamp::ZERO)).collect(),
            owner: KeyPair::from_secret(&[200; 32]),
            vaults: (1..=vaults).map(vault).collect(),
            changes_left: 1 + u32::try_from(rng.below(3)).unwrap_or(0),
            queue: BTreeMap::new(),
            sequence: 0,
            pool: Vec::new(),
            seen: BTreeMap::new(),
            excluded: BTreeSet::new(),
            victims: BTreeSet::new(),
            trace: blake3::Hasher::new(),
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
        while let Some(((when, _), what)) = self.queue.pop_first() {
            self.pass_to(when);
            self.note(&what);
            let is_block = matches!(what, What::Block);
            self.happen(what)?;
            if is_block && self.is_over()? {
                break;
            }
        }
        self.check_end()?;
        self.summary.trace.copy_from_slice(&self.trace.finalize().as_bytes()[..8]);
        Ok(self.summary)
    }

    pub(super) fn wrong(&self, what: String) -> Wrong {
        Wrong { seed: self.seed, at: self.now.since(self.began), what }
    }

    pub(super) fn is_wild(&self) -> bool {
        self.now < self.calm
    }

    pub(super) fn pass_to(&mut self, when: Timestamp) {
        self.now = self.now.max(when);
        for member in &self.members {
            member.node.set_time(self.now.unix_micros());
        }
    }

    fn note(&mut self, what: &What) {
        let text = match what {
            What::Request { from, to, bytes, .. } => format!("? {from} {to} {}", blake3::hash(bytes)),
            What::Answer { from, to, bytes, .. } => {
                format!("! {from} {to} {:?}", bytes.as_ref().map(|bytes| blake3::hash(bytes)))
            }
            other => format!("{other:?}"),
        };
        self.trace.update(&self.now.unix_micros().to_le_bytes());
        self.trace.update(text.as_bytes());
    }

    pub(super) fn after(&mut self, delay: Duration, what: What) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), what);
    }

    pub(super) fn key_of(&self, at: usize) -> PublicKey {
        self.ledger.pairs[at].public()
    }

    pub(super) fn at(&self, key: &PublicKey) -> Option<usize> {
        self.ledger.pairs.iter().position(|pair| pair.public() == *key)
    }

    pub(super) fn is_honest(&self, key: &PublicKey) -> bool {
        self.at(key).is_some_and(|at| self.members[at].rogue.is_none())
    }

    pub(super) fn roster_of(&self, hash: &Hash) -> Option<Roster> {
        query::roster(&self.ledger.state, hash).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn roster(&self) -> Roster {
        query::next_roster(&self.ledger.state).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn key_seed(vault: &Vault) -> crate::crypto::access::AccessKeys {
        Seed::from_entropy([vault.seed; 32]).vault(0, 0).access()
    }

    fn happen(&mut self, what: What) -> Result<(), Wrong> {
        match what {
            What::Block => self.block()?,
            What::Blocks { to } => self.take_blocks(to)?,
            What::Request { from, to, call, life, bytes } => self.serve(from, to, call, life, &bytes),
            What::Answer { from, to, call, life, bytes } => self.heard(from, to, call, life, bytes)?,
            What::Said { by, action } => self.pool.push((by, *action)),
            What::Wake { at } => self.wake(at)?,
            What::Start { at } => self.start(at)?,
            What::Back { at } => {
                (self.members[at].node.is_cut, self.members[at].is_away) = (false, false);
            }
            What::Trouble => self.trouble(),
            What::Change => self.change(),
        }
        Ok(())
    }

    /// The machine comes back with what its disks have.
    pub(super) fn start(&mut self, at: usize) -> Result<(), Wrong> {
        if self.members[at].machine.is_some() {
            return Ok(());
        }
        let (ledger, rng) = (&self.ledger, &mut self.rng);
        self.members[at].node.come_back(ledger, rng);
        self.set_up(at)
    }

    /// A node that is up begins to hand on.
    pub(super) fn set_up(&mut self, at: usize) -> Result<(), Wrong> {
        if !self.members[at].node.is_up() {
            self.after(Duration::from_millis(100), What::Start { at });
            return Ok(());
        }
        let machine = HandingOn::new(self.ledger.genesis.network, self.key_of(at));
        let member = &mut self.members[at];
        (member.machine, member.is_away, member.node.is_cut) = (Some(machine), false, false);
        member.wake = None;
        self.take_blocks(at)?;
        self.wake(at)
    }

    /// It is gone, and comes back after a while.
    pub(super) fn crash(&mut self, at: usize, away: Duration) {
        let member = &mut self.members[at];
        if member.machine.take().is_none() {
            return;
        }
        member.life += 1;
        member.node.lose_power(&mut self.rng);
        self.summary.crashes += 1;
        self.after(away, What::Start { at });
    }

    pub(super) fn crash_for_a_moment(&mut self, at: usize) {
        let away = Duration::from_millis(20 + self.rng.below(1_000));
        self.crash(at, away);
    }

    fn take_blocks(&mut self, at: usize) -> Result<(), Wrong> {
        let member = &mut self.members[at];
        if member.machine.is_none() || member.node.is_cut || !member.node.is_up() {
            return Ok(());
        }
        let height = self.ledger.height();
        member.node.take_blocks(&self.ledger, height);
        self.fetch_dealings(at);
        self.learn_keys(at);
        self.check_held(at)?;
        self.tell(at, Event::News)
    }

    fn wake(&mut self, at: usize) -> Result<(), Wrong> {
        let now = self.now;
        let member = &mut self.members[at];
        if member.wake.is_some_and(|wake| wake <= now) {
            member.wake = None;
        }
        if let Some(machine) = &mut member.machine {
            machine.expire(now);
        }
        self.drive(at)
    }

    /// Tells a machine something and carries out what it wants.
    pub(super) fn tell(&mut self, at: usize, event: Event) -> Result<(), Wrong> {
        let now = self.now;
        if let Some(machine) = &mut self.members[at].machine {
            machine.handle(now, event);
        }
        self.drive(at)
    }

    /// Carries effects out in their order. The node may die before each, and while it is carried out.
    fn drive(&mut self, at: usize) -> Result<(), Wrong> {
        while let Some(effect) = self.members[at].machine.as_mut().and_then(HandingOn::poll) {
            if self.is_wild() && self.rng.chance(12) {
                self.crash_for_a_moment(at);
                return Ok(());
            }
            match effect {
                Effect::Do(task) => self.do_task(at, task),
                Effect::Ask { call, of, request } => self.ask(at, call, &of, &request),
                Effect::Say(action) => self.say(at, *action),
                Effect::Note(_) => {}
            }
            if !self.members[at].node.is_up() {
                self.crash_for_a_moment(at);
                return Ok(());
            }
            self.check_held(at)?;
        }
        let member = &mut self.members[at];
        let deadline = member.machine.as_ref().and_then(HandingOn::deadline);
        if let Some(deadline) = deadline
            && member.wake.is_none_or(|wake| deadline < wake)
        {
            member.wake = Some(deadline);
            let delay = deadline.since(self.now);
            self.after(delay, What::Wake { at });
        }
        Ok(())
    }

    fn do_task(&mut self, at: usize, task: Task) {
        let now = self.now;
        if self.is_wild() && self.rng.chance(8) {
            // The power goes while it writes.
            self.members[at].node.lose_power(&mut self.rng);
        }
        let ready = match &task {
            Task::Keep(ready) if self.control == Control::ErasesEarly => ready.clone(),
            _ => Vec::new(),
        };
        let skips = self.control == Control::KeepsNothing && matches!(task, Task::Keep(_));
        let done = match self.rogue_task(at, &task) {
            Some(done) => Some(Ok(done)),
            None if skips => Some(Ok(Done::Kept)),
            None => self.members[at].node.hand_on(task),
        };
        let event = match done {
            None => return,
            Some(Err(_)) => Event::Failed,
            Some(Ok(done)) => Event::Done(self.rogue_done(at, done)),
        };
        self.erase_early(at, ready);
        let event = self.observed(at, event);
        if let Some(machine) = &mut self.members[at].machine {
            machine.handle(now, event);
        }
    }

    /// What a task came to, as the machine is told it.
    fn observed(&mut self, at: usize, mut event: Event) -> Event {
        match &mut event {
            Event::Done(Done::Opened(Found::BadPiece(_))) if self.members[at].rogue.is_none() => {
                self.summary.bad_pieces += 1;
            }
            Event::Done(Done::Looked { look: Some(look), .. }) if self.control == Control::NobodyWaits => {
                look.packages.values_mut().for_each(|dealt| dealt.kept = u64::MAX);
            }
            _ => {}
        }
        event
    }

    /// The bug of [`Control::ErasesEarly`]: what was taken counts at once.
    fn erase_early(&self, at: usize, taken: Vec<Ready>) {
        let Some(store) = self.members[at].node.store() else { return };
        for (vault, (dealing, epoch), _, commitments) in taken {
            let audit = store.view().and_then(|view| view.audit_key(&vault));
            if let Ok(Some(audit)) = audit {
                let of = (dealing, epoch + 1);
                drop(store.promote(&vault, of, &commitments_hash(&commitments), &audit));
            }
        }
    }
}
