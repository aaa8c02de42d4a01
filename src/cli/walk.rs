//! From arguments of `put` to files and the names of their records.

use std::fs::{Metadata, ReadDir};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::sync::mpsc::Sender;

use crate::cli::address::folder_prefix;
use crate::cli::exit::{Exit, Failure};
use crate::cli::input;
use crate::cli::output::{Output, escape};
use crate::types::{RecordName, RecordPath, Timestamp};

/// A file and the name of the record it becomes.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) name: RecordName,
    pub(crate) modified: Option<Timestamp>,
}

/// A source and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) source: PathBuf,
    pub(crate) is_folder: bool,
    /// The record's name for a file; for a folder the beginning of the names of all that is in it,
    /// empty or with a slash at its end. Bytes, since a file's name may not be UTF-8.
    pub(crate) name: Vec<u8>,
}

/// Decides the names, as `cp -r` would: into the target if it is a folder (it ends in a slash, is the
/// whole collection, or there are several sources), as the target otherwise. A source that ends in
/// `/.` or `..` has no name of its own: its contents go straight into the target.
///
/// # Errors
/// [`Exit::NotFound`] if a source does not exist, [`Exit::Usage`] if what it is called is no name of a record.
pub(crate) fn tasks(sources: &[PathBuf], target: &RecordPath) -> anyhow::Result<Vec<Task>> {
    let into_folder = sources.len() > 1 || target.rest.is_empty() || target.rest.ends_with('/');
    let task = |source: &PathBuf| {
        let metadata = std::fs::metadata(source).map_err(|error| input::unreadable(source, error))?;
        let is_folder = metadata.is_dir();
        let mut name = target.rest.clone().into_bytes();
        if into_folder {
            name = folder_prefix(&target.rest).into_bytes();
            name.extend_from_slice(own_name(source).unwrap_or_default());
        }
        if is_folder && !name.is_empty() && !name.ends_with(b"/") {
            name.push(b'/');
        }
        if !is_folder {
            RecordName::from_bytes(&name).with_context(|| shown(source))?;
        }
        Ok(Task { source: source.clone(), is_folder, name })
    };
    sources.iter().map(task).collect()
}

/// The name that the source itself was called by, if it was.
fn own_name(source: &Path) -> Option<&[u8]> {
    let text = source.as_os_str().as_bytes();
    let unnamed = text == b"." || text.ends_with(b"/.") || text.ends_with(b"/./") || text == b"./";
    if unnamed { None } else { source.file_name().map(|name| name.as_bytes()) }
}

/// Sends every file of the tasks, in no particular order within a folder, until nobody listens.
/// Symbolic links inside folders, and what is neither file nor folder, are left out with a warning.
pub(crate) fn send_files(tasks: Vec<Task>, output: &Output, to: &Sender<anyhow::Result<Found>>) {
    for task in tasks {
        let walked = if task.is_folder {
            walk(&task, output, to)
        } else {
            let found = std::fs::metadata(&task.source)
                .with_context(|| format!("cannot read {}", task.source.display()))
                .and_then(|metadata| found(task.source, &task.name, &metadata));
            to.blocking_send(found).ok()
        };
        if walked.is_none() {
            return;
        }
    }
}

/// `None` once nobody listens. Memory grows with the depth of the folders, not with their size.
fn walk(task: &Task, output: &Output, to: &Sender<anyhow::Result<Found>>) -> Option<()> {
    let mut open: Vec<(ReadDir, Vec<u8>)> = Vec::new();
    match read_dir(&task.source) {
        Ok(entries) => open.push((entries, task.name.clone())),
        Err(error) => to.blocking_send(Err(error)).ok()?,
    }
    while let Some((entries, prefix)) = open.last_mut() {
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        let step = entry.map_err(anyhow::Error::from).and_then(|entry| {
            let path = entry.path();
            let metadata = entry.metadata().with_context(|| format!("cannot read {}", path.display()))?;
            Ok((path, metadata))
        });
        let (path, metadata) = match step {
            Ok(step) => step,
            Err(error) => {
                to.blocking_send(Err(error)).ok()?;
                continue;
            }
        };
        let mut name = prefix.clone();
        name.extend_from_slice(path.file_name().unwrap_or_default().as_bytes());
        if metadata.is_dir() {
            name.push(b'/');
            match read_dir(&path) {
                Ok(entries) => open.push((entries, name)),
                Err(error) => to.blocking_send(Err(error)).ok()?,
            }
        } else if metadata.is_file() {
            to.blocking_send(found(path, &name, &metadata)).ok()?;
        } else {
            let what = if metadata.is_symlink() { "a symbolic link" } else { "neither a file nor a folder" };
            output.warn(format_args!("left out {}: it is {what}", shown(&path)));
        }
    }
    Some(())
}

fn read_dir(path: &Path) -> anyhow::Result<ReadDir> {
    std::fs::read_dir(path).with_context(|| format!("cannot read the folder {}", shown(path)))
}

fn found(path: PathBuf, name: &[u8], metadata: &Metadata) -> anyhow::Result<Found> {
    if !metadata.is_file() {
        let message =
            format!("{} is not a file; to put what a program writes, pipe it into `put -`", shown(&path));
        return Err(Failure::refused(message).into());
    }
    let name = RecordName::from_bytes(name).map_err(|error| {
        // A file in a folder: the command line makes sense.
        Failure::new(Exit::Failed, format!("cannot put {}: {error}", shown(&path)))
    })?;
    let modified = metadata.modified().ok().and_then(|at| {
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_micros()).ok().map(Timestamp::from_unix_micros)
    });
    Ok(Found { path, name, modified })
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsStr;

    use super::*;
    use crate::cli::output::ColorChoice;

    fn names(sources: &[&Path], target: &str) -> anyhow::Result<BTreeSet<String>> {
        let sources: Vec<PathBuf> = sources.iter().map(|path| path.to_path_buf()).collect();
        let tasks = tasks(&sources, &target.parse().unwrap())?;
        let (to, mut from) = tokio::sync::mpsc::channel(64);
        let output = Output::new(false, true, ColorChoice::Never, Default::default());
        std::thread::spawn(move || send_files(tasks, &output, &to)).join().unwrap();
        let mut names = BTreeSet::new();
        while let Ok(found) = from.try_recv() {
            names.insert(found.map_or_else(|error| format!("{error:#}"), |found| found.name.to_string()));
        }
        Ok(names)
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in ["scan.dcm", "ct/1.dcm", "ct/deep/2.dcm"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        dir
    }

    #[test]
    fn names_are_those_that_cp_would_give() {
        let dir = tree();
        let (file, folder) = (dir.path().join("scan.dcm"), dir.path().join("ct"));
        let contents = dir.path().join("ct/.");
        for (sources, target, want) in [
            (vec![file.as_path()], "xv://c/a.dcm", vec!["a.dcm"]),
            (vec![file.as_path()], "xv://c/2026/", vec!["2026/scan.dcm"]),
            (vec![file.as_path()], "xv://c", vec!["scan.dcm"]),
            (vec![folder.as_path()], "xv://c/", vec!["ct/1.dcm", "ct/deep/2.dcm"]),
            (vec![folder.as_path()], "xv://c/x", vec!["x/1.dcm", "x/deep/2.dcm"]),
            (vec![folder.as_path()], "xv://c/x/", vec!["x/ct/1.dcm", "x/ct/deep/2.dcm"]),
            (vec![contents.as_path()], "xv://c/", vec!["1.dcm", "deep/2.dcm"]),
            (vec![&file, &folder], "xv://c/x", vec!["x/scan.dcm", "x/ct/1.dcm", "x/ct/deep/2.dcm"]),
        ] {
            let want: BTreeSet<String> = want.into_iter().map(str::to_owned).collect();
            assert_eq!(names(&sources, target).unwrap(), want, "{sources:?} {target}");
        }
        assert!(names(&[&dir.path().join("absent")], "xv://c/").is_err());
    }

    #[test]
    fn links_are_left_out_and_wrong_names_are_errors_of_their_own() {
        let dir = tree();
        std::os::unix::fs::symlink("/etc", dir.path().join("ct/link")).unwrap();
        std::fs::write(dir.path().join("ct").join(OsStr::from_bytes(b"bad\xff")), "").unwrap();
        let found = names(&[&dir.path().join("ct/.")], "xv://c/").unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|name| name.contains("must be UTF-8")), "{found:?}");
    }
}
