-- Where the worker that follows the binlog is in it, and whether it does. One row, made by the first worker that may write
-- it; it changes at most once a second, because writing it is an event of the binlog itself.
CREATE TABLE binlog_tail (
    only_row       TINYINT UNSIGNED NOT NULL DEFAULT 1 PRIMARY KEY,
    -- Everything before this place was acted upon. NULL: nobody has followed yet.
    file           VARCHAR(255) NULL DEFAULT NULL,
    position       BIGINT UNSIGNED NULL DEFAULT NULL,
    -- When that file was begun, seconds since 1970 UTC: another file of the same name is another file.
    file_begun     BIGINT UNSIGNED NULL DEFAULT NULL,
    -- Whose binlog it is: the server's UUID or id, and when it was started, seconds since 1970 UTC.
    server         VARCHAR(128) NULL DEFAULT NULL,
    server_started BIGINT UNSIGNED NULL DEFAULT NULL,
    -- What was committed before this was acted upon, seconds since 1970 UTC by the server's clock: the next worker is as late.
    acted_until    BIGINT UNSIGNED NULL DEFAULT NULL,
    -- What was changed before this is shown, UTC, later changes perhaps not yet. NULL: the worker keeps up.
    behind_since   DATETIME NULL DEFAULT NULL,
    -- Why the binlog cannot be followed, as the last worker that tried it was told. NULL: it can.
    off_because    VARCHAR(512) NULL DEFAULT NULL,
    CONSTRAINT binlog_tail_only_row CHECK (only_row = 1)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
