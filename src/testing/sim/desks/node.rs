//! One static node's desk, its chain, and the disks that both are on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ledger::Ledger;
use crate::crypto::sign::KeyPair;
use crate::ledger::handoff::machine::{Done, Task};
use crate::ledger::query;
use crate::message::Refusal;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::roles::static_node::access::AccessDesk;
use crate::runtime::Clock;
use crate::store::access::AccessStore;
use crate::store::chain::Chain;
use crate::store::sealed_file::Entropy;
use crate::testing::sim::rng::Rng;
use crate::testing::{MemDisk, Survivors};
use crate::types::{Hash, Height, PublicKey, VaultId};

const ROOM: u64 = 256 << 20;

/// What runs until the power is lost.
struct Up {
    chain: Chain,
    store: AccessStore,
    desk: AccessDesk,
    /// Whether the next round looks at the whole state, as the first after a start does.
    anew: bool,
    /// Vaults whose owner's dealing it needs.
    wanted: BTreeSet<VaultId>,
}

pub(in crate::testing::sim) struct Node {
    at: usize,
    chain_disk: MemDisk,
    access_disk: MemDisk,
    up: Option<Up>,
    /// Microseconds.
    time: &'static AtomicU64,
    /// No block comes here, and it hears of no height.
    pub(in crate::testing::sim) is_cut: bool,
    /// It opens whatever it is asked to.
    pub(in crate::testing::sim) is_faulty: bool,
    /// It was restored from a copy, and had acknowledged things that were not final below this height.
    pub(in crate::testing::sim) restored: Option<Height>,
    copy: Option<(MemDisk, MemDisk)>,
}

impl Node {
    pub(in crate::testing::sim) fn new(at: usize) -> Self {
        let (chain_disk, access_disk) = (MemDisk::new(ROOM), MemDisk::new(ROOM));
        // Of the few nodes of a run each leaks eight bytes: clocks are copied freely.
        let time = Box::leak(Box::new(AtomicU64::new(0)));
        let (is_cut, is_faulty) = (false, false);
        Self { at, chain_disk, access_disk, up: None, time, is_cut, is_faulty, restored: None, copy: None }
    }

    pub(in crate::testing::sim) fn is_up(&self) -> bool {
        self.up.is_some() && !self.chain_disk.is_down() && !self.access_disk.is_down()
    }

    pub(in crate::testing::sim) fn set_time(&self, micros: u64) {
        self.time.store(micros, Ordering::Release);
    }

    /// Starts; false if the power is lost meanwhile.
    pub(in crate::testing::sim) fn start(&mut self, ledger: &Ledger, rng: &mut Rng) -> bool {
        let key = ledger.pairs[self.at].clone();
        let mut own = rng.fork();
        let entropy = Box::new(move |out: &mut [u8]| {
            own.fill(out);
            Ok(())
        });
        self.up = self.open(ledger, key, entropy);
        self.is_up()
    }

    /// Opens what the disks have; none if they fail.
    fn open(&self, ledger: &Ledger, key: KeyPair, entropy: Entropy) -> Option<Up> {
        let chain = Chain::open(&self.chain_disk, &ledger.genesis).ok()?;
        let store = AccessStore::open(Arc::new(self.access_disk.clone()), entropy).ok()?;
        let (network, clock) = (ledger.genesis.network, Clock::steered(self.time));
        let desk = AccessDesk::new(network, key, store.clone(), chain.clone(), clock).ok()?;
        Some(Up { chain, store, desk, anew: true, wanted: BTreeSet::new() })
    }

    /// Loses power, now or at a change that is to come.
    pub(in crate::testing::sim) fn lose_power(&mut self, rng: &mut Rng) {
        let disk = if rng.chance(500) { &self.chain_disk } else { &self.access_disk };
        if rng.chance(500) {
            disk.lose_power_at(disk.changes() + rng.below(8));
        } else {
            self.chain_disk.lose_power();
            self.access_disk.lose_power();
        }
    }

    /// The machine comes back with what its disks have.
    pub(in crate::testing::sim) fn come_back(&mut self, ledger: &Ledger, rng: &mut Rng) {
        self.up = None;
        self.chain_disk = self.chain_disk.after_power_loss(Survivors::Random(rng.bits()));
        self.access_disk = self.access_disk.after_power_loss(Survivors::Random(rng.bits()));
        self.start(ledger, rng);
    }

    /// Notes what both disks have.
    pub(in crate::testing::sim) fn copy(&mut self) {
        let copy = |disk: &MemDisk| disk.after_power_loss(Survivors::Everything);
        self.copy = Some((copy(&self.chain_disk), copy(&self.access_disk)));
    }

    /// An operator restores the copy. Whether there was one.
    pub(in crate::testing::sim) fn restore(&mut self, ledger: &Ledger, rng: &mut Rng) -> bool {
        let Some((chain, access)) = self.copy.take() else { return false };
        (self.up, self.chain_disk, self.access_disk) = (None, chain, access);
        self.restored = Some(ledger.height().next());
        self.start(ledger, rng);
        true
    }

    pub(in crate::testing::sim) fn height(&self) -> Height {
        let view = self.up.as_ref().and_then(|up| up.chain.view().ok());
        view.and_then(|view| query::tip(&view).ok()).map_or(Height(0), |tip| tip.record.height)
    }

    /// Takes the blocks that it does not have, up to some height, and carries out what they say of access.
    pub(in crate::testing::sim) fn take_blocks(&mut self, ledger: &Ledger, up_to: Height) {
        let from = usize::try_from(self.height().0).unwrap_or(usize::MAX);
        let to = usize::try_from(up_to.0).unwrap_or(usize::MAX).min(ledger.blocks.len());
        let Some(up) = &mut self.up else { return };
        for decided in ledger.blocks.get(from..to).unwrap_or_default() {
            if up.chain.commit(&decided.bytes, &decided.certificate, &decided.changes).is_err() {
                return;
            }
        }
        if let Ok(wanted) = up.desk.carry_out_blocks(up.anew) {
            up.anew = false;
            up.wanted.extend(wanted);
        }
        if self.restored.is_some_and(|until| up_to >= until) {
            self.restored = None;
        }
    }

    /// Hears how high the ledger is.
    pub(in crate::testing::sim) fn hear(&self, heard: Option<Height>) {
        let at = self.height();
        if let Some(up) = self.up.as_ref().filter(|_| heard.is_some_and(|heard| heard <= at)) {
            up.desk.set_current();
        }
    }

    /// Asks the desk; none if nobody answers.
    pub(in crate::testing::sim) fn answer(
        &self,
        from: &PublicKey,
        request: DeskRequest,
    ) -> Option<Result<DeskAnswer, Refusal>> {
        let up = self.up.as_ref().filter(|_| self.is_up())?;
        let answer = up.desk.answer(from, request);
        // What is said while the power goes is heard by nobody.
        self.is_up().then_some(answer)
    }

    pub(in crate::testing::sim) fn store(&self) -> Option<&AccessStore> {
        self.up.as_ref().filter(|_| self.is_up()).map(|up| &up.store)
    }

    /// Renews the key of what is at rest.
    pub(in crate::testing::sim) fn tidy(&self) {
        if let Some(up) = &self.up {
            drop(up.store.renew_key());
        }
    }

    /// Does what the machine of handoffs wants done; none if the power goes meanwhile.
    pub(in crate::testing::sim) fn hand_on(&self, task: Task) -> Option<Result<Done, String>> {
        let up = self.up.as_ref().filter(|_| self.is_up())?;
        let done = up.desk.hand_on(task);
        self.is_up().then_some(done)
    }

    /// Vaults whose owner's dealing it needs.
    pub(in crate::testing::sim) fn wanted(&self) -> BTreeSet<VaultId> {
        self.up.as_ref().map(|up| up.wanted.clone()).unwrap_or_default()
    }

    /// Another node gave it a dealing.
    pub(in crate::testing::sim) fn fetched(&mut self, vault: &VaultId, hash: &Hash, bytes: &[u8]) {
        if let Some(up) = &mut self.up
            && up.desk.fetched_dealing(vault, hash, bytes).is_ok()
        {
            up.wanted.remove(vault);
        }
    }

    /// What its disk has if the power goes now.
    pub(in crate::testing::sim) fn durable(&self) -> Option<AccessStore> {
        let image = self.access_disk.after_power_loss(Survivors::Nothing);
        let entropy = Box::new(|out: &mut [u8]| {
            out.fill(1);
            Ok(())
        });
        AccessStore::open(Arc::new(image), entropy).ok()
    }
}
