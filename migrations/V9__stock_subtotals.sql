-- What the movements of a product add up to as far as one of them, where it has many: the worker keeps it while it checks
-- stock, so that a check needs not begin at the first. Nothing else reads it; a row that is missing is made again.
CREATE TABLE stock_subtotals (
    product_id  BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    -- The last movement that is in the sums.
    movement_id BIGINT UNSIGNED NOT NULL,
    on_hand     BIGINT NOT NULL,
    reserved    BIGINT NOT NULL,
    updated_at  DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
