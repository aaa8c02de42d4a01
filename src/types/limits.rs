//! Every bound of the system on one screen, each with the reason for its value.

/// Plaintext bytes of a frame, the unit of authenticated encryption. Fixed by the format.
pub const FRAME_LEN: usize = 64 * 1024;

/// Bytes a frame grows by when sealed: the Poly1305 tag.
pub const TAG_LEN: usize = 16;

/// Bytes of a whole cell. Six of them (4+2) stay in a 512 KiB second-level cache while a stripe is
/// sealed, coded, hashed and sent.
pub const CELL_LEN: usize = 64 * 1024;

/// The last stripe's cells are shorter; they are a multiple of this, so that the length of a
/// segment tells its content only to within k times as much.
pub const TAIL_CELL_ALIGN: usize = 512;

/// Bytes of a slice, the leaf group of a shard's BLAKE3 tree and the unit of verified range reads.
/// 16 chunks hash at full SIMD width; the tree then costs 0.2 % of the shard.
pub const SLICE_LEN: usize = 16 * 1024;

/// Shards of a segment. Wide enough for 20+8; the placement search and the receipts stay small.
pub const MAX_SHARDS: usize = 32;

/// Ciphertext bytes of a segment that any party accepts.
pub const MAX_SEGMENT_LEN: u64 = 64 << 20;

/// Bytes of a shard that a node accepts: a whole segment under 1+m, rounded up to a stripe.
pub const MAX_SHARD_LEN: u64 = MAX_SEGMENT_LEN + CELL_LEN as u64;

/// Plaintext bytes of a body segment that a client writes. Segments of 4 to 16 MiB pipeline best on
/// two cores; smaller ones would cost more descriptors per terabyte.
pub const BODY_SEGMENT_PLAIN_LEN: usize = 8 << 20;

/// A chunk of a record shorter than this goes into the open pack instead of a segment of its own.
pub const PACK_CHUNK_MAX_LEN: usize = 1 << 20;

/// A pack is sealed when it holds this many ciphertext bytes.
pub const PACK_TARGET_LEN: usize = 4 << 20;

/// A pack takes at most this many records, so that its index transaction stays short.
pub const PACK_MAX_RECORDS: usize = 4_096;

/// Microseconds after its first record that a pack is sealed even if it is not full.
pub const PACK_LINGER_MICROS: u64 = 2_000;

/// Bytes of a record name, as S3 has it.
pub const MAX_RECORD_NAME_LEN: usize = 1_024;

/// Bytes of a collection name, as S3 has it for buckets.
pub const MAX_COLLECTION_NAME_LEN: usize = 63;

/// Bytes of all user metadata of a record together.
pub const MAX_METADATA_LEN: usize = 8 * 1024;

/// Bytes of the protobuf header of a request or response, before any bulk bytes.
pub const MAX_MESSAGE_LEN: usize = 256 * 1024;

/// Shards that one `HaveShards` or segments that one `ReleaseSegments` request may name.
pub const MAX_BATCH_ITEMS: usize = 1_024;

/// Bytes that one `ReadShard` may ask for. Larger ranges are several requests.
pub const MAX_READ_LEN: u64 = 4 << 20;

/// Body segments that an upload holds in memory at once: with 4+2 each costs 12 MiB.
pub const UPLOAD_SEGMENTS_IN_FLIGHT: usize = 4;

/// Segments that hold enough shards and wait only for their last ones, beside those in flight: room for all in flight to wait
/// without keeping new ones back, for twice the memory.
pub const UPLOAD_SEGMENTS_IN_GRACE: usize = UPLOAD_SEGMENTS_IN_FLIGHT;

/// Milliseconds that an upload with enough receipts waits for one that is missing, counted anew when its node takes
/// more bytes. A healthy node under load syncs a batch of shards in less; a put of a small record waits no longer for a silent one.
pub const UPLOAD_GRACE_MILLIS: u64 = 2_000;

/// Milliseconds of such waiting in all: a node that goes on taking bytes for longer is no better than a silent one.
pub const UPLOAD_GRACE_MAX_MILLIS: u64 = 6_000;

/// Ciphertext bytes of one read unit of a download, before parity.
pub const READ_UNIT_LEN: usize = 8 << 20;

/// Read units that a download holds in memory at once.
pub const READ_UNITS_IN_FLIGHT: usize = 3;

/// Bytes of shards that a node takes in at once; above it new uploads wait in QUIC's flow control.
pub const NODE_INTAKE_BYTES: usize = 96 << 20;

/// Bytes of a volume file, after which a node starts the next.
pub const VOLUME_LEN: u64 = 1 << 30;

/// Free bytes a node leaves on its file system before it refuses shards.
pub const NODE_FREE_RESERVE: u64 = 256 << 20;

/// Extents that an index row caches; a record of more is read through its header frame.
pub const MAX_CACHED_EXTENTS: usize = 1_024;

/// Static nodes of a committee. Every member sends to every other, and a certificate carries a
/// signature of each: at 64 one is 6 KiB.
pub const MAX_COMMITTEE: usize = 64;

/// Bytes of a block. At 100 MB/s to each of 20 peers one takes 0.2 s to send, which is what a
/// proposal may cost of a round.
pub const MAX_BLOCK_LEN: usize = 1 << 20;

/// Bytes of a signed transaction: the longest entry of a log that C2SP tlog-tiles can bundle. An anchor of
/// 64 segments under 20+8 fits, or one of 240 under 4+2.
pub const MAX_TRANSACTION_LEN: usize = 65_535;

/// Transactions of a block: what one core checks in a fifth of a second.
pub const MAX_BLOCK_TRANSACTIONS: usize = 4_096;

/// Transactions of one author in a block, so that a block has room for sixteen busy ones.
pub const MAX_AUTHOR_BLOCK_TRANSACTIONS: usize = 256;

/// Segments that an anchor adds. With 4+2 that many fit into a transaction: a record of 1 GiB is one anchor.
pub const MAX_ANCHOR_SEGMENTS: usize = 240;

/// Packs with commits that an anchor brings into effect together.
pub const MAX_ANCHOR_COMMITS: usize = 64;

/// Segments that an anchor releases: 32 KiB of ids.
pub const MAX_ANCHOR_RELEASES: usize = 1_024;

/// Keys besides the owner's that may write to a vault: gateways and devices of one owner.
pub const MAX_VAULT_WRITERS: u16 = 64;

/// Storage nodes ever registered: their numbers are 16 bits and are not given out again.
pub const MAX_STORAGE_NODES: u16 = 65_000;

/// Bytes of a label that people gave a node, an operator or a site.
pub const MAX_LABEL_LEN: usize = 63;

/// Sponsors that a genesis names; later ones are added by governance.
pub const MAX_GENESIS_SPONSORS: usize = 64;

/// Storage nodes that a genesis names; others register.
pub const MAX_GENESIS_NODES: usize = 256;

/// Heights ahead of the chain at which a transaction may still expire, so that no mempool has to keep
/// one for ever.
pub const MAX_TRANSACTION_LIFE: u64 = 100_000;

/// Blocks for which a static node that let its turn to propose pass comes after the others: of the time that one that is gone
/// costs, a round in so many blocks is left.
pub const LATE_PROPOSER_BLOCKS: u64 = 128;

/// Bytes of transactions that wait at a static node: sixteen full blocks.
pub const MEMPOOL_BYTES: usize = 16 << 20;

/// Bytes of transactions of one author that wait at a static node.
pub const MEMPOOL_AUTHOR_BYTES: usize = 1 << 20;

/// Transactions of one author that wait at a static node: two blocks' worth.
pub const MEMPOOL_AUTHOR_TRANSACTIONS: usize = 512;

/// Transactions of an author that wait at a static node before one of it was ever carried out, so that
/// making up keys fills no mempool.
pub const MEMPOOL_NEW_AUTHOR_TRANSACTIONS: usize = 16;

/// Changes of the static nodes that a receipt walks through from the genesis.
pub const MAX_RECEIPT_STEPS: usize = 1_024;

/// Bytes of a receipt's text: 64 cosigners with ML-DSA are 210 KiB, and each change of the static nodes
/// costs as much again.
pub const MAX_RECEIPT_LEN: usize = 64 << 20;

/// Static nodes that the ledger's own rules leave in the committee: below four no fault is tolerated.
/// Only governance goes lower.
pub const MIN_COMMITTEE: usize = 4;

/// Bytes of what one static node tells another: a proposal carries its block, and little besides.
pub const MAX_CONSENSUS_MESSAGE_LEN: usize = MAX_BLOCK_LEN + (64 << 10);

/// Bytes of a static node's answer: some blocks, or a receipt of a network whose static nodes changed often.
pub const MAX_ANSWER_LEN: usize = 64 << 20;

/// Blocks of one answer; it ends sooner when it has [`ANSWER_BLOCKS_LEN`] bytes.
pub const MAX_ANSWER_BLOCKS: usize = 256;

/// Bytes of blocks after which an answer ends.
pub const ANSWER_BLOCKS_LEN: usize = 4 << 20;

/// Rows of one answer: the next question goes on after the last.
pub const MAX_ANSWER_ROWS: usize = 512;

/// Milliseconds for which a static node lets a question for the next block wait: longer than a heartbeat, so that an idle
/// ledger costs its followers one question a block, and well within a caller's patience for an answer.
pub const BLOCK_WAIT_MILLIS: u64 = 15_000;

/// Questions that wait for the next block at a static node: one of each follower. A waiting one costs some kilobytes.
pub const MAX_BLOCK_WAITERS: usize = 2_048;

/// Microseconds for which a client may take up an interrupted upload, and counts on the shards that nodes took of it.
pub const UPLOAD_LIFE_MICROS: u64 = 7 * 24 * 3_600 * 1_000_000;

/// Microseconds of the ledger's time for which a storage node keeps a shard that no anchor names: longer than
/// [`UPLOAD_LIFE_MICROS`], so that a client that counts on its shards still has a day to anchor them.
pub const UNANCHORED_LIFE_MICROS: u64 = UPLOAD_LIFE_MICROS + 24 * 3_600 * 1_000_000;

/// Microseconds of the ledger's time between the release of a segment on the ledger and its end at a storage node. A read
/// that began before the release ends well: a unit of a read takes seconds, and a client that asks the ledger anew learns
/// of the release.
pub const RELEASE_GRACE_MICROS: u64 = 120 * 1_000_000;

/// Microseconds that the last block may be old for a follower to take its state for that of now: six heartbeats.
pub const FOLLOWER_STALE_MICROS: u64 = 60 * 1_000_000;

/// Memory for the pages of a follower's state: the upper levels of a million rows.
pub const FOLLOWER_CACHE_BYTES: usize = 8 << 20;

/// Releases that a storage node carries out, and shards whose anchors it looks for, at a time.
pub const HOUSEKEEPING_BATCH: usize = 256;

/// HTTP connections that a server of ours has open at once; others wait in the system's queue.
pub const MAX_HTTP_CONNECTIONS: usize = 64;

/// Bytes of HTTP answers that are being made or sent at once: four of the longest bundles of log entries, or thousands of tiles.
pub const HTTP_ANSWER_BYTES: usize = 68 << 20;

/// Blocks that a static node is behind the others before it takes a snapshot instead of every block: some hours of work
/// of a busy network, and some minutes' of fetching.
pub const SNAPSHOT_GAP: u64 = 10_000;

/// Bytes of rows of a snapshot after which an answer ends.
pub const SNAPSHOT_ROWS_LEN: usize = 1 << 20;

/// Rows of a snapshot in one answer.
pub const MAX_SNAPSHOT_ROWS: usize = 16_384;

/// Bytes of all rows of a snapshot: thirty times a state of a million rows. What a static node that lies can fill of a disk.
pub const MAX_SNAPSHOT_LEN: u64 = 16 << 30;

/// Bytes of the key of a row of the state: the longest are of a vault and something of it.
pub const MAX_ROW_KEY_LEN: usize = 96;

/// Bytes of a row of the state: the longest counts who signed in a window, for as many voters as that can have seen.
pub const MAX_ROW_LEN: usize = 4 << 20;

/// Hashes of leaves of the log in one answer: 1 MiB.
pub const MAX_ANSWER_LEAVES: usize = 32_768;

/// States that a static node holds for those who take them. While one is held the database reuses nothing of it: its file
/// grows by what blocks change.
pub const MAX_SNAPSHOTS: usize = 2;

/// Blocks after which a static node offers a newer state.
pub const SNAPSHOT_RENEW_BLOCKS: u64 = 500;

/// Blocks for which a state is held, whoever takes it: at some hundred kilobytes a block less than a gigabyte.
pub const SNAPSHOT_LIFE_BLOCKS: u64 = 2_000;

/// Microseconds for which a state is held, whoever takes it.
pub const SNAPSHOT_LIFE_MICROS: u64 = 30 * 60 * 1_000_000;

/// Microseconds for which a state is held when nobody asks for more of it.
pub const SNAPSHOT_IDLE_MICROS: u64 = 60 * 1_000_000;

/// Bytes of a scope's path: a collection's name, a record's, and some.
pub const MAX_SCOPE_PATH_LEN: usize = 1_200;

/// Levels of the tree of a scope's days: 65,536 days are 179 years.
pub const DAY_TREE_LEVELS: u8 = 16;

/// Nodes of that tree that give the keys of a range of days: two for each level below the first.
pub const MAX_DAY_NODES: usize = 2 * (DAY_TREE_LEVELS as usize - 1);

/// Keyslots that one request for access may name: a static node answers so many in some ten milliseconds, and others
/// wait no longer for theirs.
pub const MAX_RELEASE_ITEMS: usize = 256;

/// Scopes of one grant. Three hundred bytes of ledger for each ten.
pub const MAX_GRANT_SCOPES: usize = 32;

/// Names that an owner may give to scopes.
pub const MAX_DEFINED_SCOPES: usize = 1_024;

/// Scopes of a vault that records join by themselves.
pub const MAX_VAULT_SCOPES: usize = 4_096;

/// Bytes of what an owner notes of scopes and grants.
pub const MAX_ACCESS_NOTES_LEN: usize = 16 << 20;

/// Grants of one vault that are not revoked: a row of the state each, also when they have expired.
pub const MAX_VAULT_GRANTS: u32 = 4_096;

/// Deposits that wait in a vault for its owner: a row of the state each, of up to 8 KiB.
pub const MAX_VAULT_DEPOSITS: u32 = 1_024;

/// Deposits under one grant that wait: one provider leaves room for others.
pub const MAX_GRANT_DEPOSITS: u32 = 256;

/// Deposits that an owner settles with one transaction.
pub const MAX_SETTLED_DEPOSITS: usize = 256;

/// Bytes of the sealed key of a deposit's commit: 32, and what sealing adds.
pub const MAX_DEPOSIT_KEY_LEN: usize = 1_280;

/// Entries of one batch: with three slots each a package of 3 MiB, which a static node unpacks in a tenth of a second.
pub const MAX_BATCH_ENTRIES: usize = 4_096;

/// Keyslots that one entry brings: what a record is in, and some.
pub const MAX_ENTRY_SLOTS: usize = 32;

/// Bytes of a package for the static nodes that is not on the ledger.
pub const MAX_PACKAGE_LEN: usize = 8 << 20;

/// Bytes of what is said to a static node about access: a package, and what is around it.
pub const MAX_ACCESS_MESSAGE_LEN: usize = MAX_PACKAGE_LEN + 1_024;

/// Packages of one vault that a static node keeps: those of its grants, and some that wait for the ledger.
pub const MAX_VAULT_PACKAGES: usize = MAX_VAULT_GRANTS as usize + 64;

/// Bytes of all of them: usual bodies of as many grants as a vault may have, and a dozen of the largest packages.
pub const MAX_VAULT_PACKAGE_BYTES: usize = 128 << 20;

/// Bytes of the sealed body of a grant: thirty nodes of a day tree for each scope, and words.
pub const MAX_GRANT_BODY_LEN: usize = 256 << 10;

/// Authorities that an emergency grant names.
pub const MAX_EMERGENCY_AUTHORITIES: usize = 16;

/// Keys that an emergency grant lets veto besides the owner's.
pub const MAX_EMERGENCY_VETOERS: usize = 16;

/// Approvals that an emergency grant may ask for.
pub const MAX_EMERGENCY_APPROVALS: usize = 8;

/// Approvals that an emergency keeps: some may be of institutions that have approved already.
pub const MAX_EMERGENCY_APPROVERS: usize = 2 * MAX_EMERGENCY_APPROVALS;

/// Seconds for which an emergency grant may have who asks wait: a month.
pub const MAX_EMERGENCY_DELAY_SECONDS: u32 = 30 * 24 * 3_600;

/// Seconds for which an emergency may open: a week, after which there was time to ask the owner.
pub const MAX_EMERGENCY_LASTS_SECONDS: u32 = 7 * 24 * 3_600;

/// Records that an emergency may open.
pub const MAX_EMERGENCY_QUOTA: u32 = 1_000;

/// Requests to open, lists among them, that a static node answers in one emergency, and that it may say on the ledger that it
/// did. Each has a count of its own, so that a faulty one that makes some up keeps no other's from being seen.
pub const MAX_EMERGENCY_REQUESTS: u32 = 256;

/// Microseconds of the ledger's time for which an emergency waits for approvals.
pub const EMERGENCY_REQUEST_LIFE_MICROS: u64 = 72 * 3_600 * 1_000_000;

/// Microseconds of the ledger's time for which an emergency that is over stays in the state: so long an owner may be away and
/// still find it without reading the ledger's log.
pub const EMERGENCY_KEPT_MICROS: u64 = 90 * 24 * 3_600 * 1_000_000;

/// Emergencies of a vault that are under way and not vetoed.
pub const MAX_VAULT_EMERGENCIES: usize = 16;

/// Emergencies of a vault in the state, with those that are over: the oldest of these make room.
pub const MAX_VAULT_EMERGENCIES_KEPT: usize = 128;

/// Emergencies of one clinician that are under way, of all vaults.
pub const MAX_CLINICIAN_EMERGENCIES: u32 = 16;

/// Microseconds that the last block may be old for a static node to open anything: three heartbeats and some.
pub const OPEN_LEASE_MICROS: u64 = 35 * 1_000_000;

/// Microseconds by which a request to open and a static node's clock may differ.
pub const OPEN_WINDOW_MICROS: u64 = 60 * 1_000_000;

/// Bytes of the sealed line that tells a scope's list of a record: a name, a type and some numbers.
pub const MAX_LINE_LEN: usize = 2_048;

/// Versions that one transaction erases: 32 KiB of it.
pub const MAX_ERASURE_VERSIONS: usize = 1_024;

/// Segments that the erasure of a vault frees: those that no anchor could release any more, as each brings a pack.
pub const MAX_LAST_SEGMENTS: u64 = 4_096;

/// Erasures of one certificate: thirty-two thousand versions.
pub const MAX_CLAIM_ERASURES: usize = 32;

/// Rows of each kind in a certificate.
pub const MAX_CERTIFICATE_ROWS: usize = 32_768;

/// Bytes of what an owner calls what was erased: an address.
pub const MAX_SUBJECT_LEN: usize = 1_200;

/// Bytes of a certificate's file.
pub const MAX_CERTIFICATE_LEN: usize = 32 << 20;

/// The last generation of a vault's keys: one for each device that is ever stolen.
pub const MAX_KEY_GENERATION: u32 = 255;

/// Guardians of one vault: more than anybody asks to keep a share, and a row of the state of 1.1 KiB.
pub const MAX_GUARDIANS: usize = 16;

/// Microseconds that an owner may ask for between a request to recover and its release: thirty days.
pub const MAX_RECOVERY_DELAY_MICROS: u64 = 30 * 86_400 * 1_000_000;

/// Bytes of a request to recover: two keys, a name, and a signature.
pub const MAX_RECOVERY_REQUEST_LEN: usize = 4_096;

/// Bytes of a guardian's part, sealed: 33 bytes, and what sealing adds.
pub const MAX_SEALED_PART_LEN: usize = 1_280;

// A client's shards outlive its patience; and who waits for a block is answered before its caller gives up.
const _: () = assert!(UNANCHORED_LIFE_MICROS > UPLOAD_LIFE_MICROS);
const _: () = assert!(BLOCK_WAIT_MILLIS < 30_000);
const _: () = assert!(RELEASE_GRACE_MICROS > FOLLOWER_STALE_MICROS);

/// Vaults whose shares are handed on in one package: what the ledger is told of it fits a transaction.
pub const MAX_HANDOFF_VAULTS: usize = 512;

/// Revocations that are not final yet, in one package of a handoff.
pub const MAX_HANDOFF_REVOCATIONS: usize = 1_024;

/// Bytes of a signed transaction that revokes a grant: some 190.
pub const MAX_REVOCATION_LEN: usize = 256;

/// Packages of one dealer that a static node keeps and that the ledger does not name yet.
pub const MAX_UNNAMED_HANDOFFS: usize = 16;

/// After so long of the ledger's time a handoff that did not come about may be begun anew, with other dealers first.
pub const HANDOFF_LIFE_MICROS: u64 = 10 * 60 * 1_000_000;

/// Seconds after which all keys are shared anew, unless governance says otherwise: a quarter of a year.
pub const REFRESH_SECONDS: u32 = 90 * 24 * 3_600;
