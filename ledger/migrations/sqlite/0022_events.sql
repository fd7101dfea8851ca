-- The same meaning as migrations/postgres/0022_events.sql.
CREATE TABLE event_sinks (
    name           TEXT PRIMARY KEY,
    states         TEXT,
    seen_at_ms     INTEGER NOT NULL,
    disabled_at_ms INTEGER
) STRICT;

-- AUTOINCREMENT: the number of an event that was deleted never comes again.
CREATE TABLE order_events (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    sink     TEXT NOT NULL,
    order_id TEXT NOT NULL,
    state    TEXT NOT NULL,
    at_ms    INTEGER NOT NULL
) STRICT;
CREATE INDEX order_events_sink ON order_events (sink, number);

CREATE TABLE failed_events (
    sink               TEXT NOT NULL,
    number             INTEGER NOT NULL,
    order_id           TEXT NOT NULL,
    state              TEXT NOT NULL,
    at_ms              INTEGER NOT NULL,
    attempts           INTEGER NOT NULL,
    first_failed_at_ms INTEGER NOT NULL,
    retry_at_ms        INTEGER NOT NULL,
    error              TEXT NOT NULL,
    dead_at_ms         INTEGER,
    PRIMARY KEY (sink, number)
) STRICT;
CREATE INDEX failed_events_order ON failed_events (order_id, sink, number) WHERE dead_at_ms IS NULL;
CREATE INDEX failed_events_dead ON failed_events (number) WHERE dead_at_ms IS NOT NULL;
CREATE INDEX failed_events_retry ON failed_events (sink, retry_at_ms) WHERE dead_at_ms IS NULL;

CREATE TABLE event_delivery (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CONSTRAINT event_delivery_one_row CHECK (only_row = 1),
    owner    TEXT,
    until_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO event_delivery DEFAULT VALUES;

CREATE TRIGGER events_of_new_orders AFTER INSERT ON orders WHEN NEW.line = 0
BEGIN
    INSERT INTO order_events (sink, order_id, state, at_ms)
    SELECT name, NEW.id, NEW.state, CAST(unixepoch('subsec') * 1000 AS INTEGER)
    FROM event_sinks
    WHERE states IS NULL OR instr(states, ' ' || NEW.state || ' ') > 0;
END;

CREATE TRIGGER events_of_changed_orders AFTER UPDATE ON orders
WHEN NEW.line = 0 AND (NEW.buyer <> OLD.buyer
    OR coalesce(NEW.ended_as, NEW.state) <> coalesce(OLD.ended_as, OLD.state))
BEGIN
    INSERT INTO order_events (sink, order_id, state, at_ms)
    SELECT name, NEW.id, changed.state, CAST(unixepoch('subsec') * 1000 AS INTEGER)
    FROM (SELECT CASE WHEN NEW.buyer <> OLD.buyer THEN 'buyer_erased'
                      ELSE coalesce(NEW.ended_as, NEW.state) END AS state) changed
        CROSS JOIN event_sinks
    WHERE states IS NULL OR instr(states, ' ' || changed.state || ' ') > 0;
END;
