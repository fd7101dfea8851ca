-- Who waits for units of a product, in the order of `place`. A row goes when its buyer is served or leaves.
-- `hold_ms`: how long the order that serves the buyer holds its units.
CREATE TABLE waitlist (
    place      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id TEXT   NOT NULL,
    buyer      TEXT COLLATE "C" NOT NULL,
    quantity   BIGINT NOT NULL CONSTRAINT waitlist_quantity CHECK (quantity > 0),
    hold_ms    BIGINT NOT NULL CONSTRAINT waitlist_hold CHECK (hold_ms > 0),
    CONSTRAINT waitlist_once UNIQUE (product_id, buyer)
);
CREATE INDEX waitlist_places ON waitlist (product_id, place);
