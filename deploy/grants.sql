-- The least that each program needs, on MariaDB 10.6+ and MySQL 8+. Make the users first, with
-- passwords of your own:
--
--   CREATE DATABASE inventory CHARACTER SET utf8mb4;
--   CREATE USER inventory_migrate IDENTIFIED BY '…';   -- inventoryctl migrate
--   CREATE USER inventory_api     IDENTIFIED BY '…';   -- inventory-api, and inventoryctl for everything else
--   CREATE USER inventory_worker  IDENTIFIED BY '…';   -- inventory-worker
--
-- then run this file. API and worker need the rights of tables, so run `inventoryctl migrate` before it
-- and again after each release that adds a table.

-- Migration: makes and changes tables, writes the deployment id and the shards. UPDATE and TRIGGER are for the trigger of
-- versions, which runs with this user's rights: keep the user. With the binlog on, making it also needs
-- log_bin_trust_function_creators=1, or an administrator who types the line that `inventoryctl migrate` prints.
GRANT SELECT, INSERT, UPDATE, CREATE, ALTER, INDEX, DROP, TRIGGER ON inventory.* TO inventory_migrate;

-- API: reads everything, writes products and prices. UPDATE on products is also what the locking
-- read of a cache fill needs.
GRANT SELECT ON inventory.* TO inventory_api;
GRANT INSERT, UPDATE ON inventory.products TO inventory_api;
GRANT INSERT ON inventory.price_history TO inventory_api;
-- What was answered to writes that come with a key.
GRANT INSERT, UPDATE ON inventory.idempotency TO inventory_api;
-- Operators: the hold on the queue, and dead letters that are replayed or dropped.
GRANT UPDATE ON inventory.view_shards TO inventory_api;
GRANT UPDATE ON inventory.dead_letters TO inventory_api;
GRANT INSERT, UPDATE ON inventory.product_views TO inventory_api;
GRANT INSERT, UPDATE ON inventory.view_hours TO inventory_api;
-- Stock and reservations.
GRANT INSERT, UPDATE ON inventory.stock TO inventory_api;
GRANT INSERT ON inventory.stock_movements TO inventory_api;
GRANT INSERT, UPDATE ON inventory.reservations TO inventory_api;
GRANT INSERT ON inventory.reservation_items TO inventory_api;

-- Worker: adds views, keeps watermarks, sets dead letters aside. It writes no product. Its sample of the cache
-- reads products under a shared lock, for which MySQL before 8.0.22 also wants LOCK TABLES ON inventory.*.
GRANT SELECT ON inventory.* TO inventory_worker;
GRANT INSERT, UPDATE ON inventory.product_views TO inventory_worker;
GRANT INSERT, UPDATE ON inventory.view_hours TO inventory_worker;
GRANT INSERT, UPDATE ON inventory.view_marks TO inventory_worker;
GRANT UPDATE ON inventory.view_shards TO inventory_worker;
GRANT INSERT, UPDATE ON inventory.dead_letters TO inventory_worker;
-- What has served its time.
GRANT DELETE ON inventory.idempotency TO inventory_worker;
GRANT DELETE ON inventory.view_hours TO inventory_worker;
GRANT DELETE ON inventory.dead_letters TO inventory_worker;
GRANT DELETE ON inventory.view_marks TO inventory_worker;
GRANT DELETE ON inventory.reservations TO inventory_worker;
GRANT DELETE ON inventory.reservation_items TO inventory_worker;
-- Releases reservations whose time is over.
GRANT UPDATE ON inventory.stock TO inventory_worker;
GRANT INSERT ON inventory.stock_movements TO inventory_worker;
GRANT UPDATE ON inventory.reservations TO inventory_worker;
-- Checks stock, and keeps what long ledgers add up to.
GRANT INSERT, UPDATE ON inventory.stock_subtotals TO inventory_worker;
-- It follows the binlog, so that what others change with plain SQL is shown within two seconds; without these two lines
-- it goes on, and that is shown when the cache's TTL ends. MariaDB shows REPLICATION CLIENT as BINLOG MONITOR.
GRANT INSERT, UPDATE ON inventory.binlog_tail TO inventory_worker;
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO inventory_worker;
