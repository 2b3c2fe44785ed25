-- Keeps answers under their keys, in the order of the keys.
-- ?: [[token, route, key, digest of the request as hex, status, etag, location, body], …]
INSERT INTO idempotency (token, route, idempotency_key, request, status, etag, location, body)
SELECT d.token, d.route, d.idempotency_key, UNHEX(d.request), d.status, d.etag, d.location, d.body
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    token           VARCHAR(64) PATH '$[0]',
    route           VARCHAR(128) PATH '$[1]',
    idempotency_key VARCHAR(255) PATH '$[2]',
    request         CHAR(64) PATH '$[3]',
    status          SMALLINT UNSIGNED PATH '$[4]',
    etag            VARCHAR(64) PATH '$[5]',
    location        VARCHAR(255) PATH '$[6]',
    body            MEDIUMTEXT PATH '$[7]'
)) AS d
ORDER BY d.token, d.route, d.idempotency_key
