-- The same meaning as migrations/postgres/0026_waitlist.sql.
CREATE TABLE waitlist (
    place      INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id TEXT    NOT NULL,
    buyer      TEXT    NOT NULL,
    quantity   INTEGER NOT NULL CONSTRAINT waitlist_quantity CHECK (quantity > 0),
    hold_ms    INTEGER NOT NULL CONSTRAINT waitlist_hold CHECK (hold_ms > 0),
    CONSTRAINT waitlist_once UNIQUE (product_id, buyer)
) STRICT;
CREATE INDEX waitlist_places ON waitlist (product_id, place);
