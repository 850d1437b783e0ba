--
-- The change log: its rows, positions, and the ring of segments
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

-- An event that mode update meets for the first time is only noted: the worker
-- goes through windows as ever and needs no server.
SELECT iterable_create_connection('log', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:1');
CREATE SCHEMA log;
CREATE TABLE log.event (id integer PRIMARY KEY, email text DEFAULT 'ann@example.com', v text);
SELECT iterable_create_sync('events', 'log', 'log.event', 'event', 'id', match_field => 'email', mode => 'update');
SELECT iterable_add_mapping('events', 'eventName', constant => 'e');
SELECT iterable_add_mapping('events', 'id', column_name => 'id');
SELECT iterable_add_mapping('events', 'v', 'v');

CREATE VIEW log.change AS
SELECT c.*, c.tableoid::regclass AS segment FROM iterable.change c JOIN iterable.sync s USING (source_id) WHERE s.name = 'events';
-- rows that no window has brought
CREATE VIEW log.missed AS
SELECT count(*) FROM log.event WHERE NOT EXISTS (
	SELECT FROM iterable.sync_delivery d JOIN iterable.sync s USING (sync_id)
	WHERE s.name = 'events' AND d.key = id::text AND d.state = 's');

\pset format unaligned

/* ------------------------------------------------------------------------
 * Rows
 * ------------------------------------------------------------------------ */

-- numbers are given one by one, or two changes of a row could change places
SELECT seqcache, seqincrement, seqcycle FROM pg_sequence WHERE seqrelid = 'iterable.change_seq'::regclass;

SELECT iterable_enable_sync('events', 'updates_only');
SELECT iterable_disable_sync('events');
BEGIN;
INSERT INTO log.event VALUES (1), (2);
INSERT INTO log.event VALUES (3);
SELECT count(*) AS "before commit" FROM log.change;
COMMIT;
BEGIN;
INSERT INTO log.event VALUES (4);
UPDATE log.event SET v = 'x' WHERE id = 1;
SAVEPOINT a;
DELETE FROM log.event WHERE id = 2;
TRUNCATE log.event;
COMMIT;
SELECT n, ops, keys, sync_id, captured_at BETWEEN now() - interval '1 min' AND now() AS is_recent FROM log.change ORDER BY seq;
SELECT count(DISTINCT xid), array_agg(xid ORDER BY seq) = array_agg(xid ORDER BY xid, seq) AS in_order FROM log.change;
-- the transaction is the outer one
BEGIN;
SAVEPOINT a;
INSERT INTO log.event SELECT generate_series(1, 10000);
SELECT bool_and(xid = pg_current_xact_id()), count(*) > 1 FROM log.change WHERE seq > (SELECT max(seq) FROM log.change WHERE ops = 'T');
ROLLBACK;
SELECT count(*) FROM log.change;

-- keys are stored compressed where they can be, and out of line
BEGIN;
INSERT INTO log.event SELECT generate_series(100001, 103000);
COMMIT;
SELECT pg_column_size(keys) < 32000 AS is_little, n = cardinality(keys) AS is_whole FROM log.change WHERE n > 1000;

/* ------------------------------------------------------------------------
 * Positions
 * ------------------------------------------------------------------------ */

-- what was committed before is behind the position, what comes later is not, our own is not
CREATE VIEW log.ahead AS
SELECT c.ops, c.n, NOT pg_visible_in_snapshot(c.xid, t.position) AS is_ahead
FROM log.change c JOIN iterable.sync s ON s.name = 'second' JOIN iterable.sync_state t ON t.sync_id = s.sync_id ORDER BY c.seq;
SELECT iterable_create_sync('second', 'log', 'log.event', 'event', 'id', match_field => 'email', mode => 'update', schedule => 'manual');
SELECT iterable_add_mapping('second', 'eventName', constant => 'e');
SELECT iterable_add_mapping('second', 'id', column_name => 'id');
BEGIN;
INSERT INTO log.event SELECT generate_series(200001, 200010);
SAVEPOINT a;
SELECT iterable_enable_sync('second', 'updates_only');
RELEASE a;
SAVEPOINT b;
DELETE FROM log.event WHERE id = 200001;
RELEASE b;
COMMIT;
UPDATE log.event SET v = 'x' WHERE id = 200002;
SELECT * FROM log.ahead;
-- the first in another isolation level
SELECT iterable_drop_sync('second');
SELECT iterable_create_sync('second', 'log', 'log.event', 'event', 'id', match_field => 'email', mode => 'update', schedule => 'manual');
SELECT iterable_add_mapping('second', 'eventName', constant => 'e');
SELECT iterable_add_mapping('second', 'id', column_name => 'id');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM log.event;
SELECT iterable_enable_sync('second', 'updates_only');
DELETE FROM log.event WHERE id = 200003;
COMMIT;
SELECT count(*) FILTER (WHERE is_ahead) AS ahead, count(*) FILTER (WHERE NOT is_ahead) AS behind FROM log.ahead;
-- what a rolled back savepoint has enabled is not enabled
SELECT iterable_drop_sync('second');
SELECT iterable_create_sync('second', 'log', 'log.event', 'event', 'id', match_field => 'email', mode => 'update', schedule => 'manual');
SELECT iterable_add_mapping('second', 'eventName', constant => 'e');
SELECT iterable_add_mapping('second', 'id', column_name => 'id');
BEGIN;
SAVEPOINT a;
SELECT iterable_enable_sync('second', 'updates_only');
ROLLBACK TO a;
COMMIT;
SELECT count(*) FROM log.ahead;
SELECT iterable_drop_sync('second');

/* ------------------------------------------------------------------------
 * Windows: everything that is committed is dealt with, whatever is truncated
 * ------------------------------------------------------------------------ */

TRUNCATE log.event;
SELECT iterable_enable_sync('events');
SELECT done, failures, reason FROM iterable_wait('events', '2 min');
SELECT count(*) FROM iterable.sync_delivery d JOIN iterable.sync s USING (sync_id) WHERE s.name = 'events';
INSERT INTO log.event SELECT generate_series(1, 20000);
INSERT INTO log.event VALUES (20001);
BEGIN;
SAVEPOINT a;
INSERT INTO log.event SELECT generate_series(30001, 40000);
ROLLBACK TO a;
INSERT INTO log.event VALUES (20002);
COMMIT;
SELECT done, failures, reason FROM iterable_wait('events', '2 min');
SELECT count(*), min(key::integer), max(key::integer) FROM iterable.sync_delivery d JOIN iterable.sync s USING (sync_id) WHERE s.name = 'events';
SELECT * FROM log.missed;

/* ------------------------------------------------------------------------
 * Segments
 * ------------------------------------------------------------------------ */

SELECT iterable_disable_sync('events');

-- Write and rotate, each in a transaction of its own, until that many segments
-- hold changes and that many have been made.
CREATE PROCEDURE log.fill(segments integer, changes integer) LANGUAGE plpgsql AS $$
DECLARE
	first integer := (SELECT max(id) FROM log.event) + 1;
	next integer := first;
BEGIN
	WHILE next < first + changes OR (SELECT count(DISTINCT segment) FROM log.change) < segments LOOP
		ASSERT next < first + 500;
		INSERT INTO log.event VALUES (next);
		next := next + 1;
		COMMIT;
		PERFORM iterable.rotate_change_log();
		COMMIT;
	END LOOP;
END
$$;
-- Rotate until all segments are empty.
CREATE PROCEDURE log.empty() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..600 LOOP
		PERFORM iterable.rotate_change_log();
		COMMIT;
		EXIT WHEN (SELECT sum(pg_table_size(c)) FROM generate_series(0, 3) number, to_regclass('iterable.change_' || number) c
			WHERE pg_relation_size(c) > 0) IS NULL;
		PERFORM pg_sleep(0.1);
	END LOOP;
END
$$;

-- nothing that a sync waits for goes, and when no segment is empty, the current one goes on
INSERT INTO log.event VALUES (50000);
CALL log.fill(4, 20);
INSERT INTO log.event VALUES (60000);
SELECT iterable.rotate_change_log();
INSERT INTO log.event VALUES (60001);
SELECT iterable.rotate_change_log();
SELECT (SELECT array_agg(keys[1] ORDER BY seq) FROM log.change WHERE keys[1] ~ '^[56][0-9]{4}$') =
	(SELECT array_agg(id::text ORDER BY id) FROM log.event WHERE id >= 50000) AS all_there,
	count(DISTINCT segment) FROM log.change WHERE n = 1;
SELECT iterable_enable_sync('events');
SELECT done, failures, reason FROM iterable_wait('events', '2 min');
SELECT * FROM log.missed;

-- what every sync has passed goes, with what was stored out of line
CALL log.empty();
SELECT count(*) FROM log.change;
SELECT count(*) FROM pg_class c WHERE c.relname ~ '^change_[0-3]$' AND c.relnamespace = 'iterable'::regnamespace
	AND pg_relation_size(c.reltoastrelid) > 0;

-- a transaction that is prepared keeps its segment, also when that is not the current one any more
BEGIN;
INSERT INTO log.event SELECT generate_series(70001, 80000);
PREPARE TRANSACTION 'log 1';
BEGIN;
INSERT INTO log.event SELECT generate_series(80001, 90000);
PREPARE TRANSACTION 'log 2';
CALL log.fill(0, 10);
SELECT done, failures, reason FROM iterable_wait('events', '2 min');
CALL log.fill(0, 10);
COMMIT PREPARED 'log 1';
ROLLBACK PREPARED 'log 2';
SELECT done, failures, reason FROM iterable_wait('events', '2 min');
SELECT count(*), min(key::integer), max(key::integer) FROM iterable.sync_delivery d JOIN iterable.sync s USING (sync_id)
WHERE s.name = 'events' AND key ~ '^[7-9][0-9]{4}$' AND key <> '70000';
SELECT * FROM log.missed;

-- in one transaction: its own changes, and of a sync that it enables
CALL log.empty();
SELECT iterable_create_sync('second', 'log', 'log.event', 'event', 'id', match_field => 'email', mode => 'update');
SELECT iterable_add_mapping('second', 'eventName', constant => 'e');
SELECT iterable_add_mapping('second', 'id', column_name => 'id');
BEGIN;
SELECT iterable_enable_sync('second', 'updates_only');
INSERT INTO log.event SELECT generate_series(100001, 110000);
SELECT iterable.rotate_change_log();
SELECT iterable.rotate_change_log();
SELECT iterable.rotate_change_log();
COMMIT;
SELECT done, failures, reason FROM iterable_wait('second', '2 min');
SELECT done, failures, reason FROM iterable_wait('events', '2 min');
SELECT s.name, count(*) FROM iterable.sync_delivery d JOIN iterable.sync s USING (sync_id)
WHERE s.name IN ('events', 'second') AND key ~ '^[0-9]{6}$' AND key <> '100000' GROUP BY s.name ORDER BY s.name;

-- not in a fixed snapshot, which does not see what would be lost
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT iterable.rotate_change_log();
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT iterable.rotate_change_log();
ROLLBACK;

-- and not by everybody
CREATE ROLE regress_log_nobody;
SET ROLE regress_log_nobody;
SELECT iterable.rotate_change_log();
SELECT count(*) FROM iterable.change;
SELECT nextval('iterable.change_seq');
SELECT setval('iterable.change_segment', 1);
INSERT INTO iterable.change_0 SELECT 1, '1', 1, 0, now(), 0, 'T', '{}';
RESET ROLE;
DROP ROLE regress_log_nobody;

-- when no sync is left, its changes are nobody's
SELECT iterable_disable_sync('events');
SELECT iterable_disable_sync('second');
CALL log.fill(2, 5);
SELECT iterable_drop_sync('second');
SELECT count(*) > 0 AS kept FROM log.change;
SELECT source_id FROM iterable.sync WHERE name = 'events' \gset
SELECT iterable_drop_sync('events');
CREATE PROCEDURE log.forget(source_id integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..600 LOOP
		PERFORM iterable.rotate_change_log();
		COMMIT;
		EXIT WHEN NOT EXISTS (SELECT FROM iterable.change c WHERE c.source_id = forget.source_id);
		PERFORM pg_sleep(0.1);
	END LOOP;
END
$$;
CALL log.forget(:source_id);
SELECT count(*) FROM iterable.change WHERE source_id = :source_id;

SET client_min_messages = warning;
DROP SCHEMA log CASCADE;
DROP SERVER log CASCADE;
