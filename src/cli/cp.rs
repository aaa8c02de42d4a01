//! `xvault cp`

use crate::cli::address;
use crate::cli::exit::Exit;
use crate::cli::format::RecordJson;
use crate::cli::session::Session;
use crate::client::{Client, RecordAddress};
use crate::types::{RecordPath, VersionId};

/// Copy a record within the vault; within a collection no bytes are moved.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The record.
    #[arg(value_parser = address::record, value_name = "XV://COLLECTION/NAME")]
    from: RecordAddress,
    /// Its new name; with a slash at the end, the folder to copy it into.
    #[arg(value_parser = address::path, value_name = "XV://COLLECTION/NAME")]
    to: RecordPath,
    /// This version instead of the latest.
    #[arg(long, value_name = "ID")]
    version: Option<VersionId>,
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    let mut to = args.to;
    if to.rest.is_empty() || to.rest.ends_with('/') {
        to.rest.push_str(address::base_name(args.from.name.as_str()).unwrap_or(args.from.name.as_str()));
    }
    let to = RecordAddress { name: to.record_name()?, collection: to.collection };
    let made = client.copy(&args.from, args.version, &to).await?;
    if let Err(error) = client.join_scopes(Some(std::slice::from_ref(&to))).await {
        let what = "those who were let in do not see it yet, `xvault sync` tries again";
        session.output().warn(format_args!("{what}: {error}"));
    }
    if session.output().is_json() {
        session.output().json(&RecordJson::new(&to.collection, &made))?;
    } else {
        session.output().note(format_args!("copied to {}", crate::cli::output::escape(&to.to_string())));
    }
    Ok(Exit::Ok)
}
