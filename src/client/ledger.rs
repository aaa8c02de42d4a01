//! The ledger as a client sees it: questions to the static nodes, and what can be checked of their answers.
//!
//! What has a proof is checked against the genesis; blocks are replayed from it. What has none (standings,
//! queues) is what the node asked says of it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::agreed::{self, NodeList};
use crate::client::{Error, ErrorKind};
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Fate, FinalBlock, Proven, Question};
use crate::ledger::final_block::{NotFinal, check_final};
use crate::ledger::rows::{Node, Static, Vault};
use crate::message::access::desk::{DeskAnswer, DeskRequest};
use crate::message::anchor_receipt::RosterStep;
use crate::message::block::Header;
use crate::message::{Canonical as _, Genesis, Member, NodeNumber, NodeStatus, Roster, Violation};
use crate::net::Peers;
use crate::store::FileDisk;
use crate::store::chain::{Chain, ChainError};
use crate::types::{Height, Network, NodeInfo, VaultId};

/// How long a static node may take before another one is asked too.
const ASK_PATIENCE: Duration = Duration::from_millis(300);

/// The static nodes of a network: those of the genesis, and from then on those that proofs show to have come after them.
#[derive(Debug, Clone)]
pub struct LedgerClient {
    genesis: Arc<Genesis>,
    peers: Peers,
    known: Arc<RwLock<Known>>,
}

/// The newest static nodes that were proved.
#[derive(Debug)]
struct Known {
    /// The block that brought them.
    since: Height,
    roster: Arc<Roster>,
    /// What led to it from the genesis; every one was verified.
    steps: Arc<[RosterStep]>,
}

/// What a replay from the genesis found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// The last block.
    pub tip: Header,
    /// Blocks checked.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
}

impl LedgerClient {
    /// The ledger of a network, asked with this key. Connects to nobody yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the network has no ledger, or its genesis is damaged.
    pub fn new(network: &Network, key: &KeyPair) -> Result<Self, Error> {
        let text = network.genesis.as_ref().ok_or_else(no_ledger)?;
        let damaged = |violation| {
            Error::new(ErrorKind::Config, "the genesis in the network file is damaged").caused_by(violation)
        };
        let genesis = Genesis::from_text(text).map_err(damaged)?;
        if genesis.network != network.id {
            return Err(Error::new(
                ErrorKind::Config,
                "the genesis in the network file is of another network",
            ));
        }
        let peers = Peers::new(&static_peers(&genesis), key);
        let roster = Arc::new(genesis.roster.clone());
        let known = Known { since: Height::GENESIS, roster, steps: Arc::default() };
        Ok(Self { genesis: Arc::new(genesis), peers, known: Arc::new(RwLock::new(known)) })
    }

    /// What all hangs on.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The static nodes, as far as this client has seen it proved.
    #[must_use]
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner).roster)
    }

    /// The changes that led to these static nodes from the genesis, as far as this client has seen them proved.
    pub(crate) fn steps(&self) -> Arc<[RosterStep]> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner).steps)
    }

    /// Takes in changes of the static nodes since the genesis, which must have been verified.
    pub(crate) fn recall(&self, steps: &[RosterStep]) {
        self.learn(steps);
    }

    /// Asks how the static nodes changed since the genesis, so that those of now are called from here on.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], also if what a static node says of it is not proved.
    pub async fn follow(&self) -> Result<(), Error> {
        let Answer::Steps(steps) = self.ask(&Question::Steps).await? else { return Err(wrong_answer()) };
        let wrong = |violation: Violation| {
            let message = "a static node's proof of the static nodes is wrong";
            Error::new(ErrorKind::Unavailable, message).caused_by(violation)
        };
        RosterStep::follow(&self.genesis, &steps).map_err(wrong)?;
        self.learn(&steps);
        Ok(())
    }

    /// Checks a proof, and learns from it who the static nodes are.
    ///
    /// # Errors
    /// As [`Proven::verify`].
    pub fn verify(&self, proven: &Proven) -> Result<(), Violation> {
        proven.signers(&self.genesis)?;
        self.learn(&proven.proof.steps);
        Ok(())
    }

    /// From here on the static nodes are those to whom these steps lead, unless newer ones are known.
    fn learn(&self, steps: &[RosterStep]) {
        let Some(last) = steps.last() else { return };
        let (since, roster) = (last.last.record.height, &last.next);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if since > known.since {
            self.peers.follow(&roster_peers(roster));
            *known = Known { since, roster: Arc::new(roster.clone()), steps: steps.into() };
        }
    }

    /// Asks the static nodes until one answers: the next as soon as one fails or takes long.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] names all that did not.
    pub async fn ask(&self, question: &Question) -> Result<Answer, Error> {
        self.ask_for(question, |_| true).await
    }

    /// Asks the static nodes until one answers with what is looked for, or all have answered: then any answer.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if none answers.
    pub async fn ask_for(
        &self,
        question: &Question,
        is_it: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, Error> {
        loop {
            let roster = self.roster();
            let reasons = match self.ask_those(&roster, question, &is_it).await {
                Ok(answer) => return Ok(answer),
                Err(reasons) => reasons,
            };
            // Another call may have learned meanwhile that the static nodes are others: these are called no more.
            if self.roster().hash() == roster.hash() {
                let message = format!("no static node answers: {reasons}");
                return Err(Error::new(ErrorKind::Unavailable, message)
                    .with_hint("see `xvault static status`, or `xvault doctor`"));
            }
        }
    }

    /// The same of these; why none of them answers.
    async fn ask_those(
        &self,
        roster: &Roster,
        question: &Question,
        is_it: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, String> {
        let mut other = None;
        let mut reasons = Vec::new();
        let mut members = roster.members().iter();
        let mut asked = JoinSet::new();
        loop {
            if let Some(member) = members.next() {
                let (this, member, question) = (self.clone(), member.clone(), question.clone());
                asked.spawn(async move {
                    let answer = this.ask_one(&member, &question).await;
                    answer.map_err(|error| format!("{} {error}", member.label))
                });
            } else if asked.is_empty() {
                break;
            }
            let patience = if members.len() > 0 { ASK_PATIENCE } else { Duration::MAX };
            match tokio::time::timeout(patience, asked.join_next()).await {
                Ok(Some(Ok(Ok(answer)))) if is_it(&answer) => return Ok(answer),
                Ok(Some(Ok(Ok(answer)))) => other = Some(answer),
                Ok(Some(Ok(Err(reason)))) => reasons.push(reason),
                Ok(Some(Err(error))) => reasons.push(error.to_string()),
                Ok(None) | Err(_) => {}
            }
        }
        other.ok_or_else(|| reasons.join("; "))
    }

    /// Asks one static node.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn ask_one(&self, member: &Member, question: &Question) -> Result<Answer, Error> {
        let unavailable = |message: String| Error::new(ErrorKind::Unavailable, message);
        let bytes = self.peers.ask_ledger(&member.key, question.encode()).await;
        let bytes = bytes.map_err(|error| unavailable(error.to_string()).caused_by(error))?;
        Answer::decode_bounded(&bytes).map_err(|violation| unavailable(violation.to_string()))
    }

    /// Submits a transaction to one static node, and waits with it for what becomes of it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn submit(&self, member: &Member, transaction: Vec<u8>) -> Result<Fate, Error> {
        let unavailable = |message: String| Error::new(ErrorKind::Unavailable, message);
        let bytes = self.peers.submit(&member.key, transaction).await;
        let bytes = bytes.map_err(|error| unavailable(error.to_string()).caused_by(error))?;
        match Answer::decode_bounded(&bytes) {
            Ok(Answer::Fate(fate)) => Ok(fate),
            Ok(_) => Err(wrong_answer()),
            Err(violation) => Err(unavailable(violation.to_string())),
        }
    }

    /// Says something to a static node's access desk.
    pub(crate) async fn ask_desk(&self, member: &Member, request: &DeskRequest) -> Result<DeskAnswer, Error> {
        let unavailable = |message: String| Error::new(ErrorKind::Unavailable, message);
        let bytes = self.peers.access(&member.key, request.encode()).await;
        let bytes = bytes.map_err(|error| unavailable(error.to_string()).caused_by(error))?;
        DeskAnswer::decode(&bytes).map_err(|violation| unavailable(violation.to_string()))
    }

    /// How a static node is.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn status(&self, member: &Member) -> Result<NodeStatus, Error> {
        let status = self.peers.status(&member.key).await;
        status.map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()).caused_by(error))
    }

    /// The static nodes and what the ledger thinks of them, as one of them says.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn statics(&self) -> Result<Vec<Static>, Error> {
        match self.ask(&Question::Statics).await? {
            Answer::Statics(statics) => Ok(statics),
            _ => Err(wrong_answer()),
        }
    }

    /// The storage nodes by number, also those that retired, as a static node says.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn nodes(&self) -> Result<Vec<(NodeNumber, Node)>, Error> {
        self.node_pages(None).await
    }

    /// Page by page, from one static node or whichever answers.
    async fn node_pages(&self, from: Option<&Member>) -> Result<NodeList, Error> {
        let mut found: NodeList = Vec::new();
        loop {
            let question = Question::Nodes { after: found.last().map(|(number, _)| *number) };
            let answer = match from {
                Some(member) => self.ask_one(member, &question).await?,
                None => self.ask(&question).await?,
            };
            let Answer::Nodes(page) = answer else { return Err(wrong_answer()) };
            // In ascending order, so that it ends, and no row comes twice.
            if !page.is_sorted_by(|(one, _), (next, _)| one < next) {
                return Err(wrong_answer());
            }
            let last = found.last().map(|(number, _)| *number);
            let page: Vec<_> = page.into_iter().filter(|(number, _)| Some(*number) > last).collect();
            if page.is_empty() {
                return Ok(found);
            }
            found.extend(page);
        }
    }

    /// The same, as more static nodes say than can be wrong: who wants to keep something with them must not be led to others.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few answer, or too few of them the same.
    pub async fn agreed_nodes(&self) -> Result<Vec<(NodeNumber, Node)>, Error> {
        let roster = self.roster();
        let need = roster.committee().one_honest();
        let mut asked = JoinSet::new();
        for member in roster.members() {
            let (this, member) = (self.clone(), member.clone());
            asked.spawn(async move { this.node_pages(Some(&member)).await });
        }
        let mut lists = Vec::new();
        while let Some(answered) = asked.join_next().await {
            let Ok(Ok(list)) = answered else { continue };
            lists.push(list);
            if let Some(agreed) = agreed::list(&lists, need) {
                return Ok(agreed.clone());
            }
        }
        agreed::rows(&lists, need).ok_or_else(|| {
            let how = if lists.len() < need { "say" } else { "agree on" };
            let message = format!(
                "too few static nodes {how} which storage nodes there are: {} answered, {need} must say the same",
                lists.len()
            );
            Error::new(ErrorKind::Unavailable, message)
                .with_hint("see `xvault static status` for how they are, then try again")
        })
    }

    /// A vault, as one static node says; none if it is not registered.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn vault(&self, vault: VaultId) -> Result<Option<Vault>, Error> {
        match self.ask(&Question::Vault { vault }).await? {
            Answer::Vault(vault) => Ok(vault),
            _ => Err(wrong_answer()),
        }
    }

    /// Where the ledger is, as one static node says.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn tip(&self) -> Result<Header, Error> {
        match self.ask(&Question::Tip).await? {
            Answer::Tip { header, .. } => Ok(*header),
            _ => Err(wrong_answer()),
        }
    }

    /// Blocks from a height on, not checked; none past the last. A static node that took a snapshot may not have old ones
    /// yet: then another one is asked.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn blocks(&self, from: Height) -> Result<Vec<FinalBlock>, Error> {
        let has_some = |answer: &Answer| matches!(answer, Answer::Blocks(blocks) if !blocks.is_empty());
        match self.ask_for(&Question::Blocks { from }, has_some).await? {
            Answer::Blocks(blocks) => Ok(blocks),
            _ => Err(wrong_answer()),
        }
    }

    /// Replays every block from the genesis in a folder, which is best an empty one, and checks all of it:
    /// certificates, signatures, rules, the log's roots and the state's hashes. `progressed` is told of each height.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] names the first block that is wrong; [`ErrorKind::Unavailable`];
    /// [`ErrorKind::Config`] if the folder cannot be used.
    pub async fn replay(
        &self,
        folder: &std::path::Path,
        mut progressed: impl FnMut(Height),
    ) -> Result<Replayed, Error> {
        let disk = FileDisk::open(folder).map_err(|error| {
            Error::new(ErrorKind::Config, format!("cannot use {}", folder.display())).caused_by(error)
        })?;
        let chain = Chain::open(&disk, &self.genesis).map_err(chain_error)?;
        let (mut blocks, mut transactions) = (0, 0);
        let mut next = chain.view().and_then(|view| view.tip()).map_err(chain_error)?.record.height.next();
        let mut found = self.blocks(next).await?;
        while !found.is_empty() {
            let after = Height(next.0.saturating_add(found.len() as u64));
            let this = self.clone();
            // What comes after is on its way while these are checked.
            let ahead = tokio::spawn(async move { this.blocks(after).await });
            for (height, block) in (next.0..).map(Height).zip(&found) {
                transactions += apply(&chain, height, block)?;
                blocks += 1;
                progressed(height);
            }
            chain.sync().map_err(chain_error)?;
            next = after;
            found = ahead.await.map_err(|error| {
                Error::new(ErrorKind::Internal, "a question to the static nodes panicked").caused_by(error)
            })??;
        }
        let tip = chain.view().and_then(|view| view.tip()).map_err(chain_error)?;
        Ok(Replayed { tip, blocks, transactions })
    }
}

/// Checks a block on top of the chain and adds it; how many transactions it has.
fn apply(chain: &Chain, height: Height, found: &FinalBlock) -> Result<u64, Error> {
    let view = chain.view().map_err(chain_error)?;
    let next = check_final(&view, found, |_| false).map_err(|error| match error {
        NotFinal::Read(error) => chain_error(error.into()),
        wrong => Error::new(ErrorKind::Corrupt, format!("block {height} is wrong: {wrong}")),
    })?;
    chain.replay(&found.block, &next.certificate, &next.changes).map_err(chain_error)?;
    Ok(next.block.transactions.len() as u64)
}

fn chain_error(error: ChainError) -> Error {
    Error::new(ErrorKind::Internal, "the copy of the ledger cannot be used").caused_by(error)
}

pub(crate) fn no_ledger() -> Error {
    Error::new(ErrorKind::Config, "this network has no ledger")
        .with_hint("its network file names no genesis: ask its operators for a newer one")
}

pub(crate) fn wrong_answer() -> Error {
    Error::new(ErrorKind::Unavailable, "a static node answers something else than it was asked")
}

/// The static nodes of a genesis as peers.
#[must_use]
pub fn static_peers(genesis: &Genesis) -> Network {
    let nodes = roster_peers(&genesis.roster);
    Network { id: genesis.network, code: genesis.code, genesis: None, nodes }
}

/// Static nodes as peers.
pub(crate) fn roster_peers(roster: &Roster) -> Vec<NodeInfo> {
    let peer = |member: &Member| NodeInfo {
        name: member.label.clone(),
        key: member.key,
        address: member.address,
        operator: member.operator.clone(),
        site: String::new(),
    };
    roster.members().iter().map(peer).collect()
}
