//! `xvault get`

use std::collections::VecDeque;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tokio::sync::mpsc::{Sender, channel};

use crate::cli::batch::{self, Tally};
use crate::cli::exit::{Exit, Failure};
use crate::cli::folder::{self, Folder};
use crate::cli::output::{Output, escape};
use crate::cli::parse::parse_grant;
use crate::cli::session::Session;
use crate::cli::{address, format};
use crate::client::access::{OpenRecord, Shared, SharedRecord};
use crate::client::{
    self, ByteRange, Client, Download, GetOptions, ListEntry, ListOptions, Progress, RecordAddress,
};
use crate::types::limits::MAX_RELEASE_ITEMS;
use crate::types::{CollectionName, GrantId, RecordPath, VersionId};

/// Names asked for at once.
const PAGE_LEN: usize = 1_000;

/// Get a record to a file or standard output, or with -r a folder of records to a folder.
///
/// A file appears only once it is whole.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The record; with -r a folder or collection.
    #[arg(value_parser = address::path, value_name = "XV://COLLECTION/NAME")]
    source: RecordPath,
    /// File or folder to write to; `-` for standard output [default: here, under the record's own name].
    target: Option<PathBuf>,
    /// Get everything in a folder.
    #[arg(short, long, conflicts_with_all = ["range", "version"])]
    recursive: bool,
    /// Only these bytes: FIRST-LAST, FIRST- or -COUNT.
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    range: Option<ByteRange>,
    /// This version instead of the latest.
    #[arg(long, value_name = "ID")]
    version: Option<VersionId>,
    /// Overwrite files.
    #[arg(short, long)]
    force: bool,
    /// Records to transfer at once, with -r; of a grant, to have opened at once.
    #[arg(short, long, value_name = "N", default_value = "8")]
    jobs: NonZeroUsize,
    /// Of what this grant lets be read, which `xvault access accept` accepted. Each record that is read is an opening: it
    /// is in the owner's log, and counts for the grant's quota.
    #[arg(long, value_name = "GRANT", value_parser = parse_grant, conflicts_with = "version")]
    pub(crate) grant: Option<GrantId>,
}

/// Gets what a grant lets be read.
pub(crate) async fn run_shared(session: &Session, shared: &Shared, args: Args) -> anyhow::Result<Exit> {
    let (progress, watched) = Progress::new();
    let _meter = session.meter("get", watched);
    let begun = Instant::now();
    let mut tally = Tally::default();
    if !args.recursive {
        let name = args.source.record_name()?;
        let at = RecordAddress { collection: args.source.collection.clone(), name };
        let to_stdout = args.target.as_deref() == Some(Path::new("-"));
        // What is here comes first: each opening counts, and is in the owner's log.
        let placed = if to_stdout { None } else { Some(free_place(&args, &at)?) };
        let record = shared.find(&at).await?;
        let options = GetOptions { version: None, range: args.range, progress };
        let mut download = shared.get(&record, options).await?;
        if args.target.as_deref() == Some(Path::new("-")) {
            while let Some(bytes) = download.next().await? {
                session.output().bytes(&bytes)?;
            }
            return Ok(Exit::Ok);
        }
        let (folder, name) = placed.map_or_else(|| place(&args, &at), Ok)?;
        let got = fill(at, download, folder, &name, args.force).await?;
        tally.done(got.bytes);
        show(session.output(), &got, false)?;
        summary(session.output(), &tally, begun)?;
        return Ok(Exit::Ok);
    }
    let target = args.target.clone().unwrap_or_else(|| PathBuf::from("."));
    std::fs::create_dir_all(&target).map_err(|error| folder::full_or_failed(&target, &error))?;
    let (root, prefix) = (Folder::open(&target)?, address::folder_prefix(&args.source.rest));
    let mut records = shared.list().await?;
    records.retain(|record| {
        record.line.collection == args.source.collection && record.line.name.as_str().starts_with(&prefix)
    });
    let count = records.len();
    let mut opening = Opening::new(shared, &records, args.jobs.get());
    for (nth, record) in records.iter().enumerate() {
        let line = &record.line;
        let at = RecordAddress { collection: line.collection.clone(), name: line.name.clone() };
        let options = GetOptions { progress: progress.clone(), ..GetOptions::default() };
        let got = match opening.next(record).await {
            Ok(opened) => get_one_shared(shared, &root, prefix.len(), at, opened, options, args.force).await,
            Err(error) => Err(error.into()),
        };
        match got.and_then(|got| show(session.output(), &got, session.output().is_verbose()).map(|()| got)) {
            Ok(got) => tally.done(got.bytes),
            Err(error) => {
                // A grant that ended, or is used up, opens none of the others either.
                let is_over = Exit::of(&error) == Exit::Refused && !is_in_the_way(&error);
                if tally.fail(session.output(), &error).is_break() || is_over {
                    tally.left = u64::try_from(count - nth - 1)?;
                    break;
                }
            }
        }
    }
    if tally.done == 0 && tally.failed == 0 {
        let message = format!("the grant lets nothing be read in {}", escape(&args.source.to_string()));
        return Err(Failure::new(Exit::NotFound, message).into());
    }
    summary(session.output(), &tally, begun)?;
    tally.result("got")
}

/// The folder and name of the file that a record becomes, if nothing is there.
fn free_place(args: &Args, at: &RecordAddress) -> anyhow::Result<(Folder, String)> {
    let (folder, name) = place(args, at)?;
    if !args.force && folder.holds(&name)? {
        return Err(folder::exists(&folder.path_of(&name)).into());
    }
    Ok((folder, name))
}

/// Whether an error is about what is here, and not about the grant.
fn is_in_the_way(error: &anyhow::Error) -> bool {
    error.downcast_ref::<client::Error>().is_none()
}

/// Has records opened some at a time, in their order.
struct Opening<'a> {
    shared: &'a Shared,
    /// Those that were not asked for yet.
    rest: std::slice::Chunks<'a, SharedRecord>,
    /// What became of those that were, and are not taken yet; none of them if they are to be asked for one by one.
    opened: VecDeque<Option<Result<OpenRecord, client::Error>>>,
}

impl<'a> Opening<'a> {
    fn new(shared: &'a Shared, records: &'a [SharedRecord], at_once: usize) -> Self {
        let rest = records.chunks(at_once.clamp(1, MAX_RELEASE_ITEMS));
        Self { shared, rest, opened: VecDeque::new() }
    }

    /// The next record, which is this one.
    async fn next(&mut self, record: &SharedRecord) -> Result<OpenRecord, client::Error> {
        if self.opened.is_empty() {
            let some = self.rest.next().unwrap_or_default();
            match self.shared.open_all(some).await {
                Ok(opened) => self.opened.extend(opened.into_iter().map(Some)),
                Err(error) if some.len() < 2 => return Err(error),
                // One that is erased, or more than the quota has left, keeps the others from being opened with it.
                Err(_) => self.opened.extend(some.iter().map(|_| None)),
            }
        }
        match self.opened.pop_front().flatten() {
            Some(opened) => opened,
            None => self.shared.open_one(record).await,
        }
    }
}

async fn get_one_shared(
    shared: &Shared,
    root: &Folder,
    skip: usize,
    at: RecordAddress,
    opened: OpenRecord,
    options: GetOptions,
    force: bool,
) -> anyhow::Result<Got> {
    let download = shared.read(opened, options).await?;
    let parts = folder::parts(&at.name.as_str()[skip..])?;
    let name = parts.last().copied().unwrap_or_default().to_owned();
    let folder = root.parent_of(&parts)?;
    fill(at, download, folder, &name, force).await
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    let (progress, watched) = Progress::new();
    let _meter = session.meter("get", watched);
    if args.recursive {
        return get_folder(session, client, args, progress).await;
    }
    let at = RecordAddress { collection: args.source.collection.clone(), name: args.source.record_name()? };
    let options = GetOptions { version: args.version, range: args.range, progress };
    if args.target.as_deref() == Some(Path::new("-")) {
        let mut download = client.get(&at, options).await?;
        while let Some(bytes) = download.next().await? {
            session.output().bytes(&bytes)?;
        }
        return Ok(Exit::Ok);
    }
    let begun = Instant::now();
    // First the record, then what is here: a missing one is missing whatever there is here.
    let download = client.get(&at, options).await?;
    let (folder, name) = place(&args, &at)?;
    let got = fill(at, download, folder, &name, args.force).await?;
    let mut tally = Tally::default();
    tally.done(got.bytes);
    show(session.output(), &got, false)?;
    summary(session.output(), &tally, begun)?;
    Ok(Exit::Ok)
}

/// A record that is a file now.
struct Got {
    at: RecordAddress,
    version: VersionId,
    path: PathBuf,
    bytes: u64,
}

/// Reports a record; a line of text only if `each` is to have one.
fn show(output: &Output, got: &Got, each: bool) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&json!({
            "message_type": "item", "v": 1, "address": got.at.to_string(), "version": got.version.to_string(),
            "size": got.bytes, "path": got.path.to_string_lossy(),
        }))?;
    } else if each {
        let (address, path) = (escape(&got.at.to_string()), escape(&got.path.to_string_lossy()));
        output.line(format_args!("{address}  {path}  {}", format::size(got.bytes)))?;
    }
    Ok(())
}

/// The folder and name of the file that a record becomes.
fn place(args: &Args, at: &RecordAddress) -> anyhow::Result<(Folder, String)> {
    let own = || {
        let name = address::base_name(at.name.as_str()).filter(|name| !matches!(*name, "." | ".."));
        let missing = || Failure::usage("the record's name is no file name: name a file to write to");
        name.map(str::to_owned).ok_or_else(missing)
    };
    let Some(target) = &args.target else { return Ok((Folder::open(Path::new("."))?, own()?)) };
    if target.is_dir() {
        return Ok((Folder::open(target)?, own()?));
    }
    if target.exists() && !target.is_file() {
        let message = format!("{} is not a plain file", target.display());
        return Err(Failure::refused(message).hint("use `-` and redirect standard output").into());
    }
    let name = target.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Failure::usage(format!("{} is no file name", target.display())))?;
    let parent =
        target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    Ok((Folder::open(parent)?, name.to_owned()))
}

/// Writes a record to a file, which appears once it is whole.
async fn fill(
    at: RecordAddress,
    mut download: Download,
    folder: Folder,
    name: &str,
    force: bool,
) -> anyhow::Result<Got> {
    let path = folder.path_of(name);
    if !force && folder.holds(name)? {
        return Err(folder::exists(&path).into());
    }
    let mut file = folder.create(name)?;
    let mut bytes = 0;
    while let Some(piece) = download.next().await? {
        let wrote = tokio::task::block_in_place(|| file.file().write_all(&piece));
        wrote.map_err(|error| folder::full_or_failed(&path, &error))?;
        bytes += piece.len() as u64;
    }
    tokio::task::block_in_place(|| file.keep(name, force))?;
    Ok(Got { at, version: download.info.version, path, bytes })
}

async fn get_folder(
    session: &Session,
    client: &Client,
    args: Args,
    progress: Progress,
) -> anyhow::Result<Exit> {
    let target = args.target.clone().unwrap_or_else(|| PathBuf::from("."));
    if target == Path::new("-") {
        return Err(Failure::usage("a folder cannot go to standard output").into());
    }
    std::fs::create_dir_all(&target).map_err(|error| folder::full_or_failed(&target, &error))?;
    let root = Arc::new(Folder::open(&target)?);
    let prefix = address::folder_prefix(&args.source.rest);
    let (to, names) = channel(batch::QUEUE_LEN);
    let listing = tokio::spawn(list(client.clone(), args.source.collection.clone(), prefix.clone(), to));
    let begun = Instant::now();
    let mut tally = Tally::default();
    let output = session.output();
    let work = |at: RecordAddress| {
        let (client, root, progress) = (client.clone(), Arc::clone(&root), progress.clone());
        get_one(client, root, prefix.len(), at, args.force, progress)
    };
    let left = batch::each(args.jobs, names, work, |result| {
        match result.and_then(|got| show(output, &got, output.is_verbose()).map(|()| got)) {
            Ok(got) => {
                tally.done(got.bytes);
                ControlFlow::Continue(())
            }
            Err(error) => tally.fail(output, &error),
        }
    })
    .await;
    tally.left = left;
    listing.await?;
    if tally.done == 0 && tally.failed == 0 {
        let message = format!("there is nothing in {}", escape(&args.source.to_string()));
        return Err(Failure::new(Exit::NotFound, message).into());
    }
    summary(output, &tally, begun)?;
    tally.result("got")
}

/// Sends the addresses of all records below a prefix, until nobody listens.
async fn list(
    client: Client,
    collection: CollectionName,
    prefix: String,
    to: Sender<anyhow::Result<RecordAddress>>,
) {
    let mut after = None;
    loop {
        let options = ListOptions {
            prefix: prefix.clone(),
            delimiter: None,
            after,
            limit: PAGE_LEN,
            include_deleted: false,
        };
        let page = match client.list(&collection, options).await {
            Ok(page) => page,
            Err(error) => {
                to.send(Err(error.into())).await.ok();
                return;
            }
        };
        for entry in page.entries {
            let ListEntry::Record(info) = entry else { continue };
            let at = RecordAddress { collection: collection.clone(), name: info.name };
            if to.send(Ok(at)).await.is_err() {
                return;
            }
        }
        after = page.next;
        if after.is_none() {
            return;
        }
    }
}

async fn get_one(
    client: Client,
    root: Arc<Folder>,
    skip: usize,
    at: RecordAddress,
    force: bool,
    progress: Progress,
) -> anyhow::Result<Got> {
    let download = client.get(&at, GetOptions { progress, ..GetOptions::default() }).await?;
    let parts = folder::parts(&at.name.as_str()[skip..])?;
    let name = parts.last().copied().unwrap_or_default().to_owned();
    let folder = root.parent_of(&parts)?;
    fill(at, download, folder, &name, force).await
}

fn summary(output: &Output, tally: &Tally, begun: Instant) -> anyhow::Result<()> {
    let took = begun.elapsed();
    if output.is_json() {
        output.json(&json!({
            "message_type": "summary", "v": 1, "records": tally.done, "bytes": tally.bytes,
            "failed": tally.failed, "not_tried": tally.left, "seconds": took.as_secs_f64(),
        }))?;
    } else if tally.done > 0 {
        let (records, bytes) = (format::count(tally.done, "record"), format::size(tally.bytes));
        output.note(format_args!("got {records}, {bytes}, {}", format::rate(tally.bytes, took)));
    }
    Ok(())
}
