-- Prices that were set together can be taken back together: each row of the history says which batch wrote it, and what
-- the price was before.
ALTER TABLE price_history
    -- The batch that wrote the row; NULL: a price that was set alone.
    ADD COLUMN batch           CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL,
    -- The price before. NULL: there was none, or a program older than these columns wrote the row, never one of a batch.
    ADD COLUMN before_price    DECIMAL(19,4) NULL DEFAULT NULL,
    ADD COLUMN before_currency CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL,
    -- Since when the product was as it was before: that price was in force then, and perhaps earlier. Another system may have
    -- set it with plain SQL, and then it stands nowhere else.
    ADD COLUMN before_since    DATETIME(6) NULL DEFAULT NULL,
    -- NULL: from here on the product had no price, because the first that it ever had was taken back.
    MODIFY COLUMN price        DECIMAL(19,4) NULL DEFAULT NULL,
    MODIFY COLUMN currency     CHAR(3) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL,
    ADD KEY price_history_batch (batch, product_id);
