//! Rules for the id and the password of an account.

/// A rule that an id or a password breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct CredentialsError {
    /// `id` or `password`.
    pub field: &'static str,
    /// The rule, as the second half of a sentence.
    pub rule: &'static str,
}

/// The stored form of an account's id. Ids that differ only in case are the same account. Ids are
/// ASCII, so no other case folding is needed.
#[must_use]
pub fn canonical_id(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// Checks an id and a password.
///
/// # Errors
/// The first rule that one of them breaks.
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
