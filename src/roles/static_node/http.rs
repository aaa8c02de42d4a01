//! The log over HTTP, for mirrors and monitors that are not ours: C2SP `tlog-tiles`, read-only.
//!
//! A shell: what is served is in [`tiles`] and [`log`]. Whoever can reach the port may ask, so all is bounded: the
//! connections and their lives, the bytes of answers under way, and the work of a request, which is one tile,
//! one bundle or the checkpoint. There is no TLS: what is served is signed, and public to all who can reach it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::ledger::log;
use crate::ledger::tiles::{self, Resource};
use crate::message::Block;
use crate::roles::static_node::shared::Shared;
use crate::store::chain::{Chain, ChainError};
use crate::types::limits::{HTTP_ANSWER_BYTES, MAX_HTTP_CONNECTIONS};

/// How long a client may take for the header of a request, and between requests.
const HEADER_PATIENCE: Duration = Duration::from_secs(15);
/// How long a connection may live: who reads too slowly must not keep others out.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// How long it has for its last answer.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// How long a request waits for room for its answer.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// After the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a connection's buffer: a request of ours is short.
const BUFFER_LEN: usize = 16 << 10;
/// Room is counted in these.
const ROOM_UNIT: usize = 1 << 10;

/// "This endpoint is immutable, so its caching headers SHOULD be long-lived."
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// "This endpoint is mutable, so its headers SHOULD prevent caching beyond a few seconds."
const A_MOMENT: HeaderValue = HeaderValue::from_static("public, max-age=1");
/// Of what is not there: it may be in a moment.
const NOT_AT_ALL: HeaderValue = HeaderValue::from_static("no-store");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What answers are made of.
#[derive(Debug)]
pub(super) struct LogDesk {
    chain: Chain,
    shared: Arc<Shared>,
    /// For answers under way, in [`ROOM_UNIT`]s.
    room: Arc<Semaphore>,
}

/// Bytes of an answer with the room that they take until they are sent.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl LogDesk {
    pub(super) fn new(chain: Chain, shared: Arc<Shared>) -> Self {
        let room = Arc::new(Semaphore::new(HTTP_ANSWER_BYTES / ROOM_UNIT));
        Self { chain, shared, room }
    }

    async fn answer(self: Arc<Self>, resource: Resource) -> Result<Option<Bytes>, StatusCode> {
        let need = u32::try_from(resource.max_len().div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
        let room = timeout(ROOM_PATIENCE, Arc::clone(&self.room).acquire_many_owned(need)).await;
        let Ok(Ok(room)) = room else { return Err(StatusCode::SERVICE_UNAVAILABLE) };
        let read = tokio::task::spawn_blocking(move || {
            self.read(resource).map(|found| found.map(|bytes| hold(bytes, room)))
        });
        match read.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::error!(%error, "the log cannot be read");
                Err(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn read(&self, resource: Resource) -> Result<Option<Vec<u8>>, ChainError> {
        match resource {
            Resource::Checkpoint => Ok(self.shared.proven().map(|head| head.note.clone().into_bytes())),
            Resource::Tile { level, index, width } => {
                Ok(log::tile(&self.chain.view()?, level, index, width)?)
            }
            Resource::Entries { index, width } => {
                let view = self.chain.view()?;
                tiles::entries(&view, index, width, |height| {
                    let block = view.block(height)?.map(|bytes| Block::decode_bounded(&bytes));
                    block.transpose().map_err(|_| ChainError::Block(height))
                })
            }
        }
    }
}

/// Gives back the room that the answer does not need.
fn hold(bytes: Vec<u8>, mut room: OwnedSemaphorePermit) -> Bytes {
    drop(room.split(room.num_permits().saturating_sub(bytes.len().div_ceil(ROOM_UNIT))));
    Bytes::from_owner(Held { bytes, _room: room })
}

async fn respond(State(desk): State<Arc<LogDesk>>, uri: Uri) -> Response {
    let Some(resource) = Resource::parse(uri.path()) else { return refuse(StatusCode::NOT_FOUND) };
    match desk.answer(resource).await {
        Ok(Some(bytes)) => found(resource, bytes),
        Ok(None) => refuse(StatusCode::NOT_FOUND),
        Err(status) => refuse(status),
    }
}

/// Bundles are not compressed, though they "SHOULD be": they are hashes and signatures.
fn found(resource: Resource, bytes: Bytes) -> Response {
    let (kind, caching) = if resource.is_immutable() { (BINARY, FOR_EVER) } else { (TEXT, A_MOMENT) };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, caching),
        // What authors wrote is in it: no browser is to guess what it might be.
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, Body::from(bytes)).into_response()
}

fn refuse(status: StatusCode) -> Response {
    let text = format!("{status}\n");
    let mut response =
        (status, [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, NOT_AT_ALL)], text).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The server, while it runs.
#[derive(Debug)]
pub(super) struct LogServer {
    address: SocketAddr,
    room: Arc<Semaphore>,
    task: JoinHandle<Infallible>,
}

impl LogServer {
    /// Begins to listen. Needs a tokio runtime.
    pub(super) async fn start(address: SocketAddr, desk: LogDesk) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (address, room) = (listener.local_addr()?, Arc::clone(&desk.room));
        // `get` answers HEAD too, and refuses every other method.
        let router = Router::new().fallback(get(respond)).with_state(Arc::new(desk));
        Ok(Self { address, room, task: tokio::spawn(accept(listener, router)) })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and waits until nothing is read from the chain any more.
    pub(super) async fn stop(self, grace: Duration) {
        self.task.abort();
        drop(self.task.await);
        let all = u32::try_from(HTTP_ANSWER_BYTES / ROOM_UNIT).unwrap_or(u32::MAX);
        drop(timeout(grace, self.room.acquire_many(all)).await);
    }
}

async fn accept(listener: TcpListener, router: Router) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_HTTP_CONNECTIONS {
            drop(connections.join_next().await);
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, router.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    // Answers are written at once; to wait for more of them helps nobody.
    drop(stream.set_nodelay(true));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE).max_buf_size(BUFFER_LEN);
    let mut connection =
        pin!(server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // That a client went away, or spoke no HTTP, is its own affair.
    if let Ok(ended) = timeout(CONNECTION_LIFE, connection.as_mut()).await {
        return drop(ended);
    }
    connection.as_mut().graceful_shutdown();
    drop(timeout(LAST_ANSWER, connection).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_the_room_of_its_bytes_until_it_is_sent() {
        let room = Arc::new(Semaphore::new(HTTP_ANSWER_BYTES / ROOM_UNIT));
        let all = room.available_permits();
        for len in [0, 1, ROOM_UNIT, 5_000, Resource::Entries { index: 0, width: 1 }.max_len()] {
            let need = u32::try_from(Resource::Entries { index: 0, width: 1 }.max_len().div_ceil(ROOM_UNIT))
                .unwrap();
            let whole = Arc::clone(&room).try_acquire_many_owned(need).unwrap();
            let bytes = hold(vec![7; len], whole);
            let sent = bytes.clone();
            drop(bytes);
            assert_eq!(room.available_permits(), all - len.div_ceil(ROOM_UNIT), "{len}");
            assert!(sent.iter().all(|byte| *byte == 7));
            drop(sent);
            assert_eq!(room.available_permits(), all);
        }
    }

    #[test]
    fn there_is_room_for_every_answer() {
        for resource in ["/checkpoint", "/tile/0/000", "/tile/entries/000"].map(Resource::parse) {
            assert!(4 * resource.unwrap().max_len() <= HTTP_ANSWER_BYTES);
        }
    }
}
