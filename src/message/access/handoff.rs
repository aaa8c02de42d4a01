//! What an old member of a sharing deals to the next members, of many vaults at once; and how a bad part is shown to others.
//!
//! Each next member gets its parts of all vaults in one sealed piece, under a key that it made for this dealer and this package
//! alone and signed. So a member to whom a dealer sent a bad part reveals just this key, and whoever has the package sees that
//! the part is bad, or that it is not: nothing else is sealed to that key.

use zeroize::Zeroizing;

use crate::crypto::access::{
    Commitments, KeyShare, Purpose, ReshareError, SUITE, SealError, SealKey, SealPublic, Sharing,
    verify_shares,
};
use crate::crypto::hash::{Context, derive_key};
use crate::crypto::sign::{self, Domain, KeyPair};
use crate::message::Violation;
use crate::message::access::desk::SignedSealKey;
use crate::message::access::handing::HandedVault;
use crate::message::access::package::{
    MAX_COMMITMENTS_LEN, commitments_hash, read_seal_public, read_suite, unsound,
};
use crate::message::canonical::{Canonical, read_bytes, read_list, write_bytes, write_list};
use crate::types::limits::{
    MAX_COMMITTEE, MAX_HANDOFF_REVOCATIONS, MAX_HANDOFF_VAULTS, MAX_PACKAGE_LEN, MAX_REVOCATION_LEN,
};
use crate::types::{Committee, Hash, NetworkId, PublicKey, ShareIndex};

/// Bytes of a sealed piece: a part for each vault, and what seals it.
const MAX_PIECE_LEN: usize = KeyShare::LEN * MAX_HANDOFF_VAULTS + 1_280;

/// What a handoff key is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandoffKeyOf {
    /// Who deals.
    pub dealer: PublicKey,
    /// The roster to whose members it deals.
    pub to: Hash,
    /// Drawn by the dealer for this package.
    pub nonce: [u8; 16],
}

/// A next member's key for one package, signed with its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHandoffKey {
    /// The key.
    pub key: SealPublic,
    /// The member's signature of its hash, and of what it is for.
    pub signature: [u8; 64],
}

/// What a piece is sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKey {
    /// To nothing: the dealer knows no key of this member, and there is no piece.
    Nothing,
    /// To the member's seal key: it did not answer when the package was made, and takes its parts later.
    Seal(Hash),
    /// To the key that the member made for this package.
    Handoff {
        /// Hash of the key.
        key: Hash,
        /// The member's signature.
        signature: [u8; 64],
    },
}

/// A member's parts of all vaults of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it is sealed to.
    pub to: PieceKey,
    /// The parts side by side, in the order of the vaults.
    pub sealed: Vec<u8>,
}

/// One vault of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DealtVault {
    /// What is handed on.
    pub of: HandedVault,
    /// The commitments of the sharing so far.
    pub old: Commitments,
    /// The commitments to what is dealt, which is the dealer's share.
    pub dealt: Commitments,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoffPackage {
    /// The network.
    pub network: NetworkId,
    /// Who deals, to whom, for which keys.
    pub of: HandoffKeyOf,
    /// The vaults, ascending.
    pub vaults: Vec<DealtVault>,
    /// The pieces, in the order of the next roster's members.
    pub pieces: Vec<Piece>,
    /// Signed transactions that revoke grants of these vaults, which the dealer has seen and which may not be final: the next
    /// members must not open what is revoked already.
    pub revocations: Vec<Vec<u8>>,
}

/// What is wrong with a package for whoever has it and the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is of another network, dealer or roster than the ledger says.
    #[error("it is not what the ledger names it for")]
    Misnamed,
    /// A vault that the ledger names is not in it, or not so.
    #[error("a vault is not in it as the ledger names it")]
    Vault,
    /// There is not a piece for each member.
    #[error("it has not one piece for each member")]
    Pieces,
    /// The key of a piece is not signed by the member that it is for.
    #[error("the key of the piece of place {place} is not signed by its member")]
    KeySignature {
        /// The member's place.
        place: ShareIndex,
    },
    /// What is dealt is not the dealer's share, or cannot be put together with others' dealings.
    #[error(transparent)]
    Dealing(#[from] ReshareError),
}

/// What is wrong with one member's piece: shown to others by a [`Complaint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPiece {
    /// It does not open with the key that it is said to be sealed to.
    #[error("the piece does not open: {0}")]
    Unopenable(#[from] SealError),
    /// It is not as many parts for this place as there are vaults.
    #[error("the piece is not a part for each vault")]
    Parts,
    /// A part is not what the dealer committed to.
    #[error("part {at} of the piece is not what was committed to")]
    WrongPart {
        /// The first such part.
        at: usize,
    },
}

/// A member reveals the key of its piece, which shows to whoever has the package whether the piece is bad.
#[derive(Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The package.
    pub package: Hash,
    /// Whose piece.
    pub place: ShareIndex,
    /// The secret of the key that the piece is sealed to. Whoever complains gives it away on purpose.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Complaint({} of {})", self.place, self.package.short())
    }
}

/// Why a complaint says nothing against the dealer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoidComplaint {
    /// There is no such piece, or the key is not the piece's.
    #[error("the key is not the one that the piece is sealed to")]
    OtherKey,
    /// The piece is good.
    #[error("the piece is good")]
    GoodPiece,
}

impl SignedHandoffKey {
    fn statement(network: &NetworkId, of: &HandoffKeyOf, key: &Hash) -> Vec<u8> {
        [&network.0[..], &of.dealer.0, &of.to.0, &of.nonce, &key.0].concat()
    }

    /// Signs a key.
    #[must_use]
    pub fn sign(network: &NetworkId, of: &HandoffKeyOf, key: SealPublic, member: &KeyPair) -> Self {
        let statement = Self::statement(network, of, &SignedSealKey::hash_of(&key));
        Self { key, signature: member.sign(Domain::HandoffKey, &statement) }
    }

    /// Checks whose key it is, and what for.
    ///
    /// # Errors
    /// [`Violation::BadSignature`].
    pub fn verify(
        &self,
        network: &NetworkId,
        of: &HandoffKeyOf,
        member: &PublicKey,
    ) -> Result<(), Violation> {
        Self::verify_hash(network, of, &SignedSealKey::hash_of(&self.key), &self.signature, member)
    }

    fn verify_hash(
        network: &NetworkId,
        of: &HandoffKeyOf,
        key: &Hash,
        signature: &[u8; 64],
        member: &PublicKey,
    ) -> Result<(), Violation> {
        sign::verify(member, Domain::HandoffKey, &Self::statement(network, of, key), signature)
            .map_err(|_| Violation::BadSignature)
    }
}

impl Piece {
    /// Seals a member's parts, in the order of the vaults.
    #[must_use]
    pub fn seal(
        (to, key): (PieceKey, &SealPublic),
        context: &[u8],
        parts: &[&KeyShare],
        random: &[u8; 64],
    ) -> Self {
        let mut plain = Zeroizing::new(Vec::with_capacity(KeyShare::LEN * parts.len()));
        parts.iter().for_each(|part| plain.extend_from_slice(&*part.to_bytes()));
        Self { to, sealed: key.seal(Purpose::Handoff, context, &plain, random) }
    }

    /// No piece at all.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { to: PieceKey::Nothing, sealed: Vec::new() }
    }
}

impl HandoffPackage {
    /// The hash that the ledger has.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut hash = Hash([0; 32]);
        derive_key(Context::Package, &[&self.encode()], &mut hash.0);
        hash
    }

    /// What a piece is sealed for, beside its purpose: these dealings by this dealer, this place.
    #[must_use]
    pub fn piece_context(of: &HandoffKeyOf, vaults: &[DealtVault], place: ShareIndex) -> Vec<u8> {
        let mut dealt = Vec::new();
        of.write(&mut dealt);
        write_list(vaults, &mut dealt);
        let mut hash = Hash([0; 32]);
        derive_key(Context::Package, &[&dealt], &mut hash.0);
        [&hash.0[..], &[place.get()]].concat()
    }

    /// What the ledger is told of its vaults.
    #[must_use]
    pub fn handed(&self) -> Vec<HandedVault> {
        self.vaults.iter().map(|vault| vault.of).collect()
    }

    /// The vault that is handed on so, if it is in the package.
    #[must_use]
    pub fn vault(&self, of: &HandedVault) -> Option<(usize, &DealtVault)> {
        let at = self.vaults.binary_search_by_key(&of.vault, |dealt| dealt.of.vault).ok()?;
        self.vaults.get(at).filter(|dealt| dealt.of == *of).map(|dealt| (at, dealt))
    }

    /// Checks all that everybody can: that it is the dealer's, for these members, and deals its shares. `sharing_of` tells
    /// for a vault the dealer's place in the sharing that is handed on, and the hash of that one's commitments.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn check<'a>(
        &self,
        network: &NetworkId,
        dealer: &PublicKey,
        (to, members): (&Hash, &Committee),
        mut sharing_of: impl FnMut(&'a HandedVault) -> Option<(ShareIndex, Hash)>,
        named: impl IntoIterator<Item = &'a HandedVault>,
    ) -> Result<(), Fault> {
        if self.network != *network || self.of.dealer != *dealer || self.of.to != *to {
            return Err(Fault::Misnamed);
        }
        self.check_pieces(members)?;
        let next = Sharing::among(members);
        for named in named {
            let (_, dealt) = self.vault(named).ok_or(Fault::Vault)?;
            let (place, old) = sharing_of(named).ok_or(Fault::Vault)?;
            if commitments_hash(&dealt.old) != old {
                return Err(Fault::Vault);
            }
            if dealt.old.share_key(place) != Some(*dealt.dealt.key()) {
                return Err(ReshareError::NotItsShare { dealer: place }.into());
            }
            if dealt.dealt.threshold() != next.threshold() {
                return Err(ReshareError::Threshold { dealer: place }.into());
            }
        }
        Ok(())
    }

    fn check_pieces(&self, members: &Committee) -> Result<(), Fault> {
        if self.pieces.len() != members.n() {
            return Err(Fault::Pieces);
        }
        for (at, (piece, member)) in self.pieces.iter().zip(members.members()).enumerate() {
            let place = ShareIndex::at(at).ok_or(Fault::Pieces)?;
            let PieceKey::Handoff { key, signature } = &piece.to else { continue };
            SignedHandoffKey::verify_hash(&self.network, &self.of, key, signature, member)
                .map_err(|_| Fault::KeySignature { place })?;
        }
        Ok(())
    }

    /// The parts of a place, opened with the key that they are sealed to and checked against what the dealer committed to.
    /// `random` as in [`verify_shares`].
    ///
    /// # Errors
    /// [`BadPiece`], if the key is the one that [`Piece::to`] names: the dealer's fault.
    pub fn open(
        &self,
        place: ShareIndex,
        key: &SealKey,
        random: &[u8; 32],
    ) -> Result<Vec<KeyShare>, BadPiece> {
        let piece = self.pieces.get(usize::from(place.get()) - 1).ok_or(BadPiece::Parts)?;
        let context = Self::piece_context(&self.of, &self.vaults, place);
        let plain = key.open(Purpose::Handoff, &context, &piece.sealed)?;
        if plain.len() != KeyShare::LEN * self.vaults.len() {
            return Err(BadPiece::Parts);
        }
        let mut parts = Vec::with_capacity(self.vaults.len());
        for bytes in plain.chunks_exact(KeyShare::LEN) {
            let part = KeyShare::from_slice(bytes).ok().filter(|part| part.index() == place);
            parts.push(part.ok_or(BadPiece::Parts)?);
        }
        let batch: Vec<_> = self.vaults.iter().map(|dealt| &dealt.dealt).zip(&parts).collect();
        match verify_shares(&batch, random) {
            Ok(()) => Ok(parts),
            Err(wrong) => Err(BadPiece::WrongPart { at: wrong.first().copied().unwrap_or(0) }),
        }
    }

    /// Judges a complaint about this package.
    ///
    /// # Errors
    /// [`VoidComplaint`] if the dealer is not to blame.
    pub fn judge(&self, complaint: &Complaint, random: &[u8; 32]) -> Result<BadPiece, VoidComplaint> {
        let key = SealKey::from_seed(&complaint.secret);
        let piece = self.pieces.get(usize::from(complaint.place.get()) - 1);
        match piece.map(|piece| piece.to) {
            Some(PieceKey::Handoff { key: to, .. }) if to == SignedSealKey::hash_of(key.public()) => {}
            _ => return Err(VoidComplaint::OtherKey),
        }
        match self.open(complaint.place, &key, random) {
            Ok(_) => Err(VoidComplaint::GoodPiece),
            Err(bad) => Ok(bad),
        }
    }

    /// Reads a package.
    ///
    /// # Errors
    /// [`Violation::TooLong`], or as [`Canonical::decode`].
    pub fn decode_bounded(bytes: &[u8]) -> Result<Self, Violation> {
        if bytes.len() > MAX_PACKAGE_LEN { Err(Violation::TooLong) } else { Self::decode(bytes) }
    }
}

impl Canonical for HandoffKeyOf {
    fn write(&self, to: &mut Vec<u8>) {
        self.dealer.write(to);
        self.to.write(to);
        self.nonce.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { dealer: Canonical::read(from)?, to: Canonical::read(from)?, nonce: Canonical::read(from)? })
    }
}

impl Canonical for SignedHandoffKey {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key.to_bytes());
        self.signature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { key: read_seal_public(from)?, signature: Canonical::read(from)? })
    }
}

impl Canonical for Piece {
    fn write(&self, to: &mut Vec<u8>) {
        match &self.to {
            PieceKey::Nothing => to.push(0),
            PieceKey::Seal(key) => {
                to.push(1);
                key.write(to);
            }
            PieceKey::Handoff { key, signature } => {
                to.push(2);
                key.write(to);
                signature.write(to);
            }
        }
        if self.to != PieceKey::Nothing {
            write_bytes(&self.sealed, to);
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let to = match u8::read(from)? {
            0 => return Ok(Self::nothing()),
            1 => PieceKey::Seal(Canonical::read(from)?),
            2 => PieceKey::Handoff { key: Canonical::read(from)?, signature: Canonical::read(from)? },
            _ => return Err(Violation::Malformed),
        };
        Ok(Self { to, sealed: read_bytes(from, MAX_PIECE_LEN)? })
    }
}

fn read_commitments(from: &mut &[u8]) -> Result<Commitments, Violation> {
    Commitments::from_slice(&read_bytes(from, MAX_COMMITMENTS_LEN)?).map_err(unsound)
}

impl Canonical for DealtVault {
    fn write(&self, to: &mut Vec<u8>) {
        self.of.write(to);
        write_bytes(&self.old.to_bytes(), to);
        write_bytes(&self.dealt.to_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { of: Canonical::read(from)?, old: read_commitments(from)?, dealt: read_commitments(from)? })
    }
}

/// A signed transaction, in a list.
struct Revocation(Vec<u8>);

impl Canonical for Revocation {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(&self.0, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_bytes(from, MAX_REVOCATION_LEN).map(Self)
    }
}

impl Canonical for HandoffPackage {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(SUITE);
        self.network.write(to);
        self.of.write(to);
        write_list(&self.vaults, to);
        write_list(&self.pieces, to);
        let revocations: Vec<_> = self.revocations.iter().cloned().map(Revocation).collect();
        write_list(&revocations, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        read_suite(from)?;
        let (network, of) = (Canonical::read(from)?, Canonical::read(from)?);
        let vaults: Vec<DealtVault> = read_list(from, MAX_HANDOFF_VAULTS)?;
        if vaults.is_empty() || !vaults.is_sorted_by(|one, next| one.of.vault < next.of.vault) {
            return Err(Violation::Malformed);
        }
        let pieces = read_list(from, MAX_COMMITTEE)?;
        let revocations: Vec<Revocation> = read_list(from, MAX_HANDOFF_REVOCATIONS)?;
        let revocations = revocations.into_iter().map(|revocation| revocation.0).collect();
        Ok(Self { network, of, vaults, pieces, revocations })
    }
}

impl Canonical for Complaint {
    fn write(&self, to: &mut Vec<u8>) {
        self.package.write(to);
        to.push(self.place.get());
        self.secret.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let package = Canonical::read(from)?;
        let place = ShareIndex::new(u8::read(from)?).ok_or(Violation::OutOfBounds)?;
        Ok(Self { package, place, secret: Canonical::read(from)? })
    }
}
