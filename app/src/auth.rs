//! Who is asking: passwords and tokens.

mod attempts;
mod claims;
mod client;
mod credentials;
mod password;
mod provider;
mod seen;
mod shared_key;
mod token;

pub use attempts::{Attempt, Attempts, SignUpAttempt, TooManyAttempts};
pub use claims::{Claims, Role};
pub(crate) use client::{client_address, network};
pub use credentials::{CredentialsError, canonical_id, check_credentials};
pub use password::{PasswordError, Passwords};
pub use provider::{Provider, ProviderConfig, ProviderError};
pub use token::{TokenError, Tokens};
