-- Writes new reservations, in the order of their ids.
-- ?: [[id, state, reference, actor, expires at, created at], …]
INSERT INTO reservations (id, state, reference, actor, expires_at, created_at, updated_at)
SELECT d.id, d.state, d.reference, d.actor, d.expires_at, d.created_at, d.created_at
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    id         CHAR(36) PATH '$[0]',
    state      VARCHAR(16) PATH '$[1]',
    reference  VARCHAR(255) PATH '$[2]',
    actor      VARCHAR(255) PATH '$[3]',
    expires_at DATETIME(6) PATH '$[4]',
    created_at DATETIME(6) PATH '$[5]'
)) AS d
ORDER BY d.id
