//! Who is asking: passwords and tokens.

mod attempts;
mod claims;
mod credentials;
mod password;
mod provider;
mod seen;
mod shared_key;
mod token;

pub use attempts::{Attempt, Attempts, TooManyAttempts};
pub use claims::{Claims, Role};
pub use credentials::{CredentialsError, check_credentials};
pub use password::{PasswordError, Passwords};
pub use provider::{Provider, ProviderConfig, ProviderError};
pub use token::{TokenError, Tokens};
