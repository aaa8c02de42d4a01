//! The anchor receipt: proof that a version was anchored, which needs nothing but the genesis to be checked.
//!
//! It shows, link by link: the version's commitment is in the tree of an anchor; the anchor is a leaf of
//! the log; the static nodes cosigned a tree head over it; and these are the static nodes of that time, because
//! each roster since the genesis cosigned a tree head whose last leaf names the next. That last leaf also says
//! when. Only tree heads carry trust, so all of it is as sound as ML-DSA cosignatures are.
//!
//! The file is a C2SP `tlog-proof` of the anchor, <https://c2sp.org/tlog-proof>: its entry is the transaction. What that
//! format has no word for is in its `extra` line, which it trusts no more than we do: "as it is not authenticated".

use data_encoding::BASE64;

use crate::crypto::log_tree::{self, MAX_PROOF_LEN};
use crate::message::Violation;
use crate::message::anchor::{Anchor, Opening, PackCommit};
use crate::message::block::BlockRecord;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::message::checkpoint::{Checkpoint, Cosignature, Policy, SignedCheckpoint};
use crate::message::genesis::Genesis;
use crate::message::member::Roster;
use crate::message::transaction::{Action, SignedTransaction};
use crate::types::limits::{MAX_COMMITTEE, MAX_RECEIPT_LEN, MAX_RECEIPT_STEPS};
use crate::types::{Height, LogHash, NetworkId, PublicKey, SegmentId, Timestamp, TransactionId};

/// What the files of this kind begin with.
pub(crate) const FILE_HEADER: &str = "c2sp.org/tlog-proof@v1\n";

/// A version's place among the commitments of its anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentProof {
    /// Which of the anchor's commits brings the version.
    pub commit: u32,
    /// What was committed to.
    pub opening: Opening,
    /// Which of the anchor's commitments it is.
    pub index: u32,
    /// The RFC 6962 path to the anchor's root.
    pub path: Vec<LogHash>,
}

/// The last leaf of a tree head: the record of the block that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastLeaf {
    /// The record.
    pub record: BlockRecord,
    /// The RFC 6962 path to the root.
    pub path: Vec<LogHash>,
}

/// One change of the static nodes: the tree head of the block that decided it, and who came after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterStep {
    /// Cosignatures of the old roster.
    pub cosignatures: Vec<Cosignature>,
    /// The root of the log after that block.
    pub root: LogHash,
    /// The record of that block.
    pub last: LastLeaf,
    /// The new roster.
    pub next: Roster,
}

/// What a static node adds to a transaction: where it is under a tree head, and whose tree head that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    /// Which leaf of the log the transaction is.
    pub index: u64,
    /// The RFC 6962 path from it to the root.
    pub path: Vec<LogHash>,
    /// The last leaf of the same tree.
    pub last: LastLeaf,
    /// The changes of the static nodes since the genesis.
    pub steps: Vec<RosterStep>,
}

/// A receipt. It proves nothing until [`verify`](Self::verify) says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorReceipt {
    /// The version.
    pub commitment: CommitmentProof,
    /// The anchor.
    pub transaction: SignedTransaction,
    /// What leads from the anchor to the tree head.
    pub proof: LogProof,
    /// The tree head and who signed it, as a signed note.
    pub note: String,
}

/// What a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchored {
    /// The version and its content: compare it with the file.
    pub opening: Opening,
    /// The anchor's id.
    pub id: TransactionId,
    /// Who anchored it.
    pub author: PublicKey,
    /// What was anchored.
    pub anchor: Anchor,
    /// A block that had it in its past; the anchor's own, if the receipt was taken at once.
    pub height: Height,
    /// When that block was proposed.
    pub time: Timestamp,
    /// Who signed the tree head, what people call them, and when (Unix seconds).
    pub signers: Vec<(PublicKey, String, u64)>,
    /// How many could have.
    pub members: usize,
}

impl LastLeaf {
    /// Checks that the record is the last leaf of the tree, and that this roster decided on its block.
    fn verify(&self, network: &NetworkId, root: &LogHash, roster: &Roster) -> Result<(), Violation> {
        let size = self.record.log_size;
        let leaf = log_tree::leaf_hash(&self.record.encode());
        let last = size.checked_sub(1).ok_or(Violation::OutOfBounds)?;
        if log_tree::root_of_inclusion(leaf, last, size, &self.path) != Some(*root) {
            return Err(Violation::WrongProof);
        }
        if self.record.network != *network {
            return Err(Violation::WrongNetwork);
        }
        if self.record.roster == roster.hash() { Ok(()) } else { Err(Violation::WrongRoster) }
    }
}

impl RosterStep {
    /// The static nodes after all of these steps from the genesis, and the height of the last one.
    ///
    /// # Errors
    /// [`Violation::NoQuorum`], [`Violation::WrongRoster`], [`Violation::WrongNetwork`],
    /// [`Violation::WrongProof`], or what [`SignedCheckpoint::verify`] says.
    pub fn follow<'a>(genesis: &'a Genesis, steps: &'a [Self]) -> Result<(&'a Roster, Height), Violation> {
        steps.iter().try_fold((&genesis.roster, Height::GENESIS), |(roster, after), step| {
            step.verify(&genesis.network, roster, after)?;
            Ok((&step.next, step.last.record.height))
        })
    }

    /// Checks that `roster` decided at a height over `after` that the next one comes after it.
    ///
    /// A quorum suffices whatever the verifier's policy is: a static node that is taken out because it
    /// is gone could not sign its own removal.
    pub(crate) fn verify(
        &self,
        network: &NetworkId,
        roster: &Roster,
        after: Height,
    ) -> Result<(), Violation> {
        let checkpoint = Checkpoint::new(network, self.last.record.log_size, self.root);
        let mut signed = SignedCheckpoint::new(checkpoint);
        for cosignature in &self.cosignatures {
            if !signed.add(cosignature.clone(), roster)? {
                return Err(Violation::DuplicateSigner);
            }
        }
        if !signed.satisfies(roster, Policy::Quorum) {
            return Err(Violation::NoQuorum);
        }
        self.last.verify(network, &self.root, roster)?;
        let follows =
            self.last.record.height > after && self.last.record.new_roster == Some(self.next.hash());
        if follows { Ok(()) } else { Err(Violation::WrongRoster) }
    }
}

impl LogProof {
    /// Checks that a transaction is final: that it is under the tree head of a note which static nodes signed that
    /// follow from the genesis. Answers the tree head and these static nodes.
    ///
    /// # Errors
    /// [`Violation::WrongProof`], [`Violation::WrongRoster`], [`Violation::WrongNetwork`], or what
    /// [`SignedCheckpoint::verify`] and [`SignedTransaction::verify`] say.
    pub fn verify<'a>(
        &'a self,
        genesis: &'a Genesis,
        policy: Policy,
        transaction: &SignedTransaction,
        note: &str,
    ) -> Result<(SignedCheckpoint, &'a Roster), Violation> {
        let network = &genesis.network;
        let (roster, after) = RosterStep::follow(genesis, &self.steps)?;
        let signed = SignedCheckpoint::from_note(note, roster)?;
        let head = signed.checkpoint();
        if head.origin != Checkpoint::origin_of(network) {
            return Err(Violation::WrongNetwork);
        }
        self.last.verify(network, &head.root, roster)?;
        if head.size != self.last.record.log_size || self.last.record.height <= after {
            return Err(Violation::WrongProof);
        }
        signed.verify(roster, policy)?;
        transaction.verify(network)?;
        let leaf = log_tree::leaf_hash(transaction.bytes());
        if log_tree::root_of_inclusion(leaf, self.index, head.size, &self.path) != Some(head.root) {
            return Err(Violation::WrongProof);
        }
        Ok((signed, roster))
    }
}

impl AnchorReceipt {
    /// Checks every link, offline.
    ///
    /// # Errors
    /// [`Violation::WrongProof`], [`Violation::WrongRoster`], [`Violation::WrongNetwork`],
    /// [`Violation::WrongReceipt`] for a transaction that is no anchor, or what
    /// [`SignedCheckpoint::verify`] and [`SignedTransaction::verify`] say.
    pub fn verify(&self, genesis: &Genesis, policy: Policy) -> Result<Anchored, Violation> {
        let (signed, roster) = self.proof.verify(genesis, policy, &self.transaction, &self.note)?;
        let Action::Anchor(anchor) = &self.transaction.transaction().action else {
            return Err(Violation::WrongReceipt);
        };
        self.commitment.verify(anchor)?;
        Ok(self.anchored(anchor, &signed, roster))
    }

    fn anchored(&self, anchor: &Anchor, signed: &SignedCheckpoint, roster: &Roster) -> Anchored {
        let signer = |by: &Cosignature| {
            let label = roster.member(&by.signer).map(|member| member.label.clone());
            (by.signer, label.unwrap_or_default(), by.seconds)
        };
        Anchored {
            opening: self.commitment.opening.clone(),
            id: self.transaction.id(),
            author: self.transaction.transaction().author,
            anchor: anchor.clone(),
            height: self.proof.last.record.height,
            time: self.proof.last.record.time,
            signers: signed.cosignatures().iter().map(signer).collect(),
            members: roster.members().len(),
        }
    }

    /// The receipt file: tlog-proof, "Format".
    #[must_use]
    pub fn to_text(&self) -> String {
        let extra = BASE64.encode(&self.encode_extra());
        let mut text = format!("{FILE_HEADER}extra {extra}\nindex {}\n", self.proof.index);
        for hash in &self.proof.path {
            text.push_str(&BASE64.encode(&hash.0));
            text.push('\n');
        }
        text + "\n" + &self.note
    }

    /// Reads a receipt file: exactly what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// [`Violation::TooLong`], [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        if text.len() > MAX_RECEIPT_LEN {
            return Err(Violation::TooLong);
        }
        let (head, note) = text.split_once("\n\n").ok_or(Violation::Malformed)?;
        let body = head.strip_prefix(FILE_HEADER).ok_or(Violation::Malformed)?;
        let mut lines = body.split('\n');
        let mut field =
            |name| lines.next().and_then(|line| line.strip_prefix(name)).ok_or(Violation::Malformed);
        let (extra, index) = (field("extra ")?, field("index ")?);
        let extra = BASE64.decode(extra.as_bytes()).map_err(|_| Violation::Malformed)?;
        let index = index.parse().map_err(|_| Violation::Malformed)?;
        let path = lines.map(parse_hash).collect::<Result<Vec<_>, _>>()?;
        if path.len() > MAX_PROOF_LEN {
            return Err(Violation::OutOfBounds);
        }
        let receipt = Self::decode_extra(&extra, index, path, note)?;
        if receipt.to_text() == text { Ok(receipt) } else { Err(Violation::Malformed) }
    }
}

impl PackCommit {
    /// The commit of a pack that brings the versions of these openings.
    #[must_use]
    pub fn of(pack: SegmentId, openings: &[Opening]) -> Self {
        Self::of_leaves(pack, &openings.iter().map(Opening::leaf).collect::<Vec<_>>())
    }

    /// The commit of a pack that brings the versions for which these leaves stand.
    #[must_use]
    pub fn of_leaves(pack: SegmentId, leaves: &[LogHash]) -> Self {
        let commitments = log_tree::root(leaves.iter().copied());
        Self { pack, commitments, count: u32::try_from(leaves.len()).unwrap_or(u32::MAX) }
    }
}

/// A line of a file that is a hash.
pub(crate) fn parse_hash(line: &str) -> Result<LogHash, Violation> {
    let bytes = BASE64.decode(line.as_bytes()).map_err(|_| Violation::Malformed)?;
    LogHash::from_slice(&bytes).ok_or(Violation::Malformed)
}

impl CommitmentProof {
    /// The proof for one of the versions that an anchor's `commit`th commit brings, whose openings these are; `None` if
    /// there is no such one.
    #[must_use]
    pub fn of(commit: u32, openings: &[Opening], index: usize) -> Option<Self> {
        let leaves: Vec<LogHash> = openings.iter().map(Opening::leaf).collect();
        Self::of_leaves(commit, &leaves, index, openings.get(index)?.clone())
    }

    /// The proof for one of the versions for which these leaves stand, and whose opening this is.
    #[must_use]
    pub fn of_leaves(commit: u32, leaves: &[LogHash], index: usize, opening: Opening) -> Option<Self> {
        let path = log_tree::inclusion_path(leaves, index)?;
        Some(Self { commit, opening, index: u32::try_from(index).ok()?, path })
    }

    fn verify(&self, anchor: &Anchor) -> Result<(), Violation> {
        let commit = usize::try_from(self.commit).ok().and_then(|at| anchor.commits.get(at));
        let PackCommit { commitments, count, .. } = commit.ok_or(Violation::WrongProof)?;
        let (leaf, index) = (self.opening.leaf(), self.index.into());
        let root = log_tree::root_of_inclusion(leaf, index, (*count).into(), &self.path);
        if root == Some(*commitments) { Ok(()) } else { Err(Violation::WrongProof) }
    }
}

impl AnchorReceipt {
    /// All but what the file says in lines of its own.
    fn encode_extra(&self) -> Vec<u8> {
        let mut bytes = self.commitment.encode();
        self.transaction.write(&mut bytes);
        self.proof.last.write(&mut bytes);
        write_list(&self.proof.steps, &mut bytes);
        bytes
    }

    fn decode_extra(mut bytes: &[u8], index: u64, path: Vec<LogHash>, note: &str) -> Result<Self, Violation> {
        let from = &mut bytes;
        let (commitment, transaction) = (Canonical::read(from)?, Canonical::read(from)?);
        let (last, steps) = (Canonical::read(from)?, read_list(from, MAX_RECEIPT_STEPS)?);
        let proof = LogProof { index, path, last, steps };
        let found = Self { commitment, transaction, proof, note: note.to_owned() };
        if bytes.is_empty() { Ok(found) } else { Err(Violation::Malformed) }
    }
}

impl Canonical for LogProof {
    fn write(&self, to: &mut Vec<u8>) {
        self.index.write(to);
        write_list(&self.path, to);
        self.last.write(to);
        write_list(&self.steps, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            index: Canonical::read(from)?,
            path: read_list(from, MAX_PROOF_LEN)?,
            last: Canonical::read(from)?,
            steps: read_list(from, MAX_RECEIPT_STEPS)?,
        })
    }
}

impl Canonical for CommitmentProof {
    fn write(&self, to: &mut Vec<u8>) {
        self.commit.write(to);
        self.opening.write(to);
        self.index.write(to);
        write_list(&self.path, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            commit: Canonical::read(from)?,
            opening: Canonical::read(from)?,
            index: Canonical::read(from)?,
            path: read_list(from, MAX_PROOF_LEN)?,
        })
    }
}

impl Canonical for LastLeaf {
    fn write(&self, to: &mut Vec<u8>) {
        self.record.write(to);
        write_list(&self.path, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { record: Canonical::read(from)?, path: read_list(from, MAX_PROOF_LEN)? })
    }
}

impl Canonical for RosterStep {
    fn write(&self, to: &mut Vec<u8>) {
        write_list(&self.cosignatures, to);
        self.root.write(to);
        self.last.write(to);
        self.next.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            cosignatures: read_list(from, MAX_COMMITTEE)?,
            root: Canonical::read(from)?,
            last: Canonical::read(from)?,
            next: Canonical::read(from)?,
        })
    }
}
