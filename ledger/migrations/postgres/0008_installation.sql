-- One row: whose database this is, and which versions of the app may use it.
CREATE TABLE installation (
    only_row         BOOLEAN PRIMARY KEY DEFAULT TRUE
        CONSTRAINT installation_one_row CHECK (only_row),
    -- The name of the sale; NULL until a sale claims the database, and after its release.
    sale             TEXT,
    -- An app that does not know this migration refuses the database: see ../README.md.
    needs_migration  BIGINT NOT NULL DEFAULT 0
);
INSERT INTO installation DEFAULT VALUES;

-- What sales left behind that were here before: their rows as they were when the database was
-- released. `sale` is the name of the sale.
CREATE TABLE past_products (
    sale          TEXT        NOT NULL,
    released_at   TIMESTAMPTZ NOT NULL,
    id            TEXT        NOT NULL,
    name          TEXT        NOT NULL,
    max_per_buyer BIGINT,
    declared      BIGINT      NOT NULL,
    restocked     BIGINT      NOT NULL,
    available     BIGINT      NOT NULL,
    deleted_at    TIMESTAMPTZ
);

CREATE TABLE past_orders (
    sale              TEXT        NOT NULL,
    released_at       TIMESTAMPTZ NOT NULL,
    id                UUID        NOT NULL,
    line              SMALLINT    NOT NULL,
    product_id        TEXT        NOT NULL,
    buyer             TEXT        NOT NULL,
    quantity          BIGINT      NOT NULL,
    idempotency_key   TEXT,
    state             TEXT        NOT NULL,
    payment_reference TEXT,
    created_at        TIMESTAMPTZ NOT NULL
);

CREATE TABLE past_coupons (
    sale         TEXT        NOT NULL,
    released_at  TIMESTAMPTZ NOT NULL,
    id           TEXT        NOT NULL,
    quantity     BIGINT      NOT NULL,
    issued       BIGINT      NOT NULL,
    starts_at_ms BIGINT,
    ends_at_ms   BIGINT
);

CREATE TABLE past_coupon_issues (
    sale        TEXT        NOT NULL,
    released_at TIMESTAMPTZ NOT NULL,
    id          UUID        NOT NULL,
    coupon_id   TEXT        NOT NULL,
    buyer       TEXT        NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL
);
