-- The same meaning as migrations/postgres/0021_erasures.sql.
CREATE TABLE erasures (
    digest        TEXT PRIMARY KEY,
    pseudonym     TEXT NOT NULL,
    buyer         TEXT,
    begun_at_ms   INTEGER NOT NULL
) STRICT;

ALTER TABLE installation ADD COLUMN erasure_salt TEXT;
UPDATE installation SET erasure_salt = lower(hex(randomblob(16)));
