-- The price of a unit, in the smallest unit of its currency (ISO 4217); NULL: none.
ALTER TABLE products
    ADD COLUMN price    BIGINT CONSTRAINT products_price CHECK (price > 0),
    ADD COLUMN currency TEXT,
    ADD CONSTRAINT products_price_has_currency CHECK ((price IS NULL) = (currency IS NULL));
-- The price of a unit at the moment of the sale: 0 for none, NULL for orders from before this migration. Without a
-- constraint, which would read the whole table.
ALTER TABLE orders
    ADD COLUMN unit_price BIGINT,
    ADD COLUMN currency   TEXT;
ALTER TABLE past_products
    ADD COLUMN price    BIGINT,
    ADD COLUMN currency TEXT;
ALTER TABLE past_orders
    ADD COLUMN unit_price BIGINT,
    ADD COLUMN currency   TEXT;

-- For replicas of the release before, which know no price. The present ones write it, so this does nothing there.
CREATE FUNCTION orders_take_price() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT coalesce(price, 0), products.currency INTO NEW.unit_price, NEW.currency
    FROM products WHERE id = NEW.product_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER orders_price BEFORE INSERT ON orders
    FOR EACH ROW WHEN (NEW.unit_price IS NULL) EXECUTE FUNCTION orders_take_price();
