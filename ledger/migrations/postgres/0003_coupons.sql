-- Changed under the lock `coupon:issue:<id>`; `fence` is the highest fencing token that came here.
-- The times are milliseconds since 1970.
CREATE TABLE coupons (
    id           TEXT PRIMARY KEY,
    quantity     BIGINT NOT NULL CONSTRAINT coupons_quantity CHECK (quantity > 0),
    issued       BIGINT NOT NULL DEFAULT 0,
    starts_at_ms BIGINT,
    ends_at_ms   BIGINT,
    fence        BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT coupons_not_overissued CHECK (issued BETWEEN 0 AND quantity)
);

-- One for each buyer.
CREATE TABLE coupon_issues (
    id         UUID        NOT NULL,
    coupon_id  TEXT        NOT NULL REFERENCES coupons (id),
    buyer      TEXT        NOT NULL,
    fence      BIGINT      NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT coupon_issues_once PRIMARY KEY (coupon_id, buyer)
);
