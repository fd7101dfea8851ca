//! Authentication: passwords and tokens.

mod budget;
mod claims;
mod credentials;
mod error;
mod login_rate_limiter;
mod operator_token;
mod password;
mod provider;
mod shared_budgets;
mod shared_key;
mod sign_up;
mod token;
mod token_cache;

pub use budget::TooManyAttempts;
pub(crate) use claims::person;
pub use claims::{Claims, Role};
pub use credentials::{CredentialsError, canonical_id, check_credentials};
pub use error::TokenError;
pub use login_rate_limiter::{LoginAttempt, LoginRateLimiter, SignUpAttempt};
pub use operator_token::OperatorToken;
pub use password::{PasswordError, Passwords};
pub use provider::Provider;
pub use provider::config::{ProviderConfig, ProviderError};
pub use sign_up::{SignUpMode, SignUpPolicy, SignUpRefused};
pub use token::Tokens;
