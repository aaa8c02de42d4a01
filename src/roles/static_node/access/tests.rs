//! A desk by itself: what it keeps of what owners bring.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::store::{Disk, FileDisk};
use crate::testing::MemDisk;
use crate::testing::sim::desks::ledger::Ledger;
use crate::types::Timestamp;
use crate::types::limits::{
    MAX_GRANT_BODY_LEN, MAX_PACKAGE_LEN, MAX_VAULT_PACKAGE_BYTES, MAX_VAULT_PACKAGES,
};

const ROOM: u64 = 1 << 30;
const BEGUN: Timestamp = Timestamp::from_unix_micros(1_700_000_000_000_000);

/// The desk of the first static node of a ledger, with its clock.
pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) desk: AccessDesk,
    chain: Chain,
    time: &'static AtomicU64,
    /// Blocks that the node has.
    taken: usize,
}

impl World {
    pub(super) fn new() -> Self {
        Self::on(Arc::new(MemDisk::new(ROOM)))
    }

    /// With what the desk keeps on this disk.
    fn on(disk: Arc<dyn Disk>) -> Self {
        let ledger = Ledger::new(4, BEGUN);
        let mut drawn = 0_u64;
        let entropy = Box::new(move |out: &mut [u8]| {
            drawn += 1;
            blake3::Hasher::new().update(&drawn.to_le_bytes()).finalize_xof().fill(out);
            Ok(())
        });
        let chain = Chain::open(&MemDisk::new(ROOM), &ledger.genesis).unwrap();
        let store = AccessStore::open(disk, entropy).unwrap();
        let time: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(BEGUN.unix_micros())));
        let (key, clock) = (ledger.pairs[0].clone(), Clock::steered(time));
        let desk = AccessDesk::new(ledger.genesis.network, key, store, chain.clone(), clock).unwrap();
        Self { ledger, desk, chain, time, taken: 0 }
    }

    /// Has the ledger carry something out.
    fn carry_out(&mut self, author: &KeyPair, action: Action) {
        self.time.fetch_add(1_000_000, Ordering::AcqRel);
        let signed = self.ledger.sign(author, action);
        assert_eq!(self.ledger.decide(&[signed], self.desk.0.clock.now()), []);
        for decided in &self.ledger.blocks[self.taken..] {
            self.chain.commit(&decided.bytes, &decided.certificate, &decided.changes).unwrap();
        }
        self.taken = self.ledger.blocks.len();
        self.desk.carry_out_blocks(false).unwrap();
    }

    /// A vault with its owner.
    fn vault(&mut self, nth: u8) -> (VaultId, KeyPair) {
        let (vault, owner) = (VaultId([nth; 32]), KeyPair::from_secret(&[nth; 32]));
        self.carry_out(&owner, Action::CreateVault { vault, sponsor: None });
        (vault, owner)
    }

    /// An owner brings the body of a grant: whether it is kept.
    fn brings(&self, (vault, owner): &(VaultId, KeyPair), bytes: Vec<u8>) -> Result<(), RefusalCode> {
        let kind = DepositKind::GrantBody;
        let request = DeskRequest::Deposit { vault: *vault, kind, bytes };
        self.desk.answer(&owner.public(), request).map(drop).map_err(|refusal| refusal.code)
    }

    /// As if the owner had brought this much before.
    fn has(&self, vault: &VaultId, nth: u64, len: usize) {
        let mut hash = Hash([0xaa; 32]);
        hash.0[..8].copy_from_slice(&nth.to_le_bytes());
        let now = self.desk.0.clock.now();
        self.desk.0.store.deposit(vault, &hash, PackageKind::GrantBody, &vec![1; len], now).unwrap();
    }

    fn packages(&self, vault: &VaultId) -> (usize, usize) {
        self.desk.0.store.view().unwrap().packages_of(vault).unwrap()
    }
}

#[test]
fn packages_of_a_vault_are_kept_up_to_so_many_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on(Arc::new(FileDisk::open(dir.path()).unwrap()));
    let (full, other) = (world.vault(200), world.vault(201));
    for nth in 0.. {
        world.has(&full.0, nth, MAX_PACKAGE_LEN);
        if world.packages(&full.0).1 + 2 * MAX_PACKAGE_LEN > MAX_VAULT_PACKAGE_BYTES {
            break;
        }
    }
    // Until a body of a grant, of the largest, does not quite fit any more.
    let left = MAX_VAULT_PACKAGE_BYTES - world.packages(&full.0).1;
    world.has(&full.0, 1_000, left - MAX_GRANT_BODY_LEN);
    let left = MAX_VAULT_PACKAGE_BYTES - world.packages(&full.0).1;
    assert!(left < MAX_GRANT_BODY_LEN && left > MAX_GRANT_BODY_LEN / 2, "{left}");
    assert_eq!(world.brings(&full, vec![2; left + 1]), Err(RefusalCode::Full));
    assert_eq!(world.brings(&other, vec![2; left + 1]), Ok(()), "it is of one vault");
    assert_eq!(world.brings(&full, vec![2; left]), Ok(()));
    assert_eq!(world.brings(&full, vec![3]), Err(RefusalCode::Full));
    // What the ledger never named goes after a while.
    world.time.fetch_add(2 * 3_600_000_000, Ordering::AcqRel);
    world.desk.forget_packages().unwrap();
    assert_eq!(world.packages(&full.0), (0, 0));
    assert_eq!(world.brings(&full, vec![3]), Ok(()));
}

#[test]
fn packages_of_a_vault_are_kept_up_to_a_number() {
    let mut world = World::new();
    let full = world.vault(200);
    for nth in 1..MAX_VAULT_PACKAGES as u64 {
        world.has(&full.0, nth, 1);
    }
    assert_eq!(world.brings(&full, vec![2]), Ok(()));
    assert_eq!(world.brings(&full, vec![3]), Err(RefusalCode::Full));
}

#[test]
fn a_body_of_a_grant_is_bounded() {
    let mut world = World::new();
    let vault = world.vault(200);
    assert_eq!(world.brings(&vault, vec![1; MAX_GRANT_BODY_LEN]), Ok(()));
    assert_eq!(
        world.brings(&vault, vec![1; MAX_GRANT_BODY_LEN + 1]),
        Err(RefusalCode::Violation(Violation::TooLong))
    );
}
