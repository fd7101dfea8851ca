-- A refunded order: since when, in milliseconds since 1970, and what the payment service calls the refund. `state`
-- and `ended_as` stay readable to the release before: 'paid' if the buyer keeps the units, 'cancelled' if they are
-- back.
ALTER TABLE orders
    ADD COLUMN refunded_at_ms   BIGINT,
    ADD COLUMN refund_reference TEXT;
ALTER TABLE past_orders
    ADD COLUMN refunded_at_ms   BIGINT,
    ADD COLUMN refund_reference TEXT;
-- A payment service names an order by its payment. Rows of sales are not in it, as they have no reference.
CREATE INDEX orders_payment_reference ON orders (payment_reference)
    WHERE payment_reference IS NOT NULL AND line = 0;

-- Signed events of payment services. `outcome` is 'applied', 'ignored', or the code of the problem for which nothing
-- was changed; such an event may be delivered again, until it is applied or an administrator has resolved it.
CREATE TABLE payment_events (
    id             UUID PRIMARY KEY,
    provider       TEXT   NOT NULL,
    event_id       TEXT COLLATE "C" NOT NULL,
    kind           TEXT   NOT NULL,
    order_id       UUID,
    reference      TEXT,
    -- In the smallest unit of the currency.
    amount         BIGINT,
    currency       TEXT,
    outcome        TEXT   NOT NULL,
    received_at_ms BIGINT NOT NULL,
    resolved_at_ms BIGINT,
    CONSTRAINT payment_events_once UNIQUE (provider, event_id)
);
CREATE INDEX payment_events_refused ON payment_events (id)
    WHERE outcome NOT IN ('applied', 'ignored') AND resolved_at_ms IS NULL;
