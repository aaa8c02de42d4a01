//! Moving a record between its owner and the nodes: pure machines that decide, pure jobs that compute.
//!
//! [`upload`] places one coded segment, [`download`] reads one range of one, [`inflight`] says how much
//! at once and how long to wait. They see no shard bytes: drivers move those and verify them.
//! [`plan`], [`seal`], [`pack`] and [`open`] are the arithmetic and the CPU work between a record's
//! plaintext and a segment's shards.
//!
//! Not here: connections, files, threads, clocks. Drivers: `runtime` on tokio, `testing::sim` in virtual
//! time. Invariants kept here: I2 (nothing is acknowledged on fewer receipts than
//! [`Code::ack_threshold`](crate::types::Code::ack_threshold)) and I6 (bounded windows).

pub mod buffer;
pub mod download;
pub mod failure;
pub mod inflight;
pub mod open;
pub mod pack;
pub mod plan;
pub mod seal;
pub mod upload;

pub use buffer::{Buffer, BufferPool};
pub use download::Download;
pub use failure::{Failure, RequestId};
pub use inflight::{HedgeBudget, Latencies, Window};
pub use pack::Pack;
pub use plan::{ReadUnit, read_units};
pub use seal::CodedSegment;
pub use upload::Upload;
