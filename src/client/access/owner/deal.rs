//! The vault's PRF key: cut up, sealed to the static nodes, and put on the ledger by its hashes.

use std::time::Duration;

use crate::client::access::recovery;
use crate::client::context::random;
use crate::client::ledger::wrong_answer;
use crate::client::{Ack, Error, ErrorKind, vault};
use crate::crypto::access::{Dealing, Purpose, SealPublic, Sharing};
use crate::ledger::rows::Access;
use crate::message::access::desk::{DeskAnswer, DeskRequest, SignedSealKey};
use crate::message::access::package::SealedShare;
use crate::message::access::{DealingPackage, DepositKind};
use crate::message::{Action, Canonical as _, Roster};
use crate::types::{Hash, Height, ShareIndex};

use super::Owner;

/// Between two looks at whether the static nodes have what the ledger named.
const PAUSE: Duration = Duration::from_millis(50);

impl Owner<'_> {
    /// The vault's key in the static nodes' care: as it is, or dealt to those of now.
    pub(super) async fn shared(&self) -> Result<Access, Error> {
        if let Some(access) = self.access_of_now().await? {
            return Ok(access);
        }
        vault::register(&self.client.ctx, Ack::Anchored).await?;
        self.deal(0).await?;
        loop {
            // More of them have it in a moment.
            if let Some(access) = self.desks.access(self.id()).await? {
                return Ok(access);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The vault's key in the static nodes' care, if it ever was. One of a generation of before the vault's last rotation is
    /// followed by one of this.
    pub(super) async fn access_of_now(&self) -> Result<Option<Access>, Error> {
        let Some(access) = self.desks.access(self.id()).await? else { return Ok(None) };
        if self.vault.keys.generation() == 0 {
            return Ok(Some(access));
        }
        let last = recovery::state(&self.desks, self.id()).await?.keys.and_then(|keys| keys.dealing);
        let is_of_now = |access: &Access| last.is_none_or(|last| access.sharing.dealing > last);
        if is_of_now(&access) {
            return Ok(Some(access));
        }
        self.deal(access.sharing.dealing + 1).await?;
        loop {
            // More of them have it in a moment.
            if let Some(access) = self.desks.access(self.id()).await?.filter(is_of_now) {
                return Ok(Some(access));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Deals the vault's key to the static nodes of now.
    pub(super) async fn deal(&self, dealing: u32) -> Result<Height, Error> {
        self.vault.ledger.follow().await?;
        let roster = self.vault.ledger.roster();
        self.desks.follow(&roster);
        let keys = self.seal_keys(&roster).await?;
        let access = self.vault.keys.access();
        let Dealing { commitments, shares } =
            access.prf_key(dealing).deal(Sharing::among(roster.committee()), &random()?);
        let mut sealed = Vec::new();
        for (at, (share, key)) in shares.iter().zip(&keys).enumerate() {
            let place = ShareIndex::at(at).ok_or_else(wrong_answer)?;
            let context = DealingPackage::share_context(&commitments, place);
            let bytes = match key {
                Some(key) => key.seal(Purpose::Share, &context, &*share.to_bytes(), &random()?),
                None => Vec::new(),
            };
            let to = key.as_ref().map_or(Hash([0; 32]), SignedSealKey::hash_of);
            sealed.push(SealedShare { to, sealed: bytes });
        }
        let package = DealingPackage {
            network: self.vault.ledger.genesis().network,
            vault: self.id(),
            dealing,
            inbox: access.inbox().public().clone(),
            audit: access.audit().public().clone(),
            commitments,
            shares: sealed,
        };
        let bytes = package.encode();
        let deposit = DeskRequest::Deposit { vault: self.id(), kind: DepositKind::Dealing, bytes };
        self.desks.have_kept(&roster, &deposit, &package.hash().0).await?;
        self.carry_out(Action::ShareKey(package.sharing(roster.hash()))).await
    }

    /// The keys of the static nodes to seal shares to, in the order of the roster; none of those that do not answer.
    pub(super) async fn seal_keys(&self, roster: &Roster) -> Result<Vec<Option<SealPublic>>, Error> {
        let mut asked = self.desks.say_to_all(roster, &DeskRequest::SealKeys);
        let network = self.vault.ledger.genesis().network;
        let mut keys = vec![None; roster.members().len()];
        while let Some(answered) = asked.join_next().await {
            let Ok((_, Ok(DeskAnswer::SealKeys(found)))) = answered else { continue };
            for (node, signed) in found {
                let at =
                    roster.committee().position(&node).filter(|_| signed.verify(&network, &node).is_ok());
                if let Some(slot) = at.and_then(|at| keys.get_mut(at)) {
                    *slot = Some(signed.key);
                }
            }
        }
        let have = keys.iter().flatten().count();
        if have < roster.committee().quorum() {
            let message = format!("{have} static nodes say which key shares are sealed to: too few");
            return Err(Error::new(ErrorKind::Unavailable, message).with_hint("see `xvault static status`"));
        }
        Ok(keys)
    }
}
