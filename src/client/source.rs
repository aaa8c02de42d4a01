//! Where the bytes of a put come from, cut into chunks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::client::{Error, ErrorKind, Source};
use crate::crypto::frame::plain_ranges;
use crate::runtime::Workers;
use crate::transfer::seal::Chunk;
use crate::types::limits::PACK_CHUNK_MAX_LEN;

/// A source that was opened, and its beginning.
pub(crate) enum Opened {
    /// All of it: short enough for a pack.
    Small(Bytes),
    /// Longer, of a length that is known: any chunk can be read on its own.
    Sized(Sized),
    /// Longer, and how long it is shows at its end. The bytes are its beginning.
    Stream(Bytes, Box<dyn AsyncRead + Send + Unpin>),
}

/// Bytes at known offsets.
#[derive(Clone)]
pub(crate) enum Sized {
    File(Arc<File>, u64),
    Bytes(Bytes),
}

impl Sized {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File(_, len) => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills a chunk with what is at `offset`, and zeros behind the end.
    pub(crate) fn fill(&self, offset: u64, chunk: &mut Chunk) -> io::Result<()> {
        let mut at = offset;
        for range in plain_ranges(chunk.sealed_len()) {
            let frame = &mut chunk.frames_mut()[range];
            let have = usize::try_from(self.len().saturating_sub(at)).unwrap_or(usize::MAX).min(frame.len());
            match self {
                Self::File(file, _) => file.read_exact_at(&mut frame[..have], at)?,
                Self::Bytes(bytes) => {
                    let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                    frame[..have].copy_from_slice(&bytes[start..start + have]);
                }
            }
            frame[have..].fill(0);
            at += frame.len() as u64;
        }
        Ok(())
    }
}

pub(crate) async fn open(source: Source, workers: &Workers) -> Result<Opened, Error> {
    match source {
        Source::Bytes(bytes) if bytes.len() < PACK_CHUNK_MAX_LEN => Ok(Opened::Small(bytes)),
        Source::Bytes(bytes) => Ok(Opened::Sized(Sized::Bytes(bytes))),
        Source::Reader(reader) => open_stream(reader).await.map_err(|error| read_error("the input", error)),
        Source::File(path) => {
            let opened = {
                let path = path.clone();
                workers.run(move || open_file(&path)).await?
            };
            match opened.map_err(|error| read_error(&path.display().to_string(), error))? {
                Ok(opened) => Ok(opened),
                // A pipe or device: it can only be read in order.
                Err(special) => {
                    let reader = Box::new(tokio::fs::File::from_std(special));
                    open_stream(reader).await.map_err(|error| read_error(&path.display().to_string(), error))
                }
            }
        }
    }
}

fn open_file(path: &Path) -> io::Result<Result<Opened, File>> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    if !meta.is_file() {
        return Ok(Err(file));
    }
    if meta.len() >= PACK_CHUNK_MAX_LEN as u64 {
        return Ok(Ok(Opened::Sized(Sized::File(Arc::new(file), meta.len()))));
    }
    let mut bytes = vec![0; usize::try_from(meta.len()).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Ok(Opened::Small(bytes.into())))
}

async fn open_stream(mut reader: Box<dyn AsyncRead + Send + Unpin>) -> io::Result<Opened> {
    let mut start = Vec::with_capacity(64 << 10);
    (&mut reader).take(PACK_CHUNK_MAX_LEN as u64).read_to_end(&mut start).await?;
    let short = start.len() < PACK_CHUNK_MAX_LEN;
    Ok(if short { Opened::Small(start.into()) } else { Opened::Stream(start.into(), reader) })
}

/// Fills a chunk from `start` and then from the reader, as far as they go: how many bytes that were.
pub(crate) async fn fill_from(
    start: &mut Bytes,
    reader: &mut (dyn AsyncRead + Send + Unpin),
    chunk: &mut Chunk,
) -> io::Result<usize> {
    let mut filled = 0;
    for range in plain_ranges(chunk.sealed_len()) {
        let frame = &mut chunk.frames_mut()[range];
        let mut have = start.len().min(frame.len());
        frame[..have].copy_from_slice(&start.split_to(have));
        while have < frame.len() {
            match reader.read(&mut frame[have..]).await? {
                0 => {
                    frame[have..].fill(0);
                    return Ok(filled + have);
                }
                more => have += more,
            }
        }
        filled += have;
    }
    Ok(filled)
}

pub(crate) fn read_error(what: &str, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::new(ErrorKind::Source, format!("{what} became shorter while it was read"))
            .with_hint("put it again when nothing writes to it");
    }
    Error::new(ErrorKind::Source, format!("cannot read {what}")).caused_by(error)
}
