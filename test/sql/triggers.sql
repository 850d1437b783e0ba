--
-- The capture triggers on a source: their definitions, when they change, and
-- that they go
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('triggers', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');

CREATE SCHEMA shop;

-- Numbers of sources and the schema of the functions are not the same everywhere.
CREATE VIEW shop.triggers AS
SELECT t.tgrelid::regclass AS relation, t.tgenabled AS enabled,
	regexp_replace(regexp_replace(regexp_replace(pg_get_triggerdef(t.oid),
		'(iterable_(capture|truncate))_\d+ ', '\1_N '), '\(''\d+''', '(''N'''),
		'EXECUTE FUNCTION [^(]*iterable_capture\(', 'EXECUTE FUNCTION iterable_capture(') AS definition
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'shop'::regnamespace AND NOT t.tgisinternal
ORDER BY c.relname COLLATE "C", t.tgtype, t.oid;

-- What was captured since the last call.
CREATE TABLE shop.seen AS SELECT 0::bigint AS seq;
CREATE FUNCTION shop.captured() RETURNS TABLE (table_name name, ops text, keys text[])
BEGIN ATOMIC
	WITH seen AS (UPDATE shop.seen SET seq = (SELECT coalesce(max(seq), 0) FROM iterable.change)),
		old AS (SELECT seq FROM shop.seen)
	SELECT c.table_name, l.ops, l.keys
	FROM iterable.change l JOIN iterable.source c USING (source_id), old
	WHERE c.schema_name = 'shop' AND l.seq > old.seq
	ORDER BY l.seq;
END;

\pset format unaligned

CREATE TABLE shop.customer (
	id bigint PRIMARY KEY,
	email text,
	plan text,
	city text,
	score integer,
	"Odd, 'name" text
);
INSERT INTO shop.customer VALUES (1, 'a@example.com', 'free', 'Bern', 1, 'x');

-- no triggers until a sync is enabled
SELECT iterable_create_sync('first', 'triggers', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_add_mapping('first', 'plan', 'plan');
SELECT * FROM shop.triggers;
SELECT iterable_enable_sync('first', 'updates_only');
SELECT * FROM shop.triggers;

-- only watched columns count, and a change of the key always does
UPDATE shop.customer SET city = 'Basel', score = 2;
UPDATE shop.customer SET plan = 'pro';
UPDATE shop.customer SET id = 2;
SELECT * FROM shop.captured();

-- nothing is done when the triggers are right
SELECT string_agg(xmin::text, ' ' ORDER BY tgname) AS rows FROM pg_trigger WHERE tgrelid = 'shop.customer'::regclass AND NOT tgisinternal \gset
BEGIN;
SELECT iterable_enable_sync('first');
SELECT mode FROM pg_locks WHERE relation = 'shop.customer'::regclass AND pid = pg_backend_pid() AND mode NOT IN ('AccessShareLock');
COMMIT;
SELECT string_agg(xmin::text, ' ' ORDER BY tgname) = :'rows' AS untouched FROM pg_trigger WHERE tgrelid = 'shop.customer'::regclass AND NOT tgisinternal;

-- a mapping that is added makes the trigger watch its column
SELECT iterable_add_mapping('first', 'city', 'city', apply => 'updates_only');
SELECT * FROM shop.triggers;
UPDATE shop.customer SET city = 'Genf';
UPDATE shop.customer SET score = 3;
SELECT * FROM shop.captured();

-- names of columns are quoted
BEGIN;
SELECT iterable_add_mapping('first', 'odd', 'Odd, ''name', apply => 'updates_only');
SELECT * FROM shop.triggers;
UPDATE shop.customer SET "Odd, 'name" = 'y';
SELECT iterable_drop_mapping('first', 'odd', apply => 'updates_only');
ROLLBACK;

-- a constant changes nothing, a dropped mapping goes on being watched until the triggers are put next
SELECT iterable_add_mapping('first', 'kind', constant => 'person', apply => 'updates_only');
SELECT iterable_drop_mapping('first', 'city', apply => 'updates_only');
SELECT * FROM shop.triggers;
SELECT iterable_enable_sync('first');
SELECT * FROM shop.triggers;

-- two syncs with one key share the triggers, which watch what either reads
SELECT iterable_create_sync('second', 'triggers', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_add_mapping('second', 'more', expression => 'score + length(city)');
SELECT * FROM shop.triggers;
SELECT iterable_enable_sync('second', 'updates_only');
SELECT * FROM shop.triggers;
UPDATE shop.customer SET score = 4;
SELECT * FROM shop.captured();

-- disabled, it is captured on; dropped, the other keeps the triggers
SELECT iterable_disable_sync('second');
SELECT count(*) FROM shop.triggers;
SELECT iterable_drop_sync('second');
SELECT * FROM shop.triggers;
SELECT iterable_enable_sync('first');
SELECT * FROM shop.triggers;

-- an expression over the whole row watches every column
BEGIN;
SELECT iterable_add_mapping('first', 'all', expression => 'to_jsonb(customer)', apply => 'updates_only');
SELECT * FROM shop.triggers;
ROLLBACK;

-- what somebody did to the triggers is mended
ALTER TABLE shop.customer DISABLE TRIGGER USER;
SELECT iterable_enable_sync('first');
SELECT * FROM shop.triggers;
ALTER TABLE shop.customer ENABLE TRIGGER USER;
SELECT enabled FROM shop.triggers;
SELECT iterable_enable_sync('first');
SELECT enabled FROM shop.triggers;
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'shop.customer'::regclass AND NOT tgisinternal LOOP
		EXECUTE format('DROP TRIGGER %I ON shop.customer', name);
	END LOOP;
END
$$;
SELECT iterable_enable_sync('first');
SELECT * FROM shop.triggers;

-- they fire for replicated changes too
SET session_replication_role = replica;
UPDATE shop.customer SET plan = 'team';
RESET session_replication_role;
SELECT * FROM shop.captured();

-- the other sync's trouble is its own: its column has gone
SELECT iterable_create_sync('second', 'triggers', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_add_mapping('second', 'score', 'score');
SELECT iterable_add_mapping('second', 'more', expression => 'score + 1');
SELECT iterable_enable_sync('second', 'updates_only');
ALTER TABLE shop.customer RENAME score TO points;
SELECT iterable_add_mapping('first', 'city', 'city', apply => 'updates_only');
SELECT * FROM shop.triggers;
SELECT iterable_drop_mapping('second', 'more', apply => 'updates_only');
SELECT iterable_enable_sync('first');
SELECT * FROM shop.triggers;
SELECT iterable_enable_sync('second');
ALTER TABLE shop.customer RENAME points TO score;
SELECT iterable_enable_sync('second');
SELECT * FROM shop.triggers;

-- the table is renamed: another of that name gets the triggers, and both lose them
ALTER TABLE shop.customer RENAME TO customer_old;
CREATE TABLE shop.customer (LIKE shop.customer_old INCLUDING ALL);
SELECT * FROM shop.triggers;
SELECT iterable_enable_sync('first');
SELECT relation, count(*) FROM shop.triggers GROUP BY relation ORDER BY relation::text COLLATE "C";
SELECT iterable_drop_sync('first');
SELECT relation, count(*) FROM shop.triggers GROUP BY relation ORDER BY relation::text COLLATE "C";
SELECT iterable_drop_sync('second');
SELECT * FROM shop.triggers;
SELECT count(*) FROM iterable.source WHERE schema_name = 'shop';
DROP TABLE shop.customer_old;

-- the table is gone
SELECT iterable_create_sync('first', 'triggers', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_enable_sync('first', 'updates_only');
DROP TABLE shop.customer;
SELECT iterable_disable_sync('first');
SELECT iterable_enable_sync('first');
SELECT iterable_drop_sync('first');
SELECT count(*) FROM iterable.source WHERE schema_name = 'shop';

-- a trigger that is not ours stays
CREATE TABLE shop.customer (id integer PRIMARY KEY, email text);
CREATE FUNCTION shop.other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER other AFTER INSERT ON shop.customer FOR EACH ROW EXECUTE FUNCTION shop.other();
SELECT iterable_create_sync('first', 'triggers', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_enable_sync('first', 'updates_only');
SELECT iterable_drop_sync('first');
SELECT relation, definition FROM shop.triggers;

-- keys of several columns, one table captured by two keys
CREATE TABLE shop.visit (
	"User" integer NOT NULL,
	day date NOT NULL,
	token uuid NOT NULL UNIQUE,
	email text NOT NULL,
	UNIQUE (day, "User")
);
SELECT iterable_create_sync('visits', 'triggers', 'shop.visit', 'event', '{User,day}', match_field => 'email', schedule => 'manual');
SELECT iterable_create_sync('tokens', 'triggers', 'shop.visit', 'event', 'token', match_field => 'email', schedule => 'manual');
SELECT iterable_add_mapping('visits', 'eventName', constant => 'visit');
SELECT iterable_add_mapping('tokens', 'eventName', constant => 'token');
SELECT iterable_enable_sync('visits', 'updates_only');
SELECT iterable_enable_sync('tokens', 'updates_only');
SELECT enabled, definition FROM shop.triggers WHERE relation = 'shop.visit'::regclass;
SELECT iterable_drop_sync('visits');
SELECT enabled, definition FROM shop.triggers WHERE relation = 'shop.visit'::regclass;
SELECT iterable_drop_sync('tokens');

-- partitions, also those that come later, have clones of the row trigger that fire always too
CREATE TABLE shop.sale (id integer, region text, email text, amount numeric, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE shop.sale_north PARTITION OF shop.sale FOR VALUES IN ('n');
CREATE TABLE shop.sale_south PARTITION OF shop.sale FOR VALUES IN ('s') PARTITION BY RANGE (id);
CREATE TABLE shop.sale_south_1 PARTITION OF shop.sale_south FOR VALUES FROM (1) TO (100);
SELECT iterable_create_sync('sales', 'triggers', 'shop.sale', 'event', '{id,region}', match_field => 'email', schedule => 'manual');
SELECT iterable_add_mapping('sales', 'eventName', constant => 'sale');
SELECT iterable_enable_sync('sales', 'updates_only');
CREATE TABLE shop.sale_south_2 PARTITION OF shop.sale_south FOR VALUES FROM (100) TO (200);
CREATE TABLE shop.sale_west (LIKE shop.sale);
ALTER TABLE shop.sale_west ALTER id SET NOT NULL, ALTER region SET NOT NULL;
ALTER TABLE shop.sale ATTACH PARTITION shop.sale_west FOR VALUES IN ('w');
CREATE VIEW shop.clones AS
SELECT t.tgrelid::regclass AS relation, t.tgenabled, t.tgparentid <> 0 AS is_clone, (t.tgtype & 1) = 1 AS is_row_trigger,
	array_to_string(string_to_array(encode(t.tgargs, 'escape'), '\000'), ' ', '') ~ 'amount' AS watches_amount
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'shop'::regnamespace AND t.tgname ~ 'iterable'
ORDER BY c.relname COLLATE "C", t.tgtype;
SELECT * FROM shop.clones;
SELECT iterable_add_mapping('sales', 'amount', 'amount', apply => 'updates_only');
SELECT * FROM shop.clones;
SET session_replication_role = replica;
INSERT INTO shop.sale VALUES (1, 'n', 'a@example.com', 1);
INSERT INTO shop.sale_south_1 VALUES (1, 's', 'a@example.com', 1);
INSERT INTO shop.sale VALUES (100, 's', 'a@example.com', 1), (1, 'w', 'a@example.com', 1);
RESET session_replication_role;
UPDATE shop.sale SET amount = 2 WHERE region = 'w';
UPDATE shop.sale SET id = 2, region = 'n' WHERE region = 'w';
TRUNCATE shop.sale;
SELECT * FROM shop.captured();
SELECT iterable_drop_sync('sales');
SELECT * FROM shop.clones;

-- a trigger function that is called in another way says so
CREATE TRIGGER wrong BEFORE INSERT ON shop.customer FOR EACH ROW EXECUTE FUNCTION iterable_capture('1', '{id}', '*');
INSERT INTO shop.customer VALUES (1);

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
DROP SERVER triggers CASCADE;
