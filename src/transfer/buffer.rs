//! Buffers that are used again: fresh megabytes cost a page fault every 4 KiB, a fifth of a put's time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers kept for the next user; cloning shares the pool.
#[derive(Clone)]
pub struct BufferPool {
    /// Invariant: at most `keep` buffers.
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    keep: usize,
}

impl BufferPool {
    /// A pool that keeps at most `keep` buffers.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self { free: Arc::default(), keep }
    }

    /// A buffer of `len` bytes whose content is left over from earlier use: overwrite all of it.
    #[must_use]
    pub fn take(&self, len: usize) -> Buffer {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = free.iter().position(|bytes| bytes.capacity() >= len);
        let mut bytes = fits.map(|at| free.swap_remove(at)).unwrap_or_default();
        drop(free);
        bytes.resize(len, 0);
        Buffer { bytes, pool: self.clone() }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(bytes);
        }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferPool({})", self.keep)
    }
}

/// Bytes that go back to their pool when dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    pool: BufferPool,
}

impl Buffer {
    /// Changes the length; new bytes are zero or left over, so overwrite them.
    pub fn resize(&mut self, len: usize) {
        self.bytes.resize(len, 0);
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

impl fmt::Debug for Buffer {
    /// Shows no content: it may be plaintext.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again_and_the_pool_stays_small() {
        let pool = BufferPool::new(1);
        let (one, two) = (pool.take(1_000), pool.take(500));
        let address = one.as_ptr();
        drop(one);
        drop(two);
        assert_eq!(pool.free.lock().unwrap().len(), 1);
        let again = pool.take(900);
        assert_eq!((again.as_ptr(), again.len()), (address, 900));
        assert!(pool.free.lock().unwrap().is_empty());
    }
}
