-- What was answered to writes that came with an Idempotency-Key, so that a repeated one is answered the same and does
-- nothing. The row is written in the transaction of the change: it is there if, and only if, the change is. Kept 24 hours.
CREATE TABLE idempotency (
    -- Name of the token of the request; empty where none are required. Keys of different tokens do not meet.
    token           VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Method and template: `PUT /v1/products/{id}/price`.
    route           VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Visible ASCII, upper and lower case differ.
    idempotency_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- SHA-256 of the request: the same key with another request is refused.
    request         BINARY(32) NOT NULL,
    -- The answer: NULL only inside the transaction that makes it. Large, because the answer to many prices is.
    status          SMALLINT UNSIGNED NULL DEFAULT NULL,
    etag            VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL,
    location        VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL,
    body            MEDIUMBLOB NULL DEFAULT NULL,
    created_at      DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (token, route, idempotency_key),
    -- The worker deletes the oldest first.
    KEY idempotency_created (created_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
