//! Random keys in files of the home folder, one for each upload into a shreddable collection that is under way: under it the
//! journal has the upload's data key. It is overwritten and removed when the keyslot is about to be kept, so that neither a copy
//! of the home folder that is made later, nor what the journal's database keeps in freed pages, gives the data key.
//!
//! The journal has a random number for each upload, and the data key follows from both. An upload whose file is gone begins
//! anew, as if its source had changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::client::{Error, ErrorKind};
use crate::crypto::frame::Dek;
use crate::crypto::hash::{Context, derive_key};
use crate::store::index::UploadId;

const PREFIX: &str = "journal-";
const SUFFIX: &str = ".key";

fn path(home: &Path, upload: &UploadId) -> PathBuf {
    home.join(format!("{PREFIX}{}{SUFFIX}", data_encoding::HEXLOWER.encode(&upload.0)))
}

/// The data key of an upload whose journal has this number.
pub(crate) fn journaled_dek(home: &Path, upload: &UploadId, number: &Dek) -> Result<Dek, Error> {
    let path = path(home, upload);
    let key = read_or_make(&path).map_err(|error| unusable(&path, error))?;
    let mut dek = Zeroizing::new([0; 32]);
    derive_key(Context::JournaledDek, &[&key[..], number.as_bytes()], &mut *dek);
    Ok(Dek::from_bytes(*dek))
}

/// Destroys the key of an upload, if it has one.
pub(crate) fn destroy(home: &Path, upload: &UploadId) -> Result<(), Error> {
    let path = path(home, upload);
    overwrite(&path).map_err(|error| unusable(&path, error))
}

/// Destroys the keys of uploads that are not under way any more: a crash left them, or they were given up.
pub(crate) fn sweep(home: &Path, under_way: &[UploadId]) -> Result<(), Error> {
    let known: Vec<PathBuf> = under_way.iter().map(|upload| path(home, upload)).collect();
    let entries = std::fs::read_dir(home).map_err(|error| unusable(home, error))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str());
        let is_one = name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if is_one && !known.contains(&path) {
            overwrite(&path).map_err(|error| unusable(&path, error))?;
        }
    }
    Ok(())
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    file.write_all(&[0; 32])?;
    file.sync_all()?;
    std::fs::remove_file(path)?;
    sync_folder(path)
}

fn read_or_make(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut key = Zeroizing::new([0; 32]);
    if file.metadata()?.len() == 32 {
        file.read_exact(&mut *key)?;
        return Ok(key);
    }
    getrandom::fill(&mut *key).map_err(io::Error::other)?;
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(&*key)?;
    file.sync_all()?;
    sync_folder(path)?;
    Ok(key)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |home| File::open(home)?.sync_all())
}

fn unusable(path: &Path, error: io::Error) -> Error {
    let kind = ErrorKind::of_io(&error, ErrorKind::Config);
    Error::new(kind, format!("cannot use {}", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journaled_data_key_is_found_again_until_its_file_is_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let (home, number) = (dir.path(), Dek::from_bytes([7; 32]));
        let (one, two) = (UploadId([1; 32]), UploadId([2; 32]));
        let dek = |upload: &UploadId| journaled_dek(home, upload, &number).unwrap();
        destroy(home, &one).unwrap();
        let first = dek(&one);
        assert!(dek(&one) == first && dek(&two) != first && first != number);
        assert!(journaled_dek(home, &one, &Dek::from_bytes([8; 32])).unwrap() != first);
        destroy(home, &one).unwrap();
        assert!(!path(home, &one).exists() && path(home, &two).exists());
        assert!(dek(&one) != first);
        sweep(home, &[two]).unwrap();
        assert!(!path(home, &one).exists() && path(home, &two).exists());
        // What a crash left of a beginning is begun anew.
        std::fs::write(path(home, &two), [1; 5]).unwrap();
        dek(&two);
        assert_eq!(std::fs::read(path(home, &two)).unwrap().len(), 32);
    }
}
