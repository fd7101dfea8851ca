-- The same meaning as migrations/postgres/0031_units_back_events.sql.
DROP TRIGGER events_of_changed_orders;
CREATE TRIGGER events_of_changed_orders AFTER UPDATE ON orders
WHEN NEW.line = 0 AND (NEW.buyer <> OLD.buyer
    OR CASE WHEN NEW.refunded_at_ms IS NOT NULL THEN 'refunded' ELSE coalesce(NEW.ended_as, NEW.state) END
       <> CASE WHEN OLD.refunded_at_ms IS NOT NULL THEN 'refunded' ELSE coalesce(OLD.ended_as, OLD.state) END
    OR (OLD.refunded_at_ms IS NOT NULL AND NEW.state <> OLD.state))
BEGIN
    INSERT INTO order_events (sink, order_id, state, at_ms)
    SELECT name, NEW.id, changed.state, CAST(unixepoch('subsec') * 1000 AS INTEGER)
    FROM (SELECT CASE WHEN NEW.buyer <> OLD.buyer THEN 'buyer_erased'
                      WHEN NEW.refunded_at_ms IS NOT NULL THEN 'refunded'
                      ELSE coalesce(NEW.ended_as, NEW.state) END AS state) changed
        CROSS JOIN event_sinks
    WHERE states IS NULL OR instr(states, ' ' || changed.state || ' ') > 0;
END;
