//! The one thread that writes: group commit. Whatever is queued while a batch is being synced is the next batch.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::message::{PutShard, Refusal, Response};
use crate::roles::storage_node::serve::{Signer, refusal, sign_receipt, verify_shard};
use crate::runtime::Clock;
use crate::store::ShardStore;
use crate::types::{SegmentId, Timestamp, VaultId};

/// Requests that may wait for the writer. Their bytes are bounded by the intake before.
const QUEUE_LEN: usize = 1_024;
/// Bytes of shards in one batch: larger ones would keep the first waiting without saving syncs.
const BATCH_BYTES: usize = 16 << 20;
/// Requests in one batch.
const BATCH_LEN: usize = 512;
/// The background scrub reads this much at a time, when nobody has asked for anything for [`IDLE`].
const SCRUB_BYTES: u64 = 8 << 20;
/// Quiet time before a step of the scrub: at most 8 MiB a second, whatever the disk.
const IDLE: Duration = Duration::from_secs(1);
/// Rest between two scrubs of the whole store.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// Something for the writer to do.
enum Job {
    Put {
        namespace: VaultId,
        put: PutShard,
        bytes: Bytes,
        stored_at: Timestamp,
        room: OwnedSemaphorePermit,
        answer: oneshot::Sender<Response>,
    },
    Release {
        namespace: VaultId,
        segments: Vec<SegmentId>,
        answer: oneshot::Sender<Response>,
    },
    Stop,
}

/// Hands jobs to the writer.
#[derive(Debug, Clone)]
pub(super) struct Handle(SyncSender<Job>);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl Handle {
    /// Stores a shard where those of its vault are kept, at this time of the ledger; `room` is given back when its bytes
    /// are no longer held.
    pub(super) async fn put(
        &self,
        namespace: VaultId,
        put: PutShard,
        bytes: Bytes,
        stored_at: Timestamp,
        room: OwnedSemaphorePermit,
    ) -> Response {
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Put { namespace, put, bytes, stored_at, room, answer }, answered).await
    }

    /// Frees segments.
    pub(super) async fn release(&self, namespace: VaultId, segments: Vec<SegmentId>) -> Response {
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Release { namespace, segments, answer }, answered).await
    }

    async fn submit(&self, job: Job, answered: oneshot::Receiver<Response>) -> Response {
        match self.0.try_send(job) {
            Ok(()) => answered.await.unwrap_or_else(|_| stopping()),
            Err(TrySendError::Full(_)) => Response::Refusal(Refusal::busy("too many requests at once", 100)),
            Err(TrySendError::Disconnected(_)) => stopping(),
        }
    }
}

fn stopping() -> Response {
    Response::Refusal(Refusal::busy("the node is stopping", 1_000))
}

/// The writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(store: ShardStore, signer: Signer) -> Self {
        let (jobs, queue) = sync_channel(QUEUE_LEN);
        let mut work = Work { store, signer, clock: Clock::new(), scrub_at: Instant::now() };
        let thread = std::thread::spawn(move || {
            work.run(&queue);
            if let Err(error) = work.store.close() {
                tracing::error!(%error, "the store could not be closed; the next start will recover it");
            }
        });
        Self { handle: Handle(jobs), thread }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Does what is queued, then closes the store.
    pub(super) async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(move || {
            // Gone already is as good as stopped.
            drop(self.handle.0.send(Job::Stop));
            self.thread.join().is_ok()
        });
        if !stopped.await.unwrap_or(false) {
            tracing::error!("the writer panicked");
        }
    }
}

struct Work {
    store: ShardStore,
    signer: Signer,
    clock: Clock,
    scrub_at: Instant,
}

/// A put that is being worked on.
struct Pending {
    put: PutShard,
    answer: oneshot::Sender<Response>,
    /// Given back once the batch, and with it the bytes, is dropped.
    _room: OwnedSemaphorePermit,
}

impl Work {
    fn run(&mut self, queue: &Receiver<Job>) {
        loop {
            let first = match queue.recv_timeout(IDLE) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.scrub();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !self.batch(first, queue) {
                return;
            }
        }
    }

    /// Does the first job and all that wait behind it; false once told to stop.
    fn batch(&mut self, first: Job, queue: &Receiver<Job>) -> bool {
        let (mut shards, mut pending, mut bytes_taken) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Put { namespace, put, bytes, stored_at, room, answer } => {
                    bytes_taken += bytes.len();
                    match verify_shard(namespace, &put, bytes, stored_at) {
                        Ok(shard) => {
                            shards.push(shard);
                            pending.push(Pending { put, answer, _room: room });
                        }
                        // Who asked may be gone.
                        Err(violation) => drop(answer.send(Response::Refusal(violation.into()))),
                    }
                }
                Job::Release { namespace, segments, answer } => {
                    self.commit(std::mem::take(&mut shards), std::mem::take(&mut pending));
                    let released = self.store.release(&namespace, &segments);
                    let response = released.map_or_else(
                        |error| Response::Refusal(refusal(&error)),
                        |(shards, bytes)| Response::Released { shards, bytes },
                    );
                    drop(answer.send(response));
                }
                Job::Stop => {
                    self.commit(shards, pending);
                    return false;
                }
            }
            let full = bytes_taken >= BATCH_BYTES || pending.len() >= BATCH_LEN;
            next = if full { None } else { queue.try_recv().ok() };
        }
        self.commit(shards, pending);
        true
    }

    /// Makes shards durable, and only then signs for them.
    fn commit(&mut self, shards: Vec<crate::store::NewShard>, pending: Vec<Pending>) {
        if shards.is_empty() {
            return;
        }
        let results = self.store.put_batch(&shards);
        let now = self.clock.now();
        for (result, waiting) in results.into_iter().zip(pending) {
            let response = match result {
                Ok(()) => Response::Receipt(sign_receipt(&self.signer, &waiting.put, now)),
                Err(error) => Response::Refusal(refusal(&error)),
            };
            drop(waiting.answer.send(response));
        }
    }

    /// One step of the background scrub.
    fn scrub(&mut self) {
        if Instant::now() < self.scrub_at {
            return;
        }
        match self.store.scrub(SCRUB_BYTES) {
            Ok(report) if report.finished => self.scrub_at = Instant::now() + SCRUB_EVERY,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the scrub failed");
                self.scrub_at = Instant::now() + SCRUB_EVERY;
            }
        }
    }
}
