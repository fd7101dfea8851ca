-- Accounts are found whatever the case of their ids. Not UNIQUE: accounts that differ in case only
-- could be made before, and replicas of the version before still make them while they are replaced.
CREATE INDEX accounts_id_any_case ON accounts (lower(id COLLATE "C"));
