--
-- The capture trigger: after commit the change log holds exactly what survived,
-- in order.  What should be there is told by plain triggers in plpgsql that
-- fire together with it.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

-- nothing is sent: the syncs are disabled, so their positions stay
SELECT iterable_create_connection('capture', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:1');

CREATE SCHEMA cap;

/* ------------------------------------------------------------------------
 * The audit
 * ------------------------------------------------------------------------ */

CREATE TABLE cap.audit (
	n bigint GENERATED ALWAYS AS IDENTITY,
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	sync text NOT NULL,
	op text NOT NULL,
	key text
);
CREATE TABLE cap.seen (sync text PRIMARY KEY, source_id integer NOT NULL, seq bigint NOT NULL);

-- Arguments: sync, expression of the key, list of key columns, list of watched columns.
CREATE FUNCTION cap.audit_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO' SET TimeZone = 'UTC' AS $$
DECLARE
	side text := format('SELECT (%s) AS key, ROW(%s) AS key_row, ROW(%s) AS watched FROM (SELECT ($%%s).*) r', TG_ARGV[1], TG_ARGV[2], TG_ARGV[3]);
	old_key text;
	new_key text;
	key_changed boolean;
	watched_changed boolean;
BEGIN
	IF TG_OP = 'INSERT' THEN
		EXECUTE format(side, 1) INTO new_key USING NEW;
		INSERT INTO cap.audit (sync, op, key) VALUES (TG_ARGV[0], 'I', new_key);
	ELSIF TG_OP = 'DELETE' THEN
		EXECUTE format(side, 1) INTO old_key USING OLD;
		INSERT INTO cap.audit (sync, op, key) VALUES (TG_ARGV[0], 'D', old_key);
	ELSE
		EXECUTE format('SELECT o.key, n.key, o.key_row *<> n.key_row, o.watched *<> n.watched FROM (%s) o, (%s) n',
			format(side, 1), format(side, 2)) INTO old_key, new_key, key_changed, watched_changed USING OLD, NEW;
		IF key_changed THEN
			INSERT INTO cap.audit (sync, op, key) VALUES (TG_ARGV[0], 'D', old_key), (TG_ARGV[0], 'I', new_key);
		ELSIF watched_changed THEN
			INSERT INTO cap.audit (sync, op, key) VALUES (TG_ARGV[0], 'U', new_key);
		END IF;
	END IF;
	RETURN NULL;
END
$$;

-- The same, faster: the key is id, email and plan are watched.
CREATE FUNCTION cap.audit_plain() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO cap.audit (sync, op, key) VALUES (TG_ARGV[0], 'I', NEW.id);
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO cap.audit (sync, op, key) VALUES (TG_ARGV[0], 'D', OLD.id);
	ELSIF OLD.id <> NEW.id THEN
		INSERT INTO cap.audit (sync, op, key) VALUES (TG_ARGV[0], 'D', OLD.id), (TG_ARGV[0], 'I', NEW.id);
	ELSIF (OLD.email, OLD.plan) IS DISTINCT FROM (NEW.email, NEW.plan) THEN
		INSERT INTO cap.audit (sync, op, key) VALUES (TG_ARGV[0], 'U', NEW.id);
	END IF;
	RETURN NULL;
END
$$;

CREATE FUNCTION cap.audit_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO cap.audit (sync, op) VALUES (TG_ARGV[0], 'T');
	RETURN NULL;
END
$$;

-- Capture a table, and audit it.
CREATE PROCEDURE cap.start(sync text, source regclass, unique_field text, columns text[], key_expression text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	watched text;
	col text;
BEGIN
	PERFORM iterable_create_sync(sync, 'capture', source, 'user', unique_field, match_field => 'email', schedule => 'manual');
	FOREACH col IN ARRAY columns LOOP
		PERFORM iterable_add_mapping(sync, 'f_' || col, column_name => col);
	END LOOP;
	PERFORM iterable_enable_sync(sync, 'updates_only');
	PERFORM iterable_disable_sync(sync);
	INSERT INTO cap.seen SELECT s.name, s.source_id, (SELECT coalesce(max(seq), 0) FROM iterable.change)
		FROM iterable.sync s WHERE s.name = start.sync;
	watched := (SELECT string_agg(quote_ident(c), ', ') FROM unnest(ARRAY['email'] || columns) c);
	EXECUTE format('CREATE TRIGGER audit_row_%s AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION cap.%s(%L, %L, %L, %L)',
		sync, source, CASE WHEN unique_field = 'id' AND columns = '{plan}' THEN 'audit_plain' ELSE 'audit_row' END, sync, coalesce(key_expression, unique_field || '::text'), btrim(unique_field, '{}'), watched);
	EXECUTE format('CREATE TRIGGER audit_truncate_%s AFTER TRUNCATE ON %s EXECUTE FUNCTION cap.audit_truncate(%L)', sync, source, sync);
	EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_row_%s', source, sync);
	EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_truncate_%s', source, sync);
END
$$;

-- What was captured for a source since the last check, a key a line.
CREATE FUNCTION cap.log(sync text) RETURNS TABLE (seq bigint, place bigint, xid xid8, op text, key text)
BEGIN ATOMIC
	SELECT c.seq, k.place, c.xid, CASE length(c.ops) WHEN 1 THEN c.ops ELSE substr(c.ops, k.place::integer, 1) END, k.key
	FROM cap.seen s
	JOIN iterable.change c ON c.source_id = s.source_id AND c.seq > s.seq
	CROSS JOIN LATERAL unnest(CASE WHEN c.n = 0 THEN '{NULL}' ELSE c.keys END) WITH ORDINALITY k (key, place)
	WHERE s.sync = log.sync
	ORDER BY c.seq, k.place;
END;

-- Compare the log with the audit, and start anew.  A key may be repeated or
-- not when it changes several times in a row in the same way.
CREATE FUNCTION cap.check(sync text, counts boolean DEFAULT true) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	captured text[];
	expected text[];
	keys bigint;
	rows bigint;
	bad bigint;
BEGIN
	SELECT count(*), count(DISTINCT l.seq) INTO keys, rows FROM cap.log("check".sync) l;
	SELECT count(*) INTO bad FROM iterable.change c JOIN cap.seen s ON s.source_id = c.source_id AND c.seq > s.seq
	WHERE s.sync = "check".sync AND (c.n <> cardinality(c.keys) OR length(c.ops) NOT IN (1, c.n) OR c.sync_id <> 0 OR array_position(c.keys, NULL) IS NOT NULL
		OR (c.n = 0 AND c.ops NOT IN ('T', 'L')) OR (c.n > 0 AND c.ops ~ '[^IUD]'));
	SELECT array_agg(v ORDER BY r) INTO captured FROM (
		SELECT v, r, v IS DISTINCT FROM lag(v) OVER (ORDER BY r) AS new FROM (
			SELECT concat_ws(' ', l.xid, l.op, l.key) AS v, row_number() OVER (ORDER BY l.seq, l.place) AS r
			FROM cap.log("check".sync) l) l) l WHERE new;
	SELECT array_agg(v ORDER BY n) INTO expected FROM (
		SELECT v, n, v IS DISTINCT FROM lag(v) OVER (ORDER BY n) AS new FROM (
			SELECT concat_ws(' ', a.xid, a.op, a.key) AS v, a.n FROM cap.audit a WHERE a.sync = "check".sync) a) a WHERE new;
	DELETE FROM cap.audit a WHERE a.sync = "check".sync;
	UPDATE cap.seen s SET seq = (SELECT coalesce(max(c.seq), 0) FROM iterable.change c) WHERE s.sync = "check".sync;

	IF bad > 0 THEN
		RETURN format('%s log rows are badly formed', bad);
	ELSIF captured IS NOT DISTINCT FROM expected THEN
		RETURN CASE WHEN counts THEN format('right: %s keys in %s rows', keys, rows) ELSE 'right' END;
	END IF;
	FOR i IN 1..greatest(cardinality(captured), cardinality(expected)) LOOP
		IF captured[i] IS DISTINCT FROM expected[i] THEN
			RETURN format('WRONG: of %s and %s the first that differ are %s: captured %s, expected %s',
				coalesce(cardinality(captured), 0), coalesce(cardinality(expected), 0), i, captured[i - 1 : i + 2], expected[i - 1 : i + 2]);
		END IF;
	END LOOP;
	RETURN format('WRONG: captured %s, expected %s', captured, expected);
END
$$;

\pset format unaligned

/* ------------------------------------------------------------------------
 * What changes rows
 * ------------------------------------------------------------------------ */

CREATE TABLE cap.person (
	id bigint PRIMARY KEY,
	email text,
	plan text,
	city text,
	note text
);
CALL cap.start('person', 'cap.person', 'id', '{plan}');

INSERT INTO cap.person VALUES (1, 'a@example.com', 'free', 'Bern', NULL);
SELECT op, key FROM cap.log('person');
SELECT cap.check('person');

INSERT INTO cap.person SELECT i, i || '@example.com', 'free' FROM generate_series(2, 10) i;
UPDATE cap.person SET plan = 'pro' WHERE id <= 3;
DELETE FROM cap.person WHERE id > 8;
SELECT op, key FROM cap.log('person');
SELECT cap.check('person');

-- only the match field and mapped columns are watched; what they hold counts, not that they were set
UPDATE cap.person SET city = 'Basel', note = 'x';
UPDATE cap.person SET plan = plan, email = email;
SELECT cap.check('person');
UPDATE cap.person SET email = NULL WHERE id = 1;
UPDATE cap.person SET email = NULL WHERE id = 1;
UPDATE cap.person SET email = '' WHERE id = 1;
SELECT op, key FROM cap.log('person');
SELECT cap.check('person');

-- a changed key is two keys, also when nothing watched changes
UPDATE cap.person SET id = id + 100 WHERE id IN (1, 2);
SELECT op, key FROM cap.log('person');
SELECT cap.check('person');
-- and when keys change places
BEGIN;
UPDATE cap.person SET id = -1 WHERE id = 3;
UPDATE cap.person SET id = 3 WHERE id = 4;
UPDATE cap.person SET id = 4 WHERE id = -1;
COMMIT;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');
-- in one statement, which a unique constraint allows only if it is deferrable
CREATE TABLE cap.swap (id integer PRIMARY KEY, email text);
CALL cap.start('swap', 'cap.swap', 'id', '{}');
INSERT INTO cap.swap VALUES (1), (2);
ALTER TABLE cap.swap DROP CONSTRAINT swap_pkey, ADD PRIMARY KEY (id) DEFERRABLE;
UPDATE cap.swap SET id = 3 - id;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('swap');
-- deleted and inserted again
BEGIN;
DELETE FROM cap.swap WHERE id = 1;
INSERT INTO cap.swap VALUES (1);
COMMIT;
DELETE FROM cap.swap WHERE id = 2;
INSERT INTO cap.swap VALUES (2);
SELECT cap.check('swap');
DROP TABLE cap.swap;

-- one row changed again and again is one key, others in between part it
BEGIN;
UPDATE cap.person SET plan = 'a' WHERE id = 5;
UPDATE cap.person SET plan = 'b' WHERE id = 5;
UPDATE cap.person SET plan = 'c' WHERE id = 5;
UPDATE cap.person SET plan = 'c' WHERE id = 6;
UPDATE cap.person SET plan = 'd' WHERE id = 5;
DELETE FROM cap.person WHERE id = 5;
INSERT INTO cap.person (id) VALUES (5);
COMMIT;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');

-- COPY
COPY cap.person (id, plan) FROM stdin;
201	x
202	y
203	\N
\.
SELECT cap.check('person');
COPY cap.person (id, plan) FROM stdin;
204	x
201	duplicate
\.
SELECT cap.check('person');

-- ON CONFLICT: inserted, updated, not changed, left alone
INSERT INTO cap.person (id, plan) VALUES (201, 'x'), (202, 'z'), (205, 'x')
	ON CONFLICT (id) DO UPDATE SET plan = excluded.plan;
INSERT INTO cap.person (id, plan) VALUES (201, 'y') ON CONFLICT DO NOTHING;
INSERT INTO cap.person (id, plan) VALUES (201, 'y') ON CONFLICT (id) DO UPDATE SET plan = excluded.plan WHERE false;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');

-- MERGE
MERGE INTO cap.person p USING (VALUES (201, 'm'), (202, 'z'), (203, NULL), (206, 'n'), (207, NULL)) v (id, plan) ON p.id = v.id
	WHEN MATCHED AND v.plan IS NULL THEN DELETE
	WHEN MATCHED THEN UPDATE SET plan = v.plan
	WHEN NOT MATCHED AND v.plan IS NULL THEN DO NOTHING
	WHEN NOT MATCHED THEN INSERT (id, plan) VALUES (v.id, v.plan);
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');

-- data-modifying WITH
WITH gone AS (DELETE FROM cap.person WHERE id = 201 RETURNING id),
	back AS (INSERT INTO cap.person (id) SELECT id + 1000 FROM gone RETURNING id)
UPDATE cap.person SET plan = 'w' WHERE id = 202;
SELECT cap.check('person');

-- foreign keys: the rows that they change, to and fro
CREATE TABLE cap.visit (
	id integer PRIMARY KEY,
	person_id bigint REFERENCES cap.person ON UPDATE CASCADE ON DELETE CASCADE,
	friend_id bigint REFERENCES cap.person ON DELETE SET NULL,
	email text
);
CALL cap.start('visit', 'cap.visit', 'id', '{person_id,friend_id}');
INSERT INTO cap.visit SELECT i, 5 + i % 3, 6, NULL FROM generate_series(1, 6) i;
UPDATE cap.person SET id = 55 WHERE id = 5;
DELETE FROM cap.person WHERE id = 6;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('visit');
SELECT cap.check('person'), cap.check('visit');

-- in a tree, whose rows go with those above; defaults; a constraint that is checked at the end
CREATE TABLE cap.node (
	id integer PRIMARY KEY,
	email text,
	parent integer REFERENCES cap.node ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE,
	best integer DEFAULT 1 REFERENCES cap.node ON DELETE SET DEFAULT
);
CALL cap.start('node', 'cap.node', 'id', '{parent,best}');
INSERT INTO cap.node SELECT i, NULL, nullif(i / 2, 0), greatest(1, i - 1) FROM generate_series(1, 10) i;
DELETE FROM cap.node WHERE id = 2;
UPDATE cap.node SET id = 30 WHERE id = 3;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
DELETE FROM cap.node WHERE id = 30;
COMMIT;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('node');
SELECT cap.check('node');
DROP TABLE cap.node;

-- TRUNCATE, also by the way, stands where it happened
BEGIN;
INSERT INTO cap.visit VALUES (100);
TRUNCATE cap.person CASCADE;
INSERT INTO cap.person VALUES (1);
INSERT INTO cap.visit VALUES (100);
COMMIT;
SELECT concat(op, key) AS visit FROM cap.log('visit');
SELECT concat(op, key) AS person FROM cap.log('person');
SELECT cap.check('person'), cap.check('visit');
DROP TABLE cap.visit;

-- triggers and rules of the table's own: what they do to the row, and to others
CREATE FUNCTION cap.upper_plan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.plan = 'none' THEN
		RETURN NULL;
	END IF;
	NEW.plan := upper(NEW.plan);
	RETURN NEW;
END
$$;
CREATE TRIGGER upper_plan BEFORE INSERT OR UPDATE ON cap.person FOR EACH ROW EXECUTE FUNCTION cap.upper_plan();
CREATE FUNCTION cap.next_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO cap.person (id) SELECT NEW.id + 1 WHERE NEW.id % 10 < 3;
	RETURN NULL;
END
$$;
CREATE TRIGGER a_next_person AFTER INSERT ON cap.person FOR EACH ROW EXECUTE FUNCTION cap.next_person();
CREATE TRIGGER z_next_person AFTER UPDATE OF city ON cap.person FOR EACH ROW EXECUTE FUNCTION cap.next_person();
INSERT INTO cap.person VALUES (10, NULL, 'small'), (20, NULL, 'none');
UPDATE cap.person SET plan = 'SMALL' WHERE id = 10;
UPDATE cap.person SET plan = 'none' WHERE id = 10;
UPDATE cap.person SET id = 300, city = 'Chur' WHERE id = 10;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');
DROP FUNCTION cap.upper_plan, cap.next_person CASCADE;

/* ------------------------------------------------------------------------
 * Transactions
 * ------------------------------------------------------------------------ */

TRUNCATE cap.person;
SELECT cap.check('person');

-- rolled back, or failed
BEGIN;
INSERT INTO cap.person VALUES (1);
ROLLBACK;
INSERT INTO cap.person VALUES (1), (1);
BEGIN;
INSERT INTO cap.person VALUES (1);
SELECT 1 / 0;
COMMIT;
SELECT cap.check('person');

-- savepoints: rolled back, released, released and rolled back with the outer one
BEGIN;
INSERT INTO cap.person VALUES (1);
SAVEPOINT a;
INSERT INTO cap.person VALUES (2);
SAVEPOINT b;
INSERT INTO cap.person VALUES (3);
ROLLBACK TO b;
INSERT INTO cap.person VALUES (4);
RELEASE b;
INSERT INTO cap.person VALUES (5);
ROLLBACK TO a;
INSERT INTO cap.person VALUES (6);
SAVEPOINT c;
INSERT INTO cap.person VALUES (7);
SAVEPOINT d;
INSERT INTO cap.person VALUES (8);
RELEASE c;
INSERT INTO cap.person VALUES (9);
SAVEPOINT e;
SAVEPOINT f;
INSERT INTO cap.person VALUES (10);
RELEASE f;
ROLLBACK TO e;
SAVEPOINT a;
INSERT INTO cap.person VALUES (11);
COMMIT;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');

-- the same row, captured again after what was captured before is rolled back, or written
BEGIN;
UPDATE cap.person SET plan = 'a' WHERE id = 1;
SAVEPOINT a;
UPDATE cap.person SET plan = 'b' WHERE id = 1;
ROLLBACK TO a;
UPDATE cap.person SET plan = 'c' WHERE id = 1;
SAVEPOINT b;
UPDATE cap.person SET plan = 'd' WHERE id = 1;
RELEASE b;
UPDATE cap.person SET plan = 'e' WHERE id = 1;
COMMIT;
SELECT cap.check('person', false);
BEGIN;
SAVEPOINT a;
DELETE FROM cap.person WHERE id = 1;
ROLLBACK TO a;
SAVEPOINT b;
DELETE FROM cap.person WHERE id = 1;
COMMIT;
SELECT cap.check('person');

-- all of it in savepoints
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
INSERT INTO cap.person VALUES (21);
RELEASE b;
SAVEPOINT c;
INSERT INTO cap.person VALUES (22);
ROLLBACK TO c;
COMMIT;
SELECT cap.check('person');
BEGIN;
SAVEPOINT a;
INSERT INTO cap.person VALUES (23);
ROLLBACK TO a;
COMMIT;
SELECT cap.check('person');

-- TRUNCATE within them
BEGIN;
INSERT INTO cap.person VALUES (31);
SAVEPOINT a;
INSERT INTO cap.person VALUES (32);
TRUNCATE cap.person;
INSERT INTO cap.person VALUES (33);
ROLLBACK TO a;
INSERT INTO cap.person VALUES (34);
SAVEPOINT b;
TRUNCATE cap.person;
RELEASE b;
INSERT INTO cap.person VALUES (35);
COMMIT;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');

-- a loop with a block for exceptions around each row writes few log rows
TRUNCATE cap.person;
SELECT cap.check('person');
DO $$
BEGIN
	FOR i IN 1..5000 LOOP
		BEGIN
			INSERT INTO cap.person (id) VALUES (i);
			IF i % 7 = 0 THEN
				RAISE unique_violation;
			END IF;
		EXCEPTION
			WHEN unique_violation THEN NULL;
		END;
	END LOOP;
END
$$;
SELECT cap.check('person') ~ '^right: 4286 keys in [1-9] rows$' AS is_right;

-- one row that is changed again and again is one key, also in blocks for exceptions
DO $$
BEGIN
	FOR i IN 1..5000 LOOP
		BEGIN
			UPDATE cap.person SET plan = i WHERE id = 1;
			IF i % 7 = 0 THEN
				RAISE unique_violation;
			END IF;
		EXCEPTION
			WHEN unique_violation THEN NULL;
		END;
	END LOOP;
END
$$;
SELECT cap.check('person');

-- what a large statement captures is not kept in memory
BEGIN;
SELECT count(*) FROM (SELECT FROM generate_series(1, 10)) s;
ALTER TABLE cap.person DISABLE TRIGGER audit_row_person;
INSERT INTO cap.person (id) SELECT i FROM generate_series(10001, 110000) i;
SELECT total_bytes < 512 * 1024 AS is_little FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext';
SELECT count(*) BETWEEN 30 AND 80 AS are_few_rows, max(n) <= 5000 AS are_short, sum(n) BETWEEN 90000 AND 99999 AS are_most FROM iterable.change WHERE xid = pg_current_xact_id();
SAVEPOINT a;
UPDATE cap.person SET plan = 'x' WHERE id > 10000;
ROLLBACK TO a;
SELECT total_bytes < 512 * 1024 AS is_little FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext';
ROLLBACK;
SELECT cap.check('person');

-- read-only in the end; deferred to the end; isolation levels
BEGIN;
INSERT INTO cap.person (id) VALUES (-1);
SET TRANSACTION READ ONLY;
INSERT INTO cap.person (id) VALUES (-2);
COMMIT;
BEGIN;
INSERT INTO cap.person (id) VALUES (-3);
SAVEPOINT a;
INSERT INTO cap.person (id) VALUES (-4);
SET TRANSACTION READ ONLY;
RELEASE a;
COMMIT;
BEGIN;
INSERT INTO cap.person (id) VALUES (-5);
SET TRANSACTION READ ONLY;
SHOW transaction_read_only;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO cap.person (id) VALUES (-6);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO cap.person (id) VALUES (-7);
COMMIT;
SELECT cap.check('person');

CREATE TABLE cap.country (name text PRIMARY KEY);
CREATE TABLE cap.town (
	id integer PRIMARY KEY,
	email text,
	country text REFERENCES cap.country DEFERRABLE INITIALLY DEFERRED
);
CALL cap.start('town', 'cap.town', 'id', '{country}');
BEGIN;
INSERT INTO cap.town VALUES (1, NULL, 'Atlantis');
COMMIT;
SELECT cap.check('town');
BEGIN;
INSERT INTO cap.town VALUES (1, NULL, 'Uri');
INSERT INTO cap.country VALUES ('Uri');
COMMIT;
SELECT cap.check('town');
-- changes that a deferred trigger makes when the transaction commits
CREATE FUNCTION cap.late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE cap.town SET country = 'Uri', email = 'x@example.com' WHERE id = NEW.id + 1;
	INSERT INTO cap.town VALUES (NEW.id + 10, 'y@example.com', 'Uri') ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON cap.town DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id < 30) EXECUTE FUNCTION cap.late();
BEGIN;
INSERT INTO cap.town VALUES (2), (3);
COMMIT;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('town');
SELECT cap.check('town');
DROP TABLE cap.town;

-- a cursor that is held, and procedures that commit and roll back
TRUNCATE cap.person;
SELECT cap.check('person');
CREATE PROCEDURE cap.commits() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1001..1006 LOOP
		INSERT INTO cap.person (id) VALUES (i);
		IF i % 3 = 0 THEN
			ROLLBACK;
		ELSIF i % 3 = 1 THEN
			COMMIT;
		END IF;
	END LOOP;
	BEGIN
		INSERT INTO cap.person (id) VALUES (1007);
		RAISE division_by_zero;
	EXCEPTION
		WHEN division_by_zero THEN
			INSERT INTO cap.person (id) VALUES (1008);
	END;
	COMMIT;
END
$$;
CALL cap.commits();
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT count(*) FROM cap.person;
INSERT INTO cap.person (id) VALUES (1010);
COMMIT;
FETCH held;
CLOSE held;
SELECT cap.check('person');
-- one that writes when it is read at commit, and what is written by its place
CREATE FUNCTION cap.insert_person(id bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO cap.person (id) VALUES (insert_person.id);
	RETURN insert_person.id;
END
$$;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT cap.insert_person(i) FROM generate_series(1011, 1014) i;
COMMIT;
MOVE ALL held;
CLOSE held;
BEGIN;
DECLARE place CURSOR FOR SELECT FROM cap.person WHERE id IN (1012, 1013) ORDER BY id FOR UPDATE;
FETCH place;
UPDATE cap.person SET plan = 'x' WHERE CURRENT OF place;
FETCH place;
DELETE FROM cap.person WHERE CURRENT OF place;
COMMIT;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');
DROP FUNCTION cap.insert_person;

-- prepared: rolled back, committed; what is captured next in the session is not its
BEGIN;
INSERT INTO cap.person (id) VALUES (2001);
PREPARE TRANSACTION 'capture 1';
BEGIN;
INSERT INTO cap.person (id) VALUES (2002);
SAVEPOINT a;
INSERT INTO cap.person (id) VALUES (2003);
ROLLBACK TO a;
SAVEPOINT b;
INSERT INTO cap.person (id) SELECT i FROM generate_series(3000, 6000) i;
PREPARE TRANSACTION 'capture 2';
ROLLBACK PREPARED 'capture 1';
SELECT cap.check('person');
COMMIT PREPARED 'capture 2';
SELECT cap.check('person');
INSERT INTO cap.person (id) VALUES (2004);
SELECT cap.check('person');

/* ------------------------------------------------------------------------
 * Several syncs on one table
 * ------------------------------------------------------------------------ */

-- one key: the trigger is shared and watches what either sync reads
CREATE TABLE cap.account (id integer PRIMARY KEY, code text COLLATE "C" NOT NULL UNIQUE, email text, a text, b text, c text);
CALL cap.start('account_a', 'cap.account', 'id', '{a}');
SELECT iterable_create_sync('account_b', 'capture', 'cap.account', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_add_mapping('account_b', 'b', 'b');
SELECT iterable_enable_sync('account_b', 'updates_only');
SELECT iterable_disable_sync('account_b');
INSERT INTO cap.account VALUES (1, 'x', NULL, 'a', 'b', 'c');
UPDATE cap.account SET a = 'a2';
UPDATE cap.account SET b = 'b2', id = 1;
UPDATE cap.account SET c = 'c2';
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('account_a');

-- another key: a trigger of its own, with what that one reads
CALL cap.start('account_code', 'cap.account', 'code', '{c}');
UPDATE cap.account SET c = 'c3';
UPDATE cap.account SET a = 'a3';
UPDATE cap.account SET code = 'y';
UPDATE cap.account SET id = 2;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('account_a');
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('account_code');
SELECT cap.check('account_code');

-- a dropped sync is captured for no more
SELECT iterable_drop_sync('account_code');
UPDATE cap.account SET c = 'c4', code = 'z';
SELECT count(*) FROM cap.log('account_code');
DROP TABLE cap.account;

/* ------------------------------------------------------------------------
 * Columns
 * ------------------------------------------------------------------------ */

-- values that are stored elsewhere: left alone, set to the same, changed in their last byte
CREATE TABLE cap.big (filler text, id integer PRIMARY KEY, email text, body text, packed text, other integer);
ALTER TABLE cap.big ALTER body SET STORAGE EXTERNAL;
CALL cap.start('big', 'cap.big', 'id', '{body,packed}');
INSERT INTO cap.big VALUES ('', 1, NULL, repeat('b', 100000), repeat('p', 100000), 1);
SELECT pg_column_size(body) > 99000 AS is_external, pg_column_size(packed) < 2000 AS is_compressed FROM cap.big;
SELECT cap.check('big');
UPDATE cap.big SET other = 2;
UPDATE cap.big SET body = repeat('b', 100000), packed = repeat('p', 100000);
ALTER TABLE cap.big ALTER packed SET STORAGE EXTERNAL;
UPDATE cap.big SET packed = repeat('p', 100000);
SELECT cap.check('big');
UPDATE cap.big SET body = repeat('b', 99999) || 'c';
UPDATE cap.big SET packed = repeat('p', 99999);
UPDATE cap.big SET body = NULL;
SELECT cap.check('big', false);

-- columns that are dropped, added, renamed, computed; the trigger watches names
ALTER TABLE cap.big DROP filler;
UPDATE cap.big SET body = 'x';
UPDATE cap.big SET other = 3;
SELECT cap.check('big');
ALTER TABLE cap.big ADD extra text;
ALTER TABLE cap.big ADD added text DEFAULT 'fast default';
UPDATE cap.big SET extra = 'x';
SELECT cap.check('big');
SELECT iterable_add_mapping('big', 'added', 'added', apply => 'updates_only');
UPDATE cap.big SET added = 'fast default';
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('big');
UPDATE cap.big SET added = 'other';
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('big');
DROP TABLE cap.big;

CREATE TABLE cap.sum (
	dropped integer,
	a integer,
	id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	email text,
	doubled integer GENERATED ALWAYS AS (a * 2) STORED,
	parity integer GENERATED ALWAYS AS (a % 2) STORED
);
ALTER TABLE cap.sum DROP dropped;
CALL cap.start('sum', 'cap.sum', 'id', '{parity}');
INSERT INTO cap.sum (a) VALUES (1), (2);
UPDATE cap.sum SET a = a + 2;
SELECT cap.check('sum');
UPDATE cap.sum SET a = a + 1 WHERE id = 2;
SELECT cap.check('sum');

-- values of all lengths and alignments, NULL or not, half of them watched
CREATE TABLE cap.mixed (
	flag "char", gone bigint, small smallint, word text, truth boolean, id integer PRIMARY KEY, amount numeric,
	at timestamptz, email text, number uuid, bytes bytea, real float8, label name, code character(3), list integer[], big bigint
);
ALTER TABLE cap.mixed DROP gone;
CALL cap.start('mixed', 'cap.mixed', 'id', '{flag,word,amount,number,real,code,list}');
INSERT INTO cap.mixed (id) SELECT i FROM generate_series(1, 20) i;
ALTER TABLE cap.mixed ADD later text DEFAULT 'x';
DO $$
BEGIN
	FOR i IN 1..2000 LOOP
		EXECUTE (SELECT format('UPDATE cap.mixed SET %s WHERE id = %s', string_agg(format('%I = %s', c.name,
				CASE WHEN random() < 0.3 THEN 'NULL' ELSE quote_literal(c.given[1 + floor(random() * 2)]) END), ', '), 1 + i % 20)
			FROM (VALUES ('flag', '{a,b}'::text[]), ('small', '{1,2}'), ('word', '{"",longer}'), ('truth', '{t,f}'), ('amount', '{1,10000.00001}'),
				('at', '{2026-01-01,2026-01-02}'), ('email', '{a@example.com,b@example.com}'),
				('number', '{00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000002}'), ('bytes', '{a,abc}'), ('real', '{0,-0}'),
				('label', '{a,b}'), ('code', '{a,b}'), ('list', ARRAY['{1}', '{1,2}']), ('big', '{1,2}'), ('later', '{x,y}')) c (name, given)
			WHERE random() < 0.15 OR c.name = CASE WHEN i % 2 = 0 THEN 'small' ELSE 'big' END);
	END LOOP;
END
$$;
SELECT cap.check('mixed', false);
DROP TABLE cap.mixed;

-- a table as wide as it can be
DO $$
BEGIN
	EXECUTE (SELECT format('CREATE TABLE cap.broad (%s, id integer PRIMARY KEY, email text, %s)',
		string_agg(format('a%s integer', i), ', ') FILTER (WHERE i <= 800), string_agg(format('a%s integer', i), ', ') FILTER (WHERE i > 800))
		FROM generate_series(1, 1598) i);
END
$$;
CALL cap.start('broad', 'cap.broad', 'id', '{a1598}');
INSERT INTO cap.broad (id, a1) VALUES (1, 1), (2, 1);
UPDATE cap.broad SET a1 = 2, a1597 = 2;
UPDATE cap.broad SET a1598 = 3 WHERE id = 1;
UPDATE cap.broad SET a1598 = 3, a800 = 3;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('broad');
SELECT cap.check('broad');
ALTER TABLE cap.broad DISABLE TRIGGER audit_row_broad;
DO $$
BEGIN
	EXECUTE (SELECT 'ALTER TABLE cap.broad ' || string_agg(format('DROP a%s', i), ', ') FROM generate_series(2, 1596, 2) i);
END
$$;
UPDATE cap.broad SET a1597 = 4;
UPDATE cap.broad SET a1598 = 4;
-- all of its columns are read
SELECT iterable_add_mapping('broad', 'all', expression => 'to_jsonb(broad)', apply => 'updates_only');
UPDATE cap.broad SET a1597 = 5 WHERE id = 1;
UPDATE cap.broad SET a1597 = 5;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('broad');
DROP TABLE cap.broad;

-- the mapped column is gone: every change counts, until it is back
ALTER TABLE cap.sum DISABLE TRIGGER audit_row_sum;
ALTER TABLE cap.sum RENAME parity TO odd;
UPDATE cap.sum SET a = a + 2 WHERE id = 1;
UPDATE cap.sum SET a = a WHERE id = 2;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('sum');
ALTER TABLE cap.sum RENAME odd TO parity;
UPDATE cap.sum SET a = a + 2;
SELECT string_agg(op || key, ' ' ORDER BY seq, place) FROM cap.log('sum');

-- the key column is gone: it is said once a (sub)transaction that the key is lost, until it is back
UPDATE cap.seen SET seq = (SELECT max(seq) FROM iterable.change) WHERE sync = 'sum';
ALTER TABLE cap.sum RENAME id TO number;
INSERT INTO cap.sum (a) VALUES (5), (6), (7);
BEGIN;
UPDATE cap.sum SET a = 8;
SAVEPOINT a;
DELETE FROM cap.sum WHERE a = 8;
DELETE FROM cap.sum;
ROLLBACK TO a;
DELETE FROM cap.sum WHERE number = 3;
COMMIT;
ALTER TABLE cap.sum RENAME number TO id;
INSERT INTO cap.sum (a) VALUES (5);
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('sum');

-- the key is NULL, or of a type without canonical text
ALTER TABLE cap.sum DROP CONSTRAINT sum_pkey, ALTER id DROP IDENTITY, ALTER id DROP NOT NULL;
INSERT INTO cap.sum VALUES (1, NULL), (1, 40);
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('sum');
ALTER TABLE cap.sum ALTER id TYPE double precision;
INSERT INTO cap.sum VALUES (1, 41);
ALTER TABLE cap.sum ALTER id TYPE bigint;
INSERT INTO cap.sum VALUES (1, 42);
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('sum');
DROP TABLE cap.sum;

/* ------------------------------------------------------------------------
 * Keys have one text, whatever the session's settings are
 * ------------------------------------------------------------------------ */

CREATE TYPE cap.mood AS ENUM ('happy', 'so so', 'it''s "bad"', '');
CREATE TABLE cap.key (
	n integer PRIMARY KEY,
	email text,
	v text,
	k_int2 smallint NOT NULL UNIQUE,
	k_int4 integer NOT NULL UNIQUE,
	k_int8 bigint NOT NULL UNIQUE,
	k_numeric numeric NOT NULL UNIQUE,
	k_text text COLLATE "C" NOT NULL UNIQUE,
	k_varchar varchar(30) NOT NULL UNIQUE,
	k_uuid uuid NOT NULL UNIQUE,
	k_mood cap.mood NOT NULL UNIQUE,
	k_date date NOT NULL UNIQUE,
	k_timestamp timestamp NOT NULL UNIQUE,
	k_timestamptz timestamptz NOT NULL UNIQUE,
	k_bool boolean NOT NULL,
	UNIQUE (k_bool, n),
	UNIQUE (k_text, k_int8, k_timestamptz, k_mood, k_numeric)
);
DO $$
DECLARE
	field text;
	expression text;
BEGIN
	FOR field, expression IN VALUES
		('k_int2', NULL), ('k_int4', NULL), ('k_int8', NULL), ('k_numeric', 'trim_scale(k_numeric)::text'), ('k_text', NULL), ('k_varchar', NULL), ('k_uuid', NULL),
		('k_mood', NULL), ('k_date', NULL), ('k_timestamp', NULL), ('k_timestamptz', NULL),
		('{k_bool,n}', 'json_build_array(k_bool::text, n::text)::text'),
		('{k_text,k_int8,k_timestamptz,k_mood,k_numeric}', 'json_build_array(k_text, k_int8::text, k_timestamptz::text, k_mood::text, trim_scale(k_numeric)::text)::text') LOOP
		CALL cap.start('key_' || translate(field, '{},', '__'), 'cap.key', field, '{v}', expression);
	END LOOP;
END
$$;
-- what all sources have captured since the last call, compared
CREATE FUNCTION cap.check_keys() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	SELECT string_agg(DISTINCT cap.check(sync), ', ') INTO result FROM cap.seen WHERE sync ~ '^key_';
	RETURN result;
END
$$;
INSERT INTO cap.key VALUES
	(1, NULL, '', -32768, -2147483648, -9223372036854775808, '-0.000', '', '', '00000000-0000-0000-0000-000000000000', 'happy', '-infinity', '-infinity', '-infinity', false),
	(2, NULL, '', 32767, 2147483647, 9223372036854775807, 'NaN', E'tab\there "quoted" \\ and \xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\x01', E'\n', 'A0EEBC999C0B4EF8BB6D6BB9BD380A11', 'so so', '0044-03-15 BC', '0044-03-15 12:00:00.000001 BC', '0044-03-15 12:00+00 BC', true),
	(3, NULL, '', 0, 0, 0, '1200.50', ' blank ', 'O''Neill', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'it''s "bad"', '2024-02-29', '2024-02-29 23:59:59.999999', '2024-03-31 02:30:00.5+01', true),
	(4, NULL, '', 1, 1, 1, '1e30', 'NULL', 'null', '12345678-1234-1234-1234-123456789abc', '', 'infinity', 'infinity', '10000-01-01 00:00+00', true);
SELECT sync, op, to_json(key) AS key FROM (SELECT sync FROM cap.seen WHERE sync ~ '^key_') s CROSS JOIN LATERAL cap.log(s.sync) ORDER BY sync COLLATE "C", seq, place;
SELECT cap.check_keys();

SET DateStyle = 'German, DMY';
SET TimeZone = 'Asia/Kolkata';
SET extra_float_digits = -15;
SET IntervalStyle = 'sql_standard';
UPDATE cap.key SET v = v || 'a';
SELECT cap.check_keys();
SET DateStyle = 'SQL, MDY';
SET TimeZone = 'America/New_York';
SET extra_float_digits = 3;
SET lc_numeric = 'C';
SET bytea_output = 'escape';
SET quote_all_identifiers = on;
SET standard_conforming_strings = off;
SET array_nulls = off;
UPDATE cap.key SET v = v || 'b';
SELECT cap.check_keys();
SET DateStyle = 'Postgres, YMD';
SET TimeZone = '<X>-15:59';
DELETE FROM cap.key WHERE n > 2;
SELECT cap.check_keys();
RESET ALL;

-- equal numbers that are written in other ways have one key
BEGIN;
DELETE FROM cap.key WHERE n = 2;
UPDATE cap.key SET k_numeric = 100;
UPDATE cap.key SET k_numeric = 100.000;
UPDATE cap.key SET k_numeric = 1e2;
UPDATE cap.key SET k_numeric = -0.0100;
UPDATE cap.key SET k_numeric = '-Infinity';
COMMIT;
SELECT string_agg(DISTINCT key, ' ' ORDER BY key) FROM cap.log('key_k_numeric');
SELECT cap.check('key_k_numeric', false);

/* ------------------------------------------------------------------------
 * Partitions
 * ------------------------------------------------------------------------ */

CREATE TABLE cap.sale (id integer, region text COLLATE "C", email text, amount numeric, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE cap.sale_n PARTITION OF cap.sale FOR VALUES IN ('n');
-- a leaf two levels below, whose columns are in other places
CREATE TABLE cap.sale_s PARTITION OF cap.sale FOR VALUES IN ('s') PARTITION BY RANGE (id);
CREATE TABLE cap.sale_s_1 (gone integer, amount numeric, email text, region text COLLATE "C" NOT NULL, id integer NOT NULL);
ALTER TABLE cap.sale_s_1 DROP gone;
ALTER TABLE cap.sale_s ATTACH PARTITION cap.sale_s_1 FOR VALUES FROM (0) TO (100);
CALL cap.start('sale', 'cap.sale', '{id,region}', '{amount}', 'json_build_array(id::text, region)::text');
INSERT INTO cap.sale VALUES (1, 'n'), (2, 's');
INSERT INTO cap.sale_s_1 (id, region) VALUES (3, 's');
INSERT INTO cap.sale_s VALUES (4, 's');
COPY cap.sale (id, region) FROM stdin;
5	n
6	s
\.
UPDATE cap.sale SET amount = 1;
UPDATE cap.sale_s_1 SET amount = 1;
SELECT cap.check('sale');
-- moves between partitions, with and without another change, by the root alone
UPDATE cap.sale SET region = 's' WHERE id = 1;
UPDATE cap.sale SET region = 'n', amount = 2 WHERE id IN (2, 3);
UPDATE cap.sale SET id = 200 WHERE id = 5;
UPDATE cap.sale_n SET region = 's' WHERE id = 200;
SELECT op, key FROM cap.log('sale');
SELECT cap.check('sale');
INSERT INTO cap.sale VALUES (1, 's', 'x', 5), (7, 'n', NULL, 5) ON CONFLICT (id, region) DO UPDATE SET amount = excluded.amount;
MERGE INTO cap.sale s USING (VALUES (1), (7), (8)) v (id) ON s.id = v.id AND s.region IN ('n', 's')
	WHEN MATCHED AND s.id = 7 THEN UPDATE SET region = 's'
	WHEN MATCHED THEN DELETE
	WHEN NOT MATCHED THEN INSERT (id, region) VALUES (v.id, 'n');
SELECT cap.check('sale');
-- partitions that come and go
CREATE TABLE cap.sale_w PARTITION OF cap.sale FOR VALUES IN ('w');
INSERT INTO cap.sale VALUES (1, 'w');
INSERT INTO cap.sale_w VALUES (2, 'w');
SELECT cap.check('sale');
ALTER TABLE cap.sale DETACH PARTITION cap.sale_w;
INSERT INTO cap.sale_w VALUES (3, 'w');
SELECT cap.check('sale');
-- TRUNCATE of the root, of a leaf, of what is between, by the way; once each
TRUNCATE cap.sale;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('sale');
SELECT cap.check('sale');
ALTER TABLE cap.sale DISABLE TRIGGER audit_truncate_sale;
CREATE TRIGGER audit_truncate_n AFTER TRUNCATE ON cap.sale_n EXECUTE FUNCTION cap.audit_truncate('sale');
CREATE TRIGGER audit_truncate_s AFTER TRUNCATE ON cap.sale_s_1 EXECUTE FUNCTION cap.audit_truncate('sale');
TRUNCATE cap.sale_n;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('sale');
BEGIN;
INSERT INTO cap.sale VALUES (1, 'n'), (2, 's');
TRUNCATE ONLY cap.sale_n;
INSERT INTO cap.sale VALUES (1, 'n');
SAVEPOINT a;
TRUNCATE cap.sale_s;
INSERT INTO cap.sale VALUES (3, 's');
ROLLBACK TO a;
TRUNCATE cap.sale_n;
SAVEPOINT b;
TRUNCATE cap.sale_s_1, cap.sale_n;
RELEASE b;
COMMIT;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('sale');
SELECT cap.check('sale');
CREATE TABLE cap.refund (id integer, region text COLLATE "C", FOREIGN KEY (id, region) REFERENCES cap.sale);
SET session_replication_role = replica;
TRUNCATE cap.sale_s_1 CASCADE;
RESET session_replication_role;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('sale');
DROP TABLE cap.refund;
-- a partition that is a source itself, whoever moves rows into it and out of it
CREATE UNIQUE INDEX ON cap.sale_n (id);
CALL cap.start('sale_n', 'cap.sale_n', 'id', '{amount}');
INSERT INTO cap.sale VALUES (11, 'n'), (12, 'n'), (13, 's');
UPDATE cap.sale SET amount = 3;
UPDATE cap.sale SET region = 's' WHERE id = 11;
UPDATE cap.sale SET region = 'n', amount = 4 WHERE id = 13;
DELETE FROM cap.sale WHERE id = 12;
TRUNCATE cap.sale;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('sale_n');
SELECT cap.check('sale_n');
DROP TABLE cap.sale, cap.sale_w;

-- a child that inherits, changed by itself and by its parent
CREATE TABLE cap.being (id integer PRIMARY KEY, email text);
CREATE TABLE cap.cat (name text, PRIMARY KEY (id)) INHERITS (cap.being);
CALL cap.start('cat', 'cap.cat', 'id', '{name}');
INSERT INTO cap.cat VALUES (1, NULL, 'a'), (2, NULL, 'b'), (3, NULL, 'c');
INSERT INTO cap.being VALUES (1), (4);
UPDATE cap.being SET email = 'x@example.com' WHERE id IN (1, 4);
UPDATE cap.cat SET name = 'd' WHERE id = 2;
DELETE FROM cap.being WHERE id = 3;
DELETE FROM ONLY cap.being;
TRUNCATE cap.being;
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('cat');
SELECT cap.check('cat');
DROP TABLE cap.being CASCADE;

/* ------------------------------------------------------------------------
 * Who writes, and how
 * ------------------------------------------------------------------------ */

TRUNCATE cap.person;
SELECT cap.check('person');
CREATE ROLE regress_capture_writer;
GRANT USAGE ON SCHEMA cap TO regress_capture_writer;
GRANT INSERT, UPDATE, DELETE, TRUNCATE, SELECT ON cap.person TO regress_capture_writer;
-- not even the rights that everybody has
REVOKE ALL ON SCHEMA iterable FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA iterable FROM PUBLIC;
SET ROLE regress_capture_writer;
INSERT INTO cap.person VALUES (1);
UPDATE cap.person SET plan = 'x';
INSERT INTO cap.person SELECT i FROM generate_series(2, 6000) i;
TRUNCATE cap.person;
BEGIN;
INSERT INTO cap.person VALUES (1);
SAVEPOINT a;
DELETE FROM cap.person;
ROLLBACK TO a;
UPDATE cap.person SET plan = 'x';
COMMIT;
SELECT count(*) FROM iterable.change;
SELECT current_user;
RESET ROLE;
GRANT USAGE ON SCHEMA iterable TO PUBLIC;
SELECT cap.check('person');

-- policies do not keep changes from being captured
ALTER TABLE cap.person ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON cap.person USING (id < 100) WITH CHECK (true);
SET ROLE regress_capture_writer;
INSERT INTO cap.person VALUES (99), (100);
UPDATE cap.person SET plan = 'y';
SET row_security = off;
DELETE FROM cap.person;
RESET row_security;
DELETE FROM cap.person;
RESET ROLE;
SELECT cap.check('person');
ALTER TABLE cap.person DISABLE ROW LEVEL SECURITY;
DELETE FROM cap.person;
SELECT cap.check('person');

-- views: updatable ones, with rules, with triggers of their own; rules of the table
CREATE VIEW cap.pro AS SELECT id, plan FROM cap.person WHERE plan = 'pro' WITH CHECK OPTION;
INSERT INTO cap.pro VALUES (1, 'pro'), (2, 'pro');
INSERT INTO cap.pro VALUES (3, 'free');
UPDATE cap.pro SET id = 4 WHERE id = 2;
UPDATE cap.pro SET plan = 'free' WHERE id = 4;
DELETE FROM cap.pro WHERE id = 1;
CREATE VIEW cap.ruled AS SELECT DISTINCT id, plan FROM cap.person;
CREATE RULE ins AS ON INSERT TO cap.ruled DO INSTEAD INSERT INTO cap.person (id, plan) VALUES (NEW.id, NEW.plan), (-NEW.id, NEW.plan);
CREATE RULE upd AS ON UPDATE TO cap.ruled DO INSTEAD UPDATE cap.person SET plan = NEW.plan WHERE id = OLD.id;
CREATE RULE del AS ON DELETE TO cap.ruled DO INSTEAD (DELETE FROM cap.person WHERE id = OLD.id; DELETE FROM cap.person WHERE id = -OLD.id);
INSERT INTO cap.ruled VALUES (5, 'a');
UPDATE cap.ruled SET plan = 'b' WHERE abs(id) = 5;
DELETE FROM cap.ruled WHERE id = 5;
CREATE VIEW cap.instead AS SELECT count(*) AS n FROM cap.person;
CREATE FUNCTION cap.delete_person(id bigint) RETURNS bigint LANGUAGE sql
BEGIN ATOMIC
	DELETE FROM cap.person p WHERE p.id = delete_person.id RETURNING p.id;
END;
CREATE FUNCTION cap.instead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO cap.person (id) VALUES (NEW.n);
	EXECUTE 'UPDATE cap.person SET plan = $1 WHERE id = $2' USING 'c', NEW.n;
	PERFORM cap.delete_person(4);
	RETURN NEW;
END
$$;
CREATE TRIGGER instead INSTEAD OF INSERT ON cap.instead FOR EACH ROW EXECUTE FUNCTION cap.instead();
INSERT INTO cap.instead VALUES (6);
CREATE RULE twice AS ON UPDATE TO cap.person WHERE OLD.id = 6 DO ALSO INSERT INTO cap.person (id) VALUES (OLD.id + 1);
UPDATE cap.person SET plan = 'd';
SELECT string_agg(concat(op, key), ' ' ORDER BY seq, place) FROM cap.log('person');
SELECT cap.check('person');
DROP RULE twice ON cap.person;
DROP VIEW cap.pro, cap.ruled, cap.instead;
DROP FUNCTION cap.instead, cap.delete_person;
DELETE FROM cap.person;
SELECT cap.check('person');

-- a search_path full of traps
CREATE SCHEMA evil;
CREATE FUNCTION evil.trap() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION evil.nextval(regclass) RETURNS bigint LANGUAGE sql RETURN evil.trap()::text::bigint;
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql RETURN evil.trap()::text::timestamptz;
CREATE FUNCTION evil.pg_current_xact_id() RETURNS xid8 LANGUAGE sql RETURN evil.trap()::text::xid8;
CREATE FUNCTION evil.pg_sequence_last_value(regclass) RETURNS bigint LANGUAGE sql RETURN evil.trap()::text::bigint;
CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE sql RETURN evil.trap()::text::boolean;
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.trap() IS NULL);
CREATE DOMAIN evil.xid8 AS pg_catalog.xid8 CHECK (evil.trap() IS NULL);
CREATE TABLE evil.change (trap integer CHECK (evil.trap() IS NULL));
CREATE SEQUENCE evil.change_seq;
CREATE SEQUENCE evil.change_segment;
SET search_path = evil, pg_temp, pg_catalog;
INSERT INTO cap.person VALUES (1), (2);
UPDATE cap.person SET plan = 'x';
INSERT INTO cap.key SELECT 5, NULL, '', 5, 5, 5, 5, '5', '5', '12345678-1234-1234-1234-123456789abd', 'it''s "bad"', '2020-01-01', '2020-01-01', '2020-01-01', true;
RESET search_path;
SELECT cap.check('person'), cap.check_keys();
SET search_path = '';
DELETE FROM cap.person;
RESET search_path;
SELECT cap.check('person');
DROP SCHEMA evil CASCADE;

-- settings that would be in the way of SQL
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
SET default_table_access_method = heap2;
SET default_toast_compression = pglz;
SET default_tablespace = 'pg_default';
SET session_replication_role = replica;
SET default_transaction_isolation = 'serializable';
SET transform_null_equals = on;
SET enable_indexscan = off;
SET client_min_messages = error;
SET debug_print_plan = off;
SET check_function_bodies = off;
SET statement_timeout = '10min';
SET synchronous_commit = off;
SET work_mem = '64kB';
SET xmlbinary = hex;
SET client_encoding = 'LATIN1';
SET plpgsql.variable_conflict = use_column;
INSERT INTO cap.person (id) SELECT i FROM generate_series(1, 6000) i;
DELETE FROM cap.person WHERE id > 1;
RESET ALL;
DROP ACCESS METHOD heap2;
SELECT cap.check('person');
-- a role set by a function, a SECURITY DEFINER function, a changed owner
CREATE FUNCTION cap.insert_person(id bigint) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' SET DateStyle = 'German'
BEGIN ATOMIC
	INSERT INTO cap.person (id) VALUES (insert_person.id);
END;
ALTER FUNCTION cap.insert_person OWNER TO regress_capture_writer;
SELECT cap.insert_person(10);
ALTER TABLE cap.person OWNER TO regress_capture_writer;
INSERT INTO cap.person (id) VALUES (11);
ALTER TABLE cap.person OWNER TO CURRENT_USER;
SELECT cap.check('person');
DROP FUNCTION cap.insert_person;
REVOKE ALL ON cap.person FROM regress_capture_writer;
REVOKE ALL ON SCHEMA cap FROM regress_capture_writer;
DROP ROLE regress_capture_writer;

/* ------------------------------------------------------------------------
 * Buffers that are written when they are full, in every combination of levels
 * ------------------------------------------------------------------------ */

CREATE TABLE cap.wide (id text COLLATE "C" PRIMARY KEY, email text, plan text);
CALL cap.start('wide', 'cap.wide', 'id', '{plan}', 'id');

-- A key has 1000 bytes, so 34 of them are more than a buffer holds.
CREATE SEQUENCE cap.wide_number;
CREATE FUNCTION cap.wide_keys(number integer) RETURNS void LANGUAGE sql
BEGIN ATOMIC
	INSERT INTO cap.wide (id) SELECT rpad(nextval('cap.wide_number')::text || ' ', 1000, 'x') FROM generate_series(1, number);
END;

-- before, in an inner block, in one within that, after either; both end well or not
CREATE PROCEDURE cap.combine(sizes integer[]) LANGUAGE plpgsql AS $$
DECLARE
	size integer[];
	fails boolean[];
BEGIN
	FOR size IN SELECT ARRAY[a, b, c, d, e] FROM unnest(sizes) a, unnest(sizes) b, unnest(sizes) c, unnest(sizes) d, unnest(sizes) e LOOP
		FOREACH fails SLICE 1 IN ARRAY ARRAY[[false, false], [false, true], [true, false], [true, true]] LOOP
			PERFORM cap.wide_keys(size[1]);
			BEGIN
				PERFORM cap.wide_keys(size[2]);
				BEGIN
					PERFORM cap.wide_keys(size[3]);
					IF fails[2] THEN
						RAISE division_by_zero;
					END IF;
				EXCEPTION
					WHEN division_by_zero THEN NULL;
				END;
				PERFORM cap.wide_keys(size[4]);
				IF fails[1] THEN
					RAISE division_by_zero;
				END IF;
			EXCEPTION
				WHEN division_by_zero THEN NULL;
			END;
			PERFORM cap.wide_keys(size[5]);
			COMMIT;
		END LOOP;
	END LOOP;
END
$$;
CALL cap.combine('{0,1,34}');
SELECT count(*) FROM cap.log('wide');
SELECT cap.check('wide', false);
TRUNCATE cap.wide;
SELECT cap.check('wide');

/* ------------------------------------------------------------------------
 * A model: random operations on two sources in nested blocks that fail or not
 * ------------------------------------------------------------------------ */

TRUNCATE cap.person;
SELECT cap.check('person');

CREATE FUNCTION cap.dice(sides integer) RETURNS integer LANGUAGE sql VOLATILE
RETURN 1 + floor(random() * sides)::integer;

CREATE FUNCTION cap.operate() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CASE cap.dice(14)
		WHEN 1, 2, 3 THEN
			INSERT INTO cap.person (id, plan) VALUES (cap.dice(60), cap.dice(3)::text) ON CONFLICT DO NOTHING;
		WHEN 4, 5 THEN
			UPDATE cap.person SET plan = cap.dice(3)::text WHERE id = cap.dice(60);
		WHEN 6 THEN
			UPDATE cap.person SET plan = cap.dice(2)::text, city = 'x' WHERE id % 7 = cap.dice(7) - 1;
		WHEN 7 THEN
			UPDATE cap.person SET city = cap.dice(9)::text WHERE id % 5 = 0;
		WHEN 8 THEN
			DELETE FROM cap.person WHERE id = cap.dice(60);
		WHEN 9 THEN
			UPDATE cap.person SET id = -id WHERE id = (SELECT max(id) FROM cap.person);
			UPDATE cap.person SET id = -id WHERE id < 0;
		WHEN 10, 11 THEN
			PERFORM cap.wide_keys(cap.dice(50));
		WHEN 12 THEN
			UPDATE cap.wide SET plan = cap.dice(3)::text WHERE ctid = ANY (ARRAY(SELECT ctid FROM cap.wide LIMIT cap.dice(30)));
		WHEN 13 THEN
			DELETE FROM cap.wide WHERE ctid = ANY (ARRAY(SELECT ctid FROM cap.wide LIMIT cap.dice(60)));
		WHEN 14 THEN
			IF cap.dice(10) = 1 THEN
				TRUNCATE cap.person, cap.wide;
			END IF;
	END CASE;
END
$$;

CREATE FUNCTION cap.work(depth integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..cap.dice(7) LOOP
		IF depth < 6 AND cap.dice(3) = 1 THEN
			BEGIN
				PERFORM cap.work(depth + 1);
				IF cap.dice(5) <= 2 THEN
					RAISE division_by_zero;
				END IF;
			EXCEPTION
				WHEN division_by_zero THEN NULL;
			END;
		ELSE
			PERFORM cap.operate();
		END IF;
	END LOOP;
END
$$;

CREATE PROCEDURE cap.model(seed double precision, transactions integer) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM setseed(seed);
	FOR i IN 1..transactions LOOP
		PERFORM cap.work(0);
		IF cap.dice(6) = 1 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END
$$;
CALL cap.model(0.1, 120);
SELECT count(*) > 1000 AS is_much FROM cap.audit;
SELECT cap.check('person', false), cap.check('wide', false);
CALL cap.model(0.2, 120);
SELECT count(*) > 1000 AS is_much FROM cap.audit;
SELECT cap.check('person', false), cap.check('wide', false);
CALL cap.model(0.3, 120);
SELECT count(*) > 1000 AS is_much FROM cap.audit;
SELECT cap.check('person', false), cap.check('wide', false);
DROP TABLE cap.wide CASCADE;

/* ------------------------------------------------------------------------ */

SET client_min_messages = warning;
SELECT count(iterable_drop_sync(name)::text) > 0 AS dropped FROM iterable.sync WHERE connection = 'capture';
DROP SCHEMA cap CASCADE;
DROP SERVER capture CASCADE;
