//! Statements that mean the same in both databases.

pub(super) const CREATE_ACCOUNT: &str = "INSERT INTO accounts (id, password_hash, role) \
     VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING";

pub(super) const ACCOUNT: &str = "SELECT id, password_hash, role FROM accounts WHERE id = $1";

pub(super) const PRODUCTS: &str = "SELECT id, name, max_per_buyer, wait_timeout_ms, lease_time_ms, \
     declared, available, fence FROM products JOIN stock ON product_id = id ORDER BY id";

pub(super) const ORDER_BY_KEY: &str = "SELECT id, product_id, buyer, quantity, idempotency_key \
     FROM orders WHERE buyer = $1 AND idempotency_key = $2";

/// Installs a token, before anything is read, and returns the units left; nothing for a token that
/// is not above all that came before.
pub(super) const FENCE: &str =
    "UPDATE stock SET fence = $2 WHERE product_id = $1 AND fence < $2 RETURNING available";

pub(super) const FENCE_SEEN: &str = "SELECT fence FROM stock WHERE product_id = $1";

pub(super) const MAX_PER_BUYER: &str = "SELECT max_per_buyer FROM products WHERE id = $1";

/// Takes units, if they are there and no later holder has come.
pub(super) const TAKE: &str = "UPDATE stock SET available = available - $2 \
     WHERE product_id = $1 AND available >= $2 AND fence = $3";

pub(super) const DECLARE_PRODUCT: &str = "INSERT INTO products \
     (id, name, max_per_buyer, wait_timeout_ms, lease_time_ms) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, max_per_buyer = excluded.max_per_buyer, \
     wait_timeout_ms = excluded.wait_timeout_ms, lease_time_ms = excluded.lease_time_ms";

pub(super) const CREATE_STOCK: &str = "INSERT INTO stock (product_id, declared, available) \
     VALUES ($1, 0, 0) ON CONFLICT (product_id) DO NOTHING";

pub(super) const DECLARED: &str = "SELECT declared FROM stock WHERE product_id = $1";

/// Adds the difference to what was declared before; never takes away.
pub(super) const RAISE: &str = "UPDATE stock \
     SET available = available + $2 - declared, declared = $2 WHERE product_id = $1 \
     RETURNING available";
