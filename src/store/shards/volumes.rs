//! The files of the volumes, of which few are open at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::disk::{Disk, DiskFile};
use crate::store::shards::StoreError;
use crate::store::volume::{file_name, volume_of};

/// Volumes open at once: of 1 TiB there are a thousand, and a process may often have no more files than that.
pub(super) const OPEN_MAX: usize = 64;

/// The volumes that a store has.
#[derive(Debug)]
pub(super) struct Volumes {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeSet<u32>,
    /// With the time of its last use. Invariant: at most [`OPEN_MAX`], all of them known.
    open: BTreeMap<u32, (u64, Arc<dyn DiskFile>)>,
    /// Counts uses.
    now: u64,
}

impl State {
    /// Keeps a file open, in place of the one that was not used for the longest time.
    fn keep(&mut self, volume: u32, file: &Arc<dyn DiskFile>) {
        self.now += 1;
        self.open.insert(volume, (self.now, Arc::clone(file)));
        if self.open.len() > OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, (used, _))| *used).map(|(volume, _)| *volume);
            oldest.and_then(|oldest| self.open.remove(&oldest));
        }
    }
}

impl Volumes {
    /// Those on the disk.
    pub(super) fn find(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let known = disk.list()?.iter().filter_map(|name| volume_of(name)).collect();
        Ok(Self { disk, state: Mutex::new(State { known, ..State::default() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn numbers(&self) -> BTreeSet<u32> {
        self.state().known.clone()
    }

    /// The file of a volume.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if there is none, else as the disk reports.
    pub(super) fn get(&self, volume: u32) -> Result<Arc<dyn DiskFile>, StoreError> {
        let mut state = self.state();
        if !state.known.contains(&volume) {
            return Err(StoreError::Corrupt);
        }
        let file = match state.open.get(&volume) {
            Some((_, file)) => Arc::clone(file),
            None => self.open(volume)?,
        };
        state.keep(volume, &file);
        Ok(file)
    }

    fn open(&self, volume: u32) -> Result<Arc<dyn DiskFile>, StoreError> {
        self.disk.open(&file_name(volume)).map_err(|error| match error.kind() {
            // Taken away while the node runs.
            io::ErrorKind::NotFound => StoreError::Corrupt,
            _ => StoreError::disk("opening a volume")(error),
        })
    }

    /// Makes a volume, whose name is durable after a sync of the folder.
    pub(super) fn create(&self, volume: u32) -> io::Result<()> {
        let name = file_name(volume);
        // A crash may have left the name without a word in the log: an empty file.
        let file = match self.disk.create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.disk.open(&name),
            created => created,
        }?;
        let mut state = self.state();
        state.known.insert(volume);
        state.keep(volume, &file);
        Ok(())
    }

    /// Removes a volume; whoever reads it reads on.
    pub(super) fn remove(&self, volume: u32) -> Result<(), StoreError> {
        match self.disk.remove(&file_name(volume)) {
            // The sync after an earlier removal failed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(StoreError::disk("removing a volume"))?,
        }
        self.disk.sync_dir().map_err(StoreError::disk("syncing the folder"))?;
        let mut state = self.state();
        state.known.remove(&volume);
        state.open.remove(&volume);
        Ok(())
    }

    /// Bytes of disk that they take; those that cannot be opened are left out.
    pub(super) fn allocated_bytes(&self) -> u64 {
        let size = |volume| {
            let opened = self.state().open.get(&volume).map(|(_, file)| Arc::clone(file));
            // Not kept open: a look at all of them would close those that are in use.
            let file = opened.map_or_else(|| self.open(volume), Ok).ok()?;
            file.allocated_bytes().ok()
        };
        self.numbers().into_iter().filter_map(size).sum()
    }
}
