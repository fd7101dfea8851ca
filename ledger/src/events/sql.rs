//! The statements of events: one text for two databases, which have clocks and lists of their own.

/// The columns of the events of a selection, a row for each line of their orders. What is added here and in
/// `EventOrder` is sent. `kept!` in `crate::sql` says the same of the units.
macro_rules! of_orders {
    () => {
        "SELECT e.number, e.order_id, e.state, e.at_ms, e.attempts, o.buyer, o.product_id, \
         o.quantity, o.payment_reference, o.expires_at_ms, o.unit_price, o.currency, o.refund_reference, \
         o.state IN ('cancelled', 'payment_failed') AS units_back FROM "
    };
}

macro_rules! of_orders_end {
    () => {
        " e JOIN orders o ON o.id = e.order_id ORDER BY e.number, o.line"
    };
}

/// As if the first attempt was still to come, for events of which `dead_at_ms` is such: `IS NULL` or `IS NOT NULL`.
macro_rules! begin_again {
    ($now:literal, $dead_at_ms:literal) => {
        concat!(
            "UPDATE failed_events SET dead_at_ms = NULL, attempts = 0, retry_at_ms = ",
            $now,
            ", first_failed_at_ms = ",
            $now,
            " WHERE dead_at_ms ",
            $dead_at_ms
        )
    };
}

/// No event of the same order has failed before. `coalesce` and `+ 0` leave one index for it, that of the order.
macro_rules! no_earlier {
    ($event:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM failed_events e WHERE e.order_id = ",
            $event,
            ".order_id AND e.dead_at_ms IS NULL AND coalesce(e.sink, '') = ",
            $event,
            ".sink AND e.number + 0 < ",
            $event,
            ".number)"
        )
    };
}

/// Removes the events of a sink ($1) whose numbers are in a list ($2). The plan may be of a time when the queue was empty,
/// and must not read all of it: `OFFSET 0` makes it look each number up. An event whose row another replica changes at this
/// moment may stay: it is sent again.
macro_rules! delivered_on_postgres {
    ($table:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ctid = ANY(ARRAY(SELECT found.ctid FROM unnest($2::BIGINT[]) AS done (number) \
             CROSS JOIN LATERAL (SELECT ctid FROM ",
            $table,
            " WHERE sink = $1 AND number = done.number OFFSET 0) found))"
        )
    };
}

macro_rules! delivered_on_sqlite {
    ($table:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE sink = $1 AND number IN (SELECT value FROM json_each($2))"
        )
    };
}

/// The statements of one database: `$now` is its time in milliseconds since 1970.
macro_rules! statements {
    ($module:ident, $now:literal, $delivered:ident) => {
        pub(super) mod $module {
            /// A sink that is in use again gets events again only if an administrator says so.
            pub(in crate::events) const KEEP_SINK: &str = concat!(
                "INSERT INTO event_sinks (name, states, seen_at_ms) VALUES ($1, $2, ", $now, ") \
                 ON CONFLICT (name) DO UPDATE SET states = excluded.states, \
                 seen_at_ms = excluded.seen_at_ms"
            );

            pub(in crate::events) const FORGET_SINKS: &str =
                concat!("DELETE FROM event_sinks WHERE seen_at_ms < ", $now, " - $1");

            pub(in crate::events) const LEAD: &str = concat!(
                "UPDATE event_delivery SET owner = $1, until_ms = ", $now, " + $2 \
                 WHERE owner IS NULL OR owner = $1 OR until_ms < ", $now
            );

            pub(in crate::events) const DUE_EVENTS: &str = concat!(
                of_orders!(),
                "(SELECT number, order_id, state, at_ms, attempts FROM failed_events f \
                 WHERE sink = $1 AND dead_at_ms IS NULL AND retry_at_ms <= ", $now,
                " AND ", no_earlier!("f"), " ORDER BY retry_at_ms, number LIMIT $2)",
                of_orders_end!()
            );

            pub(in crate::events) const DELIVERED: [&str; 2] =
                [$delivered!("order_events"), $delivered!("failed_events")];

            pub(in crate::events) const FAILED_FIRST: &str = concat!(
                "INSERT INTO failed_events (sink, number, order_id, state, at_ms, attempts, \
                 first_failed_at_ms, failed_at_ms, retry_at_ms, error) \
                 SELECT sink, number, order_id, state, at_ms, 1, ", $now, ", ", $now, ", ", $now, " + $3, $4 \
                 FROM order_events WHERE sink = $1 AND number = $2"
            );

            pub(in crate::events) const FAILED_AGAIN: &str = concat!(
                "UPDATE failed_events SET attempts = attempts + 1, retry_at_ms = ", $now, " + $3, \
                 failed_at_ms = ", $now, ", error = $4, \
                 dead_at_ms = CASE WHEN first_failed_at_ms + $5 <= ", $now, " THEN ", $now, " END \
                 WHERE sink = $1 AND number = $2 AND dead_at_ms IS NULL"
            );

            pub(in crate::events) const RETRY_NOW: &str = concat!(
                "UPDATE failed_events SET retry_at_ms = ", $now, " \
                 WHERE sink = $1 AND dead_at_ms IS NULL AND retry_at_ms > ", $now
            );

            pub(in crate::events) const DISABLE: &str = concat!(
                "UPDATE event_sinks SET disabled_at_ms = ", $now, " \
                 WHERE name = $1 AND disabled_at_ms IS NULL"
            );

            /// The oldest new event has the lowest number, but for changes that were committed at the same time.
            pub(in crate::events) const COUNTS: &str = concat!(
                "SELECT name, disabled_at_ms, \
                 (SELECT count(*) FROM order_events WHERE sink = name) \
                 + (SELECT count(*) FROM failed_events WHERE sink = name AND dead_at_ms IS NULL) \
                   AS pending, \
                 (SELECT count(*) FROM failed_events WHERE sink = name AND dead_at_ms IS NOT NULL) \
                   AS dead, \
                 coalesce(", $now, " - (SELECT min(at_ms) FROM (\
                   SELECT * FROM (SELECT at_ms FROM order_events WHERE sink = name \
                     ORDER BY number LIMIT 1) AS first_new \
                   UNION ALL SELECT at_ms FROM failed_events \
                     WHERE sink = name AND dead_at_ms IS NULL) AS pending), 0) AS lag_ms, \
                 (SELECT error FROM failed_events WHERE sink = name AND dead_at_ms IS NULL \
                   ORDER BY coalesce(failed_at_ms, 0) DESC, number DESC LIMIT 1) AS error \
                 FROM event_sinks ORDER BY name"
            );

            pub(in crate::events) const REPLAY_ONE: &str = concat!(
                begin_again!($now, "IS NOT NULL"),
                " AND order_id = $1 AND number = $2"
            );

            pub(in crate::events) const REPLAY_ALL: &str =
                concat!(begin_again!($now, "IS NOT NULL"), " AND sink = $1");

            /// Before `ENABLE`; nothing changes for a sink that is enabled already.
            pub(in crate::events) const BEGIN_AGAIN: &str = concat!(
                begin_again!($now, "IS NULL"),
                " AND sink = $1 AND EXISTS (SELECT 1 FROM event_sinks \
                 WHERE name = $1 AND disabled_at_ms IS NOT NULL)"
            );
        }
    };
}

/// Later events of an order wait for one that has failed.
pub(super) const NEW_EVENTS: &str = concat!(
    of_orders!(),
    "(SELECT number, order_id, state, at_ms, CAST(0 AS BIGINT) AS attempts FROM order_events n WHERE sink = $1 \
     AND ",
    no_earlier!("n"),
    " ORDER BY number LIMIT $2)",
    of_orders_end!()
);

pub(super) const FORGET_EVENTS: [&str; 2] = [
    "DELETE FROM order_events WHERE sink NOT IN (SELECT name FROM event_sinks)",
    "DELETE FROM failed_events WHERE sink NOT IN (SELECT name FROM event_sinks)",
];

pub(super) const LEAVE: &str = "UPDATE event_delivery SET owner = NULL WHERE owner = $1";

pub(super) const FAILED_FIRST_MOVED: &str =
    "DELETE FROM order_events WHERE sink = $1 AND number = $2";

pub(super) const ENABLE: &str = "UPDATE event_sinks SET disabled_at_ms = NULL WHERE name = $1";

pub(super) const SINKS: &str = "SELECT name, disabled_at_ms FROM event_sinks ORDER BY name";

pub(super) const DEAD_EVENTS: &str = "SELECT number, sink, order_id, state, at_ms, attempts, error, dead_at_ms \
     FROM failed_events WHERE dead_at_ms IS NOT NULL AND number > $1 \
     AND (CAST($2 AS TEXT) IS NULL OR sink = $2) ORDER BY number LIMIT $3";

/// What PostgreSQL knows of a queue is of the past: a plan must not depend on it. Indexes have what is read in its order.
pub(super) const READ_ON_POSTGRES: &str = "BEGIN READ ONLY; SET LOCAL enable_bitmapscan = off; \
     SET LOCAL enable_sort = off; SET LOCAL enable_material = off; SET LOCAL jit = off";
pub(super) const READ_ON_SQLITE: &str = "BEGIN";

statements!(
    postgres,
    "(extract(epoch FROM statement_timestamp()) * 1000)::BIGINT",
    delivered_on_postgres
);
statements!(sqlite, "CAST(unixepoch('subsec') * 1000 AS INTEGER)", delivered_on_sqlite);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{on_postgres, plan_without_rows, pool_of};

    #[tokio::test]
    async fn delivered_events_are_found_without_reading_the_others() {
        let (_server, ledger) = on_postgres(2).await;
        for statement in postgres::DELIVERED {
            let tables = "order_events, failed_events";
            let plan = plan_without_rows(pool_of(&ledger), tables, statement).await;
            assert!(plan.contains("Tid Scan"), "{plan}");
            let look_up = "Index Cond: ((sink = $1) AND (number = done.number))";
            assert!(plan.contains(look_up), "{plan}");
        }
    }
}
