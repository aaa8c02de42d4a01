//! Arguments that name records, checked before anything else happens.

use crate::client::RecordAddress;
use crate::types::RecordPath;

/// The address of a record: `xv://COLLECTION/NAME` with a name.
pub(crate) fn record(text: &str) -> Result<RecordAddress, String> {
    let path: RecordPath = path(text)?;
    if path.rest.is_empty() {
        return Err(format!("a record is named xv://{}/NAME; the name is missing", path.collection));
    }
    let name = path.record_name().map_err(|error| error.to_string())?;
    Ok(RecordAddress { collection: path.collection, name })
}

/// The address of a record, a folder of records or a collection.
pub(crate) fn path(text: &str) -> Result<RecordPath, String> {
    text.parse().map_err(|error: crate::types::name::NameError| error.to_string())
}

/// The beginning that all names in the folder have: with a slash at its end, empty for the whole
/// collection. So `-r xv://c/2026` never touches `2026-old/x`.
pub(crate) fn folder_prefix(rest: &str) -> String {
    if rest.is_empty() || rest.ends_with('/') { rest.to_owned() } else { format!("{rest}/") }
}

/// The last part of a name, as a file would be called; `None` if the name ends in a slash.
pub(crate) fn base_name(name: &str) -> Option<&str> {
    name.rsplit('/').next().filter(|last| !last.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_needs_a_name() {
        assert!(record("xv://c/a").is_ok());
        for text in ["xv://c", "xv://c/", "c/a", "xv://C/a", "/tmp/a"] {
            assert!(record(text).is_err(), "{text}");
        }
        let long = |len| format!("xv://c/{}", "n".repeat(len));
        assert!(record(&long(1_024)).is_ok());
        assert!(record(&long(1_025)).is_err());
    }

    #[test]
    fn a_folder_ends_in_a_slash() {
        assert_eq!(folder_prefix(""), "");
        assert_eq!(folder_prefix("2026"), "2026/");
        assert_eq!(folder_prefix("2026/"), "2026/");
    }
}
