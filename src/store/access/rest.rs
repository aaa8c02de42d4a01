//! The key of what is at rest, in a file of its own that is overwritten when the key is replaced.
//!
//! ```text
//! access.key       the key that the database names
//! access.key.new   while the key is replaced: the next one
//! ```
//! The database says which of the two counts, so a crash at any line leaves one that does.

use std::io;

use redb::{Database, ReadableDatabase as _, ReadableTable as _};
use zeroize::Zeroizing;

use crate::crypto::access::RestKey;
use crate::store::access::tables::{BATCH_ENTRIES, LINES, PACKAGES, REST_KEY, SEAL_KEY, SHARES, SLOTS};
use crate::store::access::{AccessStoreError, slots};
use crate::store::disk::Disk;
use crate::store::sealed_file::Entropy;

const KEY_FILE: &str = "access.key";
/// What the seed of the seal key is wrapped for.
pub(super) const SEAL_PLACE: &[u8] = b"seal key";
const NEXT_FILE: &str = "access.key.new";

/// Reads the key, or makes the first one.
pub(super) fn open(
    disk: &dyn Disk,
    database: &Database,
    entropy: &mut Entropy,
) -> Result<RestKey, AccessStoreError> {
    let Some(wanted) = named(database)? else {
        let key = draw(entropy)?;
        // If we crash here the database names no key yet, and the next start makes another.
        put(disk, KEY_FILE, &key).map_err(AccessStoreError::Key)?;
        name(database, &key)?;
        return Ok(key);
    };
    for file in [KEY_FILE, NEXT_FILE] {
        let found = read(disk, file).map_err(AccessStoreError::Key)?;
        if let Some(key) = found.filter(|key| key.id().0 == wanted) {
            settle(disk, &key).map_err(AccessStoreError::Key)?;
            return Ok(key);
        }
    }
    Err(AccessStoreError::WrongKey)
}

/// Replaces the key: first the next is on disk, then the database is wrapped under it and names it, then the old one goes.
pub(super) fn renew(
    disk: &dyn Disk,
    database: &Database,
    old: &RestKey,
    entropy: &mut Entropy,
) -> Result<RestKey, AccessStoreError> {
    let next = draw(entropy)?;
    put(disk, NEXT_FILE, &next).map_err(AccessStoreError::Key)?;
    let mut nonce = || {
        let mut nonce = [0; 24];
        entropy(&mut nonce).map(|()| nonce).map_err(AccessStoreError::Key)
    };
    let txn = database.begin_write()?;
    {
        let mut shares = txn.open_table(SHARES)?;
        let mut rows = Vec::new();
        for row in shares.iter()? {
            let (key, row) = row?;
            let (place, commitments, audit, wrapped) = row.value();
            let plain = old.unwrap(key.value(), wrapped).map_err(|_| AccessStoreError::Damaged("shares"))?;
            let wrapped = next.wrap(key.value(), &plain, nonce()?);
            rows.push((*key.value(), place, commitments.to_vec(), audit.to_vec(), wrapped));
        }
        for (key, place, commitments, audit, wrapped) in rows {
            shares.insert(&key, (place, &commitments[..], &audit[..], &wrapped[..]))?;
        }
        let entries = txn.open_table(BATCH_ENTRIES)?;
        let mut table = txn.open_table(SLOTS)?;
        let mut rows = Vec::new();
        for row in table.iter()? {
            let (key, row) = row?;
            let (number, at, _) = row.value();
            let (_, named, slot) = slots::unmasked(old, &entries, key.value(), row.value())?;
            rows.push((*key.value(), number, at, slots::masked(&next, key.value(), &named, &slot)));
        }
        for (key, number, at, masked) in rows {
            table.insert(&key, (number, at, &masked))?;
        }
        let mut lines = txn.open_table(LINES)?;
        let mut rows = Vec::new();
        for row in lines.iter()? {
            let (key, wrapped) = row?;
            let plain =
                old.unwrap(key.value(), wrapped.value()).map_err(|_| AccessStoreError::Damaged("lines"))?;
            rows.push((*key.value(), next.wrap(key.value(), &plain, nonce()?)));
        }
        for (key, wrapped) in rows {
            lines.insert(&key, &wrapped[..])?;
        }
        let mut packages = txn.open_table(PACKAGES)?;
        let keys: Vec<[u8; 64]> =
            packages.iter()?.map(|row| row.map(|(key, _)| *key.value())).collect::<Result<_, _>>()?;
        // One at a time: each may have megabytes.
        for key in keys {
            let row = packages.get(&key)?.map(|row| {
                let (kind, since, wrapped) = row.value();
                (kind, since, old.unwrap(&key, wrapped))
            });
            let Some((kind, since, plain)) = row else { continue };
            let plain = plain.map_err(|_| AccessStoreError::Damaged("packages"))?;
            packages.insert(&key, (kind, since, &next.wrap(&key, &plain, nonce()?)[..]))?;
        }
        let mut seal = txn.open_table(SEAL_KEY)?;
        let row = seal.get(())?.map(|row| row.value().to_vec());
        if let Some(wrapped) = row {
            let plain =
                old.unwrap(SEAL_PLACE, &wrapped).map_err(|_| AccessStoreError::Damaged("seal key"))?;
            seal.insert((), &next.wrap(SEAL_PLACE, &plain, nonce()?)[..])?;
        }
        super::handoff::rewrap(&txn, old, &next, &mut nonce)?;
        txn.open_table(REST_KEY)?.insert((), &next.id().0)?;
    }
    // If we crash before this the old key counts, after it the next.
    txn.commit()?;
    settle(disk, &next).map_err(AccessStoreError::Key)?;
    Ok(next)
}

/// Leaves this key alone: the file of the other one is overwritten, not only removed.
fn settle(disk: &dyn Disk, key: &RestKey) -> io::Result<()> {
    let file = disk.open(KEY_FILE).or_else(|_| disk.create(KEY_FILE))?;
    let mut there = Zeroizing::new([0; 32]);
    let is_there = file.len()? == 32 && file.read_at(0, &mut *there).is_ok() && *there == *key.as_bytes();
    if !is_there {
        file.write_at(0, key.as_bytes())?;
        file.set_len(32)?;
        file.sync_data()?;
    }
    match disk.open(NEXT_FILE) {
        Ok(next) => {
            next.write_at(0, &[0; 32])?;
            next.sync_data()?;
            disk.remove(NEXT_FILE)?;
            disk.sync_dir()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.sync_dir(),
        Err(error) => Err(error),
    }
}

fn draw(entropy: &mut Entropy) -> Result<RestKey, AccessStoreError> {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy(&mut *bytes).map_err(AccessStoreError::Key)?;
    Ok(RestKey::from_bytes(*bytes))
}

fn put(disk: &dyn Disk, name: &str, key: &RestKey) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(name)?;
    file.write_at(0, key.as_bytes())?;
    file.sync_data()?;
    disk.sync_dir()
}

fn read(disk: &dyn Disk, name: &str) -> io::Result<Option<RestKey>> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Zeroizing::new([0; 32]);
    if file.len()? < 32 {
        return Ok(None);
    }
    file.read_at(0, &mut *bytes)?;
    Ok(Some(RestKey::from_bytes(*bytes)))
}

fn named(database: &Database) -> Result<Option<[u8; 32]>, AccessStoreError> {
    let txn = database.begin_read()?;
    match txn.open_table(REST_KEY) {
        Ok(table) => Ok(table.get(())?.map(|row| *row.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn name(database: &Database, key: &RestKey) -> Result<(), AccessStoreError> {
    let txn = database.begin_write()?;
    txn.open_table(REST_KEY)?.insert((), &key.id().0)?;
    txn.commit()?;
    Ok(())
}
