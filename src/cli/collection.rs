//! `xvault collection`

use serde_json::json;

use crate::cli::address;
use crate::cli::exit::{Exit, Failure};
use crate::cli::session::Session;
use crate::client::Client;
use crate::types::{CollectionName, RecordPath};

/// Begin collections of which what is in them can be erased.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Begin a collection.
    ///
    /// A durable collection needs no beginning: the first put makes it. Its data keys are in the vault's own commits, so whoever
    /// has the 24 words and enough shards reads what was stored, for as long as these are. Of a shreddable one the static nodes
    /// keep the data keys, wrapped for the owner alone: `xvault erase` has them destroyed, and then nobody reads what was there,
    /// not with the 24 words either. The price: nothing of it is read while no static node that has the keyslot answers, and
    /// nothing is put while a quorum of them is away.
    Create(Create),
}

/// Arguments of `collection create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The collection.
    #[arg(value_parser = collection, value_name = "XV://COLLECTION")]
    collection: CollectionName,
    /// What is in it can be erased. This is for good: a class does not change.
    #[arg(long)]
    shreddable: bool,
}

/// Reads `xv://COLLECTION`.
fn collection(text: &str) -> Result<CollectionName, String> {
    let RecordPath { collection, rest } = address::path(text)?;
    if rest.is_empty() { Ok(collection) } else { Err("name a collection: xv://COLLECTION".to_owned()) }
}

pub(crate) async fn run(session: &Session, client: &Client, command: Command) -> anyhow::Result<Exit> {
    let Command::Create(args) = command;
    if !args.shreddable {
        let hint =
            "say --shreddable for one whose records can be erased; a durable one is made by its first put";
        return Err(Failure::usage("of what class is it to be?").hint(hint).into());
    }
    let begun = client.begin_shreddable(&args.collection).await?;
    let (output, name) = (session.output(), args.collection.as_str());
    if output.is_json() {
        output.json(&json!({ "v": 1, "collection": name, "class": "shreddable", "begun": begun }))?;
    } else if begun {
        output.note(format_args!("xv://{name} is there, and shreddable"));
    } else {
        output.note(format_args!("xv://{name} was there already, and is shreddable"));
    }
    Ok(Exit::Ok)
}
