//! What an anchor says to everybody, for people and programs: which collection of which vault moves on, how many versions come,
//! and where the shards of their segments are. Names, sizes of records and contents are sealed.

use serde_json::{Value, json};

use crate::cli::format;
use crate::cli::output::Output;
use crate::message::{Anchor, AnchoredSegment};

/// How many versions the anchor's commits bring: those that have a commitment.
fn versions(anchor: &Anchor) -> u64 {
    anchor.commits.iter().map(|commit| u64::from(commit.count)).sum()
}

/// Ciphertext bytes of its segments, without parity.
fn bytes(anchor: &Anchor) -> u64 {
    anchor.segments.iter().map(|segment| segment.len).sum()
}

/// All of it.
pub(crate) fn json(anchor: &Anchor) -> Value {
    let segment = |found: &AnchoredSegment| {
        json!({
            "segment": found.segment.to_string(), "code": found.code.to_string(), "bytes": found.len,
            "shards": found.shards.iter().map(|shard| json!({
                "root": shard.root.to_string(), "node": shard.holder.map(|node| node.0),
            })).collect::<Vec<_>>(),
        })
    };
    json!({
        "vault": anchor.vault.to_string(), "collection": anchor.collection.to_string(),
        "previous": anchor.previous.map(|id| id.to_string()), "versions": versions(anchor), "bytes": bytes(anchor),
        "commits": anchor.commits.iter().map(|commit| json!({
            "pack": commit.pack.to_string(), "versions": commit.count,
            "commitments": data_encoding::HEXLOWER.encode(&commit.commitments.0),
        })).collect::<Vec<_>>(),
        "segments": anchor.segments.iter().map(segment).collect::<Vec<_>>(),
        "released": anchor.released.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// In a few words: `1 version, 1 segment of 2.0 KiB, 0 released`.
pub(crate) fn words(anchor: &Anchor) -> String {
    format!(
        "{}, {} of {}, {} released",
        format::count(versions(anchor), "version"),
        format::count(anchor.segments.len() as u64, "segment"),
        format::size(bytes(anchor)),
        anchor.released.len(),
    )
}

/// All of it but roots and commitments, in lines.
pub(crate) fn show(output: &Output, anchor: &Anchor) -> anyhow::Result<()> {
    output.line(format_args!("  vault       {}", anchor.vault))?;
    output.line(format_args!("  collection  {}", anchor.collection))?;
    match anchor.previous {
        Some(id) => output.line(format_args!("  after       anchor {id}"))?,
        None => output.line("  after       nothing: it is the collection's first anchor")?,
    }
    output.line(format_args!("  brings      {}", words(anchor)))?;
    for commit in &anchor.commits {
        let versions = format::count(commit.count.into(), "version");
        output.line(format_args!("  commit      of {versions} in segment {}", commit.pack))?;
    }
    for segment in &anchor.segments {
        let (id, code, len) = (segment.segment, segment.code, format::size(segment.len));
        output.line(format_args!("  segment     {id}  {code}  {len}  {}", places(segment)))?;
    }
    for segment in &anchor.released {
        output.line(format_args!("  released    {segment}"))?;
    }
    Ok(())
}

/// Which nodes hold the shards, in the order of the shards.
fn places(segment: &AnchoredSegment) -> String {
    let place = |shard: &crate::message::AnchoredShard| {
        shard.holder.map_or_else(|| "-".to_owned(), |node| node.to_string())
    };
    format!("on nodes {}", segment.shards.iter().map(place).collect::<Vec<_>>().join(" "))
}
