-- Adds sums to the counters of products, in the order of their ids so that transactions cannot deadlock.
-- ?: [[product id, views], …]
INSERT INTO product_views (product_id, views)
SELECT d.product_id, d.views
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    product_id BIGINT UNSIGNED PATH '$[0]',
    views      BIGINT UNSIGNED PATH '$[1]'
)) AS d
ORDER BY d.product_id
ON DUPLICATE KEY UPDATE views = product_views.views + d.views
