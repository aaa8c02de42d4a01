//! Processes under measurement: started, killed, and asked for their CPU time and memory.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Clock ticks a second in `/proc/PID/stat`: the kernel's USER_HZ, 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program that says nothing unless it fails.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map(Self)
    }

    /// CPU seconds used so far, user and system.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&format!("/proc/{}/stat", self.0.id()), 14)
    }

    /// Peak resident bytes.
    pub(crate) fn peak_resident(&self) -> u64 {
        peak_resident(&format!("/proc/{}/status", self.0.id()))
    }

    /// Ends the process at once (SIGKILL) and waits for it.
    pub(crate) fn kill(&mut self) {
        // Already gone is as good as killed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What one run of a command cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// CPU seconds of the command, user and system.
    pub(crate) cpu_seconds: f64,
    /// Elapsed seconds.
    pub(crate) seconds: f64,
    /// Peak resident bytes, as last seen before it ended.
    pub(crate) peak_resident: u64,
}

/// Runs a command to its end; an exit status other than success is an error that names it.
pub(crate) fn run(command: &mut Command) -> io::Result<Cost> {
    let cpu_before = children_cpu_seconds();
    let started = std::time::Instant::now();
    let mut child = command.spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut resident = 0;
    let status = loop {
        resident = peak_resident(&status_file).max(resident);
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    if !status.success() {
        return Err(io::Error::other(format!("{command:?} ended with {status}")));
    }
    Ok(Cost {
        cpu_seconds: children_cpu_seconds() - cpu_before,
        seconds: started.elapsed().as_secs_f64(),
        peak_resident: resident,
    })
}

/// CPU seconds of this process so far.
pub(crate) fn own_cpu_seconds() -> f64 {
    cpu_seconds("/proc/self/stat", 14)
}

/// Bytes that the files of a folder take on disk.
pub(crate) fn disk_bytes(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { disk_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}

fn children_cpu_seconds() -> f64 {
    cpu_seconds("/proc/self/stat", 16)
}

/// Sums two neighbouring tick counters of a `stat` file (proc(5): 14 and 15 own, 16 and 17 waited-for children).
fn cpu_seconds(stat_file: &str, first: usize) -> f64 {
    let text = fs::read_to_string(stat_file).unwrap_or_default();
    // The second field is the name in parentheses and may hold spaces.
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |field: usize| -> f64 {
        after_name.split_whitespace().nth(field - 3).and_then(|n| n.parse().ok()).unwrap_or(0.0)
    };
    (ticks(first) + ticks(first + 1)) / TICKS_PER_SECOND
}

fn peak_resident(status_file: &str) -> u64 {
    let text = fs::read_to_string(status_file).unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    kib.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
