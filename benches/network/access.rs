//! Access: how long until somebody is let in, how fast they list and open, and how soon a revocation bites.

use std::time::Instant;

use serde_json::json;
use tokio::runtime::Runtime;
use xvault::client::access::owner::every_day;
use xvault::client::access::{GrantTerms, Scope, Shared, SharedRecord, grantee};
use xvault::client::{Client, ClientConfig, GetOptions, PutOptions};
use xvault::crypto::seed::Seed;
use xvault::message::access::Rights;
use xvault::types::limits::MAX_RELEASE_ITEMS;
use xvault::types::{Network, Timestamp};

use crate::Options;
use crate::network::{Devnet, own_cpu_s};
use crate::report::{Outcome, Report};
use crate::rest;
use crate::small::{content, put_all};

/// Static nodes: of seven five open.
const STATICS: usize = 7;
const RECORDS: u64 = 10_000;
const LEN: usize = 4 << 10;

pub(crate) fn run(options: &Options, report: &Report, runtime: &Runtime) -> Outcome<()> {
    let mut devnet = Devnet::start(&options.dir, STATICS)?;
    runtime.block_on(async {
        let owner = devnet.client().await?;
        let contents = (0..RECORDS).map(|number| content(number, LEN)).collect();
        put_all(&owner, 0, contents, 64, PutOptions::default()).await?;
        let grantee = Grantee::new(&devnet, owner.network());
        // The first grant deals the vault's key as well.
        owner.grant(&grantee.package()?, terms("name:series/0000/00000000")?).await?;
        let begun = Instant::now();
        let package = grantee.package()?;
        let granted = owner.grant(&package, terms("in:bench")?).await?;
        let with = json!({ "records": granted.brought, "static_nodes": STATICS });
        let seconds = begun.elapsed().as_secs_f64();
        report.figure("access: grant of a scope of 10,000 records", "s", seconds, 2.0, None, with);
        let shared = Shared::open(grantee.config(), &package).await?;
        let records = list(report, &shared).await?;
        open(report, &shared, &records).await?;
        open_in_bulk(report, &devnet, &shared, &records).await?;
        revoke(report, &owner, &grantee).await?;
        owner.close().await;
        Outcome::Ok(())
    })?;
    devnet.stop()?;
    rest::on_disk(report, &devnet.path("home/devnet/static-1/access"))
}

/// Somebody with a home and keys of their own.
struct Grantee {
    config: ClientConfig,
}

impl Grantee {
    fn new(devnet: &Devnet, network: &Network) -> Self {
        let keys = Seed::from_entropy([0x9a; 32]).vault(0, 0);
        Self { config: ClientConfig { network: network.clone(), keys, home: devnet.path("grantee") } }
    }

    fn config(&self) -> ClientConfig {
        self.config.clone()
    }

    fn package(&self) -> Outcome<xvault::message::access::KeyPackage> {
        Ok(grantee::key_package(&self.config, "a grantee", far())?)
    }
}

fn far() -> Timestamp {
    // 2100-01-01.
    Timestamp::from_unix_micros(4_102_444_800_000_000)
}

fn terms(scope: &str) -> Outcome<GrantTerms> {
    Ok(GrantTerms {
        scopes: vec![(scope.parse()?, scope.parse::<Scope>()?)],
        rights: Rights::READ.and(Rights::LIST),
        not_before: Timestamp::from_unix_micros(0),
        expires: far(),
        days: every_day(),
        quota: None,
        append_bytes: None,
        note: String::new(),
    })
}

async fn list(report: &Report, shared: &Shared) -> Outcome<Vec<SharedRecord>> {
    let begun = Instant::now();
    let records = shared.list().await?;
    let with = json!({ "records": records.len() });
    let seconds = begun.elapsed().as_secs_f64();
    report.figure("access: list of 10,000 granted records", "s", seconds, 1.0, None, with);
    Ok(records)
}

async fn open(report: &Report, shared: &Shared, records: &[SharedRecord]) -> Outcome<()> {
    const COUNT: usize = 200;
    let cpu = own_cpu_s()?;
    let mut took = Vec::new();
    for record in records.iter().step_by(records.len() / COUNT) {
        let begun = Instant::now();
        let mut download = shared.get(record, GetOptions::default()).await?;
        while download.next().await?.is_some() {}
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let with = json!({ "static_nodes": STATICS, "bytes": LEN });
    for (name, at, reach) in [("p50", 50, 15.0), ("p99", 99, 100.0)] {
        let ms = took[took.len() * at / 100];
        report.figure(
            &format!("access: open and read a record, {name}"),
            "ms",
            ms,
            reach,
            None,
            with.clone(),
        );
    }
    let ms = (own_cpu_s()? - cpu) * 1e3 / took.len() as f64;
    report.figure("access: CPU of the client for one", "ms", ms, 3.0, None, with);
    Ok(())
}

/// Openings by requests of as many records as one may name, without reading them: what static nodes have to do.
async fn open_in_bulk(
    report: &Report,
    devnet: &Devnet,
    shared: &Shared,
    records: &[SharedRecord],
) -> Outcome<()> {
    const ROUNDS: usize = 3;
    let (nodes, own, begun) = (devnet.cpu_s("static")?, own_cpu_s()?, Instant::now());
    let mut opened = 0;
    for _ in 0..ROUNDS {
        let found = shared.open_all(records).await?;
        opened += found.into_iter().collect::<Result<Vec<_>, _>>()?.len();
    }
    let (nodes, own) = (devnet.cpu_s("static")? - nodes, own_cpu_s()? - own);
    let elapsed = begun.elapsed().as_secs_f64();
    // Each of the static nodes does all of it.
    let rate = (opened * STATICS) as f64 / nodes;
    let with = json!({
        "static_nodes": STATICS, "batch": MAX_RELEASE_ITEMS, "records": opened, "elapsed_s": elapsed,
        "client_cpu_us_a_record": own * 1e6 / opened as f64,
    });
    report.figure("access: openings in batches, a core of a static node", "1/s", rate, 3_000.0, None, with);
    Ok(())
}

async fn revoke(report: &Report, owner: &Client, grantee: &Grantee) -> Outcome<()> {
    const COUNT: usize = 30;
    let (mut acknowledged, mut settled) = (Vec::new(), Vec::new());
    for _ in 0..COUNT {
        let granted = owner.grant(&grantee.package()?, terms("in:bench")?).await?;
        let revoked = owner.revoke(granted.grant, |_| ()).await?;
        acknowledged.push(revoked.acknowledged.as_secs_f64() * 1e3);
        settled.push(revoked.settled.as_secs_f64() * 1e3);
    }
    for (name, mut took, reach) in [("acknowledged", acknowledged, 30.0), ("final", settled, 200.0)] {
        took.sort_by(f64::total_cmp);
        let name = format!("access: revocation {name}, p50");
        report.figure(&name, "ms", took[COUNT / 2], reach, None, json!({ "static_nodes": STATICS }));
    }
    Ok(())
}
