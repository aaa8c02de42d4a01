//! Seeded chance, and the fuzzer that all decoders share.
//!
//! `XVAULT_SEED=7` replays a run, `XVAULT_ROUNDS=1000000` makes it long: `scripts/fuzz` does both.

use std::fmt::Debug;

/// Rounds of each fuzzer unless the environment says otherwise.
const ROUNDS: usize = 4_000;

/// The seed of this run, which is printed for the case that it fails.
pub(crate) fn seeded() -> Random {
    let seed = number("XVAULT_SEED").unwrap_or(0x5eed);
    println!("XVAULT_SEED={seed}");
    Random(seed)
}

/// How many rounds a fuzzer runs whose round costs so many times as much as that of a plain decoder.
pub(crate) fn rounds(cost: usize) -> usize {
    let rounds = number("XVAULT_ROUNDS").map_or(ROUNDS, |rounds| usize::try_from(rounds).unwrap());
    rounds.div_ceil(cost)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// SplitMix64: enough for fuzzing, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// One of four changes that a broken or hostile peer would make.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.extend(self.bytes(5)),
            2 => bytes.insert(at, self.next().to_le_bytes()[0]),
            _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            _ => bytes.clear(),
        }
    }

    /// What a fuzzer decodes in a round: a valid encoding that was damaged, or anything.
    pub(crate) fn input(&mut self, round: usize, valid: &[u8]) -> Vec<u8> {
        if round.is_multiple_of(8) {
            let len = self.below(400);
            return self.bytes(len);
        }
        let mut bytes = valid.to_vec();
        for _ in 0..=self.below(3) {
            self.damage(&mut bytes);
        }
        bytes
    }
}

/// Decodes valid, damaged and random bytes with one decoder: it never panics, and what it accepts it writes back as
/// an equal value.
pub(crate) fn fuzz<T: PartialEq + Debug, E: Debug>(
    valid: &[T],
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<T, E>,
) {
    let mut random = seeded();
    let survives = |value: &T| assert_eq!(decode(&encode(value)).unwrap(), *value);
    valid.iter().for_each(survives);
    let rounds = rounds(1);
    let mut accepted = 0;
    for round in 0..rounds {
        let bytes = random.input(round, &encode(&valid[round % valid.len()]));
        if let Ok(value) = decode(&bytes) {
            survives(&value);
            accepted += 1;
        }
    }
    println!("{accepted} of {rounds} accepted");
}
