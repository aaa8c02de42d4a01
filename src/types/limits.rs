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
