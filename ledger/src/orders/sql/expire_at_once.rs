//! The statement that ends holds of one product, or changes nothing: `postgres/expire_at_once.rs` sends it.

use crate::sql::postgres_now;

/// Ends the holds of orders ($3) whose time has come, and gives their units of a product ($1) back for a token ($2), unless
/// the fence is not below the token or changes meanwhile, the product was deleted, or somebody waits for its units. Orders
/// with units of other products are not ended: their sum is NULL, which the stock refuses, and that undoes the statement.
///
/// An order is changed only if `held` has the row of the stock, which is locked by then: so this waits in the order of all
/// who give units back, the stock before its orders. An order that changed since the snapshot is checked again before it
/// is ended. The row of the stock is written once, with the token and the units.
///
/// Who begins to wait while the statement runs is not in its snapshot, and is served as after a restock; so is who begins to
/// wait after the rules have read the list.
pub(crate) const EXPIRE_AT_ONCE: &str = concat!(
    "WITH seen AS MATERIALIZED (\
       SELECT fence AS seen FROM stock \
       WHERE product_id = $1 AND fence < $2 AND deleted_at IS NULL \
         AND NOT EXISTS (SELECT FROM waitlist WHERE waitlist.product_id = $1)), \
     held AS MATERIALIZED (\
       SELECT seen FROM stock JOIN seen ON fence = seen WHERE product_id = $1 FOR NO KEY UPDATE OF stock), \
     ended AS (\
       UPDATE orders SET state = 'cancelled', ended_as = 'expired' FROM held \
       WHERE id = ANY($3) AND state = 'pending' AND expires_at_ms <= ",
    postgres_now!(),
    " RETURNING id, line, product_id, quantity), \
     given_back AS (\
       UPDATE stock SET fence = $2, available = available + (\
         SELECT CASE WHEN bool_and(product_id = $1) IS NOT FALSE THEN coalesce(sum(quantity), 0)::BIGINT END \
         FROM ended) \
       FROM held WHERE product_id = $1 RETURNING available) \
     SELECT available, ARRAY(SELECT id FROM ended WHERE line = 0) FROM given_back"
);
