//! What an account's name and password may be.

/// A rule that a name or a password breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct CredentialsError {
    /// `id` or `password`.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

/// The one form of an account's id: ids that differ in case only are one account. They are ASCII, so
/// this is all there is to case.
#[must_use]
pub fn canonical_id(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// Checks both.
///
/// # Errors
/// The first rule that is broken.
pub fn check_credentials(id: &str, password: &str) -> Result<(), CredentialsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    if id.is_empty() || id.len() > 64 || !id.chars().all(allowed) {
        let rule = "must be 1 to 64 letters, digits, '.', '_', '-' or '@'";
        return Err(CredentialsError { field: "id", rule });
    }
    if !(8..=128).contains(&password.chars().count()) {
        return Err(CredentialsError { field: "password", rule: "must have 8 to 128 characters" });
    }
    Ok(())
}
