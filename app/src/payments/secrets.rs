//! The secrets that a payment service signs with: a file, which is read again when it changes.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tracing::info;

use super::error::SecretsError;
use crate::upkeep::reload_again;

/// Shorter ones are mistakes.
const SHORTEST: usize = 16;

/// One secret, or several while they are replaced.
pub(super) struct SecretsFile {
    path: PathBuf,
    secrets: RwLock<Arc<Vec<String>>>,
}

// No secret is in a log.
impl std::fmt::Debug for SecretsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretsFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SecretsFile {
    /// Reads the file.
    pub(super) fn read(path: PathBuf) -> Result<Self, SecretsError> {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SecretsError::Read { path: path.clone(), source })?;
        let secrets = RwLock::new(Arc::new(parse(&text)?));
        Ok(Self { path, secrets })
    }

    /// The present secrets.
    pub(super) fn secrets(&self) -> Arc<Vec<String>> {
        Arc::clone(&self.secrets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again whenever it changes, for ever. The secrets of before stay in use while it cannot be used.
    pub(super) async fn watch(&self, setting: &'static str) {
        reload_again(&format!("{setting}: keeping the secrets of before"), async || {
            self.reload_if_changed(setting).await.map_err(|error| error.to_string())
        })
        .await;
    }

    async fn reload_if_changed(&self, setting: &'static str) -> Result<(), SecretsError> {
        let text = tokio::fs::read_to_string(&self.path).await;
        let text = text.map_err(|source| SecretsError::Read { path: self.path.clone(), source })?;
        let secrets = parse(&text)?;
        if secrets != *self.secrets() {
            info!(secrets = secrets.len(), "{setting}: new secrets");
            *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secrets);
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Vec<String>, SecretsError> {
    let secrets: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if secrets.is_empty() || secrets.iter().any(|secret| secret.len() < SHORTEST) {
        return Err(SecretsError::Form);
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_secret_or_several() {
        let one = "whsec_0123456789";
        assert_eq!(parse(&format!("{one}\n")).unwrap(), [one]);
        assert_eq!(parse(&format!("{one}\nwhsec_abcdefghij")).unwrap().len(), 2);
        for wrong in ["", " \n", "short", "whsec_0123456789 short"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_secrets_of_before_stay_while_the_file_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        std::fs::write(&path, "whsec_0123456789").unwrap();
        let file = SecretsFile::read(path.clone()).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(file.reload_if_changed("S").await.is_err());
        assert_eq!(*file.secrets(), ["whsec_0123456789"]);
        std::fs::write(&path, "whsec_abcdefghij").unwrap();
        file.reload_if_changed("S").await.unwrap();
        assert_eq!(*file.secrets(), ["whsec_abcdefghij"]);
        assert!(!format!("{file:?}").contains("whsec"), "not in a log");
    }
}
