//! Condition types in a sale's status.

/// All Redis nodes are ready.
pub const REDIS_READY: &str = "RedisReady";
/// The database is reachable and is the seeded one.
pub const DATABASE_READY: &str = "DatabaseReady";
/// The declared stock is seeded.
pub const STOCK_SEEDED: &str = "StockSeeded";
/// The declared number of replicas accepts purchases.
pub const APP_AVAILABLE: &str = "AppAvailable";
/// The declared route, Ingress and Service have addresses. Absent: none is declared. It is no part of `Ready`.
pub const EXPOSED: &str = "Exposed";
/// The conditions of all parts are True.
pub const READY: &str = "Ready";

/// Conditions of the parts in order of dependency: the first one that is False is the cause of the others.
pub const PARTS: [&str; 4] = [REDIS_READY, DATABASE_READY, STOCK_SEEDED, APP_AVAILABLE];
