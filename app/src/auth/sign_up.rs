//! Who may sign up.

use std::str::FromStr;

use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// `open`: everybody may sign up. `invited`: with an invite code. `closed`: nobody; buyers come with tokens
/// of the shop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignUpMode {
    /// Everybody.
    #[default]
    Open,
    /// With an invite code.
    Invited,
    /// Nobody.
    Closed,
}

impl FromStr for SignUpMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Open" => Ok(Self::Open),
            "Invited" => Ok(Self::Invited),
            "Closed" => Ok(Self::Closed),
            _ => Err("expected Open, Invited or Closed"),
        }
    }
}

/// Why a sign-up is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignUpRefused {
    /// Nobody may sign up.
    Closed,
    /// There is no invite code, or a wrong one.
    WrongInviteCode,
}

/// The mode with its codes.
#[derive(Clone, Default)]
pub struct SignUpPolicy {
    mode: SignUpMode,
    /// Hashes of the codes, so that the time of a comparison tells nothing about a code.
    codes: Vec<[u8; 32]>,
}

impl std::fmt::Debug for SignUpPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignUpPolicy").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl SignUpPolicy {
    /// With these invite codes.
    #[must_use]
    pub fn new(mode: SignUpMode, codes: &[&str]) -> Self {
        Self { mode, codes: codes.iter().map(|code| Sha256::digest(code).into()).collect() }
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> SignUpMode {
        self.mode
    }

    /// Whether a sign-up with this code is allowed.
    ///
    /// # Errors
    /// [`SignUpRefused`]
    pub fn check(&self, invite_code: Option<&str>) -> Result<(), SignUpRefused> {
        match self.mode {
            SignUpMode::Open => Ok(()),
            SignUpMode::Closed => Err(SignUpRefused::Closed),
            SignUpMode::Invited => {
                let hash = invite_code.map(|code| <[u8; 32]>::from(Sha256::digest(code.trim())));
                let known = hash.is_some_and(|hash| self.codes.contains(&hash));
                known.then_some(()).ok_or(SignUpRefused::WrongInviteCode)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invited_buyer_has_one_of_the_codes() {
        let policy = SignUpPolicy::new(SignUpMode::Invited, &["first-code", "second-code"]);
        for code in ["first-code", "second-code", " first-code "] {
            assert_eq!(policy.check(Some(code)), Ok(()));
        }
        for code in [None, Some(""), Some("first-cod"), Some("First-code")] {
            assert_eq!(policy.check(code), Err(SignUpRefused::WrongInviteCode));
        }
        let closed = SignUpPolicy::new(SignUpMode::Closed, &["first-code"]);
        assert_eq!(closed.check(Some("first-code")), Err(SignUpRefused::Closed));
        assert_eq!(SignUpPolicy::default().check(None), Ok(()));
    }
}
