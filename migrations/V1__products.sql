-- Products and prices. Other programs read and write these tables with plain SQL, so every column
-- that is not the product's identity has a default, and nothing but InnoDB row locks guards a row.
CREATE TABLE products (
    -- 1 to 2^53-1: what a JSON number holds exactly; API and worker refuse what is above.
    id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    -- Binary collation: `85123A` and `85123a` are two products.
    sku         VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    name        VARCHAR(255) NOT NULL DEFAULT '',
    -- Up to 64 KiB, one byte more than TEXT holds.
    description MEDIUMTEXT NULL DEFAULT NULL,
    active      BOOLEAN NOT NULL DEFAULT TRUE,
    -- Four digits after the point: the most that a currency in use has. NULL: no price yet.
    price       DECIMAL(19,4) NULL DEFAULT NULL,
    currency    CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL,
    -- Rises with every change of this row; orders what caches may hold.
    version     BIGINT UNSIGNED NOT NULL DEFAULT 1,
    -- Highest sequence of a change written behind that this row contains.
    async_hwm   BIGINT UNSIGNED NOT NULL DEFAULT 0,
    -- A deleted product keeps its row: history, movements and views refer to it.
    deleted_at  DATETIME(6) NULL DEFAULT NULL,
    created_at  DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at  DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    UNIQUE KEY products_sku (sku),
    KEY products_updated (updated_at, id),
    CONSTRAINT products_price_with_currency CHECK ((price IS NULL) = (currency IS NULL)),
    CONSTRAINT products_price_not_negative CHECK (price >= 0)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- One row for each change of a price, written in the transaction of the change.
CREATE TABLE price_history (
    id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    product_id BIGINT UNSIGNED NOT NULL,
    -- Version of the product that first had this price.
    version    BIGINT UNSIGNED NOT NULL,
    price      DECIMAL(19,4) NOT NULL,
    currency   CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason     VARCHAR(255) NULL DEFAULT NULL,
    -- Who asked for it, where that is known.
    actor      VARCHAR(255) NULL DEFAULT NULL,
    changed_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    KEY price_history_product (product_id, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- One row: the identity of this database, which owns the key prefix in Redis. Two deployments that
-- share a Redis by mistake would otherwise drain each other's views.
CREATE TABLE deployment (
    only_row   TINYINT UNSIGNED NOT NULL DEFAULT 1 PRIMARY KEY,
    id         CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    CONSTRAINT deployment_only_row CHECK (only_row = 1)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
