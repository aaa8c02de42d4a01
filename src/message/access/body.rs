//! What only the grantee reads of a grant, and what it gives the owner before: its key package.

use data_encoding::BASE64;

use crate::crypto::access::{DayNode, ListKey, SUITE, SealPublic};
use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::access::grant::Grant;
use crate::message::access::package::{read_seal_public, read_suite, unsound};
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::types::limits::{MAX_DAY_NODES, MAX_GRANT_SCOPES, MAX_SCOPE_PATH_LEN};
use crate::types::{Hash, NetworkId, PublicKey, ScopePath, ScopeTag, Timestamp, VaultId};

/// Bytes of words that people give with a grant.
pub const MAX_NOTE_LEN: usize = 1_024;
/// What a key package's text begins and ends with.
const BEGIN: &str = "-----BEGIN XVAULT KEY PACKAGE-----";
const END: &str = "-----END XVAULT KEY PACKAGE-----";
/// Characters of a line of it.
const LINE_LEN: usize = 76;

/// The keys of one scope in one generation, for some days.
#[derive(Debug, Clone)]
pub struct BodyScope {
    /// What the owner calls it.
    pub path: ScopePath,
    /// What the ledger calls it.
    pub scope: ScopeTag,
    /// The generation.
    pub generation: u32,
    /// What tells the days of keyslots and lines.
    pub list: ListKey,
    /// What gives the keys of the days.
    pub days: Vec<DayNode>,
}

/// Where a grantee that may append brings records, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// What keys of deposits are sealed to.
    pub key: SealPublic,
    /// Which records the owner takes: those of any of these expressions.
    pub scopes: Vec<String>,
}

/// The sealed part of a grant.
#[derive(Debug, Clone)]
pub struct GrantBody {
    /// The vault.
    pub vault: VaultId,
    /// Its owner's key.
    pub owner: PublicKey,
    /// Which of the vault's PRF keys.
    pub dealing: u32,
    /// What its shares add up to: whoever shares the key anew cannot put another in its place.
    pub key: [u8; 32],
    /// The scopes that are read; none where nothing is.
    pub scopes: Vec<BodyScope>,
    /// Where records are brought, if they may be.
    pub inbox: Option<Inbox>,
    /// What the owner says of it.
    pub note: String,
}

impl GrantBody {
    /// What a body is sealed for, beside its purpose: the grant, but for the hash of the body.
    #[must_use]
    pub fn context(grant: &Grant) -> [u8; 32] {
        let mut context = [0; 32];
        let header = Grant { body: Hash([0; 32]), ..grant.clone() };
        derive_key(Context::GrantHeader, &[&header.encode()], &mut context);
        context
    }
}

/// What somebody gives an owner to be let in: keys made for one grant, signed with the key by which the owner knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPackage {
    /// The network.
    pub network: NetworkId,
    /// Which of the asker's packages it is: the keys derive from its seed and this number.
    pub number: u32,
    /// The key that signs requests, and by which nodes know the grantee.
    pub auth: PublicKey,
    /// What the body of the grant is sealed to.
    pub seal: SealPublic,
    /// Who asks, in their own words.
    pub name: String,
    /// Until when it may be used.
    pub expires: Timestamp,
    /// The key by which the owner knows them.
    pub identity: PublicKey,
    /// Its signature.
    pub signature: [u8; 64],
}

impl KeyPackage {
    /// Signs what is to be in a package.
    #[must_use]
    pub fn sign(mut self, identity: &KeyPair) -> Self {
        self.identity = identity.public();
        self.signature = identity.sign(Domain::KeyPackage, &self.statement());
        self
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(&self) -> Result<(), Violation> {
        sign::verify(&self.identity, Domain::KeyPackage, &self.statement(), &self.signature)
            .map_err(|_| Violation::BadSignature)
    }

    fn statement(&self) -> Vec<u8> {
        Self { signature: [0; 64], ..self.clone() }.encode()
    }

    /// The package as text, to send it to the owner.
    #[must_use]
    pub fn to_text(&self) -> String {
        let encoded = BASE64.encode(&self.encode());
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(LINE_LEN).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
    }

    /// Reads the text of a package.
    ///
    /// # Errors
    /// [`Violation::Malformed`], or as [`Canonical::decode`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        let inner = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        let inner: String = inner.ok_or(Violation::Malformed)?.split_whitespace().collect();
        let bytes = BASE64.decode(inner.as_bytes()).map_err(|_| Violation::Malformed)?;
        Self::decode(&bytes)
    }
}

pub(crate) fn read_text(from: &mut &[u8], max: usize) -> Result<String, Violation> {
    let text = String::from_utf8(read_bytes(from, max)?).map_err(|_| Violation::Malformed)?;
    // It is shown on terminals.
    if text.chars().any(char::is_control) { Err(Violation::OutOfBounds) } else { Ok(text) }
}

/// A node of a day tree as it travels.
struct TravellingNode(DayNode);

impl Canonical for TravellingNode {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&*self.0.to_bytes());
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let bytes = <[u8; DayNode::LEN]>::read(from)?;
        DayNode::from_bytes(&bytes).map(Self).map_err(unsound)
    }
}

impl Canonical for BodyScope {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(self.path.as_str().as_bytes(), to);
        self.scope.write(to);
        self.generation.write(to);
        self.list.as_bytes().write(to);
        let days: Vec<_> = self.days.iter().cloned().map(TravellingNode).collect();
        write_list(&days, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let path = read_text(from, MAX_SCOPE_PATH_LEN)?.parse().map_err(|_| Violation::OutOfBounds)?;
        let (scope, generation) = (Canonical::read(from)?, Canonical::read(from)?);
        let list = ListKey::from_bytes(Canonical::read(from)?);
        let days: Vec<TravellingNode> = read_list(from, MAX_DAY_NODES)?;
        Ok(Self { path, scope, generation, list, days: days.into_iter().map(|node| node.0).collect() })
    }
}

impl Canonical for Inbox {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key.to_bytes());
        let scopes: Vec<_> = self.scopes.iter().cloned().map(Expression).collect();
        write_list(&scopes, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let key = read_seal_public(from)?;
        let scopes: Vec<Expression> = read_list(from, MAX_GRANT_SCOPES)?;
        Ok(Self { key, scopes: scopes.into_iter().map(|scope| scope.0).collect() })
    }
}

/// A scope's expression as it travels.
struct Expression(String);

impl Canonical for Expression {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(self.0.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_text(from, MAX_SCOPE_PATH_LEN).map(Self)
    }
}

impl Canonical for GrantBody {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.vault.write(to);
        self.owner.write(to);
        self.dealing.write(to);
        self.key.write(to);
        write_list(&self.scopes, to);
        self.inbox.write(to);
        write_bytes(self.note.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        Ok(Self {
            vault: Canonical::read(from)?,
            owner: Canonical::read(from)?,
            dealing: Canonical::read(from)?,
            key: Canonical::read(from)?,
            scopes: read_list(from, MAX_GRANT_SCOPES)?,
            inbox: Canonical::read(from)?,
            note: read_text(from, MAX_NOTE_LEN)?,
        })
    }
}

impl Canonical for KeyPackage {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.network.write(to);
        self.number.write(to);
        self.auth.write(to);
        to.extend_from_slice(&self.seal.to_bytes());
        write_bytes(self.name.as_bytes(), to);
        self.expires.write(to);
        self.identity.write(to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        Ok(Self {
            network: Canonical::read(from)?,
            number: Canonical::read(from)?,
            auth: Canonical::read(from)?,
            seal: read_seal_public(from)?,
            name: read_text(from, MAX_NOTE_LEN)?,
            expires: Canonical::read(from)?,
            identity: Canonical::read(from)?,
            signature: Canonical::read(from)?,
        })
    }
}
