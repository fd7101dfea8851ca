-- The same meaning as migrations/postgres/0003_coupons.sql.
CREATE TABLE coupons (
    id           TEXT PRIMARY KEY,
    quantity     INTEGER NOT NULL CONSTRAINT coupons_quantity CHECK (quantity > 0),
    issued       INTEGER NOT NULL DEFAULT 0,
    starts_at_ms INTEGER,
    ends_at_ms   INTEGER,
    fence        INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT coupons_not_overissued CHECK (issued BETWEEN 0 AND quantity)
) STRICT;

CREATE TABLE coupon_issues (
    id         TEXT NOT NULL,
    coupon_id  TEXT NOT NULL REFERENCES coupons (id),
    buyer      TEXT NOT NULL,
    fence      INTEGER NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    CONSTRAINT coupon_issues_once PRIMARY KEY (coupon_id, buyer)
) STRICT;
