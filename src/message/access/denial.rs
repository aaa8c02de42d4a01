//! Why a static node does not open something, by name.

use crate::message::Violation;
use crate::message::canonical::Canonical;

macro_rules! denials {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a static node does not open what was asked for. It travels to the grantee and into the access log.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        pub enum Denial { $($(#[$doc])* #[error($text)] $name,)* }

        impl Denial {
            /// Every one, so that tests can tell them apart.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }

        impl Canonical for Denial {
            fn write(&self, to: &mut Vec<u8>) {
                to.push(match self { $(Self::$name => $code,)* });
            }

            fn read(from: &mut &[u8]) -> Result<Self, Violation> {
                match u8::read(from)? {
                    $($code => Ok(Self::$name),)*
                    _ => Err(Violation::Malformed),
                }
            }
        }
    };
}

denials! {
    /// It does not know whether what it has is the ledger of now.
    NotServing = 1, "the static node does not know whether it has the ledger of now; ask again";
    /// The request's time is far from the node's.
    WrongClock = 2, "the request's time is more than a minute from the static node's: is the clock right?";
    /// It answered this request before.
    Replayed = 3, "the request was answered before";
    /// The ledger has no such grant of this vault.
    NoSuchGrant = 4, "the ledger has no such grant";
    /// The request is not signed with the grant's key.
    NotTheGrantee = 5, "the request is not signed with the grant's key";
    /// The vault's key is shared in another way now.
    OtherSharing = 6, "the vault's key is shared anew at this moment: ask again";
    /// The grant's time has not come.
    NotYet = 7, "the grant is not in force yet";
    /// The grant's time is over.
    Expired = 8, "the grant has expired";
    /// The owner took it back.
    Revoked = 9, "the grant was revoked";
    /// The vault has no such version, or it has no slot in this scope.
    NoSuchEntry = 10, "the static node has no such record in this scope";
    /// It was erased.
    Erased = 11, "the record was erased";
    /// The grant does not let this be done in this scope.
    NotGranted = 12, "the grant does not cover this";
    /// The grant's records of the day are used up.
    OverQuota = 13, "the grant's quota of the day is used up";
    /// The node has no share of this vault's key.
    NoShare = 14, "the static node has no share of the vault's key";
    /// The request is of another network.
    OtherNetwork = 15, "the request is of another network";
    /// It opens in emergencies only, and there is none, or it is not approved, or its delay is not over.
    NotActivated = 26, "the grant opens in emergencies only: none is active";
    /// The owner, or who else may, vetoed the emergency.
    Vetoed = 27, "the emergency was vetoed";
    /// The emergency's time is over.
    EmergencyOver = 28, "the emergency's time is over";
    /// The records of the emergency are used up.
    OverEmergencyQuota = 29, "the emergency's quota is used up";
    /// The owner replaced the vault's keys since.
    Rotated = 36, "the owner has replaced the vault's keys since the grant was given";
}
