//! Why a token is refused.

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its `exp` is over; it was valid before.
    #[error("the token has expired")]
    Expired,
    /// Its owner was erased.
    #[error("the owner of this token was erased from this sale; use another account")]
    Erased,
    /// No trusted key signed it, or its claims break a rule.
    #[error("the token is not valid")]
    Invalid,
}
