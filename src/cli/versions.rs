//! `xvault versions`

use crate::cli::address;
use crate::cli::exit::Exit;
use crate::cli::format::{self, RecordJson};
use crate::cli::output::Output;
use crate::cli::parse::parse_grant;
use crate::cli::session::Session;
use crate::client::access::Shared;
use crate::client::{Client, RecordAddress, RecordInfo};
use crate::types::{CollectionName, GrantId};

/// List the versions of a record, the newest first.
///
/// A grant lets one version of each record be seen: the newest that is in its scopes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The record.
    #[arg(value_parser = address::record, value_name = "XV://COLLECTION/NAME")]
    record: RecordAddress,
    /// Of what this grant lets be seen, which `xvault access accept` accepted.
    #[arg(long, value_name = "GRANT", value_parser = parse_grant)]
    pub(crate) grant: Option<GrantId>,
}

/// Lists the version that a grant lets be seen.
pub(crate) async fn run_shared(session: &Session, shared: &Shared, args: Args) -> anyhow::Result<Exit> {
    let info = shared.find(&args.record).await?.info();
    show(session.output(), &args.record.collection, &info)?;
    Ok(Exit::Ok)
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    for info in client.versions(&args.record).await? {
        show(session.output(), &args.record.collection, &info)?;
    }
    Ok(Exit::Ok)
}

fn show(output: &Output, collection: &CollectionName, info: &RecordInfo) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&RecordJson::new(collection, info))?;
        return Ok(());
    }
    let size = if info.deleted { "removed".to_owned() } else { format::size(info.size) };
    output.line(format_args!("{}  {}  {size:>12}", info.version, format::time(info.created)))?;
    Ok(())
}
