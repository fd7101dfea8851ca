//! Why a token is not accepted.

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It is no token of ours.
    #[error("the token is not valid")]
    Invalid,
}
