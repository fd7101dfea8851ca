-- The same meaning as migrations/postgres/0005_administration.sql.
ALTER TABLE stock ADD COLUMN restocked INTEGER NOT NULL DEFAULT 0
    CONSTRAINT stock_restocked CHECK (restocked >= 0 AND restocked <= declared);
ALTER TABLE stock ADD COLUMN deleted_at TEXT;
