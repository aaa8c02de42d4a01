//! What an owner does: deals the vault's key, brings records into scopes, grants, revokes, and reads who opened what.

mod deal;
mod generations;
mod joining;
mod log;
mod renew;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::access::desk::Desks;
use crate::client::access::erase::ended;
use crate::client::access::scope::Scope;
use crate::client::access::shred::own_scope;
use crate::client::context::random;
use crate::client::ledger::{no_ledger, wrong_answer};
use crate::client::settle::{LIFE_BLOCKS, Verdict, refused};
use crate::client::vault::Vault;
use crate::client::{Ack, Client, Error, ErrorKind, RecordAddress, vault};
use crate::crypto::access::{Commitments, DayRange, Purpose, SealPublic};
use crate::ledger::ask::{Answer, Question};
use crate::ledger::rows::{Access, GrantRow};
use crate::message::access::body::MAX_NOTE_LEN;
use crate::message::access::desk::{DeskRequest, LogEntry, body_hash};
use crate::message::access::notes::{MAX_NOTED_GRANTS, put_scope};
use crate::message::access::package::commitments_hash;
use crate::message::access::{
    AccessNotes, BodyScope, DepositKind, EmergencyPolicy, Grant, GrantBody, GrantedScope, Inbox, KeyPackage,
    NotedGrant, NotedScope, Rights,
};
use crate::message::{
    Action, Canonical as _, Rejection, Roster, SignedTransaction, Transaction, VersionEntry,
};
use crate::types::limits::{MAX_DEFINED_SCOPES, MAX_GRANT_SCOPES, MAX_SCOPE_PATH_LEN, MAX_VAULT_SCOPES};
use crate::types::{Day, GrantId, Hash, Height, PublicKey, ScopePath, ScopeTag, Timestamp, VaultId};

pub use generations::NewGeneration;
pub use log::{AccessEvent, AccessLog};
pub use renew::Renewed;

/// What somebody is let into.
#[derive(Debug, Clone)]
pub struct GrantTerms {
    /// The scopes, by what the owner calls them, and which records each has.
    pub scopes: Vec<(ScopePath, Scope)>,
    /// What may be done in them.
    pub rights: Rights,
    /// From when on.
    pub not_before: Timestamp,
    /// Until before when.
    pub expires: Timestamp,
    /// Records of which days.
    pub days: DayRange,
    /// How often records may be opened in a day, those that were opened before too; none for as often as one likes.
    pub quota: Option<u32>,
    /// Ciphertext bytes that may be brought in all, with the right to append.
    pub append_bytes: Option<u64>,
    /// What the owner says of it, for the grantee.
    pub note: String,
}

/// A grant that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantReport {
    /// The grant.
    pub grant: GrantId,
    /// Its block.
    pub height: Height,
    /// Versions that were brought into its scopes.
    pub brought: usize,
    /// Records of its days that its scopes have now.
    pub covered: usize,
    /// Whether anything may be seen or read.
    pub reads: bool,
}

/// How a revocation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Until a quorum of the static nodes had it: from then on nothing is opened.
    pub acknowledged: Duration,
    /// Until it was final.
    pub settled: Duration,
    /// Its block.
    pub height: Height,
}

/// A grant of the vault, as the ledger has it and as the owner noted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// As the ledger has it.
    pub row: GrantRow,
    /// What the owner noted of it.
    pub about: Option<NotedGrant>,
}

/// Who is let in.
struct Grantee<'a> {
    auth: PublicKey,
    seal: &'a SealPublic,
    /// What the owner sees.
    name: &'a str,
}

/// What is said of access to a vault: the desks, and the vault.
struct Owner<'a> {
    client: &'a Client,
    vault: &'a Vault,
    desks: Desks,
}

impl Client {
    fn owner(&self) -> Result<Owner<'_>, Error> {
        let vault = self.ctx.vault.as_deref().ok_or_else(no_ledger)?;
        let desks = Desks::new(vault.ledger.clone(), vault.keys.signing());
        desks.follow(&vault.ledger.roster());
        Ok(Owner { client: self, vault, desks })
    }

    /// Lets the owner of a key package in. Deals the vault's key if that was never done, and brings the records of the scopes
    /// into them that are not yet.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the package is not good or the ledger refuses, [`ErrorKind::Invalid`],
    /// [`ErrorKind::Unavailable`] if too few static nodes answer.
    pub async fn grant(&self, package: &KeyPackage, terms: GrantTerms) -> Result<GrantReport, Error> {
        self.owner()?.grant(package, terms).await
    }

    /// Grants in emergencies to whoever holds the card of the grant ([`Client::emergency_card`]) and whom the policy's terms let.
    ///
    /// # Errors
    /// As [`grant`](Self::grant).
    pub async fn grant_emergency(
        &self,
        terms: GrantTerms,
        policy: EmergencyPolicy,
    ) -> Result<GrantReport, Error> {
        self.owner()?.grant_emergency(terms, policy).await
    }

    /// Takes a grant back. `acknowledged` is told when nothing is opened for it any more, which is before it is final.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few static nodes have it, [`ErrorKind::NotFound`], [`ErrorKind::Refused`].
    pub async fn revoke(
        &self,
        grant: GrantId,
        acknowledged: impl FnOnce(Duration),
    ) -> Result<Revoked, Error> {
        self.owner()?.revoke(grant, acknowledged).await
    }

    /// Deals the vault's key to the static nodes of now.
    pub(super) async fn deal_key(&self) -> Result<Height, Error> {
        let owner = self.owner()?;
        owner.require_alive().await?;
        let access = owner.desks.access(owner.id()).await?;
        if access.is_none() {
            vault::register(&self.ctx, Ack::Anchored).await?;
        }
        owner.deal(access.map_or(0, |access| access.sharing.dealing)).await
    }

    /// The grants of the vault, also those that have ended.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn grants(&self) -> Result<Vec<Granted>, Error> {
        self.owner()?.grants().await
    }

    /// Brings records that were put since into the scopes that were granted: those that are named, or all; how many versions.
    /// On a network without a ledger there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few static nodes answer.
    pub async fn join_scopes(&self, only: Option<&[RecordAddress]>) -> Result<usize, Error> {
        if self.ctx.vault.is_none() {
            return Ok(0);
        }
        let owner = self.owner()?;
        let scopes = parsed(&self.access_notes().await?.granted);
        if scopes.is_empty() {
            return Ok(0);
        }
        let Some(access) = owner.access_of_now().await? else { return Ok(0) };
        for (path, _) in &scopes {
            owner.learn_slots(path).await?;
        }
        owner.withdraw(only).await?;
        let mut brought = 0;
        for (path, scope) in scopes {
            brought += owner.bring(&access, &path, &scope, only).await?.new;
        }
        Ok(brought)
    }

    /// Gives a name to a set of records. One that somebody was let into and that means something else from here on gets new
    /// keys: for grants that stand nothing joins it any more, and these are answered. Else who was let into a few would see what the name
    /// means now.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], [`ErrorKind::Refused`] if there are too many, [`ErrorKind::Unavailable`].
    pub async fn define_scope(&self, name: &ScopePath, scope: &Scope) -> Result<Vec<GrantId>, Error> {
        if self.ctx.vault.is_none() {
            return Err(no_ledger());
        }
        require_name(name)?;
        let scope = noted_scope(name, scope)?;
        let notes = self.access_notes().await?;
        let was = notes.granted.iter().find(|granted| granted.path == scope.path);
        // Before it is noted: what joins by the new meaning must do so under the new keys.
        let standing = match was {
            Some(was) if was.meaning != scope.meaning => self.renew_scope(name).await?.standing,
            _ => Vec::new(),
        };
        self.change_access_notes(|notes| {
            put_scope(&mut notes.defined, scope.clone());
            if notes.defined.len() > MAX_DEFINED_SCOPES {
                let message = format!("{MAX_DEFINED_SCOPES} scopes have names, and no more can");
                return Err(Error::new(ErrorKind::Refused, message));
            }
            if let Some(granted) = notes.granted.iter_mut().find(|granted| granted.path == scope.path) {
                granted.meaning.clone_from(&scope.meaning);
            }
            Ok(())
        })
        .await?;
        Ok(standing)
    }

    /// The names that were given, and what they mean.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if they are not here yet, [`ErrorKind::Corrupt`].
    pub async fn defined_scopes(&self) -> Result<Vec<(ScopePath, Scope)>, Error> {
        if self.ctx.vault.is_none() {
            return Err(no_ledger());
        }
        Ok(parsed(&self.access_notes().await?.defined))
    }

    /// Has the keyslots of versions deleted, where the vault's key was ever shared: nobody opens them any more, whoever was let
    /// in.
    pub(in crate::client) async fn erase_slots(
        &self,
        at: &RecordAddress,
        versions: &[VersionEntry],
    ) -> Result<(), Error> {
        let owner = self.owner()?;
        if versions.is_empty() || owner.desks.access(owner.id()).await?.is_none() {
            return Ok(());
        }
        for entry in versions {
            owner.erase_version(at, entry.version).await?;
        }
        Ok(())
    }

    /// The entries of the access log as each of a quorum of the static nodes has them.
    pub(in crate::client) async fn raw_access_log(&self) -> Result<Vec<LogEntry>, Error> {
        self.owner()?.raw_access_log().await
    }

    /// Deals the vault's key to the static nodes, if that was never done.
    pub(in crate::client) async fn require_shared_key(&self) -> Result<(), Error> {
        self.owner()?.shared().await.map(drop)
    }

    /// Who opened what, and who was denied, as a quorum of the static nodes have it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if too few answer, [`ErrorKind::Corrupt`] if a node's log does not read.
    pub async fn access_log(&self) -> Result<Vec<AccessEvent>, Error> {
        Ok(self.owner()?.access_log(None).await?.events)
    }

    /// The same, with whose logs they were. A record that is asked for has its name in it also if it was erased since.
    ///
    /// # Errors
    /// As [`access_log`](Self::access_log).
    pub async fn access_log_about(&self, at: Option<&RecordAddress>) -> Result<AccessLog, Error> {
        self.owner()?.access_log(at).await
    }
}

pub(super) fn is_rejection(error: &Error, rejection: Rejection) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<Rejection>()) == Some(&rejection)
}

/// Refuses a name that reads as an expression, or as a part of one: whoever grants by it could mean the other.
fn require_name(name: &ScopePath) -> Result<(), Error> {
    let text = name.as_str();
    let is_word = !text.chars().any(|c| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\\' | ':' | '='));
    if is_word && !["and", "or", "not"].contains(&text) {
        return Ok(());
    }
    let message = "a scope's name is one word, without : = ( ) \" and \\, and none of and, or, not";
    Err(Error::new(ErrorKind::Invalid, message))
}

/// Scopes as they are noted, parsed. One that does not read is of a newer version of xvault: its records join there.
fn parsed(scopes: &[NotedScope]) -> Vec<(ScopePath, Scope)> {
    let parse = |scope: &NotedScope| Some((scope.path.clone(), scope.meaning.parse().ok()?));
    scopes.iter().filter_map(parse).collect()
}

fn noted_scope(path: &ScopePath, scope: &Scope) -> Result<NotedScope, Error> {
    let meaning = scope.to_string();
    let is_fine = |text: &str| text.len() <= MAX_SCOPE_PATH_LEN && !text.chars().any(char::is_control);
    if is_fine(path.as_str()) && is_fine(&meaning) {
        return Ok(NotedScope { path: path.clone(), meaning });
    }
    let message =
        format!("a scope and its name have at most {MAX_SCOPE_PATH_LEN} bytes and no control characters");
    Err(Error::new(ErrorKind::Invalid, message))
}

impl Owner<'_> {
    fn id(&self) -> VaultId {
        *self.vault.keys.vault()
    }

    async fn carry_out(&self, action: Action) -> Result<Height, Error> {
        let notice = |text: &str| self.client.ctx.notice(text);
        self.vault.ledger.carry_out(self.vault.keys.signing(), action, &notice).await
    }

    async fn generation(&self, scope: ScopeTag) -> Result<u32, Error> {
        match self.desks.agreed(&Question::Generation { vault: self.id(), scope }).await? {
            Answer::Generation(generation) => Ok(generation),
            _ => Err(wrong_answer()),
        }
    }

    /// Refuses what makes no sense in a vault that was erased.
    async fn require_alive(&self) -> Result<(), Error> {
        self.vault.ledger.vault_erased(self.id()).await?.map_or(Ok(()), |height| Err(ended(height)))
    }

    async fn grant(&self, package: &KeyPackage, terms: GrantTerms) -> Result<GrantReport, Error> {
        let refuse = |message: &str| Error::new(ErrorKind::Refused, message);
        if package.network != self.vault.ledger.genesis().network {
            return Err(refuse("the key package is for another network"));
        }
        package
            .verify()
            .map_err(|wrong| refuse("the key package's signature is not good").caused_by(wrong))?;
        if package.expires <= crate::runtime::wall_time() {
            return Err(refuse("the key package has expired").with_hint("ask for a new one"));
        }
        self.give(package, terms).await
    }

    /// Gives a grant to the maker of a key package that is good.
    async fn give(&self, package: &KeyPackage, terms: GrantTerms) -> Result<GrantReport, Error> {
        let id = GrantId(random()?);
        // Noted before it is on the ledger, so that it can be given again after a rotation of the vault's keys.
        let notes = [renew::note_of(&id, package)];
        self.client.ctx.index.with(move |index| index.note(&notes)).await?;
        let to = Grantee { auth: package.auth, seal: &package.seal, name: &package.name };
        self.grant_to(id, &to, terms, None).await.map_err(|error| {
            if is_rejection(&error, Rejection::GranteeKnown) {
                return Error::new(ErrorKind::Refused, "the key package has served for a grant already")
                    .with_hint("ask for a new one");
            }
            error
        })
    }

    /// Grants to whoever holds a card that is made for this grant, in emergencies.
    async fn grant_emergency(
        &self,
        terms: GrantTerms,
        policy: EmergencyPolicy,
    ) -> Result<GrantReport, Error> {
        policy.check().map_err(|violation| {
            Error::new(ErrorKind::Invalid, "these are no terms for emergencies")
                .with_hint("see `xvault grant --help` for the bounds")
                .caused_by(violation)
        })?;
        let grant = GrantId(random()?);
        let (auth, seal) = self.vault.keys.access().card(&grant).keys();
        let to = Grantee { auth: auth.public(), seal: seal.public(), name: "emergency" };
        self.grant_to(grant, &to, terms, Some(policy)).await
    }

    async fn grant_to(
        &self,
        id: GrantId,
        to: &Grantee<'_>,
        terms: GrantTerms,
        emergency: Option<EmergencyPolicy>,
    ) -> Result<GrantReport, Error> {
        if terms.scopes.is_empty() || terms.scopes.len() > MAX_GRANT_SCOPES {
            let message = format!("a grant has 1 to {MAX_GRANT_SCOPES} scopes");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if terms.scopes.iter().any(|(path, _)| *path == own_scope()) {
            return Err(Error::new(ErrorKind::Invalid, "nobody is let into the owner's own scope"));
        }
        if terms.expires <= terms.not_before || terms.expires <= crate::runtime::wall_time() {
            return Err(Error::new(ErrorKind::Invalid, "the grant would be over before it begins"));
        }
        if terms.note.len() > MAX_NOTE_LEN || terms.note.chars().any(char::is_control) {
            let message = format!("a note has at most {MAX_NOTE_LEN} bytes and no control characters");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let appends = terms.rights.include(Rights::APPEND);
        if appends != terms.append_bytes.is_some_and(|bytes| bytes > 0) || (appends && emergency.is_some()) {
            let message = "a right to append has a bound of bytes, and is none of emergencies";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let scopes = terms.scopes.iter().map(|(path, scope)| noted_scope(path, scope));
        let scopes = scopes.collect::<Result<Vec<_>, _>>()?;
        self.require_alive().await?;
        let access = self.shared().await?;
        // Who only brings records has no use for slots of those that are there, and gets no key.
        let reads = terms.rights.include(Rights::READ) || terms.rights.include(Rights::LIST);
        if reads {
            for (path, _) in &terms.scopes {
                self.learn_slots(path).await?;
            }
            self.withdraw(None).await?;
        }
        let (mut brought, mut covered) = (0, BTreeSet::new());
        let mut granted = Vec::new();
        let mut bodies = Vec::new();
        let keys = self.vault.keys.access();
        for (path, scope) in &terms.scopes {
            let tag = keys.scope_tag(path);
            let generation = self.generation(tag).await?;
            granted.push(GrantedScope { scope: tag, first: generation, last: generation });
            if !reads {
                continue;
            }
            let found = self.bring(&access, path, scope, None).await?;
            brought += found.new;
            covered.extend(found.of_days(terms.days));
            let key = keys.scope_key(path, generation);
            let days = key.cover(terms.days);
            bodies.push(BodyScope { path: path.clone(), scope: tag, generation, list: key.list_key(), days });
        }
        granted.sort_by_key(|scope| scope.scope);
        granted.dedup_by_key(|scope| scope.scope);
        let mut grant = Grant {
            vault: self.id(),
            grant: id,
            grantee: to.auth,
            scopes: granted,
            rights: terms.rights,
            not_before: terms.not_before,
            expires: terms.expires,
            quota: terms.quota,
            append_bytes: terms.append_bytes,
            body: Hash([0; 32]),
            emergency,
        };
        let body = GrantBody {
            vault: self.id(),
            owner: self.vault.keys.signing().public(),
            dealing: access.sharing.dealing,
            key: *keys.prf_key(access.sharing.dealing).public().as_bytes(),
            scopes: bodies,
            inbox: appends.then(|| Inbox {
                key: keys.inbox().public().clone(),
                scopes: scopes.iter().map(|scope| scope.meaning.clone()).collect(),
            }),
            note: terms.note.clone(),
        };
        let plain = zeroize::Zeroizing::new(body.encode());
        let sealed = to.seal.seal(Purpose::Grant, &GrantBody::context(&grant), &plain, &random()?);
        grant.body = body_hash(&sealed);
        let deposit = DeskRequest::Deposit { vault: self.id(), kind: DepositKind::GrantBody, bytes: sealed };
        self.desks.have_kept(&self.vault.ledger.roster(), &deposit, &grant.body.0).await?;
        // Noted before it is on the ledger: records that are put from here on join its scopes.
        let noted = NotedGrant {
            grant: id,
            name: to.name.to_owned(),
            scopes,
            days: (terms.days.first(), terms.days.last()),
            note: terms.note,
        };
        self.note_grant(&noted, reads).await?;
        let height = self.carry_out(Action::Grant(grant)).await?;
        Ok(GrantReport { grant: id, height, brought, covered: covered.len(), reads })
    }

    /// Notes a grant, and if its scopes are read that records are to join them.
    async fn note_grant(&self, noted: &NotedGrant, reads: bool) -> Result<(), Error> {
        let full = self.client.access_notes().await?.grants.len() >= MAX_NOTED_GRANTS;
        let standing: Option<BTreeSet<GrantId>> = if full {
            let standing = self.rows().await?.into_iter().filter(|row| row.revoked.is_none());
            Some(standing.map(|row| row.grant.grant).collect())
        } else {
            None
        };
        self.client
            .change_access_notes(|notes| {
                let joined = noted.scopes.iter().filter(|_| reads);
                joined.for_each(|scope| put_scope(&mut notes.granted, scope.clone()));
                if notes.granted.len() > MAX_VAULT_SCOPES {
                    let message = format!("{MAX_VAULT_SCOPES} scopes were granted, and no more can be");
                    return Err(Error::new(ErrorKind::Refused, message)
                        .with_hint("name what is granted often with `xvault scope define`"));
                }
                if let Some(standing) = &standing {
                    notes.grants.retain(|known| standing.contains(&known.grant));
                }
                notes.put_grant(noted.clone());
                Ok(())
            })
            .await
    }

    async fn revoke(&self, grant: GrantId, acknowledged: impl FnOnce(Duration)) -> Result<Revoked, Error> {
        let known = self.rows().await?.into_iter().find(|row| row.grant.grant == grant);
        let known = known.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the vault has no such grant").with_hint("see `xvault grants`")
        })?;
        if let Some(height) = known.revoked {
            let message = format!("the grant is revoked already, since block {height}");
            return Err(Error::new(ErrorKind::Refused, message));
        }
        self.require_alive().await?;
        // Who asks those who were static nodes once hears that they have it, and it does not count. If nobody answers, the
        // question below says so.
        drop(self.vault.ledger.follow().await);
        let roster = self.vault.ledger.roster();
        let former = self.former(&roster).await?;
        self.desks.follow_both(&roster, former.as_ref().unwrap_or(&roster));
        let begun = Instant::now();
        let author = self.vault.keys.signing();
        let Answer::Nonce(nonce) =
            self.vault.ledger.ask(&Question::Nonce { author: author.public() }).await?
        else {
            return Err(wrong_answer());
        };
        let expires = Height(self.vault.ledger.tip().await?.record.height.0 + LIFE_BLOCKS);
        let action = Action::Revoke { vault: self.id(), grant };
        let network = self.vault.ledger.genesis().network;
        let transaction =
            Transaction { network, author: author.public(), nonce, expires, action: action.clone() };
        let signed = transaction.sign(author);
        let request = DeskRequest::Revoke(signed.bytes().to_vec());
        self.desks.have_kept(&roster, &request, &signed.id().0).await?;
        // Those who have the key still, if they are others: while a quorum of them does not say so, it counts when it is final.
        let all_know = match &former {
            Some(former) => self.desks.have_kept(former, &request, &signed.id().0).await.is_ok(),
            None => true,
        };
        let (after, mut acknowledged) = (begun.elapsed(), Some(acknowledged));
        if let Some(acknowledged) = acknowledged.take_if(|_| all_know) {
            acknowledged(after);
        }
        let height = self.settle(&signed, action).await?;
        let settled = begun.elapsed();
        let after = if all_know { after } else { settled };
        if let Some(acknowledged) = acknowledged {
            acknowledged(after);
        }
        Ok(Revoked { acknowledged: after, settled, height })
    }

    /// The static nodes that have the vault's key, if they are others than those of now.
    async fn former(&self, present: &Roster) -> Result<Option<Roster>, Error> {
        match self.desks.access(self.id()).await? {
            Some(access) if access.sharing.roster != present.hash() => {
                self.desks.roster(access.sharing.roster).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Has the transaction final, or another of the same action if its number was taken.
    async fn settle(&self, signed: &SignedTransaction, action: Action) -> Result<Height, Error> {
        let notice = |text: &str| self.client.ctx.notice(text);
        match self.vault.ledger.settle(signed, &notice).await? {
            Verdict::Final { height } => Ok(height),
            Verdict::Rejected(Rejection::WrongNonce { .. }) => self.carry_out(action).await,
            Verdict::Rejected(rejection) => Err(refused(&rejection)),
        }
    }

    async fn grants(&self) -> Result<Vec<Granted>, Error> {
        let rows = self.rows().await?;
        // What is on the ledger is shown also where nobody can say what it is about.
        let notes = self.client.access_notes().await.unwrap_or_else(|error| {
            self.client.ctx.notice(&format!("what the grants are about cannot be read now: {error}"));
            AccessNotes::default()
        });
        let granted =
            rows.into_iter().map(|row| Granted { about: notes.grant(&row.grant.grant).cloned(), row });
        let mut granted: Vec<_> = granted.collect();
        granted.sort_by_key(|granted| granted.row.height);
        Ok(granted)
    }

    /// The grants as the ledger has them.
    async fn rows(&self) -> Result<Vec<GrantRow>, Error> {
        let mut rows: Vec<GrantRow> = Vec::new();
        loop {
            let after = rows.last().map(|row| row.grant.grant);
            let question = Question::Grants { vault: self.id(), after };
            let Answer::Grants(page) = self.vault.ledger.ask(&question).await? else {
                return Err(wrong_answer());
            };
            // In ascending order, so that it ends.
            let page: Vec<_> = page.into_iter().filter(|row| Some(row.grant.grant) > after).collect();
            if page.is_empty() {
                return Ok(rows);
            }
            rows.extend(page);
        }
    }
}

/// Whether the commitments of a dealing are those that the ledger names.
pub(super) fn is_named(access: &Access, commitments: &Commitments) -> bool {
    commitments_hash(commitments) == access.sharing.commitments
}

/// All days there are.
#[must_use]
pub fn every_day() -> DayRange {
    match DayRange::new(Day(0), Day(u16::MAX)) {
        Some(range) => range,
        None => unreachable!("from the first day to the last"),
    }
}
