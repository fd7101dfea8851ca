//! Codes of orders and coupons.

use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;

use crate::coupons::CouponError;
use crate::sale::OrderError;

impl OrderError {
    /// The stable code, in answers and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Purchase(error) | Self::Product { reason: error, .. } => error.code(),
            Self::Unknown => "unknown_order",
            Self::NotRecordedYet => "order_not_recorded_yet",
            Self::State(_) => "order_state",
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Purchase(error) | Self::Product { reason: error, .. } => error.status(),
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::NotRecordedYet => StatusCode::SERVICE_UNAVAILABLE,
            Self::State(_) => StatusCode::CONFLICT,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Purchase(error) | Self::Product { reason: error, .. } => error.retry_after(),
            Self::NotRecordedYet => Some(Duration::from_secs(1)),
            Self::Unknown | Self::State(_) => None,
        }
    }
}

impl CouponError {
    /// The stable code, in answers and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Lock(error) => error.code(),
            Self::Unknown(_) => "unknown_coupon",
            Self::Exists(_) => "coupon_exists",
            Self::Exhausted => "coupon_exhausted",
            Self::NotStarted(_) | Self::Ended(_) => "coupon_not_open",
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Lock(error) => error.status(),
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::Exists(_) | Self::Exhausted => StatusCode::CONFLICT,
            Self::NotStarted(_) | Self::Ended(_) => StatusCode::FORBIDDEN,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Lock(error) => error.retry_after(),
            Self::NotStarted(starts_at) => {
                Duration::try_from(starts_at.duration_since(Timestamp::now())).ok()
            }
            Self::Unknown(_) | Self::Exists(_) | Self::Exhausted | Self::Ended(_) => None,
        }
    }
}
