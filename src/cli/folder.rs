//! Files that appear whole or not at all, in folders that nobody can lead us out of.
//!
//! The names of records are not paths: `../x`, `/etc/passwd` and `a//b` are names like others. And the
//! folder we write into may hold symbolic links that someone else put there. So a name is checked part
//! by part, and each part is opened relative to the folder before it, never through a link.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::escape;

/// The parts of a record's name as a path below a folder.
///
/// # Errors
/// A refusal if some file system would read the name as another path than it spells.
pub(crate) fn parts(name: &str) -> Result<Vec<&str>, Failure> {
    let refuse = |why: &str| {
        let message = format!("the name {} cannot become a file: {why}", escape(name));
        Failure::refused(message).hint("get it by itself, to a file that you name")
    };
    let parts: Vec<&str> = name.split('/').collect();
    for part in &parts {
        match *part {
            "" => return Err(refuse("it begins or ends with a slash or has two in a row")),
            "." | ".." => return Err(refuse("it would leave its folder")),
            part if part.contains('\0') => return Err(refuse("it has a NUL byte")),
            _ => {}
        }
    }
    Ok(parts)
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// A file that has no name yet. Dropped without [`keep`](Self::keep) it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    folder: Folder,
    /// The name until it is kept; `None` afterwards.
    temporary: Option<String>,
}

impl Folder {
    /// Opens a folder that the user named, through links if that is what the name means.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let fd = openat(CWD, path, FOLDER, Mode::empty()).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("cannot use the folder {}: {}", shown(path), io::Error::from(error)),
            )
        })?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens a folder in this one, making it if need be; refuses a link.
    fn descend(&self, part: &str) -> anyhow::Result<Self> {
        let path = self.path.join(part);
        match mkdirat(&self.fd, part, Mode::from(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failure(&path, error).into()),
        }
        match openat(&self.fd, part, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let message = format!("{} is a link or a file where a folder should be", shown(&path));
                Err(Failure::refused(message).into())
            }
            Err(error) => Err(failure(&path, error).into()),
        }
    }

    /// The folder of the last of these parts, below this one.
    pub(crate) fn parent_of(&self, parts: &[&str]) -> anyhow::Result<Self> {
        let mut folder = Self { fd: self.fd.try_clone()?, path: self.path.clone() };
        for part in parts.split_last().map_or(&[][..], |(_, before)| before) {
            folder = folder.descend(part)?;
        }
        Ok(folder)
    }

    /// Whether there is anything of this name.
    pub(crate) fn holds(&self, name: &str) -> anyhow::Result<bool> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(failure(&self.path_of(name), error).into()),
        }
    }

    /// How the file of this name is called where the user stands.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        if self.path == Path::new(".") { PathBuf::from(name) } else { self.path.join(name) }
    }

    /// Begins the file that is to have this name.
    pub(crate) fn create(self, name: &str) -> anyhow::Result<NewFile> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let temporary = format!(".xvault-{}.part", data_encoding::HEXLOWER.encode(&random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = openat(&self.fd, &temporary, flags, Mode::from(0o666))
            .map_err(|error| failure(&self.path_of(name), error))?;
        Ok(NewFile { file: fd.into(), folder: self, temporary: Some(temporary) })
    }
}

impl NewFile {
    /// The file, to be filled.
    pub(crate) const fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes the content durable and gives the file its name. If we crash before the rename there is no
    /// such file; after it the file is whole.
    ///
    /// # Errors
    /// A refusal if the name is taken, unless `force` is set.
    pub(crate) fn keep(mut self, name: &str, force: bool) -> anyhow::Result<()> {
        let path = self.folder.path_of(name);
        self.file.sync_all().map_err(|error| full_or_failed(&path, &error))?;
        let Some(temporary) = self.temporary.take() else { return Ok(()) };
        let renamed = self.rename(&temporary, name, force);
        if renamed.is_err() {
            self.temporary = Some(temporary);
        }
        match renamed {
            Err(Errno::EXIST) => Err(exists(&path).into()),
            Err(error) => Err(failure(&path, error).into()),
            Ok(()) => Ok(()),
        }
    }

    fn rename(&self, from: &str, to: &str, force: bool) -> Result<(), Errno> {
        let fd = &self.folder.fd;
        let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(fd, from, fd, to, flags) {
            // This file system cannot refuse to replace: look first, which leaves a short race.
            Err(Errno::INVAL | Errno::NOSYS) if !force => match statat(fd, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(fd, from, fd, to),
                Err(error) => Err(error),
            },
            renamed => renamed,
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            unlinkat(&self.folder.fd, temporary, AtFlags::empty()).ok();
        }
    }
}

/// The refusal to overwrite a file.
pub(crate) fn exists(path: &Path) -> Failure {
    Failure::refused(format!("{} exists", shown(path))).hint("--force overwrites it")
}

/// An error in writing a file, with the exit code for a full disk.
pub(crate) fn full_or_failed(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::Full,
        _ => Exit::Failed,
    };
    Failure::new(exit, format!("cannot write {}: {error}", shown(path)))
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn failure(path: &Path, error: Errno) -> Failure {
    full_or_failed(path, &error.into())
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn write(root: &Folder, name: &str, force: bool) -> anyhow::Result<()> {
        let parts = parts(name)?;
        let mut file = root.parent_of(&parts)?.create(parts.last().unwrap())?;
        file.file().write_all(name.as_bytes())?;
        file.keep(parts.last().unwrap(), force)
    }

    fn exit(result: anyhow::Result<()>) -> Exit {
        Exit::of(&result.unwrap_err())
    }

    #[test]
    fn a_file_appears_whole_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        write(&root, "a/b/c", false).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a/b/c")).unwrap(), b"a/b/c");
        assert_eq!(exit(write(&root, "a/b/c", false)), Exit::Refused);
        write(&root, "a/b/c", true).unwrap();
        drop(root.parent_of(&["x"]).unwrap().create("x").unwrap());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn no_name_leaves_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        for name in ["../x", "..", "a/../../x", "/etc/x", "a//b", "a/", ".", "a/./b", "", "a\0b"] {
            assert_eq!(exit(write(&root, name, true)), Exit::Refused, "{name:?}");
        }
        for name in ["...", "a\nb", "a\\..\\b", "~", "-rf"] {
            write(&root, name, false).unwrap();
        }
    }

    #[test]
    fn no_link_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("x"), dir.path().join("file")).unwrap();
        assert_eq!(exit(write(&root, "link/x", true)), Exit::Refused);
        assert_eq!(exit(write(&root, "file", false)), Exit::Refused);
        write(&root, "file", true).unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(exit(write(&root, "file/x", true)), Exit::Refused);
    }
}
