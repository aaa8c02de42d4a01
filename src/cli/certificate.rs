//! Erasure certificates as people and programs are shown them.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, escape};
use crate::cli::verify::too_few;
use crate::cli::{format, input};
use crate::message::access::{Certified, ErasureCertificate, ErasureStatement, Remainder};
use crate::message::{Genesis, Policy, Violation};
use crate::types::RecordTag;

/// `xvault verify --certificate`.
pub(crate) fn verify(
    output: &Output,
    path: &Path,
    genesis: &Genesis,
    policy: Policy,
) -> anyhow::Result<Exit> {
    let shown = path.display();
    let wrong = |violation: Violation| {
        Failure::new(Exit::Corrupt, format!("the certificate {shown} does not hold: {violation}"))
    };
    let found = ErasureCertificate::from_text(&input::text(path)?).map_err(wrong)?;
    let certified = found.verify(genesis, Policy::Quorum).map_err(wrong)?;
    if policy == Policy::All {
        all_signed(&found, genesis, &certified)?;
    }
    if output.is_json() {
        output.json(&json(&found, &certified))?;
    } else if !output.is_quiet() {
        report(output, &found.statement, &certified)?;
    }
    Ok(Exit::Ok)
}

const ALL_HINT: &str =
    "run `xvault erase` of the same again, for the signatures that came later, or use --policy quorum";

/// Refuses a certificate that holds, unless every static node signed both that the keyslots are gone and the tree head.
fn all_signed(found: &ErasureCertificate, genesis: &Genesis, certified: &Certified) -> anyhow::Result<()> {
    let (signed, members) = (certified.signers.len(), certified.members);
    if signed < members {
        return Err(too_few(signed, members, "signed that the keyslots are gone", ALL_HINT).into());
    }
    let (head, roster) = found.proof.verify(genesis, Policy::Quorum, &found.transaction, &found.note)?;
    if head.satisfies(roster, Policy::All) {
        return Ok(());
    }
    Err(too_few(head.cosignatures().len(), members, "signed the head of the log by then", ALL_HINT).into())
}

fn report(output: &Output, statement: &ErasureStatement, certified: &Certified) -> anyhow::Result<()> {
    output.line(format_args!("erased    {}", escape(&statement.subject)))?;
    for found in &statement.erasures {
        let count = found.erasure.versions.len() as u64;
        output.line(format_args!(
            "          {} in block {}",
            format::count(count, "version"),
            found.height
        ))?;
    }
    for named in &statement.names {
        output.line(format_args!("record    {}  {}", named.record, escape(&named.name)))?;
    }
    output.line(format_args!("vault     {}", statement.vault))?;
    output.line(format_args!("by        {}", certified.owner))?;
    output.line(format_args!(
        "final     {} at the latest, in block {}",
        format::time(certified.time),
        certified.height
    ))?;
    let (signed, members) = (certified.signers.len(), certified.members);
    output
        .line(format_args!("signed    by {signed} of {members} static nodes that the keyslots are gone"))?;
    for (node, label) in &certified.signers {
        let times = statement.deletions.iter().filter(|receipt| receipt.node == *node);
        let last = times.map(|receipt| receipt.time).max();
        let time = last.map(format::time).unwrap_or_default();
        output.line(format_args!("          {time}  {}", escape(label)))?;
    }
    let segments: usize = statement.releases.iter().map(|receipt| receipt.segments.len()).sum();
    output.line(format_args!(
        "freed     {} by storage nodes, whose keys the genesis does not prove",
        format::count(segments as u64, "shard holding")
    ))?;
    let remains = remains(statement);
    if remains.is_empty() {
        output.line("remains   nothing that is known of")?;
    }
    remains.iter().try_for_each(|line| output.line(format_args!("remains   {line}")))?;
    Ok(())
}

/// What remains, in words.
pub(crate) fn remains(statement: &ErasureStatement) -> Vec<String> {
    let mut lines: Vec<_> = statement.remains.iter().map(|found| words(statement, found)).collect();
    if statement.unlisted > 0 {
        lines.push(format!("{} more, for which the certificate has no room", statement.unlisted));
    }
    lines
}

fn name_of(statement: &ErasureStatement, record: &RecordTag) -> String {
    let named = statement.names.iter().find(|named| named.record == *record);
    named.map_or_else(|| record.to_string(), |named| escape(&named.name))
}

fn words(statement: &ErasureStatement, found: &Remainder) -> String {
    match found {
        Remainder::Keyslots { node } => {
            format!("static node {} has not signed yet that its keyslots are gone", node.short())
        }
        Remainder::Shared { segment } => {
            let segment = segment.short();
            format!("ciphertext that nobody can open in segment {segment}, which other records use")
        }
        Remainder::Shard { segment, node } => {
            let (segment, node) = (segment.short(), node.short());
            format!("ciphertext that nobody can open of segment {segment} at storage node {node}")
        }
        Remainder::Durable { collection } => {
            let collection = escape(collection);
            format!(
                "what was in xv://{collection}, which was durable, for who has the 24 words and kept enough shards"
            )
        }
        Remainder::Opened { grant, record, time, .. } => {
            let (name, time) = (name_of(statement, record), format::time(*time));
            format!("what grant {grant} made of {name}, which it opened at {time}")
        }
    }
}

/// A certificate for programs.
pub(crate) fn json(found: &ErasureCertificate, certified: &Certified) -> Value {
    let statement = &found.statement;
    let erasure = |found: &crate::message::access::certificate::CertifiedErasure| {
        let versions: Vec<_> = found
            .erasure
            .versions
            .iter()
            .map(|version| json!({ "record": version.record.to_string(), "version": version.version.to_string() }))
            .collect();
        json!({ "id": found.erasure.hash().to_string(), "height": found.height.0, "versions": versions })
    };
    let remainder = |found: &Remainder| match found {
        Remainder::Keyslots { node } => json!({ "kind": "keyslots", "static_node": node.to_string() }),
        Remainder::Shared { segment } => json!({ "kind": "shared", "segment": segment.to_string() }),
        Remainder::Shard { segment, node } => {
            json!({ "kind": "shard", "segment": segment.to_string(), "node": node.to_string() })
        }
        Remainder::Durable { collection } => json!({ "kind": "durable", "collection": collection }),
        Remainder::Opened { grant, record, version, time } => json!({
            "kind": "opened", "grant": grant.to_string(), "record": record.to_string(),
            "version": version.to_string(), "time": format::time(*time),
        }),
    };
    let names: Vec<_> = statement
        .names
        .iter()
        .map(|named| json!({ "record": named.record.to_string(), "name": named.name }))
        .collect();
    let signers: Vec<_> = certified
        .signers
        .iter()
        .map(|(key, label)| json!({ "key": key.to_string(), "label": label }))
        .collect();
    let releases: Vec<_> = statement
        .releases
        .iter()
        .map(|receipt| {
            let segments: Vec<_> = receipt.segments.iter().map(ToString::to_string).collect();
            json!({ "node": receipt.node.to_string(), "time": format::time(receipt.time), "segments": segments })
        })
        .collect();
    json!({
        "v": 1, "subject": statement.subject, "vault": statement.vault.to_string(),
        "owner": certified.owner.to_string(), "height": certified.height.0, "time": format::time(certified.time),
        "claim": found.transaction.id().to_string(), "erasures": statement.erasures.iter().map(erasure).collect::<Vec<_>>(),
        "names": names, "signers": signers, "static_nodes": certified.members, "releases": releases,
        "remains": statement.remains.iter().map(remainder).collect::<Vec<_>>(), "unlisted": statement.unlisted,
    })
}
