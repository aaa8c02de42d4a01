//! The static nodes of a height, and all arithmetic of quorums.
//!
//! With n members of which f may be faulty, n ≥ 3f+1. Two quorums of n−f share at least n−2f ≥ f+1 members,
//! so an honest one; that is why two certificates for one height cannot both exist. What is decided nowhere
//! else is written nowhere else: no other file computes a number of members.

use std::collections::BTreeSet;

use crate::types::limits::MAX_COMMITTEE;
use crate::types::{Height, PublicKey, Round};

/// Keys that make no committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// Nobody could ever decide anything.
    #[error("a committee has at least one member")]
    Empty,
    /// More than [`MAX_COMMITTEE`].
    #[error("{0} members are more than a committee takes")]
    TooMany(usize),
    /// One key would count twice.
    #[error("key {0} is in the committee twice")]
    Duplicate(PublicKey),
}

/// The static nodes that decide on one height: 1 to [`MAX_COMMITTEE`] distinct keys in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committee {
    members: Vec<PublicKey>,
    /// How many of the first in `turns` propose before the others.
    prompt: usize,
    /// The members in the order of their turns: those that propose before the others, then the others; each ascending.
    turns: Vec<PublicKey>,
}

impl Committee {
    /// The committee of these keys, in whatever order they come.
    ///
    /// # Errors
    /// [`CommitteeError`] if they are none, too many, or one is there twice.
    pub fn new(mut members: Vec<PublicKey>) -> Result<Self, CommitteeError> {
        if members.is_empty() {
            return Err(CommitteeError::Empty);
        }
        if members.len() > MAX_COMMITTEE {
            return Err(CommitteeError::TooMany(members.len()));
        }
        members.sort_unstable();
        match members.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(CommitteeError::Duplicate(pair[0])),
            None => Ok(Self::in_turn(members)),
        }
    }

    fn in_turn(members: Vec<PublicKey>) -> Self {
        Self { prompt: members.len(), turns: members.clone(), members }
    }

    /// The same committee, whose turn to propose comes after everybody else's for these of its members: they let their last one
    /// pass. Votes are as before.
    #[must_use]
    pub fn with_late(self, late: impl IntoIterator<Item = PublicKey>) -> Self {
        let late: BTreeSet<_> = late.into_iter().collect();
        let (last, first): (Vec<_>, Vec<_>) = self.members.iter().partition(|key| late.contains(key));
        Self { prompt: first.len(), turns: [first, last].concat(), members: self.members }
    }

    /// The committee of one.
    #[must_use]
    pub fn alone(member: PublicKey) -> Self {
        Self::in_turn(vec![member])
    }

    /// The members in ascending order.
    #[must_use]
    pub fn members(&self) -> &[PublicKey] {
        &self.members
    }

    /// How many members there are.
    #[must_use]
    pub const fn n(&self) -> usize {
        self.members.len()
    }

    /// How many may be faulty: the largest f with n ≥ 3f+1.
    #[must_use]
    pub const fn f(&self) -> usize {
        (self.n() - 1) / 3
    }

    /// How many must sign for a block to be final: n−f. All honest members together are as many, so waiting
    /// for more could mean waiting for a faulty one. It is the least number over two thirds of n.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        self.n() - self.f()
    }

    /// How many are needed so that honest members outnumber the faulty among them: 2f+1.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        2 * self.f() + 1
    }

    /// How many are needed so that at least one of them is honest: f+1.
    #[must_use]
    pub const fn one_honest(&self) -> usize {
        self.f() + 1
    }

    /// Whether the key is a member's.
    #[must_use]
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.position(key).is_some()
    }

    /// The member's place in the order, for bitmaps.
    #[must_use]
    pub fn position(&self, key: &PublicKey) -> Option<usize> {
        self.members.binary_search(key).ok()
    }

    /// One of the others, another for each height: for what need not go to all. `None` for who is no member or alone.
    #[must_use]
    pub fn after(&self, member: &PublicKey, height: Height) -> Option<PublicKey> {
        let own = self.position(member)?;
        let others = self.n() as u64 - 1;
        let step = 1 + usize::try_from(height.0.checked_rem(others)?).ok()?;
        Some(self.members[(own + step) % self.n()])
    }

    /// Who proposes in a round: everyone in turn, one further for each height and for each round. Who is late comes after
    /// all others, so that a silent member does not cost a round at every nth height.
    #[must_use]
    pub fn proposer(&self, height: Height, round: Round) -> PublicKey {
        let (first, last) = self.turns.split_at(self.prompt);
        let at = usize::try_from(round.0).unwrap_or_default() % self.n();
        let group = if at < first.len() { first } else { last };
        let count = group.len() as u64;
        let turn = (height.0 % count + at as u64) % count;
        group[usize::try_from(turn).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committee(n: u8) -> Committee {
        Committee::new((0..n).rev().map(|nth| PublicKey([nth; 32])).collect()).unwrap()
    }

    /// n, f, quorum, threshold, one honest.
    const TABLE: [[usize; 5]; 21] = [
        [1, 0, 1, 1, 1],
        [2, 0, 2, 1, 1],
        [3, 0, 3, 1, 1],
        [4, 1, 3, 3, 2],
        [5, 1, 4, 3, 2],
        [6, 1, 5, 3, 2],
        [7, 2, 5, 5, 3],
        [8, 2, 6, 5, 3],
        [9, 2, 7, 5, 3],
        [10, 3, 7, 7, 4],
        [11, 3, 8, 7, 4],
        [12, 3, 9, 7, 4],
        [13, 4, 9, 9, 5],
        [14, 4, 10, 9, 5],
        [15, 4, 11, 9, 5],
        [16, 5, 11, 11, 6],
        [17, 5, 12, 11, 6],
        [18, 5, 13, 11, 6],
        [19, 6, 13, 13, 7],
        [20, 6, 14, 13, 7],
        [21, 6, 15, 13, 7],
    ];

    #[test]
    fn quorums_are_those_of_the_table() {
        for row in TABLE {
            let of = committee(u8::try_from(row[0]).unwrap());
            assert_eq!([of.n(), of.f(), of.quorum(), of.threshold(), of.one_honest()], row);
        }
    }

    #[test]
    fn two_quorums_share_an_honest_member_and_the_honest_are_one() {
        for [n, f, quorum, threshold, one_honest] in TABLE {
            assert!(2 * quorum - n > f, "two quorums of {n}");
            assert_eq!(n - f, quorum, "all honest members of {n} decide alone");
            assert!(quorum >= threshold && threshold > 2 * f && one_honest > f);
            // The engine counts in weights: more than two thirds of n is the same number.
            assert!(3 * quorum > 2 * n && 3 * (quorum - 1) <= 2 * n, "{n}");
        }
    }

    #[test]
    fn a_committee_is_sorted_unique_and_bounded() {
        let keys = |range: std::ops::Range<u8>| range.map(|nth| PublicKey([nth; 32])).collect::<Vec<_>>();
        let of = committee(4);
        assert_eq!(of.members(), keys(0..4));
        assert_eq!((of.position(&PublicKey([2; 32])), of.position(&PublicKey([4; 32]))), (Some(2), None));
        assert!(of.contains(&PublicKey([3; 32])) && !of.contains(&PublicKey([9; 32])));
        assert_eq!(Committee::new(vec![]), Err(CommitteeError::Empty));
        assert_eq!(Committee::new(keys(0..65)), Err(CommitteeError::TooMany(65)));
        assert!(Committee::new(keys(0..64)).is_ok());
        let twice = [keys(0..4), keys(1..2)].concat();
        assert_eq!(Committee::new(twice), Err(CommitteeError::Duplicate(PublicKey([1; 32]))));
    }

    #[test]
    fn everyone_meets_all_others_in_turn() {
        for n in 2..=21 {
            let of = committee(n);
            for own in of.members() {
                let mut met: Vec<_> =
                    (5..4 + u64::from(n)).map(|at| of.after(own, Height(at)).unwrap()).collect();
                met.push(*own);
                met.sort_unstable();
                assert_eq!(met, of.members());
            }
        }
        assert_eq!(committee(1).after(&PublicKey([0; 32]), Height(3)), None);
        assert_eq!(committee(3).after(&PublicKey([9; 32]), Height(3)), None);
    }

    #[test]
    fn every_member_proposes_in_turn() {
        for n in 1..=21 {
            let of = committee(n);
            let turns = |step: &dyn Fn(u32) -> PublicKey| {
                let mut proposers: Vec<_> = (0..u32::from(n)).map(step).collect();
                proposers.sort_unstable();
                assert_eq!(proposers, of.members());
            };
            turns(&|round| of.proposer(Height(7), Round(round)));
            turns(&|height| of.proposer(Height(u64::from(height) + 90), Round(3)));
        }
        for late in [0..0, 1..2, 0..3, 2..3] {
            let late = committee(3).members()[late].to_vec();
            let of = committee(3).with_late(late.clone());
            for height in 0..9 {
                let turns: Vec<_> = (0..3).map(|round| of.proposer(Height(height), Round(round))).collect();
                assert_eq!(turns.iter().collect::<BTreeSet<_>>().len(), 3);
                let first_late = turns.iter().position(|key| late.contains(key)).unwrap_or(3);
                assert!(turns[first_late..].iter().all(|key| late.contains(key)), "{turns:?}");
            }
        }
        let last = committee(3).proposer(Height(u64::MAX), Round(u32::MAX));
        assert!(committee(3).contains(&last));
    }
}
