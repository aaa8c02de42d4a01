//! Handing vaults' keys on when the static nodes change, and sharing them anew from time to time.
//!
//! A task beside the one that follows the ledger: it deals this node's shares to the next static nodes (`deal`), and takes this
//! node's shares from what others dealt (`take`). The desk's part of it is in `desk`. The ledger says what is due, whose dealings
//! count and when a new sharing is in effect; a crash at any line leaves a node that goes on from what the ledger and its store
//! say, since it says nothing there that is not durable here.

mod deal;
mod desk;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::follow::in_turn;
use super::{AccessDesk, Unanswered};
use crate::client::ledger::roster_peers;
use crate::crypto::hash::{Context, derive_key};
use crate::ledger::ask::{Answer, Fate};
use crate::ledger::handoff::{self, Duty, Handing};
use crate::ledger::query;
use crate::ledger::rows::ACCESS;
use crate::message::access::Care;
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::transaction::Lane;
use crate::message::{Action, Canonical as _, Roster, Transaction};
use crate::net::Peers;
use crate::roles::static_node::keeper::Command;
use crate::store::chain::View;
use crate::types::{Hash, Height, PublicKey, Timestamp, VaultId};

use take::Opened;

/// The longest rest between two looks.
const REST: Duration = Duration::from_secs(2);
/// The shortest: blocks may come many times a second.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a dealer waits for keys of next members that do not answer, before it deals without them.
const KEY_PATIENCE: Duration = Duration::from_secs(20);
/// How long one call to another static node may take.
const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// How long a next member waits before it says that it took a share: others may have to show first that their parts are bad.
/// What is in effect without them could leave too few who have a share.
const SETTLE: Duration = Duration::from_secs(3);
/// How long it waits if somebody has rejected a dealing that it found nothing wrong with.
const DISPUTE: Duration = Duration::from_secs(30);
/// After so long something is said on the ledger again that is not there.
const SAY_AGAIN: Duration = Duration::from_secs(15);
/// Blocks for which what is said is good.
const LIFE: u64 = 1_000;
/// A package that no handoff names is kept for so long: it may be named yet.
const PACKAGE_LIFE: Duration = Duration::from_secs(3_600);
/// A key that others sealed to is kept for so long after it was replaced: a package that is sealed to it may be named yet, and
/// none is taken any more half of this after.
pub(super) const FORMER_KEY_LIFE: Duration = Duration::from_secs(2 * 3_600);
/// Opened packages that are held in memory.
const OPENED_KEPT: usize = 64;

/// The task's state. All of it may be forgotten: it is found again from the ledger and the store.
pub(super) struct HandingOn {
    desk: AccessDesk,
    peers: Peers,
    keeper: SyncSender<Command>,
    /// Static nodes and period of the last look, and since when it is these.
    mark: Option<(Hash, Instant)>,
    /// Whether something was due or under way at the last look.
    pending: bool,
    /// What was said on the ledger, and when.
    said: BTreeMap<Said, Instant>,
    /// Whose dealings were to be taken of a vault, and since when it is these.
    settling: BTreeMap<VaultId, (u64, Instant)>,
    /// Packages that somebody rejected, and since when that is known here.
    disputed: BTreeMap<Hash, Instant>,
    /// Packages that were opened.
    opened: BTreeMap<Hash, Opened>,
    /// Held by what is done on the disk, which goes on when whoever waits for it has gone.
    disk: Arc<Semaphore>,
}

/// What was said of a vault's key or of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Dealt(VaultId, u32, u32, Hash, u32),
    Taken(VaultId, u32, u32, u64),
    Rejected(Hash),
}

/// What a look at the ledger found.
struct Look {
    mark: Hash,
    duties: Vec<Duty>,
    handings: Vec<(VaultId, Handing)>,
    care: Care,
}

impl HandingOn {
    pub(super) fn new(desk: AccessDesk, peers: Peers, keeper: SyncSender<Command>) -> Self {
        Self {
            desk,
            peers,
            keeper,
            mark: None,
            pending: true,
            said: BTreeMap::new(),
            settling: BTreeMap::new(),
            disputed: BTreeMap::new(),
            opened: BTreeMap::new(),
            disk: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) async fn run(mut self, mut news: watch::Receiver<bool>, mut stopping: watch::Receiver<bool>) {
        loop {
            let round = async {
                if let Err(error) = self.round().await {
                    tracing::error!(%error, "keys cannot be handed on; it is tried again");
                }
                tokio::time::sleep(PAUSE).await;
            };
            tokio::select! {
                () = round => {}
                _ = stopping.changed() => break,
            }
            tokio::select! {
                _ = tokio::time::timeout(REST, news.changed()) => {}
                _ = stopping.changed() => break,
            }
        }
        // What was under way on the disk ends before the node does.
        drop(self.disk.acquire().await);
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, Unanswered> {
        in_turn(&self.disk, work).await
    }

    async fn round(&mut self) -> Result<(), Unanswered> {
        let desk = self.desk.clone();
        let stirred = desk.0.stirred.swap(false, Ordering::AcqRel);
        let known = self.mark.map(|(mark, _)| mark);
        let idle = !self.pending && !stirred;
        let look = self.blocking(move || desk.look(known.filter(|_| idle))).await?;
        let Some(look) = look else { return Ok(()) };
        if known != Some(look.mark) {
            self.mark = Some((look.mark, Instant::now()));
        }
        let was_pending = self.pending;
        self.pending = look.care.due > 0 || !look.handings.is_empty();
        self.said.retain(|_, at| at.elapsed() < SAY_AGAIN);
        self.deal_due(look.duties).await?;
        self.take_handed(look.handings).await?;
        self.say_rejected().await?;
        if !self.pending {
            (self.settling, self.disputed, self.opened) = Default::default();
            self.rest(look.mark, was_pending).await?;
        }
        Ok(())
    }

    /// Nothing is due: another key to be sealed to, if the one of now is from before the last change.
    async fn rest(&self, mark: Hash, was_pending: bool) -> Result<(), Unanswered> {
        let desk = self.desk.clone();
        self.blocking(move || {
            if was_pending {
                desk.forget_handoffs()?;
            }
            desk.renew_seal_key(&mark)
        })
        .await
    }

    /// Whether this was not said a moment ago; then it is noted as said now.
    fn is_news(&mut self, said: Said) -> bool {
        self.said.insert(said, Instant::now()).is_none()
    }

    /// Has something put on the ledger by this node, whether it votes or not.
    async fn say(&self, action: Action) -> Result<(), Unanswered> {
        let view = self.desk.0.chain.view()?;
        let (roster, own) = (query::next_roster(&view)?, self.desk.0.key.public());
        if roster.committee().contains(&own) {
            // If the keeper is busy it is said again after a while.
            drop(self.keeper.try_send(Command::Say(Box::new(action))));
            return Ok(());
        }
        let nonce = query::next_nonce(&view, &Lane::Author(own))?;
        let expires = Height(query::tip(&view)?.record.height.0 + LIFE);
        let network = self.desk.0.network;
        let signed = Transaction { network, author: own, nonce, expires, action }.sign(&self.desk.0.key);
        self.peers.follow(&roster_peers(&roster));
        let mut asked = JoinSet::new();
        for member in roster.members() {
            let (peers, key, bytes) = (self.peers.clone(), member.key, signed.bytes().to_vec());
            asked.spawn(async move {
                let answer = tokio::time::timeout(CALL_PATIENCE, peers.submit(&key, bytes)).await;
                let Ok(Ok(answer)) = answer else { return None };
                Answer::decode_bounded(&answer).ok()
            });
        }
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok(Some(Answer::Fate(Fate::Final(_)))) => return Ok(()),
                Ok(Some(Answer::Fate(Fate::Rejected(rejection)))) => {
                    tracing::debug!(%rejection, "what this node said of a handoff is not taken");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Says something to the desks of static nodes at once; what each answers.
    async fn say_to_all(
        &self,
        to: impl IntoIterator<Item = PublicKey>,
        request: &DeskRequest,
    ) -> Vec<(PublicKey, DeskAnswer)> {
        let bytes = request.encode();
        let mut asked = JoinSet::new();
        for key in to {
            let (peers, bytes) = (self.peers.clone(), bytes.clone());
            asked.spawn(async move {
                let answer = tokio::time::timeout(CALL_PATIENCE, peers.access(&key, bytes)).await;
                (key, answer)
            });
        }
        let mut found = Vec::new();
        while let Some(answered) = asked.join_next().await {
            let Ok((key, answer)) = answered else { continue };
            match answer {
                Ok(Ok(bytes)) => {
                    if let Ok(answer) = DeskAnswer::decode(&bytes) {
                        found.push((key, answer));
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(peer = %key.short(), %error, "a static node does not do its part of a handoff");
                }
                Err(_) => {}
            }
        }
        found
    }

    /// From here on the members of these rosters are called.
    fn call(&self, rosters: &[&Roster]) {
        let mut nodes = Vec::new();
        for roster in rosters {
            for node in roster_peers(roster) {
                if nodes.iter().all(|known: &crate::types::NodeInfo| known.key != node.key) {
                    nodes.push(node);
                }
            }
        }
        self.peers.follow(&nodes);
    }
}

/// What changes with the static nodes and the period.
pub(super) fn mark(view: &View) -> Result<Hash, Unanswered> {
    let roster = query::tip(view)?.record.next_roster();
    let number = handoff::period(view)?.map_or(0, |period| period.number);
    let mut mark = Hash([0; 32]);
    derive_key(Context::Committee, &[b"care", &roster.0, &number.to_le_bytes()], &mut mark.0);
    Ok(mark)
}

impl AccessDesk {
    /// What there is to do; none if nothing has changed since the look of a mark.
    fn look(&self, known: Option<Hash>) -> Result<Option<Look>, Unanswered> {
        let (view, store) = (self.0.chain.view()?, self.0.store.view()?);
        let mark = mark(&view)?;
        if known == Some(mark) {
            return Ok(None);
        }
        let own = self.0.key.public();
        let mut care = handoff::care(&view)?;
        let mut duties = Vec::new();
        for (vault, roster) in handoff::vaults(&view)? {
            let sharing = ACCESS.get(&view, &vault)?.map(|access| access.sharing);
            let Some(sharing) = sharing else { continue };
            let has = store.has_share(&vault, (sharing.dealing, sharing.epoch))?;
            if !has {
                let members = query::roster(&view, &roster)?;
                care.without += u64::from(members.is_some_and(|found| found.committee().contains(&own)));
                continue;
            }
            duties.extend(handoff::duty(&view, &vault, &own)?);
        }
        let handings = handoff::handings(&view)?;
        *self.care() = care;
        Ok(Some(Look { mark, duties, handings, care }))
    }

    /// Another key to be sealed to, unless the one of now was made under this mark. Former ones go when nothing that is sealed
    /// to them can come into effect any more.
    fn renew_seal_key(&self, mark: &Hash) -> Result<(), Unanswered> {
        let now = self.0.clock.now();
        let renewed = self.0.store.renew_seal_key(mark, now)?;
        let life = u64::try_from(FORMER_KEY_LIFE.as_micros()).unwrap_or(u64::MAX);
        let before = Timestamp::from_unix_micros(now.unix_micros().saturating_sub(life));
        let forgotten = self.0.store.forget_seal_keys(before)?;
        if renewed || forgotten > 0 {
            self.learn_own_keys()?;
        }
        if forgotten > 0 {
            self.0.erased.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Forgets packages of handoffs that are over, and those that were never named.
    fn forget_handoffs(&self) -> Result<(), Unanswered> {
        let view = self.0.chain.view()?;
        let life = u64::try_from(PACKAGE_LIFE.as_micros()).unwrap_or(u64::MAX);
        let before = Timestamp::from_unix_micros(self.0.clock.now().unix_micros().saturating_sub(life));
        let mut gone = Vec::new();
        let store = self.0.store.view()?;
        for kept in store.handoffs()? {
            if handoff::DEALT.contains(&view, &kept.hash)? {
                continue;
            }
            if kept.since < before || is_over(&view, &store.handoff(&kept.hash)?.unwrap_or_default())? {
                gone.push(kept.hash);
            }
        }
        if self.0.store.forget_handoffs(&gone)? > 0 {
            self.0.erased.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// Whether every sharing that a package hands on was followed by another.
fn is_over(view: &View, bytes: &[u8]) -> Result<bool, Unanswered> {
    let Ok(package) = crate::message::access::HandoffPackage::decode_bounded(bytes) else { return Ok(true) };
    for handed in package.handed() {
        let sharing = ACCESS.get(view, &handed.vault)?.map(|access| access.sharing);
        if sharing.is_some_and(|now| (now.dealing, now.epoch) <= (handed.dealing, handed.epoch)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Keys of members, without one's own.
fn others(roster: &Roster, own: &PublicKey) -> BTreeSet<PublicKey> {
    roster.committee().members().iter().copied().filter(|key| key != own).collect()
}
