//! Why the ledger does not carry out a transaction, by name, with what its author needs to try again.

use crate::message::Violation;
use crate::message::anchor::NodeNumber;
use crate::message::canonical::Canonical;
use crate::types::{Height, PublicKey, SegmentId, TransactionId};

/// What is wrong with who asks or approves in an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It is for another key than the author's.
    #[error("the certificate is for another key")]
    Holder,
    /// The grant does not name the authority.
    #[error("the grant does not name the certificate's authority")]
    Authority,
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// The request is not signed with the grant's key.
    #[error("the request is not signed with the card of this grant")]
    Card,
}

impl Canonical for CertificateFault {
    fn write(&self, to: &mut Vec<u8>) {
        to.push(match self {
            Self::Holder => 1,
            Self::Authority => 2,
            Self::Expired => 3,
            Self::Card => 4,
        });
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Holder,
            2 => Self::Authority,
            3 => Self::Expired,
            4 => Self::Card,
            _ => return Err(Violation::Malformed),
        })
    }
}

macro_rules! rejections {
    ($($(#[$doc:meta])* $name:ident $(($($field:ident: $type:ty),+))? = $code:literal, $text:literal;)*) => {
        /// Why a transaction is refused. It travels to the author.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        pub enum Rejection {
            $($(#[$doc])* #[error($text)] $name $({ $(
                #[doc = concat!("See [`", stringify!($name), "`](Self::", stringify!($name), ").")]
                $field: $type
            ),+ })?,)*
        }

        impl Canonical for Rejection {
            fn write(&self, to: &mut Vec<u8>) {
                match self {
                    $(Self::$name $({ $($field),+ })? => {
                        to.push($code);
                        $($($field.write(to);)+)?
                    })*
                }
            }

            fn read(from: &mut &[u8]) -> Result<Self, Violation> {
                Ok(match u8::read(from)? {
                    $($code => Self::$name $({ $($field: Canonical::read(from)?),+ })?,)*
                    _ => return Err(Violation::Malformed),
                })
            }
        }
    };
}

rejections! {
    /// The author's next transaction has another number: `expected`.
    WrongNonce(expected: u64) = 1, "the author's next nonce is {expected}";
    /// It was to be carried out before `height`.
    Expired(height: Height) = 2, "expired before height {height}";
    /// It expires more than the allowed number of blocks ahead.
    ExpiresTooLate = 3, "expires too far ahead";
    /// The payer used up its bytes of the epoch: try again at `retry` with at most `limit` bytes.
    OverQuota(limit: u64, retry: Height) = 4, "over the quota of {limit} ledger bytes an epoch, which begins anew at height {retry}";
    /// The author has enough transactions in this block.
    TooManyOfAuthor = 5, "the author has as many transactions in this block as are allowed";
    /// The network takes only who is sponsored.
    NotSponsored = 6, "this network asks for a sponsor";
    /// The sponsor is none, or has nothing left to give.
    SponsorExhausted(sponsor: PublicKey) = 7, "sponsor {sponsor} has nothing left to give";
    /// As many came without a sponsor as an epoch takes: try again at `retry`.
    AdmissionFull(retry: Height) = 8, "no more vaults or nodes are admitted before height {retry}";
    /// There is such a vault already.
    VaultExists = 9, "the vault exists";
    /// There is no such vault.
    NoSuchVault = 10, "no such vault";
    /// Only the owner may do this.
    NotTheOwner = 11, "not the vault's owner";
    /// Only the owner and writers may do this.
    NotAWriter = 12, "not a writer of the vault";
    /// Another anchor came first: `head` is the collection's head.
    HeadMoved(head: Option<TransactionId>) = 13, "the collection's head is another anchor";
    /// The vault has this segment already.
    SegmentExists(segment: SegmentId) = 14, "segment {segment} is anchored already";
    /// The vault has no such segment.
    NoSuchSegment(segment: SegmentId) = 15, "no segment {segment} in the vault";
    /// A holder is no storage node.
    NoSuchHolder(node: NodeNumber) = 16, "no storage node has the number {node}";
    /// Shards and holders do not fit the segment's code.
    WrongShardCount(segment: SegmentId) = 17, "segment {segment} has another number of shards";
    /// The key is a writer already.
    WriterExists = 19, "the key is a writer already";
    /// The key is no writer.
    NoSuchWriter = 20, "the key is no writer";
    /// The vault has as many writers as are allowed.
    TooManyWriters = 21, "the vault has as many writers as are allowed";
    /// The key is a storage node's already.
    NodeExists = 22, "the key is a storage node's already";
    /// The author is no storage node, or has retired.
    NoSuchNode = 23, "not an active storage node";
    /// No numbers are left for storage nodes.
    TooManyNodes = 24, "the network has as many storage nodes as it can number";
    /// Approvals are of another number: `expected`.
    WrongSequence(expected: u64) = 25, "the next change of the network has the number {expected}";
    /// Too few approved: `have` of the `need` that are needed.
    NotApproved(have: u16, need: u16) = 26, "{have} static nodes approved, {need} are needed";
    /// The key is not a static node's.
    NotAMember(key: PublicKey) = 27, "{key} is not a voting static node";
    /// The key is or was a static node's.
    MemberExists(key: PublicKey) = 28, "{key} is or was a static node's";
    /// There are as many static nodes as a committee takes.
    CommitteeFull = 29, "no more static nodes can vote";
    /// The last static node cannot leave.
    LastMember = 30, "the last static node cannot leave";
    /// The static nodes change already in this block.
    AlreadyChanging = 31, "the static nodes change already in this block";
    /// The key is not a blacklisted static node's.
    NotBlacklisted(key: PublicKey) = 32, "{key} is not blacklisted";
    /// This was shown before.
    EvidenceKnown = 33, "the offence is known";
    /// It is too long ago.
    EvidenceExpired = 34, "the offence is too long ago";
    /// The block it tells of is not decided.
    EvidenceAhead = 35, "the offence is at a height that is not decided";
    /// The tree head is this log's.
    NotAnOffence = 36, "what was shown is no offence";
    /// The author has nothing to answer for, or needs more than an answer.
    NothingToCorrect = 37, "there is nothing that an answer would mend";
    /// The author does not sponsor the vault.
    NotTheSponsor = 38, "not the vault's sponsor";
    /// The sponsor may let a vault use at most `limit` bytes an epoch.
    BeyondTerms(limit: u64) = 39, "the sponsor may let a vault use at most {limit} ledger bytes an epoch";
    /// The vault has used `used` bytes of this epoch already.
    BelowUse(used: u64) = 40, "the vault has used {used} ledger bytes of this epoch already";
    /// The shares are for other static nodes than those that decide on this block: deal anew.
    RosterMoved = 60, "the static nodes have changed: the shares must be dealt anew";
    /// The vault's key that is shared now, or the next, has the number `expected` or the one before.
    WrongDealing(expected: u32) = 61, "the vault's next key has the number {expected}";
    /// The vault's key is not shared yet.
    NotShared = 62, "the vault's key is not shared with the static nodes";
    /// There is such a grant already, or was.
    GrantExists = 63, "the grant exists";
    /// The grantee's key has a grant already: each needs a key of its own.
    GranteeKnown = 64, "the grantee's key has served for a grant already";
    /// The vault has as many grants as are allowed.
    TooManyGrants = 65, "the vault has as many grants as are allowed: revoke those that have expired";
    /// The vault has no such grant.
    NoSuchGrant = 66, "no such grant in the vault";
    /// It is revoked already.
    AlreadyRevoked = 67, "the grant is revoked already";
    /// There is such a batch already.
    BatchExists = 68, "the batch exists";
    /// It is erased already.
    AlreadyErased = 69, "the version is erased already";
    /// The scope's next generation is `expected`.
    WrongGeneration(expected: u32) = 70, "the scope's next generation is {expected}";
    /// The log has `size` entries already.
    LogBehind(size: u64) = 71, "the access log has a head of {size} entries already";
    /// The grant is not one that opens in emergencies.
    NotForEmergencies = 82, "the grant is none for emergencies";
    /// The grant is revoked, not yet in force, or expired.
    GrantNotInForce = 83, "the grant is not in force";
    /// The author is no clinician in the eyes of the grant, for this `fault` of the certificate.
    NotCertified(fault: CertificateFault) = 84, "not a clinician by the grant's terms: {fault}";
    /// The vault has no such emergency, or has it no more.
    NoSuchEmergency = 85, "no such emergency in the vault";
    /// It was vetoed, or its time is over.
    EmergencyOver = 86, "the emergency was vetoed, or its time is over";
    /// The author, or the vault, has as many emergencies under way as are allowed.
    TooManyEmergencies = 87, "the vault or the clinician has as many emergencies under way as are allowed";
    /// Who asked does not approve as well.
    OwnApproval = 88, "who asks for an emergency cannot approve it";
    /// The author has approved, or enough others have.
    ApprovedAlready = 89, "the emergency is approved already, by this key or by as many as are needed";
    /// The author is neither the owner nor named in the grant for that.
    MayNotVeto = 90, "only the vault's owner, and whom the grant names for that, may veto";
    /// The opening is known, or as many are as are kept.
    OpeningKnown = 91, "the opening is known";
    /// The ledger carried out no such erasure at that height.
    NoSuchErasure = 80, "the ledger carried out no such erasure at that height";
    /// The version was taken out of these scopes already.
    AlreadyWithdrawn = 81, "the version was withdrawn already";
    /// The vault was erased: nothing comes into it any more.
    VaultErased = 108, "the vault was erased";
    /// The author's key is not the one that the grant is for.
    NotTheGrantee = 110, "the grant is for another key";
    /// The grant lets nothing be brought.
    NoRightToAppend = 111, "the grant lets nothing be brought into the vault";
    /// With this more than the `limit` of ciphertext bytes would have been brought under the grant.
    OverAppendBytes(limit: u64) = 112, "the grant lets {limit} bytes be brought in all";
    /// As many deposits wait in the vault as may.
    TooManyDeposits = 113, "as many deposits wait in the vault as may: its owner is to take them in";
    /// The vault has no such deposit, or its owner was done with it before.
    NoSuchDeposit = 114, "no such deposit waits in the vault";
    /// The vault has more segments than its erasure frees: release them before.
    SegmentsLeft(have: u64) = 109, "the vault has {have} segments still: release them before";
    /// The vault's set of guardians is, or the next one has the number `expected`.
    WrongGuardianSet(expected: u32) = 92, "the set of the vault's guardians has the number {expected}";
    /// The vault has no guardians.
    NoGuardians = 93, "the vault has no guardians";
    /// The author is none of the vault's guardians.
    NotAGuardian = 94, "not one of the vault's guardians";
    /// The owner objected to the request.
    Vetoed = 95, "the vault's owner has objected to this request";
    /// The guardian stands behind the request already.
    AlreadyApproved = 96, "the guardian has approved this request already";
    /// The vault has no such request to recover.
    NoSuchRecovery = 97, "no such request to recover the vault";
    /// The next key is pledged already: only a rotation changes it.
    AlreadyPledged = 98, "the vault's next key is pledged already";
    /// The vault's next key was never pledged.
    NotPledged = 99, "the vault's next key was never pledged";
    /// The vault's next generation of keys is `expected`.
    WrongKeyGeneration(expected: u32) = 100, "the vault's next generation of keys is {expected}";
    /// The author's key is not the one that was pledged.
    NotThePledgedKey = 101, "not the key that was pledged as the vault's next";
    /// No vault of the list is to be handed on by the author as the list says.
    NothingToHandOff = 102, "none of these vaults is to be handed on so by this static node";
    /// Too few of the next members have the package: `have` of the `need` that are needed.
    NotKept(have: u16, need: u16) = 103, "{have} of the next static nodes have the package, {need} are needed";
    /// The package is named already.
    HandoffNamed = 104, "the package is named already";
    /// No package of a handoff under way has this hash.
    NoSuchHandoff = 105, "no handoff under way has such a package";
    /// The author has said so of the package already.
    AlreadyRejected = 106, "the static node has rejected the package already";
    /// No vault of the list is handed on so that the author takes this share.
    NothingToTake = 107, "none of these shares is of a handoff under way";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_survive_their_encoding_and_say_what_to_do() {
        for rejection in [
            Rejection::WrongNonce { expected: 7 },
            Rejection::OverQuota { limit: 9, retry: Height(4) },
            Rejection::HeadMoved { head: Some(TransactionId([3; 32])) },
            Rejection::NoSuchHolder { node: NodeNumber(5) },
            Rejection::NothingToCorrect,
            Rejection::NotCertified { fault: CertificateFault::Holder },
            Rejection::NotCertified { fault: CertificateFault::Authority },
            Rejection::NotCertified { fault: CertificateFault::Expired },
            Rejection::NotCertified { fault: CertificateFault::Card },
            Rejection::OpeningKnown,
        ] {
            assert_eq!(Rejection::decode(&rejection.encode()), Ok(rejection));
            assert!(!rejection.to_string().is_empty());
        }
        assert_eq!(Rejection::decode(&[0]), Err(Violation::Malformed));
        assert_eq!(Rejection::decode(&[200]), Err(Violation::Malformed));
        assert_eq!(Rejection::WrongNonce { expected: 7 }.to_string(), "the author's next nonce is 7");
    }
}
