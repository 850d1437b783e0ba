--
-- The capture trigger, made by hand and otherwise than iterable_enable_sync()
-- makes it: an error that says so, or it captures as it is told
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;
\set VERBOSITY terse
\pset format unaligned

CREATE SCHEMA misuse;
SET search_path = misuse, public;

-- there is no source 0: what is captured for it stays in the log for a while, and nobody reads it
SELECT coalesce(max(seq), 0) AS seq FROM iterable.change \gset

CREATE TABLE t (id integer PRIMARY KEY, v text);

-- an attempt: make the trigger, change something, take it away
CREATE PROCEDURE attempt(definition text, statement text DEFAULT 'INSERT INTO t VALUES (1)') LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	hint text;
BEGIN
	BEGIN
		EXECUTE replace(definition, 'capture(', 'EXECUTE FUNCTION iterable_capture(');
		EXECUTE statement;
		SET CONSTRAINTS ALL IMMEDIATE;
		RAISE 'accepted' USING ERRCODE = '00001';
	EXCEPTION
		WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
			RAISE INFO '%', concat_ws(' ', state, message, nullif(hint, ''));
	END;
END
$$;

-- when it fires
CALL attempt($$CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW capture('0', '{id}', '*')$$);
CALL attempt($$CREATE TRIGGER x BEFORE INSERT ON t FOR EACH STATEMENT capture('0', '{id}', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH STATEMENT capture('0', '{id}', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t REFERENCING NEW TABLE AS n FOR EACH STATEMENT capture('0', '{id}', '*')$$);
CALL attempt($$CREATE TRIGGER x BEFORE TRUNCATE ON t FOR EACH STATEMENT capture('0', '{id}', '*')$$, 'TRUNCATE t');
CREATE VIEW w AS SELECT * FROM t;
CALL attempt($$CREATE TRIGGER x INSTEAD OF INSERT ON w FOR EACH ROW capture('0', '{id}', '*')$$, 'INSERT INTO w VALUES (1)');
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON w FOR EACH STATEMENT capture('0', '{id}', '*')$$, 'INSERT INTO w VALUES (1)');

-- arguments
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture()$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id}')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('', '{id}', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('one', '{id}', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('1.5', '{id}', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('99999999999', '{id}', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', 'id', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{}', '*')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id,NULL}', '*')$$);
CALL attempt(format($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{%s}', '*')$$, repeat('id,', 32) || 'id'));
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id}', '')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id}', '{v')$$);
CALL attempt($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id}', '{NULL}')$$);
CALL attempt($$CREATE TRIGGER x AFTER TRUNCATE ON t FOR EACH STATEMENT capture('one', '{id}', '*')$$, 'TRUNCATE t');

CALL attempt($$CREATE TRIGGER x AFTER TRUNCATE ON t FOR EACH STATEMENT capture('0', '{}', '*')$$, 'TRUNCATE t');
CALL attempt(format($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{%s}', '*')$$, repeat('id,', 100000) || 'id'));

-- not as a trigger
SELECT iterable_capture();
CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION iterable_capture();

-- of all that nothing was captured, and nothing was changed
SELECT count(*) FROM iterable.change WHERE seq > :seq;
TABLE t;

DROP VIEW w;

-- what it cannot know it takes as it is: kinds of triggers, twice, columns that are not there, more than it can hold in one row
CREATE PROCEDURE try(statement text, VARIADIC definitions text[]) LANGUAGE plpgsql AS $$
DECLARE
	before bigint := (SELECT coalesce(max(seq), 0) FROM iterable.change);
	definition text;
	captured text;
BEGIN
	FOREACH definition IN ARRAY definitions LOOP
		EXECUTE replace(definition, 'capture(', 'EXECUTE FUNCTION iterable_capture(');
	END LOOP;
	COMMIT;
	EXECUTE statement;
	COMMIT;
	SELECT string_agg(concat_ws(' ', ops, CASE WHEN n > 0 THEN keys::text END), ', ' ORDER BY seq) INTO captured
	FROM iterable.change WHERE seq > before AND source_id = 0;
	RAISE INFO '%', captured;
	DROP TABLE t;
	CREATE TABLE t (id integer PRIMARY KEY, v text);
END
$$;
CALL try('INSERT INTO t VALUES (1), (2)',
	$$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id}', '{}')$$,
	$$CREATE TRIGGER y AFTER INSERT ON t FOR EACH ROW capture('0', '{id}', '{}')$$);
CALL try('INSERT INTO t VALUES (1), (2)',
	$$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW WHEN (NEW.id > 1) capture('0', '{id}', '{}')$$);
CALL try('INSERT INTO t VALUES (1), (2)',
	$$CREATE TRIGGER x AFTER INSERT ON t REFERENCING NEW TABLE AS n FOR EACH ROW capture('0', '{id}', '{}')$$);
CALL try('INSERT INTO t VALUES (1), (2)',
	$$CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW capture('0', '{id}', '{}')$$);
CALL try('INSERT INTO t VALUES (1); UPDATE t SET v = 2; UPDATE t SET id = 2',
	$$CREATE TRIGGER x AFTER UPDATE OF id ON t FOR EACH ROW capture('0', '{id}', '{gone}')$$);
CALL try('INSERT INTO t VALUES (1); UPDATE t SET v = 2',
	$$CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW capture('0', '{id}', '{{id,v},{id,v}}')$$);
CALL try('INSERT INTO t VALUES (1)',
	format($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', %L, '*')$$, array_fill('id'::text, '{32}')));
CALL try('INSERT INTO t VALUES (1), (2)',
	$$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id,gone}', '*')$$);
CALL try('INSERT INTO t VALUES (1), (2)',
	$$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{ctid}', '*')$$);
CALL try('INSERT INTO t VALUES (1), (2)',
	$$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{{id},{v}}', '*')$$);
CALL try('INSERT INTO t VALUES (1, 3); TRUNCATE t',
	$$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id,v}', '*')$$,
	$$CREATE TRIGGER y AFTER TRUNCATE ON t FOR EACH STATEMENT capture('0', '{id}', '*')$$);
CALL try('INSERT INTO t SELECT i FROM generate_series(1, 3) i',
	format($$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id}', '{%s}')$$, repeat('v,', 100000) || 'v'));
-- arguments that a newer version has appended: which rows it would want is not known here
CALL try('INSERT INTO t VALUES (1), (2)',
	$$CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW capture('0', '{id}', '*', '*', '', 'new')$$);

-- a partition and its root
CREATE TABLE p (id integer, v text) PARTITION BY LIST (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CALL try('INSERT INTO p VALUES (1); INSERT INTO p1 VALUES (1)',
	$$CREATE TRIGGER x AFTER INSERT ON p FOR EACH ROW capture('0', '{id}', '{}')$$,
	$$CREATE TRIGGER y AFTER INSERT ON p1 FOR EACH ROW capture('0', '{id}', '{}')$$);

-- a foreign table, by itself and as a partition
SET client_min_messages = warning;
CREATE EXTENSION postgres_fdw;
DO $$
BEGIN
	EXECUTE format('CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L)',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database());
END
$$;
RESET client_min_messages;
CREATE USER MAPPING FOR CURRENT_USER SERVER itself;
CREATE TABLE far (id integer PRIMARY KEY, v text);
CREATE FOREIGN TABLE f (id integer, v text) SERVER itself OPTIONS (schema_name 'misuse', table_name 'far');
CREATE TABLE q (id integer, v text) PARTITION BY LIST (id);
CALL try('INSERT INTO f SELECT i FROM generate_series(1, 3) i; UPDATE f SET v = 2 WHERE id < 3; UPDATE f SET id = 4 WHERE id = 1; DELETE FROM f WHERE id = 2; DELETE FROM f',
	$$CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON f FOR EACH ROW capture('0', '{id}', '{}')$$);
DROP TRIGGER x ON f;
ALTER TABLE q ATTACH PARTITION f FOR VALUES IN (1, 2);
CALL try('INSERT INTO q VALUES (1), (2); UPDATE q SET v = 2; DELETE FROM f',
	$$CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON q FOR EACH ROW capture('0', '{id}', '*')$$);
DROP TABLE q;
SET client_min_messages = warning;
DROP EXTENSION postgres_fdw CASCADE;
RESET client_min_messages;

-- nothing of all this concerns anybody
SELECT count(*) FROM iterable.sync s JOIN iterable.change c USING (source_id) WHERE c.seq > :seq;

SET client_min_messages = warning;
DROP SCHEMA misuse CASCADE;
