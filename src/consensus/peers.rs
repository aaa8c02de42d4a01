//! How far the others are, as they say.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::limits::MAX_COMMITTEE;
use crate::types::{Committee, Height, PublicKey, Timestamp};

/// Peers remembered: the committee and as many who may become members.
const REMEMBERED: usize = 2 * MAX_COMMITTEE;

#[derive(Debug, Default)]
struct Peer {
    /// The height it is deciding: it has all before.
    height: Height,
    /// When a certificate was last sent to it.
    told: Option<Timestamp>,
}

/// The static nodes heard of.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<PublicKey, Peer>);

impl Peers {
    /// The peer says something that only a node at this height says.
    pub(super) fn at(&mut self, from: PublicKey, height: Height) {
        if self.0.len() < REMEMBERED || self.0.contains_key(&from) {
            let peer = self.0.entry(from).or_default();
            peer.height = peer.height.max(height);
        }
    }

    /// The height that the peer is deciding, as far as it has said.
    pub(super) fn height(&self, key: &PublicKey) -> Height {
        self.0.get(key).map_or(Height::GENESIS, |peer| peer.height)
    }

    /// Forgets those who are no members any more: what they said of themselves no longer counts.
    pub(super) fn retain(&mut self, committee: &Committee) {
        self.0.retain(|key, _| committee.contains(key));
    }

    /// Someone who has decided this height: of several the one after `last`, so that all are asked in turn.
    pub(super) fn ahead(&self, height: Height, last: Option<PublicKey>) -> Option<PublicKey> {
        let mut ahead = self.0.iter().filter(|(_, peer)| peer.height > height).map(|(key, _)| *key);
        let first = ahead.next()?;
        match last {
            Some(last) if first <= last => Some(ahead.find(|key| *key > last).unwrap_or(first)),
            _ => Some(first),
        }
    }

    /// The furthest height that anyone claims to be at.
    pub(super) fn furthest(&self) -> Height {
        self.0.values().map(|peer| peer.height).max().unwrap_or_default()
    }

    /// Whether it is time to tell a peer again, and that it is told now.
    pub(super) fn tell(&mut self, key: PublicKey, now: Timestamp, again: Duration) -> bool {
        let Some(peer) = self.0.get_mut(&key) else { return false };
        let due = peer.told.is_none_or(|told| told + again <= now);
        if due {
            peer.told = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(nth: u8) -> PublicKey {
        PublicKey([nth; 32])
    }

    #[test]
    fn those_ahead_are_asked_in_turn() {
        let mut peers = Peers::default();
        for (nth, height) in [(1, 5), (2, 4), (3, 9), (4, 5)] {
            peers.at(peer(nth), Height(height));
        }
        peers.at(peer(3), Height(2));
        assert_eq!(peers.furthest(), Height(9));
        let mut asked = Vec::new();
        let mut last = None;
        for _ in 0..5 {
            last = peers.ahead(Height(4), last);
            asked.push(last.unwrap().0[0]);
        }
        assert_eq!(asked, [1, 3, 4, 1, 3]);
        assert_eq!(peers.ahead(Height(9), None), None);
    }

    #[test]
    fn a_peer_is_not_told_too_often() {
        let mut peers = Peers::default();
        let second = Duration::from_secs(1);
        let at = |seconds| Timestamp::ZERO + second * seconds;
        assert!(!peers.tell(peer(1), at(1), second), "never heard of it");
        peers.at(peer(1), Height(3));
        assert!(peers.tell(peer(1), at(1), second) && !peers.tell(peer(1), at(1), second));
        assert!(peers.tell(peer(1), at(2), second));
        (0..=255).for_each(|nth| peers.at(peer(nth), Height(1)));
        assert_eq!(peers.0.len(), REMEMBERED);
    }
}
