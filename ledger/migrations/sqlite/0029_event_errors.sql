-- The same meaning as migrations/postgres/0029_event_errors.sql.
ALTER TABLE failed_events ADD COLUMN failed_at_ms INTEGER;
