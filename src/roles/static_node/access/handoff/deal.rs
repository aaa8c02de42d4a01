//! Dealing this node's shares: the package is made and kept here before anybody is shown it.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::crypto::access::SealPublic;
use crate::ledger::handoff::machine::Dealing;
use crate::ledger::handoff::{Deal, Duty, deal};
use crate::ledger::rows::GRANTS;
use crate::message::access::desk::{DeskAnswer, SignedSealKey};
use crate::message::access::handoff::{HandoffKeyOf, PieceKey};
use crate::message::access::{HandoffPackage, KeptBy};
use crate::message::{Canonical as _, Roster};
use crate::roles::static_node::access::{AccessDesk, Unanswered};
use crate::types::PublicKey;
use crate::types::limits::{MAX_HANDOFF_REVOCATIONS, MAX_REVOCATION_LEN};

/// The keys of the next members in their order.
type Keys = Vec<Option<(PieceKey, SealPublic)>>;

impl AccessDesk {
    /// Makes the package of what is still to be dealt of these, and keeps it; none if nothing is.
    pub(super) fn deal(
        &self,
        roster: Roster,
        of: HandoffKeyOf,
        duties: Vec<Duty>,
        keys: Vec<(PublicKey, PieceKey, SealPublic)>,
    ) -> Result<Option<Dealing>, Unanswered> {
        let keys = self.all_keys(&roster, &of, keys)?;
        let Some(package) = self.package_of(&roster, of, duties, keys)? else { return Ok(None) };
        let (package, vaults, bytes) = (package.hash(), package.handed(), package.encode());
        let own = self.0.key.public();
        // Here first: it is named only if it is durable where it comes from, too.
        let own = if roster.committee().contains(&own) {
            match self.keep_handoff(&self.0.chain.view()?, &own, &bytes)? {
                DeskAnswer::Done(ack) => Some(KeptBy { member: own, signature: ack.signature }),
                _ => None,
            }
        } else {
            self.0.store.keep_handoff(&package, &own, &bytes, self.0.clock.now())?;
            None
        };
        Ok(Some(Dealing { package, bytes, vaults, roster, own }))
    }

    /// The keys of those who answered, of this node, and by which the others are known.
    fn all_keys(
        &self,
        roster: &Roster,
        of: &HandoffKeyOf,
        answered: Vec<(PublicKey, PieceKey, SealPublic)>,
    ) -> Result<Keys, Unanswered> {
        let (members, own) = (roster.committee(), self.0.key.public());
        let mut found: BTreeMap<_, _> =
            answered.into_iter().map(|(member, to, key)| (member, (to, key))).collect();
        if members.contains(&own) {
            let signed = self.sign_handoff_key(of)?;
            let (key, signature) = (SignedSealKey::hash_of(&signed.key), signed.signature);
            found.insert(own, (PieceKey::Handoff { key, signature }, signed.key));
        }
        for (node, signed) in self.0.store.view()?.peer_keys()? {
            if members.contains(&node) && signed.verify(&self.0.network, &node).is_ok() {
                let to = PieceKey::Seal(SignedSealKey::hash_of(&signed.key));
                found.entry(node).or_insert((to, signed.key));
            }
        }
        Ok(members.members().iter().map(|member| found.remove(member)).collect())
    }

    /// The package of what is still to be dealt of these; none if nothing is.
    fn package_of(
        &self,
        roster: &Roster,
        of: HandoffKeyOf,
        duties: Vec<Duty>,
        keys: Keys,
    ) -> Result<Option<HandoffPackage>, Unanswered> {
        let (view, store) = (self.0.chain.view()?, self.0.store.view()?);
        let (mut shares, mut revocations) = (Vec::new(), Vec::new());
        for Duty { handed, .. } in duties {
            let Some(held) = store.share(&handed.vault, (handed.dealing, handed.epoch))? else { continue };
            shares.push((handed, held.share, held.commitments));
            for (grant, transaction) in store.revocations(&handed.vault)? {
                let row = GRANTS.get(&view, &(handed.vault, grant))?;
                let is_final = row.is_none_or(|row| row.revoked.is_some());
                if !is_final && transaction.len() <= MAX_REVOCATION_LEN {
                    revocations.push(transaction);
                }
            }
        }
        if shares.is_empty() {
            return Ok(None);
        }
        shares.sort_by_key(|(handed, ..)| handed.vault);
        revocations.truncate(MAX_HANDOFF_REVOCATIONS);
        let (network, members) = (self.0.network, roster.committee());
        let what = Deal { network, of, members, shares, keys, revocations };
        let package = deal(what, |bytes| self.0.store.draw(bytes))?;
        Ok(Some(package))
    }

    /// This node's key for what a dealer deals to it in one package.
    pub(super) fn handoff_secrets(
        &self,
        of: &HandoffKeyOf,
    ) -> Vec<(Zeroizing<[u8; 32]>, crate::crypto::access::SealKey)> {
        let keys = self.own_keys();
        let secret = |held: &crate::store::access::HeldSealKey| {
            let secret = held.handoff_secret(of);
            let key = crate::crypto::access::SealKey::from_seed(&secret);
            (secret, key)
        };
        keys.iter().map(secret).collect()
    }
}
