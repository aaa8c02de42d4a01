//! `xvault guardian`: keeping a part of somebody's key, and giving it back.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::format;
use crate::cli::input;
use crate::cli::output::escape;
use crate::cli::session::Session;
use crate::client::access::recovery::{Guarded, Standing, fingerprint, guardian};
use crate::message::access::{GuardianShare, RecoveryRequest};

/// Being a guardian of somebody's key.
///
/// The owner asks for a key package (`xvault access request`), cuts the key up with `xvault key split`, and sends you a
/// share. If they lose all devices and the 24 words, they send you a request. One guardian's share tells nothing of the key.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Keep a share in this home. It is checked against what the ledger says of it.
    Accept(Accept),
    /// List the shares that this home keeps.
    Ls,
    /// Say on the ledger that you know who asks. The owner sees it, and can object for the time that they set.
    ///
    /// Make sure who asks by other ways than the one by which the request came, and have them read the code to you that this
    /// shows: what a request says of itself proves nothing.
    Approve(Approve),
    /// Give your part back, sealed to who asked. Until enough guardians have approved and the time to object is over, it is
    /// refused.
    Release(Release),
}

/// Arguments of `guardian accept`.
#[derive(Debug, clap::Args)]
pub(crate) struct Accept {
    /// The share that the owner sent you.
    #[arg(value_name = "FILE")]
    share: PathBuf,
}

/// Arguments of `guardian approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// The request that was sent to you.
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    /// Do not ask whether you know who asks.
    #[arg(short, long)]
    yes: bool,
}

/// Arguments of `guardian release`.
#[derive(Debug, clap::Args)]
pub(crate) struct Release {
    /// The request that you approved.
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Accept(args) => accept(session, &args),
        Command::Ls => ls(session),
        Command::Approve(args) => approve(session, &args),
        Command::Release(args) => release(session, &args),
    }
}

fn accept(session: &Session, args: &Accept) -> anyhow::Result<Exit> {
    let text = input::text(&args.share)?;
    let share = GuardianShare::from_text(&text).map_err(|_| {
        input::wrong(&args.share, "is no guardian's share, or was changed")
            .hint("the owner makes them with `xvault key split`")
    })?;
    let config = session.client_config()?;
    session.run(async { Ok(guardian::accept(&config, &share).await?) })?;
    let output = session.output();
    if output.is_json() {
        output.json(&json!({
            "v": 1, "vault": share.vault.to_string(), "set": share.set, "place": share.place,
            "threshold": share.threshold, "guardians": share.count, "note": share.note,
        }))?;
        return Ok(Exit::Ok);
    }
    output.line(format_args!("vault     {}", share.vault))?;
    output
        .line(format_args!("guardian  {} of {}; it takes {}", share.place, share.count, share.threshold))?;
    if !share.note.is_empty() {
        output.line(format_args!("note      {}", escape(&share.note)))?;
    }
    output.note("the share is kept in this home, sealed: the file is not needed any more");
    Ok(Exit::Ok)
}

fn ls(session: &Session) -> anyhow::Result<Exit> {
    let config = session.client_config()?;
    for guarded in session.run(async { Ok(guardian::guarded(&config).await?) })? {
        show(session, &guarded)?;
    }
    Ok(Exit::Ok)
}

fn show(session: &Session, guarded: &Guarded) -> anyhow::Result<()> {
    let (output, share) = (session.output(), &guarded.share);
    let standing = match guarded.standing {
        Standing::Current => "current",
        Standing::Replaced => "replaced",
        Standing::Unknown => "unknown",
    };
    let requests: Vec<String> =
        guarded.state.requests.iter().map(|request| fingerprint(&request.request)).collect();
    if output.is_json() {
        output.json(&json!({
            "v": 1, "vault": share.vault.to_string(), "set": share.set, "place": share.place, "state": standing,
            "threshold": share.threshold, "guardians": share.count, "note": share.note, "requests": requests,
        }))?;
        return Ok(());
    }
    let (place, count, note) = (share.place, share.count, escape(&share.note));
    output.line(format_args!("{}  {standing:8}  guardian {place} of {count}  {note}", share.vault))?;
    for request in requests {
        output.line(format_args!("  asked to give it back: {request}"))?;
    }
    Ok(())
}

fn read_request(path: &Path) -> anyhow::Result<RecoveryRequest> {
    let text = input::text(path)?;
    let request = RecoveryRequest::from_text(&text).ok().filter(|request| request.verify().is_ok());
    request.ok_or_else(|| {
        input::wrong(path, "is no request to recover, or was changed")
            .hint("who lost the key makes one with `xvault key recover`")
            .into()
    })
}

fn approve(session: &Session, args: &Approve) -> anyhow::Result<Exit> {
    let request = read_request(&args.request)?;
    let code = fingerprint(&request.id());
    let output = session.output();
    let (name, made) = (escape(&request.name), format::time(request.created));
    output.note(format_args!("{name} asks, in a request of {made}; its code is {code}"));
    confirm(args.yes)?;
    let config = session.client_config()?;
    let warner = output.warner();
    let height =
        session.run(async { Ok(guardian::approve(&config, &request, &|text| warner.warn(text)).await?) })?;
    if output.is_json() {
        output.json(&json!({
            "v": 1, "request": request.id().to_string(), "code": code, "height": height.map(|height| height.0),
            "already": height.is_none(),
        }))?;
        return Ok(Exit::Ok);
    }
    match height {
        Some(height) => output.line(format_args!("approved in block {height}"))?,
        None => output.line("approved before")?,
    }
    output.note("once the time to object is over: `xvault guardian release` with the same file");
    Ok(Exit::Ok)
}

/// Only a person at a terminal can say so other than by -y.
fn confirm(yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let failure = Failure::refused("approving a request needs a yes");
        return Err(failure.hint("-y says that you have made sure who asks").into());
    }
    eprint!("Did they read this code to you, and do you know that it is them? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::refused("nothing was approved").into())
    }
}

fn release(session: &Session, args: &Release) -> anyhow::Result<Exit> {
    let request = read_request(&args.request)?;
    let config = session.client_config()?;
    session.run(async { Ok(guardian::release(&config, &request).await?) })?;
    let output = session.output();
    if output.is_json() {
        output.json(&json!({ "v": 1, "request": request.id().to_string(), "released": true }))?;
    } else {
        output.line("released: who asked can fetch it from the static nodes")?;
    }
    Ok(Exit::Ok)
}
