//! `xvault key split`, `guardians`, `veto` and `recover`: a key that others bring back.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::access::read_package;
use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::key::{new_passphrase, save_with};
use crate::cli::output::escape;
use crate::cli::parse::parse_span;
use crate::cli::passphrase;
use crate::cli::session::Session;
use crate::client::access::recovery::fingerprint;
use crate::client::access::{Cut, OpenRecovery, Recovering, SplitTerms, Stage};
use crate::client::keystore::{Keystore, write_new};
use crate::crypto::passphrase::{Cost, OpenError};
use crate::crypto::seed::Seed;
use crate::ledger::recovery::{Guardians, Progress, Recovery};
use crate::runtime::wall_time;
use crate::types::{Hash, VaultId};

/// What is kept of a recovery under way, in the home folder.
const FILE: &str = "recovery";
/// Bytes of it that are read: a real one has under two thousand.
const MAX_FILE: usize = 16 << 10;

/// Arguments of `key split`.
#[derive(Debug, clap::Args)]
pub(crate) struct Split {
    /// How many guardians it takes to bring the key back: two at least.
    #[arg(long = "guardians", required = true, value_name = "M")]
    threshold: usize,
    /// The guardians' key packages, each made with `xvault access request` for this.
    #[arg(required = true, value_name = "PACKAGE")]
    packages: Vec<PathBuf>,
    /// How long you can object to a request, by the ledger's time: 30s, 10m, 72h, 5d.
    #[arg(long, value_name = "TIME", default_value = "72h", value_parser = parse_span)]
    delay: u32,
    /// What you tell them with it. It is not sealed: whoever gets the file can read it.
    #[arg(long, value_name = "WORDS", default_value = "")]
    note: String,
    /// Folder for the shares, one file for each guardian.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

/// Arguments of `key veto`.
#[derive(Debug, clap::Args)]
pub(crate) struct Veto {
    /// The code of the request, as `xvault key guardians` shows it, or its whole id [default: all that are open].
    #[arg(value_name = "REQUEST")]
    request: Option<String>,
}

/// Arguments of `key recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Recover {
    /// The vault that is to be recovered, as `xvault vault show` or a guardian's `xvault guardian ls` prints it.
    #[arg(value_name = "VAULT")]
    vault: VaultId,
    /// Who asks: what the guardians see. Needed the first time.
    #[arg(long, value_name = "WORDS")]
    name: Option<String>,
    /// Write the request to this new file [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn split(session: &Session, args: &Split) -> anyhow::Result<Exit> {
    let packages = args.packages.iter().map(|path| read_package(path)).collect::<Result<Vec<_>, _>>()?;
    let seed = session.unlock()?;
    let delay = Duration::from_secs(args.delay.into());
    let terms = SplitTerms { threshold: args.threshold, delay, note: args.note.clone() };
    session.with_client(async |client| {
        let cut = client.cut_for_guardians(&seed, &packages, &terms).await?;
        // If we crash in here the guardians of before are as they were, and the files are of no use.
        let files = write_shares(&args.output, &cut)?;
        let height = client.set_guardians(&cut).await.inspect_err(|_| {
            session.output().note("the shares that were written are of no use unless the ledger took them");
        })?;
        let output = session.output();
        if output.is_json() {
            output.json(&json!({
                "v": 1, "set": cut.set.number, "threshold": cut.set.threshold, "height": height.0,
                "vault": cut.set.vault.to_string(), "delay_s": args.delay, "shares": files,
            }))?;
            return Ok(Exit::Ok);
        }
        for (file, (name, share)) in files.iter().zip(&cut.shares) {
            output.line(format_args!("{}  for {}, guardian {}", file.display(), escape(name), share.place))?;
        }
        let (need, of) = (cut.set.threshold, cut.shares.len());
        output.note(format_args!(
            "any {need} of {of} guardians bring the key back, as of block {height}; each runs `xvault guardian accept`"
        ));
        output.note(format_args!("note down the vault's id, which a recovery begins with: {}", cut.set.vault));
        Ok(Exit::Ok)
    })
}

/// A file for each guardian, durable when this returns; none is overwritten.
fn write_shares(folder: &Path, cut: &Cut) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let name = |place: u8| folder.join(format!("guardian-{place}-set-{}.share", cut.set.number));
    let files: Vec<PathBuf> = cut.shares.iter().map(|(_, share)| name(share.place)).collect();
    for (path, (_, share)) in files.iter().zip(&cut.shares) {
        write_text(path, &share.to_text())?;
    }
    fs::File::open(folder).and_then(|folder| folder.sync_all()).context("syncing the shares' folder")?;
    Ok(files)
}

fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::refused(format!("{} exists", path.display())).hint("name another with -o")
        }
        _ => Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display())),
    })
}

pub(crate) fn guardians(session: &Session) -> anyhow::Result<Exit> {
    session.with_client(async |client| {
        let state = client.recovery_state().await?;
        let output = session.output();
        let Some(known) = &state.guardians else {
            if output.is_json() {
                output.json(&json!({ "v": 1, "set": null }))?;
            } else {
                output.note("the vault has no guardians: `xvault key split` names some");
            }
            return Ok(Exit::Ok);
        };
        show_guardians(session, known, &state.requests)?;
        Ok(Exit::Ok)
    })
}

fn show_guardians(session: &Session, known: &Guardians, requests: &[Recovery]) -> anyhow::Result<()> {
    let (output, set) = (session.output(), &known.set);
    let seconds = set.delay_micros / 1_000_000;
    if output.is_json() {
        let requests: Vec<_> = requests
            .iter()
            .map(|request| {
                json!({
                    "request": request.request.to_string(), "code": fingerprint(&request.request),
                    "approvals": request.approvals, "vetoed": request.vetoed.is_some(),
                    "opened": format::time(request.opened), "due": format::time(request.due(set)),
                })
            })
            .collect();
        output.json(&json!({
            "v": 1, "set": set.number, "threshold": set.threshold, "guardians": set.guardians.len(),
            "delay_s": seconds, "height": known.height.0, "requests": requests,
        }))?;
        return Ok(());
    }
    let (need, of) = (set.threshold, set.guardians.len());
    let delay = format::duration(Duration::from_micros(set.delay_micros));
    output.line(format_args!("guardians  {need} of {of} bring the key back, {delay} after a request"))?;
    for request in requests {
        output.line(describe(request, known))?;
    }
    Ok(())
}

fn describe(request: &Recovery, known: &Guardians) -> String {
    let code = fingerprint(&request.request);
    let (have, need) = (request.approvals.len(), known.set.threshold);
    if request.vetoed.is_some() {
        return format!("request    {code}  you objected");
    }
    let (due, now) = (request.due(&known.set), wall_time());
    let until = format::time(due);
    if due <= now && have >= usize::from(need) {
        return format!(
            "request    {code}  {have} of {need} approvals; guardians could release since {until}"
        );
    }
    format!("request    {code}  {have} of {need} approvals; you can object until {until}")
}

pub(crate) fn veto(session: &Session, args: &Veto) -> anyhow::Result<Exit> {
    session.with_client(async |client| {
        let open = client.open_recoveries().await?;
        let is_meant = |request: &Hash| match &args.request {
            Some(text) => fingerprint(request) == *text || request.to_string() == *text,
            None => true,
        };
        let meant: Vec<_> = open.iter().filter(|open| is_meant(&open.request.request)).collect();
        if meant.is_empty() {
            let failure = Failure::new(Exit::NotFound, "there is no such open request to recover this vault");
            return Err(failure.hint("`xvault key guardians` lists them").into());
        }
        let output = session.output();
        for open in &meant {
            let request = open.request.request;
            let height = client.veto(request).await?;
            let code = fingerprint(&request);
            if output.is_json() {
                output.json(
                    &json!({ "v": 1, "request": request.to_string(), "code": code, "height": height.0 }),
                )?;
            } else {
                output.line(format_args!(
                    "objected to {code} in block {height}: no guardian releases anything for it from here on"
                ))?;
            }
        }
        let Some(late) = meant.iter().find(|open| open.is_due) else { return Ok(Exit::Ok) };
        let since = format::time(late.due);
        let failure = Failure::refused(format!(
            "too late to be sure: guardians could release their parts since {since}, and whoever asked may have the words"
        ));
        Err(failure.hint("if it was not you, move to a new vault: make a key in another --home, and copy what matters").into())
    })
}

/// What the owner is told of a request, whatever it is doing.
pub(crate) fn notice(open: &OpenRecovery) -> String {
    let code = fingerprint(&open.request.request);
    let guardians = format::count(open.request.approvals.len() as u64, "guardian");
    if open.is_due {
        let since = format::time(open.due);
        return format!(
            "somebody asked your guardians for this vault's key, and could have it since {since} ({guardians} agreed; code {code}): if it was you, `xvault key split` anew ends this; if not, `xvault key veto` says what to do"
        );
    }
    format!(
        "somebody asks your guardians for this vault's key ({guardians} agreed; code {code}): if it is not you, `xvault key veto`"
    )
}

pub(crate) fn recover(session: &Session, args: &Recover) -> anyhow::Result<Exit> {
    let path = session.home().join(FILE);
    if session.keystore_path().exists() {
        return end(session, &path, args.vault);
    }
    if !path.exists() {
        return begin(session, args, &path);
    }
    let (recovering, passphrase) = take_up(session, &path)?;
    if recovering.request().vault != args.vault {
        let message = format!("a recovery of vault {} is under way here", recovering.request().vault);
        let hint = format!("use another --home, or remove {} to give it up", path.display());
        return Err(Failure::refused(message).hint(hint).into());
    }
    write_request(session, args, &recovering)?;
    go_on(session, &path, &recovering, &passphrase)
}

fn begin(session: &Session, args: &Recover, path: &Path) -> anyhow::Result<Exit> {
    let name = args.name.as_deref().ok_or_else(|| {
        Failure::usage("--name is needed to begin a recovery").hint("say who asks, for your guardians to see")
    })?;
    let ledger = session.ledger(None)?;
    let known = session.run(async {
        drop(ledger.follow().await);
        Ok(ledger.vault(args.vault).await?)
    })?;
    if known.is_none() {
        let failure = Failure::new(Exit::NotFound, format!("the ledger has no vault {}", args.vault));
        return Err(failure.hint("its id is with the guardians' names, or `vault show` said it").into());
    }
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret)?;
    let recovering = Recovering::begin(&session.network()?, args.vault, name, wall_time(), secret)?;
    let passphrase = new_passphrase(session)?;
    fs::create_dir_all(session.home())
        .with_context(|| format!("cannot make {}", session.home().display()))?;
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    getrandom::fill(&mut salt)?;
    getrandom::fill(&mut nonce)?;
    let sealed =
        crate::crypto::passphrase::seal(&recovering.to_bytes(), &passphrase, Cost::INTERACTIVE, salt, nonce);
    // Durable before anybody sees the request: its keys must not be lost while guardians approve it.
    write_new(path, &sealed).with_context(|| format!("cannot write {}", path.display()))?;
    write_request(session, args, &recovering)?;
    let code = fingerprint(&recovering.request().id());
    let output = session.output();
    if output.is_json() {
        output.json(&json!({
            "v": 1, "vault": args.vault.to_string(), "stage": "begun", "code": code,
            "request": recovering.request().id().to_string(), "path": args.output,
            "recovery_request": args.output.is_none().then(|| recovering.request().to_text()),
        }))?;
    }
    output.note(format_args!("give the request to your guardians, and read them its code: {code}"));
    output.note("each runs `xvault guardian approve`, later `xvault guardian release`; then run this again");
    Ok(Exit::Ok)
}

/// The request as a file that was named, else on standard output the first time.
fn write_request(session: &Session, args: &Recover, recovering: &Recovering) -> anyhow::Result<()> {
    let text = recovering.request().to_text();
    match &args.output {
        Some(path) => Ok(write_text(path, &text)?),
        None if args.name.is_some() && !session.output().is_json() => {
            Ok(session.output().bytes(text.as_bytes())?)
        }
        None => Ok(()),
    }
}

fn take_up(session: &Session, path: &Path) -> anyhow::Result<(Recovering, Zeroizing<String>)> {
    let sealed = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let passphrase = match session.given_passphrase()? {
        Some(given) => given.passphrase,
        None => passphrase::ask("Passphrase: ")?,
    };
    let shown = path.display();
    let opened = if sealed.len() > MAX_FILE {
        Err(OpenError::Damaged)
    } else {
        crate::crypto::passphrase::open(&sealed, &passphrase)
    };
    let opened = opened.map_err(|error| match error {
        OpenError::WrongPassphrase => {
            Failure::new(Exit::WrongPassphrase, format!("wrong passphrase for {shown}"))
        }
        OpenError::Damaged | OpenError::Unsupported => {
            Failure::new(Exit::Corrupt, format!("{shown} is damaged"))
                .hint("remove it and begin anew; guardians approve the new request instead")
        }
    })?;
    Ok((Recovering::from_bytes(&opened)?, passphrase))
}

fn go_on(session: &Session, path: &Path, recovering: &Recovering, passphrase: &str) -> anyhow::Result<Exit> {
    let network = session.network()?;
    let stage = session.run(async { Ok(recovering.stage(&network).await?) })?;
    let not_yet = |text: String| -> anyhow::Result<Exit> {
        let hint = "run this again later; `xvault guardian approve` and `release` are what the guardians do";
        Err(Failure::new(Exit::Unavailable, text).hint(hint).into())
    };
    match stage {
        Stage::Asking { need } => {
            return not_yet(format!("no guardian has approved the request yet, {need} must"));
        }
        Stage::Asked(Progress::Approving { have, need }) => {
            return not_yet(format!("{have} of {need} guardians have approved the request"));
        }
        Stage::Asked(Progress::Waiting { until }) => {
            let until = format::time(until);
            return not_yet(format!("enough guardians have approved; the owner can object until {until}"));
        }
        Stage::Asked(Progress::Vetoed | Progress::Due) => {}
    }
    let (seed, wrong) = session.run(async {
        let seed = recovering.collect(&network).await?;
        Ok((seed, recovering.wrong_parts(&network).await.unwrap_or_default()))
    })?;
    for place in &wrong {
        session
            .output()
            .warn(format_args!("guardian {place} gave a part that is not the one you handed out"));
    }
    restore(session, path, &seed, passphrase, &wrong)
}

/// If we crash between the two, the next run removes the file.
fn restore(
    session: &Session,
    path: &Path,
    seed: &Seed,
    passphrase: &str,
    wrong: &[u8],
) -> anyhow::Result<Exit> {
    let keystore = save_with(session, seed, passphrase, false)?;
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    let output = session.output();
    if output.is_json() {
        output.json(
            &json!({ "v": 1, "stage": "restored", "public_key": keystore.public_key(), "wrong": wrong }),
        )?;
    } else {
        output.line(format_args!("public key  {}", keystore.public_key()))?;
        output.note(
            "the key is back: `xvault recover` restores the index, `xvault key export` shows the 24 words",
        );
        output.note("if a device was stolen, `xvault vault rotate` makes its key useless");
    }
    Ok(Exit::Ok)
}

/// There is a keystore: a recovery of its vault is over.
fn end(session: &Session, path: &Path, vault: VaultId) -> anyhow::Result<Exit> {
    let exists = || crate::client::keystore::KeystoreError::Exists { path: session.keystore_path() };
    if !path.exists() {
        return Err(exists().into());
    }
    let keystore = Keystore::load(&session.keystore_path())?;
    if *session.unlock()?.vault(0, 0).vault() != vault {
        return Err(exists().into());
    }
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    let output = session.output();
    if output.is_json() {
        output.json(
            &json!({ "v": 1, "stage": "restored", "public_key": keystore.public_key(), "wrong": [] }),
        )?;
    } else {
        output.note("the key was restored before");
    }
    Ok(Exit::Ok)
}
