//! The bytes of questions and answers.

use super::*;

impl Canonical for Question {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Tip => to.push(1),
            Self::Blocks { from } => {
                to.push(2);
                from.write(to);
            }
            Self::Nonce { author } => {
                to.push(3);
                author.write(to);
            }
            Self::Head { vault, collection } => {
                to.push(4);
                vault.write(to);
                collection.write(to);
            }
            Self::Collections { vault, after } => {
                to.push(5);
                vault.write(to);
                after.write(to);
            }
            Self::Transaction { id } => {
                to.push(6);
                id.write(to);
            }
            Self::Statics => to.push(7),
            Self::Nodes { after } => {
                to.push(8);
                after.write(to);
            }
            Self::Anchors { from, until } => {
                to.push(9);
                from.write(to);
                until.write(to);
            }
            Self::Sequence => to.push(10),
            Self::Cosignatures { height } => {
                to.push(11);
                height.write(to);
            }
            Self::Steps => to.push(12),
            Self::Vault { vault } => {
                to.push(13);
                vault.write(to);
            }
            Self::Snapshot { above } => {
                to.push(20);
                above.write(to);
            }
            Self::SnapshotRows { height, after } => {
                to.push(21);
                height.write(to);
                after.is_some().write(to);
                if let Some(after) = after {
                    write_bytes(after, to);
                }
            }
            Self::LogLeaves { from } => {
                to.push(22);
                from.write(to);
            }
            Self::BlocksBefore { before } => {
                to.push(23);
                before.write(to);
            }
            Self::Archive => to.push(24),
            Self::BlocksAfter { after } => {
                to.push(40);
                after.write(to);
            }
            Self::Height => to.push(41),
            Self::Access { vault } => {
                to.push(60);
                vault.write(to);
            }
            Self::Grants { vault, after } => {
                to.push(61);
                vault.write(to);
                after.write(to);
            }
            Self::GrantOf { grantee } => {
                to.push(62);
                grantee.write(to);
            }
            Self::Generation { vault, scope } => {
                to.push(63);
                vault.write(to);
                scope.write(to);
            }
            Self::Deposits { vault, after } => {
                to.push(72);
                vault.write(to);
                after.write(to);
            }
            Self::Erasure { vault, erasure } => {
                to.push(70);
                vault.write(to);
                erasure.write(to);
            }
            Self::Segments { vault, segments } => {
                to.push(64);
                vault.write(to);
                write_list(segments, to);
            }
            Self::Roster { roster } => {
                to.push(65);
                roster.write(to);
            }
            Self::Emergencies { vault } => {
                to.push(100);
                vault.write(to);
            }
            Self::EmergencyOpenings { request } => {
                to.push(101);
                request.write(to);
            }
            Self::Recovery { vault } => {
                to.push(110);
                vault.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Tip,
            2 => Self::Blocks { from: Canonical::read(from)? },
            3 => Self::Nonce { author: Canonical::read(from)? },
            4 => Self::Head { vault: Canonical::read(from)?, collection: Canonical::read(from)? },
            5 => Self::Collections { vault: Canonical::read(from)?, after: Canonical::read(from)? },
            6 => Self::Transaction { id: Canonical::read(from)? },
            7 => Self::Statics,
            8 => Self::Nodes { after: Canonical::read(from)? },
            9 => Self::Anchors { from: Canonical::read(from)?, until: Canonical::read(from)? },
            10 => Self::Sequence,
            11 => Self::Cosignatures { height: Canonical::read(from)? },
            12 => Self::Steps,
            13 => Self::Vault { vault: Canonical::read(from)? },
            20 => Self::Snapshot { above: Canonical::read(from)? },
            21 => {
                let height = Canonical::read(from)?;
                let after = bool::read(from)?.then(|| read_bytes(from, MAX_ROW_KEY_LEN)).transpose()?;
                Self::SnapshotRows { height, after }
            }
            22 => Self::LogLeaves { from: Canonical::read(from)? },
            23 => Self::BlocksBefore { before: Canonical::read(from)? },
            24 => Self::Archive,
            40 => Self::BlocksAfter { after: Canonical::read(from)? },
            41 => Self::Height,
            60 => Self::Access { vault: Canonical::read(from)? },
            61 => Self::Grants { vault: Canonical::read(from)?, after: Canonical::read(from)? },
            62 => Self::GrantOf { grantee: Canonical::read(from)? },
            63 => Self::Generation { vault: Canonical::read(from)?, scope: Canonical::read(from)? },
            64 => {
                Self::Segments { vault: Canonical::read(from)?, segments: read_list(from, MAX_ANSWER_ROWS)? }
            }
            70 => Self::Erasure { vault: Canonical::read(from)?, erasure: Canonical::read(from)? },
            65 => Self::Roster { roster: Canonical::read(from)? },
            72 => Self::Deposits { vault: Canonical::read(from)?, after: Canonical::read(from)? },
            100 => Self::Emergencies { vault: Canonical::read(from)? },
            101 => Self::EmergencyOpenings { request: Canonical::read(from)? },
            110 => Self::Recovery { vault: Canonical::read(from)? },
            _ => return Err(Violation::Malformed),
        })
    }
}

fn read_note(from: &mut &[u8]) -> Result<String, Violation> {
    String::from_utf8(read_long(from, MAX_RECEIPT_LEN)?).map_err(|_| Violation::Malformed)
}

impl Canonical for FinalBlock {
    fn write(&self, to: &mut Vec<u8>) {
        write_long(&self.block, to);
        write_long(&self.certificate, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self { block: read_long(from, MAX_BLOCK_LEN)?, certificate: read_long(from, MAX_BLOCK_LEN)? })
    }
}

impl Canonical for Proven {
    fn write(&self, to: &mut Vec<u8>) {
        self.transaction.write(to);
        self.height.write(to);
        self.proof.write(to);
        write_long(self.note.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            transaction: Canonical::read(from)?,
            height: Canonical::read(from)?,
            proof: Canonical::read(from)?,
            note: read_note(from)?,
        })
    }
}

impl Canonical for Fate {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Final(proven) => {
                to.push(1);
                proven.write(to);
            }
            Self::Waiting => to.push(2),
            Self::Rejected(rejection) => {
                to.push(3);
                rejection.write(to);
            }
            Self::Busy { blocks } => {
                to.push(4);
                blocks.write(to);
            }
            Self::NonceTaken => to.push(5),
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Final(Box::new(Canonical::read(from)?)),
            2 => Self::Waiting,
            3 => Self::Rejected(Canonical::read(from)?),
            4 => Self::Busy { blocks: Canonical::read(from)? },
            5 => Self::NonceTaken,
            _ => return Err(Violation::Malformed),
        })
    }
}

/// A pair, one after the other.
struct Pair<A, B>(A, B);

impl<A: Canonical, B: Canonical> Canonical for Pair<A, B> {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self(Canonical::read(from)?, Canonical::read(from)?))
    }
}

fn write_pairs<A: Canonical + Clone, B: Canonical + Clone>(pairs: &[(A, B)], to: &mut Vec<u8>) {
    let pairs: Vec<_> = pairs.iter().map(|(one, other)| Pair(one.clone(), other.clone())).collect();
    write_list(&pairs, to);
}

fn read_pairs<A: Canonical, B: Canonical>(from: &mut &[u8]) -> Result<Vec<(A, B)>, Violation> {
    let pairs: Vec<Pair<A, B>> = read_list(from, MAX_ANSWER_ROWS)?;
    Ok(pairs.into_iter().map(|pair| (pair.0, pair.1)).collect())
}

/// A row of the state as it travels.
struct Row(Entry);

impl Canonical for Row {
    fn write(&self, to: &mut Vec<u8>) {
        write_bytes(&self.0.0, to);
        write_long(&self.0.1, to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self((read_bytes(from, MAX_ROW_KEY_LEN)?, read_long(from, MAX_ROW_LEN)?)))
    }
}

fn write_rows(rows: &[Entry], to: &mut Vec<u8>) {
    let rows: Vec<_> = rows.iter().cloned().map(Row).collect();
    write_list(&rows, to);
}

fn read_rows(from: &mut &[u8]) -> Result<Vec<Entry>, Violation> {
    let rows: Vec<Row> = read_list(from, MAX_SNAPSHOT_ROWS)?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

impl Canonical for Holdings {
    fn write(&self, to: &mut Vec<u8>) {
        self.snapshot.write(to);
        self.missing.write(to);
        self.taking.write(to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            snapshot: Canonical::read(from)?,
            missing: Canonical::read(from)?,
            taking: Canonical::read(from)?,
        })
    }
}

impl Canonical for Answer {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Tip { header, note, waiting } => {
                to.push(1);
                header.write(to);
                write_long(note.as_bytes(), to);
                waiting.write(to);
            }
            Self::Blocks(blocks) => {
                to.push(2);
                write_list(blocks, to);
            }
            Self::Nonce(nonce) => {
                to.push(3);
                nonce.write(to);
            }
            Self::Head(head) => {
                to.push(4);
                head.write(to);
            }
            Self::Collections(collections) => {
                to.push(5);
                write_pairs(collections, to);
            }
            Self::Transaction(proven) => {
                to.push(6);
                proven.is_some().write(to);
                if let Some(proven) = proven {
                    proven.write(to);
                }
            }
            Self::Statics(statics) => {
                to.push(7);
                write_list(statics, to);
            }
            Self::Nodes(nodes) => {
                to.push(8);
                write_pairs(nodes, to);
            }
            Self::Fate(fate) => {
                to.push(9);
                fate.write(to);
            }
            Self::Anchors(anchors) => {
                to.push(10);
                write_list(anchors, to);
            }
            Self::Sequence(sequence) => {
                to.push(11);
                sequence.write(to);
            }
            Self::Cosignatures(cosignatures) => {
                to.push(12);
                write_list(cosignatures, to);
            }
            Self::Steps(steps) => {
                to.push(13);
                write_list(steps, to);
            }
            Self::Vault(vault) => {
                to.push(14);
                vault.write(to);
            }
            Self::Snapshot(offer) => {
                to.push(20);
                offer.is_some().write(to);
                if let Some(offer) = offer {
                    offer.write(to);
                }
            }
            Self::SnapshotRows(rows) => {
                to.push(21);
                rows.is_some().write(to);
                if let Some(rows) = rows {
                    write_rows(rows, to);
                }
            }
            Self::LogLeaves(leaves) => {
                to.push(22);
                write_list(leaves, to);
            }
            Self::Archive(holdings) => {
                to.push(23);
                holdings.write(to);
            }
            Self::Height(height) => {
                to.push(40);
                height.write(to);
            }
            Self::Access(access) => {
                to.push(60);
                access.write(to);
            }
            Self::Grants(grants) => {
                to.push(61);
                write_list(grants, to);
            }
            Self::Generation(generation) => {
                to.push(62);
                generation.write(to);
            }
            Self::Erasure(height) => {
                to.push(70);
                height.write(to);
            }
            Self::Deposits(deposits) => {
                to.push(72);
                write_pairs(deposits, to);
            }
            Self::Segments(segments) => {
                to.push(63);
                write_list(segments, to);
            }
            Self::Emergencies(emergencies) => {
                to.push(100);
                write_pairs(emergencies, to);
            }
            Self::EmergencyOpenings(openings) => {
                to.push(101);
                write_pairs(openings, to);
            }
            Self::Roster(roster) => {
                to.push(64);
                roster.is_some().write(to);
                if let Some(roster) = roster {
                    roster.write(to);
                }
            }
            Self::Recovery(found) => {
                to.push(110);
                found.write(to);
            }
        }
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(match u8::read(from)? {
            1 => Self::Tip {
                header: Box::new(Canonical::read(from)?),
                note: read_note(from)?,
                waiting: Canonical::read(from)?,
            },
            2 => Self::Blocks(read_list(from, MAX_ANSWER_BLOCKS)?),
            3 => Self::Nonce(Canonical::read(from)?),
            4 => Self::Head(Canonical::read(from)?),
            5 => Self::Collections(read_pairs(from)?),
            6 => Self::Transaction(Option::<Proven>::read(from)?.map(Box::new)),
            7 => Self::Statics(read_list(from, MAX_ANSWER_ROWS)?),
            8 => Self::Nodes(read_pairs(from)?),
            9 => Self::Fate(Canonical::read(from)?),
            10 => Self::Anchors(read_list(from, MAX_ANSWER_ROWS)?),
            11 => Self::Sequence(Canonical::read(from)?),
            12 => Self::Cosignatures(read_list(from, MAX_COMMITTEE)?),
            13 => Self::Steps(read_list(from, MAX_RECEIPT_STEPS)?),
            14 => Self::Vault(Canonical::read(from)?),
            20 => Self::Snapshot(Option::<Offer>::read(from)?.map(Box::new)),
            21 => Self::SnapshotRows(bool::read(from)?.then(|| read_rows(from)).transpose()?),
            22 => Self::LogLeaves(read_list(from, MAX_ANSWER_LEAVES)?),
            23 => Self::Archive(Box::new(Canonical::read(from)?)),
            40 => Self::Height(Canonical::read(from)?),
            60 => Self::Access(Canonical::read(from)?),
            61 => Self::Grants(read_list(from, MAX_ANSWER_ROWS)?),
            62 => Self::Generation(Canonical::read(from)?),
            63 => Self::Segments(read_list(from, MAX_ANSWER_ROWS)?),
            100 => Self::Emergencies(read_pairs(from)?),
            101 => Self::EmergencyOpenings(read_pairs(from)?),
            70 => Self::Erasure(Canonical::read(from)?),
            72 => Self::Deposits(read_pairs(from)?),
            64 => Self::Roster(Option::<Roster>::read(from)?.map(Box::new)),
            110 => Self::Recovery(Box::new(Canonical::read(from)?)),
            _ => return Err(Violation::Malformed),
        })
    }
}
