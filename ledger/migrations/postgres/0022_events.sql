-- The outbox: changes of orders that others are told about. Triggers write it in the transaction of the change, for
-- every statement and for replicas of the release before, so there is no change without its event and no event without
-- its change. Without a row in `event_sinks` nothing is written.

-- A receiver of events. `states` are the words of the states that it wants, with a blank before and behind each; NULL:
-- all. Replicas that have the sink in their settings write `seen_at_ms` again and again; a sink that none has had for an
-- hour goes. Times are milliseconds since 1970.
CREATE TABLE event_sinks (
    name           TEXT COLLATE "C" PRIMARY KEY,
    states         TEXT,
    seen_at_ms     BIGINT NOT NULL,
    -- Nothing is sent to it until an administrator enables it again.
    disabled_at_ms BIGINT
);

-- Events that no attempt has been made for, or whose result is not known yet. They have no buyer: that is read from the
-- order. Two events of one order are numbered in the order of their changes, because the second one waited for the
-- order's row.
CREATE TABLE order_events (
    sink     TEXT COLLATE "C" NOT NULL,
    number   BIGINT GENERATED ALWAYS AS IDENTITY,
    order_id UUID   NOT NULL,
    state    TEXT   NOT NULL,
    at_ms    BIGINT NOT NULL,
    PRIMARY KEY (sink, number)
);
-- A queue: what was delivered is deleted.
ALTER TABLE order_events SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- Events with a failed attempt. `dead_at_ms`: no more attempts are made. Later events of the order wait for one that is
-- not dead.
CREATE TABLE failed_events (
    sink               TEXT COLLATE "C" NOT NULL,
    number             BIGINT NOT NULL,
    order_id           UUID   NOT NULL,
    state              TEXT   NOT NULL,
    at_ms              BIGINT NOT NULL,
    attempts           BIGINT NOT NULL,
    first_failed_at_ms BIGINT NOT NULL,
    retry_at_ms        BIGINT NOT NULL,
    error              TEXT   NOT NULL,
    dead_at_ms         BIGINT,
    PRIMARY KEY (sink, number)
);
CREATE INDEX failed_events_order ON failed_events (order_id, sink, number) WHERE dead_at_ms IS NULL;
CREATE INDEX failed_events_dead ON failed_events (number) WHERE dead_at_ms IS NOT NULL;
CREATE INDEX failed_events_retry ON failed_events (sink, retry_at_ms) WHERE dead_at_ms IS NULL;

-- One row: the replica that delivers, until a time of the database.
CREATE TABLE event_delivery (
    only_row BOOLEAN PRIMARY KEY DEFAULT TRUE CONSTRAINT event_delivery_one_row CHECK (only_row),
    owner    TEXT,
    until_ms BIGINT NOT NULL DEFAULT 0
);
INSERT INTO event_delivery DEFAULT VALUES;

-- `name > ''` is true for each sink, and lets an index find them. The app's sessions make a scan of a table without an
-- index look so expensive (`enable_seqscan`) that PostgreSQL would compile each statement first, for a tenth of a second.
CREATE FUNCTION events_of_new_orders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO order_events (sink, order_id, state, at_ms)
    SELECT s.name, o.id, o.state, (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT
    FROM new_rows o CROSS JOIN event_sinks s
    WHERE s.name > '' AND o.line = 0
        AND (s.states IS NULL OR position(' ' || o.state || ' ' IN s.states) > 0);
    RETURN NULL;
END
$$;

CREATE FUNCTION events_of_changed_orders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO order_events (sink, order_id, state, at_ms)
    SELECT s.name, changed.id, changed.state, (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT
    FROM (SELECT n.id, CASE WHEN n.buyer <> o.buyer THEN 'buyer_erased'
                            ELSE coalesce(n.ended_as, n.state) END AS state
          FROM new_rows n JOIN old_rows o ON o.id = n.id
          WHERE n.line = 0 AND o.line = 0
              AND (n.buyer <> o.buyer
                   OR coalesce(n.ended_as, n.state) <> coalesce(o.ended_as, o.state))) changed
        CROSS JOIN event_sinks s
    WHERE s.name > '' AND (s.states IS NULL OR position(' ' || changed.state || ' ' IN s.states) > 0);
    RETURN NULL;
END
$$;

CREATE TRIGGER events_of_new_orders AFTER INSERT ON orders
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION events_of_new_orders();
CREATE TRIGGER events_of_changed_orders AFTER UPDATE ON orders
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION events_of_changed_orders();
