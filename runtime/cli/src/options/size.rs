//! Amounts of memory on the command line.

/// Reads `4G`, `512M`, `1.5GiB`, `1048576`. Units are powers of 1024.
///
/// # Errors
/// Says what would be right.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not an amount of memory; write for example 512M or 4G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let amount: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = amount * f64::from(1_u32 << (shift / 2)) * f64::from(1_u32 << (shift / 2));
    if !(bytes >= 1.0 && bytes < f64::from(u32::MAX).powi(2)) {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in
            [("1", 1), ("1k", 1 << 10), ("512M", 512 << 20), ("4G", 4 << 30), ("1.5GiB", 3 << 29), ("1T", 1 << 40)]
        {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "G", "-1G", "0", "1X", "1 G", "nan", "1e300"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
