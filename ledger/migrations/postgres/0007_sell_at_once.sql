-- Every order's product has a stock row, which the same statement changes: a foreign key would look
-- for it once more for each order.
ALTER TABLE orders DROP CONSTRAINT orders_product_id_fkey;
-- Names and keys are compared as bytes.
ALTER TABLE orders ALTER COLUMN buyer TYPE TEXT COLLATE "C",
    ALTER COLUMN idempotency_key TYPE TEXT COLLATE "C";
