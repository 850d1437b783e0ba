--
-- Views, materialized views and foreign tables as sources
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('views', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
CREATE SCHEMA vs;
CREATE TABLE vs.person (id int, email text, plan text, stamp json);
INSERT INTO vs.person VALUES (1, 'a@example.com', 'free'), (2, 'b@example.com', 'paid'), (2, 'b@example.com', 'paid twice'),
	(NULL, 'c@example.com', 'free'), (4, 'nowhere', 'free');
CREATE VIEW vs.people AS SELECT * FROM vs.person;
CREATE MATERIALIZED VIEW vs.plans AS SELECT plan, min(email) AS email, count(*) AS n FROM vs.person GROUP BY plan;
CREATE FOREIGN DATA WRAPPER vs_none;
CREATE SERVER vs_none FOREIGN DATA WRAPPER vs_none;
CREATE FOREIGN TABLE vs.far (id int, email text) SERVER vs_none;
CREATE VIEW vs.config AS
SELECT s.name, s.schedule, c.table_name, a.kind, a.reason
FROM iterable.sync s JOIN iterable.source c USING (source_id) LEFT JOIN iterable.sync_scan a USING (sync_id)
WHERE c.schema_name = 'vs' ORDER BY s.name, a.kind DESC;

\pset format unaligned
--
-- No schedule but continuous is refused
--
DO $$
DECLARE
	what text;
	state text;
	message text;
	hint text;
BEGIN
	FOREACH what IN ARRAY ARRAY[
		$s$'people', 'views', 'vs.people', 'user', 'id', 'email'$s$,
		$s$'people', 'views', 'vs.plans', 'user', 'plan', 'email', schedule => 'continuous'$s$,
		$s$'people', 'views', 'vs.far', 'user', 'id', 'email'$s$,
		$s$'people', 'views', 'vs.people', 'user', 'stamp', 'email', schedule => 'manual'$s$,
		$s$'people', 'views', 'vs.people', 'user', 'nothing', 'email', schedule => 'manual'$s$,
		$s$'people', 'views', 'vs.people', 'user', '{id,id}', 'email', schedule => 'manual'$s$,
		$s$'people', 'views', 'pg_catalog.pg_tables', 'user', 'tablename', schedule => 'manual'$s$,
		$s$'people', 'views', 'information_schema.tables', 'user', 'table_name', schedule => 'manual'$s$,
		$s$'people', 'views', 'iterable.delivery', 'user', 'key', schedule => 'manual'$s$]
	LOOP
		BEGIN
			EXECUTE 'SELECT iterable_create_sync(' || what || ')';
			RAISE NOTICE 'no error: %', what;
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
			RAISE NOTICE '%: % %', state, message, hint;
		END;
	END LOOP;
END $$;
CREATE TEMP VIEW temporary AS SELECT 1 AS id;
SELECT iterable_create_sync('temporary', 'views', 'temporary', 'user', 'id', schedule => 'manual');

--
-- Others are taken
--
SELECT iterable_create_sync('people', 'views', 'vs.people', 'user', 'id', 'email', schedule => '15 minutes');
SELECT iterable_create_sync('plans', 'views', 'vs.plans', 'event', '{plan,n}', 'email', schedule => 'after people');
SELECT iterable_create_sync('far', 'views', 'vs.far', 'user', 'id', 'email', schedule => '@daily');
SELECT iterable_add_mapping('people', 'plan', column_name => 'plan');
SELECT iterable_add_mapping('plans', 'eventName', constant => 'Plan');
SELECT iterable_add_mapping('plans', 'n', expression => 'n * 10');
SELECT destination, column_name FROM iterable_map_columns('far');
SELECT * FROM vs.config;
SELECT iterable_update_sync('people', schedule => 'continuous');
SELECT iterable_copy_sync('people', 'copied');
SELECT name, schedule FROM iterable.sync WHERE name = 'copied';
SELECT iterable_drop_sync('copied');
SELECT iterable_sync_sql('people');

-- a sync of a table can be given a view, and the other way round
CREATE TABLE vs.solid (id int PRIMARY KEY, email text, plan text);
SELECT iterable_create_sync('solid', 'views', 'vs.solid', 'user', 'id', 'email');
SELECT iterable_update_sync('solid', source => 'vs.people');
SELECT iterable_update_sync('solid', source => 'vs.people', schedule => 'manual');
SELECT iterable_update_sync('solid', source => 'vs.solid', schedule => 'continuous');
SELECT iterable_copy_sync('solid', 'copied', source => 'vs.people');
SELECT iterable_drop_sync('solid');

--
-- Looking at them
--
SELECT key, payload, problem FROM iterable_preview('people');
SELECT key, payload, problem FROM iterable_preview('people', 2);
SELECT key, payload, problem FROM iterable_preview('people', keys => '{4,2,1,99}');
SELECT key, payload -> 'dataFields' AS data, problem FROM iterable_preview('plans');
SELECT outcome, reason, rows, requests, example FROM iterable_explain('people');
SELECT iterable_update_sync('people', filter => $$plan = 'paid'$$);
SELECT key, payload, problem FROM iterable_preview('people');
SELECT key, payload, problem FROM iterable_preview('people', keys => '{1,2}');
SELECT outcome, reason, rows, requests, example FROM iterable_explain('people');

--
-- Enabling puts no triggers, and has noted what is there
--
SELECT iterable_enable_sync('people');
BEGIN;
SELECT iterable_enable_sync('people', 'updates_only');
SELECT iterable_enable_sync('plans', 'backfill');
SELECT * FROM vs.config;
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('vs.people'::regclass, 'vs.plans'::regclass);
SELECT iterable_add_mapping('people', 'stamp', column_name => 'stamp', apply => 'backfill');
SELECT * FROM vs.config;
SELECT iterable_cancel_backfill('people');
SELECT iterable_backfill('people', 'id < 3', true);
SELECT * FROM vs.config;
SELECT iterable_drop_sync('plans');
SELECT iterable_drop_sync('people');
SELECT * FROM vs.config;
ROLLBACK;

-- a view that is gone, and one that belongs to another role
ALTER VIEW vs.people RENAME TO renamed;
SELECT iterable_enable_sync('people', 'updates_only');
ALTER VIEW vs.renamed RENAME TO people;
CREATE ROLE regress_iterable_viewer;
GRANT USAGE ON SCHEMA vs TO regress_iterable_viewer;
GRANT USAGE ON FOREIGN SERVER views TO regress_iterable_viewer;
SET ROLE regress_iterable_viewer;
SELECT iterable_create_sync('stolen', 'views', 'vs.people', 'user', 'id', 'email', schedule => 'manual');
RESET ROLE;
REVOKE USAGE ON SCHEMA vs FROM regress_iterable_viewer;
REVOKE USAGE ON FOREIGN SERVER views FROM regress_iterable_viewer;
DROP ROLE regress_iterable_viewer;

SET client_min_messages = warning;
SELECT iterable_drop_sync(name) FROM vs.config WHERE name <> 'people' ORDER BY name;
SELECT iterable_drop_sync('people');
DROP SCHEMA vs CASCADE;
DROP FOREIGN DATA WRAPPER vs_none CASCADE;
DROP SERVER views CASCADE;
