//! What the ledger brings into effect at the access desk, and what of it is fetched from the other static nodes.
//!
//! Blocks are carried out in order, from where the desk was. A node that took a snapshot has no old blocks: then, and at every
//! start, the state tells what there is. Everything here does nothing when it is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use super::handoff::HandingOn;
use super::{AccessDesk, Unanswered};
use crate::client::ledger::roster_peers;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::follow::height_heard;
use crate::ledger::query;
use crate::ledger::rows::{ACCESS, BATCH_NUMBERS, BATCHES, ERASED, GRANTS, LOG_HEADS, WITHDRAWN};
use crate::message::access::desk::{DeskAnswer, DeskRequest, body_hash};
use crate::message::access::{
    BatchPackage, DealingPackage, DepositKind, EntryBatch, Grant, LogHead, TaggedVersion,
};
use crate::message::{Action, Block, Canonical as _};
use crate::net::Peers;
use crate::roles::static_node::keeper::Command;
use crate::store::access::{AccessStoreError, PackageKind, batch_hash};
use crate::store::chain::{ChainError, View};
use crate::types::limits::MAX_ERASURE_VERSIONS;
use crate::types::{Hash, Height, PublicKey, RecordTag, Timestamp, VaultId, VersionId};

/// The longest rest between two looks at the ledger.
const REST: Duration = Duration::from_secs(2);
/// How long a package that the ledger does not name is kept.
const PACKAGE_LIFE: Duration = Duration::from_secs(3_600);
/// Between two looks for packages to forget, and at whether the key of what is at rest is to be renewed.
const TIDY_INTERVAL: Duration = Duration::from_secs(600);
/// Between two heads of the access log on the ledger: what is younger a node could still deny having logged.
const HEAD_INTERVAL: Duration = Duration::from_secs(60);
/// Of its time a node spends at most one part in so many on renewals for which owners wait.
const RENEWAL_SHARE: u32 = 20;
/// Between two of them at least.
const RENEWAL_PAUSE: Duration = Duration::from_millis(500);
/// Between two times at which others are asked for the keys that shares for them are sealed to: they change.
const LEARN_INTERVAL: Duration = Duration::from_secs(120);
/// So often the body of a grant is asked for that no other static node has.
const BODY_TRIES: u32 = 30;
/// Batches that are fetched at a time.
const FETCH_AT_ONCE: usize = 16;

/// The task that keeps a desk up to date.
#[derive(Debug)]
pub(in crate::roles::static_node) struct Following {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    handing: JoinHandle<()>,
}

impl Following {
    /// Begins to follow. Needs a tokio runtime; `news` changes with every block.
    pub(in crate::roles::static_node) fn start(
        desk: AccessDesk,
        [peers, others]: [Peers; 2],
        keeper: SyncSender<Command>,
        news: watch::Receiver<bool>,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let handing = HandingOn::new(desk.clone(), others, keeper.clone());
        let handing = tokio::spawn(handing.run(news.clone(), stopping.clone()));
        let (wanted, bodies, disk) = (BTreeSet::new(), BTreeMap::new(), Arc::new(Semaphore::new(1)));
        let work = Work { desk, peers, keeper, wanted, bodies, known_for: None, disk };
        Self { stop, task: tokio::spawn(work.run(news, stopping)), handing }
    }

    /// Ends; what it does to the disk is done when this returns.
    pub(in crate::roles::static_node) async fn stop(self) {
        self.stop.send_replace(true);
        for task in [self.task, self.handing] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the access desk panicked");
            }
        }
    }
}

/// When the next renewal may be that owners wait for: each wraps all there is anew, so they are not to follow each other.
#[derive(Debug, Default)]
struct Renewed(Option<tokio::time::Instant>);

impl Renewed {
    /// One that was begun then has just ended.
    fn now(begun: tokio::time::Instant) -> Self {
        Self(Some(tokio::time::Instant::now() + RENEWAL_PAUSE.max(begun.elapsed() * RENEWAL_SHARE)))
    }

    /// Waits until one is wanted and may be.
    async fn wanted(&self, renewal: &Notify) {
        if let Some(until) = self.0 {
            tokio::time::sleep_until(until).await;
        }
        renewal.notified().await;
    }
}

struct Work {
    desk: AccessDesk,
    peers: Peers,
    keeper: SyncSender<Command>,
    /// Vaults of whose key this node has no share, and may have one.
    wanted: BTreeSet<VaultId>,
    /// Bodies of standing grants that are not here, and how often they were asked for.
    bodies: BTreeMap<(VaultId, Hash), u32>,
    /// The static nodes and the period for which the others' keys were learned, and when.
    known_for: Option<(Hash, tokio::time::Instant)>,
    /// Held by what is done on the disk, which goes on when whoever waits for it has gone.
    disk: Arc<Semaphore>,
}

/// What was carried out.
#[derive(Debug, Default)]
struct Carried {
    wanted: BTreeSet<VaultId>,
    bodies: BTreeSet<(VaultId, Hash)>,
}

impl Work {
    async fn run(mut self, mut news: watch::Receiver<bool>, mut stopping: watch::Receiver<bool>) {
        let (mut tidied, mut anchored) = (tokio::time::Instant::now(), tokio::time::Instant::now());
        let (mut reconciled, mut renewed) = (false, Renewed::default());
        let renewal = Arc::clone(&self.desk.0);
        loop {
            let round = async {
                if let Err(error) = self.round(&mut reconciled).await {
                    tracing::error!(%error, "the access desk cannot follow the ledger; it is tried again");
                }
                if anchored.elapsed() >= HEAD_INTERVAL {
                    anchored = tokio::time::Instant::now();
                    if let Err(error) = self.desk.log_head_to_say().map(|head| self.say(head)) {
                        tracing::error!(%error, "the head of the access log cannot be read");
                    }
                }
                if tidied.elapsed() >= TIDY_INTERVAL {
                    tidied = tokio::time::Instant::now();
                    if let Err(error) = self.tidy().await {
                        tracing::error!(%error, "the access desk cannot tidy up; it is tried again");
                    }
                }
            };
            tokio::select! {
                () = round => {}
                _ = stopping.changed() => break,
            }
            tokio::select! {
                _ = tokio::time::timeout(REST, news.changed()) => {}
                () = renewed.wanted(&renewal.renewal) => self.renew(&mut renewed).await,
                _ = stopping.changed() => break,
            }
        }
        // What was under way on the disk ends before the node does.
        drop(self.disk.acquire().await);
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AccessDesk) -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let desk = self.desk.clone();
        in_turn(&self.disk, move || work(&desk)).await
    }

    /// Renews the key of what is at rest, for which owners wait.
    async fn renew(&mut self, renewed: &mut Renewed) {
        let begun = tokio::time::Instant::now();
        let erased = self.desk.0.erased.swap(false, Ordering::AcqRel);
        let done = self.on_disk(|desk| Ok(desk.0.store.renew_key()?)).await;
        if let Err(error) = &done {
            tracing::error!(%error, "the key of what is at rest cannot be renewed; it is tried again");
        }
        self.desk.erased(erased && done.is_err());
        *renewed = Renewed::now(begun);
    }

    /// Has a head of the access log put on the ledger. If the keeper is busy the next one says as much.
    fn say(&self, head: Option<LogHead>) {
        if let Some(head) = head {
            drop(self.keeper.try_send(Command::Say(Box::new(Action::LogHead(head)))));
        }
    }

    async fn round(&mut self, reconciled: &mut bool) -> Result<(), Unanswered> {
        self.learn_height().await?;
        let anew = !*reconciled;
        let carried = self.on_disk(move |desk| desk.carry_out(anew)).await?;
        self.wanted.append(&mut self.desk.wants());
        *reconciled = true;
        self.learn_keys().await?;
        self.wanted.extend(carried.wanted);
        for body in carried.bodies {
            self.bodies.entry(body).or_default();
        }
        for opening in self.on_disk(AccessDesk::openings_to_say).await? {
            // If the keeper is busy the next round says it.
            drop(self.keeper.try_send(Command::Say(Box::new(Action::EmergencyOpened(opening)))));
        }
        self.fetch().await?;
        self.fetch_bodies().await
    }

    /// Until it is known what the others have, nothing is opened: a state that was restored from a copy may not know of
    /// revocations.
    async fn learn_height(&self) -> Result<(), Unanswered> {
        if self.desk.0.is_current.load(Ordering::Acquire) {
            return Ok(());
        }
        let view = self.desk.0.chain.view()?;
        let roster = query::next_roster(&view)?;
        self.peers.follow(&roster_peers(&roster));
        let (own, tip) = (self.desk.0.key.public(), query::tip(&view)?.record.height);
        let mut heights = vec![tip];
        for key in roster.committee().members().iter().filter(|key| **key != own) {
            if let Ok(answer) = self.peers.ask_ledger(key, Question::Height.encode()).await
                && let Ok(Answer::Height(height)) = Answer::decode_bounded(&answer)
            {
                heights.push(height);
            }
        }
        let heard = height_heard(&heights, roster.committee());
        let at = query::tip(&self.desk.0.chain.view()?)?.record.height;
        if heard.is_some_and(|heard| heard <= at) {
            self.desk.set_current();
        }
        Ok(())
    }

    /// Learns the keys to which shares for the others are sealed, while they are there.
    async fn learn_keys(&mut self) -> Result<(), Unanswered> {
        let known = self.desk.0.store.view()?.peer_keys()?;
        let view = self.desk.0.chain.view()?;
        let roster = query::next_roster(&view)?;
        let (own, network) = (self.desk.0.key.public(), self.desk.0.network);
        let mark = super::handoff::mark(&view)?;
        let is_fresh = |(of, at): (Hash, tokio::time::Instant)| of == mark && at.elapsed() < LEARN_INTERVAL;
        let anew = !self.known_for.is_some_and(is_fresh);
        if anew {
            self.known_for = Some((mark, tokio::time::Instant::now()));
        }
        let is_known = |key: &PublicKey| *key == own || (!anew && known.iter().any(|(node, _)| node == key));
        for key in roster.committee().members().iter().filter(|key| !is_known(key)) {
            self.peers.follow(&roster_peers(&roster));
            let Ok(answer) = self.peers.access(key, DeskRequest::SealKey.encode()).await else { continue };
            if let Ok(DeskAnswer::SealKey(signed)) = DeskAnswer::decode(&answer)
                && signed.verify(&network, key).is_ok()
            {
                let node = *key;
                self.on_disk(move |desk| Ok(desk.0.store.keep_peer_key(&node, &signed)?)).await?;
            }
        }
        Ok(())
    }

    /// Asks the others for what the ledger names and is not here.
    async fn fetch(&mut self) -> Result<(), Unanswered> {
        let missing = self.desk.0.store.view()?.missing(FETCH_AT_ONCE)?;
        if missing.is_empty() && self.wanted.is_empty() {
            return Ok(());
        }
        let view = self.desk.0.chain.view()?;
        let roster = query::next_roster(&view)?;
        self.peers.follow(&roster_peers(&roster));
        let own = self.desk.0.key.public();
        let others: Vec<PublicKey> =
            roster.committee().members().iter().copied().filter(|key| *key != own).collect();
        for (vault, number) in missing {
            let Some(row) = BATCHES.get(&view, &(vault, number))? else { continue };
            let hash = batch_hash(&row.batch);
            let Some(bytes) =
                self.ask(&others, vault, hash, DepositKind::Batch, |bytes| is_batch(bytes, &row.batch)).await
            else {
                continue;
            };
            self.on_disk(move |desk| desk.apply_batch(&desk.0.chain.view()?, &vault, number, &bytes)).await?;
        }
        for vault in self.wanted.clone() {
            let Some(access) = ACCESS.get(&view, &vault)? else { continue };
            let hash = access.sharing.package;
            let is_it =
                |bytes: &[u8]| DealingPackage::decode_bounded(bytes).is_ok_and(|found| found.hash() == hash);
            let Some(bytes) = self.ask(&others, vault, hash, DepositKind::Dealing, is_it).await else {
                continue;
            };
            let work = move |desk: &AccessDesk| {
                desk.0.store.deposit(&vault, &hash, PackageKind::Dealing, &bytes, desk.0.clock.now())?;
                desk.take_share(&desk.0.chain.view()?, &vault)
            };
            // One that is of no use to this node is not asked for again.
            self.on_disk(work).await?;
            self.wanted.remove(&vault);
        }
        Ok(())
    }

    /// Asks the others for bodies of grants that were given before this node was one of them: their grantees ask for them again.
    async fn fetch_bodies(&mut self) -> Result<(), Unanswered> {
        let view = self.desk.0.chain.view()?;
        let (roster, own) = (query::next_roster(&view)?, self.desk.0.key.public());
        // Who does not vote is told nothing.
        if self.bodies.is_empty() || !roster.committee().contains(&own) {
            return Ok(());
        }
        self.peers.follow(&roster_peers(&roster));
        let others: Vec<PublicKey> =
            roster.committee().members().iter().copied().filter(|key| *key != own).collect();
        let some: Vec<_> = self.bodies.keys().take(FETCH_AT_ONCE).copied().collect();
        for (vault, hash) in some {
            let is_it = |bytes: &[u8]| body_hash(bytes) == hash;
            let Some(bytes) = self.ask(&others, vault, hash, DepositKind::GrantBody, is_it).await else {
                let tries = self.bodies.remove(&(vault, hash)).unwrap_or_default() + 1;
                if tries < BODY_TRIES {
                    self.bodies.insert((vault, hash), tries);
                }
                continue;
            };
            let desk = self.desk.clone();
            let kind = PackageKind::GrantBody;
            let keep = move || Ok(desk.0.store.deposit(&vault, &hash, kind, &bytes, desk.0.clock.now())?);
            in_turn(&self.disk, keep).await?;
            self.bodies.remove(&(vault, hash));
        }
        Ok(())
    }

    /// The first answer that is what was asked for.
    async fn ask(
        &self,
        others: &[PublicKey],
        vault: VaultId,
        hash: Hash,
        kind: DepositKind,
        is_it: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let question = DeskRequest::Package { vault, hash, kind }.encode();
        for key in others {
            let Ok(answer) = self.peers.access(key, question.clone()).await else { continue };
            if let Ok(DeskAnswer::Package(Some(bytes))) = DeskAnswer::decode(&answer)
                && is_it(&bytes)
            {
                return Some(bytes);
            }
        }
        None
    }

    async fn tidy(&self) -> Result<(), Unanswered> {
        let erased = self.desk.0.erased.swap(false, Ordering::AcqRel);
        let tidied = self.on_disk(move |desk| {
            desk.forget_packages()?;
            desk.forget_emergencies()?;
            if erased {
                desk.0.store.renew_key()?;
            }
            Ok(())
        });
        let tidied = tidied.await;
        self.desk.erased(erased && tidied.is_err());
        tidied
    }
}

fn is_batch(bytes: &[u8], named: &EntryBatch) -> bool {
    BatchPackage::decode_bounded(bytes).is_ok_and(|package| package.batch() == *named)
}

/// Does something on the disk, one at a time: it goes on when whoever waits for it has gone.
pub(super) async fn in_turn<T: Send + 'static>(
    disk: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Unanswered> + Send + 'static,
) -> Result<T, Unanswered> {
    let panicked = || Unanswered::Chain(ChainError::Panicked);
    let held = Arc::clone(disk).acquire_owned().await.map_err(|_| panicked())?;
    let job = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(held);
        done
    });
    job.await.map_err(|_| panicked())?
}

impl AccessDesk {
    /// The same for a simulator, which has nobody to fetch from.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn carry_out_blocks(&self, anew: bool) -> Result<(), String> {
        self.carry_out(anew).map(drop).map_err(|error| error.to_string())
    }

    /// Carries out the blocks since the last time; `anew` looks at the whole state as well.
    fn carry_out(&self, anew: bool) -> Result<Carried, Unanswered> {
        let mut carried = Carried::default();
        let view = self.0.chain.view()?;
        let tip = query::tip(&view)?.record.height;
        let from = self.0.store.view()?.cursor()?;
        let mut next = from.map_or(Height(1), Height::next);
        let mut all = anew || from.is_none();
        while next <= tip && !all {
            match view.block(next)?.map(|bytes| Block::decode_bounded(&bytes)) {
                Some(Ok(block)) => self.carry_out_block(&view, &block, &mut carried)?,
                // A snapshot passed over it.
                _ => all = true,
            }
            next = next.next();
        }
        if all {
            self.reconcile(&view, &mut carried)?;
        }
        if from != Some(tip) {
            self.0.store.reach(tip)?;
        }
        Ok(carried)
    }

    fn carry_out_block(&self, view: &View, block: &Block, carried: &mut Carried) -> Result<(), Unanswered> {
        for signed in &block.transactions {
            if stirs(&signed.transaction().action) {
                self.0.stirred.store(true, Ordering::Release);
            }
            match &signed.transaction().action {
                Action::ShareKey(sharing) if !self.take_share(view, &sharing.vault)? => {
                    carried.wanted.insert(sharing.vault);
                }
                Action::TakeShares(taken) => {
                    for share in &taken.shares {
                        if !self.take_share(view, &share.vault)? {
                            carried.wanted.insert(share.vault);
                        }
                    }
                }
                Action::Grant(grant) => self.want_body(view, grant, carried)?,
                Action::AddEntries(batch) => self.take_batch(view, batch)?,
                Action::Erase { vault, record, version } => {
                    self.erased(self.0.store.erase(vault, record, version)? > 0);
                }
                Action::EraseVersions(erasure) => {
                    self.erased(self.0.store.erase_all(&erasure.vault, &erasure.versions)? > 0);
                }
                Action::Withdraw { vault, version, keep } => {
                    self.erased(self.0.store.withdraw(vault, version, *keep)? > 0);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Compares with the whole state.
    fn reconcile(&self, view: &View, carried: &mut Carried) -> Result<(), Unanswered> {
        for (key, access) in ACCESS.scan(view, &(), None, usize::MAX)? {
            let Some(vault) = ACCESS.rest(&key).and_then(VaultId::from_slice) else { continue };
            if !self.take_share(view, &vault)? {
                carried.wanted.insert(vault);
            }
            for number in 0..access.batches {
                if let Some(row) = BATCHES.get(view, &(vault, number))? {
                    self.take_batch(view, &row.batch)?;
                }
            }
            for (key, keep) in WITHDRAWN.scan(view, &vault, None, usize::MAX)? {
                let Some(version) = WITHDRAWN.rest(&key).and_then(tagged) else { continue };
                self.erased(self.0.store.withdraw(&vault, &version, keep)? > 0);
            }
            let erased = ERASED.scan(view, &vault, None, usize::MAX)?;
            let erased: Vec<_> =
                erased.iter().filter_map(|(key, _)| ERASED.rest(key).and_then(tagged)).collect();
            for versions in erased.chunks(MAX_ERASURE_VERSIONS) {
                self.erased(self.0.store.erase_all(&vault, versions)? > 0);
            }
            for row in query::grants(view, &vault, None, usize::MAX)? {
                self.want_body(view, &row.grant, carried)?;
            }
        }
        self.0.stirred.store(true, Ordering::Release);
        Ok(())
    }

    /// Secrets were erased: the key of what is at rest is to be renewed.
    pub(super) fn erased(&self, any: bool) {
        if any {
            self.0.erased.store(true, Ordering::Release);
        }
    }

    /// Notes that the body of a grant is not here, if the grant stands.
    fn want_body(&self, view: &View, grant: &Grant, carried: &mut Carried) -> Result<(), Unanswered> {
        let row = GRANTS.get(view, &(grant.vault, grant.grant))?;
        let stands = row.is_some_and(|row| row.revoked.is_none() && self.0.clock.now() < grant.expires);
        let store = self.0.store.view()?;
        if stands && store.package(&grant.vault, &grant.body, PackageKind::GrantBody)?.is_none() {
            carried.bodies.insert((grant.vault, grant.body));
        }
        Ok(())
    }

    fn take_batch(&self, view: &View, batch: &EntryBatch) -> Result<(), Unanswered> {
        let Some(number) = BATCH_NUMBERS.get(view, &(batch.vault, batch.batch))? else { return Ok(()) };
        let store = self.0.store.view()?;
        if store.applied(&batch.vault, number)?.is_some() {
            return Ok(());
        }
        match store.package(&batch.vault, &batch_hash(batch), PackageKind::Batch)? {
            Some(bytes) if is_batch(&bytes, batch) => self.apply_batch(view, &batch.vault, number, &bytes),
            _ => Ok(self.0.store.miss_batch(&batch.vault, number)?),
        }
    }

    fn apply_batch(&self, view: &View, vault: &VaultId, number: u64, bytes: &[u8]) -> Result<(), Unanswered> {
        let package = BatchPackage::decode_bounded(bytes)?;
        let open_scopes = |record: &_, version: &_| {
            query::open_scopes(view, vault, record, version).map_err(AccessStoreError::Ledger)
        };
        let applied = self.0.store.apply_batch(number, &package, open_scopes)?;
        if applied.refused > 0 {
            let refused = applied.refused;
            tracing::warn!(vault = %vault.short(), refused, "entries contradict earlier ones and count for nothing");
        }
        Ok(())
    }

    /// The head of the access log, if the ledger has an older one.
    fn log_head_to_say(&self) -> Result<Option<LogHead>, Unanswered> {
        let head = self.0.store.view()?.log_head()?;
        let known = LOG_HEADS.get(&self.0.chain.view()?, &self.0.key.public())?;
        Ok(Some(head).filter(|head| head.size > known.map_or(0, |known| known.size)))
    }

    pub(super) fn forget_packages(&self) -> Result<(), Unanswered> {
        let view = self.0.chain.view()?;
        let life = u64::try_from(PACKAGE_LIFE.as_micros()).unwrap_or(u64::MAX);
        let before = Timestamp::from_unix_micros(self.0.clock.now().unix_micros().saturating_sub(life));
        self.0.store.forget_packages(before, |vault, hash| {
            let is_dealing = ACCESS.get(&view, vault)?.is_some_and(|access| access.sharing.package == *hash);
            if is_dealing {
                return Ok(true);
            }
            let grants = query::grants(&view, vault, None, usize::MAX)?;
            Ok(grants.iter().any(|row| row.revoked.is_none() && row.grant.body == *hash))
        })?;
        Ok(())
    }
}

/// Record and version at the end of the key of an erased or withdrawn version, after the vault.
fn tagged(rest: &[u8]) -> Option<TaggedVersion> {
    let rest = rest.strip_prefix(rest.first_chunk::<32>()?)?;
    let (record, version) = rest.split_first_chunk::<16>()?;
    Some(TaggedVersion { record: RecordTag(*record), version: VersionId(version.try_into().ok()?) })
}

/// Whether a handoff may follow from an action.
const fn stirs(action: &Action) -> bool {
    matches!(
        action,
        Action::ShareKey(_) | Action::HandOff(_) | Action::TakeShares(_) | Action::RejectHandoff { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{channel, sync_channel};

    use super::super::tests::World;
    use super::*;
    use crate::types::Network;

    /// Whoever starts a node anew would find its files in use, or changing, if it ended before.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_task_ends_once_what_is_under_way_on_the_disk_is_done() {
        let (world, disk) = (World::new(), Arc::new(Semaphore::new(1)));
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (go_on, held_up) = channel::<()>();
        let is_done = Arc::new(AtomicBool::new(false));
        let (own, done) = (Arc::clone(&disk), Arc::clone(&is_done));
        let slow = move || {
            begin.send(()).ok();
            held_up.recv().ok();
            done.store(true, Ordering::Release);
            Ok(())
        };
        let waiting = tokio::spawn(async move { in_turn(&own, slow).await });
        begun.await.unwrap();
        // It goes on when whoever waited for it has gone.
        waiting.abort();
        let genesis = &world.ledger.genesis;
        let network = Network { id: genesis.network, code: genesis.code, genesis: None, nodes: Vec::new() };
        // Nobody is there to be asked.
        world.desk.set_current();
        let (stop, stopping) = watch::channel(false);
        let (_news, news) = watch::channel(false);
        let (keeper, _queue) = sync_channel(1);
        let work = Work {
            desk: world.desk.clone(),
            peers: Peers::new(&network, &world.ledger.pairs[0]),
            keeper,
            wanted: BTreeSet::new(),
            bodies: BTreeMap::new(),
            known_for: None,
            disk,
        };
        let mut task = tokio::spawn(work.run(news, stopping));
        stop.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_millis(500), &mut task).await;
        assert!(ended.is_err() && !is_done.load(Ordering::Acquire));
        go_on.send(()).unwrap();
        task.await.unwrap();
        assert!(is_done.load(Ordering::Acquire));
    }
}
