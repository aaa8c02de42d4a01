//! CPU jobs off the async threads: sealing, coding and hashing never delay a reply.

use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// A bounded set of threads for CPU-heavy work. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Workers(Arc<Semaphore>);

/// The job panicked: a bug, already reported by the panic hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a CPU job panicked")]
pub struct JobPanicked;

impl Workers {
    /// As many jobs at once as there are cores: on few cores, more threads than cores lose.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Runs a job to its end and gives back its result.
    ///
    /// # Errors
    /// [`JobPanicked`] if the job panicked.
    ///
    /// # Cancel safety
    /// A job that has begun runs to its end; its result is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobPanicked> {
        // The semaphore is never closed, so the permit is always had.
        let permit = Arc::clone(&self.0).acquire_owned().await.ok();
        let handle = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(permit);
            result
        });
        handle.await.map_err(|_| JobPanicked)
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self::new()
    }
}
