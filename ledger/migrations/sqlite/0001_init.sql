-- The same meaning as migrations/postgres/0001_init.sql.
CREATE TABLE accounts (
    id            TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,
    role          TEXT NOT NULL CONSTRAINT accounts_role CHECK (role IN ('buyer', 'admin')),
    created_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;

CREATE TABLE products (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    max_per_buyer   INTEGER CONSTRAINT products_max_per_buyer CHECK (max_per_buyer > 0),
    wait_timeout_ms INTEGER CONSTRAINT products_wait_timeout CHECK (wait_timeout_ms > 0),
    lease_time_ms   INTEGER CONSTRAINT products_lease_time CHECK (lease_time_ms > 0)
) STRICT;

CREATE TABLE stock (
    product_id TEXT PRIMARY KEY REFERENCES products (id),
    declared   INTEGER NOT NULL,
    available  INTEGER NOT NULL,
    fence      INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT stock_not_oversold CHECK (available >= 0),
    CONSTRAINT stock_not_more_than_declared CHECK (available <= declared)
) STRICT;

CREATE TABLE orders (
    id              TEXT PRIMARY KEY,
    product_id      TEXT NOT NULL REFERENCES products (id),
    buyer           TEXT NOT NULL,
    quantity        INTEGER NOT NULL CONSTRAINT orders_quantity CHECK (quantity > 0),
    idempotency_key TEXT,
    fence           INTEGER NOT NULL,
    created_at      TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    CONSTRAINT orders_idempotency UNIQUE (buyer, idempotency_key)
) STRICT;
