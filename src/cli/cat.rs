//! `xvault cat`

use crate::cli::address;
use crate::cli::exit::Exit;
use crate::cli::parse::parse_grant;
use crate::cli::session::Session;
use crate::client::access::Shared;
use crate::client::{ByteRange, Client, GetOptions, Progress, RecordAddress};
use crate::types::{GrantId, VersionId};

/// Write a record to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The records, one after the other.
    #[arg(required = true, value_parser = address::record, value_name = "XV://COLLECTION/NAME")]
    records: Vec<RecordAddress>,
    /// Only these bytes: FIRST-LAST, FIRST- or -COUNT.
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    range: Option<ByteRange>,
    /// This version instead of the latest.
    #[arg(long, value_name = "ID", conflicts_with = "grant")]
    version: Option<VersionId>,
    /// Of what this grant lets be read, which `xvault access accept` accepted. Each record that is read is an opening: it
    /// is in the owner's log, and counts for the grant's quota.
    #[arg(long, value_name = "GRANT", value_parser = parse_grant)]
    pub(crate) grant: Option<GrantId>,
}

pub(crate) async fn run_shared(session: &Session, shared: &Shared, args: Args) -> anyhow::Result<Exit> {
    for record in &args.records {
        let found = shared.find(record).await?;
        let options = GetOptions { range: args.range, ..GetOptions::default() };
        let mut download = shared.get(&found, options).await?;
        while let Some(bytes) = download.next().await? {
            session.output().bytes(&bytes)?;
        }
    }
    Ok(Exit::Ok)
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    for record in &args.records {
        let options = GetOptions { version: args.version, range: args.range, progress: Progress::none() };
        let mut download = client.get(record, options).await?;
        while let Some(bytes) = download.next().await? {
            session.output().bytes(&bytes)?;
        }
    }
    Ok(Exit::Ok)
}
