//! Messages: what travels or is stored, as types with one strict decoder each.
//!
//! [`generated`] is what `proto/` says; the other files turn it into checked values. What is signed
//! is a fixed encoding, never protobuf. Nothing downstream accepts an unchecked message.

pub mod custody_receipt;
pub mod descriptor;
pub mod record;
pub mod request;
pub mod violation;

pub use custody_receipt::CustodyReceipt;
pub use descriptor::Descriptor;
pub use record::{Extent, Locator, RecordHeader, VersionEntry};
pub use request::{Refusal, RefusalCode, Request, Response};
pub use violation::Violation;
