//! Break-glass on a real network: who opens what, when, and that the owner sees it.

use std::path::Path;

use xvault::client::access::{GrantTerms, HeldCard, SeenEmergency, Shared, emergency};
use xvault::client::{Client, ClientConfig, Error, ErrorKind, LedgerClient, PutOptions};
use xvault::ledger::rows::EmergencyState;
use xvault::message::access::{Denial, EmergencyCard, EmergencyPolicy, RoleCertificate};
use xvault::message::{CertificateFault, Rejection};
use xvault::types::{GrantId, PublicKey, Timestamp};

use crate::people::{Apart, at, config, content, denial, devnet, labelled, later, names, put, read, terms};
use crate::statics::eventually;

/// The person whose certificates count.
const AUTHORITY: u8 = 10;
const GUARDIAN: u8 = 11;

fn key(config: &ClientConfig) -> PublicKey {
    config.keys.signing().public()
}

fn policy(authority: &ClientConfig, vetoers: Vec<PublicKey>) -> EmergencyPolicy {
    EmergencyPolicy {
        authorities: vec![key(authority)],
        approvals: 2,
        institutions: 2,
        delay: 3,
        lasts: 600,
        quota: 2,
        vetoers,
    }
}

/// Nobody has to approve, and there is no delay.
fn at_once(authority: &ClientConfig) -> EmergencyPolicy {
    EmergencyPolicy { approvals: 0, institutions: 1, delay: 0, ..policy(authority, vec![]) }
}

fn vital() -> GrantTerms {
    terms(&["label:vital"])
}

fn certify(authority: &ClientConfig, holder: &ClientConfig, institution: &str) -> RoleCertificate {
    emergency::certify(authority, key(holder), institution, "physician", later(3_600)).unwrap()
}

fn rejection(error: &Error) -> Option<Rejection> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<Rejection>()).copied()
}

async fn held(config: &ClientConfig, grant: GrantId) -> HeldCard {
    let held = emergency::held(config).await.unwrap();
    held.into_iter().find(|held| held.card.grant == grant).unwrap()
}

/// What somebody sees who has a card and not asked with it.
async fn unasked(config: &ClientConfig, card: &EmergencyCard) -> Shared {
    let held = HeldCard { card: card.clone(), request: None, salt: [0; 16], reason: "none".into() };
    Shared::open_in_emergency(config.clone(), &held).await.unwrap()
}

async fn seen(ledger: &LedgerClient, card: &EmergencyCard) -> Vec<SeenEmergency> {
    emergency::list(ledger, card.vault).await.unwrap()
}

async fn owner_with_records(dir: &Path, network: &xvault::types::Network) -> Client {
    let owner = Client::open(config(dir, network, 1)).await.unwrap();
    put(&owner, "vital/allergies", 700, labelled("vital")).await;
    put(&owner, "vital/blood-group", 40, labelled("vital")).await;
    put(&owner, "counselling/notes", 900, labelled("private")).await;
    owner
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clinician_reads_the_emergency_scope_after_approval_and_delay_and_the_owner_is_told_and_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = owner_with_records(dir.path(), &network).await;
    let person = |nth| config(dir.path(), &network, nth);
    let (authority, doctor, colleague, surgeon) = (person(AUTHORITY), person(2), person(3), person(4));
    let report = owner.grant_emergency(vital(), policy(&authority, vec![])).await.unwrap();
    assert_eq!(report.covered, 2);
    let card = owner.emergency_card(report.grant).await.unwrap();
    assert_eq!(owner.emergency_news().await.unwrap(), []);

    // The card alone opens nothing, and tells nothing.
    let early = unasked(&doctor, &card).await;
    assert_eq!(denial(&early.list().await.unwrap_err()), Some(Denial::NotActivated));

    let good = certify(&authority, &doctor, "clinic-north");
    let foreign = certify(&person(5), &doctor, "clinic-north");
    let refused = emergency::ask(&doctor, &card, &foreign, "unconscious").await.unwrap_err();
    let fault = CertificateFault::Authority;
    assert_eq!(rejection(&refused), Some(Rejection::NotCertified { fault }), "{refused}");
    let others = emergency::ask(&colleague, &card, &good, "unconscious").await.unwrap_err();
    assert_eq!(others.kind(), ErrorKind::Refused, "{others}");
    let asked = emergency::ask(&doctor, &card, &good, "unconscious").await.unwrap();
    eventually(
        "asking again is no other emergency",
        async || matches!(emergency::ask(&doctor, &card, &good, "again").await, Ok(again) if again == asked),
    )
    .await;
    let held = held(&doctor, report.grant).await;
    assert_eq!((held.request, held.reason.as_str()), (Some(asked.request), "unconscious"));
    let shared = Shared::open_in_emergency(doctor.clone(), &held).await.unwrap();
    assert_eq!(denial(&shared.list().await.unwrap_err()), Some(Denial::NotActivated));

    let mut news = Vec::new();
    eventually("the owner is told that somebody asked", async || {
        news = owner.emergency_news().await.unwrap();
        news.len() == 1
    })
    .await;
    assert_eq!((news[0].request, news[0].state), (asked.request, EmergencyState::Waiting));
    assert_eq!((&*news[0].row.requester.institution, news[0].row.approvals.len()), ("clinic-north", 0));
    owner.told_of_emergencies(&news).await.unwrap();
    assert_eq!(owner.emergency_news().await.unwrap(), [], "once");

    let own = emergency::approve(&doctor, card.vault, asked.request, &good).await.unwrap_err();
    assert_eq!(rejection(&own), Some(Rejection::OwnApproval), "{own}");
    let approve = async |who: &ClientConfig, institution: &str| {
        let certificate = certify(&authority, who, institution);
        emergency::approve(who, card.vault, asked.request, &certificate).await.unwrap();
    };
    approve(&colleague, "clinic-north").await;
    assert_eq!(denial(&shared.list().await.unwrap_err()), Some(Denial::NotActivated));
    approve(&surgeon, "clinic-south").await;
    let mut records = Vec::new();
    eventually("it opens once the ledger's time has come so far", async || match shared.list().await {
        Ok(found) => {
            records = found;
            true
        }
        Err(error) => {
            assert_eq!(denial(&error), Some(Denial::NotActivated), "{error}");
            false
        }
    })
    .await;
    assert_eq!(names(&records), ["vital/allergies", "vital/blood-group"], "and no other record");
    assert_eq!(read(&shared, &records[0]).await.unwrap(), content("vital/allergies", 700));
    assert_eq!(read(&shared, &records[1]).await.unwrap(), content("vital/blood-group", 40));
    let more = read(&shared, &records[0]).await.unwrap_err();
    assert_eq!(denial(&more), Some(Denial::OverEmergencyQuota), "{more}");
    // Somebody else with the card, and with the emergency's number.
    let thief = Shared::open_in_emergency(person(6), &held).await.unwrap();
    let refused = thief.list().await.unwrap_err();
    assert_eq!(denial(&refused), Some(Denial::NotTheGrantee), "{refused}");

    let ledger = LedgerClient::new(&network, owner_key(&person(1))).unwrap();
    eventually("each opening is on the ledger, once", async || {
        let found = seen(&ledger, &card).await;
        let openings = emergency::openings(&ledger, asked.request).await.unwrap();
        found[0].row.records == 2 && openings.iter().filter(|(_, row)| row.records == 1).count() == 2
    })
    .await;
    let news = owner.emergency_news().await.unwrap();
    assert_eq!((news[0].state, news[0].row.approvals.len()), (EmergencyState::Active, 2));
    let log = owner.access_log().await.unwrap();
    let opened = |path: &str| {
        log.iter().any(|event| {
            event.denial().is_none()
                && event.emergency == Some(asked.request)
                && event.items.iter().any(|item| item == path)
        })
    };
    assert!(opened("xv://vital/allergies") && opened("xv://vital/blood-group"), "{log:?}");
    assert!(log.iter().any(|event| event.denial() == Some(Denial::NotActivated)), "also what was denied");

    let mut told = false;
    let veto = emergency::veto(&person(1), card.vault, asked.request, |_| told = true).await.unwrap();
    assert!(told && veto.acknowledged <= veto.settled);
    assert_eq!(denial(&read(&shared, &records[0]).await.unwrap_err()), Some(Denial::Vetoed));
    assert!(shared.list().await.is_err());
    let twice = async || emergency::veto(&person(1), card.vault, asked.request, |_| ()).await.unwrap_err();
    eventually("a veto counts once", async || twice().await.kind() == ErrorKind::Refused).await;
    owner.close().await;
    devnet.stop().await;
}

fn owner_key(config: &ClientConfig) -> &xvault::crypto::sign::KeyPair {
    config.keys.signing()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guardian_vetoes_in_the_delay_and_an_emergency_ends_by_itself_or_with_its_grant() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = owner_with_records(dir.path(), &network).await;
    let person = |nth| config(dir.path(), &network, nth);
    let (authority, doctor, guardian) = (person(AUTHORITY), person(2), person(GUARDIAN));
    let certificate = certify(&authority, &doctor, "clinic-north");
    let break_glass = async |policy: EmergencyPolicy| {
        let grant = owner.grant_emergency(vital(), policy).await.unwrap().grant;
        let card = owner.emergency_card(grant).await.unwrap();
        (grant, card)
    };
    let open = async |card: &EmergencyCard| {
        let asked = emergency::ask(&doctor, card, &certificate, "unconscious").await.unwrap();
        let shared =
            Shared::open_in_emergency(doctor.clone(), &held(&doctor, card.grant).await).await.unwrap();
        (asked, shared)
    };

    // It lasts so short that it may be over before anybody looks.
    let (_, card) = break_glass(EmergencyPolicy { lasts: 1, ..at_once(&authority) }).await;
    let (asked, shared) = open(&card).await;
    eventually(
        "it ends by itself",
        async || matches!(shared.list().await, Err(error) if denial(&error) == Some(Denial::NotActivated)),
    )
    .await;
    let ledger = LedgerClient::new(&network, owner_key(&doctor)).unwrap();
    eventually("and stays to be seen", async || {
        seen(&ledger, &card)
            .await
            .iter()
            .any(|seen| seen.request == asked.request && seen.state == EmergencyState::Over)
    })
    .await;

    let waits = EmergencyPolicy { delay: 3_600, vetoers: vec![key(&guardian)], ..at_once(&authority) };
    let (grant, card) = break_glass(waits).await;
    let mut asked = None;
    eventually("the one before is over", async || {
        // One clinician has one emergency of a vault at a time.
        match emergency::ask(&doctor, &card, &certificate, "unconscious").await {
            Ok(found) => asked = Some(found),
            Err(error) => assert_eq!(rejection(&error), Some(Rejection::TooManyEmergencies), "{error}"),
        }
        asked.is_some()
    })
    .await;
    let (asked, card_held) = (asked.unwrap(), held(&doctor, grant).await);
    let shared = Shared::open_in_emergency(doctor.clone(), &card_held).await.unwrap();
    eventually("its delay runs", async || {
        seen(&ledger, &card).await.iter().any(|seen| seen.state == EmergencyState::Delayed)
    })
    .await;
    let stranger = emergency::veto(&person(7), card.vault, asked.request, |_| ()).await.unwrap_err();
    assert_eq!(rejection(&stranger), Some(Rejection::MayNotVeto), "{stranger}");
    emergency::veto(&guardian, card.vault, asked.request, |_| ()).await.unwrap();
    assert_eq!(denial(&shared.list().await.unwrap_err()), Some(Denial::NotActivated));
    let again = emergency::ask(&doctor, &card, &certificate, "again").await.unwrap_err();
    assert_eq!(rejection(&again), Some(Rejection::TooManyEmergencies), "{again}");

    let (grant, card) = break_glass(at_once(&authority)).await;
    owner.revoke(grant, |_| ()).await.unwrap();
    let ended = emergency::ask(&person(3), &card, &certify(&authority, &person(3), "a"), "x").await;
    let ended = ended.unwrap_err();
    assert_eq!(rejection(&ended), Some(Rejection::GrantNotInForce), "{ended}");
    assert_eq!(owner.emergency_card(grant).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(owner.emergency_card(GrantId([9; 16])).await.unwrap_err().kind(), ErrorKind::NotFound);
    let wrong = EmergencyPolicy { institutions: 2, ..at_once(&authority) };
    let wrong = owner.grant_emergency(vital(), wrong).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
    owner.close().await;
    devnet.stop().await;
}

/// Below a threshold of static nodes nothing opens, and who asks is told what to do instead.
#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_fails_closed_where_too_few_static_nodes_answer() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let mut devnet = Apart::from(devnet, dir.path()).await;
    let owner = owner_with_records(dir.path(), &network).await;
    let person = |nth| config(dir.path(), &network, nth);
    let (authority, doctor) = (person(AUTHORITY), person(2));
    let many = EmergencyPolicy { quota: 100, ..at_once(&authority) };
    let grant = owner.grant_emergency(vital(), many).await.unwrap().grant;
    let card = owner.emergency_card(grant).await.unwrap();
    let certificate = certify(&authority, &doctor, "clinic-north");
    emergency::ask(&doctor, &card, &certificate, "unconscious").await.unwrap();
    let shared = Shared::open_in_emergency(doctor.clone(), &held(&doctor, grant).await).await.unwrap();
    let mut records = Vec::new();
    eventually("it opens at once", async || {
        records = shared.list().await.unwrap_or_default();
        !records.is_empty()
    })
    .await;
    devnet.stop(0).await;
    eventually("with three of four as well", async || read(&shared, &records[0]).await.is_ok()).await;
    devnet.stop(1).await;
    let closed = read(&shared, &records[0]).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable, "{closed}");
    assert!(closed.hint().is_some_and(|hint| hint.contains("local emergency summary")), "{closed:?}");
    // What those who were away have to say is said when they are back.
    devnet.start(0).await;
    devnet.start(1).await;
    let ledger = LedgerClient::new(&network, owner_key(&doctor)).unwrap();
    eventually(
        "all openings are on the ledger in the end",
        async || matches!(emergency::list(&ledger, card.vault).await, Ok(found) if found[0].row.records >= 1),
    )
    .await;
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_card_serves_its_recipient_and_a_late_record_is_in_the_emergency_too() {
    let dir = tempfile::tempdir().unwrap();
    let devnet = devnet(dir.path()).await;
    let network = devnet.network().clone();
    let owner = owner_with_records(dir.path(), &network).await;
    let person = |nth| config(dir.path(), &network, nth);
    let (authority, doctor) = (person(AUTHORITY), person(2));
    let grant = owner.grant_emergency(vital(), at_once(&authority)).await.unwrap().grant;
    let package =
        xvault::client::access::grantee::key_package(&doctor, "Emergency department", later(60)).unwrap();
    let card = owner.emergency_card(grant).await.unwrap();
    let sealed = card.seal(package.number, &package.seal, &[7; 64]);
    let key_of = |config: &ClientConfig| config.keys.access().grantee(sealed.number).1;
    assert!(sealed.open(&key_of(&person(3))).is_err());
    let card = sealed.open(&key_of(&doctor)).unwrap();
    put(&owner, "vital/implants", 300, labelled("vital")).await;
    put(&owner, "vital/hobbies", 300, PutOptions::default()).await;
    assert_eq!(owner.join_scopes(Some(&[at("vital/implants"), at("vital/hobbies")])).await.unwrap(), 1);
    let certificate = certify(&authority, &doctor, "clinic-north");
    emergency::ask(&doctor, &card, &certificate, "unconscious").await.unwrap();
    let shared = Shared::open_in_emergency(doctor.clone(), &held(&doctor, grant).await).await.unwrap();
    eventually("it opens", async || {
        matches!(shared.list().await, Ok(found)
            if names(&found) == ["vital/allergies", "vital/blood-group", "vital/implants"])
    })
    .await;
    let expired = emergency::certify(
        &authority,
        key(&person(3)),
        "clinic-north",
        "physician",
        Timestamp::from_unix_millis(1),
    );
    let refused = emergency::ask(&person(3), &card, &expired.unwrap(), "x").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let wrong = emergency::certify(&authority, key(&doctor), "Clinic North", "physician", later(60));
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Invalid);
    for wrong in ["", "a\nb", &"x".repeat(1_025)] {
        let reason = emergency::ask(&doctor, &card, &certificate, wrong).await.unwrap_err();
        assert_eq!(reason.kind(), ErrorKind::Invalid);
    }
    owner.close().await;
    devnet.stop().await;
}
