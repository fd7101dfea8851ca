//! Who is asking: passwords and tokens.

mod credentials;
mod password;
mod token;

pub use credentials::{CredentialsError, check_credentials};
pub use password::Passwords;
pub use token::{Claims, Role, TokenError, Tokens};
