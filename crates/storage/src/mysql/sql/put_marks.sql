-- Moves the watermarks of a shard's writers; runs under the lock of the shard's row.
-- ?: shard, [[writer, seq, accepted, arrived], …]
INSERT INTO view_marks (shard, writer, seq, accepted, arrived)
SELECT ?, d.writer, d.seq, d.accepted, d.arrived
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    writer   CHAR(32) CHARACTER SET ascii COLLATE ascii_bin PATH '$[0]',
    seq      BIGINT UNSIGNED PATH '$[1]',
    accepted BIGINT UNSIGNED PATH '$[2]',
    arrived  BIGINT UNSIGNED PATH '$[3]'
)) AS d
ORDER BY d.writer
ON DUPLICATE KEY UPDATE seq = d.seq, accepted = d.accepted, arrived = d.arrived, used_at = CURRENT_TIMESTAMP(6)
