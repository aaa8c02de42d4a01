//! Dealing this node's shares to the next static nodes: keys first, then the package to their desks, then its hash to the ledger.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{HandingOn, KEY_PATIENCE, Said, others};
use crate::crypto::access::SealPublic;
use crate::ledger::handoff::{Deal, Duty, deal};
use crate::ledger::query;
use crate::ledger::rows::GRANTS;
use crate::message::access::desk::{DeskAnswer, DeskRequest, SignedSealKey};
use crate::message::access::handoff::{HandoffKeyOf, PieceKey};
use crate::message::access::{HandOff, HandoffPackage, KeptBy};
use crate::message::{Action, Canonical as _, Roster};
use crate::roles::static_node::access::{AccessDesk, Unanswered};
use crate::types::limits::{MAX_HANDOFF_REVOCATIONS, MAX_HANDOFF_VAULTS, MAX_REVOCATION_LEN};
use crate::types::{Hash, PublicKey};

/// The keys of the next members in their order.
type Keys = Vec<Option<(PieceKey, SealPublic)>>;

impl HandingOn {
    /// Deals what is due of this node's shares.
    pub(super) async fn deal_due(&mut self, mut duties: Vec<Duty>) -> Result<(), Unanswered> {
        let roster = query::next_roster(&self.desk.0.chain.view()?)?;
        let to = roster.hash();
        let said = |duty: &Duty| {
            let handed = duty.handed;
            Said::Dealt(handed.vault, handed.dealing, handed.epoch, to, handed.attempt)
        };
        duties.retain(|duty| !self.said.contains_key(&said(duty)));
        for some in duties.chunks(MAX_HANDOFF_VAULTS) {
            let Some(action) = self.deal_some(&roster, some.to_vec()).await? else { return Ok(()) };
            some.iter().for_each(|duty| {
                self.is_news(said(duty));
            });
            self.say(action).await?;
        }
        Ok(())
    }

    /// Deals some, and has the next members keep it; none if too few of them can be reached now.
    async fn deal_some(&self, roster: &Roster, duties: Vec<Duty>) -> Result<Option<Action>, Unanswered> {
        let own = self.desk.0.key.public();
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
        let of = HandoffKeyOf { dealer: own, to: roster.hash(), nonce };
        self.call(&[roster]);
        let Some(keys) = self.keys(roster, &of).await? else { return Ok(None) };
        let (desk, members) = (self.desk.clone(), roster.clone());
        let package = self.blocking(move || desk.deal(&members, of, duties, keys)).await?;
        let Some(package) = package else { return Ok(None) };
        let (hash, bytes) = (package.hash(), package.encode());
        let kept = self.have_kept(roster, hash, bytes).await?;
        let need = roster.committee().quorum();
        if kept.len() < need {
            let have = kept.len();
            tracing::warn!(have, need, "too few static nodes keep what is dealt to them; it is dealt again");
            return Ok(None);
        }
        let vaults = package.handed();
        Ok(Some(Action::HandOff(HandOff { to: of.to, package: hash, vaults, kept })))
    }

    /// The next members' keys for a package. Who does not answer is waited for at first; then what it gets is sealed to the key
    /// by which others know it, so that it can take it later.
    async fn keys(&self, roster: &Roster, of: &HandoffKeyOf) -> Result<Option<Keys>, Unanswered> {
        let (own, network) = (self.desk.0.key.public(), self.desk.0.network);
        let request = DeskRequest::HandoffKey { to: of.to, nonce: of.nonce };
        let mut found: BTreeMap<PublicKey, (PieceKey, SealPublic)> = BTreeMap::new();
        let mut answers = self.say_to_all(others(roster, &own), &request).await;
        if roster.committee().contains(&own) {
            answers.push((own, DeskAnswer::HandoffKey(self.desk.sign_handoff_key(of)?)));
        }
        for (member, answer) in answers {
            if let DeskAnswer::HandoffKey(signed) = answer
                && signed.verify(&network, of, &member).is_ok()
            {
                let (key, signature) = (SignedSealKey::hash_of(&signed.key), signed.signature);
                found.insert(member, (PieceKey::Handoff { key, signature }, signed.key));
            }
        }
        let (have, members) = (found.len(), roster.committee());
        let waited = self.mark.map_or(KEY_PATIENCE, |(_, since)| since.elapsed());
        if have < members.quorum() || (have < members.n() && waited < KEY_PATIENCE) {
            return Ok(None);
        }
        for (node, signed) in self.desk.0.store.view()?.peer_keys()? {
            if members.contains(&node) && signed.verify(&network, &node).is_ok() {
                let to = PieceKey::Seal(SignedSealKey::hash_of(&signed.key));
                found.entry(node).or_insert((to, signed.key));
            }
        }
        Ok(Some(members.members().iter().map(|member| found.remove(member)).collect()))
    }

    /// Has every next member keep a package; who signs that it does.
    async fn have_kept(
        &self,
        roster: &Roster,
        hash: Hash,
        bytes: Vec<u8>,
    ) -> Result<Vec<KeptBy>, Unanswered> {
        let (own, network) = (self.desk.0.key.public(), self.desk.0.network);
        let (desk, copy) = (self.desk.clone(), bytes.clone());
        let is_member = roster.committee().contains(&own);
        // Here first: it is named only if it is durable where it comes from, too.
        let kept_here = self.blocking(move || {
            if is_member {
                return desk.keep_handoff(&desk.0.chain.view()?, &own, &copy).map(Some);
            }
            desk.0.store.keep_handoff(&hash, &own, &copy, desk.0.clock.now())?;
            Ok(None)
        });
        let mut answers: Vec<_> = kept_here.await?.map(|answer| (own, answer)).into_iter().collect();
        answers.extend(self.say_to_all(others(roster, &own), &DeskRequest::Handoff(bytes)).await);
        let mut kept: Vec<KeptBy> = Vec::new();
        for (member, answer) in answers {
            if let DeskAnswer::Done(ack) = answer
                && ack.verify(&network, &hash.0, &member).is_ok()
            {
                kept.push(KeptBy { member, signature: ack.signature });
            }
        }
        kept.sort_by_key(|kept| kept.member);
        Ok(kept)
    }
}

impl AccessDesk {
    /// The package of what is still to be dealt of these; none if nothing is.
    fn deal(
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
        let package = deal(what, |bytes| getrandom::fill(bytes).map_err(std::io::Error::other))?;
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
