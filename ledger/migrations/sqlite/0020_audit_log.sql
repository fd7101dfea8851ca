-- The same meaning as migrations/postgres/0020_audit_log.sql.
CREATE TABLE audit_log (
    id         TEXT PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    detail     TEXT
) STRICT;

CREATE TRIGGER audit_log_update BEFORE UPDATE ON audit_log
WHEN NEW.id <> OLD.id OR NEW.created_at <> OLD.created_at OR NEW.action <> OLD.action
    OR NEW.detail IS NOT OLD.detail
    OR (NEW.actor <> OLD.actor AND NEW.actor NOT LIKE 'erased:%')
    OR (NEW.target <> OLD.target AND NEW.target NOT LIKE 'erased:%')
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_log_delete BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
