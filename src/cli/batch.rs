//! Many records at once: a bounded number in work, one error never hiding another.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::output::Output;

/// Records that wait between those who find them and those who transfer them.
pub(crate) const QUEUE_LEN: usize = 1_024;

/// Works on each item, at most `jobs` at a time, and hands each result to `done` as it comes.
///
/// Items that are errors go straight to `done`. When it breaks, nothing new begins and what is in
/// work is given up; the answer is how many those are, counted to the end.
pub(crate) async fn each<T, R, F, Fut>(
    jobs: NonZeroUsize,
    mut items: Receiver<anyhow::Result<T>>,
    work: F,
    mut done: impl FnMut(anyhow::Result<R>) -> ControlFlow<()>,
) -> u64
where
    R: Send + 'static,
    F: Fn(T) -> Fut,
    Fut: Future<Output = anyhow::Result<R>> + Send + 'static,
{
    let (mut tasks, mut open) = (JoinSet::new(), true);
    while open || !tasks.is_empty() {
        let flow = tokio::select! {
            Some(joined) = tasks.join_next(), if !tasks.is_empty() => {
                done(joined.unwrap_or_else(|error| Err(lost(&error).into())))
            }
            item = items.recv(), if open && tasks.len() < jobs.get() => match item {
                Some(Ok(item)) => {
                    tasks.spawn(work(item));
                    ControlFlow::Continue(())
                }
                Some(Err(error)) => done(Err(error)),
                None => {
                    open = false;
                    ControlFlow::Continue(())
                }
            },
        };
        if flow.is_break() {
            let mut left = tasks.len() as u64;
            tasks.abort_all();
            while let Some(item) = items.recv().await {
                left += u64::from(item.is_ok());
            }
            return left;
        }
    }
    0
}

fn lost(error: &tokio::task::JoinError) -> Failure {
    Failure::new(Exit::Internal, format!("a bug in xvault: {error}"))
}

/// Counts what became of the records of a command.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Records done.
    pub(crate) done: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// How many of the bytes an earlier attempt had stored.
    pub(crate) resumed: u64,
    /// Records that failed.
    pub(crate) failed: u64,
    /// Records that were not tried, or given up, because the others had no chance any more.
    pub(crate) left: u64,
    /// The exit code of all failures so far; `Failed` if they differ.
    exit: Option<Exit>,
}

impl Tally {
    /// Counts a record that is done.
    pub(crate) const fn done(&mut self, bytes: u64) {
        self.done += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Reports a failure and says whether the other records still have a chance: not if the nodes, the
    /// disk or the vault are what failed.
    pub(crate) fn fail(&mut self, output: &Output, error: &anyhow::Error) -> ControlFlow<()> {
        let exit = Exit::of(error);
        if exit != Exit::BrokenPipe {
            output.error(error);
        }
        self.failed += 1;
        self.exit = match self.exit {
            None => Some(exit),
            Some(before) if before == exit => Some(exit),
            Some(_) => Some(Exit::Failed),
        };
        match exit {
            Exit::Unavailable | Exit::Full | Exit::Locked | Exit::BrokenPipe | Exit::Internal => {
                self.exit = Some(exit);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    /// How the command ends: an error if any record failed.
    pub(crate) fn result(&self, past: &str) -> anyhow::Result<Exit> {
        match self.exit {
            None => Ok(Exit::Ok),
            Some(exit) => {
                let (failed, done) = (format::count(self.failed, "record"), self.done);
                let left = match self.left {
                    0 => String::new(),
                    1 => ", 1 was not tried".to_owned(),
                    left => format!(", {left} were not tried"),
                };
                let message = format!("{failed} could not be {past}; {done} were{left}");
                Err(Failure::new(exit, message).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    fn run(jobs: usize, items: Vec<anyhow::Result<u32>>, break_at: u32) -> (Vec<String>, usize, u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut seen = Vec::new();
        let left = runtime.block_on(async {
            let (to, from) = mpsc::channel(items.len().max(1));
            for item in items {
                to.send(item).await.unwrap();
            }
            drop(to);
            let work = |item: u32| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    if item.is_multiple_of(2) { Ok(item) } else { Err(anyhow::anyhow!("{item} is odd")) }
                }
            };
            each(NonZeroUsize::new(jobs).unwrap(), from, work, |result| {
                let stop = result.as_ref().is_ok_and(|item| *item == break_at);
                seen.push(result.map_or_else(|error| error.to_string(), |item| item.to_string()));
                if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await
        });
        (seen, most.load(Ordering::SeqCst), left)
    }

    #[test]
    fn every_item_has_a_result_and_no_more_than_allowed_run_at_once() {
        let items = (0..100).map(Ok).chain([Err(anyhow::anyhow!("unnamed"))]).collect();
        let (mut seen, most, left) = run(7, items, u32::MAX);
        seen.sort();
        assert_eq!((seen.len(), most, left), (101, 7, 0));
        assert!(seen.contains(&"unnamed".to_owned()) && seen.contains(&"99 is odd".to_owned()));
    }

    #[test]
    fn a_break_ends_the_work_and_what_is_left_is_counted() {
        let (seen, _, left) = run(1, (0..100).map(Ok).collect(), 4);
        assert_eq!(seen.last().map(String::as_str), Some("4"));
        assert_eq!(seen.len() as u64 + left, 100);
    }

    #[test]
    fn failures_that_differ_are_a_plain_failure() {
        let output = Output::new(true, true, super::super::output::ColorChoice::Never, Default::default());
        let fail = |tally: &mut Tally, exit| tally.fail(&output, &Failure::new(exit, "x").into());
        let mut tally = Tally::default();
        assert!(fail(&mut tally, Exit::Refused).is_continue());
        assert_eq!(tally.result("put").map_err(|error| Exit::of(&error)).unwrap_err(), Exit::Refused);
        assert!(fail(&mut tally, Exit::NotFound).is_continue());
        assert_eq!(tally.result("put").map_err(|error| Exit::of(&error)).unwrap_err(), Exit::Failed);
        assert!(fail(&mut tally, Exit::Unavailable).is_break());
        tally.left = 7;
        let error = tally.result("put").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Unavailable);
        assert_eq!(error.to_string(), "3 records could not be put; 0 were, 7 were not tried");
    }
}
