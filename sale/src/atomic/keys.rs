//! The keys in Redis.

/// The orders that idempotency keys led to, by key and buyer. All are there if it has an empty field.
/// If it has an `epoch` instead, those that are not there are in the database if anywhere, and all
/// buyers up to `filled` are there.
pub(crate) const KEYS: &str = "purchase-keys";

/// A hash: incarnation, available, sold, given, fence; limited, which is 2 while units of buyers who
/// are not in their hash are in the database if anywhere, and filled, up to which buyer all are there;
/// waiting, which is how many orders are in the stream.
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

/// Is there while a replica records what others left in the stream.
pub(crate) fn recording_key(product_id: &str) -> String {
    format!("recording:{product_id}")
}

/// Names the replica that fills what Redis lost, for as long as it does.
pub(crate) const FILLING: &str = "filling";

/// How long others leave it to a replica that began to fill or to record, in ms, after its last page.
pub(crate) const CLAIM: u64 = 5_000;

/// A hash of units by buyer.
pub(crate) fn bought_key(product_id: &str) -> String {
    format!("bought:{product_id}")
}

/// What is locked to make or end a product's stock in Redis.
pub(crate) fn load_resource(product_id: &str) -> String {
    format!("atomic:{product_id}")
}
