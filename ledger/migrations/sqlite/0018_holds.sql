-- The same meaning as migrations/postgres/0018_holds.sql.
ALTER TABLE products ADD COLUMN hold_seconds INTEGER
    CONSTRAINT products_hold CHECK (hold_seconds > 0);
ALTER TABLE orders ADD COLUMN expires_at_ms INTEGER;
ALTER TABLE orders ADD COLUMN ended_as TEXT
    CONSTRAINT orders_ended_as CHECK (ended_as IN ('expired', 'refund_required'));
CREATE INDEX orders_open_holds ON orders (expires_at_ms, id)
    WHERE state = 'pending' AND line = 0 AND expires_at_ms IS NOT NULL;
ALTER TABLE past_orders ADD COLUMN expires_at_ms INTEGER;
ALTER TABLE past_orders ADD COLUMN ended_as TEXT;
