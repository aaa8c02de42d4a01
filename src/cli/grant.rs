//! `xvault grant`, `grants`, `revoke` and `scope`: the owner decides who reads what.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::cli::access::read_package;
use crate::cli::emergency::Terms;
use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::output::{Output, escape};
use crate::cli::parse::{parse_bytes, parse_date, parse_days, parse_grant};
use crate::cli::session::Session;
use crate::client::Client;
use crate::client::access::owner::every_day;
use crate::client::access::{GrantReport, GrantTerms, Granted, Scope};
use crate::crypto::access::DayRange;
use crate::message::access::{KeyPackage, NotedScope, Rights};
use crate::runtime::wall_time;
use crate::types::{GrantId, Height, ScopePath, Timestamp};

/// Let somebody read records of this vault, or bring some.
///
/// The key package comes from them (`xvault access request`). Scopes are names that `xvault scope define` gave, or
/// expressions: in:COLLECTION, name:PREFIX, record:COLLECTION/NAME, label:WORD, KEY=VALUE of a record's metadata, joined by
/// and, or, not and brackets. Records that are put later join the scopes by themselves, when this home next syncs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key package of who is let in; none with --emergency.
    #[arg(value_name = "PACKAGE", required_unless_present = "emergency")]
    package: Option<PathBuf>,
    /// What they are let into; may be given several times.
    #[arg(long, required_unless_present = "emergency", value_name = "SCOPE")]
    scope: Vec<String>,
    /// They may see which records there are, and open them: what is granted if nothing is said.
    #[arg(long)]
    read: bool,
    /// They may only see which records there are.
    #[arg(long)]
    list: bool,
    /// They may bring records of the scopes, which this vault takes in with `xvault sync`, and read nothing back by that alone.
    #[arg(long)]
    append: bool,
    /// How much they may bring in all: bytes, or a number with k, M, G or T [default: 10G].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, requires = "append")]
    append_bytes: Option<u64>,
    /// From when on: YYYY-MM-DD, or YYYY-MM-DDTHH:MM:SSZ [default: now].
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    from: Option<Timestamp>,
    /// Until the beginning of this day, or until this time: YYYY-MM-DD, or YYYY-MM-DDTHH:MM:SSZ.
    #[arg(long, required = true, value_name = "DATE", value_parser = parse_date)]
    until: Timestamp,
    /// Only records of these days, both included: YYYY-MM-DD..YYYY-MM-DD, in UTC.
    ///
    /// The day of a record is that of its file's last modification, where that was known when it was put, else that of the put.
    #[arg(long, value_name = "A..B", value_parser = parse_days)]
    days: Option<DayRange>,
    /// Openings of records that they may have in a day, which begins at midnight UTC.
    ///
    /// Each time that a record is read counts, be it a part of it or one that was read before. Listing does not count.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    quota: Option<u32>,
    /// What you tell them with it; only they can read it.
    #[arg(long, value_name = "WORDS", default_value = "")]
    note: String,
    #[command(flatten)]
    emergency: Terms,
}

/// List the grants of this vault.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Also those that have ended.
    #[arg(long)]
    all: bool,
}

/// Take a grant back. From the moment that this says so, nothing is opened for it.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// The grant, as `xvault grants` lists it.
    #[arg(value_name = "GRANT", value_parser = parse_grant)]
    grant: GrantId,
}

/// Names for sets of records.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ScopeCommand {
    /// Give a name to what an expression means, for `xvault grant --scope NAME`.
    Define(Define),
    /// List the names.
    Ls,
    /// Give a scope new keys: what comes into it from here on opens for no grant that was given before.
    ///
    /// A grant that was taken back, or is over, opens nothing without that. This holds as well if two thirds of the static
    /// nodes help who had it, or lose what they keep: old keys do not fit what joins under new ones. Grants that stand open what
    /// is in the scope now, and see nothing that comes later: give another to those who are to go on.
    Renew(RenewArgs),
}

/// Arguments of `scope renew`.
#[derive(Debug, clap::Args)]
pub(crate) struct RenewArgs {
    /// The scope: its name, or the expression that was granted.
    #[arg(value_name = "SCOPE")]
    scope: ScopePath,
}

/// Arguments of `scope define`.
#[derive(Debug, clap::Args)]
pub(crate) struct Define {
    /// The name.
    #[arg(value_name = "NAME")]
    name: ScopePath,
    /// Which records: see `xvault grant --help`.
    #[arg(value_name = "EXPRESSION")]
    expression: Scope,
}

/// Bytes that may be brought if nothing is said: a few years of somebody's imaging.
const APPEND_BYTES: u64 = 10_000_000_000;
/// The name of the scope that an emergency grant has if none is said.
const EMERGENCY_SCOPE: &str = "emergency";

pub(crate) async fn run(session: &Session, client: &Client, mut args: Args) -> anyhow::Result<Exit> {
    let policy = args.emergency.policy()?;
    if policy.is_some() && args.package.is_some() {
        let hint = "make its card afterwards, with `xvault emergency card GRANT --for PACKAGE`";
        return Err(Failure::usage("an emergency grant takes no key package").hint(hint).into());
    }
    let package = args.package.as_deref().map(read_package).transpose()?;
    let defined = client.defined_scopes().await?;
    if policy.is_some() && args.scope.is_empty() {
        if !defined.iter().any(|(path, _)| path.as_str() == EMERGENCY_SCOPE) {
            let hint =
                "say which records matter then: `xvault scope define emergency label:vital`, or --scope";
            return Err(Failure::refused("no scope is named emergency").hint(hint).into());
        }
        args.scope.push(EMERGENCY_SCOPE.to_owned());
    }
    let mut scopes = Vec::new();
    for text in &args.scope {
        scopes.push(scope_of(text, &defined)?);
    }
    let rights = rights_of(&args);
    let terms = GrantTerms {
        scopes,
        rights,
        not_before: args.from.unwrap_or_else(wall_time),
        expires: args.until,
        days: args.days.unwrap_or_else(every_day),
        quota: args.quota,
        append_bytes: args.append.then_some(args.append_bytes.unwrap_or(APPEND_BYTES)),
        note: args.note,
    };
    let report = match (&package, policy) {
        (_, Some(policy)) => client.grant_emergency(terms, policy).await?,
        (Some(package), None) => client.grant(package, terms).await?,
        (None, None) => return Err(Failure::usage("name the key package of who is let in").into()),
    };
    told(session, package.as_ref(), &report)
}

fn rights_of(args: &Args) -> Rights {
    let reading = match (args.read, args.list) {
        // Who may open what has to be found first.
        (true, _) => Some(Rights::READ.and(Rights::LIST)),
        (false, true) => Some(Rights::LIST),
        (false, false) => None,
    };
    match (reading, args.append) {
        (Some(reading), true) => reading.and(Rights::APPEND),
        (Some(reading), false) => reading,
        (None, true) => Rights::APPEND,
        (None, false) => Rights::READ.and(Rights::LIST),
    }
}

fn told(session: &Session, package: Option<&KeyPackage>, report: &GrantReport) -> anyhow::Result<Exit> {
    let output = session.output();
    if output.is_json() {
        output.json(&json!({
            "v": 1, "grant": report.grant.to_string(), "height": report.height.0, "records": report.covered, "records_brought": report.brought,
            "grantee": package.map(|package| &package.name), "identity": package.map(|package| package.identity.to_string()),
        }))?;
        return Ok(Exit::Ok);
    }
    output.line(report.grant)?;
    let covered = format::count(u64::try_from(report.covered)?, "record");
    match package {
        Some(package) if !report.reads => output.note(format_args!(
            "{} may bring records, as of block {}; `xvault revoke {}` takes it back",
            escape(&package.name),
            report.height,
            report.grant
        )),
        Some(package) => output.note(format_args!(
            "{} is let into {covered}, as of block {}; `xvault revoke {}` takes it back",
            escape(&package.name),
            report.height,
            report.grant
        )),
        None => output.note(format_args!(
            "{covered} open in emergencies, as of block {}; `xvault emergency card {} -o FILE` makes the card for it",
            report.height, report.grant
        )),
    }
    Ok(Exit::Ok)
}

fn scope_of(text: &str, defined: &[(ScopePath, Scope)]) -> anyhow::Result<(ScopePath, Scope)> {
    if let Some(found) = defined.iter().find(|(path, _)| path.as_str() == text) {
        return Ok(found.clone());
    }
    let scope: Scope = text.parse().map_err(|error| {
        Failure::usage(format!("--scope {text}: {error}"))
            .hint("define a name with `xvault scope define`, or see `xvault grant --help` for expressions")
    })?;
    let path = scope.to_string().parse().with_context(|| format!("--scope {text}"))?;
    Ok((path, scope))
}

pub(crate) async fn list(session: &Session, client: &Client, args: &ListArgs) -> anyhow::Result<Exit> {
    let now = wall_time();
    let granted = client.grants().await?;
    let defined = client.defined_scopes().await.unwrap_or_default();
    // With a rotation of the keys all grants of before ended.
    let keys = client.recovery_state().await?.keys;
    let rotated = keys.filter(|keys| keys.generation > 0).map(|keys| keys.since);
    for granted in granted {
        let state = state_of(&granted, now, rotated);
        if args.all || matches!(state, "in force" | "not yet") {
            show(session, &granted, state, &defined)?;
        }
    }
    Ok(Exit::Ok)
}

/// `rotated`: the block since which the vault has the keys of now.
fn state_of(granted: &Granted, now: Timestamp, rotated: Option<Height>) -> &'static str {
    match granted.row.revoked {
        Some(_) => "revoked",
        None if rotated.is_some_and(|since| granted.row.height <= since) => "rotated",
        None if now < granted.row.grant.not_before => "not yet",
        None if granted.row.grant.expires <= now => "expired",
        None => "in force",
    }
}

/// A scope as the grant has it, and what its name meant then if it means something else now.
fn scope_text(scope: &NotedScope, defined: &[(ScopePath, Scope)]) -> String {
    let now = defined.iter().find(|(path, _)| *path == scope.path).map(|(_, now)| now.to_string());
    if scope.path.as_str() == scope.meaning || now.as_ref() == Some(&scope.meaning) {
        return scope.path.to_string();
    }
    format!("{} (when it was granted: {})", scope.path, scope.meaning)
}

fn show(
    session: &Session,
    granted: &Granted,
    state: &str,
    defined: &[(ScopePath, Scope)],
) -> anyhow::Result<()> {
    let (output, grant, about) = (session.output(), &granted.row.grant, granted.about.as_ref());
    let days = about.filter(|about| about.days != (every_day().first(), every_day().last()));
    let days = days.map(|about| format!("{}..{}", format::day(about.days.0), format::day(about.days.1)));
    if output.is_json() {
        let scopes = about.map_or(&[][..], |about| &about.scopes);
        let scopes: Vec<_> = scopes
            .iter()
            .map(|scope| json!({ "name": scope.path.to_string(), "meaning": scope.meaning }))
            .collect();
        output.json(&json!({
            "v": 1, "grant": grant.grant.to_string(), "grantee": about.map(|about| &about.name), "scopes": scopes,
            "days": days, "note": about.map(|about| &about.note),
            "rights": grant.rights.to_string(), "state": state, "height": granted.row.height.0,
            "revoked": granted.row.revoked.map(|height| height.0),
            "not_before": format::time(grant.not_before), "expires": format::time(grant.expires),
            "quota": grant.quota, "emergency": grant.emergency.is_some(),
            "append_bytes": grant.append_bytes, "brought_bytes": granted.row.brought,
        }))?;
        return Ok(());
    }
    let name = about.map_or("(unknown)", |about| about.name.as_str());
    let scopes = about.map_or(&[][..], |about| &about.scopes);
    let scopes: Vec<_> = scopes.iter().map(|scope| scope_text(scope, defined)).collect();
    let mut text = escape(&scopes.join(", "));
    if let Some(days) = days {
        text.push_str(&format!("  records of {days}"));
    }
    if let Some(quota) = grant.quota {
        text.push_str(&format!("  {quota} a day"));
    }
    if let Some(bytes) = grant.append_bytes {
        let (brought, bytes) = (format::size(granted.row.brought), format::size(bytes));
        text.push_str(&format!("  brought {brought} of {bytes}"));
    }
    if let Some(about) = about.filter(|about| !about.note.is_empty()) {
        text.push_str(&format!("  \"{}\"", escape(&about.note)));
    }
    let until = format::time(grant.expires);
    output.line(format_args!("{}  {state:8}  until {until}  {}  {text}", grant.grant, escape(name)))?;
    Ok(())
}

pub(crate) async fn revoke(session: &Session, client: &Client, args: &RevokeArgs) -> anyhow::Result<Exit> {
    let output = session.output();
    let told = |after: Duration| {
        output.note(format_args!(
            "revoked after {} ms: nothing is opened for it from here on",
            after.as_millis()
        ));
    };
    let revoked = client.revoke(args.grant, told).await?;
    if output.is_json() {
        output.json(&json!({
            "v": 1, "grant": args.grant.to_string(), "height": revoked.height.0,
            "acknowledged_ms": revoked.acknowledged.as_secs_f64() * 1e3, "final_ms": revoked.settled.as_secs_f64() * 1e3,
        }))?;
    } else {
        let (ms, height) = (revoked.settled.as_millis(), revoked.height);
        output.line(format_args!("revoked; final after {ms} ms, in block {height}"))?;
    }
    Ok(Exit::Ok)
}

pub(crate) async fn scope(session: &Session, client: &Client, command: ScopeCommand) -> anyhow::Result<Exit> {
    let output = session.output();
    match command {
        ScopeCommand::Define(args) => {
            let standing = client.define_scope(&args.name, &args.expression).await?;
            output.note(format_args!(
                "{} is {}",
                escape(args.name.as_str()),
                escape(&args.expression.to_string())
            ));
            for grant in &standing {
                output.note(format_args!(
                    "grant {grant} keeps what was in it, and nothing joins for it: grant anew, or revoke it"
                ));
            }
            if output.is_json() {
                let (name, expression) = (args.name.to_string(), args.expression.to_string());
                let standing: Vec<_> = standing.iter().map(ToString::to_string).collect();
                output
                    .json(&json!({ "v": 1, "name": name, "expression": expression, "standing": standing }))?;
            }
        }
        ScopeCommand::Renew(args) => renew(output, client, &args.scope).await?,
        ScopeCommand::Ls => {
            for (name, scope) in client.defined_scopes().await? {
                if output.is_json() {
                    output.json(
                        &json!({ "v": 1, "name": name.to_string(), "expression": scope.to_string() }),
                    )?;
                } else {
                    output.line(format_args!("{}  {}", escape(name.as_str()), escape(&scope.to_string())))?;
                }
            }
        }
    }
    Ok(Exit::Ok)
}

async fn renew(output: &Output, client: &Client, scope: &ScopePath) -> anyhow::Result<()> {
    let renewed = client.renew_scope(scope).await?;
    let standing: Vec<_> = renewed.standing.iter().map(ToString::to_string).collect();
    if output.is_json() {
        output.json(&json!({
            "v": 1, "scope": scope.as_str(), "generation": renewed.generation, "height": renewed.height.0,
            "standing": standing,
        }))?;
        return Ok(());
    }
    let (name, generation) = (escape(scope.as_str()), renewed.generation);
    output.line(format_args!(
        "{name} has new keys, of generation {generation}, since block {}",
        renewed.height
    ))?;
    for grant in standing {
        output.note(format_args!("grant {grant} opens what is in it now, and nothing that comes later"));
    }
    Ok(())
}
