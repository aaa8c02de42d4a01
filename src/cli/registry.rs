//! `xvault node register`, `update`, `retire`: storage nodes on the ledger.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::node::advertised;
use crate::cli::output::{Output, escape};
use crate::cli::session::Session;
use crate::client::{Error, ErrorKind, LedgerClient};
use crate::crypto::sign::KeyPair;
use crate::ledger::rows::Node;
use crate::message::{Action, Canonical as _, NodeEntry, NodeNumber, Rejection, Sponsorship};
use crate::roles::storage_node::{Described, NodeFolder};
use crate::types::PublicKey;

/// What a storage node says of itself on the ledger.
#[derive(Debug, clap::Args)]
pub(crate) struct Entry {
    /// The node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What people call the node [default: as in its folder].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Address and UDP port by which clients reach it [default: as in its folder].
    #[arg(long, value_name = "ADDRESS:PORT")]
    advertise: Option<SocketAddr>,
    /// Who runs it: nodes of one operator are taken to fail together [default: as in its folder].
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Where it stands: nodes of one site are taken to fail together [default: as in its folder].
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
}

/// Arguments of `node register`.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    #[command(flatten)]
    entry: Entry,
    /// What `node sponsor` printed for the node, where the network asks for a sponsor.
    #[arg(long, value_name = "LINE")]
    sponsorship: Option<String>,
}

/// Arguments of `node sponsor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sponsor {
    /// The public key of the storage node.
    #[arg(value_name = "KEY")]
    node: PublicKey,
    /// The folder of the static node or storage node whose key is a sponsor's.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Arguments of `node retire`.
#[derive(Debug, clap::Args)]
pub(crate) struct Retire {
    /// The node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Yes, for good: a node that retired does not come back, and its number is not given out again.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn sponsor(session: &Session, args: &Sponsor) -> anyhow::Result<Exit> {
    let folder = NodeFolder::open(&args.dir)?;
    print_sponsorship(
        session,
        &args.dir,
        &folder,
        (&args.node, args.node.as_bytes()),
        "Give this line to the node's operator, for `xvault node register --sponsorship`:",
    )
}

/// Signs for an author and the 32 bytes of its node or vault.
pub(crate) fn print_sponsorship(
    session: &Session,
    dir: &Path,
    folder: &NodeFolder,
    (author, subject): (&PublicKey, &[u8; 32]),
    what_to_do: &str,
) -> anyhow::Result<Exit> {
    let network = session.ledger(Some(dir))?.genesis().network;
    let signed = Sponsorship::sign(&network, &folder.key, author, subject);
    let line = data_encoding::BASE64.encode(&signed.encode());
    let output = session.output();
    if output.is_json() {
        output.json(&json!({ "v": 1, "sponsorship": line, "sponsor": signed.sponsor.to_string() }))?;
    } else {
        output.note(what_to_do);
        output.line(line)?;
    }
    Ok(Exit::Ok)
}

pub(crate) fn register(session: &Session, args: &Register) -> anyhow::Result<Exit> {
    let folder = described(&args.entry)?;
    let key = folder.key.public();
    let maker = || maker(&key);
    let sponsor = args.sponsorship.as_deref().map(|line| read_sponsorship(line, maker)).transpose()?;
    session.with_ledger(async |ledger| {
        let output = session.output();
        if let Some(sponsorship) = &sponsor
            && sponsorship.verify(&ledger.genesis().network, &key, key.as_bytes()).is_err()
        {
            let message = "the sponsorship is for another node, or of another network";
            return Err(Failure::usage(message.to_owned())
                .hint(format!("have one made with {}", maker()))
                .into());
        }
        if let Some((number, node)) = find(ledger, &folder.key).await? {
            let message = format!("the node is number {number} of the ledger since block {}", node.since);
            let hint = match node.retired {
                Some(_) => "it retired, and comes back only as a new node: see `xvault node init`",
                None => "`xvault node update` changes what it says of itself",
            };
            return Err(Failure::new(Exit::Refused, message).hint(hint).into());
        }
        act(output, ledger, &folder, Action::RegisterNode { node: entry(&folder)?, sponsor }, |_| true)
            .await?;
        folder.save()?;
        Ok(Exit::Ok)
    })
}

pub(crate) fn update(session: &Session, args: &Entry) -> anyhow::Result<Exit> {
    let folder = described(args)?;
    session.with_ledger(async |ledger| {
        let (number, known) = active(ledger, &folder).await?;
        let (output, entry) = (session.output(), entry(&folder)?);
        if known.entry != entry {
            let action = Action::UpdateNode(entry.clone());
            act(output, ledger, &folder, action, |node| node.entry == entry).await?;
        } else if output.is_json() {
            show(output, number, &known)?;
        } else {
            output.note("the ledger says so already");
        }
        folder.save()?;
        Ok(Exit::Ok)
    })
}

pub(crate) fn retire(session: &Session, args: &Retire) -> anyhow::Result<Exit> {
    let folder = NodeFolder::open(&args.dir)?;
    if !args.yes {
        let message = "a storage node that retires takes no new shards and does not come back";
        return Err(Failure::usage(message.to_owned()).hint("say --yes if that is meant").into());
    }
    session.with_ledger(async |ledger| {
        active(ledger, &folder).await?;
        act(session.output(), ledger, &folder, Action::RetireNode, |node| node.retired.is_some()).await?;
        Ok(Exit::Ok)
    })
}

/// Brings the ledger to say what the node's folder says: registers the node, or changes its entry.
///
/// # Errors
/// [`ErrorKind::Refused`] if it will not; any other error may pass.
pub(crate) async fn ensure(
    ledger: &LedgerClient,
    folder: &NodeFolder,
) -> Result<Option<&'static str>, Error> {
    let entry = entry(folder).map_err(|failure| Error::new(ErrorKind::Refused, failure.to_string()))?;
    let (action, done) = match find(ledger, &folder.key).await? {
        None => (Action::RegisterNode { node: entry, sponsor: None }, "registered on the ledger"),
        Some((_, node)) if node.retired.is_some() => {
            return Err(Error::new(ErrorKind::Refused, "the node retired: clients store nothing new on it"));
        }
        Some((_, node)) if node.entry == entry => return Ok(None),
        Some(_) => (Action::UpdateNode(entry), "the ledger has its new entry"),
    };
    ledger.carry_out(&folder.key, action, &|_| {}).await?;
    Ok(Some(done))
}

/// Whether a refusal may pass: a sponsor lets the node in, its operator registers it, or the next epoch comes.
pub(crate) fn may_pass(error: &Error) -> bool {
    let lasts = [Rejection::NoSuchNode, Rejection::TooManyNodes];
    error.rejection().is_some_and(|rejection| !lasts.contains(rejection))
}

/// What the operator of a node that runs can do about a refusal, as the end of a sentence; nothing where that is not known.
pub(crate) fn remedy(error: &Error, folder: &NodeFolder) -> String {
    match error.rejection() {
        Some(
            Rejection::NotSponsored | Rejection::SponsorExhausted { .. } | Rejection::AdmissionFull { .. },
        ) => {
            let (key, dir) = (folder.key.public(), folder.dir.display());
            format!(
                "; a sponsor lets it in with {}, then `xvault node register --dir {dir} --sponsorship LINE` registers it, \
                 also while it runs",
                maker(&key)
            )
        }
        _ => error.hint().map(|hint| format!("; {hint}")).unwrap_or_default(),
    }
}

/// The command that a sponsor gives.
fn maker(key: &PublicKey) -> String {
    format!("`xvault node sponsor {key} --dir DIR`, DIR being the folder of a node whose key is a sponsor's")
}

/// The folder with what the arguments say in place of what it says.
fn described(args: &Entry) -> anyhow::Result<NodeFolder> {
    let mut folder = NodeFolder::open(&args.dir)?;
    folder.name = args.name.clone().unwrap_or(folder.name);
    let known = folder.described.take();
    let operator = args.operator.clone().or_else(|| known.as_ref().map(|known| known.operator.clone()));
    let operator = operator.ok_or_else(|| {
        Failure::usage("the node's folder does not say who runs it".to_owned()).hint("say it with --operator")
    })?;
    let site = args.site.clone().or_else(|| known.as_ref().map(|known| known.site.clone()));
    let advertise = args.advertise.or_else(|| known.map(|known| known.address));
    let address = advertised(folder.listen, advertise)?;
    folder.described = Some(Described { operator, site: site.unwrap_or_default(), address });
    Ok(folder)
}

/// What the ledger is to say of a node.
fn entry(folder: &NodeFolder) -> Result<NodeEntry, Failure> {
    let Some(Described { operator, site, address }) = folder.described.clone() else {
        let message = "the node's folder does not say who runs it and where it is reached";
        return Err(Failure::usage(message.to_owned())
            .hint("register it once with `xvault node register --operator … --advertise …`"));
    };
    if site.is_empty() {
        let message = "the node's folder does not say where it stands, which the ledger asks for";
        return Err(Failure::usage(message.to_owned()).hint("say it with `xvault node register --site …`"));
    }
    checked(NodeEntry { label: folder.name.clone(), operator, site, address })
}

/// Refuses an entry that the ledger would not take.
pub(crate) fn checked(entry: NodeEntry) -> Result<NodeEntry, Failure> {
    match NodeEntry::decode(&entry.encode()) {
        Ok(entry) => Ok(entry),
        Err(_) => Err(Failure::usage(
            "name, operator and site take 1 to 63 letters, digits and . _ - : only".to_owned(),
        )),
    }
}

/// Reads the line that a sponsor's command prints, which `maker` names.
pub(crate) fn read_sponsorship(line: &str, maker: impl Fn() -> String) -> Result<Sponsorship, Failure> {
    let bytes = data_encoding::BASE64.decode(line.trim().as_bytes()).unwrap_or_default();
    Sponsorship::decode(&bytes).map_err(|_| {
        Failure::usage("this is not the line that a sponsor's command prints".to_owned())
            .hint(format!("a sponsor makes it with {}", maker()))
    })
}

async fn act(
    output: &Output,
    ledger: &LedgerClient,
    folder: &NodeFolder,
    action: Action,
    is_done: impl Fn(&Node) -> bool,
) -> anyhow::Result<()> {
    let warner = output.warner();
    ledger.carry_out(&folder.key, action, &|notice| warner.warn(notice)).await?;
    let (number, node) = loop {
        // Whoever is asked may be a block behind.
        match find(ledger, &folder.key).await? {
            Some((number, node)) if is_done(&node) => break (number, node),
            _ => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    };
    show(output, number, &node)
}

fn show(output: &Output, number: NodeNumber, node: &Node) -> anyhow::Result<()> {
    let Node { key, entry, since, retired } = node;
    if output.is_json() {
        output.json(&json!({
            "name": entry.label, "key": key.to_string(), "address": entry.address, "operator": entry.operator,
            "site": entry.site, "number": number.0, "since": since.0, "retired": retired.map(|height| height.0),
        }))?;
    } else {
        let (name, state) = (escape(&entry.label), state(node));
        output.line(format_args!("{name} at {} is number {number}, {state}", entry.address))?;
    }
    Ok(())
}

/// Since when a node is on the ledger, and until when it was.
pub(crate) fn state(node: &Node) -> String {
    match node.retired {
        None => format!("since block {}", node.since),
        Some(retired) => format!("retired in block {retired}"),
    }
}

async fn active(ledger: &LedgerClient, folder: &NodeFolder) -> anyhow::Result<(NodeNumber, Node)> {
    let (message, hint) = match find(ledger, &folder.key).await? {
        None => ("the ledger does not know the node".to_owned(), "`xvault node register` registers it"),
        Some((number, node)) if node.retired.is_some() => {
            (format!("node {number} is {}", state(&node)), "a node that retired does not come back")
        }
        Some(known) => return Ok(known),
    };
    Err(Failure::new(Exit::Refused, message).hint(hint).into())
}

async fn find(ledger: &LedgerClient, key: &KeyPair) -> Result<Option<(NodeNumber, Node)>, Error> {
    let key = key.public();
    Ok(ledger.nodes().await?.into_iter().find(|(_, node)| node.key == key))
}
