-- Copies the new prices of a batch into their history, with the versions and the time that the rows now have.
-- ?: actor, batch, [[product id, price, currency, price before or null, currency before or null, since when or null, reason or null], …]
INSERT INTO price_history (product_id, version, price, currency, reason, actor, changed_at, batch, before_price, before_currency, before_since)
SELECT p.id, p.version, p.price, p.currency, d.reason, ?, p.updated_at, ?, CAST(d.before_price AS DECIMAL(19,4)), d.before_currency, CAST(d.before_since AS DATETIME(6))
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    product_id      BIGINT UNSIGNED PATH '$[0]',
    before_price    VARCHAR(32) PATH '$[3]',
    before_currency VARCHAR(3) PATH '$[4]',
    before_since    VARCHAR(32) PATH '$[5]',
    reason          VARCHAR(255) PATH '$[6]'
)) AS d
STRAIGHT_JOIN products AS p FORCE INDEX (PRIMARY) ON p.id = d.product_id
ORDER BY p.id
