//! Peers that break the protocol, over real QUIC: nodes that lie to the client, clients that lie to a node.
//!
//! Whatever a peer does, the other end comes to a named error or to success: never to wrong bytes, never to a
//! standstill. Every test is bounded in time by [`in_time`].

mod bad_clients;
mod bad_node;
mod bad_nodes;
mod tls;

use std::time::Duration;

/// Far longer than anything here takes on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(240);

/// Bytes that differ from place to place and from seed to seed.
fn content(seed: u64, len: usize) -> bytes::Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// Fails a test that hangs.
async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, test).await.expect("it hangs")
}
