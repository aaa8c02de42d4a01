//! `xvault devnet`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::node::signals;
use crate::cli::session::Session;
use crate::roles::{Devnet, DevnetConfig};
use crate::stripe::placement::survived_losses;
use crate::types::Code;

/// Run a whole network on this machine, to try things out.
///
/// All nodes run in this process, listen on loopback only, and keep their data in one folder. Ctrl-C
/// stops it; the next start goes on with the same data.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the network's data [default: devnet in the home folder].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Storage nodes of a new devnet [default: 6].
    #[arg(long, value_name = "N")]
    nodes: Option<NonZeroUsize>,
    /// Erasure code of a new devnet: data and parity shards [default: 4+2].
    #[arg(long, value_name = "K+M")]
    code: Option<Code>,
    /// Static nodes of a new devnet; 0 for a network without a ledger [default: 4].
    #[arg(long, value_name = "N")]
    statics: Option<usize>,
    /// UDP port of the first node of a new devnet; the others follow [default: free ones]. Each static node serves its log on
    /// the TCP port of the same number.
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<Exit> {
    let dir = match args.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => session.devnet_dir(),
    };
    let config = DevnetConfig {
        dir,
        nodes: args.nodes.map(NonZeroUsize::get),
        code: args.code,
        statics: args.statics,
        base_port: args.base_port,
    };
    session.run(async {
        let (mut interrupt, mut terminate) = signals()?;
        let devnet = Devnet::start(config).await?;
        announce(session, &devnet)?;
        let failure = tokio::select! {
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
            failure = devnet.static_failure() => Some(failure),
        };
        session.output().note("stopping; the data stay");
        devnet.stop().await;
        failure.map_or(Ok(Exit::Ok), |failure| Err(Failure::new(Exit::Failed, failure).into()))
    })
}

fn announce(session: &Session, devnet: &Devnet) -> anyhow::Result<()> {
    let output = session.output();
    let (network, file) = (devnet.network(), devnet.network_file());
    let (nodes, survives) = (network.nodes.len(), survived_losses(network.code, network.nodes.len()));
    if survives < network.code.m() {
        output.warn(format_args!(
            "with code {} on {nodes} nodes, records survive the loss of {}, not of {}: that takes {} nodes",
            network.code,
            format::count(survives as u64, "node"),
            network.code.m(),
            network.code.total(),
        ));
    }
    if output.is_json() {
        output.json(&json!({
            "message_type": "ready", "v": 1, "network_file": file, "nodes": network.nodes.len(),
            "statics": devnet.statics().len(), "code": network.code.to_string(), "survives_nodes": survives,
        }))?;
        output.finish()?;
        return Ok(());
    }
    let program =
        std::env::current_exe().map_or_else(|_| "xvault".into(), |path| quote(&path.to_string_lossy()));
    output.line(format_args!(
        "devnet   {} static and {} storage nodes on loopback, code {}",
        devnet.statics().len(),
        network.nodes.len(),
        network.code
    ))?;
    output.line(format_args!("data     {}", file.parent().unwrap_or(file).display()))?;
    output.line("")?;
    output.line("In a second terminal:")?;
    output.line("")?;
    output.line(format_args!("  alias xvault={program}"))?;
    if let Some(home) = session.unusual_home() {
        output.line(format_args!("  export XVAULT_HOME={}", quote(&home.to_string_lossy())))?;
    }
    if *file != session.devnet_dir().join(crate::roles::devnet::NETWORK_FILE) {
        output.line(format_args!("  export XVAULT_NETWORK={}", quote(&file.to_string_lossy())))?;
    }
    if !session.keystore_path().exists() {
        output.line("  xvault key new")?;
    }
    output.line("  echo 'hello' | xvault put - xv://try/hello.txt")?;
    output.line("  xvault cat xv://try/hello.txt")?;
    output.line("  xvault ls -l xv://try/")?;
    output.line("  xvault doctor")?;
    output.line("")?;
    output.line("Ctrl-C stops the devnet; its data stay.")?;
    output.finish()?;
    Ok(())
}

/// A word as a shell reads it.
pub(crate) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_quoted_path_is_one_word() {
        assert_eq!(quote("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quote("/a b/it's"), r"'/a b/it'\''s'");
    }
}
