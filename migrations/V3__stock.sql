-- Stock lives in MySQL alone. A product without a row has none: on hand 0, reserved 0, version 0.
CREATE TABLE stock (
    product_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    on_hand    BIGINT NOT NULL DEFAULT 0,
    reserved   BIGINT NOT NULL DEFAULT 0,
    version    BIGINT UNSIGNED NOT NULL DEFAULT 1,
    updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    -- The last line against overselling, behind the conditional updates.
    CONSTRAINT stock_not_oversold CHECK (reserved >= 0 AND on_hand >= reserved)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- One row for each change of stock, in the transaction of the change.
CREATE TABLE stock_movements (
    id             BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    product_id     BIGINT UNSIGNED NOT NULL,
    kind           VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    delta          BIGINT NOT NULL,
    -- Quantities after the change.
    on_hand        BIGINT NOT NULL,
    reserved       BIGINT NOT NULL,
    reason         VARCHAR(255) NULL DEFAULT NULL,
    reference      VARCHAR(255) NULL DEFAULT NULL,
    actor          VARCHAR(255) NULL DEFAULT NULL,
    reservation_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL,
    created_at     DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    KEY stock_movements_product (product_id, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE reservations (
    id         CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    -- active, committed, released or expired.
    state      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'active',
    reference  VARCHAR(255) NULL DEFAULT NULL,
    actor      VARCHAR(255) NULL DEFAULT NULL,
    expires_at DATETIME(6) NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    KEY reservations_expiry (state, expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE reservation_items (
    reservation_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    product_id     BIGINT UNSIGNED NOT NULL,
    quantity       BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (reservation_id, product_id),
    KEY reservation_items_product (product_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
