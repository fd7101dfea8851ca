//! Real `redis-server`, `postgres`, `pgbouncer` and `nats-server` processes on free loopback ports, for tests and for
//! `cargo xtask local`. Each lives in a temporary folder and ends when it is dropped. And a proxy
//! to fail the network between them and their clients, a browser, and a Kubernetes API server.
//!
//! Knows processes and bytes only: no client library, no product code.

mod api_server;
mod browser;
mod echo;
mod faketime;
mod nats;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod programs;
mod proxy;
mod redis;
mod tls;

pub use api_server::{ApiServer, ApiUser};
pub use browser::Browser;
pub use echo::raw_round_trips;
pub use nats::NatsServer;
pub use pgbouncer::PgBouncer;
pub use port::free_port;
pub use postgres::Postgres;
pub use programs::cluster_programs;
pub use proxy::{Direction, Link, Packet, PacketFault, Proxy, RoundTrips, Way};
pub use redis::{Fsync, RedisServer, User};
pub use tls::{Authority, Certificate, TlsFolder};
