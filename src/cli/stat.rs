//! `xvault stat`

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::address;
use crate::cli::exit::Exit;
use crate::cli::format::{self, RecordJson};
use crate::cli::output::{Output, Paint, escape};
use crate::cli::parse::parse_grant;
use crate::cli::session::Session;
use crate::client::access::Shared;
use crate::client::{Client, RecordAddress, RecordInfo, RecordStat, SegmentHealth};
use crate::types::{GrantId, VersionId};

/// Show what is known of a record: size, times, metadata, and how well its segments are kept.
///
/// With -v or --json each segment is shown by itself. With --grant it shows what the owner's list says of the record, and
/// does not open it: metadata and the hash of the content are inside of it, and how it is kept is its owner's affair.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The record.
    #[arg(value_parser = address::record, value_name = "XV://COLLECTION/NAME")]
    record: RecordAddress,
    /// This version instead of the latest.
    #[arg(long, value_name = "ID", conflicts_with = "grant")]
    version: Option<VersionId>,
    /// Also ask every node which shards it holds now.
    #[arg(long, conflicts_with = "grant")]
    deep: bool,
    /// Of what this grant lets be seen, which `xvault access accept` accepted.
    #[arg(long, value_name = "GRANT", value_parser = parse_grant)]
    pub(crate) grant: Option<GrantId>,
}

/// Shows what a grant lets be seen of a record, and does not open it.
pub(crate) async fn run_shared(session: &Session, shared: &Shared, args: Args) -> anyhow::Result<Exit> {
    let output = session.output();
    let found = shared.find(&args.record).await?;
    let (info, grant) = (found.info(), &shared.grant().grant);
    if output.is_json() {
        output.json(&json!({
            "record": RecordJson::new(&args.record.collection, &info), "scope": found.scope,
            "grant": grant.grant.to_string(), "rights": grant.rights.to_string(), "expires": format::time(grant.expires),
        }))?;
        return Ok(Exit::Ok);
    }
    print_info(output, &args.record, &info)?;
    output.line(format_args!("scope     {}", escape(&found.scope)))?;
    output.line(format_args!("grant     {}", grant.grant))?;
    output.line(format_args!("until     {}", format::time(grant.expires)))?;
    Ok(Exit::Ok)
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    let stat = client.stat(&args.record, args.version, args.deep).await?;
    let by = match &stat.info.provenance {
        Some(provenance) => client.grantee_name(&provenance.grant).await,
        None => None,
    };
    if session.output().is_json() {
        print_json(session.output(), &args.record, &stat, by)?;
    } else {
        print(session.output(), &args.record, &stat, by)?;
    }
    Ok(Exit::Ok)
}

fn print_json(
    output: &Output,
    at: &RecordAddress,
    stat: &RecordStat,
    by: Option<String>,
) -> anyhow::Result<()> {
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
    let anchor = stat.anchor.map(|anchor| anchor.to_string());
    let brought = stat.info.provenance.map(|provenance| {
        json!({ "grant": provenance.grant.to_string(), "deposit": provenance.deposit.to_string(), "by": by })
    });
    output.json(&json!({
        "record": record, "class": stat.class.to_string(), "metadata": stat.metadata, "blake3": stat.content.to_string(), "anchor": anchor,
        "segments": segments, "brought": brought,
    }))?;
    Ok(())
}

fn print(output: &Output, at: &RecordAddress, stat: &RecordStat, by: Option<String>) -> anyhow::Result<()> {
    print_info(output, at, &stat.info)?;
    output.line(format_args!("class     {}", stat.class))?;
    output.line(format_args!("blake3    {}", stat.content))?;
    if let Some(anchor) = &stat.anchor {
        output.line(format_args!("anchor    {anchor}"))?;
    }
    if let Some(provenance) = &stat.info.provenance {
        let by = by.map_or_else(|| "somebody".to_owned(), |by| escape(&by));
        output.line(format_args!("brought   by {by}, under grant {}", provenance.grant))?;
    }
    for (key, value) in &stat.metadata {
        output.line(format_args!("meta      {} = {}", escape(key), escape(value)))?;
    }
    totals(output, stat)?;
    if output.is_verbose() {
        stat.segments.iter().try_for_each(|health| segment(output, health))?;
    }
    Ok(())
}

fn print_info(output: &Output, at: &RecordAddress, info: &RecordInfo) -> anyhow::Result<()> {
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
    Ok(())
}

/// Shards that are there, as well as is known, and what that means.
fn shards(health: &SegmentHealth) -> (usize, Paint, String) {
    let total = health.code.total();
    let (have, shown) = match health.reachable {
        Some(reachable) => (reachable, format!("{reachable} of {total} shards answer")),
        None => (health.held, format!("{} of {total} shards held", health.held)),
    };
    let paint = if have == total {
        Paint::Good
    } else if have >= health.code.k() {
        Paint::Caution
    } else {
        Paint::Bad
    };
    (have, paint, shown)
}

/// A line for all segments of which as many shards are there, the worst first.
fn totals(output: &Output, stat: &RecordStat) -> anyhow::Result<()> {
    let mut groups: BTreeMap<(usize, usize, usize), (u64, u64, &SegmentHealth)> = BTreeMap::new();
    for health in &stat.segments {
        let key = (shards(health).0, health.code.k(), health.code.m());
        let group = groups.entry(key).or_insert((0, 0, health));
        group.0 += 1;
        group.1 += health.len;
    }
    let all = stat.segments.len();
    for (count, bytes, example) in groups.values() {
        let (_, paint, shown) = shards(example);
        let segments = format::count(*count, "segment");
        let which = if *count > 1 && groups.len() == 1 {
            format!("all {segments}")
        } else if groups.len() == 1 {
            segments
        } else {
            format!("{count} of {all} segments")
        };
        let (shown, code, size) = (output.paint(paint, &shown), example.code, format::size(*bytes));
        output.line(format_args!("kept      {which}: {shown}  ({code}, {size})"))?;
    }
    Ok(())
}

fn segment(output: &Output, health: &SegmentHealth) -> anyhow::Result<()> {
    let (_, paint, shown) = shards(health);
    let shown = output.paint(paint, &shown);
    let (id, code) = (health.segment.short(), health.code);
    output.line(format_args!("segment   {id}  {code}  {:>10}  {shown}", format::size(health.len)))?;
    Ok(())
}
