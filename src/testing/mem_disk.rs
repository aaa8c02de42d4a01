//! A disk in memory that keeps what [`disk`](crate::store::disk) promises and nothing more.
//!
//! It can lose power at any operation that changes something: [`MemDisk::after_power_loss`] is the disk
//! as the next start finds it, where each 512-byte sector written since the last sync is there or not.
//! It can also run full, fail single operations and flip bits. Only faults that the stores promise to
//! survive are built in: synced bytes never vanish by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::disk::{Disk, DiskFile, HOLE_ALIGN};

const SECTOR: u64 = 512;
const PAGE: u64 = HOLE_ALIGN;
const PAGE_LEN: usize = 4_096;

/// Operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// [`Disk::open`].
    Open,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::preallocate`].
    Preallocate,
    /// [`DiskFile::sync_data`].
    Sync,
    /// [`DiskFile::punch_hole`].
    Punch,
}

/// What a power loss leaves of the changes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survivors {
    /// None of them.
    Nothing,
    /// All of them: as after the death of the process alone.
    Everything,
    /// Each sector, length and name by a coin of this seed.
    Random(u64),
}

/// A disk in memory. Clones are handles to the same disk.
#[derive(Debug, Clone)]
pub struct MemDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// By the id that names refer to; never removed, since handles outlive names.
    files: Vec<Content>,
    capacity: u64,
    /// Changes so far: the points at which power can be lost.
    changes: u64,
    power_loss_at: Option<u64>,
    down: bool,
    faults: Vec<Fault>,
    /// Files whose syncs do nothing.
    unsynced: Option<String>,
    /// Every open file has a clone.
    handles: Arc<()>,
}

#[derive(Debug)]
struct Fault {
    op: Op,
    name: String,
    kind: ErrorKind,
    /// How many of them succeed before.
    skip: usize,
}

#[derive(Debug, Clone, Default)]
struct Content {
    /// Pages that take space; all others read as zeros.
    pages: BTreeMap<u64, Box<[u8; PAGE_LEN]>>,
    len: u64,
    durable_len: u64,
    /// What the sectors changed since the last sync held at that sync.
    undo: BTreeMap<u64, [u8; SECTOR as usize]>,
}

impl MemDisk {
    /// An empty disk with room for `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self(Arc::new(Mutex::new(State { capacity, ..State::default() })))
    }

    /// Changes what the disk has room for; what is there stays.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// How many changes (writes, lengths, names, syncs) were made so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Loses power in the middle of change number `change`, counted from 0: from there on every
    /// operation fails.
    pub fn lose_power_at(&self, change: u64) {
        self.state().power_loss_at = Some(change);
    }

    /// Loses power now.
    pub fn lose_power(&self) {
        self.state().down = true;
    }

    /// From here on syncs of files whose name begins with `name` succeed and make nothing durable: not a fault that
    /// stores promise to survive, but a control for the tests that look for them.
    pub fn ignore_syncs(&self, name: &str) {
        self.state().unsynced = Some(name.to_owned());
    }

    /// Whether power was lost.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state().down
    }

    /// How many files are open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        Arc::strong_count(&self.state().handles) - 1
    }

    /// Makes the next `op` on a file whose name begins with `name` fail once with `kind`.
    pub fn fail_next(&self, op: Op, name: &str, kind: ErrorKind) {
        self.fail_after(0, op, name, kind);
    }

    /// As [`fail_next`](Self::fail_next), but `skip` of them succeed before.
    pub fn fail_after(&self, skip: usize, op: Op, name: &str, kind: ErrorKind) {
        self.state().faults.push(Fault { op, name: name.to_owned(), kind, skip });
    }

    /// Turns one bit of a file around, as rot does: synced and unnoticed.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        let mut state = self.state();
        let id = *state.names.get(name).unwrap_or_else(|| panic!("no file {name}"));
        let page = state.files[id].pages.entry(offset / PAGE).or_insert_with(zero_page);
        page[within_page(offset)] ^= 1 << (bit % 8);
    }

    /// The disk as the next start finds it.
    #[must_use]
    pub fn after_power_loss(&self, survivors: Survivors) -> Self {
        let state = self.state();
        let mut coin = Coin::new(survivors);
        let mut image = State { capacity: state.capacity, ..State::default() };
        let names: BTreeSet<&String> = state.names.keys().chain(state.durable_names.keys()).collect();
        for name in names {
            let (new, old) = (state.names.get(name), state.durable_names.get(name));
            let chosen = if new == old || coin.toss() { new } else { old };
            if let Some(&id) = chosen {
                image.names.insert(name.clone(), image.files.len());
                image.files.push(state.files[id].after_power_loss(&mut coin));
            }
        }
        image.durable_names = image.names.clone();
        Self(Arc::new(Mutex::new(image)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, state: &State, name: &str, id: usize) -> Arc<dyn DiskFile> {
        let handle = Arc::clone(&state.handles);
        Arc::new(MemFile { disk: self.clone(), name: name.to_owned(), id, _handle: handle })
    }
}

impl Disk for MemDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.change()?;
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.to_owned(), id);
        Ok(self.file(&state, name, id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.check_power()?;
        state.fault(Op::Open, name)?;
        let id = *state.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(self.file(&state, name, id))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.names.remove(name).map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let id = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_power()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.down { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    fn change(&mut self) -> io::Result<()> {
        self.check_power()?;
        self.down = self.power_loss_at == Some(self.changes);
        self.changes += 1;
        self.check_power()
    }

    fn fault(&mut self, op: Op, name: &str) -> io::Result<()> {
        match self.faults.iter().position(|fault| fault.op == op && name.starts_with(&fault.name)) {
            Some(at) if self.faults[at].skip > 0 => {
                self.faults[at].skip -= 1;
                Ok(())
            }
            Some(at) => Err(self.faults.remove(at).kind.into()),
            None => Ok(()),
        }
    }

    /// Space taken by files that have a name.
    fn used(&self) -> u64 {
        self.names.values().map(|&id| self.files[id].allocated()).sum()
    }

    /// Gives space to every page of the range, as far as there is room.
    fn allocate(&mut self, id: usize, offset: u64, len: u64) -> io::Result<()> {
        let mut room = self.capacity.saturating_sub(self.used()) / PAGE;
        for page in offset / PAGE..(offset + len).div_ceil(PAGE) {
            if let std::collections::btree_map::Entry::Vacant(entry) = self.files[id].pages.entry(page) {
                room = room.checked_sub(1).ok_or(ErrorKind::StorageFull)?;
                entry.insert(zero_page());
            }
        }
        Ok(())
    }
}

impl Content {
    fn allocated(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        for (at, piece) in pieces(offset, out.len()) {
            let out = &mut out[piece];
            match self.pages.get(&(at / PAGE)) {
                Some(page) => out.copy_from_slice(&page[within_page(at)..][..out.len()]),
                None => out.fill(0),
            }
        }
    }

    /// Remembers what the sectors of the range hold, unless they have changed since the last sync.
    fn remember(&mut self, offset: u64, len: u64) {
        for sector in offset / SECTOR..(offset + len).div_ceil(SECTOR) {
            if !self.undo.contains_key(&sector) {
                let mut old = [0; SECTOR as usize];
                self.read(sector * SECTOR, &mut old);
                self.undo.insert(sector, old);
            }
        }
    }

    /// Overwrites the range; pages without space come into being.
    fn put(&mut self, offset: u64, data: &[u8]) {
        for (at, piece) in pieces(offset, data.len()) {
            let data = &data[piece];
            let page = self.pages.entry(at / PAGE).or_insert_with(zero_page);
            page[within_page(at)..][..data.len()].copy_from_slice(data);
        }
    }

    /// Zeros the range and gives the pages that are wholly in it back.
    fn clear(&mut self, offset: u64, end: u64) {
        let touched: Vec<u64> =
            self.pages.range(offset / PAGE..end.div_ceil(PAGE)).map(|(&n, _)| n).collect();
        for number in touched {
            let (start, stop) = (offset.max(number * PAGE), end.min((number + 1) * PAGE));
            self.remember(start, stop - start);
            if stop - start == PAGE {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                let from = within_page(start);
                page[from..][..usize::try_from(stop - start).unwrap_or(0)].fill(0);
            }
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.clear(len, self.len.next_multiple_of(PAGE));
        }
        self.len = len;
    }

    fn after_power_loss(&self, coin: &mut Coin) -> Self {
        let mut image = self.clone();
        let undo = std::mem::take(&mut image.undo);
        for (sector, old) in undo {
            if !coin.toss() {
                image.put(sector * SECTOR, &old);
            }
        }
        let len = if self.len == self.durable_len || coin.toss() { self.len } else { self.durable_len };
        // What lies behind the end is gone whatever the coin said of its sectors.
        image.clear(len, u64::MAX / PAGE * PAGE);
        image.undo.clear();
        image.len = len;
        image.durable_len = len;
        image
    }
}

#[derive(Debug)]
struct MemFile {
    disk: MemDisk,
    name: String,
    id: usize,
    _handle: Arc<()>,
}

impl DiskFile for MemFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check_power()?;
        state.fault(Op::Read, &self.name)?;
        let file = &state.files[self.id];
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > file.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        file.read(offset, out);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check_power()?;
        // A write that is cut off may have arrived, wholly or in part: it is made, not synced.
        let powered = state.change();
        state.fault(Op::Write, &self.name)?;
        let len = data.len() as u64;
        state.allocate(self.id, offset, len)?;
        let file = &mut state.files[self.id];
        file.remember(offset, len);
        file.put(offset, data);
        file.len = file.len.max(offset + len);
        powered
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.check_power()?;
        Ok(state.files[self.id].len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        state.files[self.id].set_len(len);
        Ok(())
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        state.fault(Op::Preallocate, &self.name)?;
        state.allocate(self.id, offset, len)?;
        let file = &mut state.files[self.id];
        file.len = file.len.max(offset + len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        state.fault(Op::Sync, &self.name)?;
        if state.unsynced.as_ref().is_some_and(|name| self.name.starts_with(name)) {
            return Ok(());
        }
        let file = &mut state.files[self.id];
        file.undo.clear();
        file.durable_len = file.len;
        Ok(())
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        state.fault(Op::Punch, &self.name)?;
        let file = &mut state.files[self.id];
        let end = offset.saturating_add(len).min(file.len);
        if offset < end {
            file.clear(offset, end);
        }
        Ok(())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.check_power()?;
        Ok(state.files[self.id].allocated())
    }
}

/// Decides what survives.
struct Coin {
    survivors: Survivors,
    state: u64,
}

impl Coin {
    const fn new(survivors: Survivors) -> Self {
        let state = if let Survivors::Random(seed) = survivors { seed } else { 0 };
        Self { survivors, state }
    }

    /// One step of SplitMix64.
    const fn toss(&mut self) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        match self.survivors {
            Survivors::Nothing => false,
            Survivors::Everything => true,
            Survivors::Random(_) => (mixed ^ (mixed >> 31)) & 1 == 1,
        }
    }
}

fn zero_page() -> Box<[u8; PAGE_LEN]> {
    Box::new([0; PAGE_LEN])
}

/// Where in its page an offset is.
fn within_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE).unwrap_or(0)
}

/// Cuts `len` bytes at `offset` at the borders of pages: offset in the file, range of the buffer.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let step = (len - done).min(PAGE_LEN - within_page(at));
        (step > 0).then(|| {
            done += step;
            (at, done - step..done)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &Arc<dyn DiskFile>, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![9; len];
        file.read_at(offset, &mut out).unwrap();
        out
    }

    #[test]
    fn synced_bytes_survive_and_others_by_the_coin() {
        let disk = MemDisk::new(1 << 20);
        let file = disk.create("file").unwrap();
        file.write_at(0, &[1; 10_000]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(100, &[2; 5_000]).unwrap();
        let image = |survivors| {
            let file = disk.after_power_loss(survivors).open("file").unwrap();
            read(&file, 0, 10_000)
        };
        assert_eq!(image(Survivors::Nothing), [1; 10_000]);
        assert_eq!(image(Survivors::Everything), read(&file, 0, 10_000));
        let torn = image(Survivors::Random(1));
        assert_ne!(torn, image(Survivors::Nothing));
        assert_ne!(torn, image(Survivors::Everything));
        assert_eq!(torn, image(Survivors::Random(1)), "the same seed gives the same image");
        assert_eq!(torn[6_000..], [1; 4_000]);
    }

    #[test]
    fn a_name_survives_only_a_sync_of_the_folder() {
        let disk = MemDisk::new(1 << 20);
        disk.create("kept").unwrap();
        disk.sync_dir().unwrap();
        disk.create("new").unwrap().sync_data().unwrap();
        disk.remove("kept").unwrap();
        assert_eq!(disk.after_power_loss(Survivors::Nothing).list().unwrap(), ["kept"]);
        assert_eq!(disk.after_power_loss(Survivors::Everything).list().unwrap(), ["new"]);
        disk.sync_dir().unwrap();
        disk.rename("new", "named").unwrap();
        assert_eq!(disk.after_power_loss(Survivors::Nothing).list().unwrap(), ["new"]);
        disk.sync_dir().unwrap();
        assert_eq!(disk.after_power_loss(Survivors::Nothing).list().unwrap(), ["named"]);
    }

    #[test]
    fn a_cut_that_was_not_synced_may_come_back_whole() {
        let disk = MemDisk::new(1 << 20);
        let file = disk.create("file").unwrap();
        file.write_at(0, &[3; 9_000]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.set_len(10).unwrap();
        file.write_at(600, &[4; 10]).unwrap();
        assert_eq!(read(&file, 10, 590), [0; 590]);
        let old = disk.after_power_loss(Survivors::Nothing).open("file").unwrap();
        assert_eq!(read(&old, 0, 9_000), [3; 9_000]);
    }

    #[test]
    fn space_runs_out_and_comes_back() {
        let disk = MemDisk::new(3 * PAGE);
        let file = disk.create("file").unwrap();
        file.write_at(0, &[5; 3 * PAGE_LEN]).unwrap();
        assert_eq!(file.write_at(3 * PAGE, b"x").unwrap_err().kind(), ErrorKind::StorageFull);
        file.punch_hole(PAGE, PAGE + 1).unwrap();
        assert_eq!((file.allocated_bytes().unwrap(), disk.free_bytes().unwrap()), (2 * PAGE, PAGE));
        assert_eq!(read(&file, PAGE - 1, 2), [5, 0]);
        assert_eq!(read(&file, 2 * PAGE, 2), [0, 5]);
        file.write_at(3 * PAGE, b"x").unwrap();
    }

    #[test]
    fn power_is_lost_at_the_change_asked_for() {
        let disk = MemDisk::new(1 << 20);
        let file = disk.create("file").unwrap();
        disk.sync_dir().unwrap();
        disk.lose_power_at(disk.changes());
        file.write_at(0, &[1; 100]).unwrap_err();
        assert!(disk.is_down() && file.sync_data().is_err() && disk.open("file").is_err());
        file.write_at(0, &[2; 100]).unwrap_err();
        // The write that was cut off may still have arrived.
        let whole = disk.after_power_loss(Survivors::Everything).open("file").unwrap();
        assert_eq!(read(&whole, 0, 100), [1; 100]);
        assert!(disk.after_power_loss(Survivors::Nothing).open("file").unwrap().is_empty().unwrap());
    }

    #[test]
    fn power_is_lost_at_once_and_syncs_that_are_ignored_make_nothing_durable() {
        let disk = MemDisk::new(1 << 20);
        let (one, two) = (disk.create("one").unwrap(), disk.create("two").unwrap());
        disk.sync_dir().unwrap();
        disk.ignore_syncs("one");
        for file in [&one, &two] {
            file.write_at(0, b"bytes").unwrap();
            file.sync_data().unwrap();
        }
        disk.lose_power();
        assert!(disk.is_down() && two.sync_data().is_err());
        let after = disk.after_power_loss(Survivors::Nothing);
        assert!(after.open("one").unwrap().is_empty().unwrap());
        assert_eq!(read(&after.open("two").unwrap(), 0, 5), b"bytes");
    }

    #[test]
    fn a_fault_hits_once_and_only_its_file() {
        let disk = MemDisk::new(1 << 20);
        let (one, two) = (disk.create("one").unwrap(), disk.create("two").unwrap());
        disk.fail_next(Op::Sync, "two", ErrorKind::Other);
        one.sync_data().unwrap();
        two.sync_data().unwrap_err();
        two.sync_data().unwrap();
    }
}
