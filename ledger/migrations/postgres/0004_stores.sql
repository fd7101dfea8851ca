-- For `STRATEGY=Atomic`, where Redis decides and the database follows. `incarnation` names the Redis
-- stock that was made from this row, by the fencing token under which it was made; `recorded` is how
-- many units of that one's sales have been recorded here.
-- So `available + recorded` does not change with a sale, whether it is recorded yet or not.
ALTER TABLE stock
    ADD COLUMN incarnation BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN recorded    BIGINT NOT NULL DEFAULT 0;
