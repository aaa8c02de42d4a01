//! Padmé: lengths rounded so that they tell little of what is inside.

/// The length to which a record of `len` bytes is padded: at most 12 % more, and only O(log log) bits of
/// the length remain visible ([PURBs, section 4](https://arxiv.org/abs/1806.03160)).
#[must_use]
pub const fn padded_len(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let significant = exponent.ilog2() + 1;
    let unit = 1_u64 << exponent.saturating_sub(significant);
    match len.checked_next_multiple_of(unit) {
        Some(padded) => padded,
        None => len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lengths() {
        for (len, padded) in [(0, 0), (1, 1), (2, 2), (3, 3), (8, 8), (9, 10), (1_000, 1_024), (4_096, 4_096)]
        {
            assert_eq!(padded_len(len), padded, "{len}");
        }
        assert_eq!(padded_len(1 << 30), 1 << 30);
        assert_eq!(padded_len((1 << 30) + 1), (1 << 30) + (1 << 25));
        assert_eq!(padded_len(u64::MAX), u64::MAX);
    }

    #[test]
    fn padding_grows_a_length_by_at_most_an_eighth_and_keeps_order() {
        for len in (0..100_000).chain((17..60).map(|bit| (1 << bit) + 1)) {
            let padded = padded_len(len);
            assert!(padded >= len && padded - len <= len / 8, "{len} to {padded}");
            assert_eq!(padded_len(padded), padded);
            assert!(padded <= padded_len(len + 1), "{len}");
        }
    }
}
