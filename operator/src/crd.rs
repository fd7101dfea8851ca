//! The `FlashSale` resource: what a user writes (spec) and what the operator reports (status).
//!
//! Every field has an effect. The bounds of a value are stated once, in the schema, and enforced by the API
//! server; `crd/schema.rs` holds the rules that types cannot express.

mod app;
mod backup;
mod common;
pub mod condition;
mod definition;
mod event_state;
mod events;
mod events_nats;
mod exposure;
mod lifetime;
mod limit;
mod lock;
mod network;
mod network_schema;
mod payments;
mod pod_schema;
mod pod_template;
pub mod probes;
pub mod reserved;
mod schema;
pub mod settings;
mod spec;
mod status;
mod stores_tls;
mod strict;
mod tracing;

pub use app::{App, AppTls, Autoscaling, Cors, Prewarm, SignUp};
pub use backup::Backup;
pub use common::{Amounts, Resources, SecretKey, SecretName, Storage};
pub use definition::{MAX_NAME_LENGTH, UNOBSERVED, custom_resource_definition};
pub use event_state::EventState;
pub use events::{EventWebhook, OrderEvents, WebhookKey};
pub use events_nats::EventNats;
pub use exposure::{AppHttpRoute, AppIngress, AppService, ParentRef, ServiceType, TrafficPolicy};
pub use lifetime::{DeletionPolicy, Hibernation, HibernationMode};
pub use limit::LimitBy;
pub use lock::{Lock, ProductLock, QueueDiscipline};
pub use network::{IpBlock, Labels, NetworkPolicies, Peer};
pub use payments::{Payments, Price, StripePayments, StripeSecret};
pub use pod_template::{PodTemplate, PodUser, SeedJob, Spread, SpreadMode};
pub use spec::{Auth, Database, FlashSale, FlashSaleSpec, Product, Redis, Stores, Strategy};
pub use status::{
    AppStatus, DatabaseStatus, FlashSaleStatus, ImagesStatus, Phase, ProductStatus, RedisStatus,
    Totals, WaitingFor,
};
pub use stores_tls::{StoresTls, StoresTlsMode};
pub use tracing::{AppTracing, HeadersSecret};
