//! The network: QUIC between a client and storage nodes, as calls of [`message`](crate::message)s.
//!
//! Both ends are known by their Ed25519 keys, which TLS carries as raw public keys (RFC 7250): no names,
//! no certificates, no authorities. A call is one stream: a request and its bulk bytes there, a response
//! and its bulk bytes back. Nothing here judges what is said: not whether a receipt is valid, nor
//! whether bytes match a root. Every wait is bounded by progress, so that no peer can make it hang.
//!
//! Read [`peers`] for the client's end, [`server`] for the node's, `codec` for what is on a stream.

mod call;
mod codec;
pub mod endpoint;
mod health;
pub mod peers;
pub mod server;
mod socket;
mod tls;

pub use call::CallError;
pub use endpoint::{ClientEndpoint, EndpointError, ServerEndpoint};
pub use health::{Health, Latency};
pub use peers::Peers;
pub use server::{Body, BodyError, Handler, Limits, Reply, Server, serve};
