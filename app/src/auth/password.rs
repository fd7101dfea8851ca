//! Passwords: argon2id, a bounded number at a time, so that a storm of log-ins cannot starve the
//! purchases.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    slots: Arc<Semaphore>,
    /// The hash of no password: checked for an unknown account, so that it takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    /// Uses half of the cores, at least one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new() -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let random = rand::random::<u128>().to_string();
        let nobody = Argon2::default()
            .hash_password(random.as_bytes())
            .map_err(|error| anyhow!("cannot hash a password: {error}"))?;
        let slots = Arc::new(Semaphore::new((cores / 2).max(1)));
        Ok(Self { slots, nobody: nobody.to_string().into() })
    }

    /// Hashes a password, with a salt of its own, in PHC format.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub async fn hash(&self, password: String) -> Result<String> {
        let slot = Arc::clone(&self.slots).acquire_owned().await?;
        spawn_blocking(move || {
            // Held by the work, which goes on when the client has gone.
            let _slot = slot;
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string())
                .map_err(|error| anyhow!("cannot hash a password: {error}"))
        })
        .await
        .context("hashing a password")?
    }

    /// Checks a password against the account's hash, or against nothing for as long.
    ///
    /// # Errors
    /// When the stored hash cannot be read.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        let slot = Arc::clone(&self.slots).acquire_owned().await?;
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let matches = spawn_blocking(move || {
            let _slot = slot;
            let hash = PasswordHash::new(&hash).map_err(|error| anyhow!("stored hash: {error}"))?;
            anyhow::Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
        .context("checking a password")??;
        Ok(matches && known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stays_within_its_bound_when_callers_go_away() {
        let passwords = Passwords::new().unwrap();
        let slots = passwords.slots.available_permits();
        for _ in 0..20 {
            let hash = tokio::spawn({
                let passwords = passwords.clone();
                async move { passwords.hash("open sesame".to_owned()).await }
            });
            tokio::task::yield_now().await;
            hash.abort();
        }
        assert_eq!(passwords.slots.available_permits(), 0, "the first still hash");
        let _all = passwords.slots.acquire_many(u32::try_from(slots).unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn tells_right_from_wrong_and_unknown() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("open sesame".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.verify("open sesame".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("open barley".to_owned(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("open sesame".to_owned(), None).await.unwrap());
    }
}
