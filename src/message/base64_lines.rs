//! Binary values in text files: base 64 in lines that mail and terminals leave alone.

use data_encoding::BASE64;

use crate::message::Violation;

/// Characters in a line, the last one excepted: as many as MIME (RFC 2045) takes.
const LINE_LEN: usize = 76;

/// Appends the lines of these bytes, each with its end.
pub(super) fn write(bytes: &[u8], to: &mut String) {
    let encoded = BASE64.encode(bytes);
    let mut rest = &encoded[..];
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_LEN));
        to.push_str(line);
        to.push('\n');
        rest = after;
    }
}

/// Reads lines, wherever they end: who takes one encoding only compares with what [`write()`] makes of the bytes.
///
/// # Errors
/// [`Violation::Malformed`].
pub(super) fn read(text: &str) -> Result<Vec<u8>, Violation> {
    let encoded: String = text.split('\n').collect();
    BASE64.decode(encoded.as_bytes()).map_err(|_| Violation::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_read_back() {
        for len in [0, 1, 57, 58, 200] {
            let (bytes, mut text) = (vec![7; len], String::new());
            write(&bytes, &mut text);
            assert!(text.lines().all(|line| line.len() <= LINE_LEN), "{text}");
            assert_eq!(text.is_empty(), len == 0);
            assert!(text.is_empty() || text.ends_with('\n'));
            assert_eq!(read(&text), Ok(bytes));
        }
        assert_eq!(read("no base 64"), Err(Violation::Malformed));
    }
}
