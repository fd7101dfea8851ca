-- A pending order holds its units until `expires_at_ms`, in milliseconds since 1970; NULL: without an end, as
-- orders of the release before. `hold_seconds` overrides the sale's own hold.
-- `ended_as` says more about a cancelled order: its hold has ended ('expired'), or money came after that and
-- units were no longer there ('refund_required'). The state stays 'cancelled', which replicas of the release
-- before know: the units are back, and nothing changes the order any more.
ALTER TABLE products
    ADD COLUMN hold_seconds BIGINT CONSTRAINT products_hold CHECK (hold_seconds > 0);
ALTER TABLE orders
    ADD COLUMN expires_at_ms BIGINT,
    ADD COLUMN ended_as      TEXT
        CONSTRAINT orders_ended_as CHECK (ended_as IN ('expired', 'refund_required'));
-- The open holds by their ends. Not CONCURRENTLY: replicas that wait to migrate too hold a snapshot, for which
-- such a build would wait. It reads the table once; no row of before is in it.
CREATE INDEX orders_open_holds ON orders (expires_at_ms, id)
    WHERE state = 'pending' AND line = 0 AND expires_at_ms IS NOT NULL;
ALTER TABLE past_orders
    ADD COLUMN expires_at_ms BIGINT,
    ADD COLUMN ended_as      TEXT;
