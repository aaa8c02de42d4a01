//! Break-glass as its parties use it: an owner makes an emergency grant and its card, a clinician who has the card asks, others
//! approve, the owner and guardians veto, and the owner is told of all of it.
//!
//! What the ledger has of emergencies is taken from more static nodes than can be wrong: one alone could hide it.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::access::desk::Desks;
use crate::client::access::grantee::open_index;
use crate::client::access::owner::Revoked;
use crate::client::context::random;
use crate::client::ledger::wrong_answer;
use crate::client::settle::{LIFE_BLOCKS, Verdict, refused};
use crate::client::{Client, ClientConfig, Error, ErrorKind, LedgerClient};
use crate::crypto::sign::KeyPair;
use crate::ledger::ask::{Answer, Question};
use crate::ledger::rows::{Emergency, EmergencyState, GrantRow, OpeningRow};
use crate::message::access::desk::DeskRequest;
use crate::message::access::emergency::reason_hash;
use crate::message::access::{
    EmergencyApproval, EmergencyCard, EmergencyPolicy, EmergencyRequest, RoleCertificate,
};
use crate::message::canonical::{read_bytes, write_bytes};
use crate::message::{Action, Canonical, Rejection, SignedTransaction, Transaction, Violation};
use crate::runtime::wall_time;
use crate::store::SharedIndex;
use crate::types::{GrantId, Hash, Height, Timestamp, TransactionId, VaultId};

/// Bytes of a reason.
pub const MAX_REASON_LEN: usize = 1_024;
/// Cards that this home has used, by the grant.
const HELD: &[u8] = b"emergency/held/";
/// The same of requests before the last one, by grant and request.
const PAST: &[u8] = b"emergency/past/";
/// What the owner was told of, by the transaction that asked.
const TOLD: &[u8] = b"emergency/told/";
/// How often a veto is said to static nodes that may be a block behind, and between two such tries.
const VETO_TRIES: usize = 10;
const VETO_PAUSE: Duration = Duration::from_millis(300);

/// What emergency departments are told when too few static nodes answer.
pub(crate) const CLOSED_HINT: &str = "an emergency opens only while two thirds of the static nodes answer, and fails closed below: \
     use the local emergency summary, which hospitals should keep for this, and try again";

/// An emergency of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEmergency {
    /// The transaction that asked for it.
    pub request: TransactionId,
    /// As the ledger has it.
    pub row: Emergency,
    /// How it is now, by this machine's clock.
    pub state: EmergencyState,
}

/// What came of asking for an emergency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The vault.
    pub vault: VaultId,
    /// The grant.
    pub grant: GrantId,
    /// The transaction that asks.
    pub request: TransactionId,
    /// The terms.
    pub policy: EmergencyPolicy,
}

/// A card that this home has used.
#[derive(Debug, Clone)]
pub struct HeldCard {
    /// The card.
    pub card: EmergencyCard,
    /// The transaction that asked, if it got so far.
    pub request: Option<TransactionId>,
    /// What makes the reason's hash that of nobody's guess.
    pub salt: [u8; 16],
    /// Why it was asked.
    pub reason: String,
}

impl Canonical for HeldCard {
    fn write(&self, to: &mut Vec<u8>) {
        self.card.write(to);
        self.request.write(to);
        self.salt.write(to);
        write_bytes(self.reason.as_bytes(), to);
    }

    fn read(from: &mut &[u8]) -> Result<Self, Violation> {
        Ok(Self {
            card: Canonical::read(from)?,
            request: Canonical::read(from)?,
            salt: Canonical::read(from)?,
            reason: String::from_utf8(read_bytes(from, MAX_REASON_LEN)?).map_err(|_| Violation::Malformed)?,
        })
    }
}

impl Client {
    /// The card of an emergency grant of this vault, which derives from the vault's keys.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Refused`] if the grant is no such grant, or has ended, [`ErrorKind::Unavailable`].
    pub async fn emergency_card(&self, grant: GrantId) -> Result<EmergencyCard, Error> {
        let vault = self.ctx.vault.as_deref().ok_or_else(crate::client::ledger::no_ledger)?;
        let row = grant_row(&vault.ledger, *vault.keys.vault(), grant).await?;
        let refuse = |message: &str| Error::new(ErrorKind::Refused, message.to_owned());
        if row.grant.emergency.is_none() {
            return Err(refuse("the grant is none for emergencies")
                .with_hint("make one with `xvault grant --emergency`"));
        }
        if row.revoked.is_some() || row.grant.expires <= wall_time() {
            return Err(refuse("the grant has ended: a card would be of no use"));
        }
        let secret = vault.keys.access().card(&grant);
        Ok(EmergencyCard {
            network: vault.ledger.genesis().network,
            vault: *vault.keys.vault(),
            grant,
            secret,
        })
    }

    /// The emergencies of this vault of which the owner was not told, or that went on since. None without a ledger.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn emergency_news(&self) -> Result<Vec<SeenEmergency>, Error> {
        let Some(vault) = self.ctx.vault.as_deref() else { return Ok(Vec::new()) };
        let mut found = list(&vault.ledger, *vault.keys.vault()).await?;
        if found.is_empty() {
            return Ok(found);
        }
        let told = self.ctx.index.with(|index| index.notes(TOLD)).await?;
        found.retain(|seen| !told.contains(&told_note(seen)));
        Ok(found)
    }

    /// The emergencies of this vault that the ledger still has. None without a ledger.
    ///
    /// # Errors
    /// As [`emergency_news`](Self::emergency_news).
    pub async fn emergencies(&self) -> Result<Vec<SeenEmergency>, Error> {
        match self.ctx.vault.as_deref() {
            Some(vault) => list(&vault.ledger, *vault.keys.vault()).await,
            None => Ok(Vec::new()),
        }
    }

    /// Notes that the owner was told of these.
    ///
    /// # Errors
    /// Those of the local index.
    pub async fn told_of_emergencies(&self, told: &[SeenEmergency]) -> Result<(), Error> {
        let notes: Vec<_> = told.iter().map(told_note).collect();
        Ok(self.ctx.index.with(move |index| index.note(&notes)).await?)
    }
}

/// What is noted of an emergency that the owner was told of: what tells whether it went on since.
fn told_note(seen: &SeenEmergency) -> (Vec<u8>, Vec<u8>) {
    let mut said = seen.state.name().as_bytes().to_vec();
    said.push(u8::try_from(seen.row.approvals.len()).unwrap_or(u8::MAX));
    seen.row.openings.write(&mut said);
    ([TOLD, &seen.request.0].concat(), said)
}

/// The emergencies of a vault, the newest last: what so many static nodes say that an honest one is among them.
///
/// # Errors
/// [`ErrorKind::Unavailable`] if too few answer.
pub async fn list(ledger: &LedgerClient, vault: VaultId) -> Result<Vec<SeenEmergency>, Error> {
    let is_it = |answer| match answer {
        Answer::Emergencies(rows) => Some(rows),
        _ => None,
    };
    let rows: Vec<(TransactionId, Emergency)> =
        named_by_honest(ledger, &Question::Emergencies { vault }, is_it).await?;
    let now = wall_time();
    let mut found: Vec<_> = rows
        .into_iter()
        .map(|(request, row)| SeenEmergency { request, state: row.state(now, now), row })
        .collect();
    found.sort_by_key(|seen| (seen.row.requested, seen.request));
    Ok(found)
}

/// What was opened in an emergency, as static nodes put it on the ledger, in the order of time.
///
/// # Errors
/// [`ErrorKind::Unavailable`] if too few answer.
pub async fn openings(
    ledger: &LedgerClient,
    request: TransactionId,
) -> Result<Vec<(Hash, OpeningRow)>, Error> {
    let is_it = |answer| match answer {
        Answer::EmergencyOpenings(rows) => Some(rows),
        _ => None,
    };
    let mut found = named_by_honest(ledger, &Question::EmergencyOpenings { request }, is_it).await?;
    found.sort_by_key(|(open, row)| (row.time, *open));
    Ok(found)
}

/// Asks all static nodes until a quorum has answered. A row counts if one more names its key than can be wrong; of those that
/// say different things of it, most count, and then who has more to tell, since others may be a block behind.
async fn named_by_honest<K: Ord + Clone, V: Canonical>(
    ledger: &LedgerClient,
    question: &Question,
    rows_of: impl Fn(Answer) -> Option<Vec<(K, V)>>,
) -> Result<Vec<(K, V)>, Error> {
    let roster = ledger.roster();
    let (need, quorum) = (roster.committee().one_honest(), roster.committee().quorum());
    let mut asked = JoinSet::new();
    for member in roster.members() {
        let (ledger, member, question) = (ledger.clone(), member.clone(), question.clone());
        asked.spawn(async move { ledger.ask_one(&member, &question).await });
    }
    let (mut answered, mut reasons) = (0, Vec::new());
    let mut named: std::collections::BTreeMap<K, Vec<Vec<u8>>> = std::collections::BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(answer)) => {
                let Some(rows) = rows_of(answer) else { continue };
                answered += 1;
                rows.into_iter().for_each(|(key, row)| named.entry(key).or_default().push(row.encode()));
            }
            Ok(Err(error)) => reasons.push(error.to_string()),
            Err(_) => {}
        }
        if answered >= quorum {
            break;
        }
    }
    if answered < need {
        let message = format!("too few static nodes say which emergencies there are: {}", reasons.join("; "));
        return Err(Error::new(ErrorKind::Unavailable, message).with_hint("see `xvault static status`"));
    }
    let best = |rows: &Vec<Vec<u8>>| {
        let votes = |row: &&Vec<u8>| rows.iter().filter(|other| other == row).count();
        let best = rows.iter().max_by_key(|row| (votes(row), row.len(), (*row).clone()))?;
        V::decode(best).ok()
    };
    let honest = named.into_iter().filter(|(_, rows)| rows.len() >= need);
    Ok(honest.filter_map(|(key, rows)| Some((key, best(&rows)?))).collect())
}

/// A grant of a vault.
async fn grant_row(ledger: &LedgerClient, vault: VaultId, grant: GrantId) -> Result<GrantRow, Error> {
    // The one before it, so that the page begins with it.
    let before = u128::from_be_bytes(grant.0).checked_sub(1).map(|number| GrantId(number.to_be_bytes()));
    let question = Question::Grants { vault, after: before };
    let is_it = |row: &GrantRow| row.grant.grant == grant;
    let has_it = |answer: &Answer| matches!(answer, Answer::Grants(rows) if rows.iter().any(is_it));
    let Answer::Grants(rows) = ledger.ask_for(&question, has_it).await? else { return Err(wrong_answer()) };
    rows.into_iter().find(is_it).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the vault has no such grant").with_hint("see `xvault grants`")
    })
}

/// Somebody who says something of an emergency on the ledger.
struct Speaker {
    ledger: LedgerClient,
    desks: Desks,
    key: KeyPair,
}

impl Speaker {
    async fn new(config: &ClientConfig) -> Result<Self, Error> {
        let key = config.keys.signing().clone();
        let ledger = LedgerClient::new(&config.network, &key)?;
        // Whoever cannot be asked now is asked again.
        drop(ledger.follow().await);
        let desks = Desks::new(ledger.clone(), &key);
        desks.follow(&ledger.roster());
        Ok(Self { ledger, desks, key })
    }

    async fn carry_out(&self, action: Action) -> Result<(TransactionId, Height), Error> {
        let done = self.ledger.carry_out_as(&self.key, action, &|text| tracing::warn!("{text}")).await;
        done.map_err(explain)
    }

    /// An emergency that is under way.
    async fn under_way(&self, vault: VaultId, request: TransactionId) -> Result<Emergency, Error> {
        let found = list(&self.ledger, vault).await.map_err(closed)?;
        let found = found.into_iter().find(|seen| seen.request == request).ok_or_else(|| {
            let message = format!("the vault has no emergency {}", request.short());
            Error::new(ErrorKind::NotFound, message)
                .with_hint("`xvault emergency ls` lists a vault's; right after it was asked for, try again")
        })?;
        match found.state {
            EmergencyState::Vetoed => Err(Error::new(ErrorKind::Refused, "the emergency was vetoed")),
            EmergencyState::Over => Err(Error::new(ErrorKind::Refused, "the emergency's time is over")),
            _ => Ok(found.row),
        }
    }

    /// Static nodes would say the same, one by one.
    async fn require_vetoer(&self, vault: VaultId, grant: GrantId) -> Result<(), Error> {
        let key = self.key.public();
        let is_owner = self.ledger.vault(vault).await?.is_some_and(|row| row.owner == key);
        let policy = grant_row(&self.ledger, vault, grant).await?.grant.emergency;
        if is_owner || policy.is_some_and(|policy| policy.vetoers.contains(&key)) {
            return Ok(());
        }
        Err(refused(&Rejection::MayNotVeto).with_hint("ask the vault's owner"))
    }

    /// The certificate is of this key, and good still.
    fn check(&self, certificate: &RoleCertificate) -> Result<(), Error> {
        let refuse = |message: &str| Error::new(ErrorKind::Refused, message.to_owned());
        certificate
            .verify(&self.ledger.genesis().network)
            .map_err(|wrong| refuse("the role certificate is not good on this network").caused_by(wrong))?;
        if certificate.holder != self.key.public() {
            let hint =
                "it names another key: `xvault key show` prints this home's, which the authority certifies";
            return Err(refuse("the role certificate is not of this home's key").with_hint(hint));
        }
        if certificate.expires <= wall_time() {
            return Err(refuse("the role certificate has expired").with_hint("ask the authority for another"));
        }
        Ok(())
    }
}

/// What to do about what the ledger says of emergencies.
fn explain(error: Error) -> Error {
    let hint = match error.rejection() {
        Some(Rejection::NotCertified { .. }) => {
            "the owner named in the grant whose certificates count: ask for one of these with `xvault role certify`"
        }
        Some(Rejection::TooManyEmergencies) => {
            "one that is under way, or was vetoed, has to end first: see `xvault emergency ls`"
        }
        Some(Rejection::GrantNotInForce) => "the owner has taken the grant back, or its time is over",
        _ => return closed(error),
    };
    error.with_hint(hint)
}

/// The same error; if too few answer, with what that means in an emergency.
fn closed(error: Error) -> Error {
    if error.kind() == ErrorKind::Unavailable { error.with_hint(CLOSED_HINT) } else { error }
}

/// Asks that the grant of a card opens. If this key has asked already, and that is under way, it is that.
///
/// # Errors
/// [`ErrorKind::Refused`] if card or certificate are of no use here, or the ledger refuses; [`ErrorKind::Invalid`] for a reason
/// that is too long; [`ErrorKind::Unavailable`].
pub async fn ask(
    config: &ClientConfig,
    card: &EmergencyCard,
    certificate: &RoleCertificate,
    reason: &str,
) -> Result<Asked, Error> {
    let speaker = Speaker::new(config).await?;
    let network = speaker.ledger.genesis().network;
    if card.network != network {
        return Err(Error::new(ErrorKind::Refused, "the emergency card is for another network"));
    }
    if !(1..=MAX_REASON_LEN).contains(&reason.len()) || reason.chars().any(char::is_control) {
        let message = format!("a reason has 1 to {MAX_REASON_LEN} bytes and no control characters");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    speaker.check(certificate)?;
    let row = grant_row(&speaker.ledger, card.vault, card.grant).await.map_err(closed)?;
    if row.revoked.is_some() || row.grant.expires <= wall_time() {
        let message = "the card's grant was taken back, or its time is over";
        return Err(Error::new(ErrorKind::Refused, message).caused_by(Rejection::GrantNotInForce));
    }
    let policy = row
        .grant
        .emergency
        .ok_or_else(|| Error::new(ErrorKind::Refused, "the card's grant is none for emergencies"))?;
    let (grant_key, _) = card.secret.keys();
    let author = speaker.key.public();
    // Noted before it is on the ledger: the card and the reason are here whatever comes then.
    let salt = random()?;
    let mut held = HeldCard { card: card.clone(), request: None, salt, reason: reason.to_owned() };
    let index = open_index(config).await?;
    let known = list(&speaker.ledger, card.vault).await.map_err(closed)?.into_iter().find(|seen| {
        let is_under_way = !matches!(seen.state, EmergencyState::Vetoed | EmergencyState::Over);
        is_under_way && seen.row.grant == card.grant && seen.row.requester.key == author
    });
    let request = match known {
        Some(seen) => {
            // An attempt before this one may have been told by a static node that was behind, and noted another reason.
            let before = noted_of(&index, card.grant).await?;
            let is_it = |before: &HeldCard| before.request == Some(seen.request);
            held = before.into_iter().find(is_it).unwrap_or(held);
            seen.request
        }
        None => {
            keep_past(&index, card.grant).await?;
            hold(&index, &held).await?;
            let asked = EmergencyRequest {
                vault: card.vault,
                grant: card.grant,
                grantee: author,
                possession: [0; 64],
                certificate: certificate.clone(),
                reason: reason_hash(&salt, reason),
            };
            let asked = asked.possess(&network, &author, &grant_key);
            speaker.carry_out(Action::EmergencyRequest(Box::new(asked))).await?.0
        }
    };
    held.request = Some(request);
    hold(&index, &held).await?;
    Ok(Asked { vault: card.vault, grant: card.grant, request, policy })
}

/// Approves an emergency that another clinician asked for.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Refused`], [`ErrorKind::Unavailable`].
pub async fn approve(
    config: &ClientConfig,
    vault: VaultId,
    request: TransactionId,
    certificate: &RoleCertificate,
) -> Result<Height, Error> {
    let speaker = Speaker::new(config).await?;
    speaker.check(certificate)?;
    speaker.under_way(vault, request).await?;
    let approval = EmergencyApproval { vault, request, certificate: certificate.clone() };
    Ok(speaker.carry_out(Action::EmergencyApprove(Box::new(approval))).await?.1)
}

/// Vetoes an emergency, as the vault's owner, or as somebody whom the grant names for that. `acknowledged` is told when nothing
/// is opened in it any more, which is before it is final.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Refused`], [`ErrorKind::Unavailable`] if too few static nodes have it.
pub async fn veto(
    config: &ClientConfig,
    vault: VaultId,
    request: TransactionId,
    acknowledged: impl FnOnce(Duration),
) -> Result<Revoked, Error> {
    let speaker = Speaker::new(config).await?;
    let row = speaker.under_way(vault, request).await?;
    speaker.require_vetoer(vault, row.grant).await?;
    let (begun, author) = (Instant::now(), speaker.key.public());
    let Answer::Nonce(nonce) = speaker.ledger.ask(&Question::Nonce { author }).await? else {
        return Err(wrong_answer());
    };
    let expires = Height(speaker.ledger.tip().await?.record.height.0 + LIFE_BLOCKS);
    let action = Action::EmergencyVeto { vault, request };
    let network = speaker.ledger.genesis().network;
    let signed = Transaction { network, author, nonce, expires, action: action.clone() }.sign(&speaker.key);
    speaker.acknowledge(&signed).await?;
    let after = begun.elapsed();
    acknowledged(after);
    let height = match speaker.ledger.settle(&signed, &|text| tracing::warn!("{text}")).await? {
        Verdict::Final { height } => height,
        Verdict::Rejected(Rejection::WrongNonce { .. }) => speaker.carry_out(action).await?.1,
        Verdict::Rejected(rejection) => return Err(explain(refused(&rejection))),
    };
    Ok(Revoked { acknowledged: after, settled: begun.elapsed(), height })
}

impl Speaker {
    /// Has a veto noted by a quorum of the static nodes. Some may be a block behind, and not have the emergency yet.
    async fn acknowledge(&self, signed: &SignedTransaction) -> Result<(), Error> {
        let request = DeskRequest::Veto(signed.bytes().to_vec());
        let mut tries = 1;
        loop {
            match self.desks.have_kept(&self.ledger.roster(), &request, &signed.id().0).await {
                Err(error) if error.kind() == ErrorKind::Unavailable && tries < VETO_TRIES => tries += 1,
                done => return done.map(drop),
            }
            tokio::time::sleep(VETO_PAUSE).await;
        }
    }
}

async fn hold(index: &SharedIndex, held: &HeldCard) -> Result<(), Error> {
    let notes = [([HELD, &held.card.grant.0].concat(), held.encode())];
    Ok(index.with(move |index| index.note(&notes)).await?)
}

/// Keeps what was asked with a card before it is asked anew: an owner may come back to it.
async fn keep_past(index: &SharedIndex, grant: GrantId) -> Result<(), Error> {
    let Some(before) = held_of(index, grant).await? else { return Ok(()) };
    let Some(request) = before.request else { return Ok(()) };
    let notes = [([PAST, &grant.0, &request.0].concat(), before.encode())];
    Ok(index.with(move |index| index.note(&notes)).await?)
}

async fn held_of(index: &SharedIndex, grant: GrantId) -> Result<Option<HeldCard>, Error> {
    let key = [HELD, &grant.0].concat();
    let notes = index.with(move |index| index.notes(&key)).await?;
    Ok(notes.into_iter().find_map(|(_, value)| HeldCard::decode(&value).ok()))
}

/// All that was noted of a grant.
async fn noted_of(index: &SharedIndex, grant: GrantId) -> Result<Vec<HeldCard>, Error> {
    let key = [PAST, &grant.0].concat();
    let notes = index.with(move |index| index.notes(&key)).await?;
    let mut found: Vec<_> =
        notes.into_iter().filter_map(|(_, value)| HeldCard::decode(&value).ok()).collect();
    found.extend(held_of(index, grant).await?);
    Ok(found)
}

/// The cards that this home has used.
///
/// # Errors
/// [`ErrorKind::Config`] or [`ErrorKind::Locked`] if the home cannot be used.
pub async fn held(config: &ClientConfig) -> Result<Vec<HeldCard>, Error> {
    let notes = open_index(config).await?.with(|index| index.notes(HELD)).await?;
    Ok(notes.into_iter().filter_map(|(_, value)| HeldCard::decode(&value).ok()).collect())
}

/// What this home asked with cards before it asked anew with them.
///
/// # Errors
/// [`ErrorKind::Config`] or [`ErrorKind::Locked`] if the home cannot be used.
pub async fn past(config: &ClientConfig) -> Result<Vec<HeldCard>, Error> {
    let notes = open_index(config).await?.with(|index| index.notes(PAST)).await?;
    Ok(notes.into_iter().filter_map(|(_, value)| HeldCard::decode(&value).ok()).collect())
}

/// An authority certifies that a key is of a clinician.
///
/// # Errors
/// [`ErrorKind::Invalid`] if institution or role are no such names.
pub fn certify(
    config: &ClientConfig,
    holder: crate::types::PublicKey,
    institution: &str,
    role: &str,
    expires: Timestamp,
) -> Result<RoleCertificate, Error> {
    if !RoleCertificate::is_institution(institution) || !RoleCertificate::is_role(role) {
        let message = "institutions and roles are 1 to 63 letters, digits and . _ - : of ASCII, institutions in small letters";
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let key = config.keys.signing();
    let certificate = RoleCertificate {
        network: config.network.id,
        authority: key.public(),
        holder,
        institution: institution.to_owned(),
        role: role.to_owned(),
        expires,
        signature: [0; 64],
    };
    Ok(certificate.sign(key))
}
