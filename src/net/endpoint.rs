//! QUIC endpoints: an identity, a UDP socket and the transport's settings.
//!
//! Next: [`peers`](crate::net::peers) and [`server`](crate::net::server), which use them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::KeyPair;
use crate::net::{socket, tls};
use crate::types::PublicKey;

/// Streams that a client may have open on one connection: 24 concurrent segments of ten shards, and
/// still a bound on what one client can make a node remember.
pub(super) const MAX_STREAMS: u32 = 256;

/// Silence after which a connection is dead. Long enough for a Wi-Fi handover.
const IDLE_TIMEOUT_MS: u32 = 15_000;

/// A client's sign of life: two may be lost before the connection is.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Bytes in flight on one stream: 100 MB/s at 80 ms.
const STREAM_WINDOW: u32 = 8 << 20;

/// Bytes in flight on one connection: several streams at their full window.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// Round trip assumed before it is measured: the first packet lost costs three times this.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Why an endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The socket cannot be opened on this address: in use, not ours, or not allowed.
    #[error("cannot listen on UDP {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The TLS stack does not take the identity.
    #[error("cannot use the key for TLS")]
    Tls(#[source] rustls::Error),
    /// The system gives no randomness.
    #[error("no randomness")]
    Entropy(#[source] getrandom::Error),
}

impl EndpointError {
    fn bind(address: SocketAddr) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Bind { address, source }
    }
}

/// A node's end: listens for clients.
#[derive(Debug)]
pub struct ServerEndpoint {
    endpoint: Endpoint,
    socket: socket::Watch,
    address: SocketAddr,
}

impl ServerEndpoint {
    /// Listens on `address` with the node's identity; port 0 picks a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError::Bind`] if the address is not to be had, [`EndpointError::Tls`] or
    /// [`EndpointError::Entropy`] if the system's cryptography does not work.
    pub fn bind(address: SocketAddr, key: &KeyPair) -> Result<Self, EndpointError> {
        let crypto = tls::server(key).map_err(EndpointError::Tls)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport(MAX_STREAMS)));
        let (endpoint, socket) = open(address, server_settings(key)?, Some(config))?;
        let address = endpoint.local_addr().map_err(EndpointError::bind(address))?;
        Ok(Self { endpoint, socket, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn into_parts(self) -> (Endpoint, socket::Watch) {
        (self.endpoint, self.socket)
    }
}

/// A client's end: one socket for each IP version, opened when first needed.
pub struct ClientEndpoint {
    key: KeyPair,
    transport: Arc<TransportConfig>,
    v4: Mutex<Option<Endpoint>>,
    v6: Mutex<Option<Endpoint>>,
}

impl fmt::Debug for ClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientEndpoint").field("key", &self.key).finish_non_exhaustive()
    }
}

impl ClientEndpoint {
    /// A client with this identity. Opens nothing yet.
    #[must_use]
    pub fn new(key: &KeyPair) -> Self {
        // Nodes call nobody: no streams towards the client.
        let mut transport = transport(0);
        transport.keep_alive_interval(Some(KEEP_ALIVE));
        let (v4, v6) = (Mutex::default(), Mutex::default());
        Self { key: key.clone(), transport: Arc::new(transport), v4, v6 }
    }

    /// Begins to connect to the one server that has this key. Needs a tokio runtime.
    pub(super) fn connect(
        &self,
        address: SocketAddr,
        server: PublicKey,
    ) -> Result<quinn::Connecting, ConnectError> {
        let crypto = tls::client(&self.key, server).map_err(EndpointError::Tls)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::clone(&self.transport));
        Ok(self.endpoint(address)?.connect_with(config, address, tls::SERVER_NAME)?)
    }

    /// The endpoint that reaches `address`.
    fn endpoint(&self, address: SocketAddr) -> Result<Endpoint, EndpointError> {
        let (slot, any): (_, SocketAddr) = match address {
            SocketAddr::V4(_) => (&self.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&self.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = &*slot {
            return Ok(endpoint.clone());
        }
        let (endpoint, _) = open(any, settings(), None)?;
        *slot = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// Tells every server that this client leaves, and waits until that is sent.
    pub(super) async fn close(&self) {
        for slot in [&self.v4, &self.v6] {
            let endpoint = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(endpoint) = endpoint {
                endpoint.close(VarInt::from_u32(0), b"done");
                endpoint.wait_idle().await;
            }
        }
    }
}

/// Why a connection attempt does not even begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Quic(#[from] quinn::ConnectError),
}

fn open(
    address: SocketAddr,
    settings: EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> Result<(Endpoint, socket::Watch), EndpointError> {
    let socket = socket::bind(address).map_err(EndpointError::bind(address))?;
    let watch = socket::Watch::new(&socket);
    let endpoint = Endpoint::new_with_abstract_socket(settings, server, socket, Arc::new(TokioRuntime));
    Ok((endpoint.map_err(EndpointError::bind(address))?, watch))
}

fn settings() -> EndpointConfig {
    let mut settings = EndpointConfig::default();
    with_payload_limit(&mut settings);
    settings
}

/// A node that restarts answers packets of connections it no longer knows with a reset that their
/// clients recognize: the key of the resets comes from the node's identity and any id may have been
/// its own. Without it a client would wait for the idle timeout.
fn server_settings(key: &KeyPair) -> Result<EndpointConfig, EndpointError> {
    let mut reset_key = Zeroizing::new([0; 32]);
    derive_key(Context::ConnectionReset, &[key.secret().as_slice()], &mut *reset_key);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(EndpointError::Entropy)?;
    let mut settings = EndpointConfig::new(Arc::new(ResetKey(reset_key)));
    settings.cid_generator(move || Box::new(ConnectionIds { seed, next: 0 }));
    with_payload_limit(&mut settings);
    Ok(settings)
}

fn with_payload_limit(settings: &mut EndpointConfig) {
    if let Err(error) = settings.max_udp_payload_size(socket::MAX_PAYLOAD) {
        unreachable!("QUIC allows payloads of 1,200 bytes and more: {error}");
    }
}

fn transport(streams: u32) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(socket::MAX_PAYLOAD);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(0_u32.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(CONNECTION_WINDOW.into())
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(discovery));
    config
}

/// Makes stateless reset tokens (RFC 9000 section 10.3) from connection ids.
struct ResetKey(Zeroizing<[u8; 32]>);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let same = blake3::keyed_hash(&self.0, data).as_bytes().ct_eq(signature);
        if bool::from(same) { Ok(()) } else { Err(CryptoError) }
    }
}

/// Connection ids that look random, differ from those before a restart, and are all taken for the
/// node's own: quinn's default would drop those of before without the reset.
struct ConnectionIds {
    seed: [u8; 32],
    next: u64,
}

impl ConnectionIds {
    const LEN: usize = 8;
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let id = blake3::keyed_hash(&self.seed, &self.next.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        ConnectionId::new(&id.as_bytes()[..Self::LEN])
    }

    fn cid_len(&self) -> usize {
        Self::LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
