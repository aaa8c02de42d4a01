//! `xvault versions`

use crate::cli::address;
use crate::cli::exit::Exit;
use crate::cli::format::{self, RecordJson};
use crate::cli::session::Session;
use crate::client::{Client, RecordAddress};

/// List the versions of a record, the newest first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The record.
    #[arg(value_parser = address::record, value_name = "XV://COLLECTION/NAME")]
    record: RecordAddress,
}

pub(crate) async fn run(session: &Session, client: &Client, args: Args) -> anyhow::Result<Exit> {
    let output = session.output();
    for info in client.versions(&args.record).await? {
        if output.is_json() {
            output.json(&RecordJson::new(&args.record.collection, &info))?;
            continue;
        }
        let size = if info.deleted { "removed".to_owned() } else { format::size(info.size) };
        output.line(format_args!("{}  {}  {size:>12}", info.version, format::time(info.created)))?;
    }
    Ok(Exit::Ok)
}
