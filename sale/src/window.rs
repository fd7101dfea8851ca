//! The opening hours of a sale.

use jiff::Timestamp;

use crate::config::SaleWindow;
use crate::error::PurchaseError;

impl SaleWindow {
    /// Whether the sale is open at this time.
    ///
    /// # Errors
    /// [`PurchaseError::NotStarted`] or [`PurchaseError::Ended`].
    pub fn check(&self, now: Timestamp) -> Result<(), PurchaseError> {
        match (self.starts_at, self.ends_at) {
            (Some(starts_at), _) if now < starts_at => Err(PurchaseError::NotStarted(starts_at)),
            (_, Some(ends_at)) if now >= ends_at => Err(PurchaseError::Ended(ends_at)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_includes_its_start_and_not_its_end() {
        let [before, start, end] =
            [0, 10, 20].map(|second| Timestamp::from_second(second).unwrap());
        let window = SaleWindow { starts_at: Some(start), ends_at: Some(end) };
        assert_eq!(window.check(before), Err(PurchaseError::NotStarted(start)));
        assert_eq!(window.check(start), Ok(()));
        assert_eq!(window.check(end), Err(PurchaseError::Ended(end)));
        assert_eq!(SaleWindow::default().check(before), Ok(()));
    }
}
