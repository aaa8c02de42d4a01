//! A change of members or rules as operators pass it around until enough of them have approved it.
//!
//! Its first lines are for people, the rest is the [`Governance`] in base 64. Reading one writes it again and compares,
//! so what people read is what they approve.

use std::fmt::Write as _;

use crate::message::canonical::Canonical as _;
use crate::message::governance::Governance;
use crate::message::{Violation, base64_lines};
use crate::types::NetworkId;

const FILE_HEADER: &str = "xvault change v1";
/// Bytes of a file: one with an approval of each member has a third of it.
const MAX_FILE_LEN: usize = 64 << 10;

/// A change and the network it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeFile {
    /// The network.
    pub network: NetworkId,
    /// The change, with the signatures that it has so far.
    pub governance: Governance,
}

impl ChangeFile {
    /// The file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Governance { sequence, change, possession, approvals } = &self.governance;
        let mut text = format!("{FILE_HEADER}\nnetwork {}\nnumber {sequence}\n{change}\n", self.network);
        // Writing to a string does not fail.
        if let (Some(new), Some(_)) = (change.newcomer(), possession) {
            let _ = writeln!(text, "key proved {}", new.key);
        }
        for approval in approvals {
            let _ = writeln!(text, "approved by {}", approval.member);
        }
        text.push('\n');
        base64_lines::write(&self.governance.encode(), &mut text);
        text
    }

    /// Reads a file: exactly what [`to_text`](Self::to_text) wrote. Nothing is verified.
    ///
    /// # Errors
    /// [`Violation::TooLong`], [`Violation::Malformed`] or [`Violation::OutOfBounds`].
    pub fn from_text(text: &str) -> Result<Self, Violation> {
        if text.len() > MAX_FILE_LEN {
            return Err(Violation::TooLong);
        }
        let (head, body) = text.split_once("\n\n").ok_or(Violation::Malformed)?;
        let network = head.lines().nth(1).and_then(|line| line.strip_prefix("network "));
        let network = network.and_then(|id| id.parse().ok()).ok_or(Violation::Malformed)?;
        let governance = Governance::decode(&base64_lines::read(body)?)?;
        let file = Self { network, governance };
        if file.to_text() == text { Ok(file) } else { Err(Violation::Malformed) }
    }

    /// Takes over the signatures of a copy that others signed; false if it is another change.
    pub fn merge(&mut self, copy: &Self) -> bool {
        let (own, other) = (&mut self.governance, &copy.governance);
        let is_same =
            self.network == copy.network && (own.sequence, &own.change) == (other.sequence, &other.change);
        if is_same {
            own.possession = own.possession.or(other.possession);
            for approval in &other.approvals {
                if let Err(at) = own.approvals.binary_search_by_key(&approval.member, |known| known.member) {
                    own.approvals.insert(at, *approval);
                }
            }
        }
        is_same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::ml_dsa::PqKeyPair;
    use crate::crypto::sign::KeyPair;
    use crate::message::{Change, Member};

    const NETWORK: NetworkId = NetworkId([3; 32]);

    fn pair(nth: u8) -> KeyPair {
        KeyPair::from_secret(&[nth; 32])
    }

    fn file() -> ChangeFile {
        let new = Member {
            key: pair(5).public(),
            pq_key: Box::new(*PqKeyPair::from_node_secret(&[5; 32]).public()),
            label: "s5".into(),
            operator: "clinic-east".into(),
            address: ([192, 0, 2, 9], 4_440).into(),
        };
        ChangeFile { network: NETWORK, governance: Governance::new(7, Change::AddStatic(new)) }
    }

    #[test]
    fn what_people_read_is_what_they_approve() {
        let mut file = file();
        file.governance.possess(&NETWORK, &pair(5));
        file.governance.approve(&NETWORK, &pair(1));
        let text = file.to_text();
        assert!(text.contains("\nadd static node s5 of clinic-east at 192.0.2.9:4440 with key "), "{text}");
        assert_eq!(ChangeFile::from_text(&text), Ok(file));
        for (from, to) in
            [("s5", "s6"), ("number 7", "number 8"), ("approved by", "refused by"), ("v1", "v2")]
        {
            let forged = text.replacen(from, to, 1);
            assert_eq!(ChangeFile::from_text(&forged), Err(Violation::Malformed), "{from}");
        }
        assert_eq!(ChangeFile::from_text(&"x".repeat(MAX_FILE_LEN + 1)), Err(Violation::TooLong));
    }

    #[test]
    fn copies_that_were_signed_apart_come_together() {
        let (mut one, mut two) = (file(), file());
        one.governance.approve(&NETWORK, &pair(1));
        two.governance.approve(&NETWORK, &pair(1));
        two.governance.approve(&NETWORK, &pair(2));
        two.governance.possess(&NETWORK, &pair(5));
        assert!(one.merge(&two));
        assert_eq!(one.governance.verify(&NETWORK), Ok(()));
        assert_eq!(one.governance.approvals.len(), 2);
        two.governance.sequence = 8;
        assert!(!one.merge(&two));
    }
}
