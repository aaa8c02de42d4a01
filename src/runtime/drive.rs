//! Runs a [`Machine`] on tokio.

use tokio::task::JoinSet;

use crate::runtime::Clock;
use crate::types::Machine;

/// What becomes of an effect.
#[derive(Debug)]
pub enum Step<F, R> {
    /// Work that ends in an event for the machine.
    Run(F),
    /// Done with at once; nothing to wait for.
    Done,
    /// The machine's last word: driving ends.
    Finished(R),
}

/// Drives a machine until one of its effects is its last word.
///
/// `perform` carries out one effect: it may start work (a future that ends in an event), and is
/// called in the order in which the machine emits effects. Work still under way when the machine
/// finishes is given back, so that the caller can let it end or drop it.
pub async fn drive<M, F, R>(
    machine: &mut M,
    clock: Clock,
    mut perform: impl FnMut(M::Effect) -> Step<F, R>,
) -> (R, JoinSet<M::Event>)
where
    M: Machine,
    M::Event: Send + 'static,
    F: Future<Output = M::Event> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    loop {
        while let Some(effect) = machine.poll() {
            match perform(effect) {
                Step::Run(work) => drop(under_way.spawn(work)),
                Step::Done => {}
                Step::Finished(result) => return (result, under_way),
            }
        }
        let deadline = machine.deadline();
        let timeout = async {
            match deadline {
                Some(when) => tokio::time::sleep(clock.until(when)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = under_way.join_next() => {
                // Work that panicked or was cancelled sends no event; the machine's deadline finds it.
                if let Ok(event) = ended {
                    machine.handle(clock.now(), event);
                }
            }
            () = timeout => machine.expire(clock.now()),
        }
    }
}
