//! Staged puts: the bytes are sealed into a file of the home folder, durable before anybody is told, and stored and
//! anchored afterwards, by this client or the next one of the home.
//!
//! The file is one run of frames under the version's data key; the index says to whom it belongs. If we crash before
//! the index does, the file belongs to nobody, and is removed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use crate::client::context::{Context, random};
use crate::client::get::FrameReader;
use crate::client::packer::{Packer, new_version};
use crate::client::put::{self, Given};
use crate::client::vault;
use crate::client::{Ack, Error, ErrorKind, PutOptions, PutReport, RecordAddress, Source, source};
use crate::crypto::frame::{Dek, FrameKey, Stream};
use crate::message::StagedPut;
use crate::types::VersionId;
use crate::types::limits::{FRAME_LEN, TAG_LEN};

/// Frames that wait to be written or read.
const FRAMES_AHEAD: usize = 16;

/// Takes a put on: when it returns, it survives the crash of this machine.
pub(crate) async fn stage(
    ctx: &Arc<Context>,
    at: &RecordAddress,
    source: Source,
    options: PutOptions,
) -> Result<PutReport, Error> {
    let (version, dek) = (new_version()?, Dek::from_bytes(random()?));
    let (path, key) = (path(ctx, &version), frame_key(&dek, &version));
    let reader = reader(source).await?;
    let (size, file) = match write(ctx, &path, key, reader, &options).await {
        Ok(written) => written,
        Err(error) => {
            drop(std::fs::remove_file(&path));
            return Err(error);
        }
    };
    let staged = StagedPut {
        collection: at.collection.clone(),
        name: at.name.clone(),
        version,
        dek,
        size,
        content_type: options.content_type,
        modified: options.modified,
        metadata: options.metadata,
    };
    ctx.index.with(move |index| index.stage(&staged)).await?;
    // Up to here it was locked: nobody took it for what a crash left.
    drop(file);
    Ok(PutReport::new(version, size))
}

/// Stores and anchors what is staged, in the order in which it was. How many puts are done.
pub(crate) async fn finish(ctx: &Arc<Context>, packer: &Packer) -> Result<u64, Error> {
    let mut done = 0;
    for (turn, staged) in ctx.index.with(|index| index.staged()).await? {
        let path = path(ctx, &staged.version);
        // Another client of this home may be at it, or have done it.
        let Some(file) = claim(&path)? else { continue };
        // It may have been done since the list was read.
        if !ctx.index.with(move |index| index.is_staged(turn)).await? {
            continue;
        }
        // The lock is held until the put is done: whoever claimed the file once it is read would put the version again.
        let claimed = file.try_clone().map_err(|error| unreadable(&path, error))?;
        let at = RecordAddress { collection: staged.collection.clone(), name: staged.name.clone() };
        let options = PutOptions {
            content_type: staged.content_type.clone(),
            modified: staged.modified,
            metadata: staged.metadata.clone(),
            ack: Ack::Anchored,
            ..PutOptions::default()
        };
        let frames = read(ctx, file, frame_key(&staged.dek, &staged.version), staged.size);
        let source = Source::Reader(Box::new(frames));
        // It may be the first that the vault ever puts.
        vault::register(ctx, Ack::Anchored).await?;
        let given = Given { version: Some(staged.version), ..Given::default() };
        put::put(ctx, packer, &at, source, options, given).await?;
        ctx.index.with(move |index| index.unstage(turn)).await?;
        drop(std::fs::remove_file(&path));
        drop(claimed);
        done += 1;
    }
    Ok(done)
}

/// Removes files that belong to no put, and that nobody writes: a crash left them before anybody was told.
pub(crate) async fn sweep(ctx: &Context) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(&ctx.home) else { return Ok(()) };
    let is_staged = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
    };
    let found: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_staged).collect();
    if found.is_empty() {
        return Ok(());
    }
    // Locked before the index is asked: a put that ends meanwhile is in the index then.
    let unlocked: Vec<_> = found.into_iter().filter(|path| matches!(claim(path), Ok(Some(_)))).collect();
    let staged = ctx.index.with(|index| index.staged()).await?;
    let known: Vec<_> = staged.iter().map(|(_, staged)| path(ctx, &staged.version)).collect();
    for path in unlocked.iter().filter(|path| !known.contains(path)) {
        drop(std::fs::remove_file(path));
    }
    Ok(())
}

const PREFIX: &str = "staged-";

fn path(ctx: &Context, version: &VersionId) -> PathBuf {
    ctx.home.join(format!("{PREFIX}{version}"))
}

/// The run of the file; its salt is fixed, since the data key serves this file and, with salts of their own, the
/// record's segments.
fn frame_key(dek: &Dek, version: &VersionId) -> FrameKey {
    dek.frame_key(version, Stream::Staged, &[0; 16])
}

async fn reader(source: Source) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
    Ok(match source {
        Source::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
        Source::Reader(reader) => reader,
        Source::File(path) => {
            let file = tokio::fs::File::open(&path).await;
            Box::new(file.map_err(|error| source::read_error(&path.display().to_string(), error))?)
        }
    })
}

async fn write(
    ctx: &Context,
    path: &Path,
    key: FrameKey,
    mut reader: Box<dyn AsyncRead + Send + Unpin>,
    options: &PutOptions,
) -> Result<(u64, File), Error> {
    let (frames, queue) = mpsc::channel::<Vec<u8>>(FRAMES_AHEAD);
    let (to, home) = (path.to_owned(), ctx.home.clone());
    let writing = tokio::task::spawn_blocking(move || write_frames(&to, &home, &key, queue));
    let mut size = 0;
    loop {
        let mut frame = Vec::with_capacity(FRAME_LEN);
        let read = (&mut reader).take(FRAME_LEN as u64).read_to_end(&mut frame).await;
        read.map_err(|error| source::read_error("the input", error))?;
        size += frame.len() as u64;
        options.progress.add(frame.len() as u64);
        let is_last = frame.len() < FRAME_LEN;
        // If the writer is gone, it says why.
        if frames.send(frame).await.is_err() || is_last {
            break;
        }
    }
    drop(frames);
    let written = writing.await.map_err(std::io::Error::other).and_then(|written| written);
    let file = written.map_err(|error| {
        let kind = ErrorKind::of_io(&error, ErrorKind::Config);
        Error::new(kind, format!("cannot write {}", path.display())).caused_by(error)
    })?;
    Ok((size, file))
}

/// Seals frames as they come; the last is shorter than the others, if only by having nothing.
fn write_frames(
    path: &Path,
    home: &Path,
    key: &FrameKey,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> std::io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.lock()?;
    let mut index = 0;
    while let Some(mut frame) = frames.blocking_recv() {
        let tag = key.seal_in_place(index, frame.len() < FRAME_LEN, &mut frame);
        frame.extend_from_slice(&tag);
        file.write_all(&frame)?;
        index += 1;
    }
    file.sync_all()?;
    File::open(home)?.sync_all()?;
    Ok(file)
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Corrupt, format!("cannot read the staged put {}", path.display())).caused_by(error)
}

fn claim(path: &Path) -> Result<Option<File>, Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| unreadable(path, error))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unreadable(path, error)),
    }
}

/// The plaintext of a staged file, which stays locked while it is read.
fn read(ctx: &Context, file: File, key: FrameKey, size: u64) -> FrameReader {
    let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
    let home = ctx.home.clone();
    tokio::task::spawn_blocking(move || {
        let read = read_frames(file, &key, size, |frame| sender.blocking_send(Ok(frame)).is_ok());
        if let Err(error) = read {
            let message = format!("a staged put in {} is damaged", home.display());
            // Whoever reads may be gone.
            drop(sender.blocking_send(Err(Error::new(ErrorKind::Corrupt, message).caused_by(error))));
        }
    });
    FrameReader::new(frames)
}

fn read_frames(
    mut file: File,
    key: &FrameKey,
    size: u64,
    mut give: impl FnMut(Bytes) -> bool,
) -> std::io::Result<()> {
    let mut left = size;
    let mut index = 0;
    loop {
        let len = usize::try_from(left.min(FRAME_LEN as u64)).unwrap_or(FRAME_LEN);
        let mut sealed = vec![0; len + TAG_LEN];
        file.read_exact(&mut sealed)?;
        let is_last = len < FRAME_LEN;
        let mut frame = vec![0; len];
        key.open_into(index, is_last, &sealed, &mut frame).map_err(std::io::Error::other)?;
        if !give(frame.into()) || is_last {
            return Ok(());
        }
        left -= len as u64;
        index += 1;
    }
}
