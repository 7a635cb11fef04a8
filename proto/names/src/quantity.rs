//! Amounts of bytes as Kubernetes writes them.

/// The bytes of a Kubernetes quantity: digits, and a suffix of thousands (`k`, `M`, `G`, `T`) or of powers of two (`Ki`, `Mi`,
/// `Gi`, `Ti`). `None` = it is none, has a fraction, or is more than 64 bits hold.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, suffix) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_bytes_and_nothing_else() {
        for (text, bytes) in
            [("0", 0), ("4G", 4_000_000_000), ("700Mi", 700 << 20), (" 2Ti ", 2 << 40), ("3k", 3_000)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in ["", "G", "4GB", "-1", "4.5G", "4 G", "99999999999T"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
