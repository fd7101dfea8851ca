-- `restocked` is the part of `declared` that administrators added on top of what the operator or a
-- creation declared, so a declaration that is repeated adds only its own difference. A deleted
-- product keeps its rows: its orders refer to it, and its fence keeps late holders out.
ALTER TABLE stock
    ADD COLUMN restocked  BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN deleted_at TIMESTAMPTZ,
    ADD CONSTRAINT stock_restocked CHECK (restocked >= 0 AND restocked <= declared);
