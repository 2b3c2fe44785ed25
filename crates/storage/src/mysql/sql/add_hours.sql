-- Adds sums to the hourly buckets, in the order of their keys.
-- ?: [[product id, hours since 1970 UTC, views], …]
INSERT INTO view_hours (product_id, hour, views)
SELECT d.product_id, TIMESTAMPADD(HOUR, d.hour, '1970-01-01 00:00:00'), d.views
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    product_id BIGINT UNSIGNED PATH '$[0]',
    hour       BIGINT UNSIGNED PATH '$[1]',
    views      BIGINT UNSIGNED PATH '$[2]'
)) AS d
ORDER BY d.product_id, d.hour
ON DUPLICATE KEY UPDATE views = view_hours.views + d.views
