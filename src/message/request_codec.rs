//! Requests and responses as the headers that travel: see [`request`](crate::message::request).

use prost::Message as _;

use crate::message::access::ReleaseReceipt;
use crate::message::canonical::Canonical as _;
use crate::message::generated as wire_format;
use crate::message::generated::{RefusalCode as Code, request, response};
use crate::message::request::{
    HeldShard, LedgerTip, NodeStatus, PROTOCOL, PutShard, ReadShard, Refusal, RefusalCode, Request,
    RequestError, Response, ShardRef, ShardSlice, SignedReceipt,
};
use crate::message::{CustodyReceipt, Violation, wire};
use crate::types::limits::{
    MAX_ACCESS_MESSAGE_LEN, MAX_ANSWER_LEN, MAX_BATCH_ITEMS, MAX_CONSENSUS_MESSAGE_LEN, MAX_READ_LEN,
    MAX_SHARD_LEN, MAX_TRANSACTION_LEN, SLICE_LEN,
};
use crate::types::{Hash, Height, NetworkId, SegmentId, Timestamp};

/// Chaining values of one proof: two a level, and no shard's tree is this deep.
const MAX_PROOF_LEN: usize = 64;

/// Protocol versions that a refusal may name.
const MAX_PROTOCOLS: usize = 64;

/// Problems that a status may tell.
const MAX_PROBLEMS: usize = 64;

impl Request {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self {
            Self::PutShard(put) => request::Kind::PutShard(put.encode()),
            Self::ReadShard(read) => request::Kind::ReadShard(read.encode()),
            Self::HaveShards { vault, shards } => request::Kind::HaveShards(wire_format::HaveShards {
                shards: shards.iter().map(ShardRef::encode).collect(),
                vault: vault.0.to_vec(),
            }),
            Self::ReleaseSegments { vault, segments } => {
                request::Kind::ReleaseSegments(wire_format::ReleaseSegments {
                    segments: segments.iter().map(|segment| segment.0.to_vec()).collect(),
                    vault: vault.0.to_vec(),
                })
            }
            Self::CertifyRelease { vault, segments } => {
                request::Kind::CertifyRelease(wire_format::CertifyRelease {
                    segments: segments.iter().map(|segment| segment.0.to_vec()).collect(),
                    vault: vault.0.to_vec(),
                })
            }
            Self::ListShards { vault, after } => request::Kind::ListShards(wire_format::ListShards {
                after: after.as_ref().map(ShardRef::encode),
                vault: vault.0.to_vec(),
            }),
            Self::GetStatus => request::Kind::GetStatus(wire_format::GetStatus {}),
            Self::Consensus { len } => request::Kind::Consensus(wire_format::Consensus { len: *len }),
            Self::Access { len } => request::Kind::Access(wire_format::Access { len: *len }),
            Self::Cosign { height, cosignature } => request::Kind::Cosign(wire_format::Cosign {
                height: height.0,
                cosignature: cosignature.clone(),
            }),
            Self::SubmitTransaction(transaction) => {
                request::Kind::SubmitTransaction(wire_format::SubmitTransaction {
                    transaction: transaction.clone(),
                })
            }
            Self::AskLedger(question) => {
                request::Kind::AskLedger(wire_format::AskLedger { question: question.clone() })
            }
        };
        wire_format::Request { protocol: PROTOCOL, kind: Some(kind) }.encode_to_vec()
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// [`RequestError::UnsupportedProtocol`] before anything else that another version could change;
    /// [`Violation::TooLong`], [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let any: wire_format::AnyRequest = wire::decode_header(bytes)?;
        if any.protocol != PROTOCOL {
            return Err(RequestError::UnsupportedProtocol(any.protocol));
        }
        let found: wire_format::Request = wire::decode_header(bytes)?;
        Ok(Self::decode_kind(found.kind.ok_or(Violation::Malformed)?)?)
    }

    fn decode_kind(kind: request::Kind) -> Result<Self, Violation> {
        Ok(match kind {
            request::Kind::PutShard(put) => Self::PutShard(PutShard::decode(&put)?),
            request::Kind::ReadShard(read) => Self::ReadShard(ReadShard::decode(&read)?),
            request::Kind::HaveShards(have) => {
                wire::within(have.shards.len() <= MAX_BATCH_ITEMS)?;
                let shards = have.shards.iter().map(ShardRef::decode).collect::<Result<_, _>>()?;
                Self::HaveShards { vault: wire::vault(&have.vault)?, shards }
            }
            request::Kind::ReleaseSegments(release) => {
                let segments = decode_segments(&release.segments)?;
                Self::ReleaseSegments { vault: wire::vault(&release.vault)?, segments }
            }
            request::Kind::CertifyRelease(release) => {
                let segments = decode_segments(&release.segments)?;
                Self::CertifyRelease { vault: wire::vault(&release.vault)?, segments }
            }
            request::Kind::ListShards(wire_format::ListShards { after, vault }) => {
                let after = after.as_ref().map(ShardRef::decode).transpose()?;
                Self::ListShards { vault: wire::vault(&vault)?, after }
            }
            request::Kind::GetStatus(wire_format::GetStatus {}) => Self::GetStatus,
            request::Kind::Consensus(wire_format::Consensus { len }) => {
                wire::within(len as usize <= MAX_CONSENSUS_MESSAGE_LEN)?;
                Self::Consensus { len }
            }
            request::Kind::Access(wire_format::Access { len }) => {
                wire::within(len as usize <= MAX_ACCESS_MESSAGE_LEN)?;
                Self::Access { len }
            }
            request::Kind::Cosign(wire_format::Cosign { height, cosignature }) => {
                Self::Cosign { height: Height(height), cosignature }
            }
            request::Kind::SubmitTransaction(wire_format::SubmitTransaction { transaction }) => {
                wire::within(transaction.len() <= MAX_TRANSACTION_LEN)?;
                Self::SubmitTransaction(transaction)
            }
            request::Kind::AskLedger(wire_format::AskLedger { question }) => Self::AskLedger(question),
        })
    }
}

fn decode_segments(found: &[Vec<u8>]) -> Result<Vec<SegmentId>, Violation> {
    wire::within(found.len() <= MAX_BATCH_ITEMS)?;
    found.iter().map(|segment| wire::segment(segment)).collect()
}

impl ShardRef {
    fn encode(&self) -> wire_format::ShardRef {
        wire_format::ShardRef { segment: self.segment.0.to_vec(), index: self.index.into() }
    }

    fn decode(found: &wire_format::ShardRef) -> Result<Self, Violation> {
        Self::from_fields(&found.segment, found.index)
    }

    fn from_fields(segment: &[u8], index: u32) -> Result<Self, Violation> {
        Ok(Self { segment: wire::segment(segment)?, index: wire::shard_index(index)? })
    }
}

impl HeldShard {
    fn encode(&self) -> wire_format::HeldShard {
        wire_format::HeldShard {
            segment: self.shard.segment.0.to_vec(),
            index: self.shard.index.into(),
            root: self.root.0.to_vec(),
            len: self.len,
        }
    }

    fn decode(found: &wire_format::HeldShard) -> Result<Self, Violation> {
        wire::within((1..=MAX_SHARD_LEN).contains(&found.len))?;
        let shard = ShardRef::from_fields(&found.segment, found.index)?;
        Ok(Self { shard, root: wire::hash(&found.root)?, len: found.len })
    }
}

impl PutShard {
    fn encode(&self) -> wire_format::PutShard {
        wire_format::PutShard {
            segment: self.shard.segment.0.to_vec(),
            index: self.shard.index.into(),
            root: self.root.0.to_vec(),
            len: self.len,
            nonce: self.nonce.to_vec(),
            vault: self.vault.0.to_vec(),
        }
    }

    fn decode(found: &wire_format::PutShard) -> Result<Self, Violation> {
        wire::within((1..=MAX_SHARD_LEN).contains(&found.len))?;
        Ok(Self {
            vault: wire::vault(&found.vault)?,
            shard: ShardRef::from_fields(&found.segment, found.index)?,
            root: wire::hash(&found.root)?,
            len: found.len,
            nonce: wire::array(&found.nonce)?,
        })
    }
}

impl ReadShard {
    fn encode(&self) -> wire_format::ReadShard {
        wire_format::ReadShard {
            segment: self.shard.segment.0.to_vec(),
            index: self.shard.index.into(),
            start: self.start,
            len: self.len,
            vault: self.vault.0.to_vec(),
        }
    }

    fn decode(found: &wire_format::ReadShard) -> Result<Self, Violation> {
        wire::within(found.start < MAX_SHARD_LEN && found.start.is_multiple_of(SLICE_LEN as u64))?;
        wire::within((1..=MAX_READ_LEN).contains(&found.len))?;
        let shard = ShardRef::from_fields(&found.segment, found.index)?;
        Ok(Self { vault: wire::vault(&found.vault)?, shard, start: found.start, len: found.len })
    }
}

impl Response {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self {
            Self::Refusal(refusal) => response::Kind::Refusal(refusal.encode()),
            Self::Receipt(receipt) => response::Kind::Receipt(receipt.encode_message()),
            Self::Slice(slice) => response::Kind::Slice(slice.encode()),
            Self::Holdings(roots) => response::Kind::Holdings(wire_format::Holdings {
                roots: roots.iter().map(|root| root.map_or_else(Vec::new, |root| root.0.to_vec())).collect(),
            }),
            Self::Shards(shards) => response::Kind::Shards(wire_format::Shards {
                shards: shards.iter().map(HeldShard::encode).collect(),
            }),
            Self::Released { shards, bytes } => {
                response::Kind::Released(wire_format::Released { shards: *shards, bytes: *bytes })
            }
            Self::ReleaseReceipt(receipt) => {
                response::Kind::ReleaseReceipt(wire_format::ReleaseReceipt { receipt: receipt.encode() })
            }
            Self::Status(status) => response::Kind::Status(status.encode()),
            Self::Done => response::Kind::Done(wire_format::Done {}),
            Self::Answer { len } => response::Kind::Answer(wire_format::Answer { len: *len }),
        };
        wire_format::Response { kind: Some(kind) }.encode_to_vec()
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// [`Violation::TooLong`], [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let found: wire_format::Response = wire::decode_header(bytes)?;
        Ok(match found.kind.ok_or(Violation::Malformed)? {
            response::Kind::Refusal(refusal) => Self::Refusal(Refusal::decode(refusal)?),
            response::Kind::Receipt(receipt) => Self::Receipt(SignedReceipt::decode_message(receipt)?),
            response::Kind::Slice(slice) => Self::Slice(ShardSlice::decode(&slice)?),
            response::Kind::Holdings(holdings) => Self::Holdings(decode_holdings(&holdings)?),
            response::Kind::Shards(wire_format::Shards { shards }) => {
                wire::within(shards.len() <= MAX_BATCH_ITEMS)?;
                Self::Shards(shards.iter().map(HeldShard::decode).collect::<Result<_, _>>()?)
            }
            response::Kind::Released(wire_format::Released { shards, bytes }) => {
                Self::Released { shards, bytes }
            }
            response::Kind::ReleaseReceipt(wire_format::ReleaseReceipt { receipt }) => {
                Self::ReleaseReceipt(ReleaseReceipt::decode(&receipt)?)
            }
            response::Kind::Status(status) => Self::Status(NodeStatus::decode(status)?),
            response::Kind::Done(wire_format::Done {}) => Self::Done,
            response::Kind::Answer(wire_format::Answer { len }) => {
                wire::within(len as usize <= MAX_ANSWER_LEN)?;
                Self::Answer { len }
            }
        })
    }
}

fn decode_holdings(found: &wire_format::Holdings) -> Result<Vec<Option<Hash>>, Violation> {
    wire::within(found.roots.len() <= MAX_BATCH_ITEMS)?;
    found.roots.iter().map(|root| wire::optional_hash(root)).collect()
}

impl SignedReceipt {
    /// The protobuf bytes, for a receipt that is kept.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_message().encode_to_vec()
    }

    /// Reads a receipt that was kept. Verifying it is [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`Violation::Malformed`] if it is not the schema's or a length is not a receipt's.
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        Self::decode_message(wire::decode_header(bytes)?)
    }

    fn encode_message(&self) -> wire_format::SignedReceipt {
        wire_format::SignedReceipt { statement: self.statement.clone(), signature: self.signature.to_vec() }
    }

    fn decode_message(found: wire_format::SignedReceipt) -> Result<Self, Violation> {
        if found.statement.len() != CustodyReceipt::STATEMENT_LEN {
            return Err(Violation::Malformed);
        }
        Ok(Self { statement: found.statement, signature: wire::array(&found.signature)? })
    }
}

impl ShardSlice {
    fn encode(&self) -> wire_format::ShardSlice {
        let proof = self.proof.iter().map(|value| value.0.to_vec()).collect();
        wire_format::ShardSlice { shard_len: self.shard_len, proof }
    }

    fn decode(found: &wire_format::ShardSlice) -> Result<Self, Violation> {
        wire::within((1..=MAX_SHARD_LEN).contains(&found.shard_len) && found.proof.len() <= MAX_PROOF_LEN)?;
        let proof = found.proof.iter().map(|value| wire::hash(value)).collect::<Result<_, _>>()?;
        Ok(Self { shard_len: found.shard_len, proof })
    }
}

impl Refusal {
    fn encode(&self) -> wire_format::Refusal {
        let mut violation = None;
        let code = match self.code {
            RefusalCode::Violation(named) => {
                violation = Some(named);
                Code::Violation
            }
            RefusalCode::UnsupportedProtocol => Code::UnsupportedProtocol,
            RefusalCode::NotFound => Code::NotFound,
            RefusalCode::Busy => Code::Busy,
            RefusalCode::Full => Code::Full,
            RefusalCode::Corrupt => Code::Corrupt,
            RefusalCode::Disk => Code::Disk,
            RefusalCode::Conflict => Code::Conflict,
            RefusalCode::NotAdmitted => Code::NotAdmitted,
            RefusalCode::Anchored => Code::Anchored,
        };
        wire_format::Refusal {
            code: code.into(),
            message: wire::plain_text(&self.message),
            retry_after_ms: self.retry_after_ms,
            protocols: self.protocols.clone(),
            violation: violation.map_or(0, Violation::encode),
        }
    }

    fn decode(found: wire_format::Refusal) -> Result<Self, Violation> {
        wire::within(found.protocols.len() <= MAX_PROTOCOLS)?;
        let code = Code::try_from(found.code).map_err(|_| Violation::OutOfBounds)?;
        let code = match (code, Violation::decode(found.violation)?) {
            (Code::Violation, Some(violation)) => RefusalCode::Violation(violation),
            (Code::UnsupportedProtocol, None) => RefusalCode::UnsupportedProtocol,
            (Code::NotFound, None) => RefusalCode::NotFound,
            (Code::Busy, None) => RefusalCode::Busy,
            (Code::Full, None) => RefusalCode::Full,
            (Code::Corrupt, None) => RefusalCode::Corrupt,
            (Code::Disk, None) => RefusalCode::Disk,
            (Code::Conflict, None) => RefusalCode::Conflict,
            (Code::NotAdmitted, None) => RefusalCode::NotAdmitted,
            (Code::Anchored, None) => RefusalCode::Anchored,
            (Code::Unspecified | Code::Violation, None) | (_, Some(_)) => return Err(Violation::Malformed),
        };
        Ok(Self {
            code,
            message: wire::text(found.message)?,
            retry_after_ms: found.retry_after_ms,
            protocols: found.protocols,
        })
    }
}

impl NodeStatus {
    fn encode(&self) -> wire_format::NodeStatus {
        wire_format::NodeStatus {
            version: wire::plain_text(&self.version),
            shards: self.shards,
            shard_bytes: self.shard_bytes,
            disk_bytes: self.disk_bytes,
            free_bytes: self.free_bytes,
            uptime_seconds: self.uptime_seconds,
            clock_micros: self.clock.unix_micros(),
            problems: self.problems.iter().take(MAX_PROBLEMS).map(|text| wire::plain_text(text)).collect(),
            network: self.network.0.to_vec(),
            ledger: self.ledger.map(|tip| wire_format::LedgerTip {
                height: tip.height.0,
                time_micros: tip.time.unix_micros(),
            }),
        }
    }

    fn decode(found: wire_format::NodeStatus) -> Result<Self, Violation> {
        wire::within(found.problems.len() <= MAX_PROBLEMS)?;
        Ok(Self {
            network: NetworkId(wire::array(&found.network)?),
            version: wire::text(found.version)?,
            shards: found.shards,
            shard_bytes: found.shard_bytes,
            disk_bytes: found.disk_bytes,
            free_bytes: found.free_bytes,
            uptime_seconds: found.uptime_seconds,
            clock: Timestamp::from_unix_micros(found.clock_micros),
            problems: found.problems.into_iter().map(wire::text).collect::<Result<_, _>>()?,
            ledger: found.ledger.map(|tip| LedgerTip {
                height: Height(tip.height),
                time: Timestamp::from_unix_micros(tip.time_micros),
            }),
        })
    }
}
