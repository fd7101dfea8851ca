-- The same meaning as migrations/postgres/0025_payments.sql.
ALTER TABLE orders ADD COLUMN refunded_at_ms INTEGER;
ALTER TABLE orders ADD COLUMN refund_reference TEXT;
ALTER TABLE past_orders ADD COLUMN refunded_at_ms INTEGER;
ALTER TABLE past_orders ADD COLUMN refund_reference TEXT;
CREATE INDEX orders_payment_reference ON orders (payment_reference)
    WHERE payment_reference IS NOT NULL AND line = 0;

CREATE TABLE payment_events (
    id             TEXT PRIMARY KEY,
    provider       TEXT NOT NULL,
    event_id       TEXT NOT NULL,
    kind           TEXT NOT NULL,
    order_id       TEXT,
    reference      TEXT,
    amount         INTEGER,
    currency       TEXT,
    outcome        TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    resolved_at_ms INTEGER,
    CONSTRAINT payment_events_once UNIQUE (provider, event_id)
) STRICT;
CREATE INDEX payment_events_refused ON payment_events (id)
    WHERE outcome NOT IN ('applied', 'ignored') AND resolved_at_ms IS NULL;
