--
-- Filters, changing what a sync is, many mappings at once, names, copies
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('def_email', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
SELECT iterable_create_connection('def_userid', 'eu', 'userid', api_key => 'test', base_url => 'http://127.0.0.1:9');

CREATE SCHEMA def;

-- Runs a statement that must fail; the state, message, detail and hint.
CREATE FUNCTION def.fails(statement text) RETURNS SETOF text
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

CREATE TABLE def.customer (
	id bigint PRIMARY KEY,
	code text NOT NULL UNIQUE,
	email text,
	"userId" text,
	plan_code text,
	"lastLogin" timestamptz,
	"a.b c-d" integer,
	marketing_consent boolean,
	search tsvector
);
INSERT INTO def.customer SELECT i, 'c' || i, 'c' || i || '@example.com', 'u' || i, 'free', '2026-01-02 03:04:05+00', i, i < 3
FROM generate_series(1, 3) i;
CREATE TABLE def.visit (id bigint PRIMARY KEY, email text, "createdAt" timestamptz, page text);

--
-- Filters
--
\t on
\pset format unaligned
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'plan_code')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'consent')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'id >')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'true; DROP TABLE def.customer')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'random() > 0.5')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'count(*) > 1')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'id IN (SELECT 1)')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'generate_series(1, 2) = 1')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'row_number() OVER () = 1')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'id = $1')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', filter => 'ctid IS NOT NULL')$$);

--
-- Flags
--
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_userid', 'def.customer', 'user', 'id', prefer_user_id => true)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visit', 'event', 'id', prefer_user_id => true)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visit', 'event', 'id', merge_nested_objects => true)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visit', 'event', 'id', create_new_fields => 'yes')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visit', 'event', 'id', time_zone => 'Europe/Bern')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visit', 'event', 'id', time_zone => NULL)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visit', 'event', 'id', dry_run => NULL)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visit', 'event', 'id', track => NULL)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visit', 'event', 'id', mode => 'insert', track => false)$$);
CREATE VIEW def.visits AS SELECT * FROM def.visit;
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.visits', 'event', 'id', schedule => 'manual', track => false)$$);
DROP VIEW def.visits;
SELECT def.fails($$SELECT iterable_create_connection('n', 'us', 'email', api_key => 'test', update_only => NULL, base_url => 'ftp://x')$$) LIMIT 1;
SELECT def.fails($$CREATE SERVER n FOREIGN DATA WRAPPER iterable OPTIONS (data_center 'us', project_type 'email', update_only 'perhaps')$$);
\t off
\pset format aligned
SELECT count(*) FROM iterable.sync s JOIN iterable.source c USING (source_id) WHERE schema_name = 'def';

--
-- Virtual generated columns, which came with 18: a change of them is not seen
--
CREATE FUNCTION def.refuses_virtual() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	refused text[];
BEGIN
	IF current_setting('server_version_num')::int < 180000 THEN
		RETURN true;
	END IF;
	EXECUTE 'CREATE TABLE def.computed (id bigint PRIMARY KEY, email text, v int GENERATED ALWAYS AS (id * 2) VIRTUAL)';
	PERFORM iterable_create_sync('computed', 'def_email', 'def.computed', 'user', 'id', 'email');
	SELECT array_agg((SELECT f FROM def.fails(statement) f LIMIT 1)) INTO refused FROM (VALUES
		($s$SELECT iterable_add_mapping('computed', 'v', column_name => 'v')$s$),
		($s$SELECT iterable_add_mapping('computed', 'v', expression => 'v + 1')$s$),
		($s$SELECT iterable_update_sync('computed', filter => 'v > 1')$s$)) AS s (statement);
	PERFORM iterable_drop_sync('computed');
	RETURN refused = ARRAY['0A000: virtual generated column "v" cannot be mapped',
		'0A000: an expression of a mapping cannot contain a virtual generated column',
		'0A000: a filter cannot contain a virtual generated column'];
END
$$;
SELECT def.refuses_virtual();

--
-- Changing
--
SELECT iterable_create_sync('def', 'def_email', 'def.customer', 'user', 'id', 'email', filter => 'marketing_consent and id > 0', schedule => 'manual');
SELECT iterable_add_mapping('def', 'plan', column_name => 'plan_code');
SELECT key, payload, problem FROM iterable_preview('def');
SELECT iterable_update_sync('def', filter => '', merge_nested_objects => true, schedule => '1 hour', mode => 'insert');
SELECT mode, schedule, filter, match_field, merge_nested_objects, version FROM iterable.sync WHERE name = 'def';
SELECT key, payload, problem FROM iterable_preview('def');
-- what is not given stays
SELECT iterable_update_sync('def');
SELECT iterable_update_sync('def', match_field => '', merge_nested_objects => false);
SELECT mode, schedule, filter, match_field, merge_nested_objects, version FROM iterable.sync WHERE name = 'def';
SELECT iterable_update_sync('def', match_field => 'email', object => 'user', unique_field => '{code}', mode => 'upsert');
SELECT mode, key_columns FROM iterable.sync JOIN iterable.source USING (source_id) WHERE name = 'def';
-- the source of before went with its last sync
SELECT key_columns FROM iterable.source WHERE schema_name = 'def' ORDER BY source_id;
SELECT iterable_enable_sync('def', 'updates_only');

\t on
\pset format unaligned
SELECT def.fails($$SELECT iterable_update_sync('no such', mode => 'insert')$$);
SELECT def.fails($$SELECT iterable_update_sync('def', mode => 'insert')$$);
SELECT def.fails($$SELECT iterable_update_sync('def', filter => 'id > 1')$$) LIMIT 1;
SELECT def.fails($$SELECT iterable_update_sync('def', connection => 'def_userid', apply => 'backfill')$$) LIMIT 1;
SELECT def.fails($$SELECT iterable_update_sync('def', connection => 'none', apply => 'backfill')$$) LIMIT 1;
SELECT def.fails($$SELECT iterable_update_sync('def', match_field => '', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_update_sync('def', match_field => 'mail', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_update_sync('def', source => 'def.visit', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_update_sync('def', source => 'def.visit', unique_field => 'id', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_update_sync('def', object => 'event', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_update_sync('def', unique_field => 'plan_code', apply => 'updates_only')$$) LIMIT 1;
SELECT def.fails($$SELECT iterable_update_sync('def', schedule => 'sometimes')$$) LIMIT 1;
SELECT def.fails($$SELECT iterable_update_sync('def', track => false, mode => 'insert', apply => 'updates_only')$$);
-- no rows are concerned
SELECT iterable_update_sync('def', schedule => 'manual', time_zone => 'Europe/Berlin', dry_run => true);
SELECT def.fails($$SELECT iterable_update_sync('def', dry_run => false)$$) LIMIT 1;
\t off
\pset format aligned
SELECT enabled, schedule, time_zone, mode, filter, dry_run FROM iterable.sync WHERE name = 'def';
-- the triggers watch what the filter reads
SELECT iterable_update_sync('def', filter => 'marketing_consent', apply => 'updates_only');
SELECT replace(encode(tgargs, 'escape'), '\000', '|') ~ 'email,plan_code,marketing_consent' AS watched
FROM pg_trigger WHERE tgrelid = 'def.customer'::regclass AND tgname LIKE 'iterable_capture%';

--
-- Many mappings
--
SELECT iterable_set_mappings('def', '{
	"plan": "plan_code",
	"address.city": {"constant": "Bern"},
	"seen": {"column_name": "lastLogin", "null_policy": "clear"},
	"upper": {"expression": "upper(code)", "time_zone": null}}', apply => 'updates_only');
SELECT destination, column_name, constant, expression, null_policy FROM iterable.mapping JOIN iterable.sync USING (sync_id)
WHERE name = 'def' ORDER BY destination COLLATE "C";
\t on
\pset format unaligned
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": "plan_code"}')$$) LIMIT 1;
SELECT def.fails($$SELECT iterable_set_mappings('def', NULL)$$);
SELECT def.fails($$SELECT iterable_set_mappings('def', '[]', 'updates_only')$$);
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": 1}', 'updates_only')$$) LIMIT 2;
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": ["plan_code"]}', 'updates_only')$$) LIMIT 2;
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": {"colum": "plan_code"}}', 'updates_only')$$) LIMIT 2;
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": {"constant": 7}}', 'updates_only')$$) LIMIT 2;
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": {}}', 'updates_only')$$) LIMIT 2;
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": {"column": "plan_code", "constant": "x"}}', 'updates_only')$$) LIMIT 2;
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": "plancode"}', 'updates_only')$$);
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": "plan_code", "plan.code": "code"}', 'updates_only')$$);
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": {"column": "plan_code", "null_policy": "keep"}}', 'updates_only')$$);
SELECT def.fails($$SELECT iterable_set_mappings('def', '{"plan": {"column": "lastLogin", "time_zone": "Bern"}}', 'updates_only')$$);
SELECT def.fails($$SELECT iterable_map_columns('def', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_map_columns('def', '{serch}', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_map_columns('def', '{search,NULL}', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_map_columns('def', '{search}', 'kebab', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_map_columns('def', '{search}')$$) LIMIT 1;
\t off
\pset format aligned
SELECT count(*) FROM iterable.mapping JOIN iterable.sync USING (sync_id) WHERE name = 'def';
BEGIN;
SELECT * FROM iterable_map_columns('def', '{search}', 'camel', 'updates_only');
ROLLBACK;
BEGIN;
SELECT * FROM iterable_map_columns('def', '{search,id}', 'snake', 'updates_only');
ROLLBACK;
SELECT * FROM iterable_map_columns('def', '{search}', apply => 'updates_only');
SELECT * FROM iterable_map_columns('def', '{search}', apply => 'updates_only');

-- names with a meaning of an event are given by people
SELECT iterable_create_sync('def visits', 'def_email', 'def.visit', 'event', 'id', 'email');
SELECT * FROM iterable_map_columns('def visits');
SELECT iterable_add_mapping('def visits', 'eventName', constant => 'visit');

--
-- Warnings
--
SELECT iterable_enable_sync('def visits', 'updates_only');
SELECT iterable_disable_sync('def visits');
SELECT iterable_enable_sync('def visits');
SELECT iterable_enable_sync('def visits', 'backfill');
SELECT iterable_disable_sync('def visits');
SELECT iterable_add_mapping('def visits', 'createdAt', column_name => 'createdAt', apply => 'updates_only');
SELECT iterable_enable_sync('def visits', 'backfill');
-- events are updated by their ids
\t on
\pset format unaligned
SELECT def.fails($$SELECT iterable_update_sync('def visits', mode => 'update', apply => 'updates_only')$$);
CREATE ROLE def_owner;
CREATE TABLE def.owned (id bigint PRIMARY KEY, email text);
ALTER TABLE def.owned OWNER TO def_owner;
GRANT USAGE ON SCHEMA def TO def_owner;
SELECT iterable_create_sync('def owned', 'def_email', 'def.owned', 'user', 'id', 'email');
SELECT iterable_enable_sync('def owned', 'updates_only');
SELECT iterable_drop_sync('def owned');

--
-- Rows as they were committed
--
CREATE TABLE def.status (id bigint PRIMARY KEY, email text, status text, n int);
CREATE VIEW def.status_view AS SELECT * FROM def.status;
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.customer', 'user', 'id', 'email', capture => 'row')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.status', 'event', 'id', 'email', capture => 'rows')$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.status', 'event', 'id', 'email', capture => NULL)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.status', 'event', 'id', 'email', versions => NULL)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.status', 'event', 'id', 'email', versions => true)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.status', 'event', 'id', 'email', mode => 'insert', capture => 'row', versions => true)$$);
SELECT def.fails($$SELECT iterable_create_sync('n', 'def_email', 'def.status_view', 'event', 'id', 'email', schedule => 'manual', capture => 'row')$$);
SELECT iterable_create_sync('def status', 'def_email', 'def.status', 'event', 'id', 'email', capture => 'row', versions => true);
SELECT iterable_add_mapping('def status', 'eventName', constant => 'status');
SELECT iterable_add_mapping('def status', 'status', 'status');
SELECT capture FROM iterable.sync_status WHERE sync = 'def status';
SELECT iterable_sync_sql('def status');
SELECT iterable_copy_sync('def status', 'def status copy');
SELECT name, capture, versions FROM iterable.sync WHERE name ~ 'def status' ORDER BY name;
SELECT iterable_drop_sync('def status copy');

-- what is stored is what the sync reads
SELECT iterable_update_sync('def status', filter => 'n > 0');
SELECT iterable_enable_sync('def status', 'updates_only');
CREATE VIEW def.stored AS SELECT split_part(encode(tgargs, 'escape'), '\000', 4) AS stored FROM pg_trigger
WHERE tgrelid = 'def.status'::regclass AND tgname ~ 'iterable_capture';
TABLE def.stored;
SELECT iterable_add_mapping('def status', 'double', expression => 'n * 2 + id', apply => 'updates_only');
TABLE def.stored;
SELECT def.fails($$SELECT iterable_add_mapping('def status', 'whole', expression => 'length((status.*)::text)', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_add_mapping('def status', 'id', expression => 'id::text', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_update_sync('def status', mode => 'update', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_update_sync('def status', object => 'user', apply => 'updates_only')$$);
SELECT def.fails($$SELECT iterable_update_sync('def status', source => 'def.status_view', schedule => 'manual', apply => 'updates_only')$$);

SELECT iterable_update_sync('def status', track => false);
SELECT right(iterable_sync_sql('def status'), 400) ~ 'track => false';
SELECT def.fails($$SELECT iterable_update_sync('def status', source => 'def.status_view', capture => 'key', schedule => 'manual', apply => 'updates_only')$$);
SELECT iterable_update_sync('def status', track => true);

-- versions goes with capture
SELECT iterable_update_sync('def status', capture => 'key');
SELECT capture, versions FROM iterable.sync WHERE name = 'def status';
TABLE def.stored;
SELECT def.fails($$SELECT iterable_update_sync('def status', versions => true)$$);
SELECT iterable_add_mapping('def status', 'whole', expression => 'length((status.*)::text)', apply => 'updates_only');
SELECT def.fails($$SELECT iterable_update_sync('def status', capture => 'row')$$);
SELECT iterable_drop_mapping('def status', 'whole', 'updates_only');
SELECT iterable_update_sync('def status', capture => 'row');
SELECT capture, versions FROM iterable.sync WHERE name = 'def status';
SELECT def.fails($$SELECT iterable_update_sync('def status', filter => 'length((status.*)::text) > 3', apply => 'updates_only')$$);
SELECT iterable_drop_sync('def status');

--
-- Names, copies, and the SQL that makes a sync again
--
SELECT def.fails($$SELECT iterable_rename_sync('def', 'def visits')$$);
SELECT def.fails($$SELECT iterable_rename_sync('def', '')$$);
SELECT def.fails($$SELECT iterable_rename_sync('none', 'x')$$);
SELECT def.fails($$SELECT iterable_copy_sync('def', 'def visits')$$);
SELECT def.fails($$SELECT iterable_copy_sync('def', 'x', source => 'def.visit')$$);
SELECT def.fails($$SELECT iterable_copy_sync('def', 'x', connection => 'none')$$) LIMIT 1;
SELECT def.fails($$SELECT iterable_sync_sql('none')$$);
SELECT iterable_rename_sync('def', 'It''s "def"');
SELECT iterable_copy_sync('It''s "def"', 'def copy', connection => 'def_email');
SELECT iterable_sync_sql('It''s "def"');
-- it does make it again
SELECT iterable_sync_sql('It''s "def"') AS sql \gset
SELECT iterable_drop_sync('It''s "def"');
:sql
SELECT iterable_sync_sql('It''s "def"') = :'sql' AS again;
SELECT enabled, match_field, s.time_zone, dry_run, count(*) FROM iterable.sync s JOIN iterable.mapping USING (sync_id)
WHERE name IN ('It''s "def"', 'def copy') GROUP BY 1, 2, 3, 4;
\t off
\pset format aligned

SELECT iterable_drop_sync('It''s "def"');
SELECT iterable_drop_sync('def copy');
SELECT iterable_drop_sync('def visits');
DROP SERVER def_email CASCADE;
DROP SERVER def_userid CASCADE;
SET client_min_messages = warning;
DROP SCHEMA def CASCADE;
DROP ROLE def_owner;
RESET client_min_messages;
