//! The network file: which nodes there are, whose they are, and the code that is used.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::types::{Code, NetworkId, PublicKey};

/// A storage node as the network file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeInfo {
    /// What people call it: unique in the file.
    pub name: String,
    /// Its Ed25519 identity; connections to any other key are refused.
    #[serde(with = "text")]
    pub key: PublicKey,
    /// Where it listens (QUIC over UDP).
    pub address: SocketAddr,
    /// Who runs it: the first failure domain, since an operator can fail or leave as a whole.
    pub operator: String,
    /// Where it stands: the second failure domain.
    pub site: String,
}

/// A network, as its TOML file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Random name of the network; every signed statement carries it.
    #[serde(with = "text")]
    pub id: NetworkId,
    /// The erasure code of new segments.
    #[serde(with = "text")]
    pub code: Code,
    /// The genesis file's text, where the network has a ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<String>,
    /// The storage nodes.
    #[serde(rename = "node", default)]
    pub nodes: Vec<NodeInfo>,
}

/// Why a network file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum NetworkFileError {
    /// Not TOML, or a field is missing, unknown or malformed.
    #[error("not a network file")]
    Syntax(#[source] Box<toml::de::Error>),
    /// Neither storage nodes nor a ledger on which they could register.
    #[error("the network file lists no nodes")]
    NoNodes,
    /// Two nodes share a name or key.
    #[error("two nodes of the network file have the same {what}: {value}")]
    Duplicate {
        /// "name" or "key".
        what: &'static str,
        /// The value they share.
        value: String,
    },
}

impl Network {
    /// Reads a network file.
    ///
    /// # Errors
    /// [`NetworkFileError`] says what is wrong with the text.
    pub fn from_toml(text: &str) -> Result<Self, NetworkFileError> {
        let network: Self = toml::from_str(text).map_err(|e| NetworkFileError::Syntax(Box::new(e)))?;
        if network.nodes.is_empty() && network.genesis.is_none() {
            return Err(NetworkFileError::NoNodes);
        }
        for (at, node) in network.nodes.iter().enumerate() {
            let before = &network.nodes[..at];
            if before.iter().any(|other| other.name == node.name) {
                return Err(NetworkFileError::Duplicate { what: "name", value: node.name.clone() });
            }
            if before.iter().any(|other| other.key == node.key) {
                return Err(NetworkFileError::Duplicate { what: "key", value: node.key.to_string() });
            }
        }
        Ok(network)
    }

    /// Writes the network file.
    ///
    /// # Panics
    /// Never: every value of a network has a TOML form.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings, numbers and tables only: TOML holds them all")]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a network has a TOML form")
    }

    /// The node with this identity.
    #[must_use]
    pub fn node(&self, key: &PublicKey) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.key == *key)
    }
}

/// Serde through `Display` and `FromStr`.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let node = |n: u8| NodeInfo {
            name: format!("node-{n}"),
            key: PublicKey([n; 32]),
            address: SocketAddr::from(([127, 0, 0, 1], 4_000 + u16::from(n))),
            operator: format!("operator-{n}"),
            site: "here".into(),
        };
        Network {
            id: NetworkId([7; 32]),
            code: Code::DEFAULT,
            genesis: None,
            nodes: (1..=6).map(node).collect(),
        }
    }

    #[test]
    fn a_network_survives_its_file() {
        assert_eq!(Network::from_toml(&network().to_toml()).unwrap(), network());
    }

    #[test]
    fn a_wrong_file_is_named() {
        let good = network().to_toml();
        let syntax = [
            String::new(),
            "id = 3".into(),
            good.replace("code = \"4+2\"", "code = \"40+2\""),
            good.replace("127.0.0.1", "somewhere"),
            good.replace("operator", "operators"),
        ];
        for text in syntax {
            assert!(matches!(Network::from_toml(&text), Err(NetworkFileError::Syntax(_))), "{text}");
        }
        let mut twice = network();
        twice.nodes[1].name = "node-1".into();
        assert!(matches!(
            Network::from_toml(&twice.to_toml()),
            Err(NetworkFileError::Duplicate { what: "name", .. })
        ));
        let mut empty = network();
        empty.nodes.clear();
        assert!(matches!(Network::from_toml(&empty.to_toml()), Err(NetworkFileError::NoNodes)));
    }
}
