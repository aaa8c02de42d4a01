//! A whole network in one process, on loopback, with all its data in one folder: to try things out.

use std::fs::{File, TryLockError};
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;

use crate::consensus::Timing;
use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::message::genesis::GenesisNode;
use crate::message::{Admission, Genesis, Member, NodeEntry, Params, Roster, Violation};
use crate::roles::static_node::{StaticConfig, StaticError, StaticNode};
use crate::roles::storage_node::{
    Described, NodeConfig, NodeError, NodeFolder, NodeFolderError, StorageNode,
};
use crate::runtime::wall_time;
use crate::types::limits::SNAPSHOT_GAP;
use crate::types::network::NetworkFileError;
use crate::types::{Code, Network, NetworkId, NodeInfo};

/// The file that describes the network, in the devnet's folder.
pub const NETWORK_FILE: &str = "network.toml";
const LOCK_FILE: &str = "lock";
/// Static nodes of a devnet: the fewest that tolerate a fault.
const DEFAULT_STATICS: usize = 4;

/// What devnet to run.
#[derive(Debug, Clone)]
pub struct DevnetConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// Storage nodes; those of an existing devnet if not said, else six.
    pub nodes: Option<usize>,
    /// Erasure code; that of an existing devnet if not said, else 4+2.
    pub code: Option<Code>,
    /// Static nodes of a new devnet, four if not said; none for a network without a ledger.
    pub statics: Option<usize>,
    /// Port of the first node, the others follow; free ones if not said.
    pub base_port: Option<u16>,
}

/// Why a devnet does not start.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// It runs already.
    #[error("a devnet is already running in {}", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds another devnet.
    #[error("the devnet in {} has {nodes} nodes and code {code}", dir.display())]
    Other {
        /// The folder.
        dir: PathBuf,
        /// Nodes that it has.
        nodes: usize,
        /// Code that it has.
        code: Code,
    },
    /// A segment would not survive the loss of a node.
    #[error("{nodes} nodes are too few for code {code}: at least {need} are needed")]
    TooFewNodes {
        /// Nodes asked for.
        nodes: usize,
        /// Code asked for.
        code: Code,
        /// Nodes that suffice.
        need: usize,
    },
    /// The network file makes no sense.
    #[error("cannot read {}", path.display())]
    NetworkFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: NetworkFileError,
    },
    /// The operating system says no.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// No free port.
    #[error("no free port on loopback")]
    Port(#[source] io::Error),
    /// No randomness for keys.
    #[error("the system gives no random bytes")]
    Entropy(#[source] getrandom::Error),
    /// A node's folder cannot be used.
    #[error(transparent)]
    Folder(#[from] NodeFolderError),
    /// A node does not start.
    #[error("{name} does not start")]
    Node {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: NodeError,
    },
    /// A static node does not start.
    #[error("{name} does not start")]
    Static {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: StaticError,
    },
    /// The static nodes make no committee, or the genesis is damaged.
    #[error("the devnet's genesis makes no sense")]
    Genesis(#[source] Violation),
}

/// A devnet that runs.
#[derive(Debug)]
pub struct Devnet {
    network: Network,
    network_file: PathBuf,
    nodes: Vec<StorageNode>,
    statics: Vec<StaticNode>,
    /// Freed when the process ends, however it ends.
    _lock: File,
}

impl Devnet {
    /// Starts the devnet of a folder, which is made if need be. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`DevnetError`] says what is in the way.
    pub async fn start(config: DevnetConfig) -> Result<Self, DevnetError> {
        std::fs::create_dir_all(&config.dir).map_err(io_error(&config.dir))?;
        let lock = lock(&config.dir)?;
        let network_file = config.dir.join(NETWORK_FILE);
        let network = match std::fs::read_to_string(&network_file) {
            Ok(text) => existing(&config, &network_file, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&config, &network_file)?,
            Err(error) => return Err(io_error(&network_file)(error)),
        };
        let genesis = network.genesis.as_ref().map(|text| Genesis::from_text(text)).transpose();
        let genesis = genesis.map_err(DevnetError::Genesis)?.map(Arc::new);
        // First, so that the storage nodes find whom they follow.
        let statics = start_statics(&config.dir, genesis.as_ref()).await?;
        let mut nodes = Vec::new();
        for info in &network.nodes {
            let folder = NodeFolder::open(&config.dir.join(&info.name))?;
            let node = StorageNode::start(NodeConfig::new(folder, genesis.clone())).await;
            nodes.push(node.map_err(|source| DevnetError::Node { name: info.name.clone(), source })?);
        }
        Ok(Self { network, network_file, nodes, statics, _lock: lock })
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// The file that describes it.
    #[must_use]
    pub fn network_file(&self) -> &Path {
        &self.network_file
    }

    /// Stops all nodes; their data stay.
    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
        for node in self.statics {
            node.stop().await;
        }
    }

    /// The static nodes.
    #[must_use]
    pub fn statics(&self) -> &[StaticNode] {
        &self.statics
    }

    /// Waits until a static node must stop by itself, and says which and why.
    pub async fn static_failure(&self) -> String {
        let mut waits: Vec<_> = self.statics.iter().map(|node| Box::pin(node.failed())).collect();
        let (at, reason) = poll_fn(|cx| {
            for (at, wait) in waits.iter_mut().enumerate() {
                if let Poll::Ready(reason) = wait.as_mut().poll(cx) {
                    return Poll::Ready((at, reason));
                }
            }
            Poll::Pending
        })
        .await;
        format!("static node {} must stop: {reason}", self.statics[at].public_key().short())
    }
}

/// Starts the static nodes of the network's genesis, if it has one.
async fn start_statics(dir: &Path, genesis: Option<&Arc<Genesis>>) -> Result<Vec<StaticNode>, DevnetError> {
    let Some(genesis) = genesis else { return Ok(Vec::new()) };
    let mut statics = Vec::new();
    for member in genesis.roster.members() {
        let folder = NodeFolder::open(&dir.join(&member.label))?;
        let config = StaticConfig {
            dir: folder.dir,
            listen: folder.listen,
            // A program that took the port meanwhile keeps nobody from the rest of the devnet.
            http: folder.http.filter(|address| TcpListener::bind(address).is_ok()),
            genesis: Arc::clone(genesis),
            key: folder.key,
            timing: Timing::default(),
            snapshot_gap: SNAPSHOT_GAP,
        };
        let started = StaticNode::start(config).await;
        statics.push(started.map_err(|source| DevnetError::Static { name: member.label.clone(), source })?);
    }
    Ok(statics)
}

fn lock(dir: &Path) -> Result<File, DevnetError> {
    let path = dir.join(LOCK_FILE);
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DevnetError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error(&path)(error)),
    }
}

fn existing(config: &DevnetConfig, path: &Path, text: &str) -> Result<Network, DevnetError> {
    let network = Network::from_toml(text)
        .map_err(|source| DevnetError::NetworkFile { path: path.to_owned(), source })?;
    let nodes = network.nodes.len();
    let same = config.nodes.is_none_or(|asked| asked == nodes)
        && config.code.is_none_or(|asked| asked == network.code);
    if !same {
        return Err(DevnetError::Other { dir: config.dir.clone(), nodes, code: network.code });
    }
    Ok(network)
}

/// Makes the nodes' folders and then the network file: without it there is no devnet yet.
fn create(config: &DevnetConfig, path: &Path) -> Result<Network, DevnetError> {
    let (nodes, code) = (config.nodes.unwrap_or(6), config.code.unwrap_or(Code::DEFAULT));
    // A node may hold m shards, and the loss of any one must leave k.
    let need = code.total().div_ceil(code.m());
    if nodes < need {
        return Err(DevnetError::TooFewNodes { nodes, code, need });
    }
    let id = NetworkId(random()?);
    let statics = config.statics.unwrap_or(DEFAULT_STATICS);
    let addresses = ports(nodes + statics, config.base_port)?;
    let (of_nodes, of_statics) = addresses.split_at(nodes);
    let number = |(at, address): (usize, &SocketAddr)| (at + 1, *address);
    let infos: Vec<NodeInfo> = of_nodes
        .iter()
        .enumerate()
        .map(number)
        .map(|(number, address)| create_node(config, id, number, address))
        .collect::<Result<_, _>>()?;
    let members: Vec<Member> = of_statics
        .iter()
        .enumerate()
        .map(number)
        .map(|(number, address)| create_static(config, id, number, address))
        .collect::<Result<_, _>>()?;
    let genesis = if members.is_empty() { None } else { Some(genesis(id, code, members, &infos)?.to_text()) };
    let network = Network { id, code, genesis, nodes: infos };
    write_durably(path, network.to_toml().as_bytes()).map_err(io_error(path))?;
    Ok(network)
}

fn create_node(
    config: &DevnetConfig,
    network: NetworkId,
    number: usize,
    address: SocketAddr,
) -> Result<NodeInfo, DevnetError> {
    let name = format!("node-{number}");
    let dir = config.dir.join(&name);
    // Left over from a start that did not get as far as the network file; but never touch data.
    if dir.exists() && !dir.join("store").exists() {
        std::fs::remove_dir_all(&dir).map_err(io_error(&dir))?;
    }
    let key = KeyPair::from_secret(&random()?);
    let info = NodeInfo {
        name: name.clone(),
        key: key.public(),
        address,
        operator: format!("devnet-{number}"),
        site: "loopback".into(),
    };
    let described =
        Described { operator: info.operator.clone(), site: info.site.clone(), address: info.address };
    let described = Some(described);
    NodeFolder { dir, name, network, listen: address, http: None, key, described }.create()?;
    Ok(info)
}

/// Makes a static node's folder.
fn create_static(
    config: &DevnetConfig,
    network: NetworkId,
    number: usize,
    address: SocketAddr,
) -> Result<Member, DevnetError> {
    let name = format!("static-{number}");
    let dir = config.dir.join(&name);
    // Left over from a start that did not get as far as the network file; but never touch a ledger.
    if dir.exists() && !dir.join("ledger").exists() {
        std::fs::remove_dir_all(&dir).map_err(io_error(&dir))?;
    }
    let key = KeyPair::from_secret(&random()?);
    let pq_key = Box::new(*PqKeyPair::from_node_secret(&key.secret()).public());
    let member = Member {
        key: key.public(),
        pq_key,
        label: name.clone(),
        operator: format!("devnet-static-{number}"),
        address,
    };
    // One number for both: QUIC is UDP.
    let http = Some(address);
    NodeFolder { dir, name, network, listen: address, http, key, described: None }.create()?;
    Ok(member)
}

fn genesis(
    network: NetworkId,
    code: Code,
    members: Vec<Member>,
    nodes: &[NodeInfo],
) -> Result<Genesis, DevnetError> {
    let entry = |info: &NodeInfo| GenesisNode {
        key: info.key,
        entry: NodeEntry {
            label: info.name.clone(),
            operator: info.operator.clone(),
            site: info.site.clone(),
            address: info.address,
        },
    };
    Ok(Genesis {
        network,
        time: wall_time(),
        code,
        admission: Admission::Open,
        // One user's network: it may fill its own ledger.
        params: Params { vault_bytes: 256 << 20, ..Params::DEFAULT },
        roster: Roster::new(members).map_err(DevnetError::Genesis)?,
        nodes: nodes.iter().map(entry).collect(),
        sponsors: Vec::new(),
    })
}

/// Loopback addresses: from `base_port` on, or free ones.
fn ports(count: usize, base_port: Option<u16>) -> Result<Vec<SocketAddr>, DevnetError> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Some(base) = base_port {
        let too_high =
            || DevnetError::Port(io::Error::other(format!("{base} and {count} more pass port 65535")));
        let last =
            u16::try_from(count).ok().and_then(|count| base.checked_add(count)).ok_or_else(too_high)?;
        return Ok((base..last).map(address).collect());
    }
    free_ports(count).map(|ports| ports.map(address).collect()).map_err(DevnetError::Port)
}

/// Ports that no system gives to clients by itself: while the devnet is down nobody takes its ports by chance.
const PORTS: Range<u16> = 10_000..32_000;
/// How many places are looked at.
const PORT_TRIES: usize = 100;

/// Ports in a row that are free on loopback, for UDP and for TCP. Rows begin at multiples of their length, so that devnets of
/// one size share all of their ports or none.
fn free_ports(count: usize) -> io::Result<Range<u16>> {
    let row = u16::try_from(count.next_power_of_two()).unwrap_or(u16::MAX);
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let rows = (PORTS.end - PORTS.start) / row;
    if rows == 0 {
        return Err(io::Error::other(format!("there are no {count} ports in a row")));
    }
    let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        let mut random = [0; 2];
        getrandom::fill(&mut random)?;
        let first = PORTS.start + u16::from_le_bytes(random) % rows * row;
        let ports = first..first + count;
        match ports.clone().try_for_each(is_free) {
            Ok(()) => return Ok(ports),
            Err(error) => taken = error,
        }
    }
    Err(taken)
}

fn is_free(port: u16) -> io::Result<()> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

fn random() -> Result<[u8; 32], DevnetError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(DevnetError::Entropy)?;
    Ok(bytes)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DevnetError {
    let path = path.to_owned();
    move |source| DevnetError::Io { path, source }
}
