-- Units that come back after the money of their order are an event too: `refunded` once more. Between two refunds the state
-- that is shown stays `refunded`, so this change is found by the one that is stored.
CREATE OR REPLACE FUNCTION events_of_changed_orders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO order_events (sink, order_id, state, at_ms)
    SELECT s.name, changed.id, changed.state, (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT
    FROM (SELECT id, CASE WHEN is_erased THEN 'buyer_erased' ELSE shown END AS state
          FROM (SELECT n.id, n.buyer <> o.buyer AS is_erased,
                       CASE WHEN n.refunded_at_ms IS NOT NULL THEN 'refunded' ELSE coalesce(n.ended_as, n.state) END
                           AS shown,
                       CASE WHEN o.refunded_at_ms IS NOT NULL THEN 'refunded' ELSE coalesce(o.ended_as, o.state) END
                           AS shown_before,
                       o.refunded_at_ms IS NOT NULL AND n.state <> o.state AS is_units_back
                FROM new_rows n JOIN old_rows o ON o.id = n.id
                WHERE n.line = 0 AND o.line = 0) both_rows
          WHERE is_erased OR shown <> shown_before OR is_units_back) changed
        CROSS JOIN event_sinks s
    WHERE s.name > '' AND (s.states IS NULL OR position(' ' || changed.state || ' ' IN s.states) > 0);
    RETURN NULL;
END
$$;
