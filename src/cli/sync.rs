//! `xvault sync`

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::format;
use crate::cli::session::Session;
use crate::client::Client;

/// Wait until everything that was put is anchored, also what `put --ack staged` and `--ack stored` left to be done.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(session: &Session, client: &Client, _args: Args) -> anyhow::Result<Exit> {
    let output = session.output();
    let done = client.settle().await?;
    let joined = client.join_scopes(None).await?;
    if output.is_json() {
        output.json(&json!({ "staged": done.staged, "stored": done.stored, "joined_scopes": joined }))?;
        return Ok(Exit::Ok);
    }
    let (staged, stored) =
        (format::count(done.staged, "staged put"), format::count(done.stored, "stored pack"));
    output.note(format_args!("everything is anchored; {staged} and {stored} were left to be done"));
    Ok(Exit::Ok)
}
