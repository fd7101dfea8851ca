//! The keys in Redis.

/// A hash of the orders of idempotency keys, by key and buyer. With an empty field it is complete.
/// With a field `epoch` it lacks keys that may be in the database, but has those of all buyers up to
/// `filled`. With neither it was lost, and a field `lost` marks that until an epoch begins.
pub(crate) const KEYS: &str = "purchase-keys";

/// A hash: incarnation, available, sold, given, fence, waiting (the number of orders in the stream),
/// limited and filled. `limited` is 2 while the database may have units of buyers that their hash
/// lacks; those of all buyers up to `filled` are there.
pub(crate) fn stock_key(product_id: &str) -> String {
    format!("sale:{product_id}")
}

/// The stream of orders that wait to be recorded.
pub(crate) fn stream_key(product_id: &str) -> String {
    format!("orders:{product_id}")
}

/// The stream of orders that the database could not take.
pub(crate) fn refused_key(product_id: &str) -> String {
    format!("orders-refused:{product_id}")
}

/// Exists while a replica records abandoned entries of the stream.
pub(crate) fn recording_key(product_id: &str) -> String {
    format!("recording:{product_id}")
}

/// Holds the id of the replica that fills in lost data.
pub(crate) const FILLING: &str = "filling";

/// How long a claim to fill or to record lasts after the replica's last page, in ms.
pub(crate) const CLAIM_MILLIS: u64 = 5_000;

/// A hash of units by buyer.
pub(crate) fn bought_key(product_id: &str) -> String {
    format!("bought:{product_id}")
}

/// The lock for rebuilding or ending a product's stock in Redis.
pub(crate) fn rebuild_resource(product_id: &str) -> String {
    format!("atomic:{product_id}")
}
