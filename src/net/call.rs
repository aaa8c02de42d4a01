//! One call: a request and its body out, a response and its body back, on a stream of their own.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::time::{Instant, timeout};

use crate::message::request::PROTOCOL;
use crate::message::{Refusal, RefusalCode, Response, Violation};
use crate::net::codec::{self, StreamError};
use crate::net::endpoint::{ConnectError, EndpointError};
use crate::transfer::BufferPool;
use crate::types::PublicKey;

/// Reset code of a call that its caller dropped.
const CANCELLED: VarInt = VarInt::from_u32(2);

/// TLS alerts that have a meaning here, as QUIC error codes (RFC 9001 section 4.8).
const ACCESS_DENIED: u64 = 0x100 + 49;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// How long each stage of a call may stand still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first packet to an open connection.
    pub(super) connect: Duration,
    /// Between two steps of a body, in either direction.
    pub(super) progress: Duration,
    /// From the last byte sent to its acknowledgement: the last window at the slowest pace allowed.
    pub(super) delivery: Duration,
    /// From the whole request at the node to the response: a node may have a queue before its disk.
    pub(super) response: Duration,
}

impl Patience {
    pub(super) const DEFAULT: Self = Self {
        connect: Duration::from_secs(5),
        progress: Duration::from_secs(10),
        delivery: Duration::from_secs(300),
        response: Duration::from_secs(30),
    };
}

/// Why a call has no answer that can be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The network does not have this node.
    #[error("node {0} is not in the network")]
    UnknownNode(PublicKey),
    /// No connection came about, now or a moment ago.
    #[error("node cannot be reached: {0}")]
    Unreachable(Arc<str>),
    /// Another key answers at the node's address.
    #[error("another identity answers at the node's address")]
    WrongKey,
    /// The node speaks other versions of the protocol.
    #[error("node does not speak protocol version {ours}, but {}", versions(.theirs))]
    Version {
        /// The version spoken here.
        ours: u32,
        /// Those that the node names; empty where it does not.
        theirs: Vec<u32>,
    },
    /// The node will not do it.
    #[error("node refuses")]
    Refused(#[source] Refusal),
    /// The node is there but does not get on.
    #[error("node made no progress in time")]
    TimedOut,
    /// The connection was lost meanwhile; what was asked may have been done.
    #[error("connection lost: {0}")]
    Disconnected(Arc<str>),
    /// The node breaks the protocol.
    #[error("node breaks the protocol")]
    Violation(#[source] Violation),
    /// This side cannot open its socket or use its key.
    #[error("this machine cannot connect")]
    Local(#[source] Arc<EndpointError>),
}

fn versions(theirs: &[u32]) -> String {
    let names: Vec<_> = theirs.iter().map(u32::to_string).collect();
    if names.is_empty() { "another".to_owned() } else { names.join(", ") }
}

impl From<Violation> for CallError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Endpoint(error) => Self::Local(Arc::new(error)),
            ConnectError::Quic(error) => Self::Unreachable(error.to_string().into()),
        }
    }
}

impl CallError {
    /// Why a handshake failed.
    pub(super) fn handshake(error: &ConnectionError) -> Self {
        let version = Self::Version { ours: PROTOCOL, theirs: Vec::new() };
        match error {
            ConnectionError::TransportError(ours) if u64::from(ours.code) == ACCESS_DENIED => Self::WrongKey,
            ConnectionError::ConnectionClosed(theirs)
                if u64::from(theirs.error_code) == NO_APPLICATION_PROTOCOL =>
            {
                version
            }
            ConnectionError::TransportError(ours) if u64::from(ours.code) == NO_APPLICATION_PROTOCOL => {
                version
            }
            ConnectionError::VersionMismatch => version,
            other => Self::Unreachable(other.to_string().into()),
        }
    }

    /// Why the node cannot be reached, in words that [`Unreachable`](Self::Unreachable) can say again of a later call.
    pub(super) fn cause(&self) -> Arc<str> {
        match self {
            Self::Unreachable(reason) => Arc::clone(reason),
            other => other.to_string().into(),
        }
    }

    fn refused(refusal: Refusal) -> Self {
        match refusal.code {
            RefusalCode::UnsupportedProtocol => Self::Version { ours: PROTOCOL, theirs: refusal.protocols },
            _ => Self::Refused(refusal),
        }
    }

    fn stream(error: StreamError, connection: &Connection) -> Self {
        let reason = match error {
            StreamError::Violation(violation) => return Self::Violation(violation),
            StreamError::Stalled => return Self::TimedOut,
            StreamError::Broken(_) | StreamError::Stopped => connection.close_reason(),
        };
        Self::Disconnected(reason.map_or_else(|| "stream reset".into(), |reason| reason.to_string().into()))
    }
}

/// What came back, and when its header did.
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) body: Bytes,
    pub(super) latency: Duration,
}

/// Makes one call on an open connection. `body_len` says how many bytes follow a response;
/// `progressed` is called whenever some of the request was sent.
///
/// Dropped before it ends, it resets its streams: the node stops what it does for it.
pub(super) async fn call(
    connection: &Connection,
    request: &[Bytes],
    body_len: impl FnOnce(&Response) -> Result<usize, Violation>,
    patience: Patience,
    progressed: &(dyn Fn() + Sync),
    pool: &BufferPool,
) -> Result<Answer, CallError> {
    let started = Instant::now();
    let broken = |error| CallError::stream(error, connection);
    let opened = timeout(patience.response, connection.open_bi()).await.map_err(|_| CallError::TimedOut)?;
    let (send, mut recv) = opened.map_err(|error| broken(StreamError::Broken(error.into())))?;
    let mut send = Asking { stream: send, answered: false };
    let header =
        exchange(&mut send.stream, &mut recv, request, patience, progressed).await.map_err(broken)?;
    let latency = started.elapsed();
    let response = match Response::decode(&header)? {
        Response::Refusal(refusal) => return Err(CallError::refused(refusal)),
        response => response,
    };
    let len = body_len(&response)?;
    let body = codec::read_body(&mut recv, len, patience.progress, pool).await.map_err(broken)?;
    send.answered = true;
    Ok(Answer { response, body, latency })
}

/// Sends the request and reads the response's header, which may come before all is sent.
async fn exchange(
    send: &mut SendStream,
    recv: &mut RecvStream,
    request: &[Bytes],
    patience: Patience,
    progressed: &(dyn Fn() + Sync),
) -> Result<Vec<u8>, StreamError> {
    let mut reading = pin!(codec::read_header_unbounded(recv));
    tokio::select! {
        biased;
        header = &mut reading => return header,
        sent = deliver(send, request, patience, progressed) => match sent {
            // A node that stops reading has its answer ready.
            Ok(()) | Err(StreamError::Stopped) => {}
            Err(error) => return Err(error),
        },
    }
    timeout(patience.response, reading).await.unwrap_or(Err(StreamError::Stalled))
}

/// Sends the request and waits until the node has it, so that its time to answer starts there.
async fn deliver(
    send: &mut SendStream,
    request: &[Bytes],
    patience: Patience,
    progressed: &(dyn Fn() + Sync),
) -> Result<(), StreamError> {
    let mut pieces = request.to_vec();
    codec::write_all(send, &mut pieces, patience.progress, progressed).await?;
    match timeout(patience.delivery, send.stopped()).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(_))) => Err(StreamError::Stopped),
        Ok(Err(error)) => Err(StreamError::Broken(error.into())),
        Err(_) => Err(StreamError::Stalled),
    }
}

/// A stream that waits for its answer: dropped without it, it is reset.
struct Asking {
    stream: SendStream,
    answered: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.answered {
            // Fails where the request was taken whole: the answer's stream tells the node then.
            self.stream.reset(CANCELLED).ok();
        }
    }
}
