//! How pure logic runs on tokio: machines are driven, CPU jobs are kept off the async threads.

pub mod clock;
pub mod drive;
pub mod workers;

pub use clock::{Clock, wall_time};
pub use drive::Driver;
pub use workers::{JobPanicked, Workers};
