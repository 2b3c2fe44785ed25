-- Writes changes of stock down, in the order in which they were made.
-- ?: [[place, product id, kind, change of on hand, change of reserved, on hand, reserved, reason, reference, actor, reservation], …]
INSERT INTO stock_movements (product_id, kind, delta, reserved_delta, on_hand, reserved, reason, reference, actor, reservation_id)
SELECT d.product_id, d.kind, d.delta, d.reserved_delta, d.on_hand, d.reserved, d.reason, d.reference, d.actor, d.reservation_id
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    place          INT UNSIGNED PATH '$[0]',
    product_id     BIGINT UNSIGNED PATH '$[1]',
    kind           VARCHAR(16) PATH '$[2]',
    delta          BIGINT PATH '$[3]',
    reserved_delta BIGINT PATH '$[4]',
    on_hand        BIGINT PATH '$[5]',
    reserved       BIGINT PATH '$[6]',
    reason         VARCHAR(255) PATH '$[7]',
    reference      VARCHAR(255) PATH '$[8]',
    actor          VARCHAR(255) PATH '$[9]',
    reservation_id CHAR(36) PATH '$[10]'
)) AS d
ORDER BY d.place
