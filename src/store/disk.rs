//! Where bytes rest: the few file operations the stores use, and what each promises about a crash.
//!
//! Two implementations: [`FileDisk`] (a folder of the operating system) and, for tests and the
//! simulator, `testing::mem_disk::MemDisk`, which loses exactly what is not promised here.
//!
//! # Durability, by system call
//! * Bytes written with `pwrite` are in the page cache: they survive the process, not the machine.
//!   [`DiskFile::sync_data`] is `fdatasync`: after it the bytes, and as much metadata as reading
//!   them back needs (length, extents), survive the machine. Before it any subset of the 512-byte
//!   sectors written since the last sync may be there.
//! * A file's *name* belongs to its folder: [`Disk::create`], [`Disk::rename`] and [`Disk::remove`] survive the
//!   machine only after [`Disk::sync_dir`], an `fsync` of the folder. So a new file takes two syncs: its data
//!   and its folder.
//! * After a failed `fdatasync` the kernel may have dropped the dirty pages and reports the error only
//!   once (Linux, "fsyncgate"): a second call that succeeds proves nothing. Whoever gets that error
//!   must stop writing and recover from what is on disk.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Whether an error of the system is for want of space.
pub(crate) fn says_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// A flat set of named files.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes an empty file, open for reading and writing. Its name is durable after
    /// [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of all files, in order.
    ///
    /// # Errors
    /// As the system reports.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file's name; whoever has it open reads on. Durable after
    /// [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of the file that has it. Durable after
    /// [`sync_dir`](Self::sync_dir); a crash before may leave either name, both or none.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes names created, given and removed before durable.
    ///
    /// # Errors
    /// As the system reports; see the module about what a failed sync means.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that may still be written by this user.
    ///
    /// # Errors
    /// As the system reports.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file, read and written at positions, from any thread.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] if the file ends before `out` is full.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`; the file grows as needed.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] without space; then any part of `data` may have been written.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Writes the parts one after the other at `offset`, with as few system calls as it takes.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    fn write_parts_at(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.write_at(offset, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// As the system reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or lengthens it with zeros that take no space.
    ///
    /// # Errors
    /// As the system reports.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space for `offset..offset + len` and lengthens the file to cover it; new bytes read as
    /// zeros. Later writes there neither run out of space nor change the file's length, which makes
    /// their sync cheaper. Where the system has no such call this only lengthens the file.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] without space.
    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes all bytes written before durable: see the module.
    ///
    /// # Errors
    /// As the system reports; see the module about what a failed sync means.
    fn sync_data(&self) -> io::Result<()>;

    /// Gives the space of a range back; it reads as zeros and the length stays. Only whole
    /// [`HOLE_ALIGN`] blocks inside the range give space back.
    ///
    /// # Errors
    /// As the system reports.
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Bytes of disk that the file takes.
    ///
    /// # Errors
    /// As the system reports.
    fn allocated_bytes(&self) -> io::Result<u64>;
}

/// Bytes of a file system block: the unit in which holes give space back. Every common Linux file
/// system uses this size; on one with larger blocks holes give back less, never too much.
pub const HOLE_ALIGN: u64 = 4_096;

/// A folder of the operating system. Files in it are readable by their user only.
#[derive(Debug)]
pub struct FileDisk {
    folder: PathBuf,
    handle: File,
}

impl FileDisk {
    /// Opens the folder, which is made (mode 0700) if it is not there.
    ///
    /// # Errors
    /// As the system reports.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let handle = File::open(&folder)?;
        Ok(Self { folder, handle })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let mut components = Path::new(name).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(one)), None) if one == name => Ok(self.folder.join(name)),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "not a plain file name")),
        }
    }
}

impl Disk for FileDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let path = self.path(name)?;
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Arc::new(OsFile { file, path, direct: OnceLock::new() }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name)?;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Arc::new(OsFile { file, path, direct: OnceLock::new() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from)?, self.path(to)?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.handle)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
    /// Opened at the first long write; `None` where the file system has no direct writes.
    direct: OnceLock<Option<Direct>>,
}

/// Writes that go past the page cache: copying a shard into fresh cache pages costs more than all else
/// that a node does with it.
#[derive(Debug)]
struct Direct {
    file: File,
    staging: Mutex<Vec<u8>>,
}

/// Alignment of offset, length and memory of a direct write: the block of every common disk and file system.
const DIRECT_ALIGN: usize = 4_096;
/// Shorter writes are left to the page cache, which puts them together.
const DIRECT_MIN_LEN: usize = 256 * 1024;
/// Bytes of one direct write; longer ones gain nothing.
const STAGING_LEN: usize = 4 << 20;

impl Direct {
    fn open(path: &Path) -> Option<Self> {
        let flags = rustix::fs::OFlags::DIRECT.bits().try_into().ok()?;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        Some(Self { file, staging: Mutex::default() })
    }

    /// Writes the parts, whose lengths together and whose offset are aligned.
    fn write(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        staging.resize(STAGING_LEN + DIRECT_ALIGN, 0);
        let skip = staging.as_ptr().align_offset(DIRECT_ALIGN);
        let aligned = &mut staging[skip..skip + STAGING_LEN];
        let mut filled = 0;
        for part in parts {
            let mut part = *part;
            while !part.is_empty() {
                let take = part.len().min(STAGING_LEN - filled);
                aligned[filled..filled + take].copy_from_slice(&part[..take]);
                (part, filled) = (&part[take..], filled + take);
                if filled == STAGING_LEN {
                    self.file.write_all_at(aligned, offset)?;
                    (offset, filled) = (offset + STAGING_LEN as u64, 0);
                }
            }
        }
        self.file.write_all_at(&aligned[..filled], offset)
    }
}

impl OsFile {
    /// The direct way for a write of this shape, if there is one.
    fn direct(&self, offset: u64, len: usize) -> Option<&Direct> {
        let aligned = offset.is_multiple_of(DIRECT_ALIGN as u64) && len.is_multiple_of(DIRECT_ALIGN);
        if len < DIRECT_MIN_LEN || !aligned {
            return None;
        }
        self.direct.get_or_init(|| Direct::open(&self.path)).as_ref()
    }
}

/// Parts that one `pwritev` takes at most (IOV_MAX on Linux).
const MAX_PARTS: usize = 1_024;

impl DiskFile for OsFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn write_parts_at(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let len = parts.iter().map(|part| part.len()).sum();
        if let Some(direct) = self.direct(offset, len) {
            match direct.write(offset, parts) {
                // A file system that takes the flag and not the write: the page cache takes anything.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                done => return done,
            }
        }
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        // Empty parts at the front would look like a write that makes no progress.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = match rustix::io::pwritev(&self.file, &rest[..rest.len().min(MAX_PARTS)], offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), offset, len) {
            // Some file systems (NFS before 4.2) cannot: fall through.
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            done => return Ok(done?),
        }
        let end = offset.saturating_add(len);
        if self.len()? < end { self.set_len(end) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::FallocateFlags;
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&self.file, mode, offset, len) {
                // A file system without holes keeps the space until the file is removed; the zeros
                // below keep the promise of what a hole reads as.
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                done => return Ok(done?),
            }
        }
        const ZEROS: &[u8] = &[0; 64 * 1024];
        let end = offset.saturating_add(len).min(self.len()?);
        let mut at = offset;
        while at < end {
            let step = usize::try_from(end - at).map_or(ZEROS.len(), |rest| rest.min(ZEROS.len()));
            self.write_at(at, &ZEROS[..step])?;
            at += step as u64;
        }
        Ok(())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        // st_blocks counts 512-byte units whatever the block size is.
        Ok(self.file.metadata()?.blocks() * 512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, FileDisk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(folder.path().join("a/b")).unwrap();
        (folder, disk)
    }

    #[test]
    fn files_are_made_once_listed_renamed_and_removed() {
        let (_folder, disk) = disk();
        disk.create("two").unwrap();
        disk.create("one").unwrap();
        assert_eq!(disk.create("one").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(disk.list().unwrap(), ["one", "two"]);
        disk.rename("two", "three").unwrap();
        disk.rename("three", "one").unwrap();
        assert_eq!(disk.rename("two", "one").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.list().unwrap(), ["one"]);
        disk.remove("one").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.open("one").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let (_folder, disk) = disk();
        disk.create("in").unwrap();
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a/"] {
            assert_eq!(disk.rename("in", name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
            assert_eq!(disk.create(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn parts_land_one_after_the_other() {
        let (_folder, disk) = disk();
        let file = disk.create("file").unwrap();
        let owned: Vec<Vec<u8>> = (0..3_000_usize).map(|n| vec![n.to_le_bytes()[0]; n % 5]).collect();
        let parts: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        file.write_parts_at(7, &parts).unwrap();
        let mut back = vec![0; owned.concat().len()];
        file.read_at(7, &mut back).unwrap();
        assert_eq!(back, owned.concat());
        assert_eq!(file.read_at(8, &mut back).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.write_parts_at(0, &[]).unwrap();
        file.write_parts_at(0, &[b"", b""]).unwrap();
    }

    #[test]
    fn long_aligned_writes_read_back_through_the_cache() {
        let (_folder, disk) = disk();
        let file = disk.create("file").unwrap();
        file.preallocate(0, 16 << 20).unwrap();
        file.write_at(4_096, &[7; 100]).unwrap();
        let byte = |at: usize| (at % 251).to_le_bytes()[0];
        let long: Vec<u8> = (0..9 << 20).map(byte).collect();
        let (head, tail) = long.split_at(1_234_567);
        file.write_parts_at(4_096, &[head, b"", tail]).unwrap();
        file.sync_data().unwrap();
        let mut back = vec![0; long.len()];
        file.read_at(4_096, &mut back).unwrap();
        assert!(back == long);
    }

    #[test]
    fn space_is_reserved_and_given_back() {
        let (_folder, disk) = disk();
        let file = disk.create("file").unwrap();
        file.preallocate(0, 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        file.write_at(0, &vec![1; 1 << 20]).unwrap();
        file.sync_data().unwrap();
        let before = file.allocated_bytes().unwrap();
        file.punch_hole(HOLE_ALIGN, 1 << 19).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        let mut at_edge = [9; 2];
        file.read_at(HOLE_ALIGN - 1, &mut at_edge).unwrap();
        assert_eq!(at_edge, [1, 0]);
        assert!(file.allocated_bytes().unwrap() < before);
        file.set_len(10).unwrap();
        assert_eq!(file.len().unwrap(), 10);
    }
}
