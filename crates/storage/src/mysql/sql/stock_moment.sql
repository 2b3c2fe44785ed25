-- All that must agree of some products, at one moment: READ COMMITTED gives each statement one view of everything it reads.
-- STRAIGHT_JOIN with its index: begun at the reservations it would read the items of all that are active.
SELECT t.product_id, CAST(SUM(t.on_hand) AS SIGNED) AS on_hand, CAST(SUM(t.reserved) AS SIGNED) AS reserved,
       CAST(SUM(t.moved_on_hand) AS SIGNED) AS moved_on_hand, CAST(SUM(t.moved_reserved) AS SIGNED) AS moved_reserved,
       CAST(SUM(t.items) AS SIGNED) AS items
FROM (
    SELECT product_id, on_hand, reserved, 0 AS moved_on_hand, 0 AS moved_reserved, 0 AS items FROM stock WHERE {stock}
    UNION ALL
    SELECT product_id, 0, 0, SUM(delta), SUM(reserved_delta), 0
    FROM stock_movements FORCE INDEX (stock_movements_product) WHERE {behind} GROUP BY product_id
    UNION ALL
    SELECT i.product_id, 0, 0, 0, 0, SUM(i.quantity)
    FROM reservation_items AS i FORCE INDEX (reservation_items_product)
    STRAIGHT_JOIN reservations AS r FORCE INDEX (PRIMARY) ON r.id = i.reservation_id
    WHERE {items} {since} AND r.state = 'active' GROUP BY i.product_id
) AS t
GROUP BY t.product_id
