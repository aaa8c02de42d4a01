//! `xvault access`: being let in, and who was.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::escape;
use crate::cli::parse::{parse_date, parse_grant};
use crate::cli::session::Session;
use crate::cli::{format, input};
use crate::client::access::{AccessEvent, AccessLog, Shared, emergency, grantee};
use crate::client::{Client, Error, ErrorKind, RecordAddress};
use crate::ledger::rows::Clinician;
use crate::message::access::{KeyPackage, Rights};
use crate::runtime::wall_time;
use crate::types::{GrantId, RecordPath, Timestamp, TransactionId};

/// Microseconds of a day.
const DAY_MICROS: u64 = 86_400_000_000;
/// Bytes of a key package's text that is read: a real one has two thousand.
const MAX_PACKAGE_TEXT: u64 = 64 << 10;

/// Being let into other people's vaults, and seeing who was let into yours.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key package to give to an owner, who grants with `xvault grant`. It serves for one grant.
    Request(Request),
    /// Take a grant that was given for a key package of this home; then `ls`, `stat`, `versions`, `get` and `cat`
    /// read with --grant.
    Accept(Accept),
    /// List the grants that this home accepted.
    Held,
    /// List what others brought into your vault and what waits for you to take it in, which `xvault sync` does.
    Deposits,
    /// Let go what somebody brought, without taking it in.
    Refuse(Refuse),
    /// Show who opened what in your vault, when and under which grant, and who was denied.
    Log(Log),
}

/// Arguments of `access request`.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// Who asks: what the owner sees.
    #[arg(long, value_name = "WORDS")]
    name: String,
    /// Days for which the owner may use the package.
    #[arg(long, value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    valid: u32,
    /// Write to this new file [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Arguments of `access accept`.
#[derive(Debug, clap::Args)]
pub(crate) struct Accept {
    /// The key package that you gave to the owner.
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
}

/// Arguments of `access refuse`.
#[derive(Debug, clap::Args)]
pub(crate) struct Refuse {
    /// The deposit, as `xvault access deposits` lists it.
    #[arg(value_name = "DEPOSIT")]
    deposit: TransactionId,
}

/// Arguments of `access log`.
#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    /// As comma-separated values, for a spreadsheet.
    #[arg(long)]
    csv: bool,
    /// Only of this grant, as `xvault grants --all` lists it.
    #[arg(long, value_name = "GRANT", value_parser = parse_grant)]
    grant: Option<GrantId>,
    /// Only of this record.
    #[arg(long, value_name = "xv://C/NAME")]
    record: Option<RecordPath>,
    /// Only since the beginning of this day: YYYY-MM-DD, in UTC.
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    since: Option<Timestamp>,
    /// Only what was denied.
    #[arg(long)]
    denied: bool,
}

impl Log {
    fn wants(&self, event: &AccessEvent) -> bool {
        let is_of =
            |path: &RecordPath| event.items.contains(&format!("xv://{}/{}", path.collection, path.rest));
        self.grant.is_none_or(|grant| grant == event.grant)
            && self.record.as_ref().is_none_or(is_of)
            && self.since.is_none_or(|since| since <= event.time)
            && (!self.denied || event.denial().is_some())
    }
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Request(args) => request(session, &args),
        Command::Accept(args) => accept(session, &args),
        Command::Held => held(session),
        Command::Deposits => session.with_client(async |client| deposits(session, client).await),
        Command::Refuse(args) => session.with_client(async |client| refuse(session, client, &args).await),
        Command::Log(args) => session.with_client(async |client| log(session, client, &args).await),
    }
}

fn request(session: &Session, args: &Request) -> anyhow::Result<Exit> {
    let config = session.client_config()?;
    let expires = wall_time().unix_micros().saturating_add(u64::from(args.valid).saturating_mul(DAY_MICROS));
    let package = session.run(async {
        Ok(grantee::key_package(&config, &args.name, Timestamp::from_unix_micros(expires))?)
    })?;
    let (text, output) = (package.to_text(), session.output());
    if let Some(path) = &args.output {
        let made = std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
        made.map_err(|error| cannot_write(path, &error))?;
        output.note(format_args!("wrote {}: give it to the vault's owner", path.display()));
    }
    if output.is_json() {
        output.json(
            &json!({ "v": 1, "path": args.output, "package": args.output.is_none().then_some(text) }),
        )?;
    } else if args.output.is_none() {
        output.bytes(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> Failure {
    let shown = path.display();
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        return Failure::refused(format!("{shown} exists")).hint("name another file");
    }
    Failure::new(Exit::Failed, format!("cannot write {shown}: {error}"))
}

/// Reads the file of a key package.
pub(crate) fn read_package(path: &std::path::Path) -> Result<KeyPackage, Failure> {
    let (shown, mut text) = (path.display(), String::new());
    input::short_text(path, MAX_PACKAGE_TEXT, &mut text)?;
    let package = KeyPackage::from_text(&text).ok().filter(|package| package.verify().is_ok());
    package.ok_or_else(|| {
        Failure::new(Exit::Corrupt, format!("{shown} is no key package, or was changed"))
            .hint("one is made with `xvault access request`")
    })
}

fn accept(session: &Session, args: &Accept) -> anyhow::Result<Exit> {
    let package = read_package(&args.package)?;
    let config = session.client_config()?;
    session.run(async {
        let shared = Shared::open(config.clone(), &package).await?;
        grantee::hold(&config, &shared, &package).await?;
        let (output, row) = (session.output(), shared.grant());
        let scopes: Vec<&str> = shared.scopes().collect();
        if output.is_json() {
            output.json(&json!({
                "v": 1, "grant": row.grant.grant.to_string(), "vault": row.grant.vault.to_string(),
                "rights": row.grant.rights.to_string(), "scopes": scopes, "note": shared.note(),
                "not_before": format::time(row.grant.not_before), "expires": format::time(row.grant.expires),
                "quota": row.grant.quota, "revoked": row.revoked.is_some(),
                "appendable": shared.appendable(), "append_bytes": row.grant.append_bytes,
            }))?;
            return Ok(Exit::Ok);
        }
        let grant = row.grant.grant;
        output.line(format_args!("grant    {grant}"))?;
        if !scopes.is_empty() {
            output.line(format_args!("scopes   {}", escape(&scopes.join(", "))))?;
        }
        if let Some(bytes) = row.grant.append_bytes {
            let (what, bytes) = (escape(&shared.appendable().join(", or ")), format::size(bytes));
            output.line(format_args!("bring    {what}; {bytes} in all"))?;
        }
        output.line(format_args!("rights   {}", row.grant.rights))?;
        output.line(format_args!(
            "until    {}, from {}",
            format::time(row.grant.expires),
            format::time(row.grant.not_before)
        ))?;
        if let Some(quota) = row.grant.quota {
            output.line(format_args!("quota    {quota} openings a day"))?;
        }
        if !shared.note().is_empty() {
            output.line(format_args!("note     {}", escape(shared.note())))?;
        }
        if row.revoked.is_some() {
            output.warn("the owner has taken the grant back: nothing is opened for it");
            return Ok(Exit::Ok);
        }
        if row.grant.rights.include(Rights::LIST) {
            output.note(format_args!("see what there is with: xvault ls --grant {grant}"));
        }
        if row.grant.rights.include(Rights::APPEND) {
            output.note(format_args!(
                "bring records with: xvault put --grant {grant} FILE xv://COLLECTION/NAME"
            ));
        }
        Ok(Exit::Ok)
    })
}

fn held(session: &Session) -> anyhow::Result<Exit> {
    let config = session.client_config()?;
    let held = session.run(async { Ok(grantee::held(&config).await?) })?;
    let output = session.output();
    for (grant, package) in held {
        if output.is_json() {
            output.json(&json!({ "v": 1, "grant": grant.to_string(), "name": package.name }))?;
        } else {
            output.line(format_args!("{grant}  {}", escape(&package.name)))?;
        }
    }
    Ok(Exit::Ok)
}

async fn deposits(session: &Session, client: &Client) -> anyhow::Result<Exit> {
    let (output, granted) = (session.output(), client.grants().await?);
    let waiting = client.waiting_deposits().await?;
    client.tell_of_deposits(&waiting).await?;
    for (id, row) in waiting {
        let about = granted.iter().find(|granted| granted.row.grant.grant == row.grant);
        let by = about.and_then(|granted| granted.about.as_ref()).map(|about| about.name.as_str());
        if output.is_json() {
            output.json(&json!({
                "v": 1, "deposit": id.to_string(), "grant": row.grant.to_string(), "by": by, "time": format::time(row.time),
                "height": row.height.0, "segments": row.segments.len(), "complete": row.pack.is_some(),
            }))?;
            continue;
        }
        let what = if row.pack.is_some() { "" } else { "  the first part of something" };
        let by = escape(by.unwrap_or("(unknown)"));
        output.line(format_args!("{id}  {}  {by}{what}", format::time(row.time)))?;
    }
    Ok(Exit::Ok)
}

async fn refuse(session: &Session, client: &Client, args: &Refuse) -> anyhow::Result<Exit> {
    client.refuse_deposit(args.deposit).await?;
    let output = session.output();
    if output.is_json() {
        output.json(&json!({ "v": 1, "deposit": args.deposit.to_string() }))?;
    }
    output.note("what was brought is gone");
    Ok(Exit::Ok)
}

/// Opens an accepted grant by its id.
pub(crate) async fn open(session: &Session, grant: GrantId) -> anyhow::Result<Shared> {
    let config = session.client_config()?;
    let held = grantee::held(&config).await?;
    let package = held.into_iter().find(|(found, _)| *found == grant).map(|(_, package)| package);
    if package.is_none()
        && let Some(card) = emergency::held(&config).await?.into_iter().find(|held| held.card.grant == grant)
    {
        return Ok(Shared::open_in_emergency(config, &card).await?);
    }
    let package = package.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("this home has accepted no grant {grant}"))
            .with_hint("`xvault access accept` accepts one, `xvault access held` lists them")
    })?;
    Ok(Shared::open(config, &package).await?)
}

async fn log(session: &Session, client: &Client, args: &Log) -> anyhow::Result<Exit> {
    let output = session.output();
    let names = client.grants().await?;
    let name_of = |grant: &GrantId| {
        let found = names.iter().find(|found| found.row.grant.grant == *grant)?;
        found.about.as_ref().map(|about| about.name.clone())
    };
    let about = args.record.as_ref().and_then(|path| {
        let name = path.rest.parse().ok()?;
        Some(RecordAddress { collection: path.collection.clone(), name })
    });
    let AccessLog { events, heads, missing } = client.access_log_about(about.as_ref()).await?;
    let asked = client.emergencies().await.unwrap_or_default();
    if args.csv && !output.is_json() {
        output.line(CSV_HEADER)?;
    }
    let mut shown = 0;
    for event in events.iter().filter(|event| args.wants(event)) {
        let clinician = event.emergency.and_then(|request| {
            let found = asked.iter().find(|seen| seen.request == request)?;
            Some(&found.row.requester)
        });
        show(session, event, (name_of(&event.grant).as_deref(), clinician), args.csv)?;
        shown += 1;
    }
    if !heads.is_empty() {
        let (have, of) = (heads.len(), heads.len() + missing.len());
        output.note(format_args!("checked against the signed heads of {have} of {of} static nodes"));
    }
    if !missing.is_empty() {
        output.warn(format_args!("what only {} logged is not in it", escape(&missing.join(", "))));
    }
    if shown == 0 {
        output.note(format_args!("nothing in the log is of that; entries in all: {}", events.len()));
    }
    Ok(Exit::Ok)
}

/// The fields of a line of comma-separated values.
const CSV_HEADER: &str =
    "time,grant,grantee,what,purpose,denied,opened_by,denied_by,request,emergency,clinician,role,institution";

fn show(
    session: &Session,
    event: &AccessEvent,
    (name, clinician): (Option<&str>, Option<&Clinician>),
    csv: bool,
) -> anyhow::Result<()> {
    let output = session.output();
    let (time, denied) = (format::time(event.time), event.denial().map(|denial| denial.to_string()));
    if output.is_json() {
        output.json(&json!({
            "v": 1, "time": time, "grant": event.grant.to_string(), "grantee": name, "items": event.items,
            "purpose": event.purpose, "emergency": event.emergency.map(|request| request.to_string()),
            "clinician": clinician.map(|found| json!({ "key": found.key.to_string(), "role": found.role, "institution": found.institution })),
            "denied": denied, "opened_by": event.opened, "request": event.request.to_string(),
            "denied_by": event.denied.iter().map(|(node, denial)| json!({ "node": node, "reason": denial.to_string() })).collect::<Vec<_>>(),
        }))?;
        return Ok(());
    }
    if csv {
        let fields = [
            time,
            event.grant.to_string(),
            name.unwrap_or_default().to_owned(),
            event.items.join(" "),
            event.purpose.clone(),
            denied.unwrap_or_default(),
            event.opened.join(" "),
            event.denied.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>().join(" "),
            event.request.to_string(),
            event.emergency.map(|request| request.to_string()).unwrap_or_default(),
            clinician.map(|found| found.key.to_string()).unwrap_or_default(),
            clinician.map(|found| found.role.clone()).unwrap_or_default(),
            clinician.map(|found| found.institution.clone()).unwrap_or_default(),
        ];
        let quoted: Vec<String> = fields.iter().map(|field| csv_field(field)).collect();
        output.line(quoted.join(","))?;
        return Ok(());
    }
    let who = name.map_or_else(|| event.grant.to_string(), escape);
    let what = escape(&event.items.join(", "));
    let (opened, by) = (event.opened.len(), event.denied.len());
    let outcome = match denied {
        Some(denial) => format!("denied: {denial}  ({by} nodes)"),
        None if by > 0 => format!("opened  ({opened} nodes; {by} denied it)"),
        None => format!("opened  ({opened} nodes)"),
    };
    let emergency = event.emergency.map(|request| {
        let by = clinician.map(|found| format!(", a {} of {}", found.role, found.institution));
        format!("  in emergency {}{}", request.short(), escape(&by.unwrap_or_default()))
    });
    let emergency = emergency.unwrap_or_default();
    output.line(format_args!("{time}  {who}  {what}  {outcome}{emergency}"))?;
    Ok(())
}

/// A field in quotes. What a spreadsheet would take for a formula, as grantees choose their names, begins with an apostrophe.
fn csv_field(field: &str) -> String {
    let guard = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", field.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::csv_field;

    #[test]
    fn fields_are_quoted_and_never_formulas() {
        for (field, expected) in [
            ("Dr \"Knee\", Berlin", "\"Dr \"\"Knee\"\", Berlin\""),
            ("=HYPERLINK(1)", "\"'=HYPERLINK(1)\""),
            ("+1", "\"'+1\""),
            ("", "\"\""),
        ] {
            assert_eq!(csv_field(field), expected);
        }
    }
}
