-- Buyers whose name was replaced at their wish. `digest` is a salted hash of the name: tokens of this
-- name are refused. `buyer` is the name itself, only until every store has the pseudonym.
CREATE TABLE erasures (
    digest        TEXT PRIMARY KEY,
    pseudonym     TEXT   NOT NULL,
    buyer         TEXT,
    -- Milliseconds since 1970.
    begun_at_ms   BIGINT NOT NULL
);

ALTER TABLE installation ADD COLUMN erasure_salt TEXT;
UPDATE installation SET erasure_salt = gen_random_uuid()::TEXT;
