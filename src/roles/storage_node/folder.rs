//! A node's folder: its key and settings beside its data, so that one path names a node.
//!
//! A static node that is to go on under a new key has that one beside the old: see [`NodeFolder::make_next_key`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::sign::KeyPair;
use crate::types::NetworkId;

const SETTINGS_FILE: &str = "node.toml";
const KEY_FILE: &str = "node.key";
/// The key that takes the place of the other one once the ledger says so.
const NEXT_KEY_FILE: &str = "node.key.next";
/// The key that was.
const FORMER_KEY_FILE: &str = "node.key.former";

/// What a storage node says of itself to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// Who runs it.
    pub operator: String,
    /// Where it stands.
    pub site: String,
    /// By which address clients reach it.
    pub address: SocketAddr,
}

/// What a storage node needs to know of itself.
#[derive(Debug, Clone)]
pub struct NodeFolder {
    /// Where it is; the node's data go beside the settings.
    pub dir: PathBuf,
    /// What people call the node.
    pub name: String,
    /// The network it serves.
    pub network: NetworkId,
    /// Where it listens (QUIC over UDP); port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where a static node serves its log (HTTP over TCP), if it does. A storage node serves nothing there.
    pub http: Option<SocketAddr>,
    /// Its identity.
    pub key: KeyPair,
    /// What it says of itself, unless it is a static node or its folder is of before nodes registered.
    pub described: Option<Described>,
}

/// Why a node's folder cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum NodeFolderError {
    /// It is one already.
    #[error("{} is a node's folder already", dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// It is none.
    #[error("{} is not a node's folder", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// The settings cannot be read.
    #[error("the settings in {} make no sense", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// The key is not 64 hex digits.
    #[error("the key in {} is damaged", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The operating system says no.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    network: String,
    listen: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    described: Option<Described>,
}

impl NodeFolder {
    /// Writes key and settings into `dir`, which is made if need be; durable when this returns. The
    /// settings come last: if we crash before them the folder is none yet, and the next attempt writes a new key over the old.
    ///
    /// # Errors
    /// [`NodeFolderError::Exists`] if there are settings already, [`NodeFolderError::Io`].
    pub fn create(&self) -> Result<(), NodeFolderError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| NodeFolderError::Io { path, source }
        };
        std::fs::create_dir_all(&self.dir).map_err(at(&self.dir))?;
        let (settings, key) = (self.dir.join(SETTINGS_FILE), self.dir.join(KEY_FILE));
        if settings.try_exists().map_err(at(&settings))? {
            return Err(NodeFolderError::Exists { dir: self.dir.clone() });
        }
        write_key(&key, &self.key).map_err(at(&key))?;
        let text = self.settings().map_err(at(&settings))?;
        write_private(&settings, text.as_bytes()).map_err(at(&settings))?;
        sync_folder(&self.dir).map_err(at(&self.dir))
    }

    /// Writes the settings anew, not the key; durable when this returns.
    ///
    /// # Errors
    /// [`NodeFolderError::Io`].
    pub fn save(&self) -> Result<(), NodeFolderError> {
        let (path, new) = (self.dir.join(SETTINGS_FILE), self.dir.join(format!("{SETTINGS_FILE}.new")));
        let written = self.settings().and_then(|text| write_private(&new, text.as_bytes()));
        let written = written.and_then(|()| std::fs::rename(&new, &path));
        let written = written.and_then(|()| sync_folder(&self.dir));
        written.map_err(|source| NodeFolderError::Io { path, source })
    }

    fn settings(&self) -> io::Result<String> {
        let settings = Settings {
            name: self.name.clone(),
            network: self.network.to_string(),
            listen: self.listen,
            http: self.http,
            described: self.described.clone(),
        };
        toml::to_string(&settings).map_err(io::Error::other)
    }

    /// The key that is to take the place of the folder's, if one was made.
    ///
    /// # Errors
    /// [`NodeFolderError::Key`], [`NodeFolderError::Io`].
    pub fn next_key(dir: &Path) -> Result<Option<KeyPair>, NodeFolderError> {
        let path = dir.join(NEXT_KEY_FILE);
        match std::fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(text) => parse_key(&text).map(Some).ok_or(NodeFolderError::Key { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(NodeFolderError::Io { path, source }),
        }
    }

    /// Keeps a key that is to take the place of the folder's once the ledger says so; durable when this returns. One that is
    /// there already stays, and is answered.
    ///
    /// # Errors
    /// [`NodeFolderError::Key`], [`NodeFolderError::Io`].
    pub fn make_next_key(dir: &Path, key: KeyPair) -> Result<KeyPair, NodeFolderError> {
        if let Some(known) = Self::next_key(dir)? {
            return Ok(known);
        }
        let (path, new) = (dir.join(NEXT_KEY_FILE), dir.join(format!("{NEXT_KEY_FILE}.new")));
        let written = write_key(&new, &key).and_then(|()| std::fs::rename(&new, &path));
        let written = written.and_then(|()| sync_folder(dir));
        written.map_err(|source| NodeFolderError::Io { path, source })?;
        Ok(key)
    }

    /// Notes that the folder's key signs nothing any more: the next one is to take its place, also if we crash before it
    /// has.
    ///
    /// # Errors
    /// [`NodeFolderError::Io`].
    pub fn retire_key(dir: &Path) -> Result<(), NodeFolderError> {
        let (key, former) = (dir.join(KEY_FILE), dir.join(FORMER_KEY_FILE));
        let retired = std::fs::read_to_string(&key).map(Zeroizing::new);
        let retired = retired.and_then(|text| write_private(&former, text.as_bytes()));
        let retired = retired.and_then(|()| sync_folder(dir));
        retired.map_err(|source| NodeFolderError::Io { path: former, source })
    }

    /// Whether this key was retired.
    ///
    /// # Errors
    /// [`NodeFolderError::Io`].
    pub fn is_retired(dir: &Path, key: &KeyPair) -> Result<bool, NodeFolderError> {
        let path = dir.join(FORMER_KEY_FILE);
        match std::fs::read_to_string(&path).map(Zeroizing::new) {
            // A torn one was not synced: nothing followed from it.
            Ok(text) => Ok(parse_key(&text).is_some_and(|former| former.public() == key.public())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(NodeFolderError::Io { path, source }),
        }
    }

    /// Puts the next key in the place of the folder's, which was retired. Nobody may use the folder meanwhile.
    ///
    /// # Errors
    /// [`NodeFolderError::Io`].
    pub fn take_next_key(dir: &Path) -> Result<(), NodeFolderError> {
        let (key, next) = (dir.join(KEY_FILE), dir.join(NEXT_KEY_FILE));
        let taken = std::fs::rename(&next, &key).and_then(|()| sync_folder(dir));
        taken.map_err(|source| NodeFolderError::Io { path: key, source })
    }

    /// Reads the folder.
    ///
    /// # Errors
    /// [`NodeFolderError`], except `Exists`.
    pub fn open(dir: &Path) -> Result<Self, NodeFolderError> {
        let read = |path: &Path| match std::fs::read_to_string(path) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(NodeFolderError::Missing { dir: dir.to_owned() })
            }
            Err(source) => Err(NodeFolderError::Io { path: path.to_owned(), source }),
        };
        let (path, key_path) = (dir.join(SETTINGS_FILE), dir.join(KEY_FILE));
        let wrong = |source| NodeFolderError::Settings { path: path.clone(), source: Box::new(source) };
        let settings: Settings = toml::from_str(&read(&path)?).map_err(wrong)?;
        let network = settings.network.parse().map_err(serde::de::Error::custom).map_err(wrong)?;
        let key = parse_key(&read(&key_path)?).ok_or(NodeFolderError::Key { path: key_path })?;
        let Settings { name, listen, http, described, .. } = settings;
        Ok(Self { dir: dir.to_owned(), name, network, listen, http, key, described })
    }
}

fn parse_key(text: &str) -> Option<KeyPair> {
    let bytes = Zeroizing::new(HEXLOWER.decode(text.trim_end().as_bytes()).ok()?);
    let secret = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?);
    Some(KeyPair::from_secret(&secret))
}

fn write_key(path: &Path, key: &KeyPair) -> io::Result<()> {
    let secret = Zeroizing::new(HEXLOWER.encode(&*key.secret()));
    write_private(path, secret.as_bytes())
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Writes a file that only its owner may read, durable up to its name.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dir: &Path) -> NodeFolder {
        NodeFolder {
            dir: dir.join("node"),
            name: "node-1".into(),
            network: NetworkId([3; 32]),
            listen: SocketAddr::from(([127, 0, 0, 1], 4_433)),
            http: None,
            key: KeyPair::from_secret(&[5; 32]),
            described: None,
        }
    }

    #[test]
    fn a_folder_reads_back_as_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let made = folder(dir.path());
        assert!(matches!(NodeFolder::open(&made.dir), Err(NodeFolderError::Missing { .. })));
        made.create().unwrap();
        let read = NodeFolder::open(&made.dir).unwrap();
        assert_eq!((read.name, read.network, read.listen), (made.name.clone(), made.network, made.listen));
        assert_eq!(read.key.public(), made.key.public());
        assert!(matches!(made.create(), Err(NodeFolderError::Exists { .. })));
        let served = NodeFolder { dir: dir.path().join("served"), http: Some(made.listen), ..made };
        served.create().unwrap();
        assert_eq!(NodeFolder::open(&served.dir).unwrap().http, served.http);
    }

    #[test]
    fn what_a_node_says_of_itself_changes_and_its_key_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut made = folder(dir.path());
        made.create().unwrap();
        let address = SocketAddr::from(([192, 0, 2, 1], 4_433));
        made.described = Some(Described { operator: "op".into(), site: "north".into(), address });
        made.save().unwrap();
        let read = NodeFolder::open(&made.dir).unwrap();
        assert_eq!((read.described, read.key.public()), (made.described, made.key.public()));
    }

    #[test]
    fn the_next_key_waits_until_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let made = folder(dir.path());
        made.create().unwrap();
        let next = |nth| NodeFolder::make_next_key(&made.dir, KeyPair::from_secret(&[nth; 32])).unwrap();
        assert!(NodeFolder::next_key(&made.dir).unwrap().is_none());
        let key = next(6).public();
        assert_eq!(next(7).public(), key, "one at a time");
        assert_eq!(NodeFolder::open(&made.dir).unwrap().key.public(), made.key.public());
        assert!(!NodeFolder::is_retired(&made.dir, &made.key).unwrap());
        NodeFolder::retire_key(&made.dir).unwrap();
        assert!(NodeFolder::is_retired(&made.dir, &made.key).unwrap());
        NodeFolder::take_next_key(&made.dir).unwrap();
        assert!(!NodeFolder::is_retired(&made.dir, &KeyPair::from_secret(&[6; 32])).unwrap());
        assert_eq!(NodeFolder::open(&made.dir).unwrap().key.public(), key);
        assert!(NodeFolder::next_key(&made.dir).unwrap().is_none());
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let made = folder(dir.path());
        made.create().unwrap();
        std::fs::write(made.dir.join(KEY_FILE), "05").unwrap();
        assert!(matches!(NodeFolder::open(&made.dir), Err(NodeFolderError::Key { .. })));
        std::fs::write(made.dir.join(SETTINGS_FILE), "name = 1").unwrap();
        assert!(matches!(NodeFolder::open(&made.dir), Err(NodeFolderError::Settings { .. })));
    }
}
