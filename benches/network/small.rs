//! Many records: slices of a scan, small records, and long listings, on the storage core alone; what the ledger adds is in
//! `ledger`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use xvault::client::{Ack, Client, GetOptions, ListOptions, PutOptions, RecordAddress, Source};
use xvault::types::{CollectionName, RecordName};

use crate::Options;
use crate::network::Devnet;
use crate::report::{Outcome, Report};

pub(crate) type Workload = fn(&Options, &Report, &Runtime) -> Outcome<()>;

pub(crate) const WORKLOADS: [(&str, Workload); 4] =
    [("slices", slices), ("small", small), ("small with a ledger", stored_small), ("listed", listed)];

pub(crate) fn at(name: &str) -> RecordAddress {
    #[expect(clippy::unwrap_used, reason = "names made here")]
    RecordAddress {
        collection: "bench".parse::<CollectionName>().unwrap(),
        name: name.parse::<RecordName>().unwrap(),
    }
}

/// The name of a record, in the order of its number.
pub(crate) fn numbered(number: u64) -> RecordAddress {
    at(&format!("series/{:04}/{number:08}", number / 1_000))
}

/// The bytes of a record: its own, and the same each time.
pub(crate) fn content(number: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// Done once it is stored: what the ledger adds is measured by itself.
fn stored() -> PutOptions {
    PutOptions { ack: Ack::Stored, ..PutOptions::default() }
}

/// Calls `work` for every number below `count`, at most `jobs` at a time.
async fn each<F>(count: u64, jobs: u64, work: impl Fn(u64) -> F + Send + Sync + 'static) -> Outcome<()>
where
    F: Future<Output = Outcome<()>> + Send,
{
    let (next, work) = (Arc::new(AtomicU64::new(0)), Arc::new(work));
    let mut lanes = JoinSet::new();
    for _ in 0..jobs {
        let (next, work) = (Arc::clone(&next), Arc::clone(&work));
        lanes.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Outcome::Ok(());
                }
                work(number).await?;
            }
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    Ok(())
}

pub(crate) async fn put_all(
    client: &Client,
    first: u64,
    contents: Vec<Bytes>,
    jobs: u64,
    options: PutOptions,
) -> Outcome<()> {
    let (client, count) = (client.clone(), contents.len() as u64);
    each(count, jobs, move |number| {
        let (client, options) = (client.clone(), options.clone());
        let bytes = usize::try_from(number).map(|nth| contents[nth].clone());
        async move {
            client.put(&numbered(first + number), Source::Bytes(bytes?), options).await?;
            Ok(())
        }
    })
    .await
}

async fn get_all(client: &Client, count: u64, len: usize, jobs: u64) -> Outcome<()> {
    let client = client.clone();
    each(count, jobs, move |number| {
        let client = client.clone();
        // Neighbours in a pack are not asked for one after the other.
        let number = number.wrapping_mul(2_654_435_761) % count;
        async move {
            let mut download = client.get(&numbered(number), GetOptions::default()).await?;
            let mut got = 0;
            while let Some(more) = download.next().await? {
                got += more.len();
            }
            if got == len { Ok(()) } else { Err(format!("{got} bytes came of {len}").into()) }
        }
    })
    .await
}

fn slices(options: &Options, report: &Report, runtime: &Runtime) -> Outcome<()> {
    const COUNT: u64 = 1_000;
    const LEN: usize = 512 << 10;
    let devnet = Devnet::start(&options.dir, 0)?;
    let contents: Vec<_> = (0..COUNT).map(|number| content(number, LEN)).collect();
    runtime.block_on(async {
        let client = devnet.client().await?;
        let bytes = COUNT * LEN as u64;
        let took =
            devnet.measure(bytes, COUNT, async || put_all(&client, 0, contents, 8, stored()).await).await?;
        report.figure(
            "slices: put 1,000 of 512 KiB, 8 at once",
            "records/s",
            took.records_per_s(),
            300.0,
            Some(&took),
            json!({}),
        );
        client.close().await;
        Ok(())
    })
}

/// The same with a ledger, which anchors in the background meanwhile.
fn stored_small(options: &Options, report: &Report, runtime: &Runtime) -> Outcome<()> {
    const COUNT: u64 = 5_000;
    const LEN: usize = 4 << 10;
    let devnet = Devnet::start(&options.dir, 4)?;
    let contents: Vec<_> = (0..COUNT).map(|number| content(number, LEN)).collect();
    runtime.block_on(async {
        let client = devnet.client().await?;
        let work = async || put_all(&client, 0, contents, 16, stored()).await;
        let took = devnet.measure(COUNT * LEN as u64, COUNT, work).await?;
        report.figure(
            "small with a ledger: put 5,000 of 4 KiB, 16 at once, done when stored",
            "records/s",
            took.records_per_s(),
            0.0,
            Some(&took),
            json!({}),
        );
        client.close().await;
        Ok(())
    })
}

fn small(options: &Options, report: &Report, runtime: &Runtime) -> Outcome<()> {
    const COUNT: u64 = 5_000;
    const LEN: usize = 4 << 10;
    let mut devnet = Devnet::start(&options.dir, 0)?;
    let before = devnet.restart_and_measure_disk()?;
    let contents: Vec<_> = (0..COUNT).map(|number| content(number, LEN)).collect();
    let bytes = COUNT * LEN as u64;
    runtime.block_on(async {
        let client = devnet.client().await?;
        let took =
            devnet.measure(bytes, COUNT, async || put_all(&client, 0, contents, 16, stored()).await).await?;
        report.figure(
            "small: put 5,000 of 4 KiB, 16 at once",
            "records/s",
            took.records_per_s(),
            2_000.0,
            Some(&took),
            json!({}),
        );
        client.close().await;
        Outcome::Ok(())
    })?;
    let on_disk = devnet.restart_and_measure_disk()? - before;
    report.figure("small: bytes on disk", "x content", on_disk as f64 / bytes as f64, 2.0, None, json!({}));
    runtime.block_on(async {
        let client = devnet.client().await?;
        // Connections, and what the restart left cold.
        get_all(&client, COUNT, LEN, 16).await?;
        let took = devnet.measure(bytes, COUNT, async || get_all(&client, COUNT, LEN, 16).await).await?;
        report.figure(
            "small: get 5,000 of 4 KiB, 16 at once",
            "records/s",
            took.records_per_s(),
            5_000.0,
            Some(&took),
            json!({}),
        );
        client.close().await;
        Ok(())
    })
}

/// How the cost of a put grows with its collection, and how long a listing takes.
fn listed(options: &Options, report: &Report, runtime: &Runtime) -> Outcome<()> {
    const LEN: usize = 256;
    let devnet = Devnet::start(&options.dir, 0)?;
    runtime.block_on(async {
        let client = devnet.client().await?;
        let (mut done, mut first_cost) = (0, None);
        while done < options.listed {
            let step = (options.listed / 10).min(if done == 0 { 1_000 } else { u64::MAX });
            let step = step.min(options.listed - done).max(1);
            let contents: Vec<_> = (done..done + step).map(|number| content(number, LEN)).collect();
            let from = done;
            let took = devnet
                .measure(step * LEN as u64, step, async || {
                    put_all(&client, from, contents, 64, stored()).await
                })
                .await?;
            done += step;
            let micros = took.used.cpu_s * 1e6 / step as f64;
            let first = *first_cost.get_or_insert(micros);
            report.figure(
                "listed: put, 64 at once",
                "CPU us/record",
                micros,
                first,
                None,
                json!({ "records": done, "records_per_s": took.records_per_s().round() }),
            );
        }
        let begun = Instant::now();
        let listed = list_all(&client).await?;
        if listed != options.listed {
            return Err(format!("{listed} records are listed of {}", options.listed).into());
        }
        let rate = listed as f64 / begun.elapsed().as_secs_f64();
        report.figure("listed: list all", "records/s", rate, 0.0, None, json!({ "records": listed }));
        client.close().await;
        Ok(())
    })
}

async fn list_all(client: &Client) -> Outcome<u64> {
    let (mut after, mut count) = (None, 0);
    loop {
        let query = ListOptions {
            prefix: String::new(),
            delimiter: None,
            after,
            limit: 1_000,
            include_deleted: false,
        };
        let page = client.list(&at("x").collection, query).await?;
        count += page.entries.len() as u64;
        after = page.next;
        if after.is_none() {
            return Ok(count);
        }
    }
}
