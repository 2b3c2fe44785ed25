-- What a movement did to the quantity reserved, beside `delta`, which is what it did to the quantity on hand: the sums of
-- both over a product's movements are its row in `stock`, always.
ALTER TABLE stock_movements ADD COLUMN reserved_delta BIGINT NOT NULL DEFAULT 0 AFTER delta;

-- Stock that was there before it had movements is opened by one, so that the sums hold from here on.
INSERT INTO stock_movements (product_id, kind, delta, reserved_delta, on_hand, reserved, reason)
SELECT s.product_id, 'count', s.on_hand, s.reserved, s.on_hand, s.reserved, 'opening'
FROM stock AS s
WHERE NOT EXISTS (SELECT 1 FROM stock_movements AS m WHERE m.product_id = s.product_id)
  AND (s.on_hand <> 0 OR s.reserved <> 0);
