//! redb on a [`DiskFile`], so that the same database code runs on files and in the simulator.

use std::io;
use std::sync::Arc;

use redb::{Database, DatabaseError, StorageBackend};

use crate::store::disk::{Disk, DiskFile};

/// A file as redb's storage.
#[derive(Debug)]
struct DiskBackend(Arc<dyn DiskFile>);

impl StorageBackend for DiskBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}

/// Opens the database in the file of this name, or makes an empty one. `cache_bytes` bounds its memory. Every page
/// is checked first.
///
/// # Errors
/// [`DatabaseError`] as the disk or redb reports.
pub(crate) fn open_or_create(
    disk: &dyn Disk,
    name: &str,
    cache_bytes: usize,
) -> Result<Database, DatabaseError> {
    match disk.open(name) {
        Ok(file) => open(file, cache_bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(disk, name, cache_bytes),
        Err(error) => Err(storage(error)),
    }
}

fn open(file: Arc<dyn DiskFile>, cache_bytes: usize) -> Result<Database, DatabaseError> {
    Database::builder()
        .set_cache_size(cache_bytes)
        .set_check_integrity_on_open(true)
        .create_with_backend(DiskBackend(file))
}

/// Makes an empty database. redb does not open a file of which only a part was ever written, so it gets its name when it is
/// whole: if we crash before the last line the next attempt begins anew.
fn create(disk: &dyn Disk, name: &str, cache_bytes: usize) -> Result<Database, DatabaseError> {
    let making = format!("{name}.new");
    match disk.remove(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(storage(error)),
        _ => {}
    }
    let file = disk.create(&making).map_err(storage)?;
    let database = open(Arc::clone(&file), cache_bytes)?;
    file.sync_data().map_err(storage)?;
    disk.rename(&making, name).map_err(storage)?;
    disk.sync_dir().map_err(storage)?;
    Ok(database)
}

fn storage(error: io::Error) -> DatabaseError {
    DatabaseError::Storage(redb::StorageError::Io(error))
}
