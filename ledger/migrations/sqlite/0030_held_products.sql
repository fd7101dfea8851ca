-- Which products open holds have units of, for buyers who want to wait. The condition is not that of
-- `orders_open_holds`, so no plan takes this index to read the holds by their ends.
CREATE INDEX orders_held_products ON orders (product_id)
    WHERE state = 'pending' AND expires_at_ms > 0;
