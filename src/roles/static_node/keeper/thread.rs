//! The thread that a keeper has in a node, and its queue.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};

use super::{Command, Keeper, KeeperError};

/// Commands that may wait.
const QUEUE_LEN: usize = 4_096;
/// Commands taken in before deadlines are looked at again.
const BATCH: usize = 256;

/// Starts the keeper's thread.
pub(in crate::roles::static_node) fn spawn(
    keeper: Keeper,
    log: Vec<Vec<u8>>,
    queue: Receiver<Command>,
    ended: impl FnOnce(Result<(), KeeperError>) + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("ledger".into()).spawn(move || ended(run(keeper, log, &queue)))
}

/// The keeper's queue.
pub(in crate::roles::static_node) fn queue() -> (SyncSender<Command>, Receiver<Command>) {
    std::sync::mpsc::sync_channel(QUEUE_LEN)
}

/// Works until it is told to stop, or must.
fn run(mut keeper: Keeper, log: Vec<Vec<u8>>, queue: &Receiver<Command>) -> Result<(), KeeperError> {
    keeper.start(log)?;
    loop {
        let wait = keeper.deadline().since(keeper.now());
        match queue.recv_timeout(wait) {
            Ok(command) => {
                for command in std::iter::once(command).chain(queue.try_iter().take(BATCH)) {
                    if matches!(command, Command::Stop) {
                        return Ok(());
                    }
                    keeper.take(command)?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        keeper.expire()?;
    }
}
