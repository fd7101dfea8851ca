//! The HTTP status and the retry time of the sale's errors.

use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use sale::{CouponError, OrderError, PurchaseError, WaitlistError};

/// An error of the sale, in terms of HTTP.
pub(super) trait Refusal {
    /// The status of the answer.
    fn status(&self) -> StatusCode;

    /// When a retry can succeed; `None`: not without a change.
    fn retry_after(&self) -> Option<Duration>;
}

impl Refusal for PurchaseError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotStarted(_) | Self::Ended(_) | Self::LimitClaimMissing(_) => {
                StatusCode::FORBIDDEN
            }
            Self::UnknownProduct(_) => StatusCode::NOT_FOUND,
            Self::SoldOut | Self::LimitReached | Self::NotWithAtomic => StatusCode::CONFLICT,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::LockTimeout => StatusCode::LOCKED,
            Self::QuorumUnavailable
            | Self::Overloaded { .. }
            | Self::DatabaseUnavailable
            | Self::StockUnavailable
            | Self::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotStarted(starts_at) => Some(until(*starts_at)),
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::LockTimeout
            | Self::QuorumUnavailable
            | Self::DatabaseUnavailable
            | Self::StockUnavailable
            | Self::Interrupted => Some(Duration::from_secs(1)),
            Self::Ended(_)
            | Self::UnknownProduct(_)
            | Self::SoldOut
            | Self::LimitReached
            | Self::LimitClaimMissing(_)
            | Self::NotWithAtomic
            | Self::KeyReused
            | Self::Internal => None,
        }
    }
}

impl Refusal for OrderError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Purchase(error) | Self::Product { reason: error, .. } => error.status(),
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::NotRecordedYet => StatusCode::SERVICE_UNAVAILABLE,
            Self::MixedCurrencies | Self::State(_) => StatusCode::CONFLICT,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Purchase(error) | Self::Product { reason: error, .. } => error.retry_after(),
            Self::NotRecordedYet => Some(Duration::from_secs(1)),
            Self::Unknown | Self::MixedCurrencies | Self::State(_) => None,
        }
    }
}

impl Refusal for WaitlistError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Purchase(error) => error.status(),
            Self::UnitsLeft | Self::Full => StatusCode::CONFLICT,
            Self::NotWaiting => StatusCode::NOT_FOUND,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Purchase(error) => error.retry_after(),
            Self::UnitsLeft | Self::Full | Self::NotWaiting => None,
        }
    }
}

impl Refusal for CouponError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Lock(error) => error.status(),
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Exists(_) | Self::Exhausted => StatusCode::CONFLICT,
            Self::NotStarted(_) | Self::Ended(_) => StatusCode::FORBIDDEN,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Lock(error) => error.retry_after(),
            Self::NotStarted(starts_at) => Some(until(*starts_at)),
            Self::Unknown(_) | Self::Exists(_) | Self::Exhausted | Self::Ended(_) => None,
        }
    }
}

/// Time until the start; zero if it came since the refusal. Without the header the refusal would look final, as after the end.
fn until(starts_at: Timestamp) -> Duration {
    Duration::try_from(starts_at.duration_since(Timestamp::now())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_came_since_the_refusal_is_worth_a_retry() {
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(PurchaseError::NotStarted(start).retry_after(), Some(Duration::ZERO));
        assert_eq!(CouponError::NotStarted(start).retry_after(), Some(Duration::ZERO));
        assert_eq!(PurchaseError::Ended(start).retry_after(), None);
    }
}
