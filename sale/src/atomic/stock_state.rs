//! What Redis has of a product's stock, and whether the database has lost some of it.

use ledger::StockRow;

/// A product's state in Redis; missing numbers are -1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StockState {
    pub(crate) incarnation: i64,
    pub(crate) available: i64,
    pub(crate) sold: i64,
    pub(crate) limited: i64,
    /// Whether the idempotency keys of all products are there.
    pub(crate) has_keys: bool,
    /// Keys with a wrong type or value, which were removed.
    pub(crate) removed: Vec<String>,
    /// The fencing token of the newest row that it was adjusted to.
    pub(crate) fence: i64,
    /// No order waits to be recorded.
    pub(crate) all_recorded: bool,
}

/// The reply of `inspect.lua`.
pub(crate) type StateReply = (i64, i64, i64, i64, bool, Vec<String>, i64, bool);

impl From<StateReply> for StockState {
    fn from(reply: StateReply) -> Self {
        let (incarnation, available, sold, limited, has_keys, removed, fence, all_recorded) = reply;
        Self { incarnation, available, sold, limited, has_keys, removed, fence, all_recorded }
    }
}

/// How a stock in Redis and its row agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StockMatch {
    /// The stock was made from the row and has lost nothing since.
    Same,
    /// The stock was not made from the row, or lost data.
    Different,
    /// The database lost data that the stock includes.
    DatabaseOlder,
}

impl StockState {
    /// Whether the stock includes sales or changes of the database that this row lacks. Redis has all
    /// of them from the database, or after their commit removed them from the stream. So if the row was
    /// read after the stock, the database lost them.
    pub(crate) fn is_ahead_of(&self, row: &StockRow) -> bool {
        let is_open = self.incarnation > 0 && self.available >= 0;
        let sold_more = self.incarnation == row.incarnation && self.sold > row.recorded;
        is_open
            && (self.incarnation > row.incarnation
                || self.fence > row.fence
                || self.all_recorded && sold_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(incarnation: i64, recorded: i64, fence: i64) -> StockRow {
        StockRow { product_id: "1".to_owned(), available: 10, fence, incarnation, recorded }
    }

    /// Incarnation 5, adjusted to the row with fence 7.
    fn stock(sold: i64, all_recorded: bool) -> StockState {
        StockState {
            incarnation: 5,
            available: 10,
            sold,
            limited: 1,
            has_keys: true,
            removed: Vec::new(),
            fence: 7,
            all_recorded,
        }
    }

    #[test]
    fn a_row_that_lacks_recorded_sales_or_changes_is_behind() {
        assert!(!stock(3, true).is_ahead_of(&row(5, 3, 7)));
        assert!(stock(4, true).is_ahead_of(&row(5, 3, 7)), "an order is missing");
        assert!(stock(3, true).is_ahead_of(&row(5, 3, 6)), "a change is missing");
        assert!(stock(3, false).is_ahead_of(&row(5, 3, 6)), "whatever waits");
        assert!(stock(0, true).is_ahead_of(&row(4, 9, 9)), "the stock was not made from it");
    }

    #[test]
    fn a_row_is_not_behind_because_of_what_waits_or_of_an_earlier_stock() {
        assert!(!stock(4, false).is_ahead_of(&row(5, 3, 7)), "an order waits");
        assert!(!stock(4, true).is_ahead_of(&row(6, 0, 8)), "another stock was made from it");
        let stopped = StockState { available: -1, sold: -1, fence: -1, ..stock(0, true) };
        assert!(!stopped.is_ahead_of(&row(4, 0, 4)), "it is being made");
        let missing = StockState { incarnation: -1, ..stopped };
        assert!(!missing.is_ahead_of(&row(0, 0, 0)));
    }
}
