-- Writes the lines of new reservations, in the order of their keys.
-- ?: [[reservation, product id, quantity], …]
INSERT INTO reservation_items (reservation_id, product_id, quantity)
SELECT d.reservation_id, d.product_id, d.quantity
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    reservation_id CHAR(36) PATH '$[0]',
    product_id     BIGINT UNSIGNED PATH '$[1]',
    quantity       BIGINT UNSIGNED PATH '$[2]'
)) AS d
ORDER BY d.reservation_id, d.product_id
