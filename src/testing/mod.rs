//! What tests, benches and the simulator put in place of the world. May import every row; no row
//! imports it outside tests.

pub mod mem_disk;
pub mod sim;

pub use mem_disk::{MemDisk, Op, Survivors};
