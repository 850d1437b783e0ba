--
-- Creating syncs, mappings, enabling, disabling, dropping: what is checked,
-- and what is written
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('sync_email', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
SELECT iterable_create_connection('sync_hybrid', 'us', 'hybrid', api_key => 'test', base_url => 'http://127.0.0.1:9');

CREATE SCHEMA shop;

-- Runs a statement that must fail; the state, message, detail and hint.
CREATE FUNCTION shop.fails(statement text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	SET CONSTRAINTS ALL IMMEDIATE;
	RETURN NEXT 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN NEXT state || ': ' || message;
	IF detail <> '' THEN RETURN NEXT 'detail: ' || detail; END IF;
	IF hint <> '' THEN RETURN NEXT 'hint: ' || hint; END IF;
END
$$;

-- Everything that the configuration functions write, but ids and times.
CREATE VIEW shop.config AS
SELECT s.name, s.owner = current_user::regrole AS mine, s.connection,
	c.schema_name || '.' || c.table_name AS source, c.key_columns,
	s.object, s.mode, s.schedule, s.match_field, s.enabled, s.version,
	t.sync_id IS NOT NULL AS has_state,
	EXISTS (SELECT FROM iterable.sync_scan a WHERE a.sync_id = s.sync_id AND a.kind = 'b') AS backfilling
FROM iterable.sync s JOIN iterable.source c USING (source_id)
	LEFT JOIN iterable.sync_state t USING (sync_id)
WHERE c.schema_name = 'shop'
ORDER BY s.name COLLATE "C";

CREATE VIEW shop.mapping AS
SELECT s.name, m.destination, m.column_name, m.constant, m.expression, m.null_policy
FROM iterable.sync s JOIN iterable.mapping m USING (sync_id)
	JOIN iterable.source c USING (source_id)
WHERE c.schema_name = 'shop'
ORDER BY s.name COLLATE "C", m.destination COLLATE "C";

CREATE VIEW shop.leftovers AS
SELECT (SELECT count(*) FROM iterable.source WHERE schema_name = 'shop') AS sources,
	(SELECT count(*) FROM shop.config) AS syncs,
	(SELECT count(*) FROM iterable.mapping m WHERE NOT EXISTS (SELECT FROM iterable.sync s WHERE s.sync_id = m.sync_id)) AS mappings,
	(SELECT count(*) FROM iterable.sync_state t WHERE NOT EXISTS (SELECT FROM iterable.sync s WHERE s.sync_id = t.sync_id)) AS states,
	(SELECT count(*) FROM iterable.sync_delivery d WHERE NOT EXISTS (SELECT FROM iterable.sync s WHERE s.sync_id = d.sync_id)) AS deliveries,
	(SELECT count(*) FROM iterable.sync_failure f WHERE NOT EXISTS (SELECT FROM iterable.sync s WHERE s.sync_id = f.sync_id)) AS failures,
	(SELECT count(*) FROM iterable.sync_run r WHERE NOT EXISTS (SELECT FROM iterable.sync s WHERE s.sync_id = r.sync_id)) AS runs,
	(SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
	 WHERE relnamespace = 'shop'::regnamespace AND NOT tgisinternal) AS triggers;

CREATE TABLE shop.customer (
	id bigint PRIMARY KEY,
	email text,
	plan_code text,
	city text,
	score integer,
	"Odd name" text,
	balance float8,
	gone text,
	place point,
	seen_at timestamptz
);
ALTER TABLE shop.customer DROP gone;
INSERT INTO shop.customer SELECT i, 'user' || i || '@example.com', 'free', 'Bern', i FROM generate_series(1, 9) i;

CREATE TABLE shop.visit (
	id integer NOT NULL,
	day date NOT NULL,
	email text NOT NULL,
	UNIQUE (day, id)
);

--
-- Creating
--
SELECT iterable_create_sync('customers', 'sync_email', 'shop.customer', 'user', 'id', schedule => 'manual');
SELECT iterable_create_sync(name => 'visits', connection => 'sync_email', source => 'shop.visit',
	object => 'event', unique_field => '{id,day}', match_field => 'email', mode => 'insert', schedule => '15 minutes');
SELECT iterable_create_sync('O''Brien''s "sync"', 'sync_email', 'shop.customer', 'user', '{id}');
SELECT * FROM shop.config;

-- one source serves both syncs with the same key
SELECT schema_name, table_name, key_columns FROM iterable.source WHERE schema_name = 'shop' ORDER BY table_name;

\t on
\pset format unaligned

-- names
SELECT shop.fails($$SELECT iterable_create_sync('customers', 'sync_email', 'shop.customer', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('', 'sync_email', 'shop.customer', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync(repeat('x', 64), 'sync_email', 'shop.customer', 'user', 'id')$$);

-- null arguments
SELECT shop.fails($$SELECT iterable_create_sync(NULL, 'sync_email', 'shop.customer', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', NULL, 'shop.customer', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', NULL, 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', NULL, 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', NULL)$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', mode => NULL)$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', schedule => NULL)$$);

-- words
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'users', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', mode => 'merge')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', schedule => 'hourly')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', schedule => '1 month')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', schedule => '10 milliseconds')$$);

-- connection
SELECT (shop.fails($$SELECT iterable_create_sync('n', 'no_such', 'shop.customer', 'user', 'id')$$)) LIMIT 1;
SELECT (shop.fails($$SELECT iterable_create_sync('n', repeat('x', 80), 'shop.customer', 'user', 'id')$$)) LIMIT 1;

-- unique field
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'ID')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'idd')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'something else')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', '')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'ctid')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', repeat('x', 80))$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', '{}')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', '{id,NULL}')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', '{{id},{email}}')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', '{id')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', '{id,id}')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'email')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.visit', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.visit', 'user', '{id,day,email}')$$);

-- what does not make a key unique at every moment
CREATE TABLE shop.index_kinds (
	"a b" integer NOT NULL,
	b integer NOT NULL,
	c integer NOT NULL UNIQUE DEFERRABLE,
	d integer NOT NULL,
	e integer NOT NULL,
	f integer NOT NULL,
	g numeric NOT NULL UNIQUE
);
CREATE INDEX ON shop.index_kinds ("a b");
CREATE UNIQUE INDEX index_kinds_b ON shop.index_kinds (b) WHERE b > 0;
CREATE UNIQUE INDEX index_kinds_d ON shop.index_kinds ((d + 0));
CREATE UNIQUE INDEX index_kinds_e ON shop.index_kinds (e);
CREATE UNIQUE INDEX index_kinds_f ON shop.index_kinds (f) INCLUDE (e);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.index_kinds_e'::regclass;
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.index_kinds', 'user', 'a b')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.index_kinds', 'user', 'b')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.index_kinds', 'user', 'c')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.index_kinds', 'user', 'd')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.index_kinds', 'user', 'e')$$);
UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'shop.index_kinds_e'::regclass;
BEGIN;
SELECT iterable_create_sync('n', 'sync_email', 'shop.index_kinds', 'user', 'e');
SELECT iterable_create_sync('n2', 'sync_email', 'shop.index_kinds', 'user', 'f');
SELECT iterable_create_sync('n3', 'sync_email', 'shop.index_kinds', 'user', 'g');
ROLLBACK;
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.index_kinds', 'user', '{f,e}')$$);

-- types of keys
CREATE TABLE shop.key_kinds (
	f float8 NOT NULL UNIQUE,
	j jsonb NOT NULL UNIQUE,
	c char(3) NOT NULL UNIQUE,
	i interval NOT NULL UNIQUE,
	t text COLLATE "C" NOT NULL UNIQUE
);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.key_kinds', 'user', 'f')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.key_kinds', 'user', 'j')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.key_kinds', 'user', 'c')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.key_kinds', 'user', 'i')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.key_kinds', 'user', '{t,i}')$$) LIMIT 1;

-- match field
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', match_field => 'e_mail')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', match_field => 'odd name')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer', 'user', 'id', match_field => 'balance')$$);

-- relations that cannot be captured
CREATE VIEW shop.a_view AS SELECT * FROM shop.customer;
CREATE MATERIALIZED VIEW shop.a_matview AS SELECT * FROM shop.customer;
CREATE UNIQUE INDEX ON shop.a_matview (id);
CREATE FOREIGN DATA WRAPPER sync_wrapper;
CREATE SERVER sync_other FOREIGN DATA WRAPPER sync_wrapper;
CREATE FOREIGN TABLE shop.a_foreign_table (id integer NOT NULL) SERVER sync_other;
CREATE SEQUENCE shop.a_sequence;
CREATE TYPE shop.a_type AS (id integer);
CREATE UNLOGGED TABLE shop.an_unlogged (id integer PRIMARY KEY);
CREATE TABLE shop.a_parent (id integer PRIMARY KEY);
CREATE TABLE shop.a_child (PRIMARY KEY (id)) INHERITS (shop.a_parent);
CREATE TABLE shop.a_partitioned (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE UNLOGGED TABLE shop.a_partition PARTITION OF shop.a_partitioned DEFAULT;
CREATE TEMP TABLE a_temp (id integer PRIMARY KEY);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.a_view', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.a_matview', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.a_foreign_table', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.a_sequence', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.a_type', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.customer_pkey', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.an_unlogged', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.a_parent', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.a_partitioned', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'a_temp', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'pg_class', 'user', 'oid')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'information_schema.sql_features', 'user', 'feature_id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'iterable.sync', 'user', 'sync_id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 'shop.no_such', 'user', 'id')$$);
SELECT shop.fails($$SELECT iterable_create_sync('n', 'sync_email', 0::regclass, 'user', 'id')$$);
BEGIN;
SELECT iterable_create_sync('child', 'sync_email', 'shop.a_child', 'user', 'id');
ROLLBACK;

\t off
\pset format aligned
DROP VIEW shop.a_view;
DROP MATERIALIZED VIEW shop.a_matview;
-- none of them has left anything
SELECT * FROM shop.config;
SELECT schema_name, table_name, key_columns FROM iterable.source WHERE schema_name = 'shop' ORDER BY table_name;

--
-- Mappings
--
SELECT iterable_add_mapping('customers', 'email', column_name => 'email');
SELECT iterable_add_mapping('customers', 'plan', 'plan_code', null_policy => 'clear');
SELECT iterable_add_mapping('customers', 'address.city', expression => 'initcap(city)');
SELECT iterable_add_mapping('customers', 'source', constant => '');
SELECT iterable_add_mapping('customers', 'odd', column_name => 'Odd name');
SELECT iterable_add_mapping('customers', 'campaignId', constant => 'free text for users');
SELECT iterable_add_mapping('visits', 'eventName', constant => 'visit');
SELECT iterable_add_mapping('visits', 'campaignId', constant => '-12');
SELECT iterable_add_mapping('visits', 'createdAt', constant => '1700000000');
SELECT * FROM shop.mapping;
SELECT name, version FROM shop.config;

\t on
\pset format unaligned
SELECT shop.fails($$SELECT iterable_add_mapping('customer', 'x', 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping(NULL, 'x', 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', NULL, 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', 'plan_code', constant => 'c')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', 'plan_code', 'c', '1')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_add_mapping('customers', '', 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', '.x', 'plan_code')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x.', 'plan_code')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x..y', 'plan_code')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_add_mapping('customers', repeat('x', 256), 'plan_code')$$) OFFSET 1;
SELECT shop.fails($$SELECT iterable_add_mapping('customers', repeat('x.', 600) || 'x', 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'plan', 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'plan.code', 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'address', 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', 'plan_cod')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', 'tableoid')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', expression => 'no_such + 1')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', 'plan_code', null_policy => 'null')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', 'plan_code', null_policy => NULL)$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', 'plan_code', apply => 'all')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('visits', 'templateId', constant => 'abc')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('visits', 'templateId', constant => '')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('visits', 'templateId', constant => '1.5')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('visits', 'templateId', constant => '99999999999999999999')$$);
-- dataFields may be named, and is the same place then; the identifiers in it are other places
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'dataFields', 'plan_code')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'dataFields.plan', 'plan_code')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'dataFields.address.city.name', 'plan_code')$$);
-- types
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'place', 'place')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'userId', 'balance')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'userId', expression => 'balance + 1')$$) LIMIT 1;
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'dataFields.email', 'balance')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'x', 'gone')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('visits', 'templateId', 'day')$$);
SELECT iterable_drop_mapping('visits', 'createdAt');
SELECT shop.fails($$SELECT iterable_add_mapping('visits', 'createdAt', 'email')$$);
SELECT shop.fails($$SELECT iterable_add_mapping('visits', 'createdAt', constant => '2024-01-01')$$);
SELECT shop.fails($$SELECT iterable_drop_mapping('visits', 'createdAt')$$);
SELECT shop.fails($$SELECT iterable_drop_mapping('visits', 'eventname')$$);
\t off
\pset format aligned
-- a path that only begins with the same letters is another one
BEGIN;
SELECT iterable_add_mapping('customers', 'dataFields.email', 'email');
SELECT iterable_add_mapping('customers', 'seen', 'seen_at');
SELECT iterable_add_mapping('visits', 'createdAt', 'day');
ROLLBACK;
SELECT iterable_add_mapping('customers', 'plans', 'plan_code');
SELECT iterable_add_mapping('customers', 'address.city2', 'plan_code');
SELECT iterable_drop_mapping('customers', 'plans');
SELECT iterable_drop_mapping('customers', 'address.city2');
SELECT * FROM shop.mapping;
SELECT name, version FROM shop.config;

--
-- Enabling
--
\t on
\pset format unaligned
SELECT shop.fails($$SELECT iterable_enable_sync('customers')$$);
SELECT shop.fails($$SELECT iterable_enable_sync('customers', 'everything')$$);
SELECT shop.fails($$SELECT iterable_enable_sync('customer', 'backfill')$$);
-- no identifier, no event name
SELECT shop.fails($$SELECT iterable_enable_sync('O''Brien''s "sync"', 'backfill')$$);
SELECT iterable_create_sync('hybrid', 'sync_hybrid', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT shop.fails($$SELECT iterable_enable_sync('hybrid', 'backfill')$$);
SELECT iterable_create_sync('no event', 'sync_email', 'shop.customer', 'event', 'id', match_field => 'email');
SELECT shop.fails($$SELECT iterable_enable_sync('no event', 'backfill')$$);
-- what creating has checked is checked again
BEGIN;
ALTER TABLE shop.customer DROP CONSTRAINT customer_pkey;
SELECT shop.fails($$SELECT iterable_enable_sync('customers', 'backfill')$$);
ROLLBACK;
BEGIN;
ALTER TABLE shop.customer ALTER id TYPE float8;
SELECT shop.fails($$SELECT iterable_enable_sync('customers', 'backfill')$$);
ROLLBACK;
BEGIN;
ALTER TABLE shop.customer RENAME id TO number;
SELECT shop.fails($$SELECT iterable_enable_sync('customers', 'backfill')$$);
ROLLBACK;
BEGIN;
ALTER TABLE shop.customer SET UNLOGGED;
SELECT shop.fails($$SELECT iterable_enable_sync('customers', 'backfill')$$);
ROLLBACK;
BEGIN;
CREATE TABLE shop.a_late_child () INHERITS (shop.customer);
SELECT shop.fails($$SELECT iterable_enable_sync('customers', 'backfill')$$);
ROLLBACK;
BEGIN;
ALTER TABLE shop.customer RENAME TO client;
SELECT shop.fails($$SELECT iterable_enable_sync('customers', 'backfill')$$);
CREATE SEQUENCE shop.customer;
SELECT shop.fails($$SELECT iterable_enable_sync('customers', 'backfill')$$);
ROLLBACK;
BEGIN;
ALTER TABLE shop.visit SET SCHEMA public;
SELECT shop.fails($$SELECT iterable_enable_sync('visits', 'backfill')$$) LIMIT 1;
ROLLBACK;
\t off
\pset format aligned
SELECT * FROM shop.leftovers;

SELECT iterable_enable_sync('customers', apply => 'updates_only');
SELECT * FROM shop.config WHERE name = 'customers';
-- a sync starts where the log is, whatever this transaction did before
BEGIN;
INSERT INTO shop.customer (id, email) VALUES (11, 'user11@example.com');
SELECT iterable_add_mapping('hybrid', 'email', 'email');
SELECT iterable_enable_sync('hybrid', 'backfill');
SELECT pg_visible_in_snapshot(pg_current_xact_id(), "position") FROM iterable.sync_state
	JOIN iterable.sync s USING (sync_id) WHERE s.name = 'hybrid';
SELECT enabled, backfilling FROM shop.config WHERE name = 'hybrid';
ROLLBACK;
SELECT enabled, has_state FROM shop.config WHERE name = 'hybrid';

-- a mapping of a sync that was enabled
\t on
\pset format unaligned
SELECT shop.fails($$SELECT iterable_add_mapping('customers', 'score', 'score')$$);
SELECT shop.fails($$SELECT iterable_drop_mapping('customers', 'plan')$$);
-- the sync can't do without this one
SELECT shop.fails($$SELECT iterable_drop_mapping('customers', 'email', 'updates_only')$$);
\t off
\pset format aligned
SELECT iterable_add_mapping('customers', 'score', 'score', apply => 'updates_only');
SELECT enabled, version, backfilling FROM shop.config WHERE name = 'customers';
BEGIN;
SELECT iterable_drop_mapping('customers', 'score', apply => 'backfill');
SELECT enabled, version, backfilling FROM shop.config WHERE name = 'customers';
ROLLBACK;

-- disabling keeps the place, enabling goes on from it
UPDATE iterable.sync_state SET paused_reason = 'test', failing_since = now() WHERE sync_id = (SELECT sync_id FROM iterable.sync WHERE name = 'customers');
BEGIN;
SELECT "position" AS old_position FROM iterable.sync_state t JOIN iterable.sync s USING (sync_id) WHERE s.name = 'customers' FOR UPDATE OF t \gset
SELECT iterable_disable_sync('customers');
SELECT iterable_disable_sync('customers');
SELECT enabled, version, has_state FROM shop.config WHERE name = 'customers';
-- disabled, it may lack an identifier for a while
SAVEPOINT s;
SELECT iterable_drop_mapping('customers', 'email', 'updates_only');
SELECT iterable_enable_sync('customers');
ROLLBACK TO s;
SELECT iterable_enable_sync('customers');
SELECT enabled, version, backfilling FROM shop.config WHERE name = 'customers';
SELECT "position"::text = :'old_position' AS same, paused_reason, failing_since FROM iterable.sync_state JOIN iterable.sync s USING (sync_id) WHERE s.name = 'customers';
COMMIT;

-- a database that was copied has another identity: enabled there for the first time
BEGIN;
UPDATE iterable.sync_state SET identity = 'elsewhere' WHERE sync_id = (SELECT sync_id FROM iterable.sync WHERE name = 'customers');
SAVEPOINT s;
SELECT iterable_enable_sync('customers');
ROLLBACK TO s;
SELECT iterable_enable_sync('customers', 'updates_only');
SELECT identity <> 'elsewhere' AS here FROM iterable.sync_state JOIN iterable.sync s USING (sync_id) WHERE s.name = 'customers';
ROLLBACK;

-- so may an empty table
BEGIN;
SELECT iterable_enable_sync('visits', 'backfill');
SELECT enabled, backfilling FROM shop.config WHERE name = 'visits';
ROLLBACK;

--
-- Asking the worker
--
BEGIN;
SELECT iterable_run('customers');
SELECT run_requested FROM iterable.sync_state JOIN iterable.sync s USING (sync_id) WHERE s.name = 'customers';
ROLLBACK;
SELECT iterable_run('visits');
SELECT iterable_run('nobody');
BEGIN;
INSERT INTO iterable.sync_failure (sync_id, key, class, first_at, last_at, next_at)
SELECT sync_id, k.key, 'test', now(), now(), k.next_at FROM iterable.sync,
	(VALUES ('1', NULL::timestamptz), ('2', now() + '1 hour'), ('3', now() - interval '1 hour')) k (key, next_at)
WHERE name IN ('customers', 'visits');
SELECT iterable_retry_failures('customers');
SELECT s.name, f.key, f.next_at - now() AS next_at FROM iterable.sync_failure f JOIN iterable.sync s USING (sync_id)
	WHERE s.name IN ('customers', 'visits') ORDER BY s.name, f.key;
ROLLBACK;
SELECT iterable_retry_failures('nobody');

-- some of them: every argument that is given must fit
BEGIN;
INSERT INTO iterable.sync_failure (sync_id, key, class, code, message, payload_hash, first_at, last_at)
SELECT sync_id, k.key, k.class, k.code, 'what is wrong', 1, now() - interval '2 days', now() - k.age FROM iterable.sync,
	(VALUES ('1', 'invalidEmails', NULL, interval '1 hour'), ('2', 'Conflict', 'EmailAlreadyExists', interval '2 days'),
		('3', 'Conflict', NULL, interval '1 minute'), ('4', 'notFoundUserIds', NULL, interval '0')) k (key, class, code, age)
WHERE name IN ('customers', 'visits');
INSERT INTO iterable.sync_delivery (sync_id, key, identifier, payload_hash, state, at)
SELECT sync_id, key, 'who', 2, 'a', now() FROM iterable.sync, unnest('{1,2,3,4,5}'::text[]) key WHERE name IN ('customers', 'visits')
ON CONFLICT (sync_id, key) DO UPDATE SET identifier = 'who', payload_hash = 2, state = 'a';
SELECT iterable_retry_failures('customers', keys => '{1,4,5}');
SELECT iterable_retry_failures('customers', keys => '{1}');
SELECT iterable_retry_failures('customers', class => 'Conflict', older_than => '1 day');
SELECT iterable_retry_failures('customers', code => 'EmailAlreadyExists');
SELECT iterable_retry_failures('customers', keys => '{}');
SELECT key, next_at - now() AS next_at FROM iterable.failure WHERE sync = 'customers' ORDER BY key;
SELECT iterable_discard_failures('customers', class => 'Conflict', keys => '{1,2}');
SELECT iterable_discard_failures('customers', older_than => '10 minutes');
SELECT sync, key, class, code, message, what_to_do, request_id, payload FROM iterable.failure
	WHERE sync IN ('customers', 'visits') ORDER BY 1, 2;
-- what Iterable has of a discarded row is not known
SELECT sync, key, payload_hash FROM iterable.delivery WHERE sync IN ('customers', 'visits') AND state = 'accepted' ORDER BY 1, 2;
SELECT iterable_discard_failures('customers'), iterable_discard_failures('customers');
ROLLBACK;
SELECT iterable_retry_failures(NULL);
SELECT iterable_retry_failures('customers', keys => '{1,NULL}');
SELECT iterable_discard_failures('customers', class => 'conflict');
SELECT iterable_discard_failures('customers', class => 'of quite another kind');
SELECT iterable_discard_failures('customers', older_than => '-1 s');
SELECT iterable_discard_failures('nobody');
BEGIN READ ONLY;
SELECT iterable_discard_failures('customers');
ROLLBACK;

-- the table behind it: no line without a meaning, and no class without advice
SELECT count(*) > 60 AS "many lines", count(DISTINCT class) > 40 AS "and classes" FROM iterable.verdicts();
SELECT * FROM iterable.verdicts()
	WHERE meaning IS NULL OR class IS NULL OR verdict IN ('rejected', 'later', 'stop') AND what_to_do IS NULL;
SELECT iterable.what_to_do('notFoundUserIds', 'user') AS of_users, iterable.what_to_do('notFoundUserIds', 'event') AS of_events,
	iterable.what_to_do('nonsense', 'user') AS unknown;
SELECT iterable.what_to_do('Conflict', 'thing');

-- nothing is written in a read-only transaction
BEGIN READ ONLY;
SELECT iterable_disable_sync('customers');
ROLLBACK;

--
-- Dropping
--
INSERT INTO iterable.sync_delivery (sync_id, key, state, at) SELECT sync_id, '77', 'a', now() FROM iterable.sync WHERE name = 'customers';
INSERT INTO iterable.sync_failure (sync_id, key, class, first_at, last_at) SELECT sync_id, '2', 'test', now(), now() FROM iterable.sync WHERE name = 'customers';
INSERT INTO iterable.sync_run (sync_id, started_at) SELECT sync_id, now() FROM iterable.sync WHERE name = 'customers';
SELECT iterable_drop_sync('nobody');
SELECT iterable_drop_sync('customers');
SELECT * FROM shop.leftovers;
SELECT name FROM shop.config;
SELECT iterable_drop_sync(name) FROM iterable.sync s JOIN iterable.source c USING (source_id) WHERE c.schema_name = 'shop';
SELECT * FROM shop.leftovers;
-- the name is free again
SELECT iterable_create_sync('customers', 'sync_email', 'shop.customer', 'user', 'id');
SELECT iterable_drop_sync('customers');

SET client_min_messages = warning;
DROP SCHEMA shop CASCADE;
DROP SERVER sync_email CASCADE;
DROP SERVER sync_hybrid CASCADE;
DROP FOREIGN DATA WRAPPER sync_wrapper CASCADE;
