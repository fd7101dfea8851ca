//! Who is asking: passwords and tokens.

mod attempts;
mod claims;
mod credentials;
mod error;
mod password;
mod provider;
mod shared_key;
mod token;
mod token_cache;

pub use attempts::{Attempt, Attempts, SignUpAttempt, TooManyAttempts};
pub use claims::{Claims, Role};
pub use credentials::{CredentialsError, canonical_id, check_credentials};
pub use error::TokenError;
pub use password::{PasswordError, Passwords};
pub use provider::Provider;
pub use provider::config::{ProviderConfig, ProviderError};
pub use token::Tokens;
