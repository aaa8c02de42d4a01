//! The receipts of an erasure, what remains of it, and the certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::ledger::wrong_answer;
use crate::client::members;
use crate::client::records::release;
use crate::client::{Error, ErrorKind};
use crate::message::access::certificate::{CertifiedErasure, Remainder};
use crate::message::access::desk::{DeskAnswer, DeskRequest, LogEntry};
use crate::message::access::open::OpenItem;
use crate::message::access::{DeletionReceipt, ErasureCertificate, ErasureStatement, TaggedVersion};
use crate::message::{Action, Policy};
use crate::runtime::wall_time;
use crate::types::limits::{MAX_BATCH_ITEMS, MAX_CERTIFICATE_ROWS};
use crate::types::{GrantId, Hash, PublicKey, SegmentId, Timestamp};

use super::Eraser;
use super::plan::Held;

/// How long a quorum of the static nodes may take to sign. Each deletes, and wraps anew all that it keeps.
const QUORUM_PATIENCE: Duration = Duration::from_secs(90);
/// How much longer is waited for the others, and for storage nodes.
const GRACE: Duration = Duration::from_secs(8);
/// Between two rounds of asking.
const PAUSE: Duration = Duration::from_millis(200);

impl Eraser<'_> {
    /// Asks all who had a part for their receipts.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if a quorum of the static nodes has not signed in time.
    pub(super) async fn collect(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let reasons = self.ask_for_deletions().await;
            let (have, need, of) = self.signed();
            if have >= of || (have >= need && begun.elapsed() >= GRACE) {
                break;
            }
            if begun.elapsed() >= QUORUM_PATIENCE {
                let reasons = reasons.join("; ");
                self.note().await?;
                let message = format!(
                    "{} is erased on the ledger, but only {have} of {of} static nodes have signed that its keyslots are gone, \
                     {need} must: {reasons}",
                    self.subject
                );
                return Err(Error::new(ErrorKind::Unavailable, message)
                    .with_hint("erase it again for the certificate; see `xvault static status`"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        let begun = Instant::now();
        members::refresh(&self.client.ctx).await;
        // Commits that the removals made useless on their way: nobody asks for receipts of these.
        release(&self.client.ctx).await;
        while self.ask_for_releases().await? && begun.elapsed() < GRACE {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn hashes(&self) -> Vec<Hash> {
        self.plan.erasures.iter().map(|planned| planned.erasure.hash()).collect()
    }

    /// Static nodes that signed for all of it; how many must, and how many there are.
    fn signed(&self) -> (usize, usize, usize) {
        let (roster, hashes) = (self.vault.ledger.roster(), self.hashes());
        let has_signed = |node: &PublicKey| hashes.iter().all(|hash| self.has_signed(node, hash));
        let have = roster.members().iter().filter(|member| has_signed(&member.key)).count();
        (have, roster.committee().quorum(), roster.members().len())
    }

    fn has_signed(&self, node: &PublicKey, erasure: &Hash) -> bool {
        self.plan.deletions.iter().any(|receipt| receipt.node == *node && receipt.erasure == *erasure)
    }

    /// Asks each static node once for each receipt that is missing; why some are still.
    async fn ask_for_deletions(&mut self) -> Vec<String> {
        let roster = self.vault.ledger.roster();
        let mut asked = JoinSet::new();
        for planned in &self.plan.erasures {
            let hash = planned.erasure.hash();
            let request = DeskRequest::Deleted(planned.erasure.clone());
            for member in roster.members().iter().filter(|member| !self.has_signed(&member.key, &hash)) {
                let (desks, member, request) = (self.desks.clone(), member.clone(), request.clone());
                asked.spawn(async move { (desks.say(&member, &request).await, member, hash) });
            }
        }
        let (network, vault) = (self.vault.ledger.genesis().network, *self.vault.keys.vault());
        let mut reasons = Vec::new();
        while let Some(answered) = asked.join_next().await {
            let Ok((answer, member, hash)) = answered else { continue };
            let is_good = |receipt: &DeletionReceipt| {
                (receipt.node, receipt.erasure) == (member.key, hash)
                    && receipt.verify(&network, &vault).is_ok()
            };
            match answer {
                Ok(DeskAnswer::Deleted(receipt)) if is_good(&receipt) => self.plan.deletions.push(receipt),
                Ok(_) => reasons.push(format!("{} answers something else than it was asked", member.label)),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        reasons
    }

    /// The segments that are not part of the vault any more, and those that others use.
    async fn split_segments(&self) -> Result<(Vec<Held>, Vec<SegmentId>), Error> {
        if self.plan.is_of_vault() {
            return Ok((self.plan.segments.clone(), Vec::new()));
        }
        let (mut released, mut shared) = (Vec::new(), Vec::new());
        for held in &self.plan.segments {
            let segment = held.segment;
            let find = move |index: &mut crate::store::Index| index.descriptor(&segment);
            match self.client.ctx.index.with(find).await? {
                Some(_) => shared.push(segment),
                None => released.push(held.clone()),
            }
        }
        Ok((released, shared))
    }

    /// Holders that have not signed yet, and of which segments.
    async fn unsigned(&self) -> Result<BTreeMap<PublicKey, BTreeSet<SegmentId>>, Error> {
        let mut missing: BTreeMap<PublicKey, BTreeSet<SegmentId>> = BTreeMap::new();
        for held in self.split_segments().await?.0 {
            for node in held.holders {
                missing.entry(node).or_default().insert(held.segment);
            }
        }
        for receipt in &self.plan.releases {
            if let Some(left) = missing.get_mut(&receipt.node) {
                left.retain(|segment| receipt.segments.binary_search(segment).is_err());
            }
        }
        missing.retain(|_, left| !left.is_empty());
        Ok(missing)
    }

    /// Asks each storage node once for what is missing of it; whether something still is.
    async fn ask_for_releases(&mut self) -> Result<bool, Error> {
        let (ctx, vault) = (&self.client.ctx, *self.vault.keys.vault());
        let network = self.vault.ledger.genesis().network;
        let mut asked = JoinSet::new();
        for (node, segments) in self.unsigned().await? {
            let segments: Vec<_> = segments.into_iter().collect();
            for some in segments.chunks(MAX_BATCH_ITEMS) {
                let (ctx, some) = (std::sync::Arc::clone(ctx), some.to_vec());
                asked.spawn(async move { (node, ctx.peers.certify_release(&node, vault, some).await) });
            }
        }
        while let Some(answered) = asked.join_next().await {
            let Ok((node, answer)) = answered else { continue };
            match answer {
                Ok(receipt) if receipt.node == node && receipt.verify(&network, &vault).is_ok() => {
                    self.plan.releases.push(receipt);
                }
                Ok(_) => tracing::warn!(node = %node.short(), "a release receipt is not good"),
                Err(error) => tracing::debug!(node = %node.short(), %error, "no release receipt yet"),
            }
        }
        Ok(!self.unsigned().await?.is_empty())
    }

    /// What remains, and with whom.
    async fn remains(&self) -> Result<Vec<Remainder>, Error> {
        let (roster, hashes) = (self.vault.ledger.roster(), self.hashes());
        let mut remains = Vec::new();
        for member in roster.members() {
            if !hashes.iter().all(|hash| self.has_signed(&member.key, hash)) {
                remains.push(Remainder::Keyslots { node: member.key });
            }
        }
        let shared = self.split_segments().await?.1;
        remains.extend(shared.into_iter().map(|segment| Remainder::Shared { segment }));
        for (node, segments) in self.unsigned().await? {
            remains.extend(segments.into_iter().map(|segment| Remainder::Shard { segment, node }));
        }
        if self.plan.is_of_vault() {
            let collections = self.plan.going.iter().filter_map(|going| Some(going.at()?.collection));
            for name in collections.collect::<BTreeSet<_>>() {
                if !self.client.class(&name).await?.unwrap_or_default().is_shreddable() {
                    remains.push(Remainder::Durable { collection: name.to_string() });
                }
            }
        }
        let opened = self.opened().await?.into_iter();
        remains.extend(opened.map(|((grant, TaggedVersion { record, version }), time)| Remainder::Opened {
            grant,
            record,
            version,
            time,
        }));
        Ok(remains)
    }

    /// Who opened what of it before, as a quorum of the static nodes have it.
    async fn opened(&self) -> Result<BTreeMap<(GrantId, TaggedVersion), Timestamp>, Error> {
        let erased: BTreeSet<TaggedVersion> =
            self.plan.erasures.iter().flat_map(|planned| planned.erasure.versions.iter().copied()).collect();
        let mut opened = BTreeMap::new();
        for entry in self.client.raw_access_log().await? {
            let LogEntry { time, grant, items, denied: None, .. } = entry else { continue };
            for item in items {
                let OpenItem::Record { record, version, .. } = item else { continue };
                let of = TaggedVersion { record, version };
                if erased.contains(&of) {
                    let first = opened.entry((grant, of)).or_insert(time);
                    *first = time.min(*first);
                }
            }
        }
        Ok(opened)
    }

    /// States what was done, has the ledger name the statement, and proves it.
    pub(super) async fn certify(&self) -> Result<ErasureCertificate, Error> {
        let mut remains = self.remains().await?;
        let unlisted = remains.len().saturating_sub(MAX_CERTIFICATE_ROWS);
        remains.truncate(MAX_CERTIFICATE_ROWS);
        let mut erasures = Vec::new();
        for planned in &self.plan.erasures {
            let height = planned.height.ok_or_else(wrong_answer)?;
            erasures.push(CertifiedErasure { height, erasure: planned.erasure.clone() });
        }
        if erasures.is_empty() {
            let message = "there were only marks of removals in it, which have no keys: they are gone";
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let statement = ErasureStatement {
            network: self.vault.ledger.genesis().network,
            vault: *self.vault.keys.vault(),
            subject: self.subject.clone(),
            stated: wall_time(),
            erasures,
            names: self.plan.names.clone(),
            deletions: self.plan.deletions.clone(),
            releases: self.plan.releases.clone(),
            remains,
            unlisted: u32::try_from(unlisted).unwrap_or(u32::MAX),
        };
        let notice = |text: &str| self.client.ctx.notice(text);
        let action = Action::CertifyErasure(statement.claim());
        let (id, _) = self.vault.ledger.carry_out_as(self.vault.keys.signing(), action, &notice).await?;
        let proven = self.vault.transaction(id).await?;
        let (transaction, proof, note) = (proven.transaction, proven.proof, proven.note);
        let certificate = ErasureCertificate { statement, transaction, proof, note };
        certificate.verify(self.vault.ledger.genesis(), Policy::Quorum).map_err(|violation| {
            let message = format!("the certificate does not hold: {violation}");
            Error::new(ErrorKind::Unavailable, message)
                .with_hint("the static nodes may have changed meanwhile: erase it again")
                .caused_by(violation)
        })?;
        Ok(certificate)
    }
}
