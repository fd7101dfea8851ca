//! Statements that mean the same in both databases.

pub(crate) const CREATE: &str = "INSERT INTO coupons (id, quantity, starts_at_ms, ends_at_ms) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";

pub(crate) const COUPON: &str = "SELECT id, quantity, issued, starts_at_ms, ends_at_ms, fence \
     FROM coupons WHERE id = $1";

/// Installs a token, before anything is read, and returns what is left; nothing for a token that is
/// not above all that came before.
pub(crate) const FENCE: &str = "UPDATE coupons SET fence = $2 WHERE id = $1 AND fence < $2 \
     RETURNING quantity - issued";

pub(crate) const FENCE_SEEN: &str = "SELECT fence FROM coupons WHERE id = $1";

pub(crate) const ISSUE_OF: &str =
    "SELECT id FROM coupon_issues WHERE coupon_id = $1 AND buyer = $2";

/// PostgreSQL only; one look into the index for each.
pub(crate) const ISSUES_OF: &str = "SELECT asked.coupon, asked.name, found.id \
     FROM unnest($1::TEXT[], $2::TEXT[]) AS asked (coupon, name) CROSS JOIN LATERAL \
     (SELECT id FROM coupon_issues WHERE coupon_id = asked.coupon AND buyer = asked.name) found";

/// Page by page in order of the buyers, which is the order of the key.
pub(crate) const ISSUES_AFTER: &str = "SELECT buyer, id FROM coupon_issues \
     WHERE coupon_id = $1 AND buyer > $2 ORDER BY buyer LIMIT $3";

/// Takes coupons, if they are there and no later holder has come.
pub(crate) const TAKE: &str = "UPDATE coupons SET issued = issued + $2 \
     WHERE id = $1 AND issued + $2 <= quantity AND fence = $3";
