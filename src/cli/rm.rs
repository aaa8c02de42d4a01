//! `xvault rm`

use std::io::{self, IsTerminal as _};

use serde_json::json;

use crate::cli::address;
use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::output::escape;
use crate::cli::session::Session;
use crate::client::{Client, ListEntry, ListOptions, RecordAddress, Remove};
use crate::types::{RecordPath, VersionId};

/// Names asked for at once.
const PAGE_LEN: usize = 1_000;

/// Remove records.
///
/// A removed record is no longer listed, but its versions stay and can be got by their ids (see
/// `xvault versions`). --all-versions and --version erase for good: the nodes free the space, and the
/// keys are gone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The records; with -r also folders and collections.
    #[arg(required = true, value_parser = address::path, value_name = "XV://COLLECTION/NAME")]
    paths: Vec<RecordPath>,
    /// Remove everything in these folders.
    #[arg(short, long)]
    recursive: bool,
    /// Erase every version for good.
    #[arg(long, conflicts_with = "version")]
    all_versions: bool,
    /// Erase this version for good.
    #[arg(long, value_name = "ID", conflicts_with = "recursive")]
    version: Option<VersionId>,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    let what = match (args.version, args.all_versions) {
        (Some(version), _) => Remove::Version(version),
        (None, true) => Remove::AllVersions,
        (None, false) => Remove::Mark,
    };
    if args.recursive && !args.dry_run {
        confirm(&args)?;
    }
    let mut removed = 0;
    for path in &args.paths {
        removed += if args.recursive {
            remove_folder(session, client, &args, path, what).await?
        } else {
            let at = RecordAddress { collection: path.collection.clone(), name: path.record_name()? };
            remove_one(session, client, &args, &at, what).await?;
            1
        };
    }
    let done = if args.dry_run { "would be removed" } else { "removed" };
    session.output().note(format_args!("{} {done}", format::count(removed, "record")));
    Ok(Exit::Ok)
}

fn confirm(args: &Args) -> anyhow::Result<()> {
    if args.yes {
        return Ok(());
    }
    let what: Vec<_> = args.paths.iter().map(|path| escape(&path.to_string())).collect();
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = format!("removing all of {} needs a yes", what.join(", "));
        return Err(Failure::refused(message).hint("-y says yes; --dry-run shows what would go").into());
    }
    eprint!("Remove everything in {}? [y/N] ", what.join(", "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::refused("nothing was removed").into())
    }
}

async fn remove_folder(
    session: &Session,
    client: &Client,
    args: &Args,
    path: &RecordPath,
    what: Remove,
) -> anyhow::Result<u64> {
    let (mut removed, mut after) = (0, None);
    loop {
        let options = ListOptions {
            prefix: address::folder_prefix(&path.rest),
            delimiter: None,
            after,
            limit: PAGE_LEN,
            include_deleted: args.all_versions,
        };
        let page = client.list(&path.collection, options).await?;
        for entry in page.entries {
            let ListEntry::Record(info) = entry else { continue };
            let at = RecordAddress { collection: path.collection.clone(), name: info.name };
            remove_one(session, client, args, &at, what).await?;
            removed += 1;
        }
        after = page.next;
        if after.is_some() {
            continue;
        }
        if removed == 0 {
            let message = format!("there is nothing in {}", escape(&path.to_string()));
            return Err(Failure::new(Exit::NotFound, message).into());
        }
        return Ok(removed);
    }
}

async fn remove_one(
    session: &Session,
    client: &Client,
    args: &Args,
    at: &RecordAddress,
    what: Remove,
) -> anyhow::Result<()> {
    let output = session.output();
    let shown = escape(&at.to_string());
    if args.dry_run {
        if output.is_json() {
            output.json(&json!({
                "message_type": "item", "v": 1, "address": at.to_string(), "dry_run": true,
            }))?;
        } else {
            output.line(format_args!("would remove {shown}"))?;
        }
        return Ok(());
    }
    let report = client.remove(at, what).await?;
    if output.is_json() {
        output.json(&json!({
            "message_type": "item", "v": 1, "address": at.to_string(),
            "versions_erased": report.versions, "segments_released": report.segments_released,
        }))?;
    }
    Ok(())
}
