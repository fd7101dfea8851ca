-- When the last attempt failed, in milliseconds since 1970: the newest error of a sink is told. The release before does not
-- write it.
ALTER TABLE failed_events ADD COLUMN failed_at_ms BIGINT;
