//! Compares sizes of volumes. The API server returns the canonical form of a size, such as 1536Mi for 1.5Gi. Takes no
//! client and no clock.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The largest size with a binary suffix. The API server replaces larger ones by it.
const MAX_BINARY: u64 = i64::MAX.unsigned_abs();

/// Whether both sizes are the same number of bytes. Sizes that are too large to be compared count as the same, so that
/// nothing is replaced for them.
pub(super) fn is_same(found: Option<&Quantity>, declared: Option<&Quantity>) -> bool {
    match (found, declared) {
        (Some(found), Some(declared)) => {
            bytes(found).zip(bytes(declared)).is_none_or(|(found, declared)| found == declared)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The size in whole bytes, rounded up. `None`: it is not a size, or too large.
fn bytes(size: &Quantity) -> Option<u128> {
    let text = size.0.strip_prefix('+').unwrap_or(&size.0);
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, exponent) = unit(suffix)?;
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = digits.checked_mul(factor)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    let bytes = if exponent < 0 { scaled.div_ceil(power) } else { scaled.checked_mul(power)? };
    let is_binary = factor > 1;
    Some(if is_binary { bytes.min(u128::from(MAX_BINARY)) } else { bytes })
}

/// The factor and the power of ten that a suffix stands for.
fn unit(suffix: &str) -> Option<(u128, i32)> {
    Some(match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        exponent => (1, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(found: &str, declared: &str) -> bool {
        let size = |text: &str| Quantity(text.to_owned());
        is_same(Some(&size(found)), Some(&size(declared)))
    }

    #[test]
    fn a_size_is_the_same_in_its_canonical_form() {
        for (declared, canonical) in [
            ("1Gi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            (".5Gi", "512Mi"),
            ("1.Gi", "1Gi"),
            ("1.50Gi", "1536Mi"),
            ("+01Gi", "1Gi"),
            ("1000G", "1T"),
            ("10E", "10e18"),
            ("1e3", "1k"),
            ("1E+3", "1e3"),
            ("1500e-3", "1.5"),
            ("1073741824", "1Gi"),
            ("0.1Gi", "107374182400m"),
            ("16Ei", "9223372036854775807"),
        ] {
            assert!(same(canonical, declared), "{declared}");
        }
    }

    #[test]
    fn another_size_is_another_one() {
        for (found, declared) in [
            ("1Gi", "2Gi"),
            ("1Gi", "1G"),
            ("1E", "1Ei"),
            ("1M", "1Mi"),
            ("1536Mi", "1.6Gi"),
            ("1Gi", "1073741825"),
        ] {
            assert!(!same(found, declared), "{found} {declared}");
        }
        let size = Quantity("1Gi".to_owned());
        assert!(!is_same(Some(&size), None));
        assert!(is_same(None, None));
    }

    #[test]
    fn sizes_that_are_too_large_to_compare_replace_nothing() {
        assert!(same("1e98", "1e99"));
        assert!(same("1Gi", "12345678901234567890123456789012Ei"));
    }
}
