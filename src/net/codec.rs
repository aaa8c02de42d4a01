//! What is on a stream: u32 big endian length, a header of that many bytes, then bulk bytes.
//!
//! Readers are given a window of time and must be fed within each: a peer that stops, or trickles, is
//! left after one window, however much it announced.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use quinn::{SendStream, WriteError};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use crate::message::Violation;
use crate::transfer::BufferPool;
use crate::types::limits::MAX_MESSAGE_LEN;

/// Bytes that a body must grow by within each window of time, unless it ends: with ten seconds a
/// window, 12 shards at once fit through 20 KB/s.
const MIN_PROGRESS: usize = 16 * 1024;

/// Bytes of body buffers that one end keeps for the next bodies: as much as some read units or uploads at once.
pub(super) const BODIES_KEPT: usize = 32 << 20;

/// Why a header or body was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Too little came or went within a window.
    #[error("no progress")]
    Stalled,
    /// The stream was reset or the connection lost.
    #[error("the stream broke")]
    Broken(#[source] io::Error),
    /// The peer wants no more of what is sent.
    #[error("the peer stopped reading")]
    Stopped,
}

impl StreamError {
    /// A stream that ends too early is the peer's fault; a broken one need not be.
    fn read(early_end: Violation) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::UnexpectedEof => early_end.into(),
            _ => Self::Broken(error),
        }
    }
}

/// A header with its length before it.
pub(super) fn frame(header: &[u8]) -> Bytes {
    // A longer header is refused by every reader; ours are bounded by their types.
    let len = u32::try_from(header.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), header].concat().into()
}

/// Reads one header; `window` bounds all of it.
pub(super) async fn read_header(
    from: &mut (impl AsyncRead + Unpin),
    window: Duration,
) -> Result<Vec<u8>, StreamError> {
    timeout(window, read_header_unbounded(from)).await.unwrap_or(Err(StreamError::Stalled))
}

/// Reads one header, however long it takes to come.
pub(super) async fn read_header_unbounded(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Vec<u8>, StreamError> {
    let len = from.read_u32().await.map_err(StreamError::read(Violation::Malformed))?;
    let len = usize::try_from(len).map_err(|_| Violation::TooLong)?;
    if len > MAX_MESSAGE_LEN {
        return Err(Violation::TooLong.into());
    }
    let mut header = vec![0; len];
    from.read_exact(&mut header).await.map_err(StreamError::read(Violation::Malformed))?;
    Ok(header)
}

/// Reads a body of exactly `len` bytes and the end of the stream after it, copying once.
pub(super) async fn read_body(
    from: &mut (impl AsyncRead + Unpin),
    len: usize,
    window: Duration,
    pool: &BufferPool,
) -> Result<Bytes, StreamError> {
    let mut body = pool.take(len);
    let mut filled = 0;
    while filled < len {
        let goal = len.min(filled + MIN_PROGRESS);
        let more = timeout(window, fill(from, &mut body[filled..], goal - filled)).await;
        filled += more.unwrap_or(Err(StreamError::Stalled))?;
    }
    match timeout(window, from.read(&mut [0])).await {
        Ok(Ok(0)) => Ok(Bytes::from_owner(body)),
        Ok(Ok(_)) => Err(Violation::WrongLength.into()),
        Ok(Err(error)) => Err(StreamError::Broken(error)),
        Err(_) => Err(StreamError::Stalled),
    }
}

/// Reads what comes until at least `goal` bytes of the room are filled; says how many are.
async fn fill(
    from: &mut (impl AsyncRead + Unpin),
    room: &mut [u8],
    goal: usize,
) -> Result<usize, StreamError> {
    let mut filled = 0;
    while filled < goal {
        match from.read(&mut room[filled..]).await.map_err(StreamError::read(Violation::WrongLength))? {
            0 => return Err(Violation::WrongLength.into()),
            more => filled += more,
        }
    }
    Ok(filled)
}

/// Sends the pieces and ends the stream, without copying them.
pub(super) async fn write_all(
    to: &mut SendStream,
    mut pieces: &mut [Bytes],
    window: Duration,
    progressed: &(dyn Fn() + Sync),
) -> Result<(), StreamError> {
    while !pieces.is_empty() {
        let sent = timeout(window, write_some(to, pieces)).await.unwrap_or(Err(StreamError::Stalled))?;
        progressed();
        pieces = &mut pieces[sent..];
    }
    // Already stopped by the peer: then there is nothing to end.
    to.finish().map_err(|_| StreamError::Stopped)
}

/// Sends at least [`MIN_PROGRESS`] bytes or all; says how many pieces are done.
async fn write_some(to: &mut SendStream, pieces: &mut [Bytes]) -> Result<usize, StreamError> {
    let (mut done, mut bytes) = (0, 0);
    while done < pieces.len() && bytes < MIN_PROGRESS {
        let written = to.write_chunks(&mut pieces[done..]).await?;
        done += written.chunks;
        bytes += written.bytes;
    }
    Ok(done)
}

impl From<WriteError> for StreamError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(_) => Self::Stopped,
            other => Self::Broken(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn wrong<T: std::fmt::Debug>(result: Result<T, StreamError>) -> Violation {
        match result {
            Err(StreamError::Violation(violation)) => violation,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_header_survives_its_frame_and_is_bounded() {
        for len in [0, 1, 300, MAX_MESSAGE_LEN] {
            let header = vec![7; len];
            assert_eq!(read_header(&mut &frame(&header)[..], WINDOW).await.unwrap(), header);
        }
        let long = frame(&vec![7; MAX_MESSAGE_LEN + 1]);
        assert_eq!(wrong(read_header(&mut &long[..], WINDOW).await), Violation::TooLong);
        let huge = [0xff; 9];
        assert_eq!(wrong(read_header(&mut &huge[..], WINDOW).await), Violation::TooLong);
    }

    #[tokio::test]
    async fn every_cut_of_a_frame_is_malformed() {
        let whole = frame(b"header");
        for len in 0..whole.len() {
            assert_eq!(wrong(read_header(&mut &whole[..len], WINDOW).await), Violation::Malformed);
        }
    }

    #[tokio::test]
    async fn a_body_has_exactly_the_bytes_announced() {
        let (body, pool) = (vec![3; 100_000], BufferPool::new(1 << 20));
        assert_eq!(read_body(&mut &body[..], body.len(), WINDOW, &pool).await.unwrap(), body);
        assert!(read_body(&mut &[][..], 0, WINDOW, &pool).await.unwrap().is_empty());
        assert_eq!(wrong(read_body(&mut &body[..], 99_999, WINDOW, &pool).await), Violation::WrongLength);
        assert_eq!(wrong(read_body(&mut &body[..], 100_001, WINDOW, &pool).await), Violation::WrongLength);
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_left() {
        let (mut peer, mut from) = tokio::io::duplex(64);
        let trickle = tokio::spawn(async move {
            while tokio::io::AsyncWriteExt::write_all(&mut peer, b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let read = read_body(&mut from, 1 << 20, Duration::from_millis(60), &BufferPool::new(0)).await;
        assert!(matches!(read, Err(StreamError::Stalled)), "{read:?}");
        drop(from);
        trickle.await.unwrap();
    }
}
