-- The same meaning as migrations/postgres/0004_stores.sql.
ALTER TABLE stock ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stock ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;
