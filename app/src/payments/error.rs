//! Why an event of a payment service changed nothing.

use std::path::PathBuf;

use ledger::{LedgerError, Price};
use sale::OrderError;

/// Why an event of a payment service changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// The sale takes no events of this service.
    #[error("this sale takes no payments by {0}: the FlashSale has no spec.payments.{0}")]
    NotConfigured(&'static str),
    /// The signature is missing, malformed, or of none of the known secrets.
    #[error("the signature is missing or wrong")]
    Signature,
    /// It was signed too long ago, or in the future.
    #[error("it was signed at another time than now: more than 300 s ago or ahead")]
    Time,
    /// The signed text is not JSON.
    #[error("the event is not JSON: {0}")]
    Json(String),
    /// A part of the event is missing or has another form than documented.
    #[error("{field}: {problem}")]
    Field {
        /// The part.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Amount or currency are not those of the order.
    #[error("the event has {}, and the order costs {}", shown(.reported.as_ref()), shown(.expected.as_ref()))]
    Amount {
        /// What the service reports.
        reported: Option<Price>,
        /// What the order costs.
        expected: Option<Price>,
    },
    /// The order was not found, or its state does not allow the change.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The database failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl PaymentError {
    /// Codes beside those of [`OrderError`] and of the sale's [`PurchaseError`](sale::PurchaseError).
    pub const CODES: [&'static str; 6] = [
        "payments_not_configured",
        "payment_signature",
        "payment_time",
        "invalid_json",
        "invalid_request",
        "payment_amount",
    ];

    /// The stable code, in answers and in metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotConfigured(_) => "payments_not_configured",
            Self::Signature => "payment_signature",
            Self::Time => "payment_time",
            Self::Json(_) => "invalid_json",
            Self::Field { .. } => "invalid_request",
            Self::Amount { .. } => "payment_amount",
            Self::Order(error) => error.code(),
            Self::Ledger(_) => "database_unavailable",
        }
    }
}

fn shown(price: Option<&Price>) -> String {
    price.map_or_else(
        || "no price".to_owned(),
        |price| format!("{} {}", price.amount, price.currency),
    )
}

/// Why the secrets of a payment service cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file has no secret, or one that is too short.
    #[error(
        "must have one or more secrets of at least 16 characters, separated by blanks or line ends"
    )]
    Form,
}

#[cfg(test)]
mod tests {
    use sale::PurchaseError;

    use super::*;

    #[test]
    fn every_code_is_listed() {
        let errors = [
            PaymentError::NotConfigured("stripe"),
            PaymentError::Signature,
            PaymentError::Time,
            PaymentError::Json(String::new()),
            PaymentError::Field { field: "id", problem: String::new() },
            PaymentError::Amount { reported: None, expected: None },
        ];
        let codes: Vec<_> = errors.iter().map(PaymentError::code).collect();
        assert_eq!(codes, PaymentError::CODES);
        let order = PaymentError::Order(OrderError::Unknown);
        assert!(OrderError::CODES.contains(&order.code()));
        let ledger = PaymentError::Ledger(LedgerError::UnsupportedUrl(String::new()));
        assert!(PurchaseError::CODES.contains(&ledger.code()));
    }
}
