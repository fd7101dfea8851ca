-- The same meaning as migrations/postgres/0024_prices.sql.
ALTER TABLE products ADD COLUMN price INTEGER CONSTRAINT products_price CHECK (price > 0);
ALTER TABLE products ADD COLUMN currency TEXT
    CONSTRAINT products_price_has_currency CHECK ((price IS NULL) = (currency IS NULL));
ALTER TABLE orders ADD COLUMN unit_price INTEGER;
ALTER TABLE orders ADD COLUMN currency TEXT;
ALTER TABLE past_products ADD COLUMN price INTEGER;
ALTER TABLE past_products ADD COLUMN currency TEXT;
ALTER TABLE past_orders ADD COLUMN unit_price INTEGER;
ALTER TABLE past_orders ADD COLUMN currency TEXT;

CREATE TRIGGER orders_price AFTER INSERT ON orders WHEN NEW.unit_price IS NULL
BEGIN
    UPDATE orders SET
        unit_price = (SELECT coalesce(price, 0) FROM products WHERE id = NEW.product_id),
        currency = (SELECT currency FROM products WHERE id = NEW.product_id)
    WHERE id = NEW.id AND line = NEW.line;
END;
