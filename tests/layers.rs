//! The direction of imports: a module uses only rows above its own, and modules of one row are strangers.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rows, from the top. See `src/ARCHITECTURE.md`, section 4.
const ROWS: [&[&str]; 9] = [
    &["types"],
    &["crypto"],
    &["stripe", "message"],
    &["transfer", "ledger", "consensus"],
    &["runtime"],
    &["net", "store"],
    &["client"],
    &["roles"],
    &["cli"],
];

/// May import everything; nobody imports it.
const ASIDE: &str = "testing";

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The crate's own modules that a file names, by `crate::` paths; groups in braces too.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.insert(name);
        }
    }
    found
}

#[test]
fn imports_go_up_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 50, "the sources are where they are expected");
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(module, "lib" | "main" | ASIDE) {
            continue;
        }
        let own = row(module).unwrap_or_else(|| panic!("{module} has no row"));
        // Tests may use anything, and stand at a file's foot or in a file of their own.
        let is_test = inside.file_stem().is_some_and(|stem| stem == "tests" || stem == "protocol");
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for import in imports(code) {
            let allowed = import == module || row(&import).is_some_and(|row| row < own);
            if !allowed && !is_test && (row(&import).is_some() || import == ASIDE) {
                wrong.push(format!("{} imports {import}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_imports_sees_all_forms() {
    let text = "use crate::a::B;\nuse crate::{c::D, e};\nfn f() -> crate::g::H {}\n/// [`x`](crate::y)";
    let names: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(names, ["a", "c", "e", "g", "y"]);
}
