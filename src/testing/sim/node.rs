//! A storage node of the run: the real store on a disk in memory, behind the real codecs, with all its vices.
//!
//! Checks I1: whenever it signs, a disk that lost power that very moment is opened now and then, and must hold
//! what was signed for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::sign::KeyPair;
use crate::message::request::{PutShard, SignedReceipt};
use crate::message::{Refusal, RefusalCode, Request, Response, Violation};
use crate::roles::storage_node::{Signer, answer, key_namespace, refusal, sign_receipt, verify_shard};
use crate::store::disk::Disk as _;
use crate::store::{NewShard, ShardStore, StoreConfig, StoreError};
use crate::testing::mem_disk::{MemDisk, Survivors};
use crate::testing::sim::faults::Trouble;
use crate::testing::sim::rng::Rng;
use crate::transfer::Failure;
use crate::types::{NetworkId, PublicKey, Timestamp, VaultId};

/// Who asks: a call of one incarnation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Number of the client.
    pub client: usize,
    /// Which of its lives.
    pub incarnation: u64,
    /// Which call.
    pub call: u64,
}

/// What a node sends back.
#[derive(Debug)]
pub struct Reply {
    /// To whom.
    pub caller: Caller,
    /// The response's header.
    pub header: Vec<u8>,
    /// The bytes after it.
    pub body: Vec<u8>,
    /// The stream broke instead.
    pub broken: Option<Failure>,
    /// How long the node itself takes.
    pub delay: Duration,
}

/// Shards that came within this time are made durable together.
const GATHER: Duration = Duration::from_micros(300);

/// How long a sound node takes for a request.
const WORK_TIME: Duration = Duration::from_micros(200);

/// How much longer a slow node takes for everything.
const SLOWNESS: Duration = Duration::from_millis(1_500);

/// How long a starved node takes, from one answer to the next: milliseconds.
const STARVATION_MS: std::ops::Range<u64> = 2_000..7_000;

/// Of a thousand requests to a starved node so many find no connection within [`CONNECT_TIMEOUT`].
const UNCONNECTED: u64 = 400;

/// So many in a row at most: a node that is never reached is a dead one, and of those a read bears only m.
const UNCONNECTED_IN_A_ROW: u32 = 5;

/// As clients wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Milliseconds after which a node with a full queue wants to be asked again.
const BUSY_MS: u32 = 20;

/// Bytes of shards that a node takes in at once: as `NODE_INTAKE_BYTES`, but so few that a run meets the bound.
const INTAKE_BYTES: usize = 400_000;

/// Bytes of a node's disk: more than any run writes.
const CAPACITY: u64 = 1 << 30;

/// Of a thousand batches so many are looked for on a disk that lost power (I1).
const LOOK_AGAIN: u64 = 100;

/// Small files, so that a run has many of them.
const STORE: StoreConfig = StoreConfig {
    free_reserve: 1 << 20,
    volume_len: 3 << 20,
    checkpoint_bytes: 1 << 20,
    header_key: crate::store::HeaderKey([9; 32]),
};

/// A shard that waits to be made durable.
#[derive(Debug)]
struct Waiting {
    caller: Caller,
    namespace: VaultId,
    put: PutShard,
    body: Vec<u8>,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    signer: Signer,
    disk: MemDisk,
    /// `None` while the process is down.
    store: Option<ShardStore>,
    trouble: Option<Trouble>,
    /// Requests in a row that found no connection.
    unconnected: u32,
    /// A test breaks its first rule, to see that a run notices: it signs for shards before they are durable.
    pub signs_before_sync: bool,
    /// Invariant (I6): their bodies have at most [`INTAKE_BYTES`] together.
    intake: Vec<Waiting>,
    /// When the shards that wait are made durable.
    commit_at: Option<Timestamp>,
    /// Receipts signed before, to replay.
    receipts: Vec<SignedReceipt>,
    rng: Rng,
}

fn open(disk: &MemDisk) -> Result<ShardStore, String> {
    ShardStore::open(Arc::new(disk.clone()), STORE)
        .map_err(|error| format!("a store does not open: {error:?}"))
}

impl Node {
    /// A new node.
    ///
    /// # Errors
    /// In words, if an empty store does not open.
    pub fn new(network: NetworkId, mut rng: Rng) -> Result<Self, String> {
        let signer = Signer { network, key: KeyPair::from_secret(&rng.bytes()) };
        let disk = MemDisk::new(CAPACITY);
        Ok(Self {
            signer,
            store: Some(open(&disk)?),
            disk,
            trouble: None,
            unconnected: 0,
            signs_before_sync: false,
            intake: Vec::new(),
            commit_at: None,
            receipts: Vec::new(),
            rng,
        })
    }

    /// Its identity.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.signer.key.public()
    }

    /// Its disk.
    #[must_use]
    pub const fn disk(&self) -> &MemDisk {
        &self.disk
    }

    /// When it next has something to do by itself.
    #[must_use]
    pub const fn deadline(&self) -> Option<Timestamp> {
        self.commit_at
    }

    /// Its disk loses power at the nth change from now, and the process with it.
    pub fn lose_power_after(&mut self, changes: u64) {
        self.disk.lose_power_at(self.disk.changes() + changes);
    }

    /// Whether the process runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.store.is_some()
    }

    /// Shards that it holds; 0 while it is down.
    #[must_use]
    pub fn shards(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.reader().usage().shards)
    }

    fn reply(&mut self, caller: Caller, response: &Response, body: Vec<u8>) -> Reply {
        let delay = match self.trouble {
            Some(Trouble::Slow) => SLOWNESS,
            Some(Trouble::Starved) => {
                let span = STARVATION_MS.end - STARVATION_MS.start;
                Duration::from_millis(STARVATION_MS.start + self.rng.below(span))
            }
            _ => WORK_TIME,
        };
        Reply { caller, header: response.encode(), body, broken: None, delay }
    }

    fn refuse(&mut self, caller: Caller, refusal: Refusal) -> Vec<Reply> {
        vec![self.reply(caller, &Response::Refusal(refusal), Vec::new())]
    }
}

fn broken(caller: Caller, failure: Failure) -> Reply {
    Reply { caller, header: Vec::new(), body: Vec::new(), broken: Some(failure), delay: Duration::ZERO }
}

/// Serving.
impl Node {
    /// Takes in a request; shards wait for [`work`](Self::work).
    pub fn receive(
        &mut self,
        now: Timestamp,
        caller: Caller,
        from: PublicKey,
        header: &[u8],
        body: Vec<u8>,
    ) -> Vec<Reply> {
        if self.store.is_none() {
            return vec![broken(caller, Failure::Unreachable)];
        }
        if self.trouble == Some(Trouble::Hangs) {
            return Vec::new();
        }
        let is_starved = self.trouble == Some(Trouble::Starved);
        if is_starved && self.unconnected < UNCONNECTED_IN_A_ROW && self.rng.chance(UNCONNECTED) {
            self.unconnected += 1;
            return vec![Reply { delay: CONNECT_TIMEOUT, ..broken(caller, Failure::Unreachable) }];
        }
        self.unconnected = 0;
        match Request::decode(header) {
            Ok(Request::PutShard(put)) => {
                let namespace = key_namespace(&put.vault, &from);
                self.take_in(now, Waiting { caller, namespace, put, body })
            }
            Ok(request) => self.answer(caller, from, &request),
            Err(error) => self.refuse(caller, error.into()),
        }
    }

    /// Queues a shard, or refuses it as a busy node does.
    fn take_in(&mut self, now: Timestamp, waiting: Waiting) -> Vec<Reply> {
        let queued: usize = self.intake.iter().map(|waiting| waiting.body.len()).sum();
        if queued + waiting.body.len() > INTAKE_BYTES {
            return self.refuse(waiting.caller, Refusal::busy("too many shards at once", BUSY_MS));
        }
        self.intake.push(waiting);
        self.commit_at.get_or_insert(now + GATHER);
        Vec::new()
    }

    fn answer(&mut self, caller: Caller, from: PublicKey, request: &Request) -> Vec<Reply> {
        if self.trouble == Some(Trouble::Withholds) && matches!(request, Request::ReadShard(_)) {
            return self.refuse(caller, Refusal::new(RefusalCode::NotFound, "no such shard"));
        }
        let Some(vault) = request.vault() else {
            return self.refuse(caller, Violation::OutOfBounds.into());
        };
        let namespace = key_namespace(&vault, &from);
        let Some(store) = &mut self.store else { return Vec::new() };
        let (response, mut body) = match request {
            Request::ReleaseSegments { segments, .. } => {
                let released = store.release(&namespace, segments);
                if self.disk.is_down() {
                    return self.crash(vec![caller]);
                }
                let done = |(shards, bytes)| Response::Released { shards, bytes };
                let refused = |error: StoreError| Response::Refusal(refusal(&error));
                (released.map_or_else(refused, done), Vec::new())
            }
            request => {
                let (response, body) = answer(&store.reader(), &namespace, request);
                (response, body.to_vec())
            }
        };
        if self.trouble == Some(Trouble::Corrupts) {
            let at = self.rng.index(body.len());
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1 << self.rng.below(8);
            }
        }
        vec![self.reply(caller, &response, body)]
    }

    /// Makes the shards that wait durable, then signs for them.
    ///
    /// # Errors
    /// In words, if it signs for a shard that a crash right now would lose (I1).
    pub fn work(&mut self, now: Timestamp) -> Result<Vec<Reply>, String> {
        self.commit_at = None;
        let batch = std::mem::take(&mut self.intake);
        let (mut replies, mut shards, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        for waiting in batch {
            let bytes = Bytes::from(waiting.body.clone());
            match verify_shard(waiting.namespace, &waiting.put, bytes, Timestamp::ZERO) {
                Ok(shard) => {
                    shards.push(shard);
                    taken.push(waiting);
                }
                Err(violation) => replies.extend(self.refuse(waiting.caller, violation.into())),
            }
        }
        let results = self.keep(&shards);
        if self.disk.is_down() {
            replies.extend(self.crash(taken.iter().map(|waiting| waiting.caller).collect()));
            return Ok(replies);
        }
        self.look_again(&shards, &results)?;
        for (waiting, result) in taken.iter().zip(results) {
            let response = match result {
                Ok(()) => Response::Receipt(self.sign(now, waiting)),
                Err(error) => Response::Refusal(refusal(&error)),
            };
            replies.push(self.reply(waiting.caller, &response, Vec::new()));
        }
        Ok(replies)
    }

    fn keep(&mut self, shards: &[NewShard]) -> Vec<Result<(), StoreError>> {
        let idle = self.trouble == Some(Trouble::Discards) || self.signs_before_sync;
        match &mut self.store {
            Some(store) if !idle => store.put_batch(shards),
            _ => shards.iter().map(|_| Ok(())).collect(),
        }
    }

    /// I1: what is about to be signed for is there after a crash right now.
    fn look_again(&mut self, shards: &[NewShard], results: &[Result<(), StoreError>]) -> Result<(), String> {
        if self.trouble == Some(Trouble::Discards) || !self.rng.chance(LOOK_AGAIN) {
            return Ok(());
        }
        let image = self.disk.after_power_loss(Survivors::Nothing);
        image.set_capacity(CAPACITY);
        let after = open(&image)?.reader();
        for shard in shards.iter().zip(results).filter(|(_, result)| result.is_ok()).map(|(shard, _)| shard) {
            let found = after.root_of(&shard.vault, shard.shard);
            let slice = after.read(&shard.vault, shard.shard, 0, shard.bytes.len() as u64);
            let whole = slice.is_ok_and(|slice| slice.bytes == shard.bytes);
            if !whole || !matches!(found, Ok(Some(root)) if root == shard.root) {
                return Err(format!("I1: {:?} is signed for but not durable", shard.shard));
            }
        }
        Ok(())
    }

    fn sign(&mut self, now: Timestamp, waiting: &Waiting) -> SignedReceipt {
        let signed = match self.trouble {
            Some(Trouble::Forges) => {
                let forger = KeyPair::from_secret(&self.rng.bytes());
                let honest = sign_receipt(&self.signer, &waiting.put, now);
                let signature = forger.sign(crate::crypto::sign::Domain::CustodyReceipt, &honest.statement);
                SignedReceipt { signature, ..honest }
            }
            Some(Trouble::Replays) if !self.receipts.is_empty() => {
                self.receipts[self.rng.index(self.receipts.len())].clone()
            }
            _ => sign_receipt(&self.signer, &waiting.put, now),
        };
        self.receipts.push(signed.clone());
        signed
    }
}

/// Troubles.
impl Node {
    /// A trouble begins; the calls that it breaks.
    ///
    /// # Errors
    /// In words, if the store does not open.
    pub fn begin(&mut self, trouble: Trouble) -> Result<Vec<Reply>, String> {
        self.trouble = Some(trouble);
        match trouble {
            // At once, or in the middle of one of the next changes of the disk.
            Trouble::Crash if self.rng.chance(500) => Ok(self.crash(Vec::new())),
            Trouble::Crash => {
                self.disk.lose_power_at(self.disk.changes() + self.rng.below(30));
                Ok(Vec::new())
            }
            Trouble::Wiped => {
                let broken = self.crash(Vec::new());
                self.disk = MemDisk::new(CAPACITY);
                self.store = Some(open(&self.disk)?);
                Ok(broken)
            }
            Trouble::Full => {
                // Nothing but what is in the reserve.
                let free = self.disk.free_bytes().unwrap_or_default();
                self.disk.set_capacity(CAPACITY - free);
                Ok(Vec::new())
            }
            Trouble::Rots => {
                self.rot();
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A trouble ends.
    ///
    /// # Errors
    /// In words, if the store does not open again.
    pub fn end(&mut self, trouble: Trouble) -> Result<Vec<Reply>, String> {
        let was = self.trouble.take();
        let mut broken = Vec::new();
        if trouble == Trouble::Crash && self.store.is_some() {
            // The disk had too little to do to lose power before.
            broken = self.crash(Vec::new());
        }
        if was == Some(Trouble::Full) {
            self.disk.set_capacity(CAPACITY);
        }
        if self.store.is_none() {
            self.store = Some(open(&self.disk)?);
        }
        Ok(broken)
    }

    /// The process ends and the disk loses power; every call that waits breaks.
    fn crash(&mut self, mut callers: Vec<Caller>) -> Vec<Reply> {
        self.store = None;
        self.commit_at = None;
        callers.extend(std::mem::take(&mut self.intake).iter().map(|waiting| waiting.caller));
        let seed = self.rng.bits();
        let survivors = *self.rng.pick(&[
            Survivors::Nothing,
            Survivors::Everything,
            Survivors::Random(seed),
            Survivors::Random(seed),
        ]);
        self.disk = self.disk.after_power_loss(survivors);
        callers.into_iter().map(|caller| broken(caller, Failure::Disconnected)).collect()
    }

    /// Turns bits of the volumes around.
    fn rot(&mut self) {
        let names = self.disk.list().unwrap_or_default();
        for name in names.iter().filter(|name| name.starts_with("volume")) {
            let len = self.disk.open(name).and_then(|file| file.len()).unwrap_or_default();
            for _ in 0..self.rng.below(20) {
                let bit = u8::try_from(self.rng.below(8)).unwrap_or_default();
                self.disk.flip_bit(name, self.rng.below(len), bit);
            }
        }
    }
}
