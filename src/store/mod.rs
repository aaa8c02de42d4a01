//! What rests on disk, and the order of writes and syncs that keeps it through a crash.
//!
//! Row 6: a shell. The stores are synchronous and start no threads; whoever needs concurrency wraps
//! them. Start reading at [`disk`], whose module says what a write promises.

pub mod disk;

pub use disk::{Disk, DiskFile, FileDisk};
