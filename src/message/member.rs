//! Static nodes as the ledger lists them, and the roster of those that vote at a height.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::ml_dsa::PUBLIC_LEN;
use crate::message::Violation;
use crate::message::canonical::{Canonical, read_label, read_list, write_bytes, write_list};
use crate::types::limits::{MAX_COMMITTEE, MAX_LABEL_LEN};
use crate::types::{Committee, Hash, PublicKey};

impl Canonical for SocketAddr {
    fn write(&self, to: &mut Vec<u8>) {
        match self.ip() {
            IpAddr::V4(ip) => {
                to.push(4);
                to.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                to.push(6);
                to.extend_from_slice(&ip.octets());
            }
        }
        self.port().write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let ip = match u8::read(from)? {
            4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::read(from)?)),
            6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::read(from)?)),
            _ => return Err(Violation::Malformed),
        };
        Ok(Self::new(ip, u16::read(from)?))
    }
}

/// A static node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its Ed25519 identity, with which it votes, cosigns and authenticates connections.
    pub key: PublicKey,
    /// Its ML-DSA-44 key, with which it cosigns checkpoints.
    pub pq_key: Box<[u8; PUBLIC_LEN]>,
    /// What people call it.
    pub label: String,
    /// Who runs it.
    pub operator: String,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Canonical for Member {
    fn write(&self, to: &mut Vec<u8>) {
        self.key.write(to);
        self.pq_key.write(to);
        write_bytes(self.label.as_bytes(), to);
        write_bytes(self.operator.as_bytes(), to);
        self.address.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            key: PublicKey::read(from)?,
            pq_key: Box::new(Canonical::read(from)?),
            label: read_label(from, MAX_LABEL_LEN)?,
            operator: read_label(from, MAX_LABEL_LEN)?,
            address: SocketAddr::read(from)?,
        })
    }
}

/// The static nodes that vote at a height, by ascending key.
///
/// Invariant: they make a [`Committee`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    members: Vec<Member>,
    committee: Committee,
}

impl Roster {
    /// The roster of these static nodes, in whatever order they come.
    ///
    /// # Errors
    /// [`Violation::OutOfBounds`] if they make no committee.
    pub fn new(mut members: Vec<Member>) -> Result<Self, Violation> {
        members.sort_unstable_by_key(|member| member.key);
        let committee = Committee::new(members.iter().map(|member| member.key).collect())
            .map_err(|_| Violation::OutOfBounds)?;
        Ok(Self { members, committee })
    }

    /// The static nodes by ascending key.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Their keys, with the arithmetic of quorums.
    #[must_use]
    pub const fn committee(&self) -> &Committee {
        &self.committee
    }

    /// The member with this key.
    #[must_use]
    pub fn member(&self, key: &PublicKey) -> Option<&Member> {
        self.committee.position(key).map(|at| &self.members[at])
    }

    /// What a header says of the roster.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hash = [0; 32];
        derive_key(Context::Roster, &[&self.encode()], &mut hash);
        Hash(hash)
    }
}

impl Canonical for Roster {
    fn write(&self, to: &mut Vec<u8>) {
        write_list(&self.members, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let members: Vec<Member> = read_list(from, MAX_COMMITTEE)?;
        if !members.is_sorted_by(|one, next| one.key < next.key) {
            return Err(Violation::Malformed);
        }
        Self::new(members)
    }
}
