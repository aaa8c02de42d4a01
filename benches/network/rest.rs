//! What a static node keeps of access, on disk and in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use redb::{ReadableDatabase as _, ReadableTableMetadata as _, TableHandle as _};
use serde_json::json;
use xvault::crypto::access::{PrfKey, SealKey, Sharing};
use xvault::store::access::AccessStore;
use xvault::store::disk::FileDisk;
use xvault::store::sealed_file::system_entropy;
use xvault::types::{Committee, PublicKey, VaultId};

use crate::Options;
use crate::network::own_anon_bytes;
use crate::report::{Outcome, Report};

/// Vaults whose shares one node is given: more than its cache holds.
const VAULTS: u32 = 40_000;

/// Rows of a table, and the bytes of their keys and values.
#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    count: u64,
    bytes: u64,
}

/// What the tables of a stopped static node's database of access have.
pub(crate) fn on_disk(report: &Report, folder: &Path) -> Outcome<()> {
    let found = tables(&folder.join("access.redb"))?;
    let of = |name: &str| found.get(name).copied().unwrap_or_default();
    let slots = of("slots");
    let tables = ["slots", "lines", "lists", "entries", "batch entries", "batches"];
    let all: u64 = tables.iter().map(|name| of(name).bytes).sum();
    let a_slot = |bytes: u64| bytes as f64 / slots.count.max(1) as f64;
    // Without its key, the number of its batch and the place in that.
    let at_rest = a_slot(slots.bytes) - 84.0 - 8.0 - 4.0;
    let with = json!({
        "keyslots": slots.count,
        "row_with_key": a_slot(slots.bytes),
        "with_entry_line_and_what_others_ask_for": a_slot(all),
    });
    report.figure("access: bytes of a keyslot at rest", "bytes", at_rest, 160.0, None, with);
    Ok(())
}

fn tables(file: &Path) -> Outcome<BTreeMap<String, Rows>> {
    let database = redb::Database::open(file)?;
    let txn = database.begin_read()?;
    let mut found = BTreeMap::new();
    for handle in txn.list_tables()? {
        let name = handle.name().to_owned();
        let table = txn.open_untyped_table(handle)?;
        found.insert(name, Rows { count: table.len()?, bytes: table.stats()?.stored_bytes() });
    }
    Ok(found)
}

/// What the shares of many vaults take in memory while all of them are used, and on disk.
pub(crate) fn of_vaults(options: &Options, report: &Report) -> Outcome<()> {
    let folder = tempfile::Builder::new().prefix("xvault-bench-").tempdir_in(&options.dir)?;
    let members = (0..7).map(|nth| PublicKey([nth; 32])).collect();
    let sharing = Sharing::among(&Committee::new(members)?);
    let dealing = PrfKey::from_wide(&[7; 64]).deal(sharing, &[9; 32]);
    let audit = SealKey::from_seed(&[3; 32]);
    let store = open(folder.path())?;
    for nth in 0..VAULTS {
        store.take_share(&vault(nth), (0, 0), &dealing.shares[0], &dealing.commitments, audit.public())?;
    }
    drop(store);
    // In a process of its own: what this one has freed would serve again, and not be counted.
    let child = Command::new(std::env::current_exe()?).arg("--use-vaults").arg(folder.path()).output()?;
    let grown: u64 = String::from_utf8(child.stdout)?.trim().parse()?;
    let rows = tables(&folder.path().join("access.redb"))?.get("shares").copied().unwrap_or_default();
    let a_vault = |bytes: u64| bytes as f64 / f64::from(VAULTS);
    let with = json!({ "vaults": VAULTS, "bytes_on_disk_a_vault": a_vault(rows.bytes) });
    report.figure(
        "access: memory of a vault whose share a node has",
        "bytes",
        a_vault(grown),
        512.0,
        None,
        with,
    );
    Ok(())
}

/// Uses the share of each vault once, and prints by how many bytes this process grew.
pub(crate) fn use_vaults(folder: &Path) -> Outcome<()> {
    let before = own_anon_bytes()?;
    let store = open(folder)?;
    for nth in 0..VAULTS {
        store.view()?.share(&vault(nth), (0, 0))?.ok_or("a share is not there")?;
    }
    println!("{}", own_anon_bytes()?.saturating_sub(before));
    Ok(())
}

fn open(folder: &Path) -> Outcome<AccessStore> {
    Ok(AccessStore::open(Arc::new(FileDisk::open(folder)?), system_entropy())?)
}

fn vault(nth: u32) -> VaultId {
    VaultId(*blake3::hash(&nth.to_le_bytes()).as_bytes())
}
