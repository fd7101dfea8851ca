-- The same meaning as migrations/postgres/0008_installation.sql.
CREATE TABLE installation (
    only_row        INTEGER PRIMARY KEY DEFAULT 1
        CONSTRAINT installation_one_row CHECK (only_row = 1),
    sale            TEXT,
    needs_migration INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO installation DEFAULT VALUES;

CREATE TABLE past_products (
    sale          TEXT NOT NULL,
    released_at   TEXT NOT NULL,
    id            TEXT NOT NULL,
    name          TEXT NOT NULL,
    max_per_buyer INTEGER,
    declared      INTEGER NOT NULL,
    restocked     INTEGER NOT NULL,
    available     INTEGER NOT NULL,
    deleted_at    TEXT
) STRICT;

CREATE TABLE past_orders (
    sale              TEXT NOT NULL,
    released_at       TEXT NOT NULL,
    id                TEXT NOT NULL,
    line              INTEGER NOT NULL,
    product_id        TEXT NOT NULL,
    buyer             TEXT NOT NULL,
    quantity          INTEGER NOT NULL,
    idempotency_key   TEXT,
    state             TEXT NOT NULL,
    payment_reference TEXT,
    created_at        TEXT NOT NULL
) STRICT;

CREATE TABLE past_coupons (
    sale         TEXT NOT NULL,
    released_at  TEXT NOT NULL,
    id           TEXT NOT NULL,
    quantity     INTEGER NOT NULL,
    issued       INTEGER NOT NULL,
    starts_at_ms INTEGER,
    ends_at_ms   INTEGER
) STRICT;

CREATE TABLE past_coupon_issues (
    sale        TEXT NOT NULL,
    released_at TEXT NOT NULL,
    id          TEXT NOT NULL,
    coupon_id   TEXT NOT NULL,
    buyer       TEXT NOT NULL,
    created_at  TEXT NOT NULL
) STRICT;
