//! The node's end: accepts connections and streams within limits, and hands each request to a
//! [`Handler`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::message::{Refusal, RefusalCode, Request, Response, Violation};
use crate::net::codec::{self, BODIES_KEPT, StreamError};
use crate::net::endpoint::ServerEndpoint;
use crate::net::{socket, tls};
use crate::transfer::BufferPool;
use crate::types::PublicKey;

/// Reset code of a stream whose answer was not completed.
const INCOMPLETE: VarInt = VarInt::from_u32(1);

/// The longest that a stop waits for the address to be free: QUIC holds the socket for three of the longest round trips that a
/// connection saw (RFC 9000 section 10.2), which on a machine under load are long.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a node does with requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request of the client with this key. The body is what follows a request that
    /// [has one](Request::has_body); unread, it is left in the client's hands.
    ///
    /// Dropped at any await when the client gives up or is gone.
    fn handle(&self, from: PublicKey, request: Request, body: Body) -> impl Future<Output = Reply> + Send;
}

/// A response and the bulk bytes that follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The header.
    pub response: Response,
    /// The bytes of a slice; empty with every other response.
    pub body: Vec<Bytes>,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self { response, body: Vec::new() }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Response::Refusal(refusal).into()
    }
}

/// What a node takes on at once, and how long it waits for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections; past half of them a client must first prove its address, past all it is refused.
    pub connections: usize,
    /// How long a header may take from the stream's first byte.
    pub header_timeout: Duration,
    /// How long a body may stand still, in either direction.
    pub progress_timeout: Duration,
    /// How long a whole answer may take to be acknowledged once it is sent.
    pub delivery_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A connection at rest costs some 20 KiB.
            connections: 4_096,
            header_timeout: Duration::from_secs(10),
            progress_timeout: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(60),
        }
    }
}

/// The bulk bytes of a request, not yet read.
#[derive(Debug)]
pub struct Body {
    stream: RecvStream,
    progress_timeout: Duration,
    pool: BufferPool,
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Fewer or more bytes than announced.
    #[error("the body is not as announced")]
    Violation(#[source] Violation),
    /// The client stopped sending.
    #[error("the body stopped coming")]
    Stalled,
    /// The client gave up or is gone.
    #[error("the client is gone")]
    Gone,
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Violation(violation) => violation.into(),
            // Nobody may hear it; who does should try again.
            BodyError::Stalled | BodyError::Gone => Self::new(RefusalCode::Busy, error.to_string()),
        }
    }
}

impl Body {
    /// Reads the whole body, which must have exactly `len` bytes. Reserves `len` bytes at once: the
    /// caller has checked that it can spare them.
    ///
    /// # Errors
    /// [`BodyError`]; after it nothing more can be read.
    pub async fn read(mut self, len: usize) -> Result<Bytes, BodyError> {
        let read = codec::read_body(&mut self.stream, len, self.progress_timeout, &self.pool).await;
        read.map_err(|error| match error {
            StreamError::Violation(violation) => BodyError::Violation(violation),
            StreamError::Stalled => BodyError::Stalled,
            StreamError::Broken(_) | StreamError::Stopped => BodyError::Gone,
        })
    }
}

/// A server that runs. Dropping it begins a stop and does not wait for it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    socket: socket::Watch,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, gives those under way `grace` to finish, and frees the address.
    /// Says whether all finished.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.stop.send_replace(true);
        let finished = timeout(grace, &mut self.task).await.is_ok();
        self.task.abort();
        self.socket.closed(FAREWELL).await;
        finished
    }
}

/// Serves clients until the server is stopped. Needs a tokio runtime.
pub fn serve<H: Handler>(endpoint: ServerEndpoint, handler: Arc<H>, limits: Limits) -> Server {
    let (stop, stopping) = watch::channel(false);
    let address = endpoint.address();
    let (endpoint, socket) = endpoint.into_parts();
    let service = Service { handler, limits, pool: BufferPool::new(BODIES_KEPT), stopping };
    let task = tokio::spawn(service.accept(Closing(endpoint)));
    Server { address, stop, socket, task }
}

/// Closes every connection when the server ends, also where it is aborted.
struct Closing(Endpoint);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(0), b"stopping");
    }
}

struct Service<H> {
    handler: Arc<H>,
    limits: Limits,
    /// For the bodies of requests.
    pool: BufferPool,
    stopping: watch::Receiver<bool>,
}

// Not derived: a handler need not be `Clone`.
impl<H> Clone for Service<H> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            limits: self.limits,
            pool: self.pool.clone(),
            stopping: self.stopping.clone(),
        }
    }
}

impl<H: Handler> Service<H> {
    async fn accept(mut self, endpoint: Closing) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // An error is a dropped `Server`: stop as well.
                _ = self.stopping.changed() => break,
                Some(_) = connections.join_next() => {}
                incoming = endpoint.0.accept() => {
                    let Some(incoming) = incoming else { break };
                    if let Some(admitted) = self.admit(incoming, connections.len()) {
                        connections.spawn(self.clone().connection(admitted));
                    }
                }
            }
        }
        endpoint.0.set_server_config(None);
        while connections.join_next().await.is_some() {}
    }

    /// Keeps the number of connections within its limit.
    fn admit(&self, incoming: Incoming, open: usize) -> Option<Incoming> {
        if open >= self.limits.connections {
            tracing::warn!(client = %incoming.remote_address(), open, "refused a connection: too many");
            incoming.refuse();
            return None;
        }
        if open >= self.limits.connections / 2 && incoming.may_retry() {
            if let Err(error) = incoming.retry() {
                error.into_incoming().ignore();
            }
            return None;
        }
        Some(incoming)
    }

    async fn connection(mut self, incoming: Incoming) {
        let client = incoming.remote_address();
        let connection = match incoming.await {
            Ok(connection) => connection,
            Err(reason) => return tracing::debug!(%client, %reason, "handshake failed"),
        };
        let Some(from) = tls::peer_key(&connection) else {
            return connection.close(INCOMPLETE, b"no key");
        };
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                _ = self.stopping.changed() => break,
                Some(ended) = streams.join_next() => log_panic(ended),
                accepted = connection.accept_bi() => match accepted {
                    Ok((send, recv)) => {
                        streams.spawn(self.clone().stream(from, Answering(send), recv));
                    }
                    // What is under way has nobody to answer: dropped with `streams`.
                    Err(reason) => return tracing::debug!(%client, %reason, "client left"),
                },
            }
        }
        finish(&connection, streams).await;
    }

    async fn stream(self, from: PublicKey, mut send: Answering, recv: RecvStream) {
        let Some(reply) = self.answer(from, recv).await else { return };
        let mut pieces = vec![codec::frame(&reply.response.encode())];
        pieces.extend(reply.body);
        if codec::write_all(&mut send.0, &mut pieces, self.limits.progress_timeout, &|| {}).await.is_ok() {
            // Until then a stop must not close the connection.
            let delivered = timeout(self.limits.delivery_timeout, send.0.stopped()).await;
            tracing::trace!(delivered = delivered.is_ok(), "answered");
        }
    }

    /// The answer to what comes on a stream; none where nobody waits for it.
    async fn answer(&self, from: PublicKey, mut stream: RecvStream) -> Option<Reply> {
        let header = match codec::read_header(&mut stream, self.limits.header_timeout).await {
            Ok(header) => header,
            Err(StreamError::Violation(violation)) => return Some(refuse(from, violation)),
            Err(error) => {
                tracing::debug!(%from, %error, "no request came");
                return None;
            }
        };
        let request = match Request::decode(&header) {
            Ok(request) => request,
            Err(error) => return Some(refuse(from, error)),
        };
        let body = Body { stream, progress_timeout: self.limits.progress_timeout, pool: self.pool.clone() };
        if request.has_body() {
            return Some(self.handler.handle(from, request, body).await);
        }
        self.answer_without_body(from, request, body).await
    }

    async fn answer_without_body(&self, from: PublicKey, request: Request, mut body: Body) -> Option<Reply> {
        match codec::read_body(&mut body.stream, 0, self.limits.header_timeout, &self.pool).await {
            Ok(_) => Some(self.handler.handle(from, request, body).await),
            Err(StreamError::Violation(violation)) => Some(refuse(from, violation)),
            Err(_) => None,
        }
    }
}

fn refuse(from: PublicKey, error: impl Into<Refusal>) -> Reply {
    let refusal = error.into();
    tracing::debug!(%from, code = ?refusal.code, "refused a request: {refusal}");
    refusal.into()
}

/// Lets the streams under way finish, then says goodbye.
async fn finish(connection: &Connection, mut streams: JoinSet<()>) {
    while let Some(ended) = streams.join_next().await {
        log_panic(ended);
    }
    connection.close(VarInt::from_u32(0), b"stopping");
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a request handler failed");
    }
}

/// A stream on which an answer is owed: dropped before it is whole it is reset, so that the client
/// never takes a part for the whole.
struct Answering(SendStream);

impl Drop for Answering {
    fn drop(&mut self) {
        // Fails where the answer was finished and taken, as it should be.
        self.0.reset(INCOMPLETE).ok();
    }
}
