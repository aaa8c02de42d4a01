//! The rows of handoffs.

use crate::ledger::tables::Table;
use crate::message::Violation;
use crate::message::access::HandedVault;
use crate::message::canonical::{Canonical, read_list, write_list};
use crate::types::limits::{HANDOFF_LIFE_MICROS, MAX_COMMITTEE, REFRESH_SECONDS};
use crate::types::{Hash, Height, PublicKey, ShareIndex, Timestamp, VaultId};

/// Handoffs under way, and those after which not all members have their share yet.
pub const HANDOFFS: Table<VaultId, Handing> = Table::new(0x50, "handoff");
/// Packages that handoffs name.
pub const DEALT: Table<Hash, Dealt> = Table::new(0x51, "dealt package");
/// When all keys were last to be shared anew; none while no key is shared.
pub const PERIOD: Table<(), Period> = Table::new(0x52, "period");

/// Microseconds of a second.
const SECOND_MICROS: u64 = 1_000_000;

/// An old member that dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dealer {
    /// Its place in the roster that has the shares.
    pub place: ShareIndex,
    /// Its package.
    pub package: Hash,
}

/// What a new member says that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its place in the next roster.
    pub place: ShareIndex,
    /// Of whose dealings, as [`bits`](crate::ledger::handoff::bits).
    pub dealers: u64,
    /// What they add up to.
    pub commitments: Hash,
}

/// A vault's key on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handing {
    /// Which of the vault's keys.
    pub dealing: u32,
    /// Which sharing of it is handed on.
    pub epoch: u32,
    /// Who has the shares of that one.
    pub from: Hash,
    /// Who is to have those of the next.
    pub to: Hash,
    /// How often it was begun anew.
    pub attempt: u32,
    /// Since when, by the ledger's time.
    pub began: Timestamp,
    /// Whether the next sharing is in effect: then these are the dealers of which it was made.
    pub switched: bool,
    /// Who dealt, in the order of the ledger.
    pub dealers: Vec<Dealer>,
    /// Who took what.
    pub taken: Vec<Taken>,
}

/// A package that handoffs name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealt {
    /// Whose it is.
    pub dealer: PublicKey,
    /// For whom.
    pub to: Hash,
    /// Since when.
    pub height: Height,
    /// Handoffs that name it: it is forgotten with the last.
    pub uses: u32,
    /// New members who signed that they keep it and that their own part is good: bit n stands for place n + 1.
    pub kept: u64,
    /// New members that say that it is wrong, by their places.
    pub rejected: Vec<ShareIndex>,
    /// Whether so many say so that one of them is honest: then it counts for nothing.
    pub excluded: bool,
}

/// When keys are shared anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// How many there were before.
    pub number: u32,
    /// The block with which it began: sharings of before are due.
    pub since: Height,
    /// The ledger's time then.
    pub began: Timestamp,
    /// Seconds after which the next begins.
    pub every: u32,
}

impl Period {
    /// The one that is in effect when the first key is shared.
    #[must_use]
    pub const fn first(now: Timestamp) -> Self {
        Self { number: 0, since: Height::GENESIS, began: now, every: REFRESH_SECONDS }
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self, since: Height, began: Timestamp, every: u32) -> Self {
        Self { number: self.number.saturating_add(1), since, began, every }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.began).as_micros() >= u128::from(self.every) * u128::from(SECOND_MICROS)
    }
}

impl Dealt {
    /// Whether the member at a place signed that it keeps it.
    #[must_use]
    pub const fn is_kept_by(&self, place: ShareIndex) -> bool {
        self.kept & (1 << (place.get() - 1)) != 0
    }
}

impl Handing {
    /// Whether this is about a sharing of a vault's key.
    #[must_use]
    pub const fn is_of(&self, dealing: u32, epoch: u32) -> bool {
        self.dealing == dealing && self.epoch == epoch
    }

    /// Whether so much time has passed that it may be begun anew.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        !self.switched && now.since(self.began).as_micros() >= u128::from(HANDOFF_LIFE_MICROS)
    }

    /// What a vault's dealers are asked for.
    #[must_use]
    pub const fn handed(&self, vault: VaultId) -> HandedVault {
        HandedVault { vault, dealing: self.dealing, epoch: self.epoch, attempt: self.attempt }
    }
}

/// A place, in rows.
struct Place(ShareIndex);

impl Canonical for Place {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(self.0.get());
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        ShareIndex::new(u8::read(from)?).map(Self).ok_or(Violation::OutOfBounds)
    }
}

impl Canonical for Dealer {
    fn write(&self, to: &mut Vec<u8>) {
        Place(self.place).write(to);
        self.package.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { place: Place::read(from)?.0, package: Canonical::read(from)? })
    }
}

impl Canonical for Taken {
    fn write(&self, to: &mut Vec<u8>) {
        Place(self.place).write(to);
        self.dealers.write(to);
        self.commitments.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            place: Place::read(from)?.0,
            dealers: Canonical::read(from)?,
            commitments: Canonical::read(from)?,
        })
    }
}

impl Canonical for Handing {
    fn write(&self, to: &mut Vec<u8>) {
        self.dealing.write(to);
        self.epoch.write(to);
        self.from.write(to);
        self.to.write(to);
        self.attempt.write(to);
        self.began.write(to);
        self.switched.write(to);
        write_list(&self.dealers, to);
        write_list(&self.taken, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            dealing: Canonical::read(from)?,
            epoch: Canonical::read(from)?,
            from: Canonical::read(from)?,
            to: Canonical::read(from)?,
            attempt: Canonical::read(from)?,
            began: Canonical::read(from)?,
            switched: Canonical::read(from)?,
            dealers: read_list(from, MAX_COMMITTEE)?,
            taken: read_list(from, MAX_COMMITTEE)?,
        })
    }
}

impl Canonical for Dealt {
    fn write(&self, to: &mut Vec<u8>) {
        self.dealer.write(to);
        self.to.write(to);
        self.height.write(to);
        self.uses.write(to);
        self.kept.write(to);
        let rejected: Vec<_> = self.rejected.iter().copied().map(Place).collect();
        write_list(&rejected, to);
        self.excluded.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        let (dealer, to) = (Canonical::read(from)?, Canonical::read(from)?);
        let (height, uses) = (Canonical::read(from)?, Canonical::read(from)?);
        let kept = Canonical::read(from)?;
        let rejected: Vec<Place> = read_list(from, MAX_COMMITTEE)?;
        let rejected = rejected.into_iter().map(|place| place.0).collect();
        Ok(Self { dealer, to, height, uses, kept, rejected, excluded: Canonical::read(from)? })
    }
}

impl Canonical for Period {
    fn write(&self, to: &mut Vec<u8>) {
        self.number.write(to);
        self.since.write(to);
        self.began.write(to);
        self.every.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            number: Canonical::read(from)?,
            since: Canonical::read(from)?,
            began: Canonical::read(from)?,
            every: Canonical::read(from)?,
        })
    }
}
