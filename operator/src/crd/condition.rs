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
/// The sale is not ready yet, and needs no person. By the convention of kstatus: present only while True.
pub const RECONCILING: &str = "Reconciling";
/// The sale is not ready, and stays so until a person acts. By the convention of kstatus: present only while True.
pub const STALLED: &str = "Stalled";
/// The sale was ready, and a part is unavailable now. Present only while True.
pub const DEGRADED: &str = "Degraded";
/// The spec is accepted, but risky. Present only while True.
pub const CONFIGURATION_WARNING: &str = "ConfigurationWarning";
/// The sale should hibernate by the clock, and its pods still run for what is unfinished. Present only while True.
pub const HIBERNATION_DELAYED: &str = "HibernationDelayed";
/// An annotation pauses the operator's work on this sale. Present only while True.
pub const RECONCILIATION_PAUSED: &str = "ReconciliationPaused";

/// Conditions of the parts in order of dependency: the first one that is False is the cause of the others.
pub const PARTS: [&str; 4] = [REDIS_READY, DATABASE_READY, STOCK_SEEDED, APP_AVAILABLE];

/// All types in the order of the status.
pub const ALL: [&str; 11] = [
    REDIS_READY,
    DATABASE_READY,
    STOCK_SEEDED,
    APP_AVAILABLE,
    READY,
    RECONCILING,
    STALLED,
    DEGRADED,
    CONFIGURATION_WARNING,
    HIBERNATION_DELAYED,
    RECONCILIATION_PAUSED,
];
