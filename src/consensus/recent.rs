//! Decisions of the last heights: their certificates grow from a quorum towards all members.
//!
//! The engine stops listening when a height is decided; precommits and certificates that come later are
//! merged here. A member that decided by the certificate of another may never send a precommit of its own, and
//! must not sign one afterwards: it may have voted otherwise, and the pair would convict an honest node.

use std::collections::BTreeMap;

use crate::message::{CommitCertificate, Evidence, SignedVote, Violation};
use crate::types::{Committee, Height, NetworkId, PublicKey, Timestamp};

/// Heights whose certificates still grow. A precommit that is later than this many blocks is of no use to anyone.
const KEPT: usize = 16;

/// What a late message brought.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The certificate, if it grew.
    pub(super) grown: Option<CommitCertificate>,
    /// Precommits that conflict with what the certificate has.
    pub(super) evidence: Vec<Evidence>,
}

/// One decision.
#[derive(Debug)]
struct Decision {
    committee: Committee,
    certificate: CommitCertificate,
    /// Precommits of that round that are not for the block, one for each voter: verified.
    strays: BTreeMap<PublicKey, SignedVote>,
    /// When it is to be sent to those who do not seem to have it; `None` once it was.
    send_at: Option<Timestamp>,
}

/// The last decisions. At most [`KEPT`].
#[derive(Debug, Default)]
pub(super) struct Recent(BTreeMap<Height, Decision>);

impl Recent {
    /// Notes a decision with the stray precommits of its round.
    pub(super) fn put(
        &mut self,
        committee: Committee,
        certificate: CommitCertificate,
        strays: Vec<SignedVote>,
        send_at: Timestamp,
    ) {
        let height = certificate.height;
        let strays = strays.into_iter().map(|stray| (stray.voter, stray)).collect();
        self.0.insert(height, Decision { committee, certificate, strays, send_at: Some(send_at) });
        while self.0.len() > KEPT {
            self.0.pop_first();
        }
    }

    /// The certificate of a height; of one too long ago, or not decided yet, the newest.
    pub(super) fn nearest(&self, height: Height) -> Option<&CommitCertificate> {
        let decision = self.0.get(&height).or_else(|| self.0.values().next_back());
        decision.map(|decision| &decision.certificate)
    }

    /// Whether everybody has been sent the certificate of this height, or it is too long ago.
    pub(super) fn was_sent(&self, height: Height) -> bool {
        self.0.get(&height).is_none_or(|decision| decision.send_at.is_none())
    }

    /// Takes a late precommit.
    pub(super) fn precommit(&mut self, signed: &SignedVote, network: NetworkId) -> Result<News, Violation> {
        match self.0.get_mut(&signed.vote.height) {
            Some(decision) => decision.take(signed, network),
            None => Ok(News::default()),
        }
    }

    /// Takes what another certificate has more.
    pub(super) fn merge(&mut self, other: &CommitCertificate, network: NetworkId) -> Result<News, Violation> {
        let mut all = News::default();
        let Some(decision) = self.0.get_mut(&other.height) else { return Ok(all) };
        for signed in other.votes(network) {
            let News { grown, evidence } = decision.take(&signed, network)?;
            all.grown = grown.or(all.grown);
            all.evidence.extend(evidence);
        }
        Ok(all)
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.0.values().filter_map(|decision| decision.send_at).min()
    }

    /// Takes the decisions that are to be sent now, with those who were to sign them.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<(Committee, CommitCertificate)> {
        let due = self.0.values_mut().filter(|decision| decision.send_at.is_some_and(|at| at <= now));
        due.map(|decision| {
            decision.send_at = None;
            (decision.committee.clone(), decision.certificate.clone())
        })
        .collect()
    }
}

impl Decision {
    fn take(&mut self, signed: &SignedVote, network: NetworkId) -> Result<News, Violation> {
        let decided = self.certificate.vote(network);
        let (agrees, strays) = (signed.vote == decided, signed.vote.conflicts(&decided));
        let known = match agrees {
            true => self.certificate.signature(&signed.voter).is_some(),
            false => self.strays.contains_key(&signed.voter),
        };
        if known || !(agrees || strays) {
            return Ok(News::default());
        }
        if !self.committee.contains(&signed.voter) {
            return Err(Violation::NotAMember);
        }
        signed.verify(network)?;
        let other = match agrees {
            true => {
                self.certificate.add(signed);
                self.strays.get(&signed.voter).copied()
            }
            false => {
                self.strays.insert(signed.voter, *signed);
                self.signed_by(&signed.voter, network)
            }
        };
        let evidence = other.map(|other| Evidence::of_votes(*signed, other));
        let grown = agrees.then(|| self.certificate.clone());
        Ok(News { grown, evidence: evidence.into_iter().collect() })
    }

    fn signed_by(&self, key: &PublicKey, network: NetworkId) -> Option<SignedVote> {
        let signature = *self.certificate.signature(key)?;
        Some(SignedVote { vote: self.certificate.vote(network), voter: *key, signature })
    }
}
