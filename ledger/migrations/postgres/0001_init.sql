CREATE TABLE accounts (
    id            TEXT PRIMARY KEY,
    password_hash TEXT        NOT NULL,
    role          TEXT        NOT NULL CONSTRAINT accounts_role CHECK (role IN ('buyer', 'admin')),
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE products (
    id              TEXT PRIMARY KEY,
    name            TEXT   NOT NULL,
    max_per_buyer   BIGINT CONSTRAINT products_max_per_buyer CHECK (max_per_buyer > 0),
    wait_timeout_ms BIGINT CONSTRAINT products_wait_timeout CHECK (wait_timeout_ms > 0),
    lease_time_ms   BIGINT CONSTRAINT products_lease_time CHECK (lease_time_ms > 0)
);

-- One row a product, changed under its lock. `fence` is the highest fencing token that has come
-- here; `declared` is the stock the sale was given in all, `available` what is left of it.
CREATE TABLE stock (
    product_id TEXT PRIMARY KEY REFERENCES products (id),
    declared   BIGINT NOT NULL,
    available  BIGINT NOT NULL,
    fence      BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT stock_not_oversold CHECK (available >= 0),
    CONSTRAINT stock_not_more_than_declared CHECK (available <= declared)
);

CREATE TABLE orders (
    id              UUID PRIMARY KEY,
    product_id      TEXT        NOT NULL REFERENCES products (id),
    buyer           TEXT        NOT NULL,
    quantity        BIGINT      NOT NULL CONSTRAINT orders_quantity CHECK (quantity > 0),
    idempotency_key TEXT,
    fence           BIGINT      NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT orders_idempotency UNIQUE (buyer, idempotency_key)
);
