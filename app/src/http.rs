//! HTTP without the sale: sockets, connections, bodies and problem documents.

mod activity;
pub(crate) mod body;
pub(crate) mod config;
pub(crate) mod gzip;
pub(crate) mod json;
mod listen;
pub(crate) mod problem;
mod refusal;
mod rejection;
pub(crate) mod server;
pub(crate) mod shutdown;
pub(crate) mod threads;
pub(crate) mod tls;

pub use config::HttpConfig;
pub use listen::listen;
pub use tls::config::TlsConfig;
