//! What the keeper lets the rest of the node see at once, without asking it.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use crate::ledger::snapshot::Taking;
use crate::message::Roster;
use crate::roles::static_node::prove::ProvenHead;
use crate::types::PublicKey;

#[derive(Debug, Clone, Default)]
struct State {
    proven: Option<Arc<ProvenHead>>,
    /// Who votes on the next block.
    voters: BTreeSet<PublicKey>,
    /// Who voted before the last change. They cosign the block that made it, and their word may come after it.
    former: BTreeSet<PublicKey>,
    /// The snapshot that is being taken.
    taking: Option<Taking>,
}

/// The keeper's last word.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: RwLock<State>,
    /// Changes with every block; true once the node leaves.
    news: watch::Sender<bool>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a new block.
    pub(super) fn committed(&self) {
        self.news.send_replace(false);
    }

    /// The node leaves: nobody need wait for a block any more.
    pub(super) fn leave(&self) {
        self.news.send_replace(true);
    }

    /// Changes with every block, and when the node leaves: then it is true.
    pub(super) fn news(&self) -> watch::Receiver<bool> {
        self.news.subscribe()
    }

    pub(super) fn set_voters(&self, next: &Roster) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let next = next.committee().members().iter().copied().collect();
        if next != state.voters {
            state.former = std::mem::replace(&mut state.voters, next);
        }
    }

    pub(super) fn set_proven(&self, proven: Arc<ProvenHead>) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).proven = Some(proven);
    }

    pub(super) fn set_taking(&self, taking: Option<Taking>) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).taking = taking;
    }

    /// How far the snapshot is that is being taken.
    pub(super) fn taking(&self) -> Option<Taking> {
        self.read().taking
    }

    /// The newest block whose tree head a quorum has cosigned, and up to which every change of the static nodes can be
    /// proved here.
    pub(super) fn proven(&self) -> Option<Arc<ProvenHead>> {
        self.read().proven.clone()
    }

    /// Whether this key may take part in consensus now.
    pub(crate) fn is_voter(&self, key: &PublicKey) -> bool {
        self.read().voters.contains(key)
    }

    /// Whether a cosignature by this key may be one that counts.
    pub(crate) fn may_cosign(&self, key: &PublicKey) -> bool {
        let state = self.read();
        state.voters.contains(key) || state.former.contains(key)
    }
}
