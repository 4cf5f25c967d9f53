//! Kubernetes' quantities of memory. Pure.

/// `16Gi`, `500M`, `1e9`, `128974848000m` → bytes, rounded down; `None` for what is no quantity.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|it: char| !(it.is_ascii_digit() || it == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "Pi" => 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_f64.powi(power)
        }
    };
    let bytes = number * factor;
    // Casts of floats saturate.
    bytes.is_finite().then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn quantities_are_read() {
        let table = [
            ("16Gi", Some(17_179_869_184)),
            ("1.5Ki", Some(1536)),
            ("500M", Some(500_000_000)),
            ("1e3", Some(1000)),
            ("128974848000m", Some(128_974_848)),
            ("12", Some(12)),
            ("", None),
            ("Gi", None),
            ("3Q", None),
            ("1e999", None),
        ];
        for (text, expected) in table {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
