//! The tables of the ledger, and their rows.

pub use crate::ledger::emergency::{Clinician, Emergency, EmergencyState, OpeningRow, Veto};
pub use crate::ledger::standing::{Fault, Late, Missed, Presence, Standing, Turns};
use crate::ledger::tables::Table;
use crate::message::Violation;
use crate::message::access::{DepositPack, EntryBatch, Grant, LogHead};
use crate::message::anchor::{AnchoredShard, NodeNumber};
use crate::message::block::Header;
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::message::genesis::{Admission, Genesis, Params};
use crate::message::member::{Member, Roster};
use crate::message::transaction::NodeEntry;
use crate::types::limits::{MAX_ANCHOR_SEGMENTS, MAX_COMMITTEE, MAX_SHARDS};
use crate::types::{
    BatchId, BlockId, Code, CollectionTag, GrantId, Hash, Height, LogHash, NetworkId, NodeInfo, PublicKey,
    RecordTag, ScopeTag, SegmentId, Timestamp, TransactionId, VaultId, VersionId,
};

// Beside the state.

/// The header of the last block.
pub const TIP: Table<(), Header> = Table::new(0x01, "tip");
/// The sum whose digest is the state hash.
pub const STATE_SUM: Table<(), StateSum> = Table::new(0x02, "state sum");
/// The frontier of the log, which the header's log size and root check.
pub const FRONTIER: Table<(), Peaks> = Table::new(0x03, "log frontier");
/// Nodes of the log at every eighth level, as tiles have them: (level / 8, index).
pub const LOG_NODES: Table<(u8, u64), LogHash> = Table::new(0x04, "log node");
/// Which leaf of the log a transaction is, and in which block.
pub const PLACES: Table<TransactionId, Place> = Table::new(0x05, "place");
/// Rosters as of their first height, with all keys, for receipts and peers.
pub const ROSTERS: Table<Hash, Roster> = Table::new(0x06, "roster");
/// Heights whose block changed the roster.
pub const ROSTER_CHANGES: Table<Height, Hash> = Table::new(0x07, "roster change");
/// Blocks by the last of their leaves in the log.
pub const LAST_LEAVES: Table<u64, Height> = Table::new(0x08, "last leaf");
/// What a node that began with a snapshot has of the blocks before it; none in one that has had every block.
pub const ARCHIVE: Table<(), Archive> = Table::new(0x09, "archive");
/// Headers that came with a snapshot: of its block, and of those that changed the roster before it.
pub const PAST_HEADERS: Table<Height, Header> = Table::new(0x0a, "past header");

// The state.

/// What the genesis set once and for all.
pub const SETTINGS: Table<(), Settings> = Table::new(0x10, "settings");
/// Authors: their next nonce.
pub const AUTHORS: Table<PublicKey, Author> = Table::new(0x11, "author");
/// Vaults.
pub const VAULTS: Table<VaultId, Vault> = Table::new(0x12, "vault");
/// Keys besides the owner's that may write to a vault.
pub const WRITERS: Table<(VaultId, PublicKey), Present> = Table::new(0x13, "writer");
/// Heads of collections.
pub const HEADS: Table<(VaultId, CollectionTag), Head> = Table::new(0x14, "head");
/// Descriptors.
pub const SEGMENTS: Table<(VaultId, SegmentId), Segment> = Table::new(0x15, "segment");
/// Storage nodes by number.
pub const NODES: Table<u16, Node> = Table::new(0x16, "node");
/// Numbers of storage nodes by key.
pub const NODE_NUMBERS: Table<PublicKey, NodeNumber> = Table::new(0x17, "node number");
/// Sponsors.
pub const SPONSORS: Table<PublicKey, Sponsor> = Table::new(0x18, "sponsor");
/// Static nodes, also those that left.
pub const STATICS: Table<PublicKey, Static> = Table::new(0x19, "static node");
/// Keys of the committees by the hash of their roster, for evidence of their time.
pub const COMMITTEES: Table<Hash, Keys> = Table::new(0x1a, "committee");
/// Blocks of the time in which evidence is taken.
pub const HISTORY: Table<Height, Past> = Table::new(0x1b, "history");
/// Offences that are known: (height, (offender, (round, kind))).
pub const OFFENCES: Table<Offence, Present> = Table::new(0x1c, "offence");
/// Who accused whom: (height, (offender, accuser)).
pub const ACCUSATIONS: Table<(Height, (PublicKey, PublicKey)), Present> = Table::new(0x1d, "accusation");
/// Numbers of the whole network.
pub const COUNTERS: Table<(), Counters> = Table::new(0x1e, "counters");
/// Who signed how much of the window.
pub const PRESENCE: Table<(), Presence> = Table::new(0x1f, "presence");

/// Whose turn to propose comes last.
pub const TURNS: Table<(), Turns> = Table::new(0x20, "turns");

/// What of access there is in a vault.
pub const ACCESS: Table<VaultId, Access> = Table::new(0x30, "access");
/// Grants, also those that were revoked.
pub const GRANTS: Table<(VaultId, GrantId), GrantRow> = Table::new(0x31, "grant");
/// Whose grant a key is for.
pub const GRANTEES: Table<PublicKey, Grantee> = Table::new(0x32, "grantee");
/// Batches of entries in their order.
pub const BATCHES: Table<(VaultId, u64), Batch> = Table::new(0x33, "batch");
/// Batches by their id.
pub const BATCH_NUMBERS: Table<(VaultId, BatchId), u64> = Table::new(0x34, "batch number");
/// Versions that were erased, and when.
pub const ERASED: Table<(VaultId, (RecordTag, VersionId)), Height> = Table::new(0x35, "erased version");
/// Generations of scopes, of those that were ever bumped.
pub const GENERATIONS: Table<(VaultId, ScopeTag), u32> = Table::new(0x36, "generation");
/// Heads of the access logs of static nodes.
pub const LOG_HEADS: Table<PublicKey, LogHead> = Table::new(0x37, "log head");

/// Emergencies, by the transaction that asked.
pub const EMERGENCIES: Table<(VaultId, TransactionId), Emergency> = Table::new(0x48, "emergency");
/// What was opened in emergencies: (the transaction that asked, the hash of the request to open).
pub const EMERGENCY_OPENINGS: Table<(TransactionId, Hash), OpeningRow> =
    Table::new(0x49, "emergency opening");
/// When something is to be done about an emergency, in microseconds: (when, (vault, the transaction that asked)).
pub const EMERGENCY_DUE: Table<(u64, (VaultId, TransactionId)), Present> = Table::new(0x4a, "emergency due");
/// Emergencies of a clinician that are under way, of all vaults.
pub const EMERGENCY_CLINICIANS: Table<PublicKey, u32> = Table::new(0x4b, "emergency clinician");

/// Deposits that wait for the vault's owner, by their transaction.
pub const DEPOSITS: Table<(VaultId, TransactionId), DepositRow> = Table::new(0x54, "deposit");

/// Erasures of several versions by their hash, and when they were carried out.
pub const ERASURES: Table<(VaultId, Hash), Height> = Table::new(0x40, "erasure");
/// Versions that were taken out of all scopes but one: which that is.
pub const WITHDRAWN: Table<(VaultId, (RecordTag, VersionId)), ScopeTag> =
    Table::new(0x41, "withdrawn version");

/// An offence: when, whose, in which round, of which kind.
pub type Offence = (Height, (PublicKey, (u32, u8)));

/// A row that only is there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present;

impl Canonical for Present {
    fn write(&self, _to: &mut Vec<u8>) {}

    fn read(_from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self)
    }
}

/// A list of bytes: an LtHash sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSum(pub Vec<u8>);

impl Canonical for StateSum {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(&self.0, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_bytes(from, usize::from(u16::MAX)).map(Self)
    }
}

/// Peaks of the log; its size is in the tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peaks(pub Vec<LogHash>);

impl Canonical for Peaks {
    fn write(&self, to: &mut Vec<u8>) {
        write_list(&self.0, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_list(from, 64).map(Self)
    }
}

/// Keys of a committee, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(pub Vec<PublicKey>);

impl Canonical for Keys {
    fn write(&self, to: &mut Vec<u8>) {
        write_list(&self.0, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_list(from, MAX_COMMITTEE).map(Self)
    }
}

/// A row of fields, encoded one after the other.
macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Canonical for $name {
            fn write(&self, to: &mut Vec<u8>) {
                $(self.$field.write(to);)*
            }

            fn read(from: &mut &[u8]) -> Result<Self, Violation> {
                Ok(Self { $($field: Canonical::read(from)?,)* })
            }
        }
    )*};
}

rows! {
    /// Where a transaction is in the log.
    Place {
        /// Its block.
        height: Height,
        /// Its leaf.
        leaf: u64,
    }

    /// What the genesis set once and for all.
    Settings {
        /// The network.
        network: NetworkId,
        /// The erasure code of new segments.
        code: Code,
        /// Who may come in.
        admission: Admission,
        /// The numbers.
        params: Params,
    }

    /// What a node that began with a snapshot has of the blocks before it.
    Archive {
        /// The block of the snapshot, the newest if there were several.
        snapshot: Height,
        /// The blocks that are not here yet; none when it is whole.
        missing: Option<Missing>,
    }

    /// Blocks in a row that are not here.
    Missing {
        /// The first of them.
        from: Height,
        /// The id of the block before it.
        below: BlockId,
        /// Leaves of the log up to that block.
        below_size: u64,
        /// The last of them.
        until: Height,
        /// Its id.
        last: BlockId,
    }

    /// Bytes used of a quota.
    Usage {
        /// In this epoch.
        epoch: u64,
        /// So many.
        bytes: u64,
    }

    /// An author.
    Author {
        /// The number of its next transaction.
        nonce: u64,
        /// What it used for what belongs to no vault.
        usage: Usage,
    }

    /// A vault.
    Vault {
        /// Who owns it.
        owner: PublicKey,
        /// Who pays for it.
        sponsor: Option<PublicKey>,
        /// Ledger bytes an epoch: what the sponsor's terms, or the network's numbers, said when it was created, or what its
        /// sponsor set since.
        quota: u64,
        /// What it used of them.
        usage: Usage,
        /// Segments that it holds.
        segments: u64,
        /// Ciphertext bytes of them, without parity.
        bytes: u64,
        /// Keys that may write besides the owner's.
        writers: u16,
    }

    /// The head of a collection.
    Head {
        /// The anchor.
        anchor: TransactionId,
        /// Anchors of this collection so far.
        sequence: u64,
        /// The anchor's block.
        height: Height,
    }

    /// A storage node.
    Node {
        /// Its identity.
        key: PublicKey,
        /// Its entry.
        entry: NodeEntry,
        /// When it came.
        since: Height,
        /// When it retired, if it has.
        retired: Option<Height>,
    }

    /// What a sponsor has left to give.
    Sponsor {
        /// Vaults.
        vaults: u32,
        /// Storage nodes.
        nodes: u32,
        /// Ledger bytes an epoch of each of its vaults.
        vault_bytes: u64,
    }

    /// A static node.
    Static {
        /// Who it is.
        member: Member,
        /// Whether it votes on the next block.
        votes: bool,
        /// What the ledger thinks of it.
        standing: Standing,
        /// Offences and absences so far.
        faults: u32,
        /// The transaction in the log that proved the last offence, for anyone to check; none for an
        /// absence, which the certificates in the blocks prove.
        proof: Option<TransactionId>,
    }

    /// A block that was decided.
    Past {
        /// Its id.
        block: BlockId,
        /// Leaves of the log after it.
        log_size: u64,
        /// The root of the log after it.
        log_root: LogHash,
        /// Who decided on it.
        roster: Hash,
    }

    /// What of access there is in a vault.
    Access {
        /// Its key, as the static nodes have it.
        sharing: Sharing,
        /// Grants that are not revoked.
        grants: u32,
        /// Batches of entries so far.
        batches: u64,
        /// Deposits that wait.
        deposits: u32,
    }

    /// A vault's PRF key in the static nodes' care.
    Sharing {
        /// Which of the vault's keys.
        dealing: u32,
        /// How often it was shared anew: shares of different epochs do not fit together.
        epoch: u32,
        /// Whose members have the shares.
        roster: Hash,
        /// Hash of the commitments.
        commitments: Hash,
        /// Hash of the package.
        package: Hash,
        /// Since when.
        height: Height,
    }

    /// A grant.
    GrantRow {
        /// The grant.
        grant: Grant,
        /// Since when.
        height: Height,
        /// When it was revoked, if it was.
        revoked: Option<Height>,
        /// Ciphertext bytes that were brought under it.
        brought: u64,
        /// Deposits under it that wait.
        deposits: u32,
    }

    /// Whose grant a key is for.
    Grantee {
        /// The vault.
        vault: VaultId,
        /// The grant.
        grant: GrantId,
    }

    /// A batch of entries.
    Batch {
        /// The batch.
        batch: EntryBatch,
        /// Since when.
        height: Height,
    }

    /// Numbers of the whole network.
    Counters {
        /// Storage nodes ever registered.
        nodes: u16,
        /// Changes by governance so far.
        sequence: u64,
        /// The last block that changed who votes.
        voters_changed: Height,
        /// What came in without a sponsor, in vaults and nodes.
        open: Usage,
    }
}

/// A deposit that waits for the vault's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositRow {
    /// Under which grant it came.
    pub grant: GrantId,
    /// In which block.
    pub height: Height,
    /// At that block's time.
    pub time: Timestamp,
    /// The pack that says what it is; none of one that brought segments for a later one.
    pub pack: Option<DepositPack>,
    /// All of its segments.
    pub segments: Vec<SegmentId>,
}

impl Canonical for DepositRow {
    fn write(&self, to: &mut Vec<u8>) {
        self.grant.write(to);
        self.height.write(to);
        self.time.write(to);
        self.pack.write(to);
        write_list(&self.segments, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            grant: Canonical::read(from)?,
            height: Canonical::read(from)?,
            time: Canonical::read(from)?,
            pack: Canonical::read(from)?,
            segments: read_list(from, MAX_ANCHOR_SEGMENTS)?,
        })
    }
}

/// A descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The collection that brought it.
    pub collection: CollectionTag,
    /// The block that brought it.
    pub height: Height,
    /// How it is coded.
    pub code: Code,
    /// Ciphertext bytes.
    pub len: u64,
    /// Its shards, by index.
    pub shards: Vec<AnchoredShard>,
}

impl Canonical for Segment {
    fn write(&self, to: &mut Vec<u8>) {
        self.collection.write(to);
        self.height.write(to);
        self.code.write(to);
        self.len.write(to);
        write_list(&self.shards, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            collection: Canonical::read(from)?,
            height: Canonical::read(from)?,
            code: Canonical::read(from)?,
            len: Canonical::read(from)?,
            shards: read_list(from, MAX_SHARDS)?,
        })
    }
}

impl Settings {
    /// What the genesis sets once and for all.
    #[must_use]
    pub const fn of(genesis: &Genesis) -> Self {
        let Genesis { network, code, admission, params, .. } = genesis;
        Self { network: *network, code: *code, admission: *admission, params: *params }
    }
}

impl Usage {
    /// Nothing used yet.
    pub const NONE: Self = Self { epoch: 0, bytes: 0 };
}

impl Node {
    /// How to call it.
    #[must_use]
    pub fn info(&self) -> NodeInfo {
        let NodeEntry { label, operator, site, address } = self.entry.clone();
        NodeInfo { name: label, key: self.key, address, operator, site }
    }
}
