//! Every decoder of files and of text from outside against random bytes, cut and changed encodings: it never panics,
//! and what it accepts is a value that survives being written and read, or the very one that was written.
//!
//! `XVAULT_SEED=7 cargo test --features testing --test formats fuzz` replays a failure; `scripts/fuzz 1000000` runs for long.
//! The decoders of messages are in `wire.rs`, what peers put on a stream in `tests/network/hostile`.
#![cfg(feature = "testing")]
use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::random::{Random, fuzz, rounds, seeded};
use xvault::client::ByteRange;
use xvault::client::keystore::{Keystore, SealRandom};
use xvault::crypto::access::{
    Commitments, DayNode, Dealing, Inputs, KeyShare, Keyslot, Partial, PrfKey, Purpose, ScopeKey, SealError,
    SealKey, SealPublic, Sharing,
};
use xvault::crypto::frame::{Dek, DekCommit};
use xvault::crypto::passphrase::{self, Cost};
use xvault::crypto::seed::Seed;
use xvault::crypto::sign::KeyPair;
use xvault::crypto::tree::SliceHasher;
use xvault::message::*;
use xvault::roles::storage_node::NodeFolder;
use xvault::store::index::{Commit, Condition, JournaledChunk, ListQuery, UploadId, UploadRow};
use xvault::store::sealed_file::Entropy;
use xvault::store::{Disk as _, Index, IndexError, NewShard, ShardStore, StoreConfig};
use xvault::testing::mem_disk::{MemDisk, Survivors};
use xvault::types::*;

const PASSPHRASE: &str = "correct horse";
const DISK: u64 = 1 << 30;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A type that reads its text form, fuzzed by it.
fn fuzz_text<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(valid: &[&str]) {
    let valid: Vec<T> = valid.iter().map(|text| text.parse().unwrap()).collect();
    fuzz(&valid, |value| value.to_string().into_bytes(), |bytes| text(bytes).parse());
}

#[test]
fn names_addresses_and_ids() {
    fuzz_text::<RecordPath>(&["xv://clinic/2026/scan.dcm", "xv://c", "xv://c/../a\nb", "xv://c/ü"]);
    fuzz_text::<RecordName>(&["2026/scan.dcm", "..", "\n"]);
    fuzz_text::<CollectionName>(&["clinic-2026", "0._-"]);
    fuzz_text::<Code>(&["4+2", "1+1", "20+8"]);
    fuzz_text::<NetworkId>(&[&"5".repeat(64)]);
    fuzz_text::<PublicKey>(&[&"a".repeat(64)]);
    let version = VersionId::new(Timestamp::from_unix_millis(1_800_000_000_000), [7; 10]).to_string();
    fuzz_text::<VersionId>(&[&version]);
    let name: RecordName = "scan".parse().unwrap();
    fuzz(&[name], |name| name.as_str().as_bytes().to_vec(), RecordName::from_bytes);
}

#[test]
fn byte_ranges() {
    let encode = |range: &ByteRange| match range {
        ByteRange::FromTo(start, end) => format!("{start}-{}", end - 1),
        ByteRange::From(start) => format!("{start}-"),
        ByteRange::Last(count) => format!("-{count}"),
    };
    let valid = [ByteRange::FromTo(0, 500), ByteRange::From(7), ByteRange::Last(u64::MAX)];
    fuzz(
        &valid,
        |range| encode(range).into_bytes(),
        |bytes| {
            let range: Result<ByteRange, _> = text(bytes).parse();
            for size in [0, 1, 499, 500, u64::MAX] {
                if let Ok(within) = range.and_then(|range| range.within(size)) {
                    assert!(within.start < within.end && within.end <= size);
                }
            }
            range
        },
    );
}

#[test]
fn network_files() {
    let node = |n: u8| NodeInfo {
        name: format!("node-{n}"),
        key: PublicKey([n; 32]),
        address: SocketAddr::from(([127, 0, 0, 1], 4_000)),
        operator: "o".into(),
        site: "\"quoted\"".into(),
    };
    let network =
        Network { id: NetworkId([7; 32]), code: Code::DEFAULT, genesis: None, nodes: vec![node(1), node(2)] };
    fuzz(&[network], |network| network.to_toml().into_bytes(), |bytes| Network::from_toml(&text(bytes)));
}

#[test]
fn phrases() {
    let seeds = [Seed::from_entropy([0; 32]), Seed::from_entropy([0xa7; 32])];
    let encode = |seed: &Seed| seed.phrase().as_bytes().to_vec();
    fuzz(&seeds, encode, |bytes| Seed::from_phrase(&text(bytes)));
}

#[test]
fn sealed_secrets() {
    let (secret, mut random) = (b"the secret", seeded());
    let good = passphrase::seal(secret, PASSPHRASE, Cost::TEST, [1; 16], [2; 24]);
    let costs = 9..21;
    for round in 0..rounds(2) {
        let mut file = random.input(round, &good);
        if round.is_multiple_of(2) && file.len() > costs.end {
            // As a forger would, with the checksum that belongs there. Other costs have a test of their own; large ones
            // take long.
            file[costs.clone()].copy_from_slice(&good[costs.clone()]);
            file.truncate(file.len().saturating_sub(32).max(costs.end));
            let checksum = blake3::hash(&file);
            file.extend(checksum.as_bytes());
        }
        if let Ok(opened) = passphrase::open(&file, PASSPHRASE) {
            assert_eq!(opened.as_slice(), secret);
            assert_eq!(file, good);
        }
    }
}

#[test]
fn keystores() {
    let (dir, mut random) = (tempfile::tempdir().unwrap(), seeded());
    let (path, seed) = (dir.path().join("keystore"), Seed::from_entropy([7; 32]));
    let seal = SealRandom { salt: [1; 16], nonce: [2; 24] };
    Keystore::create(&path, &seed, PASSPHRASE, Cost::TEST, &seal).unwrap();
    let good = std::fs::read(&path).unwrap();
    for round in 0..rounds(4) {
        std::fs::write(&path, random.input(round, &good)).unwrap();
        if let Ok(keystore) = Keystore::load(&path) {
            assert_eq!(keystore.open(PASSPHRASE).unwrap(), seed);
        }
    }
}

#[test]
fn node_folders() {
    let (dir, mut random) = (tempfile::tempdir().unwrap(), seeded());
    let folder = NodeFolder {
        dir: dir.path().join("node"),
        name: "node-1".into(),
        network: NetworkId([3; 32]),
        listen: SocketAddr::from(([127, 0, 0, 1], 4_433)),
        http: None,
        key: KeyPair::from_secret(&[5; 32]),
        described: None,
    };
    folder.create().unwrap();
    for name in ["node.toml", "node.key"] {
        let path = folder.dir.join(name);
        let good = std::fs::read(&path).unwrap();
        for round in 0..rounds(4) {
            std::fs::write(&path, random.input(round, &good)).unwrap();
            drop(NodeFolder::open(&folder.dir));
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert_eq!(NodeFolder::open(&folder.dir).unwrap().key.public(), folder.key.public());
}

/// A copy of a disk with some bytes of one of its files changed, or with the file cut: of one whose name begins so.
fn damaged(whole: &MemDisk, files: &str, random: &mut Random) -> MemDisk {
    let disk = whole.after_power_loss(Survivors::Everything);
    disk.set_capacity(DISK);
    let names: Vec<_> = disk.list().unwrap().into_iter().filter(|name| name.starts_with(files)).collect();
    let name = &names[random.below(names.len())];
    let file = disk.open(name).unwrap();
    let len = usize::try_from(file.len().unwrap()).unwrap();
    for _ in 0..=random.below(4) {
        let at = random.below(len.max(1)) as u64;
        match random.below(8) {
            0 => file.set_len(at).unwrap(),
            1 => {
                let run = random.below(10_000);
                file.write_at(at, &random.bytes(run)).unwrap();
            }
            2 => file.write_at(at, &vec![0; random.below(10_000)]).unwrap(),
            _ => {
                let mut byte = [0];
                if file.read_at(at, &mut byte).is_ok() {
                    file.write_at(at, &[byte[0] ^ (1 << random.below(8))]).unwrap();
                }
            }
        }
    }
    disk
}

fn entropy() -> Entropy {
    let mut random = Random(9);
    Box::new(move |out| {
        out.copy_from_slice(&random.bytes(out.len()));
        Ok(())
    })
}

fn descriptor(n: u8) -> Descriptor {
    let (code, total) = (Code::DEFAULT, Code::DEFAULT.total());
    let segment = SegmentId([n; 32]);
    Descriptor { segment, code, len: 1_000, roots: vec![Hash([n; 32]); total], holders: vec![None; total] }
}

fn entry(n: u8) -> VersionEntry {
    let segment = SegmentId([n; 32]);
    let state = VersionState::Stored(StoredVersion {
        size: 100,
        content_version: VersionId([n; 16]),
        dek: Dek::from_bytes([0xde; 32]),
        dek_commit: DekCommit([5; 32]),
        header: Locator { segment, offset: 0, len: 200, salt: [4; 16] },
        extents: vec![Extent { segment, offset: 200, plain_len: 100, salt: [3; 16] }],
        content_type: None,
        modified: None,
        content: Hash([6; 32]),
    });
    VersionEntry { version: VersionId([n; 16]), created: Timestamp::ZERO, state, provenance: None }
}

/// All that an index holds, read in every way there is.
type Content =
    (Vec<Option<VersionEntry>>, usize, Vec<Option<Descriptor>>, Option<(UploadRow, Vec<JournaledChunk>)>);

fn visit(disk: &MemDisk, records: u8) -> Result<Content, IndexError> {
    let index = Index::open(disk, &[6; 32], entropy())?;
    let docs: CollectionName = "docs".parse().unwrap();
    let latest = (0..records).map(|n| index.latest(&docs, &n.to_string().parse().unwrap()));
    let latest = latest.collect::<Result<_, _>>()?;
    let listed = index.list(&docs, &ListQuery { limit: 1_000, ..ListQuery::default() })?.items.len();
    let descriptors =
        (0..records).map(|n| index.descriptor(&SegmentId([n; 32]))).collect::<Result<_, _>>()?;
    Ok((latest, listed, descriptors, index.upload(&UploadId([8; 32]))?))
}

/// The sealed sectors, the database in them, and the rows of versions, segments and uploads.
#[test]
fn indexes() {
    const RECORDS: u8 = 100;
    let (whole, mut random) = (MemDisk::new(DISK), seeded());
    let mut index = Index::open(&whole, &[6; 32], entropy()).unwrap();
    for n in 0..RECORDS {
        let commit = Commit {
            collection: "docs".parse().unwrap(),
            name: n.to_string().parse().unwrap(),
            entry: entry(n),
            condition: Condition::Any,
            segments: vec![descriptor(n)],
            upload: None,
        };
        index.commit(&[commit]).unwrap()[0].unwrap();
    }
    let row =
        UploadRow { version: VersionId([1; 16]), dek: Dek::from_bytes([2; 32]), begun: Timestamp::ZERO };
    index.begin_upload(&UploadId([8; 32]), &row).unwrap();
    let chunk = JournaledChunk { number: 3, salt: [1; 16], plain_len: 9, descriptor: descriptor(200) };
    index.put_chunk(&UploadId([8; 32]), &chunk).unwrap();
    drop(index);
    let written = visit(&whole, RECORDS).unwrap();
    let mut unharmed = 0;
    let rounds = rounds(40);
    for _ in 0..rounds {
        match visit(&damaged(&whole, "index", &mut random), RECORDS) {
            Ok(read) => {
                let what = (read.0.iter().flatten().count(), read.1);
                assert!(read == written, "damage reads as something else: {what:?}");
                unharmed += 1;
            }
            Err(IndexError::Damaged { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    println!("{unharmed} of {rounds} unharmed");
}

fn shard(n: u8) -> NewShard {
    let bytes: bytes::Bytes = Random(n.into()).bytes(1_000 * usize::from(n) + 1).into();
    let mut hasher = SliceHasher::new(bytes.len() as u64);
    hasher.update(&bytes);
    let (root, leaves) = hasher.finish();
    let shard = ShardRef { segment: SegmentId([n; 32]), index: n % 6 };
    NewShard { vault: VaultId([1; 32]), shard, root, bytes, leaves, stored_at: Timestamp::ZERO }
}

/// Opens a store again and again, each time with damage to one of the files whose names begin so, and reads all of it;
/// how many of how many shards were served right.
fn damage_store(files: &str) -> (usize, usize) {
    let (whole, mut random) = (MemDisk::new(DISK), seeded());
    let config = StoreConfig { volume_len: 200_000, checkpoint_bytes: 100_000, ..StoreConfig::default() };
    let mut store = ShardStore::open(Arc::new(whole.clone()), config).unwrap();
    let shards: Vec<_> = (0..40).map(shard).collect();
    for batch in shards.chunks(7) {
        store.put_batch(batch).into_iter().for_each(Result::unwrap);
    }
    drop(store);
    let (mut served, rounds) = (0, rounds(40));
    for _ in 0..rounds {
        let disk = damaged(&whole, files, &mut random);
        let store = match ShardStore::open(Arc::new(disk), config) {
            Ok(store) => store,
            Err(error) => panic!("{error:?}"),
        };
        let reader = store.reader();
        for shard in &shards {
            // The bytes may be wrong, which their reader notices; never those of another shard or length.
            if let Ok(slice) = reader.read(&shard.vault, shard.shard, 0, shard.bytes.len() as u64) {
                let lens = (slice.shard_len, slice.bytes.len());
                assert_eq!(lens, (shard.bytes.len() as u64, shard.bytes.len()));
                served += usize::from(slice.bytes == shard.bytes);
            }
        }
    }
    println!("{served} of {} served", rounds * shards.len());
    (served, rounds * shards.len())
}

/// Shares, commitments, answers, keyslots and keys of access.
#[test]
fn keys_of_access() {
    let committee = Committee::new((0..7).map(|n| PublicKey([n; 32])).collect()).unwrap();
    let Dealing { commitments, shares } =
        PrfKey::from_wide(&[7; 64]).deal(Sharing::among(&committee), &[1; 32]);
    let slot = |record| SlotId {
        network: NetworkId([1; 32]),
        vault: VaultId([2; 32]),
        dealing: 3,
        scope: ScopeTag([4; 16]),
        generation: 5,
        record: RecordTag([record; 16]),
        version: VersionId([7; 16]),
    };
    let inputs = Inputs::new(&[slot(1), slot(2)]).unwrap();
    let partials: Vec<_> = shares.iter().map(|share| share.evaluate(&inputs, &[1; 32])).collect();
    fuzz(&shares, |share| share.to_bytes().to_vec(), KeyShare::from_slice);
    fuzz(&[commitments], Commitments::to_bytes, Commitments::from_slice);
    fuzz(&partials, |partial| partial.to_bytes().to_vec(), Partial::from_slice);
    let keyslot = Keyslot::from_slice(&[1; Keyslot::LEN]).unwrap();
    fuzz(&[keyslot], |slot| slot.as_bytes().to_vec(), Keyslot::from_slice);
    let key = SealKey::from_seed(&[1; 32]);
    fuzz(&[key.public().clone()], |key| key.to_bytes().to_vec(), SealPublic::from_slice);
    fuzz_text::<ScopePath>(&["clinic/2026", "c", &"x".repeat(1_200)]);

    let mut random = seeded();
    let node = ScopeKey::from_bytes([1; 32]).days().to_bytes();
    let sealed = key.public().seal(Purpose::Grant, b"context", b"text", &[2; 64]);
    for round in 0..rounds(10) {
        let mut bytes = node.to_vec();
        random.damage(&mut bytes);
        if let Some(read) = bytes.as_array().and_then(|bytes| DayNode::from_bytes(bytes).ok()) {
            assert_eq!(read.to_bytes()[..], bytes, "a node has one encoding");
        }
        let bytes = random.input(round, &sealed);
        match key.open(Purpose::Grant, b"context", &bytes) {
            Ok(opened) => assert!(bytes == sealed && *opened == b"text"),
            Err(SealError::Malformed(_) | SealError::NotAuthentic) => assert_ne!(bytes, sealed),
        }
    }
}

/// The headers and bytes of volumes.
#[test]
fn volumes() {
    let (served, all) = damage_store("volume");
    assert!(served * 10 > all * 7, "damage of one place costs no more than what is there");
}

/// The index of the volumes, which is only a cache of them.
#[test]
fn indexes_of_volumes() {
    let (served, all) = damage_store("index");
    assert_eq!(served, all);
}
