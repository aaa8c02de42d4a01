//! The cosignatures of recent blocks' tree heads: they come in one by one, from a quorum towards all.

use std::collections::BTreeMap;

use crate::message::block::{BlockRecord, Header};
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::message::checkpoint::FalseCosignature;
use crate::message::{Checkpoint, Cosignature, Policy, Roster, SignedCheckpoint, Violation};
use crate::types::limits::MAX_COMMITTEE;
use crate::types::{Height, LogHash, NetworkId, PublicKey};

/// Tree heads that still grow. A cosignature that is later than this many blocks is of use to nobody: every
/// tree head covers all before it.
const KEPT: usize = 64;
/// Cosignatures of blocks that are not here yet.
const EARLY: usize = 4 * MAX_COMMITTEE;

/// What one static node tells another: its cosignature, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedHead {
    pub(crate) size: u64,
    pub(crate) root: LogHash,
    pub(crate) cosignature: Cosignature,
}

impl Canonical for SignedHead {
    fn write(&self, to: &mut Vec<u8>) {
        self.size.write(to);
        self.root.write(to);
        self.cosignature.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            size: Canonical::read(from)?,
            root: Canonical::read(from)?,
            cosignature: Canonical::read(from)?,
        })
    }
}

/// A block's tree head, with the cosignatures that are in.
#[derive(Debug)]
pub(super) struct TreeHead {
    record: BlockRecord,
    signed: SignedCheckpoint,
    roster: Roster,
}

impl TreeHead {
    /// The block.
    pub(super) const fn record(&self) -> &BlockRecord {
        &self.record
    }

    /// How many have cosigned it.
    pub(super) fn signers(&self) -> usize {
        self.signed.cosignatures().len()
    }

    /// The tree head and who signed it, as a signed note.
    pub(super) fn note(&self) -> String {
        self.signed.to_note(&self.roster)
    }
}

/// What a cosignature led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// Nothing new.
    Known,
    /// The tree head has one more.
    Grown,
    /// It is of another tree head than ours, and truly signed.
    False(Box<FalseCosignature>),
}

#[derive(Debug)]
pub(super) struct TreeHeads {
    network: NetworkId,
    /// At most [`KEPT`].
    heads: BTreeMap<Height, TreeHead>,
    /// At most [`EARLY`].
    early: Vec<(Height, SignedHead)>,
    /// The newest block whose tree head a quorum has cosigned.
    proven: Option<Height>,
}

impl TreeHeads {
    pub(super) const fn new(network: NetworkId) -> Self {
        Self { network, heads: BTreeMap::new(), early: Vec::new(), proven: None }
    }

    /// A block is final and durable: its tree head may be cosigned. Answers what came too early for it.
    pub(super) fn open(&mut self, header: &Header, roster: Roster) -> Vec<SignedHead> {
        let height = header.record.height;
        let checkpoint = Checkpoint::new(&self.network, header.record.log_size, header.log_root);
        let signed = SignedCheckpoint::new(checkpoint);
        self.heads.insert(height, TreeHead { record: header.record, signed, roster });
        while self.heads.len() > KEPT {
            self.heads.pop_first();
        }
        self.early.extract_if(.., |(early, _)| *early <= height).map(|(_, signed)| signed).collect()
    }

    /// The tree head of a block, with its cosignatures.
    pub(super) fn get(&self, height: Height) -> Option<&TreeHead> {
        self.heads.get(&height)
    }

    /// The tree head of a block.
    pub(super) fn checkpoint(&self, height: Height) -> Option<&Checkpoint> {
        self.heads.get(&height).map(|head| head.signed.checkpoint())
    }

    /// The tree head of a block, if this member of its time has not cosigned it yet.
    pub(super) fn unsigned_by(&self, height: Height, key: &PublicKey) -> Option<&Checkpoint> {
        let head = self.heads.get(&height)?;
        let has_signed = head.signed.cosignatures().iter().any(|cosignature| cosignature.signer == *key);
        let may_sign = head.roster.committee().contains(key) && !has_signed;
        may_sign.then(|| head.signed.checkpoint())
    }

    /// Whether a quorum has cosigned the tree head of a block.
    pub(super) fn is_proven(&self, height: Height) -> bool {
        self.heads.get(&height).is_some_and(|head| head.signed.satisfies(&head.roster, Policy::Quorum))
    }

    /// Adds a cosignature.
    ///
    /// # Errors
    /// [`Violation::NotAMember`] or [`Violation::BadSignature`].
    pub(super) fn add(&mut self, height: Height, signed: SignedHead) -> Result<Added, Violation> {
        let Some(head) = self.heads.get_mut(&height) else {
            let is_ahead = self.heads.last_key_value().is_none_or(|(last, _)| height > *last);
            if is_ahead && self.early.len() < EARLY {
                self.early.push((height, signed));
            }
            return Ok(Added::Known);
        };
        let checkpoint = head.signed.checkpoint();
        if (signed.size, signed.root) != (checkpoint.size, checkpoint.root) {
            return falsehood(&self.network, height, &signed, &head.roster);
        }
        if !head.signed.add(signed.cosignature, &head.roster)? {
            return Ok(Added::Known);
        }
        if head.signed.satisfies(&head.roster, Policy::Quorum) {
            self.proven = self.proven.max(Some(height));
        }
        Ok(Added::Grown)
    }

    /// The newest block whose tree head a quorum has cosigned.
    pub(super) const fn proven(&self) -> Option<Height> {
        self.proven
    }

    /// The cosignatures of a block's tree head, to keep.
    pub(super) fn encode(&self, height: Height) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(head) = self.heads.get(&height) {
            write_list(head.signed.cosignatures(), &mut bytes);
        }
        bytes
    }
}

/// Reads cosignatures that were kept.
pub(super) fn read_cosignatures(mut bytes: &[u8]) -> Result<Vec<Cosignature>, Violation> {
    read_list(&mut bytes, MAX_COMMITTEE)
}

fn falsehood(
    network: &NetworkId,
    height: Height,
    signed: &SignedHead,
    roster: &Roster,
) -> Result<Added, Violation> {
    let Cosignature { signer, seconds, ed25519, .. } = signed.cosignature;
    if !roster.committee().contains(&signer) {
        return Err(Violation::NotAMember);
    }
    let proof = FalseCosignature {
        offender: signer,
        height,
        size: signed.size,
        root: signed.root,
        seconds,
        signature: ed25519,
    };
    proof.verify(&Checkpoint::origin_of(network))?;
    Ok(Added::False(Box::new(proof)))
}
