//! `xvault sync`

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::format;
use crate::cli::output::escape;
use crate::cli::session::Session;
use crate::client::Client;
use crate::client::access::Brought;

/// Take in what others brought, and wait until everything that was put is anchored.
///
/// That is also what `put --ack staged` and `--ack stored` left to be done. Records that others brought under a grant to append are
/// checked, and are then this vault's own; what is wrong with one is said.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(session: &Session, client: &Client, _args: Args) -> anyhow::Result<Exit> {
    let output = session.output();
    let done = client.settle().await?;
    let taken = client.take_in().await?;
    let joined = client.join_scopes(None).await?;
    if output.is_json() {
        let brought = |record: &Brought| json!({ "address": record.at.to_string(), "grant": record.grant.to_string(), "by": record.by });
        output.json(&json!({
            "staged": done.staged, "stored": done.stored, "joined_scopes": joined,
            "taken_in": taken.records.iter().map(brought).collect::<Vec<_>>(), "refused": taken.refused, "left": taken.left,
        }))?;
        return Ok(Exit::Ok);
    }
    for Brought { at, by, grant } in &taken.records {
        let by = by.as_deref().map_or_else(|| format!("grant {grant}"), escape);
        output.line(format_args!("{}  from {by}", escape(&at.to_string())))?;
    }
    for refused in &taken.refused {
        output.warn(format_args!("not taken in, and gone: {}", escape(refused)));
    }
    for left in &taken.left {
        let hint = "it is tried again by the next sync; `xvault access refuse` lets it go";
        output.warn(format_args!("not taken in yet: {} ({hint})", escape(left)));
    }
    let (staged, stored) =
        (format::count(done.staged, "staged put"), format::count(done.stored, "stored pack"));
    output.note(format_args!("everything is anchored; {staged} and {stored} were left to be done"));
    Ok(Exit::Ok)
}
