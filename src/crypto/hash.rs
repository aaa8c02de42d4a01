//! Domain-separated BLAKE3: every derived key and every hash says what it is for.

/// What a derived key is for. The BLAKE3 context is "xvault v1 2026-11 " and the text of the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Seed to the owner's root.
    OwnerRoot,
    /// Root to a vault's root.
    VaultRoot,
    /// Vault root to its Ed25519 signing key.
    VaultSigning,
    /// Vault root to the key of the owner's local index.
    LocalIndex,
    /// Data key to a frame key.
    Payload,
    /// Data key to its commitment.
    DekCommit,
    /// Passphrase key to an encryption key and its commitment.
    Passphrase,
    /// Key of one sealed file to its sector key.
    SealedFile,
    /// Segment and node to a rank in placement.
    Placement,
    /// Node identity to the key of its volumes' headers.
    VolumeHeaders,
    /// Vault and key to where a node without a ledger keeps what the key stores in the vault.
    KeyNamespace,
    /// Source of an upload to the id under which it resumes.
    UploadId,
    /// Node secret to the key by which its connections outlive it: see `net::endpoint`.
    ConnectionReset,
    /// A row of the ledger's state to its lanes in an LtHash.
    StateRow,
    /// The sum over all rows to the state hash of a header.
    StateSum,
    /// Secret of a static node to the seed of its ML-DSA key.
    PqSigning,
    /// Signed bytes of a transaction to its id.
    Transaction,
    /// Bytes of a block's header to the block's id.
    Header,
    /// Bytes of a genesis to the id that the first block calls its previous.
    Genesis,
    /// Bytes of a roster to the hash of it in a header.
    Roster,
    /// Bytes of a commit certificate to the hash of it in the next header.
    BlockCertificate,
    /// What a version is, with a salt, to its commitment in an anchor.
    VersionCommitment,
    /// Bytes of a proposed block to the hash that its proposer signs.
    BlockBytes,
    /// Members of a committee to their hash.
    Committee,
    /// Owner's root and number of a vault to its id on the ledger.
    VaultId,
    /// Vault root to the key of its commits.
    CommitKey,
    /// Commit key and segment to the key of a run of frames in it.
    Commit,
    /// Vault root to the key of its collections' tags.
    TagKey,
    /// Tag key and name of a collection to its tag on the ledger.
    CollectionTag,
    /// Data key and version to the salt of the version's commitment.
    AnchorSalt,
    /// Vault root, vault and number of a dealing to the vault's PRF key.
    VaultDprf,
    /// Vault root to the key that writers without a scope key seal to.
    VaultInbox,
    /// Vault root to the key that entries of the access log are sealed to.
    VaultAudit,
    /// Vault root, path and generation to the key of a scope.
    ScopeKey,
    /// Node of a scope's tree of days to one below it.
    TimeTree,
    /// Scope key to what tells the days of its keyslots.
    ScopeList,
    /// List key and nonce to what hides a keyslot's day.
    SlotHint,
    /// Day's key, PRF output and slot id to the key of a keyslot.
    RecordKek,
    /// Key, nonce, id and hint of a keyslot, and what is sealed in it, to its commitment.
    Keyslot,
    /// A keyslot to the hash of it in a record's entry.
    SlotHash,
    /// Share, what is proved and randomness to the nonce of a proof.
    DleqNonce,
    /// Secret and randomness to the coefficients that share it.
    SharingPolynomial,
    /// Randomness to the weights of a batch of shares.
    BatchWeights,
    /// Bytes of a package for the static nodes to the hash that the ledger has of it.
    Package,
    /// Commitments of a dealing to the hash that the ledger has of them.
    Commitments,
    /// Bytes of a request to open to the hash that answers are bound to.
    OpenRequest,
    /// Key that shares are sealed to, to the hash under which they name it.
    SealKeyHash,
    /// Head of a vault's access log and an entry to the next head.
    LogChain,
    /// Lines of a list to their digest.
    ListLines,
    /// Grant, scope and minute to what denials of its lists are logged as.
    DeniedList,
    /// Day's key, PRF output, whose line it is, nonce and hint to the key of a line of a list.
    ListLine,
    /// Key of what a static node keeps at rest to what tells it from others.
    RestKeyId,
    /// Header of a grant to what its body is sealed for.
    GrantHeader,
    /// What a keyslot gives to the commitment to where the header is.
    HeaderCommit,
    /// Tag key, collection and name to a record's tag.
    RecordTag,
    /// Vault root and number of a key package to its signing key.
    GranteeSigning,
    /// Vault root and number of a key package to its key to seal to.
    GranteeSeal,
    /// Vault root and emergency grant to the secret of its card.
    CardSecret,
    /// Secret of an emergency card to the grant's signing key.
    CardSigning,
    /// Secret of an emergency card to the key that the grant's body is sealed to.
    CardSeal,
    /// What is on an emergency card to its checksum, and whom one is sealed to, to what it is sealed for.
    EmergencyCard,
    /// Salt and the reason of an emergency to the hash that the ledger has of it.
    EmergencyReason,
    /// Bytes of an erasure to the hash by which it is known.
    Erasure,
    /// What an erasure certificate states to the hash that the ledger has of it.
    ErasureCertificate,
    /// Key in a file beside the journal and what the journal has of an upload to the upload's data key.
    JournaledDek,
    /// Secret and randomness to the coefficients that cut it up for guardians.
    GuardianPolynomial,
    /// A guardian's part of a secret to the hash that the ledger has of it.
    GuardianPart,
    /// Secret of an owner to its commitment in a set of guardians.
    GuardianCommitment,
    /// Header of a guardian's share to what it is sealed for.
    GuardianShare,
    /// Bytes of a request to recover to the id that the ledger has of it.
    RecoveryRequest,
    /// Request and guardian to what a released part is sealed for.
    RecoveryRelease,
    /// Secret of who recovers to its signing key.
    RecoverySigning,
    /// Secret of who recovers to its key to seal to.
    RecoverySeal,
    /// A vault's key of the next generation to the hash that the ledger has of it.
    NextKey,
    /// Seed of a static node's seal key, dealer, roster and nonce to its key for one package of a handoff.
    HandoffKey,
    /// Attempt, roster and place to the order in which dealers of a handoff come.
    HandoffTurn,
    /// Key, nonce, id and hint of a keyslot to the pad under which its content is.
    KeyslotPad,
    /// Key of what a static node keeps at rest, place and hash of what is kept there to the pad under which it is.
    RestPad,
}

impl Context {
    /// Every context, so that a test can tell them apart.
    pub const ALL: [Self; 78] = [
        Self::OwnerRoot,
        Self::VaultRoot,
        Self::VaultSigning,
        Self::LocalIndex,
        Self::Payload,
        Self::DekCommit,
        Self::Passphrase,
        Self::SealedFile,
        Self::Placement,
        Self::UploadId,
        Self::ConnectionReset,
        Self::VolumeHeaders,
        Self::KeyNamespace,
        Self::StateRow,
        Self::StateSum,
        Self::PqSigning,
        Self::Transaction,
        Self::Header,
        Self::Genesis,
        Self::Roster,
        Self::BlockCertificate,
        Self::VersionCommitment,
        Self::BlockBytes,
        Self::Committee,
        Self::VaultId,
        Self::CommitKey,
        Self::Commit,
        Self::TagKey,
        Self::CollectionTag,
        Self::AnchorSalt,
        Self::VaultDprf,
        Self::VaultInbox,
        Self::VaultAudit,
        Self::ScopeKey,
        Self::TimeTree,
        Self::ScopeList,
        Self::SlotHint,
        Self::RecordKek,
        Self::Keyslot,
        Self::SlotHash,
        Self::DleqNonce,
        Self::SharingPolynomial,
        Self::BatchWeights,
        Self::Package,
        Self::Commitments,
        Self::OpenRequest,
        Self::SealKeyHash,
        Self::LogChain,
        Self::ListLines,
        Self::DeniedList,
        Self::ListLine,
        Self::RestKeyId,
        Self::GrantHeader,
        Self::HeaderCommit,
        Self::RecordTag,
        Self::GranteeSigning,
        Self::GranteeSeal,
        Self::CardSecret,
        Self::CardSigning,
        Self::CardSeal,
        Self::EmergencyCard,
        Self::EmergencyReason,
        Self::Erasure,
        Self::ErasureCertificate,
        Self::JournaledDek,
        Self::GuardianPolynomial,
        Self::GuardianPart,
        Self::GuardianCommitment,
        Self::GuardianShare,
        Self::RecoveryRequest,
        Self::RecoveryRelease,
        Self::RecoverySigning,
        Self::RecoverySeal,
        Self::NextKey,
        Self::HandoffKey,
        Self::HandoffTurn,
        Self::KeyslotPad,
        Self::RestPad,
    ];

    /// The context string that BLAKE3 sees.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OwnerRoot => "xvault v1 2026-11 owner root",
            Self::VaultRoot => "xvault v1 2026-11 vault root",
            Self::VaultSigning => "xvault v1 2026-11 vault signing",
            Self::LocalIndex => "xvault v1 2026-11 local index",
            Self::Payload => "xvault v1 2026-11 payload",
            Self::DekCommit => "xvault v1 2026-11 dek commit",
            Self::Passphrase => "xvault v1 2026-11 passphrase",
            Self::SealedFile => "xvault v1 2026-11 sealed file",
            Self::Placement => "xvault v1 2026-11 placement",
            Self::VolumeHeaders => "xvault v1 2026-11 volume headers",
            Self::KeyNamespace => "xvault v1 2026-11 key namespace",
            Self::UploadId => "xvault v1 2026-11 upload id",
            Self::ConnectionReset => "xvault v1 2026-11 connection reset",
            Self::StateRow => "xvault v1 2026-11 state row",
            Self::StateSum => "xvault v1 2026-11 state sum",
            Self::PqSigning => "xvault v1 2026-11 pq signing",
            Self::Transaction => "xvault v1 2026-11 transaction",
            Self::Header => "xvault v1 2026-11 header",
            Self::Genesis => "xvault v1 2026-11 genesis",
            Self::Roster => "xvault v1 2026-11 roster",
            Self::BlockCertificate => "xvault v1 2026-11 block certificate",
            Self::VersionCommitment => "xvault v1 2026-11 version commitment",
            Self::BlockBytes => "xvault v1 2026-11 block bytes",
            Self::Committee => "xvault v1 2026-11 committee",
            Self::VaultId => "xvault v1 2026-11 vault id",
            Self::CommitKey => "xvault v1 2026-11 commit key",
            Self::Commit => "xvault v1 2026-11 commit",
            Self::TagKey => "xvault v1 2026-11 tag key",
            Self::CollectionTag => "xvault v1 2026-11 collection tag",
            Self::AnchorSalt => "xvault v1 2026-11 anchor salt",
            Self::VaultDprf => "xvault v1 2026-11 vault dprf",
            Self::VaultInbox => "xvault v1 2026-11 vault inbox",
            Self::VaultAudit => "xvault v1 2026-11 vault audit",
            Self::ScopeKey => "xvault v1 2026-11 scope a",
            Self::TimeTree => "xvault v1 2026-11 time tree",
            Self::ScopeList => "xvault v1 2026-11 scope list",
            Self::SlotHint => "xvault v1 2026-11 slot hint",
            Self::RecordKek => "xvault v1 2026-11 record kek",
            Self::Keyslot => "xvault v1 2026-11 keyslot",
            Self::SlotHash => "xvault v1 2026-11 slot hash",
            Self::DleqNonce => "xvault v1 2026-11 dleq nonce",
            Self::SharingPolynomial => "xvault v1 2026-11 sharing polynomial",
            Self::BatchWeights => "xvault v1 2026-11 batch weights",
            Self::Package => "xvault v1 2026-11 access package",
            Self::Commitments => "xvault v1 2026-11 dealing commitments",
            Self::OpenRequest => "xvault v1 2026-11 open request",
            Self::SealKeyHash => "xvault v1 2026-11 seal key hash",
            Self::LogChain => "xvault v1 2026-11 access log chain",
            Self::ListLines => "xvault v1 2026-11 list lines",
            Self::DeniedList => "xvault v1 2026-11 denied list",
            Self::ListLine => "xvault v1 2026-11 list line",
            Self::RestKeyId => "xvault v1 2026-11 rest key id",
            Self::GrantHeader => "xvault v1 2026-11 grant header",
            Self::HeaderCommit => "xvault v1 2026-11 header commit",
            Self::RecordTag => "xvault v1 2026-11 record tag",
            Self::GranteeSigning => "xvault v1 2026-11 grantee signing",
            Self::GranteeSeal => "xvault v1 2026-11 grantee seal",
            Self::CardSecret => "xvault v1 2026-11 emergency card secret",
            Self::CardSigning => "xvault v1 2026-11 emergency card signing",
            Self::CardSeal => "xvault v1 2026-11 emergency card seal",
            Self::EmergencyCard => "xvault v1 2026-11 emergency card",
            Self::EmergencyReason => "xvault v1 2026-11 emergency reason",
            Self::Erasure => "xvault v1 2026-11 erasure",
            Self::ErasureCertificate => "xvault v1 2026-11 erasure certificate",
            Self::JournaledDek => "xvault v1 2026-11 journaled dek",
            Self::GuardianPolynomial => "xvault v1 2026-11 guardian polynomial",
            Self::GuardianPart => "xvault v1 2026-11 guardian part",
            Self::GuardianCommitment => "xvault v1 2026-11 guardian commitment",
            Self::GuardianShare => "xvault v1 2026-11 guardian share",
            Self::RecoveryRequest => "xvault v1 2026-11 recovery request",
            Self::RecoveryRelease => "xvault v1 2026-11 recovery release",
            Self::RecoverySigning => "xvault v1 2026-11 recovery signing",
            Self::RecoverySeal => "xvault v1 2026-11 recovery seal",
            Self::NextKey => "xvault v1 2026-11 next key",
            Self::HandoffKey => "xvault v1 2026-11 handoff key",
            Self::HandoffTurn => "xvault v1 2026-11 handoff turn",
            Self::KeyslotPad => "xvault v1 2026-11 keyslot pad",
            Self::RestPad => "xvault v1 2026-11 rest pad",
        }
    }
}

/// Fills `out` with BLAKE3 `derive_key` over the parts, each preceded by its length (u32 little
/// endian), so that no two lists of parts give the same input.
pub fn derive_key(context: Context, parts: &[&[u8]], out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_derive_key(context.text());
    for part in parts {
        hasher.update(&length_prefix(part)).update(part);
    }
    hasher.finalize_xof().fill(out);
}

/// The length of `part` as it is hashed and signed before it.
///
/// # Panics
/// If `part` has 4 GiB or more: no caller has such a part.
pub(super) fn length_prefix(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or_else(|_| panic!("a part of {} bytes", part.len())).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_distinct() {
        for (at, one) in Context::ALL.iter().enumerate() {
            for other in &Context::ALL[at + 1..] {
                assert_ne!(one.text(), other.text());
            }
        }
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_key() {
        let key = |parts: &[&[u8]]| {
            let mut out = [0; 32];
            derive_key(Context::Payload, parts, &mut out);
            out
        };
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b"ab"]), key(&[b"ab", b""]));
    }
}
