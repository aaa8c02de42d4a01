//! The genesis: what all nodes of a network agree on before there is a block.

use crate::crypto::hash::{Context, derive_key};
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::message::governance::SponsorTerms;
use crate::message::member::Roster;
use crate::message::transaction::NodeEntry;
use crate::message::{Violation, base64_lines};
use crate::types::limits::{MAX_GENESIS_NODES, MAX_GENESIS_SPONSORS};
use crate::types::{BlockId, Code, NetworkId, PublicKey, Timestamp};

/// First line of a genesis file.
const FILE_HEADER: &str = "xvault genesis v1";

/// Who may create vaults and register storage nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Anybody, up to [`Params::open_entries`] an epoch.
    Open,
    /// Whom a sponsor vouches for.
    Sponsored,
}

/// The numbers of a network. Blocks, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// An epoch: quotas begin anew with it.
    pub epoch: u32,
    /// Ledger bytes an epoch of a vault without a sponsor.
    pub vault_bytes: u64,
    /// Ledger bytes an epoch of an author, for what belongs to no vault.
    pub author_bytes: u64,
    /// Vaults and storage nodes together that may come in an epoch without a sponsor.
    pub open_entries: u32,
    /// A static node's presence is judged over this many.
    pub window: u32,
    /// Blocks of a window that a static node may miss, in percent; more is a fault. High, because a slow
    /// honest node is the last to sign, and is left out by a fast proposer.
    pub missed_percent: u8,
    /// A warned static node has this long to answer.
    pub correction: u32,
    /// A static node that answered is watched this long.
    pub probation: u32,
    /// Evidence is taken for this long.
    pub evidence: u32,
}

impl Params {
    /// For a network that does not choose: at a block a second an epoch is an hour, a node has a day to
    /// answer and a week of probation. The state remembers blocks for as long as evidence is taken.
    pub const DEFAULT: Self = Self {
        epoch: 3_600,
        vault_bytes: 4 << 20,
        author_bytes: 1 << 20,
        open_entries: 1_000,
        window: 600,
        missed_percent: 95,
        correction: 86_400,
        probation: 604_800,
        evidence: 86_400,
    };
}

/// A storage node that is there from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisNode {
    /// Its identity.
    pub key: PublicKey,
    /// Its entry.
    pub entry: NodeEntry,
}

/// What all nodes of a network agree on before there is a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// Random name of the network.
    pub network: NetworkId,
    /// When it was made; the first block is later.
    pub time: Timestamp,
    /// The erasure code of new segments.
    pub code: Code,
    /// Who may come in.
    pub admission: Admission,
    /// The numbers.
    pub params: Params,
    /// The first static nodes.
    pub roster: Roster,
    /// The first storage nodes, numbered in this order from 0.
    pub nodes: Vec<GenesisNode>,
    /// The first sponsors.
    pub sponsors: Vec<SponsorTerms>,
}

impl Genesis {
    /// What the first block calls its previous.
    #[must_use]
    pub fn id(&self) -> BlockId {
        let mut id = [0; 32];
        derive_key(Context::Genesis, &[&self.encode()], &mut id);
        BlockId(id)
    }

    /// The genesis file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{FILE_HEADER}\n");
        base64_lines::write(&self.encode(), &mut text);
        text
    }

    /// Reads a genesis file: exactly what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// [`Violation`] says what is wrong.
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        let body = text.strip_prefix(FILE_HEADER).ok_or(Violation::Malformed)?;
        let genesis = Self::decode(&base64_lines::read(body)?)?;
        if genesis.to_text() == text { Ok(genesis) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for Admission {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(match self {
            Self::Open => 1,
            Self::Sponsored => 2,
        });
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        match u8::read(from)? {
            1 => Ok(Self::Open),
            2 => Ok(Self::Sponsored),
            _ => Err(Violation::Malformed),
        }
    }
}

impl Canonical for Params {
    fn write(&self, to: &mut Vec<u8>) {
        self.epoch.write(to);
        self.vault_bytes.write(to);
        self.author_bytes.write(to);
        self.open_entries.write(to);
        self.window.write(to);
        self.missed_percent.write(to);
        self.correction.write(to);
        self.probation.write(to);
        self.evidence.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            epoch: Canonical::read(from)?,
            vault_bytes: Canonical::read(from)?,
            author_bytes: Canonical::read(from)?,
            open_entries: Canonical::read(from)?,
            window: Canonical::read(from)?,
            missed_percent: Canonical::read(from)?,
            correction: Canonical::read(from)?,
            probation: Canonical::read(from)?,
            evidence: Canonical::read(from)?,
        };
        let are_positive = [found.epoch, found.window, found.correction, found.probation, found.evidence];
        let fits = found.missed_percent <= 100 && !are_positive.contains(&0);
        if fits { Ok(found) } else { Err(Violation::OutOfBounds) }
    }
}

impl Canonical for GenesisNode {
    fn write(&self, to: &mut Vec<u8>) {
        self.key.write(to);
        self.entry.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { key: Canonical::read(from)?, entry: Canonical::read(from)? })
    }
}

impl Canonical for Genesis {
    fn write(&self, to: &mut Vec<u8>) {
        self.network.write(to);
        self.time.write(to);
        self.code.write(to);
        self.admission.write(to);
        self.params.write(to);
        self.roster.write(to);
        write_list(&self.nodes, to);
        write_list(&self.sponsors, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            network: Canonical::read(from)?,
            time: Canonical::read(from)?,
            code: Canonical::read(from)?,
            admission: Canonical::read(from)?,
            params: Canonical::read(from)?,
            roster: Canonical::read(from)?,
            nodes: read_list(from, MAX_GENESIS_NODES)?,
            sponsors: read_list(from, MAX_GENESIS_SPONSORS)?,
        };
        let mut keys: Vec<PublicKey> = found.nodes.iter().map(|node| node.key).collect();
        keys.sort_unstable();
        let is_unique = keys.is_sorted_by(|one, next| one < next)
            && found.sponsors.is_sorted_by(|one, next| one.sponsor < next.sponsor);
        if is_unique { Ok(found) } else { Err(Violation::Malformed) }
    }
}
