//! Values without the line ends after them.

use super::source::Source;

/// A source whose values end before the line ends that editors and `echo` leave in Secrets and files.
/// Every command reads its settings through it.
pub(super) struct Trimmed<'a, S>(pub(super) &'a S);

impl<S: Source> Source for Trimmed<'_, S> {
    fn get(&self, name: &str) -> Option<String> {
        let mut value = self.0.get(name)?;
        value.truncate(value.trim_end_matches(['\r', '\n']).len());
        (!value.is_empty()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SeedConfig, ServeConfig};

    struct Settings(&'static [(&'static str, &'static str)]);

    impl Source for Settings {
        fn get(&self, name: &str) -> Option<String> {
            let found = self.0.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn line_ends_after_a_value_are_no_part_of_it() {
        let key = "0123456789abcdef0123456789abcdef";
        let config = ServeConfig::read(&Settings(&[
            ("REDIS_NODES", "a:6379\n"),
            ("JWT_SECRET", "0123456789abcdef0123456789abcdef\n"),
            ("JWT_ACCEPTED_SECRET", "0123456789abcdef0123456789abcdef\r\n"),
            ("JWKS_FILE", "/keys/jwks.json\n"),
            ("JWKS_ISSUER", "shop\n\n"),
            ("JWKS_AUDIENCE", "sale\n"),
            ("REDIS_PASSWORD", " pass word \n"),
            ("DATABASE_URL", "sqlite://sale.db\n"),
            ("SALE_ENDS_AT", "\n"),
        ]))
        .unwrap();
        assert_eq!(config.auth.secret, key);
        assert_eq!(config.auth.accepted_secret.as_deref(), Some(key));
        let provider = config.auth.provider.unwrap();
        assert_eq!(provider.file.to_str(), Some("/keys/jwks.json"));
        assert_eq!(provider.issuer.as_deref(), Some("shop"));
        assert_eq!(provider.audience.as_deref(), Some("sale"));
        let password = config.sale.lock.nodes.nodes[0].password.as_deref();
        assert_eq!(password, Some(" pass word "), "spaces are part of it");
        assert_eq!(config.database.url, "sqlite://sale.db");
        assert_eq!(config.sale.window.ends_at, None);
        let seed = SeedConfig::read(&Settings(&[
            ("DATABASE_URL", "sqlite://sale.db"),
            ("REDIS_NODES", "a:6379"),
            ("ADMIN_ID", "admin\n"),
            ("ADMIN_PASSWORD", "correct horse\r\n"),
            ("CATALOG_FILE", "catalog.json\n"),
        ]))
        .unwrap();
        assert_eq!(seed.admin, Some(("admin".to_owned(), "correct horse".to_owned())));
        assert_eq!(seed.catalog_file.to_str(), Some("catalog.json"));
    }
}
