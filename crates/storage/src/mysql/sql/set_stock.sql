-- Sets levels of rows that this transaction has locked; a row that is at another version than it was locked at is left alone.
-- STRAIGHT_JOIN: a plan that began with `stock` would lock all of its rows.
-- ?: [[product id, version before, on hand, reserved, version], …]
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
    product_id BIGINT UNSIGNED PATH '$[0]',
    before_version BIGINT UNSIGNED PATH '$[1]',
    on_hand    BIGINT PATH '$[2]',
    reserved   BIGINT PATH '$[3]',
    version    BIGINT UNSIGNED PATH '$[4]'
)) AS d
STRAIGHT_JOIN stock AS s FORCE INDEX (PRIMARY) ON s.product_id = d.product_id AND s.version = d.before_version
SET s.on_hand = d.on_hand, s.reserved = d.reserved, s.version = d.version
