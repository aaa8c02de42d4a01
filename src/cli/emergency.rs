//! `xvault emergency`: break-glass, for owners, clinicians and who may veto.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::access::read_package;
use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::input;
use crate::cli::output::escape;
use crate::cli::parse::{parse_grant, parse_span};
use crate::cli::role::read_certificate;
use crate::cli::session::Session;
use crate::client::access::{SeenEmergency, emergency};
use crate::client::{Client, ClientConfig};
use crate::ledger::rows::{Clinician, EmergencyState};
use crate::message::access::{EmergencyCard, EmergencyPolicy, KeyPackage, SealedCard};
use crate::runtime::wall_time;
use crate::types::{GrantId, PublicKey, Timestamp, TransactionId, VaultId};

/// Bytes of a reason that are read: more than one may have.
const MAX_REASON_TEXT: u64 = 4_096;
/// Bytes of a card's text that are read: a sealed one has two thousand.
const MAX_CARD_TEXT: u64 = 16 << 10;

/// Emergencies: grants that open when clinicians ask for it and others approve, unless the owner forbids it.
///
/// The owner makes one with `xvault grant --emergency` and gives its card away. Whoever has the card and a role certificate asks
/// (`request`); others with certificates approve; the owner, and whom the grant names for that, may veto until it opens and
/// while it is open. Each request, approval and opening is on the ledger, and every command of the owner tells of new ones.
/// It opens only while two thirds of the static nodes answer: hospitals should keep local emergency summaries as well.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the card of an emergency grant of this vault.
    Card(CardArgs),
    /// Ask that the grant of a card opens. Then `ls`, `get` and `cat` read with --grant, once it does.
    Request(RequestArgs),
    /// Approve an emergency that another clinician asked for.
    Approve(ApproveArgs),
    /// Forbid an emergency. From the moment that this says so, nothing is opened in it.
    Veto(VetoArgs),
    /// List the emergencies of a vault: what each waits for, until when it can be forbidden, and what was opened.
    Ls(ListArgs),
    /// List the cards that this home has used, with the reasons that it gave: the owner may ask for them.
    Held,
}

/// Arguments of `emergency card`.
#[derive(Debug, clap::Args)]
pub(crate) struct CardArgs {
    /// The grant, as `xvault grants` lists it.
    #[arg(value_name = "GRANT", value_parser = parse_grant)]
    grant: GrantId,
    /// Write to this new file, which only you can read: a card is a secret, unless it is made --for somebody.
    #[arg(short, long, required = true, value_name = "FILE")]
    output: PathBuf,
    /// Seal it to this key package, as of an emergency department: then only its owner can use the card.
    ///
    /// The package (`xvault access request`) serves for as many cards as one likes.
    #[arg(long = "for", value_name = "PACKAGE")]
    recipient: Option<PathBuf>,
}

/// Arguments of `emergency request`.
#[derive(Debug, clap::Args)]
pub(crate) struct RequestArgs {
    /// The file of the card.
    #[arg(value_name = "CARD")]
    card: PathBuf,
    /// The role certificate of this home's key.
    #[arg(long, required = true, value_name = "FILE")]
    certificate: PathBuf,
    /// Why. The ledger has a hash of it; the words stay in this home.
    #[arg(
        long,
        value_name = "WORDS",
        required_unless_present = "reason_file",
        conflicts_with = "reason_file"
    )]
    reason: Option<String>,
    /// Why, in a file, or - for standard input: others on this machine can see arguments.
    #[arg(long, value_name = "FILE")]
    reason_file: Option<PathBuf>,
}

/// Arguments of `emergency approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArgs {
    /// The vault, as `emergency request` prints it.
    #[arg(value_name = "VAULT")]
    vault: VaultId,
    /// The emergency, as printed there.
    #[arg(value_name = "REQUEST")]
    request: TransactionId,
    /// The role certificate of this home's key.
    #[arg(long, required = true, value_name = "FILE")]
    certificate: PathBuf,
}

/// Arguments of `emergency veto`.
#[derive(Debug, clap::Args)]
pub(crate) struct VetoArgs {
    /// The emergency, as `emergency ls` lists it.
    #[arg(value_name = "REQUEST")]
    request: TransactionId,
    /// The vault, if it is not yours.
    #[arg(long, value_name = "VAULT")]
    vault: Option<VaultId>,
}

/// Arguments of `emergency ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// The vault, if it is not yours.
    #[arg(long, value_name = "VAULT")]
    vault: Option<VaultId>,
    /// Also those that are over.
    #[arg(long)]
    all: bool,
}

/// Arguments of `grant` for emergencies.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Emergencies")]
pub(crate) struct Terms {
    /// It opens in emergencies only, to who has the card that `xvault emergency card` makes.
    ///
    /// There is no key package then, and the scope is the one named `emergency` if none is said. Clinicians whose keys an
    /// authority certified ask and approve, as said below.
    #[arg(long)]
    emergency: bool,
    /// A key whose role certificates count; may be given several times.
    #[arg(long, value_name = "KEY", requires = "emergency")]
    authority: Vec<PublicKey>,
    /// Clinicians who must approve, besides the one who asks.
    #[arg(long, value_name = "N", default_value = "2", requires = "emergency")]
    approvals: u8,
    /// Institutions among those who ask and approve [default: 2, or 1 if nobody must approve].
    #[arg(long, value_name = "N", requires = "emergency")]
    institutions: Option<u8>,
    /// From the request until it opens: time to veto, as 30m, 24h or 3d.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_span, requires = "emergency")]
    delay: u32,
    /// For how long it opens then.
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = parse_span, requires = "emergency")]
    lasts: u32,
    /// Records that may be opened in one emergency.
    #[arg(long, value_name = "N", default_value = "20", requires = "emergency")]
    records: u32,
    /// A key that may veto besides yours; may be given several times.
    #[arg(long, value_name = "KEY", requires = "emergency")]
    veto: Vec<PublicKey>,
}

impl Terms {
    /// The terms, if it is a grant for emergencies.
    pub(crate) fn policy(&self) -> Result<Option<EmergencyPolicy>, Failure> {
        if !self.emergency {
            return Ok(None);
        }
        if self.authority.is_empty() {
            let hint =
                "name with --authority whose role certificates count: `xvault key show` prints such a key";
            return Err(Failure::usage("an emergency grant needs an authority").hint(hint));
        }
        let sorted = |keys: &[PublicKey]| {
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            keys.dedup();
            keys
        };
        Ok(Some(EmergencyPolicy {
            authorities: sorted(&self.authority),
            approvals: self.approvals,
            institutions: self.institutions.unwrap_or(if self.approvals == 0 { 1 } else { 2 }),
            delay: self.delay,
            lasts: self.lasts,
            quota: self.records,
            vetoers: sorted(&self.veto),
        }))
    }
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Card(args) => session.with_client(async |client| card(session, client, &args).await),
        Command::Request(args) => request(session, &args),
        Command::Approve(args) => approve(session, &args),
        Command::Veto(args) => veto(session, &args),
        Command::Ls(args) => list(session, &args),
        Command::Held => held(session),
    }
}

async fn card(session: &Session, client: &Client, args: &CardArgs) -> anyhow::Result<Exit> {
    let card = client.emergency_card(args.grant).await?;
    let package = args.recipient.as_deref().map(read_package).transpose()?;
    let text = match &package {
        Some(package) => {
            check(package, &card)?;
            let mut random = Zeroizing::new([0; 64]);
            getrandom::fill(&mut *random)?;
            Zeroizing::new(card.seal(package.number, &package.seal, &random).to_text())
        }
        None => card.to_text(),
    };
    write_secret(&args.output, text.as_bytes())?;
    let (output, shown) = (session.output(), args.output.display());
    if output.is_json() {
        output.json(&json!({
            "v": 1, "grant": args.grant.to_string(), "path": args.output,
            "sealed_for": package.as_ref().map(|package| &package.name),
        }))?;
        return Ok(Exit::Ok);
    }
    output.note(match &package {
        Some(package) => format!("wrote {shown}: only {} can use it", escape(&package.name)),
        None => format!(
            "wrote {shown}: whoever has it can ask for an emergency, and read what opens then; keep it as you keep a key"
        ),
    });
    Ok(Exit::Ok)
}

/// The package is of the card's network, and its owner counts on it still.
fn check(package: &KeyPackage, card: &EmergencyCard) -> Result<(), Failure> {
    if package.network != card.network {
        return Err(Failure::refused("the key package is for another network"));
    }
    if package.expires <= wall_time() {
        return Err(Failure::refused("the key package has expired").hint("ask for a new one"));
    }
    Ok(())
}

/// Writes a new file that only this user can read.
fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(bytes)).map_err(|error| {
        let shown = path.display();
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Failure::refused(format!("{shown} exists")).hint("name another file");
        }
        Failure::new(Exit::Failed, format!("cannot write {shown}: {error}"))
    })
}

/// Reads the file of a card; one that is sealed is opened with this home's keys.
fn read_card(path: &Path, config: &ClientConfig) -> Result<EmergencyCard, Failure> {
    let shown = path.display();
    let mut text = Zeroizing::new(String::new());
    input::short_text(path, MAX_CARD_TEXT, &mut text)?;
    if let Ok(card) = EmergencyCard::from_text(&text) {
        return Ok(card);
    }
    let sealed = SealedCard::from_text(&text).map_err(|_| {
        Failure::new(Exit::Corrupt, format!("{shown} is no emergency card, or was changed"))
            .hint("its owner makes one with `xvault emergency card`")
    })?;
    let (_, key) = config.keys.access().grantee(sealed.number);
    sealed.open(&key).map_err(|_| {
        Failure::refused(format!("{shown} is sealed to a key package of another home"))
            .hint("use the home in which the key package was made")
    })
}

/// The reason, from where it was said.
fn reason(args: &RequestArgs) -> anyhow::Result<String> {
    let Some(path) = &args.reason_file else { return Ok(args.reason.clone().unwrap_or_default()) };
    let (mut text, limit) = (String::new(), MAX_REASON_TEXT);
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        input::open(path)?.take(limit).read_to_string(&mut text)
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn request(session: &Session, args: &RequestArgs) -> anyhow::Result<Exit> {
    let config = session.client_config()?;
    let (card, certificate) = (read_card(&args.card, &config)?, read_certificate(&args.certificate)?);
    let reason = reason(args)?;
    let asked = session.run(async { Ok(emergency::ask(&config, &card, &certificate, &reason).await?) })?;
    let output = session.output();
    let policy = &asked.policy;
    if output.is_json() {
        output.json(&json!({
            "v": 1, "vault": asked.vault.to_string(), "request": asked.request.to_string(),
            "grant": asked.grant.to_string(), "approvals": policy.approvals,
            "institutions": policy.institutions, "delay_s": policy.delay, "lasts_s": policy.lasts,
            "records": policy.quota,
        }))?;
        return Ok(Exit::Ok);
    }
    output.line(format_args!("vault    {}", asked.vault))?;
    output.line(format_args!("request  {}", asked.request))?;
    output.line(format_args!("grant    {}", asked.grant))?;
    let (delay, lasts) = (span(policy.delay.into()), span(policy.lasts.into()));
    output.note(format_args!(
        "it opens with {} of at least {} in all, {delay} after the request at the earliest, for {lasts} and {}",
        format::count(policy.approvals.into(), "approval"),
        format::count(policy.institutions.into(), "institution"),
        format::count(policy.quota.into(), "record"),
    ));
    if policy.approvals > 0 {
        output.note(format_args!(
            "others approve with: xvault emergency approve {} {} --certificate FILE",
            asked.vault, asked.request
        ));
    }
    output.note(format_args!("see what there is then with: xvault ls --grant {}", asked.grant));
    Ok(Exit::Ok)
}

fn span(seconds: u64) -> String {
    if seconds == 0 { "at once".to_owned() } else { format::duration(Duration::from_secs(seconds)) }
}

fn approve(session: &Session, args: &ApproveArgs) -> anyhow::Result<Exit> {
    let config = session.client_config()?;
    let certificate = read_certificate(&args.certificate)?;
    let height = session
        .run(async { Ok(emergency::approve(&config, args.vault, args.request, &certificate).await?) })?;
    let output = session.output();
    if output.is_json() {
        output.json(&json!({ "v": 1, "request": args.request.to_string(), "height": height.0 }))?;
    } else {
        output.line(format_args!("approved, in block {height}"))?;
    }
    Ok(Exit::Ok)
}

fn veto(session: &Session, args: &VetoArgs) -> anyhow::Result<Exit> {
    let config = session.client_config()?;
    let vault = args.vault.unwrap_or_else(|| *config.keys.vault());
    let output = session.output();
    let told = |after: Duration| {
        output.note(format_args!(
            "vetoed after {} ms: nothing is opened in it from here on",
            after.as_millis()
        ));
    };
    let vetoed = session.run(async { Ok(emergency::veto(&config, vault, args.request, told).await?) })?;
    if output.is_json() {
        output.json(&json!({
            "v": 1, "request": args.request.to_string(), "height": vetoed.height.0,
            "acknowledged_ms": vetoed.acknowledged.as_secs_f64() * 1e3, "final_ms": vetoed.settled.as_secs_f64() * 1e3,
        }))?;
    } else {
        let (ms, height) = (vetoed.settled.as_millis(), vetoed.height);
        output.line(format_args!("vetoed; final after {ms} ms, in block {height}"))?;
    }
    Ok(Exit::Ok)
}

fn list(session: &Session, args: &ListArgs) -> anyhow::Result<Exit> {
    let vault = match args.vault {
        Some(vault) => vault,
        None => *session.client_config()?.keys.vault(),
    };
    session.with_ledger(async |ledger| {
        for seen in emergency::list(ledger, vault).await? {
            let is_over = matches!(seen.state, EmergencyState::Vetoed | EmergencyState::Over);
            if args.all || !is_over {
                let openings = emergency::openings(ledger, seen.request).await?;
                let times: Vec<Value> = openings
                    .iter()
                    .map(|(open, row)| {
                        json!({ "time": format::time(row.time), "request": open.to_string(), "records": row.records })
                    })
                    .collect();
                show(session, &seen, &times)?;
            }
        }
        Ok(Exit::Ok)
    })
}

fn clinician(found: &Clinician) -> Value {
    json!({
        "key": found.key.to_string(), "authority": found.authority.to_string(),
        "institution": found.institution, "role": found.role,
    })
}

fn show(session: &Session, seen: &SeenEmergency, openings: &[Value]) -> anyhow::Result<()> {
    let (output, row) = (session.output(), &seen.row);
    if output.is_json() {
        let approvals: Vec<Value> = row.approvals.iter().map(clinician).collect();
        output.json(&json!({
            "v": 1, "request": seen.request.to_string(), "grant": row.grant.to_string(), "state": seen.state.name(),
            "requester": clinician(&row.requester), "requested": format::time(row.requested),
            "reason": row.reason.to_string(), "approvals": approvals, "begins": row.begins.map(format::time),
            "ends": format::time(row.ends), "vetoed": row.vetoed.map(|veto| veto.by.to_string()),
            "records": row.records, "openings": openings,
        }))?;
        return Ok(());
    }
    output.line(format_args!("{}  {:8}  {}", seen.request, seen.state.name(), words(seen, wall_time())))?;
    for found in &row.approvals {
        output.line(format_args!("  approved by {}", who(found)))?;
    }
    if row.openings > 0 {
        let (times, records) = (u64::from(row.openings), u64::from(row.records));
        output.line(format_args!(
            "  answered {}, which opened {}",
            format::count(times, "request"),
            format::count(records, "record")
        ))?;
    }
    Ok(())
}

fn who(found: &Clinician) -> String {
    format!("{} at {} (key {})", escape(&found.role), escape(&found.institution), found.key.short())
}

/// What there is to say of an emergency, in one line.
fn words(seen: &SeenEmergency, now: Timestamp) -> String {
    let row = &seen.row;
    let left = |until: Timestamp| format::duration(until.since(now));
    let outcome = match (seen.state, row.begins) {
        (EmergencyState::Waiting, _) => {
            let have = format::count(row.approvals.len() as u64, "approval");
            format!("has {have} and waits for more, {} at most", left(row.ends))
        }
        (EmergencyState::Delayed, Some(begins)) => format!("opens in {} unless it is vetoed", left(begins)),
        (EmergencyState::Vetoed, _) => "was vetoed".to_owned(),
        (EmergencyState::Over, None) => "was never approved".to_owned(),
        (EmergencyState::Over, Some(_)) => format!("ended at {}", format::time(row.ends)),
        (_, _) => format!("is open for another {}", left(row.ends)),
    };
    let (asked, who) = (format::time(row.requested), who(&row.requester));
    format!("{who} asked at {asked} for grant {}: it {outcome}", row.grant)
}

/// What an owner is told of an emergency, beside whatever command it typed.
pub(crate) fn notice(seen: &SeenEmergency) -> String {
    let more = match seen.state {
        EmergencyState::Waiting | EmergencyState::Delayed | EmergencyState::Active => {
            format!("; `xvault emergency veto {}` forbids it", seen.request)
        }
        _ => format!("; see `xvault emergency ls --all` for {}", seen.request.short()),
    };
    let opened = if seen.row.openings > 0 {
        format!("; {} opened so far", format::count(seen.row.records.into(), "record"))
    } else {
        String::new()
    };
    format!("EMERGENCY: {}{opened}{more}", words(seen, wall_time()))
}

fn held(session: &Session) -> anyhow::Result<Exit> {
    let config = session.client_config()?;
    let held = session.run(async {
        let mut held = emergency::past(&config).await?;
        held.extend(emergency::held(&config).await?);
        Ok(held)
    })?;
    let output = session.output();
    for found in held {
        let (vault, grant) = (found.card.vault, found.card.grant);
        let request = found.request.map(|request| request.to_string());
        let salt = data_encoding::HEXLOWER.encode(&found.salt);
        if output.is_json() {
            output.json(&json!({
                "v": 1, "vault": vault.to_string(), "grant": grant.to_string(), "request": request,
                "reason": found.reason, "salt": salt,
            }))?;
        } else {
            let request = request.as_deref().unwrap_or("(not asked)");
            output.line(format_args!("{grant}  vault {vault}  request {request}"))?;
            output.line(format_args!("  reason: {}  (salt {salt})", escape(&found.reason)))?;
        }
    }
    Ok(Exit::Ok)
}
