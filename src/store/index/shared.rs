//! One index for many tasks and several processes.
//!
//! A thread of its own has the database, opens it when there is something to do, and lets go of it when there
//! is nothing more, or another process waits: so several commands work side by side. What tasks commit at the
//! same time is committed in one transaction.

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::store::disk::FileDisk;
use crate::store::index::{Commit, ConditionFailed, Index, IndexError};
use crate::store::sealed_file::system_entropy;

/// Held by the process that has the index open.
const LOCK_FILE: &str = "lock";
/// Held, shared, by those who wait for it.
const WAITING_FILE: &str = "waiting";
/// How long to wait for other processes.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts at the lock.
const LOCK_POLL: Duration = Duration::from_millis(10);
/// The index is closed when nobody has asked for anything for this long.
const IDLE: Duration = Duration::from_millis(200);
/// How long the index may stay open while others wait.
const TURN: Duration = Duration::from_millis(500);
/// What tasks may have queued.
const QUEUE_LEN: usize = 1_024;
/// Versions committed in one transaction.
const GROUP_LEN: usize = 8_192;

type CommitAnswer = oneshot::Sender<Result<Vec<Result<(), ConditionFailed>>, IndexError>>;
type Work = Box<dyn FnOnce(Result<&mut Index, IndexError>) + Send>;

enum Job {
    Commit(Vec<Commit>, CommitAnswer),
    Work(Work),
}

/// A handle on the index. Clones share it; the last that is dropped closes it.
#[derive(Debug, Clone)]
pub struct SharedIndex(SyncSender<Job>);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl SharedIndex {
    /// The index in a folder, which is made if need be. Opens nothing yet.
    ///
    /// # Errors
    /// As the system reports.
    pub fn new(folder: &Path, key: &[u8; 32]) -> io::Result<Self> {
        let disk = FileDisk::open(folder)?;
        let (jobs, queue) = sync_channel(QUEUE_LEN);
        let owner = Owner {
            folder: folder.to_owned(),
            disk,
            key: Zeroizing::new(*key),
            open: None,
            patience: LOCK_PATIENCE,
        };
        std::thread::Builder::new().name("index".into()).spawn(move || owner.run(&queue))?;
        Ok(Self(jobs))
    }

    /// Commits new versions; durable when it returns. See [`Index::commit`].
    ///
    /// # Errors
    /// [`IndexError`]: then none is committed.
    pub async fn commit(&self, commits: Vec<Commit>) -> Result<Vec<Result<(), ConditionFailed>>, IndexError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Commit(commits, answer)).await?;
        answered.await.map_err(|_| IndexError::Closed)?
    }

    /// Does anything else with the index.
    ///
    /// # Errors
    /// Those of the work, and [`IndexError::Locked`] if another process does not let go.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |index| {
            // Who asked may be gone.
            drop(answer.send(index.and_then(|index| work(index).map_err(|error| index.explain(error)))));
        });
        self.submit(Job::Work(work)).await?;
        answered.await.map_err(|_| IndexError::Closed)?
    }

    async fn submit(&self, job: Job) -> Result<(), IndexError> {
        // The queue is longer than any client's concurrency: it is full only when the disk stands still.
        let mut job = job;
        loop {
            match self.0.try_send(job) {
                Ok(()) => return Ok(()),
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Err(IndexError::Closed),
                Err(std::sync::mpsc::TrySendError::Full(back)) => job = back,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Owner {
    folder: PathBuf,
    disk: FileDisk,
    key: Zeroizing<[u8; 32]>,
    open: Option<Open>,
    patience: Duration,
}

/// The index while this process has it.
struct Open {
    index: Index,
    since: Instant,
    /// Dropped after the index: fields drop in order.
    _lock: File,
}

impl Owner {
    fn run(mut self, queue: &Receiver<Job>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match queue.recv_timeout(IDLE) {
                    Ok(job) => waiting.push_back(job),
                    Err(RecvTimeoutError::Timeout) => {
                        self.open = None;
                        // Nothing to close any more: wait without a clock.
                        match queue.recv() {
                            Ok(job) => waiting.push_back(job),
                            Err(_) => return,
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            waiting.extend(queue.try_iter().take(QUEUE_LEN));
            self.step(&mut waiting);
            if self.open.as_ref().is_some_and(|open| open.index.has_failed()) {
                // The next job finds what is durable, and the disk may have space again.
                self.open = None;
            }
            self.give_way();
        }
    }

    /// Does the first job, and if it is a commit all commits that follow it.
    fn step(&mut self, waiting: &mut VecDeque<Job>) {
        match waiting.pop_front() {
            None => {}
            Some(Job::Work(work)) => work(self.index()),
            Some(Job::Commit(mut commits, answer)) => {
                let mut answers = vec![(commits.len(), answer)];
                while let Some(Job::Commit(more, _)) = waiting.front()
                    && commits.len() + more.len() <= GROUP_LEN
                {
                    let Some(Job::Commit(more, answer)) = waiting.pop_front() else { break };
                    answers.push((more.len(), answer));
                    commits.extend(more);
                }
                self.commit(&commits, answers);
            }
        }
    }

    fn commit(&mut self, commits: &[Commit], answers: Vec<(usize, CommitAnswer)>) {
        if let Ok(results) = self.try_commit(commits) {
            let mut results = results.into_iter();
            for (count, answer) in answers {
                // Who asked may be gone.
                drop(answer.send(Ok(results.by_ref().take(count).collect())));
            }
            return;
        }
        // Alone, each gets its own result or error.
        let mut rest = commits;
        for (count, answer) in answers {
            let (own, others) = rest.split_at(count);
            rest = others;
            drop(answer.send(self.try_commit(own)));
        }
    }

    fn try_commit(&mut self, commits: &[Commit]) -> Result<Vec<Result<(), ConditionFailed>>, IndexError> {
        self.index().and_then(|index| index.commit(commits).map_err(|error| index.explain(error)))
    }

    fn index(&mut self) -> Result<&mut Index, IndexError> {
        if self.open.is_none() {
            let lock = self.lock()?;
            let index = Index::open(&self.disk, &self.key, system_entropy())?;
            self.open = Some(Open { index, since: Instant::now(), _lock: lock });
        }
        self.open.as_mut().map(|open| &mut open.index).ok_or(IndexError::Closed)
    }

    fn lock_file(&self, name: &str) -> Result<File, IndexError> {
        let options = File::options().create(true).truncate(false).write(true).open(self.folder.join(name));
        options.map_err(|error| redb::Error::Io(error).into())
    }

    fn lock(&self) -> Result<File, IndexError> {
        let lock = self.lock_file(LOCK_FILE)?;
        if lock.try_lock().is_ok() {
            return Ok(lock);
        }
        let waiting = self.lock_file(WAITING_FILE)?;
        // Tells the holder that somebody waits; that another waits too does no harm.
        drop(waiting.try_lock_shared());
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(IndexError::Database(redb::Error::Io(error))),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= self.patience => {
                    return Err(IndexError::Locked);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
            }
        }
    }

    /// Lets go of the index if its turn is over and another process waits.
    fn give_way(&mut self) {
        let over = self.open.as_ref().is_some_and(|open| open.since.elapsed() >= TURN);
        if !over {
            return;
        }
        let awaited = self.lock_file(WAITING_FILE).is_ok_and(|file| file.try_lock().is_err());
        if awaited {
            self.open = None;
            // Long enough for who waits to try again.
            std::thread::sleep(LOCK_POLL * 2);
        } else if let Some(open) = &mut self.open {
            open.since = Instant::now();
        }
    }
}
