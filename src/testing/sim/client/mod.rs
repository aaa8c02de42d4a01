//! A client of the run: the real machines and the real index, and between them what a shell does.
//!
//! It is told of deliveries and time and leaves what it wants sent in its outbox. It may die before any
//! effect: [`Client::fuse`] counts them down. What it knew is then lost, except its disk.

mod book;
mod get;
mod put;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::crypto::seed::VaultKeys;
use crate::message::request::{PutShard, ReadShard};
use crate::message::{Refusal, Request, Response};
use crate::store::Index;
use crate::stripe::{Candidate, Coder};
use crate::testing::mem_disk::MemDisk;
use crate::testing::sim::leak::LeakDetector;
use crate::testing::sim::model::Model;
use crate::testing::sim::rng::Rng;
use crate::transfer::upload;
use crate::transfer::{BufferPool, Failure, HedgeBudget, Latencies, RequestId};
use crate::types::{CollectionName, Network, PublicKey, Timestamp};

use get::GetJob;
pub(in crate::testing::sim) use put::DEK_NEEDLE;
use put::PutJob;

/// A call of one client incarnation.
pub(in crate::testing::sim) type CallId = u64;

/// A piece of work that the workload gave a client.
pub(in crate::testing::sim) type JobId = u64;

/// The client's process ended in the middle of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::testing::sim) enum Died {
    /// As the plan wants it.
    Killed,
    /// By itself, which must not be.
    Broken(String),
}

/// A call without answer is given up after this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// A node that failed is avoided for this long.
const SUSPICION: Duration = Duration::from_secs(5);

/// What a client wants sent.
#[derive(Debug)]
pub(in crate::testing::sim) struct Outgoing {
    pub(in crate::testing::sim) call: CallId,
    pub(in crate::testing::sim) node: PublicKey,
    pub(in crate::testing::sim) header: Vec<u8>,
    pub(in crate::testing::sim) body: Vec<u8>,
}

/// How a job ended.
#[derive(Debug)]
pub(in crate::testing::sim) struct Ended {
    pub(in crate::testing::sim) job: JobId,
    pub(in crate::testing::sim) started: Timestamp,
    pub(in crate::testing::sim) result: Result<(), JobError>,
}

/// Why a job failed.
#[derive(Debug)]
pub(in crate::testing::sim) enum JobError {
    /// Nodes did not do their part: allowed while enough of them are in trouble.
    Unavailable {
        /// The nodes that hold the segment that could not be read; none for one that could not be placed.
        holders: Vec<PublicKey>,
        /// The machine's error.
        why: String,
    },
    /// Never allowed.
    Wrong(String),
}

/// What all parts of a run look at.
#[derive(Debug, Default)]
pub(in crate::testing::sim) struct Shared {
    pub(in crate::testing::sim) model: Model,
    pub(in crate::testing::sim) leaks: LeakDetector,
}

/// Whom an answer is for.
#[derive(Debug, Clone, Copy)]
enum Target {
    Upload(u64, RequestId, PutShard),
    Download(u64, RequestId, ReadShard),
    /// Which shards of a read's segment a node holds.
    Locate(u64),
    Release,
}

#[derive(Debug)]
struct Call {
    node: PublicKey,
    target: Target,
    sent_at: Timestamp,
}

/// One client. See the [module](self).
pub(in crate::testing::sim) struct Client {
    pub(in crate::testing::sim) number: usize,
    keys: VaultKeys,
    network: Network,
    rng: Rng,
    coder: Arc<Coder>,
    pool: BufferPool,
    /// All records are in one collection.
    collection: CollectionName,
    disk: MemDisk,
    index: Index,
    releasing: Option<book::Releasing>,
    jobs: BTreeMap<JobId, Job>,
    uploads: BTreeMap<u64, put::UploadSlot>,
    downloads: BTreeMap<u64, get::DownloadSlot>,
    pack: Option<put::OpenPack>,
    calls: BTreeMap<CallId, Call>,
    next_id: u64,
    suspects: BTreeMap<PublicKey, Timestamp>,
    latencies: Latencies,
    budget: HedgeBudget,
    pub(in crate::testing::sim) outbox: VecDeque<Outgoing>,
    pub(in crate::testing::sim) ended: Vec<Ended>,
    /// Effects until it dies; `None` for as long as it is left alone.
    pub(in crate::testing::sim) fuse: Option<u32>,
}

#[derive(Debug)]
enum Job {
    Put(PutJob),
    Get(GetJob),
}

impl Client {
    /// The client of a vault, with the index that is on the disk.
    ///
    /// # Errors
    /// In words, if the index cannot be opened.
    pub(in crate::testing::sim) fn open(
        number: usize,
        keys: VaultKeys,
        network: &Network,
        disk: &MemDisk,
        mut rng: Rng,
    ) -> Result<Self, String> {
        let mut nonces = rng.fork();
        let entropy = Box::new(move |out: &mut [u8]| {
            nonces.fill(out);
            Ok(())
        });
        let index = Index::open(disk, keys.index_key(), entropy);
        let index = index.map_err(|error| format!("an index does not open: {error} ({error:?})"))?;
        let Ok(collection) = "records".parse() else { return Err("a collection's name".into()) };
        Ok(Self {
            number,
            keys,
            network: network.clone(),
            rng,
            coder: Arc::new(Coder::new(network.code)),
            pool: BufferPool::new(4 << 20),
            collection,
            disk: disk.clone(),
            index,
            releasing: None,
            jobs: BTreeMap::new(),
            uploads: BTreeMap::new(),
            downloads: BTreeMap::new(),
            pack: None,
            calls: BTreeMap::new(),
            next_id: 0,
            suspects: BTreeMap::new(),
            latencies: Latencies::default(),
            budget: HedgeBudget::default(),
            outbox: VecDeque::new(),
            ended: Vec::new(),
            fuse: None,
        })
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Counts an effect; the client dies before the one that the fuse was set for.
    fn burn(&mut self) -> Result<(), Died> {
        match &mut self.fuse {
            None => Ok(()),
            Some(0) => Err(Died::Killed),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn call(&mut self, now: Timestamp, node: PublicKey, target: Target, request: &Request, body: Vec<u8>) {
        let call = self.id();
        self.calls.insert(call, Call { node, target, sent_at: now });
        self.outbox.push_back(Outgoing { call, node, header: request.encode(), body });
    }

    /// A request of a machine is of no use any more: its answer will find no call.
    fn cancel(&mut self, is_it: impl Fn(&Target) -> bool) {
        self.calls.retain(|_, call| !is_it(&call.target));
    }

    /// An answer came.
    pub(in crate::testing::sim) fn on_response(
        &mut self,
        now: Timestamp,
        call: CallId,
        header: &[u8],
        body: Bytes,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let Some(call) = self.calls.remove(&call) else { return Ok(()) };
        let answer = match Response::decode(header) {
            Ok(Response::Refusal(refusal)) => Answer::Refused(refusal),
            Ok(response) => Answer::Response(response, body),
            Err(violation) => Answer::Failed(Failure::Violation(violation)),
        };
        self.answered(now, &call, answer, shared)
    }

    /// A call broke.
    pub(in crate::testing::sim) fn on_failure(
        &mut self,
        now: Timestamp,
        call: CallId,
        failure: Failure,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let Some(call) = self.calls.remove(&call) else { return Ok(()) };
        self.suspects.insert(call.node, now + SUSPICION);
        self.answered(now, &call, Answer::Failed(failure), shared)
    }

    /// The node acknowledged bytes of a call.
    pub(in crate::testing::sim) fn on_progress(
        &mut self,
        now: Timestamp,
        call: CallId,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        match self.calls.get(&call).map(|call| call.target) {
            Some(Target::Upload(id, request, _)) => {
                self.tell_upload(now, id, upload::Event::Progressed { request }, shared)
            }
            _ => Ok(()),
        }
    }

    fn answered(
        &mut self,
        now: Timestamp,
        call: &Call,
        answer: Answer,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        match call.target {
            Target::Upload(id, request, put) => {
                let event = self.upload_event(request, call.node, &put, answer);
                self.tell_upload(now, id, event, shared)
            }
            Target::Download(id, request, read) => {
                let event = self.download_event(now, id, request, &read, call, answer);
                self.tell_download(now, id, event, shared)
            }
            Target::Locate(id) => self.located(now, id, call.node, answer, shared),
            Target::Release => self.release_answered(now, call.node, &answer),
        }
    }

    /// When the client next wants to be woken.
    pub(in crate::testing::sim) fn deadline(&self) -> Option<Timestamp> {
        let calls = self.calls.values().map(|call| call.sent_at + CALL_TIMEOUT);
        let uploads = self.uploads.values().filter_map(put::UploadSlot::deadline);
        let downloads = self.downloads.values().filter_map(get::DownloadSlot::deadline);
        let pack = self.pack.as_ref().map(put::OpenPack::deadline);
        calls.chain(uploads).chain(downloads).chain(pack).min()
    }

    /// Time passed.
    pub(in crate::testing::sim) fn expire(
        &mut self,
        now: Timestamp,
        shared: &mut Shared,
    ) -> Result<(), Died> {
        let late = |call: &Call| call.sent_at + CALL_TIMEOUT <= now;
        let expired: Vec<_> = self.calls.iter().filter(|(_, call)| late(call)).map(|(id, _)| *id).collect();
        for call in expired {
            self.on_failure(now, call, Failure::TimedOut, shared)?;
        }
        self.expire_uploads(now, shared)?;
        self.expire_downloads(now, shared)
    }

    fn candidates(&mut self, now: Timestamp) -> Vec<Candidate<'_>> {
        self.suspects.retain(|_, until| *until > now);
        let nodes = self.network.nodes.iter();
        nodes.map(|node| Candidate::new(node, self.suspects.contains_key(&node.key))).collect()
    }

    fn end(&mut self, job: JobId, started: Timestamp, result: Result<(), JobError>) {
        self.jobs.remove(&job);
        self.ended.push(Ended { job, started, result });
    }
}

/// What became of a call.
#[derive(Debug)]
enum Answer {
    Response(Response, Bytes),
    Refused(Refusal),
    Failed(Failure),
}
