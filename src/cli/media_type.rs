//! Media types by file extension, for the few kinds that this network is for; anything else has none.

/// The media type that a name's extension stands for.
pub(crate) fn of(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit('/').next()?.rsplit_once('.')?;
    match extension.to_ascii_lowercase().as_str() {
        "dcm" => Some("application/dicom"),
        "pdf" => Some("application/pdf"),
        "json" => Some("application/json"),
        "xml" => Some("application/xml"),
        "zip" => Some("application/zip"),
        "txt" => Some("text/plain"),
        "html" | "htm" => Some("text/html"),
        "csv" => Some("text/csv"),
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "tif" | "tiff" => Some("image/tiff"),
        "svg" => Some("image/svg+xml"),
        "mp4" => Some("video/mp4"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn only_a_known_extension_of_the_last_part_counts() {
        assert_eq!(of("2026/Scan.DCM"), Some("application/dicom"));
        for name in ["a.dcm/b", "dcm", "a.unknown", "", "a."] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
