-- Views, counted apart from products and without foreign keys: adding views must touch neither the
-- product's row nor its lock nor its cache entry.
CREATE TABLE product_views (
    product_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    views      BIGINT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE view_hours (
    product_id BIGINT UNSIGNED NOT NULL,
    -- Start of the hour in which the views arrived, UTC.
    hour       DATETIME NOT NULL,
    views      BIGINT UNSIGNED NOT NULL DEFAULT 0,
    PRIMARY KEY (product_id, hour),
    KEY view_hours_hour (hour)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- One row a shard, made with the database. Its lock, taken first, makes the transactions of a shard
-- run one after another: a writer's first batch has no watermark row that could be locked.
CREATE TABLE view_shards (
    shard            SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
    -- The batch that counted last: tells whether a sealed batch is already in the totals.
    last_batch       CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL,
    persisted        BIGINT UNSIGNED NOT NULL DEFAULT 0,
    dead             BIGINT UNSIGNED NOT NULL DEFAULT 0,
    -- What the watermarks of writers that are long gone had summed up to.
    retired_accepted BIGINT UNSIGNED NOT NULL DEFAULT 0,
    retired_arrived  BIGINT UNSIGNED NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Watermarks: every push of a writer up to `seq` is in MySQL. This is what makes a view count once.
CREATE TABLE view_marks (
    shard    SMALLINT UNSIGNED NOT NULL,
    writer   CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    seq      BIGINT UNSIGNED NOT NULL,
    -- The writer's own running total, as the record `seq` carried it.
    accepted BIGINT UNSIGNED NOT NULL,
    -- Views that came to MySQL; short of `accepted` by what Redis lost.
    arrived  BIGINT UNSIGNED NOT NULL,
    used_at  DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    PRIMARY KEY (shard, writer),
    KEY view_marks_used (used_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- What could not be counted, kept to be looked at, replayed or dropped.
CREATE TABLE dead_letters (
    id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    shard      SMALLINT UNSIGNED NOT NULL,
    batch      CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Place in the batch of text that is no record; NULL for views of a product.
    position   INT UNSIGNED NULL DEFAULT NULL,
    product_id BIGINT UNSIGNED NULL DEFAULT NULL,
    hour       DATETIME NULL DEFAULT NULL,
    views      BIGINT UNSIGNED NOT NULL DEFAULT 0,
    reason     VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    detail     VARCHAR(255) NOT NULL DEFAULT '',
    payload    MEDIUMBLOB NULL,
    -- dead, replayed or dropped.
    state      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'dead',
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    -- Text has no sequence number: its place in its batch keeps a repeat from adding a second row.
    UNIQUE KEY dead_letters_text (batch, position),
    KEY dead_letters_state (state, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
