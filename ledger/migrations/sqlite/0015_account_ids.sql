-- The same meaning as migrations/postgres/0015_account_ids.sql.
CREATE INDEX accounts_id_any_case ON accounts (lower(id));
