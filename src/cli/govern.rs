//! `xvault static propose`, `approve`, `submit`: how operators change who the static nodes are.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::input;
use crate::cli::network::read_member;
use crate::cli::output::{Output, escape};
use crate::cli::session::Session;
use crate::client::governance::{self, Approvals};
use crate::client::{Error, LedgerClient};
use crate::crypto::ml_dsa::PqKeyPair;
use crate::crypto::sign::KeyPair;
use crate::ledger::rows::{Standing, Static};
use crate::message::governance::SponsorTerms;
use crate::message::{Action, Change, ChangeFile, Member, Params};
use crate::roles::NodeFolder;
use crate::types::limits::MIN_COMMITTEE;
use crate::types::{Height, PublicKey};

/// Seconds of a day.
const SECONDS_A_DAY: u32 = 24 * 3_600;

/// Changes that can be proposed.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Propose {
    /// Let another static node vote.
    Add(Add),
    /// Have a static node leave for good.
    Remove(Named),
    /// Have one static node leave and another take its place.
    Replace(Replace),
    /// Have a static node go on under a new key, which is made in its folder.
    ///
    /// Once the change is final the running node takes up the new key by itself; one that does not run does so at
    /// its next start.
    RotateKey(RotateKey),
    /// Let a blacklisted static node vote again, on probation.
    Readmit(Named),
    /// Let a key admit vaults and storage nodes, in place of what it could admit before.
    Sponsor(Sponsor),
    /// Share all vaults' keys anew among the static nodes, as happens by itself every quarter of a year.
    ///
    /// Shares that were stolen before are of no use afterwards. Do it when one may have been, and when a static node that was
    /// away has no shares.
    Refresh(Refresh),
}

/// Where a change is written.
#[derive(Debug, clap::Args)]
pub(crate) struct Out {
    /// The file of the change, to be approved and submitted.
    #[arg(long, value_name = "FILE", default_value = "change")]
    out: PathBuf,
}

/// Arguments of `static propose add`.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// The file with the line that `static init` printed for it.
    #[arg(value_name = "MEMBER_FILE")]
    member: PathBuf,
    #[command(flatten)]
    out: Out,
}

/// Arguments of `static propose remove` and `readmit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The static node: its name, or its key or the beginning of that.
    #[arg(value_name = "NAME|KEY")]
    node: String,
    #[command(flatten)]
    out: Out,
}

/// Arguments of `static propose replace`.
#[derive(Debug, clap::Args)]
pub(crate) struct Replace {
    /// Who leaves: its name, or its key or the beginning of that.
    #[arg(value_name = "NAME|KEY")]
    node: String,
    /// The file with the line that `static init` printed for who comes.
    #[arg(value_name = "MEMBER_FILE")]
    member: PathBuf,
    #[command(flatten)]
    out: Out,
}

/// Arguments of `static propose rotate-key`.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateKey {
    /// The static node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    out: Out,
}

/// Arguments of `static propose sponsor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sponsor {
    /// The sponsor's public key.
    #[arg(value_name = "KEY")]
    key: PublicKey,
    /// Vaults that it may admit.
    #[arg(long, value_name = "N", default_value = "0")]
    vaults: u32,
    /// Storage nodes that it may admit.
    #[arg(long, value_name = "N", default_value = "0")]
    nodes: u32,
    /// Ledger bytes an epoch of each of its vaults; an anchor of one pack takes about 1,200.
    #[arg(long, value_name = "BYTES", default_value_t = Params::DEFAULT.vault_bytes)]
    vault_bytes: u64,
    #[command(flatten)]
    out: Out,
}

/// Arguments of `static propose refresh`.
#[derive(Debug, clap::Args)]
pub(crate) struct Refresh {
    /// From then on share them anew every so many days; as often as before if this is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    every_days: Option<u32>,
    #[command(flatten)]
    out: Out,
}

/// Arguments of `static approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// The file of the change; the signature is added to it.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder of the static node that approves, or that is to come in.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Arguments of `static submit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Submit {
    /// The file of the change, or copies of it that were approved apart.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Propose {
    const fn out(&self) -> &Out {
        match self {
            Self::Add(Add { out, .. })
            | Self::Remove(Named { out, .. })
            | Self::Readmit(Named { out, .. })
            | Self::Replace(Replace { out, .. })
            | Self::RotateKey(RotateKey { out, .. })
            | Self::Sponsor(Sponsor { out, .. })
            | Self::Refresh(Refresh { out, .. }) => out,
        }
    }

    /// A folder that may say which network it is.
    fn dir(&self) -> Option<&Path> {
        if let Self::RotateKey(args) = self { Some(&args.dir) } else { None }
    }
}

pub(crate) fn propose(session: &Session, args: &Propose) -> anyhow::Result<Exit> {
    let out = &args.out().out;
    if out.exists() {
        let exists = Failure::new(Exit::Refused, format!("{} exists", out.display()));
        return Err(exists.hint("name another file with --out").into());
    }
    session.with_ledger_of(args.dir(), async |ledger| {
        let statics = ledger.statics().await?;
        let (change, next) = change(args, &statics)?;
        let mut file = ledger.propose(change).await?;
        // Only once nothing is in the way, so that a refused proposal leaves no key behind.
        if let (Some(next), Propose::RotateKey(args)) = (next, args) {
            let kept = NodeFolder::make_next_key(&args.dir, next)?;
            file.governance.possess(&file.network, &kept);
        }
        let approvals = ledger.approvals(&file).await?;
        write(out, &file.to_text())?;
        let output = session.output();
        if !output.is_json() {
            output.note(format_args!("{}", escape(&file.governance.change.to_string())));
            warn_of_few(output, &file.governance.change, &statics);
            output.note(format_args!(
                "{} is to be approved by {} of {} static nodes, each with `xvault static approve {} --dir ITS_FOLDER`;\n\
                 then anybody brings it to the ledger with `xvault static submit {}`",
                out.display(),
                approvals.need,
                approvals.missing.len(),
                out.display(),
                out.display(),
            ));
        }
        report(output, out, &file, &approvals)?;
        Ok(Exit::Ok)
    })
}

/// What to propose, and the key that a rotation brings.
fn change(args: &Propose, statics: &[Static]) -> anyhow::Result<(Change, Option<KeyPair>)> {
    Ok(match args {
        Propose::Add(args) => (Change::AddStatic(read_member(&args.member)?), None),
        Propose::Remove(args) => (Change::RemoveStatic(find(statics, &args.node, |row| row.votes)?), None),
        Propose::Replace(args) => {
            let old = find(statics, &args.node, |row| row.votes)?;
            (Change::ReplaceStatic { old, new: read_member(&args.member)? }, None)
        }
        Propose::Readmit(args) => {
            let is_blacklisted = |row: &Static| matches!(row.standing, Standing::Blacklisted { .. });
            (Change::LiftBlacklist(find(statics, &args.node, is_blacklisted)?), None)
        }
        Propose::RotateKey(args) => {
            let folder = NodeFolder::open(&args.dir)?;
            let old = folder.key.public();
            let row = statics.iter().find(|row| row.member.key == old && row.standing != Standing::Left);
            let next = NodeFolder::next_key(&args.dir)?;
            let is_taken = next
                .as_ref()
                .is_some_and(|next| statics.iter().any(|row| row.votes && row.member.key == next.public()));
            let none = || {
                let dir = args.dir.display();
                if is_taken {
                    let message =
                        format!("the key was rotated, and the node of {dir} has not taken it up yet");
                    return Failure::refused(message).hint("run the node, then propose again");
                }
                let message = format!("the key in {dir} is not a static node's");
                Failure::refused(message).hint("`xvault static ls` lists the static nodes")
            };
            let next = next.map_or_else(random_key, Ok)?;
            let pq_key = Box::new(*PqKeyPair::from_node_secret(&next.secret()).public());
            let new = Member { key: next.public(), pq_key, ..row.ok_or_else(none)?.member.clone() };
            (Change::RotateStatic { old, new }, Some(next))
        }
        Propose::Sponsor(args) => {
            let Sponsor { key: sponsor, vaults, nodes, vault_bytes, .. } = *args;
            (Change::SetSponsor(SponsorTerms { sponsor, vaults, nodes, vault_bytes }), None)
        }
        Propose::Refresh(args) => {
            (Change::RefreshShares { every: args.every_days.map(|days| days * SECONDS_A_DAY) }, None)
        }
    })
}

pub(crate) fn random_key() -> anyhow::Result<KeyPair> {
    let mut secret = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret)?;
    Ok(KeyPair::from_secret(&secret))
}

/// The static node of a name or key: of several, those that `fit`.
fn find(statics: &[Static], wanted: &str, fit: impl Fn(&Static) -> bool) -> Result<PublicKey, Failure> {
    let is_key = wanted.len() >= 8 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_wanted = |row: &&Static| {
        row.member.label == wanted
            || is_key && row.member.key.to_string().starts_with(&wanted.to_ascii_lowercase())
    };
    let named: Vec<&Static> = statics.iter().filter(is_wanted).collect();
    let fitting: Vec<&&Static> = named.iter().filter(|row| fit(row)).collect();
    let hint = "`xvault static ls --all --json` lists all with their keys";
    match (&fitting[..], &named[..]) {
        ([one], _) => Ok(one.member.key),
        // The ledger has a word for why not.
        ([], [one]) => Ok(one.member.key),
        ([], []) => {
            let message = format!("there is no static node {}", escape(wanted));
            Err(Failure::new(Exit::NotFound, message).hint(hint))
        }
        _ => {
            let message = format!("{} names several static nodes: say which by its key", escape(wanted));
            Err(Failure::usage(message).hint(hint))
        }
    }
}

/// Says what fewer static nodes mean, which governance alone may decide.
fn warn_of_few(output: &Output, change: &Change, statics: &[Static]) {
    let voters = statics.iter().filter(|row| row.votes).count();
    if matches!(change, Change::RemoveStatic(_)) && voters == MIN_COMMITTEE {
        output.warn(format_args!(
            "with {} static nodes no fault is tolerated any more: consider `static propose replace`",
            voters - 1
        ));
    }
}

pub(crate) fn approve(session: &Session, args: &Approve) -> anyhow::Result<Exit> {
    let mut file = read(&args.file)?;
    let folder = NodeFolder::open(&args.dir)?;
    let next = NodeFolder::next_key(&args.dir)?;
    session.with_ledger_of(Some(&args.dir), async |ledger| {
        let before = match ledger.approvals(&file).await {
            Err(error) => return past(session.output(), ledger, &file, error).await,
            Ok(before) => before,
        };
        let mut signed = Vec::new();
        // After a rotation the folder's next key votes, until the running node has put it in the place of the other.
        let keys = || [Some(&folder.key), next.as_ref()].into_iter().flatten();
        let votes = |key: &&KeyPair| {
            before.have.iter().chain(&before.missing).any(|member| member.key == key.public())
        };
        if let Some(key) = keys().find(votes) {
            file.governance.approve(&file.network, key);
            signed.push("approved");
        }
        let newcomer = file.governance.change.newcomer().map(|new| new.key);
        if let Some(key) = keys().find(|key| Some(key.public()) == newcomer) {
            file.governance.possess(&file.network, key);
            signed.push("the new key proved");
        }
        if signed.is_empty() {
            let message = format!("no key in {} votes or is to come in", args.dir.display());
            let hint = "`xvault static ls` lists who votes; approve with the folder of one of them";
            return Err(Failure::new(Exit::Refused, message).hint(hint).into());
        }
        let approvals = ledger.approvals(&file).await?;
        replace(&args.file, &file.to_text())?;
        let output = session.output();
        output.note(format_args!("{}: {}", signed.join(", "), escape(&file.governance.change.to_string())));
        report(output, &args.file, &file, &approvals)?;
        Ok(Exit::Ok)
    })
}

pub(crate) fn submit(session: &Session, args: &Submit) -> anyhow::Result<Exit> {
    let mut files = args.files.iter();
    let first = files.next().context("no file")?;
    let mut file = read(first)?;
    for path in files {
        if !file.merge(&read(path)?) {
            let message = format!("{} and {} are not the same change", first.display(), path.display());
            return Err(Failure::new(Exit::Refused, message).hint("submit each by itself").into());
        }
    }
    session.with_ledger_of(None, async |ledger| {
        let output = session.output();
        let approvals = match ledger.approvals(&file).await {
            Err(error) => return past(output, ledger, &file, error).await,
            Ok(approvals) => approvals,
        };
        if !approvals.are_enough() {
            let message = format!("not enough have signed: {}", lacking(&approvals));
            let hint = format!("`xvault static approve {} --dir ITS_FOLDER` signs, at each", first.display());
            return Err(Failure::new(Exit::Refused, message).hint(hint).into());
        }
        let warner = output.warner();
        let action = Action::Govern(file.governance.clone());
        // Anybody may bring what a quorum approved: a key for this once.
        let carried = ledger.carry_out(&random_key()?, action, &|notice| warner.warn(notice)).await;
        match carried {
            Ok(height) => done(output, &file, height, false),
            Err(error) => past(output, ledger, &file, governance::explained(error)).await,
        }
    })
}

/// Says so if an error comes from the change being done already.
async fn past(
    output: &Output,
    ledger: &LedgerClient,
    file: &ChangeFile,
    error: Error,
) -> anyhow::Result<Exit> {
    if governance::is_past(&error, &file.governance)
        && let Some(height) = ledger.block_of(&file.governance).await?
    {
        return done(output, file, height, true);
    }
    Err(error.into())
}

fn done(output: &Output, file: &ChangeFile, height: Height, already: bool) -> anyhow::Result<Exit> {
    let change = file.governance.change.to_string();
    if output.is_json() {
        output.json(&json!({ "change": change, "height": height.0, "already": already }))?;
    } else {
        let done = if already { "already done" } else { "done" };
        output.line(format_args!("{done} in block {height}: {}", escape(&change)))?;
    }
    Ok(Exit::Ok)
}

/// Who has signed and who has not, for programs and people.
fn report(output: &Output, path: &Path, file: &ChangeFile, approvals: &Approvals) -> anyhow::Result<()> {
    let names =
        |members: &[Member]| -> Vec<String> { members.iter().map(|member| member.label.clone()).collect() };
    if output.is_json() {
        output.json(&json!({
            "file": path, "number": file.governance.sequence, "change": file.governance.change.to_string(),
            "approved": names(&approvals.have), "missing": names(&approvals.missing), "need": approvals.need,
            "newcomer_missing": approvals.unproved.as_ref().map(|member| &member.label),
            "enough": approvals.are_enough(),
        }))?;
    } else if approvals.are_enough() {
        output.line(format_args!(
            "{} of {} approved: `xvault static submit {}`",
            approvals.have.len(),
            approvals.need,
            path.display()
        ))?;
    } else {
        output.line(lacking(approvals))?;
    }
    Ok(())
}

/// What a change still needs, in words.
fn lacking(approvals: &Approvals) -> String {
    let Approvals { have, missing, need, unproved } = approvals;
    let mut words = format!("{} of {need} approved", have.len());
    if have.len() < *need {
        let names: Vec<String> = missing.iter().map(|member| escape(&member.label)).collect();
        words += &format!("; {} more of {}", need - have.len(), names.join(", "));
    }
    if let Some(newcomer) = unproved {
        words += &format!("; {} has to sign that it has its key", escape(&newcomer.label));
    }
    words
}

fn read(path: &Path) -> anyhow::Result<ChangeFile> {
    let read = ChangeFile::from_text(&input::text(path)?);
    read.map_err(|_| input::wrong(path, "this is not the file of a change, or it was edited").into())
}

/// Writes a file that is not there yet.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = std::fs::File::create_new(path);
    let mut file = file.with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file anew, whole or not at all.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // A leftover of a run that was killed.
    drop(std::fs::remove_file(&new));
    write(&new, text)?;
    std::fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(nth: u8, label: &str, votes: bool) -> Static {
        let (key, pq_key) = (PublicKey([nth; 32]), Box::new([nth; crate::crypto::ml_dsa::PUBLIC_LEN]));
        let (label, operator, address) = (label.into(), "op".into(), ([127, 0, 0, 1], 1).into());
        let member = Member { key, pq_key, label, operator, address };
        Static { member, votes, standing: Standing::Good, faults: 0, proof: None }
    }

    #[test]
    fn a_static_node_is_named_by_its_name_or_key() {
        let statics = [row(1, "s1", false), row(2, "s1", true), row(3, "s3", true), row(4, "s3", true)];
        let find = |wanted: &str| find(&statics, wanted, |row| row.votes).ok();
        assert_eq!(find("s1"), Some(PublicKey([2; 32])), "the one that votes");
        assert_eq!(find("01010101"), Some(PublicKey([1; 32])));
        assert_eq!(find(&"04".repeat(32)), Some(PublicKey([4; 32])));
        assert_eq!((find("s3"), find("s2"), find("0101")), (None, None, None));
    }
}
