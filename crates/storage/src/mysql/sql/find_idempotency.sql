-- What was answered under several keys.
-- ?: [[place, token, route, key], …]
SELECT d.place, i.request, i.status, i.etag, i.location, i.body
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    place           INT UNSIGNED PATH '$[0]',
    token           VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin PATH '$[1]',
    route           VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin PATH '$[2]',
    idempotency_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin PATH '$[3]'
)) AS d
STRAIGHT_JOIN idempotency AS i FORCE INDEX (PRIMARY)
    ON i.token = d.token AND i.route = d.route AND i.idempotency_key = d.idempotency_key
