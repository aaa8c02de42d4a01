//! `xvault rm`

use std::io::{self, IsTerminal as _};

use serde_json::json;

use crate::cli::address;
use crate::cli::batch::Tally;
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
/// keys are gone. Erasing, and removing a folder, asks first; where there is no terminal it needs -y.
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
    let erases = what != Remove::Mark;
    if (args.recursive || erases) && !args.dry_run {
        confirm(&args, erases)?;
    }
    let output = session.output();
    let mut tally = Tally::default();
    let alone = args.paths.len() == 1;
    for (nth, path) in args.paths.iter().enumerate() {
        let mut removed = 0;
        let result = remove_path(session, client, &args, path, what, &mut removed).await;
        tally.done += removed;
        match result {
            Ok(()) => {}
            // It says all there is to say.
            Err(error) if alone && removed == 0 => return Err(error),
            Err(error) => {
                if tally.fail(output, &error).is_break() {
                    tally.left = (args.paths.len() - nth - 1) as u64;
                    break;
                }
            }
        }
    }
    let done = if args.dry_run { "would be removed" } else { "removed" };
    if tally.failed == 0 {
        output.note(format_args!("{} {done}", format::count(tally.done, "record")));
    }
    tally.result("removed")
}

/// Asks whether to go on; only a person at a terminal can say so other than by -y.
fn confirm(args: &Args, erases: bool) -> anyhow::Result<()> {
    if args.yes {
        return Ok(());
    }
    let paths: Vec<_> = args.paths.iter().map(|path| escape(&path.to_string())).collect();
    let (paths, all) = (paths.join(", "), if args.recursive { "all of " } else { "" });
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let doing = if erases { "erasing" } else { "removing" };
        let for_good = if erases { " for good" } else { "" };
        let message = format!("{doing} {all}{paths}{for_good} needs a yes");
        return Err(Failure::refused(message).hint("-y says yes; --dry-run shows what would go").into());
    }
    match (erases, args.version) {
        (true, Some(version)) => eprint!("Erase version {version} of {paths} for good? [y/N] "),
        (true, None) => eprint!("Erase every version of {all}{paths} for good? [y/N] "),
        (false, _) => eprint!("Remove everything in {paths}? [y/N] "),
    }
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::refused("nothing was removed").into())
    }
}

/// Removes what an argument names; counts in `removed` what is gone, also if it fails midway.
async fn remove_path(
    session: &Session,
    client: &Client,
    args: &Args,
    path: &RecordPath,
    what: Remove,
    removed: &mut u64,
) -> anyhow::Result<()> {
    if args.recursive {
        return remove_folder(session, client, args, path, what, removed).await;
    }
    let at = RecordAddress { collection: path.collection.clone(), name: path.record_name()? };
    remove_one(session, client, args, &at, what).await?;
    *removed += 1;
    if args.paths.len() > 1 && !args.dry_run {
        session.output().note(format_args!("removed {}", escape(&at.to_string())));
    }
    Ok(())
}

async fn remove_folder(
    session: &Session,
    client: &Client,
    args: &Args,
    path: &RecordPath,
    what: Remove,
    removed: &mut u64,
) -> anyhow::Result<()> {
    let mut after = None;
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
            *removed += 1;
        }
        after = page.next;
        if after.is_some() {
            continue;
        }
        if *removed == 0 {
            let message = format!("there is nothing in {}", escape(&path.to_string()));
            return Err(Failure::new(Exit::NotFound, message).into());
        }
        return Ok(());
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
    } else if output.is_verbose() && args.recursive {
        output.line(format_args!("removed {shown}"))?;
    }
    Ok(())
}
