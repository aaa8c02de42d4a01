//! `xvault recover`

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::format;
use crate::cli::session::Session;
use crate::client::Client;

/// Restore the local index from the network: every collection, version and name that the ledger anchors.
///
/// On a new machine: `xvault key import`, then this. If another home rotated the vault's keys (`xvault vault rotate`), this
/// takes up the new ones. Commands do the same by themselves for the collection that they
/// are about, so it is only needed to have everything at hand. Of a vault that was erased it says so.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(session: &Session, client: &Client, _args: Args) -> anyhow::Result<Exit> {
    let output = session.output();
    let found = client.recover(|_| {}).await?;
    if let Some(height) = found.erased {
        if output.is_json() {
            output.json(&json!({
                "collections": 0, "anchors": 0, "changes": 0, "stored": 0, "erased": height.0,
            }))?;
        } else {
            output
                .line(format_args!("the vault was erased in block {height}: there is nothing to recover"))?;
        }
        return Ok(Exit::Ok);
    }
    let collections = client.collections().await?;
    if output.is_json() {
        output.json(&json!({
            "collections": collections.len(), "anchors": found.anchors, "changes": found.changes, "stored": found.stored, "erased": null,
        }))?;
        return Ok(Exit::Ok);
    }
    let (anchors, changes) = (format::count(found.anchors, "anchor"), format::count(found.changes, "change"));
    let collections = format::count(collections.len() as u64, "collection");
    if found.stored > 0 {
        let stored = format::count(found.stored, "version");
        output.line(format_args!("anchored {stored} that only the nodes knew of"))?;
    }
    output.line(format_args!("recovered {changes} of {anchors}; the vault has {collections}"))?;
    Ok(Exit::Ok)
}
