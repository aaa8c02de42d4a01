//! `xvault stat`

use serde_json::json;

use crate::cli::address;
use crate::cli::exit::Exit;
use crate::cli::format::{self, RecordJson};
use crate::cli::output::{Output, Paint, escape};
use crate::cli::session::Session;
use crate::client::{Client, RecordAddress, RecordStat, SegmentHealth};
use crate::types::VersionId;

/// Show what is known of a record: size, times, metadata, and how well its segments are kept.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The record.
    #[arg(value_parser = address::record, value_name = "XV://COLLECTION/NAME")]
    record: RecordAddress,
    /// This version instead of the latest.
    #[arg(long, value_name = "ID")]
    version: Option<VersionId>,
    /// Also ask every node which shards it holds now.
    #[arg(long)]
    deep: bool,
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    let stat = client.stat(&args.record, args.version, args.deep).await?;
    if session.output().is_json() {
        print_json(session.output(), &args.record, &stat)?;
    } else {
        print(session.output(), &args.record, &stat)?;
    }
    Ok(Exit::Ok)
}

fn print_json(output: &Output, at: &RecordAddress, stat: &RecordStat) -> anyhow::Result<()> {
    let segment = |health: &SegmentHealth| {
        json!({
            "segment": health.segment.to_string(),
            "code": health.code.to_string(),
            "bytes": health.len,
            "shards": health.code.total(),
            "held": health.held,
            "reachable": health.reachable,
        })
    };
    let segments: Vec<_> = stat.segments.iter().map(segment).collect();
    let record = RecordJson::new(&at.collection, &stat.info);
    output.json(&json!({ "record": record, "metadata": stat.metadata, "segments": segments }))?;
    Ok(())
}

fn print(output: &Output, at: &RecordAddress, stat: &RecordStat) -> anyhow::Result<()> {
    let info = &stat.info;
    output.line(format_args!("record    {}", escape(&at.to_string())))?;
    output.line(format_args!("version   {}", info.version))?;
    output.line(format_args!("size      {} ({} bytes)", format::size(info.size), info.size))?;
    output.line(format_args!("created   {}", format::time(info.created)))?;
    if let Some(modified) = info.modified {
        output.line(format_args!("modified  {}", format::time(modified)))?;
    }
    if let Some(content_type) = &info.content_type {
        output.line(format_args!("type      {}", escape(content_type)))?;
    }
    for (key, value) in &stat.metadata {
        output.line(format_args!("meta      {} = {}", escape(key), escape(value)))?;
    }
    for health in &stat.segments {
        let total = health.code.total();
        let shards = match health.reachable {
            Some(reachable) => format!("{reachable} of {total} shards answer"),
            None => format!("{} of {total} shards held", health.held),
        };
        let have = health.reachable.unwrap_or(health.held);
        let paint = if have == total {
            Paint::Good
        } else if have >= health.code.k() {
            Paint::Caution
        } else {
            Paint::Bad
        };
        let shards = output.paint(paint, &shards);
        let (id, code) = (health.segment.short(), health.code);
        output.line(format_args!("segment   {id}  {code}  {:>10}  {shards}", format::size(health.len)))?;
    }
    Ok(())
}
