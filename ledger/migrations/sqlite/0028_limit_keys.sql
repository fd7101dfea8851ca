-- The same meaning as migrations/postgres/0028_limit_keys.sql.
ALTER TABLE installation ADD COLUMN limit_claim TEXT;
ALTER TABLE orders ADD COLUMN limit_key TEXT;
ALTER TABLE coupon_issues ADD COLUMN limit_key TEXT;
ALTER TABLE waitlist ADD COLUMN limit_key TEXT;
CREATE INDEX orders_limit_key ON orders (limit_key) WHERE limit_key IS NOT NULL;
CREATE UNIQUE INDEX coupon_issues_once_per_person ON coupon_issues (coupon_id, limit_key) WHERE limit_key IS NOT NULL;

CREATE TABLE erased_units (
    limit_key TEXT    NOT NULL,
    item      TEXT    NOT NULL,
    units     INTEGER NOT NULL,
    PRIMARY KEY (limit_key, item)
) STRICT;

CREATE TRIGGER orders_lose_limit_key AFTER UPDATE OF buyer ON orders
WHEN OLD.limit_key IS NOT NULL AND NEW.buyer <> OLD.buyer
BEGIN
    INSERT INTO erased_units (limit_key, item, units)
    SELECT OLD.limit_key, OLD.product_id, OLD.quantity
    WHERE OLD.state NOT IN ('cancelled', 'payment_failed')
    ON CONFLICT (limit_key, item) DO UPDATE SET units = units + excluded.units;
    UPDATE orders SET limit_key = NULL WHERE id = OLD.id AND line = OLD.line;
END;

CREATE TRIGGER coupon_issues_lose_limit_key AFTER UPDATE OF buyer ON coupon_issues
WHEN OLD.limit_key IS NOT NULL AND NEW.buyer <> OLD.buyer
BEGIN
    INSERT INTO erased_units (limit_key, item, units)
    VALUES (OLD.limit_key, 'coupon:' || OLD.coupon_id, 1)
    ON CONFLICT (limit_key, item) DO NOTHING;
    UPDATE coupon_issues SET limit_key = NULL WHERE coupon_id = NEW.coupon_id AND buyer = NEW.buyer;
END;
