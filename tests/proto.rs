//! The committed protobuf code is what `proto/` says.
//!
//! `XVAULT_REGENERATE=1 cargo test --test proto` rewrites it after a change of a schema.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that reads and writes files")]

use std::fs;
use std::path::{Path, PathBuf};

const GENERATED: &str = "src/message/generated/xvault.v1.rs";

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = generate(root);
    let committed = root.join(GENERATED);
    if std::env::var_os("XVAULT_REGENERATE").is_some() {
        fs::write(&committed, &fresh).unwrap();
    }
    let found = fs::read_to_string(&committed).unwrap_or_default();
    assert!(
        found == fresh,
        "{GENERATED} is not what proto/ says: run XVAULT_REGENERATE=1 cargo test --test proto"
    );
}

fn generate(root: &Path) -> String {
    let include = root.join("proto");
    let files = protox::compile(schemas(&include.join("xvault/v1")), [&include]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        // One encoding for one value: maps in key order.
        .btree_map(["."])
        // They hold data keys, which no log may show.
        .skip_debug([
            "xvault.v1.VersionEntry",
            "xvault.v1.Changeset",
            "xvault.v1.Change",
            "xvault.v1.StagedPut",
        ])
        .out_dir(out.path())
        .compile_fds(files)
        .unwrap();
    fs::read_to_string(out.path().join("xvault.v1.rs")).unwrap()
}

/// Every schema of a folder, in order of their names.
fn schemas(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
