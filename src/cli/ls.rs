//! `xvault ls`

use serde_json::json;

use crate::cli::address;
use crate::cli::exit::{Exit, Failure};
use crate::cli::format::{self, RecordJson};
use crate::cli::output::{Output, escape};
use crate::cli::parse::parse_grant;
use crate::cli::session::Session;
use crate::client::access::{Shared, SharedRecord};
use crate::client::{Client, ListEntry, ListOptions, RecordInfo};
use crate::types::{CollectionName, GrantId, RecordPath};

/// Names asked for at once.
const PAGE_LEN: usize = 1_000;

/// List collections, or the records of one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A collection, or a beginning of names in it; all collections if left out.
    #[arg(value_parser = parse, value_name = "XV://COLLECTION/PREFIX")]
    path: Option<Listed>,
    /// Show version, time and size.
    #[arg(short, long)]
    long: bool,
    /// List what is in folders, not the folders; with --grant that is so in any case.
    #[arg(short, long)]
    recursive: bool,
    /// Also list records that were removed.
    #[arg(long, conflicts_with = "grant")]
    removed: bool,
    /// At most so many entries.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on after this name: the one that a listing cut by --limit ends with.
    #[arg(long, value_name = "NAME", conflicts_with = "grant")]
    after: Option<String>,
    /// Of what this grant lets be seen, which `xvault access accept` accepted. It opens no record, and counts for no
    /// quota; the owner's log tells that it was listed.
    #[arg(long, value_name = "GRANT", value_parser = parse_grant)]
    pub(crate) grant: Option<GrantId>,
}

/// Lists what a grant lets be seen.
pub(crate) async fn run_shared(session: &Session, shared: &Shared, args: Args) -> anyhow::Result<Exit> {
    let output = session.output();
    let within = |record: &&SharedRecord| match &args.path {
        Some(Listed::Records(path)) => {
            record.line.collection == path.collection && record.line.name.as_str().starts_with(&path.rest)
        }
        _ => true,
    };
    let records = shared.list().await?;
    let found: Vec<_> = records.iter().filter(within).collect();
    let shown = found.len().min(args.limit.unwrap_or(usize::MAX));
    for record in &found[..shown] {
        let line = &record.line;
        let address = format!("xv://{}/{}", line.collection, line.name);
        if output.is_json() {
            output.json(&json!({
                "v": 1, "address": address, "collection": line.collection.as_str(), "name": line.name.as_str(),
                "size": line.size, "version": record.version.to_string(), "created": format::time(line.created),
                "modified": line.modified.map(format::time), "scope": record.scope, "content_type": line.content_type,
            }))?;
            continue;
        }
        let address = escape(&address);
        if args.long {
            let (created, size) = (format::time(line.created), format::size(line.size));
            output.line(format_args!("{}  {created}  {size:>12}  {address}", record.version))?;
        } else {
            output.line(address)?;
        }
    }
    if shown < found.len() {
        output.note(format_args!("there is more: {} in all", format::count(found.len() as u64, "record")));
    }
    Ok(Exit::Ok)
}

/// What to list.
#[derive(Debug, Clone)]
enum Listed {
    Collections,
    Records(RecordPath),
}

fn parse(text: &str) -> Result<Listed, String> {
    if text == RecordPath::SCHEME {
        Ok(Listed::Collections)
    } else {
        address::path(text).map(Listed::Records)
    }
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    let output = session.output();
    let Some(Listed::Records(path)) = &args.path else {
        for collection in client.collections().await?.into_iter().take(args.limit.unwrap_or(usize::MAX)) {
            if output.is_json() {
                output.json(&json!({
                    "collection": collection.name.as_str(), "created": format::time(collection.created),
                    "class": collection.class.to_string(),
                }))?;
            } else if args.long {
                let (created, class) = (format::time(collection.created), collection.class);
                output.line(format_args!("{created}  {class:10}  xv://{}/", collection.name))?;
            } else {
                output.line(format_args!("xv://{}/", collection.name))?;
            }
        }
        return Ok(Exit::Ok);
    };
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut after = args.after.clone();
    let (mut first, mut cut) = (true, None);
    while left > 0 {
        let options = ListOptions {
            prefix: path.rest.clone(),
            delimiter: (!args.recursive).then_some('/'),
            after,
            limit: left.min(PAGE_LEN),
            include_deleted: args.removed,
        };
        let page = client.list(&path.collection, options).await?;
        left -= page.entries.len();
        if first && page.entries.is_empty() {
            must_exist(client, path).await?;
        }
        first = false;
        for entry in &page.entries {
            show(output, &path.collection, entry, args.long)?;
        }
        cut.clone_from(&page.next);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if let Some(next) = cut {
        if output.is_json() {
            output.json(&json!({ "next": next }))?;
        } else {
            output.note(format_args!("there is more: go on with --after {}", quoted(&next)));
        }
    }
    Ok(Exit::Ok)
}

/// A folder without records is empty; a collection without any is none.
async fn must_exist(client: &Client, path: &RecordPath) -> anyhow::Result<()> {
    if client.collections().await?.iter().any(|found| found.name == path.collection) {
        return Ok(());
    }
    let message = format!("there is no collection xv://{}", path.collection);
    Err(Failure::new(Exit::NotFound, message).hint("`xvault ls` lists what there is").into())
}

/// A name as one word of a shell.
fn quoted(name: &str) -> String {
    crate::cli::devnet::quote(&escape(name))
}

fn show(output: &Output, collection: &CollectionName, entry: &ListEntry, long: bool) -> anyhow::Result<()> {
    match (entry, output.is_json()) {
        (ListEntry::Record(info), true) => output.json(&RecordJson::new(collection, info))?,
        (ListEntry::Prefix(prefix), true) => output.json(&json!({ "prefix": prefix }))?,
        (ListEntry::Prefix(prefix), false) if long => {
            output.line(format_args!("{:26}  {:20}  {:>12}  {}", "", "", "", escape(prefix)))?;
        }
        (ListEntry::Prefix(prefix), false) => output.line(escape(prefix))?,
        (ListEntry::Record(info), false) if long => output.line(long_line(info))?,
        (ListEntry::Record(info), false) => output.line(escape(info.name.as_str()))?,
    }
    Ok(())
}

fn long_line(info: &RecordInfo) -> String {
    let size = if info.deleted { "removed".to_owned() } else { format::size(info.size) };
    format!("{}  {}  {size:>12}  {}", info.version, format::time(info.created), escape(info.name.as_str()))
}
