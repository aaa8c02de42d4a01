//! One large record: put, get, get with nodes dead, and ranges at random places of it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;
use xvault::client::{ByteRange, Client, GetOptions, PutOptions, Source};

use crate::Options;
use crate::model::Stages;
use crate::network::Devnet;
use crate::report::{Outcome, Report};
use crate::small::at;

/// Ranges read for the latencies.
const RANGES: u64 = 300;
const RANGE_LEN: u64 = 1 << 20;
const RECORD: &str = "xv://bench/large";

pub(crate) fn run(options: &Options, report: &Report, stages: &Stages, runtime: &Runtime) -> Outcome<()> {
    let bytes = options.large_bytes;
    let mut devnet = Devnet::start(&options.dir, 4)?;
    let (source, target) = (devnet.path("source"), devnet.path("target"));
    write_noise(&source, bytes)?;

    let mut put = devnet.command(["-q", "put"]);
    put.arg(&source).arg(RECORD);
    let took = devnet.measure_command(put, bytes, 1)?;
    let model = json!({ "model": stages.put(), "times_model": took.cpu_s_per_gb() / stages.put() });
    report.figure("large: put", "CPU s/GB", took.cpu_s_per_gb(), 6.0, Some(&took), model);

    let get = |devnet: &Devnet, target: &std::path::Path| {
        let mut get = devnet.command(["-q", "get", "--force", RECORD]);
        get.arg(target);
        devnet.measure_command(get, bytes, 1)
    };
    // The nodes' first reads come from their disks; those after from the page cache.
    let cold = get(&devnet, &target)?;
    report.figure("large: get to a file, cold", "CPU s/GB", cold.cpu_s_per_gb(), 3.2, Some(&cold), json!({}));
    check_same(&source, &target)?;
    let stdout = std::path::Path::new("-");
    let healthy = get(&devnet, stdout)?;
    let model = json!({ "model": stages.get(), "times_model": healthy.cpu_s_per_gb() / stages.get() });
    report.figure("large: get", "CPU s/GB", healthy.cpu_s_per_gb(), 3.2, Some(&healthy), model);

    devnet.kill(2)?;
    let degraded = get(&devnet, stdout)?;
    let ratio = degraded.cpu_s_per_gb() / healthy.cpu_s_per_gb();
    report.figure("large: get, 2 of 6 nodes killed", "x healthy", ratio, 1.3, Some(&degraded), json!({}));
    get(&devnet, &target)?;
    check_same(&source, &target)?;
    devnet.revive()?;

    runtime.block_on(ranges(&devnet, report, &source, bytes))
}

/// The time to the first byte and to the whole of a MiB, the medians.
async fn ranges(devnet: &Devnet, report: &Report, source: &std::path::Path, bytes: u64) -> Outcome<()> {
    let client = devnet.client().await?;
    client.put(&at("large"), Source::File(source.to_owned()), PutOptions::default()).await?;
    let mut first_ms = Vec::new();
    let mut whole_ms = Vec::new();
    for number in 0..RANGES {
        // Places spread evenly, and in no order: a step of about 0.618 of the record.
        let place = number.wrapping_mul(11_400_714_819_323_198_485) >> 20;
        let start = place % (bytes - RANGE_LEN);
        let (first, whole) = range(&client, start).await?;
        first_ms.push(first.as_secs_f64() * 1e3);
        whole_ms.push(whole.as_secs_f64() * 1e3);
    }
    for (name, mut times, reach) in
        [("large: first byte of a range", first_ms, 3.0), ("large: 1 MiB of a range", whole_ms, 8.0)]
    {
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times[times.len() * percent / 100];
        report.figure(name, "ms p50", at(50), reach, None, json!({ "p90": at(90), "p99": at(99) }));
    }
    client.close().await;
    Ok(())
}

async fn range(client: &Client, start: u64) -> Outcome<(Duration, Duration)> {
    let range: ByteRange = format!("{start}-{}", start + RANGE_LEN - 1).parse()?;
    let begun = Instant::now();
    let mut download =
        client.get(&at("large"), GetOptions { range: Some(range), ..GetOptions::default() }).await?;
    let (mut first, mut len) = (None, 0);
    while let Some(more) = download.next().await? {
        first.get_or_insert_with(|| begun.elapsed());
        len += more.len() as u64;
    }
    if len != RANGE_LEN {
        return Err(format!("{len} bytes came of {RANGE_LEN}").into());
    }
    Ok((first.ok_or("no bytes came")?, begun.elapsed()))
}

/// Fills a file with bytes that do not compress.
fn write_noise(path: &std::path::Path, bytes: u64) -> Outcome<()> {
    let mut file = std::fs::File::create(path)?;
    let mut noise = blake3::Hasher::new().update(b"noise").finalize_xof();
    let mut piece = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let len = usize::try_from(left.min(1 << 20))?;
        noise.fill(&mut piece[..len]);
        file.write_all(&piece[..len])?;
        left -= len as u64;
    }
    Ok(file.sync_all()?)
}

fn check_same(one: &std::path::Path, other: &std::path::Path) -> Outcome<()> {
    let hash = |path: &std::path::Path| -> Outcome<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(path)?)?;
        Ok(hasher.finalize())
    };
    if hash(one)? == hash(other)? { Ok(()) } else { Err("other bytes came back".into()) }
}
