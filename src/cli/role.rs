//! `xvault role`: who is a clinician, by an authority's word.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::escape;
use crate::cli::parse::parse_date;
use crate::cli::session::Session;
use crate::cli::{format, input};
use crate::client::access::emergency::certify;
use crate::message::access::RoleCertificate;
use crate::types::{PublicKey, Timestamp};

/// Bytes of a certificate's text that are read: a real one has five hundred.
const MAX_CERTIFICATE_TEXT: u64 = 16 << 10;

/// Certificates that a key is of a clinician, for emergencies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Certify with this home's key, as an institution or an association of them, that a key is of a clinician.
    ///
    /// It counts for the emergency grants whose owners named this home's key (`xvault key show`) as an authority. There is no
    /// way to take it back: let it end soon, and make another.
    Certify(CertifyArgs),
    /// Show what a certificate says, and check its signature.
    Show(ShowArgs),
}

/// Arguments of `role certify`.
#[derive(Debug, clap::Args)]
pub(crate) struct CertifyArgs {
    /// The clinician's key, as `xvault key show` in the clinician's home prints it.
    #[arg(value_name = "KEY")]
    holder: PublicKey,
    /// Where the clinician works: small letters, digits and . _ - :
    #[arg(long, required = true, value_name = "NAME")]
    institution: String,
    /// As what: letters, digits and . _ - :
    #[arg(long, required = true, value_name = "NAME")]
    role: String,
    /// Until the beginning of this day: YYYY-MM-DD.
    #[arg(long, required = true, value_name = "DATE", value_parser = parse_date)]
    until: Timestamp,
    /// Write to this new file [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Arguments of `role show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The file of the certificate.
    #[arg(value_name = "FILE")]
    certificate: PathBuf,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Certify(args) => make(session, &args),
        Command::Show(args) => show(session, &args),
    }
}

fn make(session: &Session, args: &CertifyArgs) -> anyhow::Result<Exit> {
    let config = session.client_config()?;
    let text = certify(&config, args.holder, &args.institution, &args.role, args.until)?.to_text();
    let output = session.output();
    if let Some(path) = &args.output {
        let made = std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
        made.map_err(|error| {
            let shown = path.display();
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                return Failure::refused(format!("{shown} exists")).hint("name another file");
            }
            Failure::new(Exit::Failed, format!("cannot write {shown}: {error}"))
        })?;
        output.note(format_args!("wrote {}: give it to the clinician", path.display()));
    }
    if output.is_json() {
        output.json(
            &json!({ "v": 1, "path": args.output, "certificate": args.output.is_none().then_some(text) }),
        )?;
    } else if args.output.is_none() {
        output.bytes(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// Reads the file of a certificate.
pub(crate) fn read_certificate(path: &Path) -> Result<RoleCertificate, Failure> {
    let (shown, mut text) = (path.display(), String::new());
    input::short_text(path, MAX_CERTIFICATE_TEXT, &mut text)?;
    let found = RoleCertificate::from_text(&text).ok().filter(|found| found.verify(&found.network).is_ok());
    found.ok_or_else(|| {
        Failure::new(Exit::Corrupt, format!("{shown} is no role certificate, or was changed"))
            .hint("an authority makes one with `xvault role certify`")
    })
}

fn show(session: &Session, args: &ShowArgs) -> anyhow::Result<Exit> {
    let found = read_certificate(&args.certificate)?;
    let output = session.output();
    if output.is_json() {
        output.json(&json!({
            "v": 1, "network": found.network.to_string(), "authority": found.authority.to_string(),
            "holder": found.holder.to_string(), "institution": found.institution, "role": found.role,
            "expires": format::time(found.expires),
        }))?;
        return Ok(Exit::Ok);
    }
    output.line(format_args!("key          {}", found.holder))?;
    output.line(format_args!("role         {}", escape(&found.role)))?;
    output.line(format_args!("institution  {}", escape(&found.institution)))?;
    output.line(format_args!("until        {}", format::time(found.expires)))?;
    output.line(format_args!("authority    {}", found.authority))?;
    output.line(format_args!("network      {}", found.network))?;
    Ok(Exit::Ok)
}
