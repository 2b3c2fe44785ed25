-- Keeps what could not be counted. Text that was kept before must not be among it.
-- ?: shard, batch, [[position, product id, hours since 1970 UTC, views, reason, detail, payload as hex], …]
INSERT INTO dead_letters (shard, batch, position, product_id, hour, views, reason, detail, payload)
SELECT ?, ?, d.position, d.product_id, TIMESTAMPADD(HOUR, d.hour, '1970-01-01 00:00:00'), d.views, d.reason, d.detail, UNHEX(d.payload)
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    position   INT UNSIGNED PATH '$[0]',
    product_id BIGINT UNSIGNED PATH '$[1]',
    hour       BIGINT UNSIGNED PATH '$[2]',
    views      BIGINT UNSIGNED PATH '$[3]',
    reason     VARCHAR(32) PATH '$[4]',
    detail     VARCHAR(255) PATH '$[5]',
    payload    MEDIUMTEXT PATH '$[6]'
)) AS d
