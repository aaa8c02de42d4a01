//! The engine's vocabulary in ours.
//!
//! The value that the engine decides on is not the block but its id with the hash of its bytes: the engine
//! pairs proposals with values by id alone, so bytes that a rogue puts under the id of a good block
//! never get into it. [`bodies`](super::bodies) keeps the bytes.

use arc_malachitebft_core_types as core;
use core::{NilOrVal, SignedExtension, VoteType};

use crate::types::{BlockId, Committee, Hash, Height, PublicKey, Round};

/// The engine with our types.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ctx;

/// What is proposed: a block by its id, and the bytes that the proposer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value {
    pub(super) id: BlockId,
    pub(super) bytes: Hash,
}

/// A vote with its voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vote {
    pub(super) kind: VoteType,
    pub(super) height: Height,
    pub(super) round: core::Round,
    pub(super) value: NilOrVal<BlockId>,
    pub(super) voter: PublicKey,
}

/// A proposal with its proposer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) height: Height,
    pub(super) round: core::Round,
    pub(super) value: Value,
    pub(super) valid_round: core::Round,
    pub(super) proposer: PublicKey,
}

/// Blocks travel whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoPart;

/// Ed25519, as `crypto::sign` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ed25519;

impl core::Context for Ctx {
    type Address = PublicKey;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = PublicKey;
    type ValidatorSet = Committee;
    type Timeouts = core::LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(
        &self,
        committee: &'a Committee,
        height: Height,
        round: core::Round,
    ) -> &'a PublicKey {
        let proposer = committee.proposer(height, Round(round.as_u32().unwrap_or_default()));
        let at = committee.position(&proposer).unwrap_or_default();
        &committee.members()[at]
    }

    fn new_proposal(
        &self,
        height: Height,
        round: core::Round,
        value: Value,
        valid_round: core::Round,
        proposer: PublicKey,
    ) -> Proposal {
        Proposal { height, round, value, valid_round, proposer }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: core::Round,
        value: NilOrVal<BlockId>,
        voter: PublicKey,
    ) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, voter }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: core::Round,
        value: NilOrVal<BlockId>,
        voter: PublicKey,
    ) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, voter }
    }
}

impl core::Height for Height {
    const ZERO: Self = Self::GENESIS;
    const INITIAL: Self = Self::FIRST;

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl core::Address for PublicKey {}

impl core::Validator<Ctx> for PublicKey {
    fn address(&self) -> &Self {
        self
    }

    fn public_key(&self) -> &Self {
        self
    }

    fn voting_power(&self) -> core::VotingPower {
        1
    }
}

impl core::ValidatorSet<Ctx> for Committee {
    fn count(&self) -> usize {
        self.n()
    }

    fn total_voting_power(&self) -> core::VotingPower {
        self.n() as core::VotingPower
    }

    fn get_by_address(&self, address: &PublicKey) -> Option<&PublicKey> {
        self.position(address).map(|at| &self.members()[at])
    }

    fn get_by_index(&self, index: usize) -> Option<&PublicKey> {
        self.members().get(index)
    }
}

impl core::Value for Value {
    type Id = BlockId;

    fn id(&self) -> BlockId {
        self.id
    }
}

impl core::Vote<Ctx> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> core::Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &PublicKey {
        &self.voter
    }

    fn extension(&self) -> Option<&SignedExtension<Ctx>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Ctx>> {
        None
    }

    /// Never called: extensions are disabled at every height.
    fn extend(self, _: SignedExtension<Ctx>) -> Self {
        self
    }
}

impl core::Proposal<Ctx> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> core::Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> core::Round {
        self.valid_round
    }

    fn validator_address(&self) -> &PublicKey {
        &self.proposer
    }
}

impl core::ProposalPart<Ctx> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

/// The engine keeps keys and signatures as we do, so nothing is ever encoded or decoded by it.
impl core::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = [u8; 64];
    type PublicKey = PublicKey;
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<[u8; 64], &'static str> {
        bytes.try_into().map_err(|_| "not 64 bytes")
    }

    fn encode_signature(signature: &[u8; 64]) -> Vec<u8> {
        signature.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        PublicKey::from_slice(bytes).ok_or("not 32 bytes")
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}
