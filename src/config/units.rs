//! Sizes and shares as people write them. (Durations are `humantime`'s.)

/// `64MiB`: a whole number and one of `B KiB MiB GiB TiB`; no unit means bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `30%`, from 1 to 100.
pub(super) fn parse_percent(text: &str) -> Option<u8> {
    let percent = text.strip_suffix('%')?.trim_end().parse().ok()?;
    (1..=100).contains(&percent).then_some(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_and_a_binary_unit() {
        for (text, size) in [
            ("0", Some(0)),
            ("64MiB", Some(64 << 20)),
            ("3 KiB", Some(3 << 10)),
            ("1TiB", Some(1 << 40)),
            ("17 B", Some(17)),
            ("64MB", None),
            ("1.5GiB", None),
            ("-1", None),
            ("", None),
            ("MiB", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(parse_size(text), size, "{text}");
        }
    }

    #[test]
    fn a_share_is_between_1_and_100_percent() {
        for (text, share) in
            [("1%", Some(1)), ("100%", Some(100)), ("0%", None), ("101%", None), ("30", None), ("%", None)]
        {
            assert_eq!(parse_percent(text), share, "{text}");
        }
    }
}
