//! Calls to the access desks of static nodes.

use tokio::task::JoinSet;

use crate::client::ledger::{LedgerClient, roster_peers, static_peers, wrong_answer};
use crate::client::{Error, ErrorKind};
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::rows::Access;
use crate::message::access::desk::{Ack, DeskAnswer, DeskRequest};
use crate::message::{Canonical as _, Member, Roster};
use crate::net::Peers;
use crate::types::{Hash, VaultId};

/// The desks, as one key calls them.
#[derive(Debug, Clone)]
pub(crate) struct Desks {
    pub(crate) ledger: LedgerClient,
    peers: Peers,
}

impl Desks {
    /// The desks of a ledger's static nodes, called with this key.
    pub(crate) fn new(ledger: LedgerClient, key: &KeyPair) -> Self {
        let peers = Peers::new(&static_peers(ledger.genesis()), key);
        Self { ledger, peers }
    }

    /// From here on these are called.
    pub(crate) fn follow(&self, roster: &Roster) {
        self.peers.follow(&roster_peers(roster));
    }

    /// From here on the members of both are called.
    pub(crate) fn follow_both(&self, one: &Roster, other: &Roster) {
        let mut nodes = roster_peers(one);
        let news = roster_peers(other).into_iter().filter(|node| one.member(&node.key).is_none());
        nodes.extend(news);
        self.peers.follow(&nodes);
    }

    /// Says something to one desk.
    pub(crate) async fn say(&self, member: &Member, request: &DeskRequest) -> Result<DeskAnswer, Error> {
        let unavailable =
            |reason: String| Error::new(ErrorKind::Unavailable, format!("{} {reason}", member.label));
        let bytes = self.peers.access(&member.key, request.encode()).await;
        let bytes = bytes.map_err(|error| unavailable(error.to_string()).caused_by(error))?;
        DeskAnswer::decode(&bytes).map_err(|violation| unavailable(violation.to_string()))
    }

    /// Says something to every desk at once; the answers as they come.
    pub(crate) fn say_to_all(
        &self,
        roster: &Roster,
        request: &DeskRequest,
    ) -> JoinSet<(Member, Result<DeskAnswer, Error>)> {
        let mut asked = JoinSet::new();
        for member in roster.members() {
            let (this, member, request) = (self.clone(), member.clone(), request.clone());
            asked.spawn(async move {
                let answer = this.say(&member, &request).await;
                (member, answer)
            });
        }
        asked
    }

    /// Has something kept by a quorum of the static nodes, which all sign that they have it durably; how many did.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] names those that did not.
    pub(crate) async fn have_kept(
        &self,
        roster: &Roster,
        request: &DeskRequest,
        what: &[u8; 32],
    ) -> Result<usize, Error> {
        let network = self.ledger.genesis().network;
        let mut asked = self.say_to_all(roster, request);
        let (mut kept, mut reasons) = (0, Vec::new());
        while let Some(answered) = asked.join_next().await {
            let Ok((member, answer)) = answered else { continue };
            match answer {
                Ok(DeskAnswer::Done(ack)) if is_good(&ack, &network, what, &member) => kept += 1,
                Ok(_) => reasons.push(format!("{} answers something else than it was asked", member.label)),
                Err(error) => reasons.push(error.to_string()),
            }
            if kept >= roster.committee().quorum() {
                // The others go on without anybody waiting for them.
                asked.detach_all();
                return Ok(kept);
            }
        }
        let (need, of) = (roster.committee().quorum(), roster.members().len());
        let message = format!("{kept} of {of} static nodes took it, {need} must: {}", reasons.join("; "));
        Err(Error::new(ErrorKind::Unavailable, message)
            .with_hint("see `xvault static status`, then try again"))
    }

    /// What of access there is in a vault, as more static nodes say than can be wrong.
    pub(crate) async fn access(&self, vault: VaultId) -> Result<Option<Access>, Error> {
        let found = self.agreed(&Question::Access { vault }).await?;
        let Answer::Access(access) = found else { return Err(wrong_answer()) };
        Ok(access)
    }

    /// The static nodes that have the shares of a key.
    pub(crate) async fn roster(&self, hash: Hash) -> Result<Roster, Error> {
        let own = self.ledger.roster();
        if own.hash() == hash {
            return Ok((*own).clone());
        }
        let is_it = |answer: &Answer| matches!(answer, Answer::Roster(Some(roster)) if roster.hash() == hash);
        match self.ledger.ask_for(&Question::Roster { roster: hash }, is_it).await? {
            Answer::Roster(Some(roster)) if roster.hash() == hash => Ok(*roster),
            _ => {
                Err(Error::new(ErrorKind::Unavailable, "no static node knows who has the shares of the key"))
            }
        }
    }

    /// An answer that one more static node gives than can be wrong.
    ///
    /// # Errors
    /// As [`LedgerClient::agreed`].
    pub(crate) async fn agreed(&self, question: &Question) -> Result<Answer, Error> {
        self.ledger.agreed(question).await
    }
}

impl LedgerClient {
    /// An answer that one more static node gives than can be wrong.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few give the same.
    pub(crate) async fn agreed(&self, question: &Question) -> Result<Answer, Error> {
        let roster = self.roster();
        let need = roster.committee().one_honest();
        let mut asked = JoinSet::new();
        for member in roster.members() {
            let (ledger, member, question) = (self.clone(), member.clone(), question.clone());
            asked.spawn(async move { ledger.ask_one(&member, &question).await });
        }
        let mut answers: Vec<(Answer, usize)> = Vec::new();
        let mut reasons = Vec::new();
        while let Some(answered) = asked.join_next().await {
            let answer = match answered {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    reasons.push(error.to_string());
                    continue;
                }
                Err(_) => continue,
            };
            let at = answers.iter().position(|(known, _)| *known == answer);
            let at = at.unwrap_or_else(|| {
                answers.push((answer, 0));
                answers.len() - 1
            });
            answers[at].1 += 1;
            if answers[at].1 >= need {
                return Ok(answers.swap_remove(at).0);
            }
        }
        if answers.len() + reasons.len() > need && reasons.len() >= need {
            let message = format!("too few static nodes answer: {}", reasons.join("; "));
            return Err(Error::new(ErrorKind::Unavailable, message)
                .with_hint("see `xvault static status`, or `xvault doctor`"));
        }
        Err(Error::new(ErrorKind::Unavailable, "too few static nodes say the same")
            .with_hint("they may be a block apart: try again; or see `xvault static status`"))
    }
}

fn is_good(ack: &Ack, network: &crate::types::NetworkId, what: &[u8; 32], member: &Member) -> bool {
    ack.verify(network, what, &member.key).is_ok()
}
