-- Sets the prices of rows that this transaction has locked, and which are there.
-- STRAIGHT_JOIN: a plan that began with `products` would lock all of its rows.
-- ?: [[product id, price as text or null, currency or null, …], …]
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
    product_id BIGINT UNSIGNED PATH '$[0]',
    price      VARCHAR(32) PATH '$[1]',
    currency   VARCHAR(3) PATH '$[2]'
)) AS d
STRAIGHT_JOIN products AS p FORCE INDEX (PRIMARY) ON p.id = d.product_id
SET p.price = CAST(d.price AS DECIMAL(19,4)), p.currency = d.currency, p.version = p.version + 1
