//! The keystore: the owner's seed in a file, sealed with a passphrase.
//!
//! A text file of TOML, readable by its owner only. The public key is in the clear, so that "whose is
//! it?" needs no passphrase; a checksum tells damage from a wrong passphrase before anything is asked.
//! It never holds the seed in the clear, and it is never overwritten: see [`Keystore::replace`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::passphrase::{self, Cost, OpenError};
use crate::crypto::seed::{Seed, VaultKeys};
use crate::types::PublicKey;

/// Format of the file of a seed; another number is another format.
const FORMAT: u32 = 1;
/// Format of the file of a device's keys.
const DEVICE_FORMAT: u32 = 2;

/// Bytes of a keystore file that is still read: a real one has under 600.
const MAX_FILE_LEN: u64 = 16 * 1024;

/// The vault whose keys the seed gives.
pub const FIRST_VAULT: u32 = 0;

/// Why a keystore cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// There is no such file.
    #[error("there is no keystore at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is a keystore at {} already", path.display())]
    Exists {
        /// Where it is.
        path: PathBuf,
    },
    /// The bytes are not those that were written.
    #[error("the keystore {} is damaged", path.display())]
    Damaged {
        /// Where it is.
        path: PathBuf,
    },
    /// It was written by a later version of the program.
    #[error("the keystore {} has a format that this version does not know", path.display())]
    Unsupported {
        /// Where it is.
        path: PathBuf,
    },
    /// The passphrase does not open it.
    #[error("wrong passphrase for the keystore {}", path.display())]
    WrongPassphrase {
        /// Where it is.
        path: PathBuf,
    },
    /// It has a device's keys, and what was asked for takes the words.
    #[error("the keystore {} has the keys of a device, and not the 24 words", path.display())]
    DeviceOnly {
        /// Where it is.
        path: PathBuf,
    },
    /// The operating system says no.
    #[error("cannot use the keystore {}", path.display())]
    Io {
        /// Where it is.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl KeystoreError {
    /// What a person could do next, where that is known.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing { .. } => {
                Some("make one with `xvault key new`, or restore it with `xvault key import`")
            }
            Self::Exists { .. } => Some(
                "name another file or --home; `key new` and `key import` have --force, which keeps the old one as a backup",
            ),
            Self::Damaged { .. } => Some("restore it from your 24 words with `xvault key import --force`"),
            Self::Unsupported { .. } => Some("use the version of xvault that wrote it"),
            Self::DeviceOnly { .. } => Some("do this in the home that has the words"),
            Self::WrongPassphrase { .. } | Self::Io { .. } => None,
        }
    }
}

/// A keystore as it was read: the seed still sealed.
#[derive(Debug)]
pub struct Keystore {
    path: PathBuf,
    content: Content,
    sealed: Vec<u8>,
}

/// What a keystore holds.
#[derive(Debug, Clone)]
pub enum Secret {
    /// The seed: whoever has it can do everything.
    Seed(Seed),
    /// The keys of one vault in one generation.
    Device(Box<VaultKeys>),
}

impl Secret {
    /// The key by which people know the keystore: that of the vault's first generation, or of the device's.
    fn public_key(&self) -> String {
        match self {
            Self::Seed(seed) => vault_keys(seed).signing().public().to_string(),
            Self::Device(keys) => keys.signing().public().to_string(),
        }
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Seed(seed) => Zeroizing::new(seed.entropy().to_vec()),
            Self::Device(keys) => keys.to_device_bytes(),
        }
    }
}

/// The randomness that sealing takes.
#[derive(Debug)]
pub struct SealRandom {
    /// Salt of the passphrase hash.
    pub salt: [u8; 16],
    /// Nonce of the seal.
    pub nonce: [u8; 24],
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    public_key: String,
    /// False if the passphrase is empty, so that nobody is asked for one.
    passphrase: bool,
    sealed: String,
    checksum: String,
}

impl Content {
    /// BLAKE3 over all other fields.
    fn checksum(&self) -> String {
        let text = format!("{}\n{}\n{}\n{}", self.format, self.public_key, self.passphrase, self.sealed);
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

impl Keystore {
    /// Reads a keystore without opening it.
    ///
    /// # Errors
    /// [`KeystoreError`], except `WrongPassphrase` and `Exists`.
    pub fn load(path: &Path) -> Result<Self, KeystoreError> {
        let text = read(path)?;
        let damaged = || KeystoreError::Damaged { path: path.to_owned() };
        let content: Content = match toml::from_str(&text) {
            Ok(content) => content,
            Err(_) if later_format(&text) => {
                return Err(KeystoreError::Unsupported { path: path.to_owned() });
            }
            Err(_) => return Err(damaged()),
        };
        if content.checksum != content.checksum() {
            return Err(damaged());
        }
        if !matches!(content.format, FORMAT | DEVICE_FORMAT) {
            return Err(KeystoreError::Unsupported { path: path.to_owned() });
        }
        let sealed = BASE64.decode(content.sealed.as_bytes()).map_err(|_| damaged())?;
        content.public_key.parse::<PublicKey>().map_err(|_| damaged())?;
        Ok(Self { path: path.to_owned(), content, sealed })
    }

    /// Seals a seed into a new file, durable when this returns.
    ///
    /// # Errors
    /// [`KeystoreError::Exists`] if there is a file already, [`KeystoreError::Io`] if it cannot be written.
    pub fn create(
        path: &Path,
        seed: &Seed,
        passphrase: &str,
        cost: Cost,
        random: &SealRandom,
    ) -> Result<Self, KeystoreError> {
        Self::create_of(path, &Secret::Seed(seed.clone()), passphrase, cost, random)
    }

    /// The same of a seed or of a device's keys.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_of(
        path: &Path,
        secret: &Secret,
        passphrase: &str,
        cost: Cost,
        random: &SealRandom,
    ) -> Result<Self, KeystoreError> {
        let sealed = passphrase::seal(&secret.to_bytes(), passphrase, cost, random.salt, random.nonce);
        let mut content = Content {
            format: if matches!(secret, Secret::Seed(_)) { FORMAT } else { DEVICE_FORMAT },
            public_key: secret.public_key(),
            passphrase: !passphrase.is_empty(),
            sealed: BASE64.encode(&sealed),
            checksum: String::new(),
        };
        content.checksum = content.checksum();
        let text = toml::to_string(&content).map_err(io::Error::other).map_err(|e| io_error(path, e))?;
        write_new(path, text.as_bytes()).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeystoreError::Exists { path: path.to_owned() },
            _ => io_error(path, error),
        })?;
        Ok(Self { path: path.to_owned(), content, sealed })
    }

    /// Moves the file at `path`, if any, to `backup`, so that [`create`](Self::create) can make another.
    /// The seed in it may be the only copy of keys that someone still needs: it is never deleted.
    ///
    /// # Errors
    /// [`KeystoreError::Exists`] if there is a file at `backup`, [`KeystoreError::Io`] if it cannot be moved.
    pub fn replace(path: &Path, backup: &Path) -> Result<(), KeystoreError> {
        if backup.try_exists().map_err(|error| io_error(backup, error))? {
            return Err(KeystoreError::Exists { path: backup.to_owned() });
        }
        match std::fs::rename(path, backup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, error)),
            _ => Ok(()),
        }
    }

    /// Opens the seal of a seed.
    ///
    /// # Errors
    /// [`KeystoreError::DeviceOnly`], or as [`open_any`](Self::open_any).
    pub fn open(&self, passphrase: &str) -> Result<Seed, KeystoreError> {
        match self.open_any(passphrase)? {
            Secret::Seed(seed) => Ok(seed),
            Secret::Device(_) => Err(KeystoreError::DeviceOnly { path: self.path.clone() }),
        }
    }

    /// Opens the seal.
    ///
    /// # Errors
    /// [`KeystoreError::WrongPassphrase`], [`KeystoreError::Damaged`] or [`KeystoreError::Unsupported`].
    pub fn open_any(&self, passphrase: &str) -> Result<Secret, KeystoreError> {
        let path = || self.path.clone();
        let damaged = || KeystoreError::Damaged { path: path() };
        let opened = passphrase::open(&self.sealed, passphrase).map_err(|error| match error {
            OpenError::WrongPassphrase => KeystoreError::WrongPassphrase { path: path() },
            OpenError::Damaged => damaged(),
            OpenError::Unsupported => KeystoreError::Unsupported { path: path() },
        })?;
        let secret = if self.is_device() {
            Secret::Device(Box::new(VaultKeys::from_device_bytes(&opened).ok_or_else(damaged)?))
        } else {
            let entropy = Zeroizing::new(<[u8; 32]>::try_from(opened.as_slice()).map_err(|_| damaged())?);
            Secret::Seed(Seed::from_entropy(*entropy))
        };
        if secret.public_key() == self.content.public_key { Ok(secret) } else { Err(damaged()) }
    }

    /// Whether it has a device's keys, and not the words.
    #[must_use]
    pub const fn is_device(&self) -> bool {
        self.content.format == DEVICE_FORMAT
    }

    /// The vault's public key.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.content.public_key
    }

    /// Whether a passphrase is needed: false if it was sealed with the empty one.
    #[must_use]
    pub const fn has_passphrase(&self) -> bool {
        self.content.passphrase
    }
}

/// The keys of the seed's first vault, of their first generation.
#[must_use]
pub fn vault_keys(seed: &Seed) -> VaultKeys {
    seed.vault(FIRST_VAULT, 0)
}

fn io_error(path: &Path, source: io::Error) -> KeystoreError {
    KeystoreError::Io { path: path.to_owned(), source }
}

/// Whether the text says, readably, that it has another format than ours.
fn later_format(text: &str) -> bool {
    let format = text.parse::<toml::Table>().ok().and_then(|table| table.get("format")?.as_integer());
    format.is_some_and(|format| format != i64::from(FORMAT) && format != i64::from(DEVICE_FORMAT))
}

fn read(path: &Path) -> Result<String, KeystoreError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_LEN).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(KeystoreError::Missing { path: path.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(KeystoreError::Damaged { path: path.to_owned() })
        }
        Err(error) => Err(io_error(path, error)),
    }
}

/// Creates the file or fails. If we crash in here there is no file, or one that the checksum calls damaged.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Ours and useless: without it the next attempt can begin anew.
        std::fs::remove_file(path).ok();
        return Err(error);
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: SealRandom = SealRandom { salt: [1; 16], nonce: [2; 24] };

    fn created(folder: &Path, passphrase: &str) -> (PathBuf, Seed) {
        let (path, seed) = (folder.join("keystore"), Seed::from_entropy([7; 32]));
        Keystore::create(&path, &seed, passphrase, Cost::TEST, &RANDOM).unwrap();
        (path, seed)
    }

    #[test]
    fn the_passphrase_and_nothing_else_opens_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, seed) = created(folder.path(), "correct horse");
        let keystore = Keystore::load(&path).unwrap();
        assert!(keystore.has_passphrase());
        assert_eq!(keystore.open("correct horse").unwrap().entropy(), seed.entropy());
        for wrong in ["", "correct hors", "Correct horse"] {
            assert!(matches!(keystore.open(wrong), Err(KeystoreError::WrongPassphrase { .. })), "{wrong}");
        }
    }

    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = created(folder.path(), "p");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_existing_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, seed) = created(folder.path(), "p");
        let again = Keystore::create(&path, &seed, "q", Cost::TEST, &RANDOM);
        assert!(matches!(again, Err(KeystoreError::Exists { .. })));
        let backup = folder.path().join("keystore.old");
        Keystore::replace(&path, &backup).unwrap();
        assert!(matches!(Keystore::load(&path), Err(KeystoreError::Missing { .. })));
        assert!(Keystore::load(&backup).unwrap().open("p").is_ok());
        created(folder.path(), "p");
        assert!(matches!(Keystore::replace(&path, &backup), Err(KeystoreError::Exists { .. })));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (path, seed) = created(folder.path(), "p");
        let good = std::fs::read(&path).unwrap();
        let opened = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Keystore::load(&path).and_then(|keystore| keystore.open("p"))
        };
        for bit in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match opened(&flipped) {
                Err(KeystoreError::Damaged { .. } | KeystoreError::Unsupported { .. }) => {}
                // White space and quotes have several forms that mean the same.
                Ok(same) => assert_eq!(same.entropy(), seed.entropy(), "bit {bit}"),
                Err(other) => panic!("bit {bit}: {other}"),
            }
        }
        for len in 0..good.len() - 1 {
            assert!(matches!(opened(&good[..len]), Err(KeystoreError::Damaged { .. })), "cut at {len}");
        }
    }

    #[test]
    fn a_devices_keystore_has_its_keys_and_not_the_seed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        let keys = Seed::from_entropy([7; 32]).vault(0, 2);
        let secret = Secret::Device(Box::new(keys.clone()));
        Keystore::create_of(&path, &secret, "p", Cost::TEST, &RANDOM).unwrap();
        let keystore = Keystore::load(&path).unwrap();
        assert!(keystore.is_device());
        assert_eq!(keystore.public_key(), keys.signing().public().to_string());
        assert!(matches!(keystore.open("p"), Err(KeystoreError::DeviceOnly { .. })));
        assert!(matches!(keystore.open_any("q"), Err(KeystoreError::WrongPassphrase { .. })));
        let Secret::Device(opened) = keystore.open_any("p").unwrap() else { panic!("a seed") };
        assert_eq!((opened.signing().public(), opened.generation()), (keys.signing().public(), 2));
        // One is not taken for the other, though somebody puts the checksum right.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("format = 2", "format = 1")).unwrap();
        assert!(matches!(Keystore::load(&path), Err(KeystoreError::Damaged { .. })));
    }

    #[test]
    fn a_later_format_is_not_called_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keystore");
        std::fs::write(&path, "format = 3\nanything = true\n").unwrap();
        assert!(matches!(Keystore::load(&path), Err(KeystoreError::Unsupported { .. })));
    }
}
