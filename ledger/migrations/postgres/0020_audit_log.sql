-- What administrators did. `target` is what it was done to; `detail` is a JSON object or NULL.
CREATE TABLE audit_log (
    id         UUID PRIMARY KEY,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    actor      TEXT COLLATE "C" NOT NULL,
    action     TEXT        NOT NULL,
    target     TEXT COLLATE "C" NOT NULL,
    detail     TEXT
);

-- Rows are only added. The one change that is allowed replaces a name by a pseudonym.
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE'
        AND (NEW.id, NEW.created_at, NEW.action) = (OLD.id, OLD.created_at, OLD.action)
        AND NEW.detail IS NOT DISTINCT FROM OLD.detail
        AND (NEW.actor = OLD.actor OR NEW.actor LIKE 'erased:%')
        AND (NEW.target = OLD.target OR NEW.target LIKE 'erased:%')
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER audit_log_rows BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_log_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
