//! Getting a record: its read units, some ahead of the reader, in order.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::context::Context;
use crate::client::download::read_unit;
use crate::client::{Error, ErrorKind, Progress, RecordInfo};
use crate::crypto::frame::{Dek, Stream, plain_len};
use crate::message::{Extent, RecordHeader, StoredVersion};
use crate::transfer::inflight::Window;
use crate::transfer::plan::{ReadUnit, read_units};
use crate::types::VersionId;

/// The bytes of a record, as they arrive. Dropping it ends the transfer.
pub struct Download {
    /// The version that is read.
    pub info: RecordInfo,
    /// Which of its bytes.
    pub range: Range<u64>,
    ctx: Arc<Context>,
    dek: Dek,
    content_version: VersionId,
    units: Box<dyn Iterator<Item = ReadUnit> + Send>,
    window: Window,
    /// In order; aborted when dropped.
    under_way: VecDeque<JoinHandle<Result<Vec<Bytes>, Error>>>,
    frames: VecDeque<Bytes>,
    progress: Progress,
    /// Bytes handed out.
    done: u64,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("info", &self.info)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl Download {
    pub(crate) async fn begin(
        ctx: &Arc<Context>,
        info: RecordInfo,
        stored: StoredVersion,
        range: Range<u64>,
        progress: Progress,
    ) -> Result<Self, Error> {
        let extents = if stored.extents.is_empty() && stored.size > 0 {
            read_header(ctx, &stored).await?.extents
        } else {
            stored.extents
        };
        progress.expect_bytes(range.end - range.start);
        Ok(Self {
            info,
            range: range.clone(),
            ctx: Arc::clone(ctx),
            dek: stored.dek,
            content_version: stored.content_version,
            units: Box::new(read_units(extents, range)),
            window: Window::default(),
            under_way: VecDeque::new(),
            frames: VecDeque::new(),
            progress,
            done: 0,
        })
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Corrupt`] if the network cannot give them. What was handed out
    /// before is right.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                self.done += frame.len() as u64;
                self.progress.add(frame.len() as u64);
                return Ok(Some(frame));
            }
            self.read_ahead();
            let Some(first) = self.under_way.front_mut() else {
                let whole = self.done == self.range.end - self.range.start;
                let short = || Error::new(ErrorKind::Corrupt, "the record is shorter than the index says");
                return if whole { Ok(None) } else { Err(short()) };
            };
            let read = first
                .await
                .map_err(|error| Error::new(ErrorKind::Internal, "a transfer panicked").caused_by(error));
            self.under_way.pop_front();
            self.window.end();
            self.frames = read??.into();
        }
    }

    fn read_ahead(&mut self) {
        while self.window.start() {
            let Some(unit) = self.units.next() else {
                self.window.end();
                return;
            };
            let key = self.dek.frame_key(&self.content_version, Stream::Body, &unit.extent.salt);
            let ctx = Arc::clone(&self.ctx);
            self.under_way.push_back(tokio::spawn(async move { read_unit(&ctx, unit, key).await }));
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.under_way.iter().for_each(JoinHandle::abort);
    }
}

/// Frames that come one after the other, as something to read.
pub(crate) struct FrameReader {
    frames: mpsc::Receiver<Result<Bytes, Error>>,
    frame: Bytes,
}

impl FrameReader {
    pub(crate) const fn new(frames: mpsc::Receiver<Result<Bytes, Error>>) -> Self {
        Self { frames, frame: Bytes::new() }
    }

    pub(crate) fn of(mut download: Download) -> Self {
        let (sender, frames) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(next) = download.next().await.transpose() {
                let failed = next.is_err();
                // Whoever reads may be gone.
                if sender.send(next).await.is_err() || failed {
                    return;
                }
            }
        });
        Self::new(frames)
    }
}

impl AsyncRead for FrameReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut task::Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.frame.is_empty() {
            match ready!(self.frames.poll_recv(task)) {
                Some(Ok(frame)) => self.frame = frame,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let have = self.frame.len().min(to.remaining());
        to.put_slice(&self.frame.split_to(have));
        Poll::Ready(Ok(()))
    }
}

/// Reads and opens the header frames of a version.
pub(crate) async fn read_header(ctx: &Arc<Context>, stored: &StoredVersion) -> Result<RecordHeader, Error> {
    let wrong = || Error::new(ErrorKind::Corrupt, "the record's header is not what was written");
    let locator = stored.header;
    let plain_len = plain_len(locator.len.into()).ok_or_else(wrong)?;
    let extent = Extent { segment: locator.segment, offset: locator.offset, plain_len, salt: locator.salt };
    let mut plain = Vec::new();
    for unit in read_units(vec![extent], 0..plain_len) {
        let key = stored.dek.frame_key(&stored.content_version, Stream::Header, &locator.salt);
        for frame in read_unit(ctx, unit, key).await? {
            plain.extend_from_slice(&frame);
        }
    }
    RecordHeader::decode(&plain).map_err(|error| wrong().caused_by(error))
}
