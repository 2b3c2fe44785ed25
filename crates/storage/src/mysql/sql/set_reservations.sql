-- Ends reservations that this transaction has locked.
-- STRAIGHT_JOIN: a plan that began with `reservations` would lock all of its rows.
-- ?: [[id, state, updated at], …]
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
    id         CHAR(36) CHARACTER SET ascii COLLATE ascii_bin PATH '$[0]',
    state      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin PATH '$[1]',
    updated_at DATETIME(6) PATH '$[2]'
)) AS d
STRAIGHT_JOIN reservations AS r FORCE INDEX (PRIMARY) ON r.id = d.id
SET r.state = d.state, r.updated_at = d.updated_at
