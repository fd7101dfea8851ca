//! Whether a node's value agrees with the database while sales go on. No I/O.

use ledger::StockRow;
use redlock::Published;

use crate::observer::Drift;

/// Compares a node's value with the database's row, which was read before and after the value. The
/// version of a value is the fencing token of the transaction that wrote it. A version between the two
/// rows' fences belongs to a sale in between and is not judged.
pub(crate) fn detect_drift(
    before: &StockRow,
    found: &Published,
    after: &StockRow,
) -> Option<Drift> {
    let Some(value) = &found.value else { return Some(Drift::Missing) };
    let is = |row: &StockRow| value.parse() == Ok(row.available);
    let version = i64::try_from(found.token).unwrap_or(i64::MAX);
    if version < before.fence {
        // The holder of the last token may have changed nothing.
        (!is(before) && !is(after)).then_some(Drift::Behind)
    } else if version > after.fence {
        Some(Drift::Ahead)
    } else {
        let rows = [before, after];
        let differs = rows.iter().any(|row| row.fence == version && !is(row));
        differs.then_some(Drift::Different)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(available: i64, fence: i64) -> StockRow {
        StockRow { product_id: "1".to_owned(), available, fence, incarnation: 0, recorded: 0 }
    }

    fn found(value: Option<&str>, token: u64) -> Published {
        Published { token, value: value.map(str::to_owned) }
    }

    #[test]
    fn without_sales_each_kind_of_drift_is_detected() {
        let drift = |value, token| detect_drift(&row(40, 7), &found(value, token), &row(40, 7));
        assert_eq!(drift(Some("40"), 7), None);
        assert_eq!(drift(Some("40"), 6), None, "the last holder changed nothing");
        assert_eq!(drift(None, 0), Some(Drift::Missing));
        assert_eq!(drift(Some("41"), 6), Some(Drift::Behind));
        assert_eq!(drift(Some("999"), 7), Some(Drift::Different));
        assert_eq!(drift(Some("many"), 7), Some(Drift::Different));
        assert_eq!(drift(Some("40"), 8), Some(Drift::Ahead));
    }

    #[test]
    fn a_sale_during_the_comparison_is_no_drift() {
        let drift =
            |value, token| detect_drift(&row(40, 7), &found(Some(value), token), &row(30, 9));
        assert_eq!(drift("40", 7), None);
        assert_eq!(drift("35", 8), None, "a version between the two rows is not judged");
        assert_eq!(drift("30", 9), None);
        assert_eq!(drift("35", 9), Some(Drift::Different));
        assert_eq!(drift("30", 10), Some(Drift::Ahead));
    }
}
