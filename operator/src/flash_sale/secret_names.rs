//! The Secrets that a sale uses. The watch of Secrets and the reconcile share this list.

use kube::ResourceExt;

use super::names;
use super::retained::adopted_name;
use crate::crd::{FlashSale, StoresTlsMode};

/// Names of the Secrets of a sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretNames {
    /// Signing key and administrator.
    pub auth: String,
    /// Passwords of the Redis nodes.
    pub redis: String,
    /// Connection URI of the database. An adopted database keeps the name of the first sale.
    pub database: String,
    /// The operator's own values.
    pub operator: String,
    /// Certificate of the app, if one is declared.
    pub tls: Option<String>,
    /// Signing secret of Stripe, if one is declared.
    pub stripe: Option<String>,
    /// Certificates of the Redis nodes and of the sale's own database, if they have TLS.
    pub stores_tls: Option<String>,
    /// Key of the webhooks of events, if one is declared.
    pub events_key: Option<String>,
    /// Authorities of the receiver of events, if they are declared.
    pub events_ca: Option<String>,
    /// Log-in to NATS, if one is declared.
    pub events_nats: Option<String>,
    /// Authorities of NATS, if they are declared.
    pub events_nats_ca: Option<String>,
}

impl SecretNames {
    /// The Secrets that `sale` uses.
    #[must_use]
    pub fn of(sale: &FlashSale) -> Self {
        let (name, spec) = (sale.name_any(), &sale.spec);
        let webhook = spec.events.as_ref().and_then(|events| events.webhook.as_ref());
        let nats = spec.events.as_ref().and_then(|events| events.nats.as_ref());
        Self {
            auth: names::auth_secret(&name, spec.declared_auth_secret()),
            redis: names::redis_secret(&name),
            database: names::database_secret(&adopted_name(sale), spec.declared_database_secret()),
            operator: names::operator_secret(&name),
            tls: spec.app.tls.as_ref().map(|tls| tls.secret_ref.name.clone()),
            stripe: spec.declared_stripe_secret().map(str::to_owned),
            stores_tls: (spec.stores.tls_mode() != StoresTlsMode::Disabled)
                .then(|| names::stores_tls_secret(&name, spec.stores.declared_tls_secret())),
            events_key: webhook.map(|webhook| webhook.secret_ref.name.clone()),
            events_ca: webhook
                .and_then(|webhook| Some(webhook.authorities_ref.as_ref()?.name.clone())),
            events_nats: nats.and_then(|nats| Some(nats.secret_ref.as_ref()?.name.clone())),
            events_nats_ca: nats.and_then(|nats| Some(nats.authorities_ref.as_ref()?.name.clone())),
        }
    }

    /// Whether one of them has this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        let Self {
            auth,
            redis,
            database,
            operator,
            tls,
            stripe,
            stores_tls,
            events_key,
            events_ca,
            events_nats,
            events_nats_ca,
        } = self;
        let events = [events_key, events_ca, events_nats, events_nats_ca].into_iter().flatten();
        let declared = tls.iter().chain(stripe).chain(stores_tls).chain(events);
        [auth, redis, database, operator].into_iter().chain(declared).any(|it| it == name)
    }
}
