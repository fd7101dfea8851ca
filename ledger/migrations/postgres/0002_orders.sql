-- An order has one row for each product. All rows of an order have the same id, buyer, key, state
-- and payment reference. A plain purchase is one row, number 0, and is confirmed.
ALTER TABLE orders
    ADD COLUMN line              SMALLINT NOT NULL DEFAULT 0
        CONSTRAINT orders_line CHECK (line >= 0),
    ADD COLUMN state             TEXT     NOT NULL DEFAULT 'confirmed'
        CONSTRAINT orders_state
        CHECK (state IN ('pending', 'confirmed', 'paid', 'cancelled', 'payment_failed')),
    ADD COLUMN payment_reference TEXT,
    DROP CONSTRAINT orders_pkey,
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id, line),
    DROP CONSTRAINT orders_idempotency,
    ADD CONSTRAINT orders_idempotency UNIQUE (buyer, idempotency_key, line);
