-- An operator's hold on the drain, on the rows that every batch locks first: whoever applies a batch reads it
-- under that lock, so that a pause is exact, costs no further statement, and outlives every process and Redis.
-- All rows are paused and resumed in one transaction.
--
-- `dead_letters.state` needs no change to hold one value more: `counted` is a letter that was replayed and is in MySQL,
-- while Redis may still cache totals without it.
ALTER TABLE view_shards
    -- UTC; NULL: not paused.
    ADD COLUMN paused_at    DATETIME(6) NULL DEFAULT NULL,
    -- Who paused it, as that program knows it.
    ADD COLUMN paused_by    VARCHAR(255) NULL DEFAULT NULL,
    ADD COLUMN pause_reason VARCHAR(255) NULL DEFAULT NULL;
