//! Buffers that are used again: fresh megabytes cost a page fault every 4 KiB, a fifth of a put's time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Shorter buffers are left to the allocator, which has them at hand.
const POOLED_MIN_LEN: usize = 64 << 10;
/// A buffer longer than this times what is asked for is left for who needs it.
const FIT: usize = 4;

/// Buffers kept for the next user; cloning shares the pool.
#[derive(Clone)]
pub struct BufferPool {
    free: Arc<Mutex<Free>>,
    /// Bytes of free buffers that are kept at most.
    keep_bytes: usize,
}

#[derive(Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    /// Invariant: the sum of their capacities, at most `keep_bytes`.
    bytes: usize,
}

impl BufferPool {
    /// A pool that keeps at most so many bytes for the next user.
    #[must_use]
    pub fn new(keep_bytes: usize) -> Self {
        Self { free: Arc::default(), keep_bytes }
    }

    /// A buffer of `len` bytes whose content is left over from earlier use: overwrite all of it.
    #[must_use]
    pub fn take(&self, len: usize) -> Buffer {
        let mut bytes = if len < POOLED_MIN_LEN { Vec::new() } else { self.fitting(len) };
        bytes.resize(len, 0);
        Buffer { bytes, pool: self.clone() }
    }

    /// The shortest free buffer that fits; an empty one if there is none.
    fn fitting(&self, len: usize) -> Vec<u8> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |bytes: &Vec<u8>| bytes.capacity() >= len && bytes.capacity() / FIT <= len;
        let fitting = free.buffers.iter().enumerate().filter(|(_, bytes)| fits(bytes));
        let Some(at) = fitting.min_by_key(|(_, bytes)| bytes.capacity()).map(|(at, _)| at) else {
            return Vec::new();
        };
        let bytes = free.buffers.swap_remove(at);
        free.bytes -= bytes.capacity();
        bytes
    }

    fn give_back(&self, bytes: Vec<u8>) {
        if bytes.capacity() < POOLED_MIN_LEN {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.bytes + bytes.capacity() <= self.keep_bytes {
            free.bytes += bytes.capacity();
            free.buffers.push(bytes);
        }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferPool({})", self.keep_bytes)
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

    fn kept(pool: &BufferPool) -> Vec<usize> {
        let free = pool.free.lock().unwrap();
        let kept: Vec<usize> = free.buffers.iter().map(Vec::capacity).collect();
        assert_eq!(free.bytes, kept.iter().sum::<usize>());
        kept
    }

    #[test]
    fn a_dropped_buffer_is_used_again_and_the_pool_stays_small() {
        let pool = BufferPool::new(250_000);
        let (one, two) = (pool.take(200_000), pool.take(100_000));
        let address = one.as_ptr();
        drop(one);
        drop(two);
        assert_eq!(kept(&pool), [200_000]);
        let again = pool.take(190_000);
        assert_eq!((again.as_ptr(), again.len()), (address, 190_000));
        assert!(kept(&pool).is_empty());
    }

    #[test]
    fn the_shortest_that_fits_is_taken_and_none_far_too_long() {
        let pool = BufferPool::new(10 << 20);
        let buffers = [4 << 20, 1 << 20, 2 << 20].map(|len| pool.take(len));
        drop(buffers);
        assert_eq!(pool.take(900_000).bytes.capacity(), 1 << 20);
        drop(pool.take(100_000));
        assert_eq!(kept(&pool).len(), 4);
        drop(pool.take(100));
        assert_eq!(kept(&pool).len(), 4);
    }
}
