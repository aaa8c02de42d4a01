//! Figures as JSON lines.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::Stages;
use crate::network::Used;

/// A benchmark just stops at the first thing that goes wrong.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Writes figures to standard output.
pub(crate) struct Report;

/// What one workload took.
pub(crate) struct Took {
    /// Wall time, on a machine that others may use too.
    pub(crate) elapsed: Duration,
    /// CPU time of client and nodes.
    pub(crate) used: Used,
    /// Bytes of user data.
    pub(crate) bytes: u64,
    /// Records.
    pub(crate) records: u64,
}

impl Took {
    pub(crate) fn cpu_s_per_gb(&self) -> f64 {
        self.used.cpu_s * 1e9 / self.bytes as f64
    }

    pub(crate) fn records_per_s(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }
}

impl Report {
    /// The first line says what is measured, and where.
    pub(crate) fn begin() -> Outcome<Self> {
        let git = |args: &[&str]| -> Outcome<String> {
            let out = Command::new("git").args(args).output()?.stdout;
            Ok(String::from_utf8(out)?.trim().to_owned())
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        println!(
            "{}",
            json!({
                "commit": git(&["rev-parse", "--short", "HEAD"])?,
                "changed_since": !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
                "cpu": model.trim_start_matches([' ', '\t', ':']),
                "cores": std::thread::available_parallelism()?.get(),
            })
        );
        Ok(Self)
    }

    pub(crate) fn stages(&self, stages: &Stages) {
        println!(
            "{}",
            json!({ "stages_ns_per_byte": stages.named(), "model_put": stages.put(), "model_get": stages.get() })
        );
    }

    /// One figure, with what should be reached, and whatever else explains it.
    pub(crate) fn figure(
        &self,
        name: &str,
        unit: &str,
        value: f64,
        reach: f64,
        took: Option<&Took>,
        more: Value,
    ) {
        let mut line = json!({ "figure": name, "unit": unit, "value": rounded(value), "reach": reach });
        if let Some(took) = took {
            let seconds = took.elapsed.as_secs_f64();
            line["elapsed_s"] = rounded(seconds).into();
            line["mb_per_s"] = rounded(took.bytes as f64 / 1e6 / seconds).into();
            line["cpu_s_per_gb"] = rounded(took.cpu_s_per_gb()).into();
            line["records_per_s"] = rounded(took.records_per_s()).into();
            line["client_peak_mib"] = (took.used.client_peak >> 20).into();
            line["node_peak_mib"] = (took.used.node_peak >> 20).into();
        }
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        println!("{line}");
    }
}

/// Three digits are more than such figures are worth.
fn rounded(value: f64) -> f64 {
    let unit = 10_f64.powf(value.abs().max(1e-9).log10().floor() - 2.0);
    ((value / unit).round() * unit * 1e6).round() / 1e6
}
