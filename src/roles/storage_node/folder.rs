//! A storage node's folder: its key and settings beside its data, so that one path names a node.

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
        let secret = Zeroizing::new(HEXLOWER.encode(&*self.key.secret()));
        write_private(&key, secret.as_bytes()).map_err(at(&key))?;
        let text = Settings {
            name: self.name.clone(),
            network: self.network.to_string(),
            listen: self.listen,
            http: self.http,
        };
        let text = toml::to_string(&text).map_err(io::Error::other).map_err(at(&settings))?;
        write_private(&settings, text.as_bytes()).map_err(at(&settings))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(at(&self.dir))
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
        let Settings { name, listen, http, .. } = settings;
        Ok(Self { dir: dir.to_owned(), name, network, listen, http, key })
    }
}

fn parse_key(text: &str) -> Option<KeyPair> {
    let bytes = Zeroizing::new(HEXLOWER.decode(text.trim_end().as_bytes()).ok()?);
    let secret = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?);
    Some(KeyPair::from_secret(&secret))
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
