-- The same meaning as migrations/postgres/0002_orders.sql; SQLite cannot change a key in place.
CREATE TABLE orders_by_line (
    id                TEXT NOT NULL,
    line              INTEGER NOT NULL DEFAULT 0 CONSTRAINT orders_line CHECK (line >= 0),
    product_id        TEXT NOT NULL REFERENCES products (id),
    buyer             TEXT NOT NULL,
    quantity          INTEGER NOT NULL CONSTRAINT orders_quantity CHECK (quantity > 0),
    idempotency_key   TEXT,
    fence             INTEGER NOT NULL,
    state             TEXT NOT NULL DEFAULT 'confirmed' CONSTRAINT orders_state
        CHECK (state IN ('pending', 'confirmed', 'paid', 'cancelled', 'payment_failed')),
    payment_reference TEXT,
    created_at        TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (id, line),
    CONSTRAINT orders_idempotency UNIQUE (buyer, idempotency_key, line)
) STRICT;

INSERT INTO orders_by_line (id, product_id, buyer, quantity, idempotency_key, fence, created_at)
SELECT id, product_id, buyer, quantity, idempotency_key, fence, created_at FROM orders;

DROP TABLE orders;

ALTER TABLE orders_by_line RENAME TO orders;
