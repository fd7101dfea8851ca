//! Types of the conditions in a sale's status.

/// All Redis nodes are ready.
pub const REDIS_READY: &str = "RedisReady";
/// The database is there.
pub const DATABASE_READY: &str = "DatabaseReady";
/// The declared stock is in place.
pub const STOCK_SEEDED: &str = "StockSeeded";
/// As many replicas as declared take purchases.
pub const APP_AVAILABLE: &str = "AppAvailable";
/// All of the above.
pub const READY: &str = "Ready";

/// The parts, each after what it depends on: the first that is away is the cause of the rest.
pub const PARTS: [&str; 4] = [REDIS_READY, DATABASE_READY, STOCK_SEEDED, APP_AVAILABLE];
