//! Messages for heights that are not begun yet, with a bound for each peer.
//!
//! What does not fit is dropped: it is said again, or fetched once it is decided. Votes here are not verified:
//! they came from their voters, who fill their own share with them, and are verified when their height begins.

use std::collections::{BTreeMap, BTreeSet};

use super::codec::Message;
use crate::message::SignedProposal;
use crate::types::limits::{MAX_BLOCK_LEN, MAX_COMMITTEE};
use crate::types::{Height, PublicKey};

/// Heights ahead of the one being decided. A node that is further behind fetches blocks.
pub(super) const AHEAD: u64 = 16;

/// Messages of one peer for one height: two votes a round and proposals, for a dozen rounds.
const PER_PEER_AND_HEIGHT: usize = 32;

/// Bytes of all messages of one peer.
const PER_PEER_BYTES: usize = 4 * MAX_BLOCK_LEN;

/// Peers that may not be members now, but might be at a later height.
const STRANGERS: usize = MAX_COMMITTEE;

#[derive(Debug, Default)]
struct Peer {
    bytes: usize,
    heights: BTreeMap<Height, Vec<(Message, usize)>>,
}

/// What waits for its height.
#[derive(Debug, Default)]
pub(super) struct Inbox(BTreeMap<PublicKey, Peer>);

impl Inbox {
    /// Keeps a message of `len` bytes, if it is new and there is room.
    pub(super) fn put(&mut self, from: PublicKey, message: Message, len: usize) {
        if !self.0.contains_key(&from) && self.0.len() >= MAX_COMMITTEE + STRANGERS {
            return;
        }
        let peer = self.0.entry(from).or_default();
        let waiting = peer.heights.entry(message.height()).or_default();
        let known = waiting.iter().any(|(known, _)| *known == message);
        if known || waiting.len() >= PER_PEER_AND_HEIGHT || peer.bytes + len > PER_PEER_BYTES {
            return;
        }
        peer.bytes += len;
        waiting.push((message, len));
    }

    /// Takes what waits for a height, and forgets what waited for an earlier one.
    pub(super) fn take(&mut self, height: Height) -> Vec<(PublicKey, Message, usize)> {
        let mut taken = Vec::new();
        for (from, peer) in &mut self.0 {
            let later = peer.heights.split_off(&height.next());
            for (at, messages) in std::mem::replace(&mut peer.heights, later) {
                peer.bytes -= messages.iter().map(|(_, len)| len).sum::<usize>();
                if at == height {
                    taken.extend(messages.into_iter().map(|(message, len)| (*from, message, len)));
                }
            }
        }
        self.0.retain(|_, peer| !peer.heights.is_empty());
        taken
    }

    /// Who has voted at a height.
    pub(super) fn voters(&self, height: Height) -> BTreeSet<PublicKey> {
        let votes = |message: &Message| matches!(message, Message::Vote(_));
        let voters = self.0.iter().filter(|(_, peer)| {
            peer.heights.get(&height).is_some_and(|all| all.iter().any(|(message, _)| votes(message)))
        });
        voters.map(|(from, _)| *from).collect()
    }

    /// What has been proposed at a height.
    pub(super) fn proposals(&self, height: Height) -> impl Iterator<Item = &SignedProposal> {
        let at_height = self.0.values().filter_map(move |peer| peer.heights.get(&height)).flatten();
        at_height.filter_map(|(message, _)| match message {
            Message::Proposal(signed, _) => Some(signed),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign::KeyPair;
    use crate::message::{Vote, VoteKind};
    use crate::types::{NetworkId, Round};

    fn vote(height: u64, round: u32) -> Message {
        let (network, kind) = (NetworkId([1; 32]), VoteKind::Prevote);
        let vote = Vote { network, kind, height: Height(height), round: Round(round), block: None };
        Message::Vote(vote.sign(&KeyPair::from_secret(&[1; 32])))
    }

    fn peer(nth: u8) -> PublicKey {
        PublicKey([nth; 32])
    }

    #[test]
    fn a_peer_fills_its_own_share_only() {
        let mut inbox = Inbox::default();
        for round in 0..100 {
            inbox.put(peer(1), vote(5, round), 100);
            inbox.put(peer(1), vote(5, round), 100);
        }
        inbox.put(peer(2), vote(5, 0), 100);
        inbox.put(peer(3), vote(5, 0), PER_PEER_BYTES + 1);
        assert_eq!(inbox.voters(Height(5)), BTreeSet::from([peer(1), peer(2)]));
        assert_eq!(inbox.take(Height(5)).len(), PER_PEER_AND_HEIGHT + 1);
        assert!(inbox.0.is_empty());
    }

    #[test]
    fn bytes_are_given_back_when_their_height_is_past() {
        let mut inbox = Inbox::default();
        inbox.put(peer(1), vote(4, 0), PER_PEER_BYTES / 2);
        inbox.put(peer(1), vote(5, 0), PER_PEER_BYTES / 2);
        inbox.put(peer(1), vote(6, 0), PER_PEER_BYTES / 2);
        assert!(inbox.take(Height(6)).is_empty());
        inbox.put(peer(1), vote(7, 0), PER_PEER_BYTES);
        assert_eq!(inbox.take(Height(7)), [(peer(1), vote(7, 0), PER_PEER_BYTES)]);
        assert_eq!(inbox.proposals(Height(7)).count(), 0);
    }

    #[test]
    fn strangers_are_bounded() {
        let mut inbox = Inbox::default();
        (0..=255).for_each(|nth| inbox.put(peer(nth), vote(5, 0), 1));
        assert_eq!(inbox.voters(Height(5)).len(), MAX_COMMITTEE + STRANGERS);
    }
}
