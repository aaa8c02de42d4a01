//! `xvault put`

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tokio::sync::mpsc::channel;

use crate::cli::batch::{self, Tally};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, escape};
use crate::cli::parse::parse_grant;
use crate::cli::session::Session;
use crate::cli::walk::{self, Found};
use crate::cli::{address, format, media_type};
use crate::client::access::Shared;
use crate::client::{
    Ack, Client, Condition, NodeTrouble, Progress, PutOptions, PutReport, RecordAddress, Source,
};
use crate::types::{CollectionName, GrantId, RecordPath, VersionId};

/// Store files, folders or standard input.
///
/// A record that exists gets a new version. A put of a large file that was interrupted goes on where it
/// stopped when the same file is put to the same name again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and folders; `-` for standard input.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// The record's name, or with a slash at the end the folder to put the sources into.
    #[arg(value_parser = address::path, value_name = "XV://COLLECTION/NAME")]
    target: RecordPath,
    /// Records to transfer at once.
    #[arg(short, long, value_name = "N", default_value = "64")]
    jobs: NonZeroUsize,
    /// Only if there is no such record.
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,
    /// Only if this is the record's latest version.
    #[arg(long, value_name = "ID")]
    if_version: Option<VersionId>,
    /// When a record counts as put: once it is safe on this machine, once enough nodes hold it, or once the ledger anchored
    /// it.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = AckArg::Anchored)]
    ack: AckArg,
    /// Bring them into the vault of this grant, for its owner to take in: one that this home accepted, with a right to append.
    #[arg(long, value_name = "ID", value_parser = parse_grant)]
    pub(crate) grant: Option<GrantId>,
    /// Media type [default: by the file's extension].
    #[arg(long, value_name = "TYPE", value_parser = content_type)]
    content_type: Option<String>,
    /// Metadata of your own, sealed with the record; can be given several times.
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,
}

/// When a record counts as put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AckArg {
    /// It is sealed and safe on this machine; it is stored and anchored afterwards, by the next command if need be.
    Staged,
    /// Enough nodes hold it; it is anchored afterwards, by the next command if need be.
    Stored,
    /// It is final on the ledger.
    Anchored,
}

impl AckArg {
    /// What has become of a record.
    const fn done(self) -> &'static str {
        match self {
            Self::Staged => "staged here, to be stored by later commands or `xvault sync`:",
            Self::Stored | Self::Anchored => "stored",
        }
    }
}

impl From<AckArg> for Ack {
    fn from(ack: AckArg) -> Self {
        match ack {
            AckArg::Staged => Self::Staged,
            AckArg::Stored => Self::Stored,
            AckArg::Anchored => Self::Anchored,
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A media type travels in headers of other protocols: plain text on one line.
fn content_type(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("expected a media type such as application/dicom, without control characters".into());
    }
    Ok(text.to_owned())
}

/// The metadata by their keys.
fn metadata(given: &[(String, String)]) -> Result<BTreeMap<String, String>, Failure> {
    let mut metadata = BTreeMap::new();
    for (key, value) in given {
        if metadata.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("--meta gives {} twice", escape(key))));
        }
    }
    Ok(metadata)
}

impl Args {
    fn is_stdin(&self) -> bool {
        self.sources.iter().any(|source| source == Path::new("-"))
    }

    /// What to do after Ctrl-C; standard input cannot be read a second time.
    pub(crate) fn interrupted_hint(&self) -> Option<&'static str> {
        let resumes = "run the same command again; a put of a large file goes on where it stopped";
        (!self.is_stdin()).then_some(resumes)
    }
}

/// Scopes tell labels apart exactly: what looks like one and is none may let somebody see what `not label:…` was to keep.
fn warn_of_labels(output: &Output, metadata: &[(String, String)]) {
    for (key, value) in metadata {
        if key != "labels" && ["label", "labels"].contains(&&*key.to_lowercase()) {
            output.warn(format_args!("{} is no label to scopes: say --meta labels=…", escape(key)));
        }
        let is_odd = |label: &str| label.contains([';', ' ']) || label != label.to_lowercase();
        for label in value.split(',').map(str::trim).filter(|label| key == "labels" && is_odd(label)) {
            let what = "is one label, spelled just so: commas separate labels, and capitals count";
            output.warn(format_args!("\"{}\" {what}", escape(label)));
        }
    }
}

/// What a put did, with its address.
struct Done {
    at: RecordAddress,
    report: PutReport,
}

/// Where records are put.
#[derive(Clone)]
pub(crate) enum Target {
    /// Into this home's vault.
    Own(Client),
    /// Into somebody else's.
    Granted(Arc<Shared>),
}

impl Target {
    async fn put(
        &self,
        at: &RecordAddress,
        source: Source,
        options: PutOptions,
    ) -> Result<PutReport, crate::client::Error> {
        match self {
            Self::Own(client) => client.put(at, source, options).await,
            Self::Granted(shared) => shared.put(at, source, options).await,
        }
    }

    /// What has become of a record.
    const fn done(&self, ack: AckArg) -> &'static str {
        match self {
            Self::Own(_) => ack.done(),
            Self::Granted(_) => "brought, for the vault's owner to take in:",
        }
    }
}

/// Brings records into the vault of somebody else.
pub(crate) async fn run_shared(session: &Session, shared: &Arc<Shared>, args: Args) -> anyhow::Result<Exit> {
    if args.if_absent || args.if_version.is_some() || args.ack != AckArg::Anchored {
        let message = "--grant goes with none of --if-absent, --if-version, --ack";
        return Err(Failure::usage(message).into());
    }
    run_to(session, &Target::Granted(Arc::clone(shared)), args).await
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    run_to(session, &Target::Own(client.clone()), args).await
}

async fn run_to(session: &Session, target: &Target, args: Args) -> anyhow::Result<Exit> {
    let (progress, watched) = Progress::new();
    let _meter = session.meter("put", watched);
    warn_of_labels(session.output(), &args.metadata);
    let options = Arc::new(PutOptions {
        content_type: args.content_type.clone(),
        modified: None,
        metadata: metadata(&args.metadata)?,
        ack: args.ack.into(),
        condition: match (args.if_version, args.if_absent) {
            (Some(version), _) => Condition::IfVersion(version),
            (None, true) => Condition::IfAbsent,
            (None, false) => Condition::Any,
        },
        progress,
    });
    if args.is_stdin() {
        return put_stdin(session, target, &args, &options).await;
    }
    let begun = Instant::now();
    let tasks = walk::tasks(&args.sources, &args.target)?;
    // Files that were named one by one are worth a line each; those of folders are only counted.
    let each = session.output().is_verbose() || !tasks.iter().any(|task| task.is_folder);
    let (to, found) = channel(batch::QUEUE_LEN);
    let output = Arc::clone(session.output());
    let walking = tokio::task::spawn_blocking(move || walk::send_files(tasks, &output, &to));
    let (mut tally, mut degraded, mut put) = (Tally::default(), Degraded::default(), Vec::new());
    let output = session.output();
    let collection = args.target.collection.clone();
    let work = |file: Found| put_file(target.clone(), collection.clone(), Arc::clone(&options), file);
    let left = batch::each(args.jobs, found, work, |result| {
        match result.and_then(|done| show(output, &done, each).map(|()| done)) {
            Ok(done) => {
                tally.done(done.report.size);
                tally.resumed += done.report.resumed_bytes;
                degraded.add(&done);
                put.push(done.at);
                ControlFlow::Continue(())
            }
            Err(error) => tally.fail(output, &error),
        }
    })
    .await;
    tally.left = left;
    walking.await?;
    join_scopes(session, target, &args, &put).await;
    summary(output, &tally, &degraded, begun, target.done(args.ack))?;
    tally.result("put")
}

/// Brings what was put into the scopes that were granted. If that fails the records are put all the same.
async fn join_scopes(session: &Session, target: &Target, args: &Args, records: &[RecordAddress]) {
    let Target::Own(client) = target else { return };
    if Ack::from(args.ack) != Ack::Anchored {
        return;
    }
    if let Err(error) = client.join_scopes(Some(records)).await {
        let what = "those who were let in do not see it yet, `xvault sync` tries again";
        session.output().warn(format_args!("{what}: {error}"));
    }
}

async fn put_file(
    target: Target,
    collection: CollectionName,
    options: Arc<PutOptions>,
    file: Found,
) -> anyhow::Result<Done> {
    let at = RecordAddress { collection, name: file.name };
    let guessed = || media_type::of(at.name.as_str()).map(str::to_owned);
    let options = PutOptions {
        content_type: options.content_type.clone().or_else(guessed),
        modified: file.modified,
        ..(*options).clone()
    };
    let put = target.put(&at, Source::File(file.path.clone()), options).await;
    let report = put.map_err(|error| {
        let message = format!("cannot put {}", escape(&file.path.to_string_lossy()));
        anyhow::Error::from(error).context(message)
    })?;
    Ok(Done { at, report })
}

async fn put_stdin(
    session: &Session,
    target: &Target,
    args: &Args,
    options: &PutOptions,
) -> anyhow::Result<Exit> {
    if args.sources.len() > 1 {
        return Err(Failure::usage("standard input cannot be put together with other sources").into());
    }
    if args.target.rest.is_empty() || args.target.rest.ends_with('/') {
        let message = "standard input has no name: the target must be a record, not a folder";
        return Err(Failure::usage(message).into());
    }
    let at = RecordAddress { collection: args.target.collection.clone(), name: args.target.record_name()? };
    let begun = Instant::now();
    let report = target.put(&at, Source::Reader(Box::new(tokio::io::stdin())), options.clone()).await?;
    let (mut tally, mut degraded) = (Tally::default(), Degraded::default());
    let done = Done { at, report };
    tally.done(done.report.size);
    degraded.add(&done);
    show(session.output(), &done, true)?;
    join_scopes(session, target, args, &[done.at]).await;
    summary(session.output(), &tally, &degraded, begun, target.done(args.ack))?;
    Ok(Exit::Ok)
}

/// Reports a record; a line of text only if `each` is to have one.
fn show(output: &Output, done: &Done, each: bool) -> anyhow::Result<()> {
    let report = &done.report;
    if report.restarted {
        let address = escape(&done.at.to_string());
        output.note(format_args!(
            "the file of {address} has changed since its interrupted put: all of it was put again"
        ));
    }
    if output.is_json() {
        output.json(&json!({
            "message_type": "item", "v": 1, "address": done.at.to_string(), "version": report.version.to_string(),
            "size": report.size, "resumed_bytes": report.resumed_bytes, "restarted": report.restarted,
            "shards_held": report.shards_held, "shards_total": report.shards_total, "degraded": report.degraded,
            "shards_doubled": report.shards_doubled, "troubles": troubles(report),
        }))?;
        return Ok(());
    }
    let address = escape(&done.at.to_string());
    if each && !output.is_quiet() {
        let resumed = match report.resumed_bytes {
            0 => String::new(),
            bytes => format!("  ({} were there already)", format::size(bytes)),
        };
        output.line(format_args!("{address}  {}  {}{resumed}", report.version, format::size(report.size)))?;
    }
    Ok(())
}

/// Records that are kept with less redundancy than they should: a warning for all of them together, since what one lacks the
/// others mostly lack too.
#[derive(Debug, Default)]
struct Degraded {
    records: u64,
    /// Address and shortfall of the first.
    first: Option<(String, String)>,
}

impl Degraded {
    fn add(&mut self, done: &Done) {
        if done.report.degraded {
            self.records += 1;
            self.first.get_or_insert_with(|| (done.at.to_string(), shortfall(&done.report)));
        }
    }

    fn warning(&self) -> Option<String> {
        let (address, shortfall) = self.first.as_ref()?;
        let address = escape(address);
        Some(match self.records {
            1 => format!("{address} is kept with less redundancy than it should: {shortfall}"),
            records => format!(
                "{records} records are kept with less redundancy than they should, {address} for example: {shortfall}"
            ),
        })
    }
}

/// Which nodes did not take their shard and why, for JSON.
fn troubles(report: &PutReport) -> Vec<serde_json::Value> {
    let one = |trouble: &NodeTrouble| json!({ "node": trouble.node, "why": trouble.kind.name() });
    report.troubles.iter().map(one).collect()
}

/// What a record that is kept with less redundancy lacks, and why.
fn shortfall(report: &PutReport) -> String {
    let (held, total, doubled) = (report.shards_held, report.shards_total, report.shards_doubled);
    let together = match doubled {
        0 => String::new(),
        some => format!(", {some} of them on a node that holds another of the same segment"),
    };
    let why = report.troubles.iter().map(|trouble| format!("{} {}", escape(&trouble.node), trouble.kind));
    let why = why.collect::<Vec<_>>().join(", ");
    let why = if why.is_empty() { "the network has too few nodes".to_owned() } else { why };
    format!("{held} of {total} shards are held{together}; {why}")
}

fn summary(
    output: &Output,
    tally: &Tally,
    degraded: &Degraded,
    begun: Instant,
    done: &str,
) -> anyhow::Result<()> {
    let took = begun.elapsed();
    if output.is_json() {
        output.json(&json!({
            "message_type": "summary", "v": 1, "records": tally.done, "bytes": tally.bytes,
            "resumed_bytes": tally.resumed, "failed": tally.failed, "not_tried": tally.left, "degraded": degraded.records,
            "seconds": took.as_secs_f64(),
        }))?;
        return Ok(());
    }
    if tally.done > 0 {
        let (records, bytes) = (format::count(tally.done, "record"), format::size(tally.bytes));
        // What was there already took no time.
        let rate = format::rate(tally.bytes.saturating_sub(tally.resumed), took);
        output.note(format_args!("{done} {records}, {bytes}, {rate}"));
    }
    if let Some(warning) = degraded.warning() {
        output.warn(warning);
    }
    Ok(())
}
