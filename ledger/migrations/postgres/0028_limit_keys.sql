-- `limit_key` stands for the person for whose limit something counts, where the sale limits by a claim of access
-- tokens: a salted hash of the claim's value. NULL: it counts for its buyer alone. Replicas of the release before leave
-- it NULL; a sale that limits by a claim says in `needs_migration` that they must not sell.
ALTER TABLE installation ADD COLUMN limit_claim TEXT;
ALTER TABLE orders ADD COLUMN limit_key TEXT COLLATE "C";
ALTER TABLE coupon_issues ADD COLUMN limit_key TEXT COLLATE "C";
ALTER TABLE waitlist ADD COLUMN limit_key TEXT COLLATE "C";
-- Empty where the sale limits by account. Not CONCURRENTLY: as in 0018.
CREATE INDEX orders_limit_key ON orders (limit_key) WHERE limit_key IS NOT NULL;
CREATE UNIQUE INDEX coupon_issues_once_per_person ON coupon_issues (coupon_id, limit_key) WHERE limit_key IS NOT NULL;

-- What accounts of a person had when they were erased: without the order and without the account. It goes on counting for
-- the person's other accounts. `item` is a product, or 'coupon:' and a coupon.
CREATE TABLE erased_units (
    limit_key TEXT COLLATE "C" NOT NULL,
    item      TEXT   NOT NULL,
    units     BIGINT NOT NULL,
    PRIMARY KEY (limit_key, item)
);

-- Whoever gives a row another buyer erases the first one. For replicas of the release before, too.
CREATE FUNCTION orders_lose_limit_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state NOT IN ('cancelled', 'payment_failed') THEN
        INSERT INTO erased_units AS e (limit_key, item, units)
        VALUES (OLD.limit_key, OLD.product_id, OLD.quantity)
        ON CONFLICT (limit_key, item) DO UPDATE SET units = e.units + excluded.units;
    END IF;
    NEW.limit_key := NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER orders_lose_limit_key BEFORE UPDATE OF buyer ON orders
    FOR EACH ROW WHEN (OLD.limit_key IS NOT NULL AND NEW.buyer <> OLD.buyer)
    EXECUTE FUNCTION orders_lose_limit_key();

CREATE FUNCTION coupon_issues_lose_limit_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO erased_units (limit_key, item, units) VALUES (OLD.limit_key, 'coupon:' || OLD.coupon_id, 1)
    ON CONFLICT (limit_key, item) DO NOTHING;
    NEW.limit_key := NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER coupon_issues_lose_limit_key BEFORE UPDATE OF buyer ON coupon_issues
    FOR EACH ROW WHEN (OLD.limit_key IS NOT NULL AND NEW.buyer <> OLD.buyer)
    EXECUTE FUNCTION coupon_issues_lose_limit_key();
