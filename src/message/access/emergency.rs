//! Break-glass: under which terms a grant opens in an emergency, who counts as a clinician, and what clinicians, owners and
//! static nodes say of it on the ledger.
//!
//! A grant with a [`EmergencyPolicy`] opens nothing by itself. A clinician whose key an authority certified
//! ([`RoleCertificate`]) asks for it on the ledger, others approve, and whoever may veto has the delay to do so.

use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::canonical::{Canonical, is_label, read_label, read_list, write_bytes, write_list};
use crate::message::{Violation, base64_lines};
use crate::types::limits::{
    MAX_EMERGENCY_APPROVALS, MAX_EMERGENCY_AUTHORITIES, MAX_EMERGENCY_DELAY_SECONDS,
    MAX_EMERGENCY_LASTS_SECONDS, MAX_EMERGENCY_QUOTA, MAX_EMERGENCY_VETOERS, MAX_LABEL_LEN,
};
use crate::types::{GrantId, Hash, NetworkId, PublicKey, Timestamp, TransactionId, VaultId};

const BEGIN: &str = "-----BEGIN XVAULT ROLE CERTIFICATE-----\n";
const END: &str = "-----END XVAULT ROLE CERTIFICATE-----\n";

/// Under which terms a grant opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergencyPolicy {
    /// Keys whose certificates count, ascending: of institutions, or of associations of them.
    pub authorities: Vec<PublicKey>,
    /// Clinicians who must approve, besides the one who asks.
    pub approvals: u8,
    /// Institutions among those who ask and approve, at least.
    pub institutions: u8,
    /// Seconds from the request until it opens, if it is approved by then: time for a veto.
    pub delay: u32,
    /// Seconds for which it opens.
    pub lasts: u32,
    /// Records that may be opened in that time, by each static node's count.
    pub quota: u32,
    /// Keys that may veto besides the owner's, ascending: of guardians.
    pub vetoers: Vec<PublicKey>,
}

impl EmergencyPolicy {
    /// Whether it is within its bounds.
    ///
    /// # Errors
    /// [`Violation::OutOfBounds`], or [`Violation::Malformed`] if keys are not in their order, or twice there.
    pub fn check(&self) -> Result<(), Violation> {
        let is_ordered = |keys: &[PublicKey]| keys.is_sorted_by(|one, next| one < next);
        let fits = (1..=MAX_EMERGENCY_AUTHORITIES).contains(&self.authorities.len())
            && self.vetoers.len() <= MAX_EMERGENCY_VETOERS
            && usize::from(self.approvals) <= MAX_EMERGENCY_APPROVALS
            && (1..=self.approvals.saturating_add(1)).contains(&self.institutions)
            && self.delay <= MAX_EMERGENCY_DELAY_SECONDS
            && (1..=MAX_EMERGENCY_LASTS_SECONDS).contains(&self.lasts)
            && (1..=MAX_EMERGENCY_QUOTA).contains(&self.quota);
        if !fits {
            return Err(Violation::OutOfBounds);
        }
        let ordered = is_ordered(&self.authorities) && is_ordered(&self.vetoers);
        if ordered { Ok(()) } else { Err(Violation::Malformed) }
    }

    /// Whether these are enough: the institution of the one who asks, and those of who approved.
    #[must_use]
    pub fn is_satisfied<'a>(
        &self,
        requester: &'a str,
        approvers: impl ExactSizeIterator<Item = &'a str>,
    ) -> bool {
        let enough = approvers.len() >= usize::from(self.approvals);
        let mut institutions: Vec<&str> = approvers.chain([requester]).collect();
        institutions.sort_unstable();
        institutions.dedup();
        enough && institutions.len() >= usize::from(self.institutions)
    }
}

/// An authority's word that a key is of a clinician.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleCertificate {
    /// The network on which it counts.
    pub network: NetworkId,
    /// Who says so.
    pub authority: PublicKey,
    /// The clinician's key.
    pub holder: PublicKey,
    /// Where the clinician works. One spelling, so that one institution does not count twice: small letters only.
    pub institution: String,
    /// As what.
    pub role: String,
    /// Until before when it counts.
    pub expires: Timestamp,
    /// The authority's signature.
    pub signature: [u8; 64],
}

impl RoleCertificate {
    /// Signs what is to be in a certificate.
    #[must_use]
    pub fn sign(mut self, authority: &KeyPair) -> Self {
        self.authority = authority.public();
        self.signature = authority.sign(Domain::RoleCertificate, &self.statement());
        self
    }

    /// Checks the signature, and that it counts on this network.
    ///
    /// # Errors
    /// [`Violation::WrongNetwork`], [`Violation::BadSignature`].
    pub fn verify(&self, network: &NetworkId) -> Result<(), Violation> {
        if self.network != *network {
            return Err(Violation::WrongNetwork);
        }
        sign::verify(&self.authority, Domain::RoleCertificate, &self.statement(), &self.signature)
            .map_err(|_| Violation::BadSignature)
    }

    fn statement(&self) -> Vec<u8> {
        Self { signature: [0; 64], ..self.clone() }.encode()
    }

    /// Whether text may be the name of an institution.
    #[must_use]
    pub fn is_institution(text: &str) -> bool {
        is_label(text, MAX_LABEL_LEN) && !text.contains(|c: char| c.is_ascii_uppercase())
    }

    /// Whether text may be the name of a role.
    #[must_use]
    pub fn is_role(text: &str) -> bool {
        is_label(text, MAX_LABEL_LEN)
    }

    /// The certificate as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_text(BEGIN, END, &self.encode())
    }

    /// Reads the text of a certificate.
    ///
    /// # Errors
    /// [`Violation::Malformed`], or as [`Canonical::decode`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        Self::decode(&from_text(BEGIN, END, text)?)
    }
}

/// Text that mail leaves alone: a line before, the bytes, a line after.
pub(super) fn to_text(begin: &str, end: &str, bytes: &[u8]) -> String {
    let mut text = begin.to_owned();
    base64_lines::write(bytes, &mut text);
    text.push_str(end);
    text
}

/// Reads such text, whatever mail did to the ends of its lines.
pub(super) fn from_text(begin: &str, end: &str, text: &str) -> Result<Vec<u8>, Violation> {
    let text = text.replace('\r', "");
    let inner = text.trim().strip_prefix(begin).and_then(|rest| rest.strip_suffix(end.trim_end()));
    base64_lines::read(inner.ok_or(Violation::Malformed)?)
}

/// A clinician asks that an emergency grant opens. The author is the clinician.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergencyRequest {
    /// The vault.
    pub vault: VaultId,
    /// The grant.
    pub grant: GrantId,
    /// The grant's key. Who asks has the card: others cannot trouble an owner whose grants they see on the ledger.
    pub grantee: PublicKey,
    /// Its signature.
    pub possession: [u8; 64],
    /// Who asks.
    pub certificate: RoleCertificate,
    /// [`reason_hash`] of why.
    pub reason: Hash,
}

impl EmergencyRequest {
    fn statement(&self, network: &NetworkId, author: &PublicKey) -> Vec<u8> {
        [&network.0[..], &self.vault.0, &self.grant.0, &author.0, &self.reason.0].concat()
    }

    /// Signs with the grant's key as well.
    #[must_use]
    pub fn possess(mut self, network: &NetworkId, author: &PublicKey, grantee: &KeyPair) -> Self {
        self.grantee = grantee.public();
        self.possession = grantee.sign(Domain::EmergencyRequest, &self.statement(network, author));
        self
    }

    /// Checks the signatures of the grant's key and of the authority.
    ///
    /// # Errors
    /// [`Violation::BadSignature`], or as [`RoleCertificate::verify`].
    pub fn verify(&self, network: &NetworkId, author: &PublicKey) -> Result<(), Violation> {
        self.certificate.verify(network)?;
        let statement = self.statement(network, author);
        sign::verify(&self.grantee, Domain::EmergencyRequest, &statement, &self.possession)
            .map_err(|_| Violation::BadSignature)
    }
}

/// What the ledger has of a reason. The salt is random: nobody finds a reason by trying words.
#[must_use]
pub fn reason_hash(salt: &[u8; 16], reason: &str) -> Hash {
    let mut hash = Hash([0; 32]);
    derive_key(Context::EmergencyReason, &[salt, reason.as_bytes()], &mut hash.0);
    hash
}

/// Another clinician approves. The author is that clinician.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergencyApproval {
    /// The vault.
    pub vault: VaultId,
    /// The transaction that asked.
    pub request: TransactionId,
    /// Who approves.
    pub certificate: RoleCertificate,
}

/// A static node says that it opened something in an emergency: the first that does counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmergencyOpening {
    /// The vault.
    pub vault: VaultId,
    /// The transaction that asked for the emergency.
    pub request: TransactionId,
    /// Hash of the request to open, as in the access log.
    pub open: Hash,
    /// Records that it opened; none if it opened lists.
    pub records: u32,
}

impl Canonical for EmergencyPolicy {
    fn write(&self, to: &mut Vec<u8>) {
        write_list(&self.authorities, to);
        self.approvals.write(to);
        self.institutions.write(to);
        self.delay.write(to);
        self.lasts.write(to);
        self.quota.write(to);
        write_list(&self.vetoers, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            authorities: read_list(from, MAX_EMERGENCY_AUTHORITIES)?,
            approvals: Canonical::read(from)?,
            institutions: Canonical::read(from)?,
            delay: Canonical::read(from)?,
            lasts: Canonical::read(from)?,
            quota: Canonical::read(from)?,
            vetoers: read_list(from, MAX_EMERGENCY_VETOERS)?,
        };
        found.check()?;
        Ok(found)
    }
}

impl Canonical for RoleCertificate {
    fn write(&self, to: &mut Vec<u8>) {
        self.network.write(to);
        self.authority.write(to);
        self.holder.write(to);
        write_bytes(self.institution.as_bytes(), to);
        write_bytes(self.role.as_bytes(), to);
        self.expires.write(to);
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let found = Self {
            network: Canonical::read(from)?,
            authority: Canonical::read(from)?,
            holder: Canonical::read(from)?,
            institution: read_label(from, MAX_LABEL_LEN)?,
            role: read_label(from, MAX_LABEL_LEN)?,
            expires: Canonical::read(from)?,
            signature: Canonical::read(from)?,
        };
        if Self::is_institution(&found.institution) { Ok(found) } else { Err(Violation::OutOfBounds) }
    }
}

impl Canonical for EmergencyRequest {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.grant.write(to);
        self.grantee.write(to);
        self.possession.write(to);
        self.certificate.write(to);
        self.reason.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            vault: Canonical::read(from)?,
            grant: Canonical::read(from)?,
            grantee: Canonical::read(from)?,
            possession: Canonical::read(from)?,
            certificate: Canonical::read(from)?,
            reason: Canonical::read(from)?,
        })
    }
}

impl Canonical for EmergencyApproval {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.request.write(to);
        self.certificate.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            vault: Canonical::read(from)?,
            request: Canonical::read(from)?,
            certificate: Canonical::read(from)?,
        })
    }
}

impl Canonical for EmergencyOpening {
    fn write(&self, to: &mut Vec<u8>) {
        self.vault.write(to);
        self.request.write(to);
        self.open.write(to);
        self.records.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            vault: Canonical::read(from)?,
            request: Canonical::read(from)?,
            open: Canonical::read(from)?,
            records: Canonical::read(from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_so_many_institutions_are_enough() {
        let policy = |approvals, institutions| EmergencyPolicy {
            authorities: vec![PublicKey([1; 32])],
            approvals,
            institutions,
            delay: 0,
            lasts: 1,
            quota: 1,
            vetoers: vec![],
        };
        let is_satisfied = |policy: &EmergencyPolicy, approvers: &[&str]| {
            policy.is_satisfied("north", approvers.iter().copied())
        };
        assert!(is_satisfied(&policy(0, 1), &[]), "nobody has to approve");
        assert!(!is_satisfied(&policy(1, 1), &[]));
        assert!(is_satisfied(&policy(1, 1), &["north"]));
        assert!(!is_satisfied(&policy(1, 2), &["north"]));
        assert!(!is_satisfied(&policy(1, 2), &["north", "north", "north"]), "the same ones again");
        assert!(is_satisfied(&policy(1, 2), &["north", "south"]));
        assert!(!is_satisfied(&policy(2, 2), &["south"]), "two institutions, and one approval too few");
        assert!(is_satisfied(&policy(2, 3), &["south", "east"]));
    }
}
