--
-- What a sync would do: iterable_explain(), iterable_preview() of some keys;
-- what iterable_send_row() refuses before it makes a request
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('explain', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9',
	users_rate => 4, events_rate => 8);
CREATE SCHEMA explain;
CREATE TABLE explain.person (id int PRIMARY KEY, email text, consent boolean, note text);
INSERT INTO explain.person
SELECT i, CASE WHEN i % 10 = 0 THEN 'nowhere' WHEN i % 10 = 9 THEN NULL ELSE 'p' || i || '@example.com' END, i % 10 <> 8, 'x'
FROM generate_series(1, 30) i;
CREATE VIEW explain.sync AS SELECT * FROM iterable.sync WHERE name ~ '^explain_';

SELECT iterable_create_sync('explain_' || mode, 'explain', 'explain.person', 'user', 'id', 'email', mode => mode, filter => 'consent')
FROM unnest('{upsert,insert,update}'::text[]) mode;
SELECT iterable_create_sync('explain_event_' || mode, 'explain', 'explain.person', 'event', 'id', 'email', mode => mode)
FROM unnest('{upsert,update}'::text[]) mode;
SELECT iterable_add_mapping('explain_event_' || mode, 'eventName', constant => 'Seen') FROM unnest('{upsert,update}'::text[]) mode;
SELECT iterable_add_mapping('explain_event_update', 'id', expression => '''seen-'' || id');
SELECT iterable_add_mapping(name, 'note', column_name => 'note') FROM explain.sync ORDER BY name;

-- nothing is remembered yet
SELECT s.name, e.* FROM explain.sync s, iterable_explain(s.name) e ORDER BY s.name COLLATE "C", outcome, reason;

-- what was accepted before, by hash; what vanished or left; what failed
CREATE FUNCTION explain.remember(of text, keys int[], state "char") RETURNS void LANGUAGE sql
AS $$INSERT INTO iterable.sync_delivery SELECT sync_id, k, 'p' || k || '@example.com', 0, state, now()
	FROM iterable.sync, unnest(keys) k WHERE name = of$$;
SELECT explain.remember(name, '{1,2,3}', 'a'), explain.remember(name, '{4}', 'v'), explain.remember(name, '{5}', 's')
FROM explain.sync WHERE name <> 'explain_event_upsert' ORDER BY name;
SELECT s.name, e.* FROM explain.sync s, iterable_explain(s.name) e WHERE s.name <> 'explain_event_upsert'
ORDER BY s.name COLLATE "C", outcome, reason;

-- batches: at most 1000 rows, one row a user
INSERT INTO explain.person SELECT i, 'p' || i || '@example.com', true, 'x' FROM generate_series(1001, 3500) i;
SELECT outcome, reason, rows, requests, bytes > 100000 AS large, seconds, example FROM iterable_explain('explain_upsert') WHERE outcome = 'send';
SELECT outcome, rows, requests, seconds, example FROM iterable_explain('explain_update') WHERE outcome = 'look up';
SELECT outcome, rows, requests, seconds, example FROM iterable_explain('explain_event_upsert') WHERE outcome = 'send';
BEGIN;
UPDATE explain.person SET email = 'P1@example.com' WHERE id IN (1001, 2001);
SELECT outcome, rows, requests, seconds FROM iterable_explain('explain_upsert') WHERE outcome = 'send';
ROLLBACK;
-- and 4 MB
BEGIN;
UPDATE explain.person SET note = repeat('x', 1000000) WHERE id IN (1001, 1002, 1003, 1004, 1005);
SELECT outcome, rows, requests, bytes > 5000000 AS large FROM iterable_explain('explain_upsert') WHERE outcome = 'send';
ROLLBACK;
SELECT count(*) FROM iterable.failure WHERE sync ~ '^explain';

TRUNCATE explain.person;
SELECT * FROM iterable_explain('explain_upsert');
SELECT * FROM iterable_explain('nobody');
SELECT * FROM iterable_explain(NULL);

--
-- Preview: keys, and the filter
--
INSERT INTO explain.person SELECT i, 'p' || i || '@example.com', i % 100 = 0, 'x' FROM generate_series(1, 2500) i;
UPDATE explain.person SET email = 'nowhere' WHERE id = 200;
SELECT key, payload ->> 'email' AS email, problem FROM iterable_preview('explain_upsert', 3);
SELECT count(*), min(key::int), max(key::int) FROM iterable_preview('explain_upsert', 100);
SELECT * FROM iterable_preview('explain_upsert', keys => '{300,1,200,-5,300,word,0300,1,NULL2}');
SELECT key FROM iterable_preview('explain_upsert', 1, '{100,400,500}');
SELECT * FROM iterable_preview('explain_upsert', keys => '{}');
SELECT count(*), count(payload) FROM iterable_preview('explain_upsert', keys => (SELECT array_agg(id::text) FROM explain.person));
SELECT * FROM iterable_preview('explain_upsert', keys => '{100,NULL}');
BEGIN;
INSERT INTO explain.person VALUES (9999, 'new@example.com', true, NULL);
SELECT key, payload FROM iterable_preview('explain_upsert', keys => '{9999}');
ROLLBACK;

--
-- A row that is sent by hand
--
SELECT iterable_send_row(NULL, '1');
SELECT iterable_send_row('explain_upsert', NULL);
SELECT iterable_send_row('nobody', '1');
BEGIN; CREATE TEMP TABLE x (); SELECT iterable_send_row('explain_upsert', '100'); ROLLBACK;
BEGIN; UPDATE explain.person SET note = 'y' WHERE id = 100; SELECT iterable_send_row('explain_upsert', '100'); ROLLBACK;
BEGIN READ ONLY; SELECT iterable_send_row('explain_upsert', '100'); ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT iterable_send_row('explain_upsert', '100'); ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT iterable_send_row('explain_upsert', '100'); ROLLBACK;
SELECT * FROM iterable_send_row('explain_upsert', '-1');
SELECT * FROM iterable_send_row('explain_upsert', '1');
SELECT * FROM iterable_send_row('explain_upsert', '200');
SELECT key, class FROM iterable.failure WHERE sync = 'explain_upsert';
-- nobody answers at this address
SELECT request, status, answer, verdict ~ '^retry: no answer: ' AS retry FROM iterable_send_row('explain_upsert', '100');
SELECT key FROM iterable.failure WHERE sync = 'explain_upsert';
SELECT iterable_update_sync('explain_upsert', dry_run => true);
SELECT * FROM iterable_send_row('explain_upsert', '100');
SELECT * FROM iterable_send_row('explain_upsert', '101');

-- rights
CREATE ROLE regress_iterable_explain;
SET ROLE regress_iterable_explain;
SELECT * FROM iterable_explain('explain_upsert');
SELECT * FROM iterable_preview('explain_upsert', keys => '{100}');
SELECT * FROM iterable_send_row('explain_upsert', '100');
RESET ROLE;
-- of the owner: the connection
CREATE ROLE regress_iterable_seller;
GRANT USAGE ON FOREIGN SERVER explain TO regress_iterable_seller;
GRANT USAGE ON SCHEMA explain TO regress_iterable_seller;
ALTER TABLE explain.person OWNER TO regress_iterable_seller;
SET ROLE regress_iterable_seller;
SELECT iterable_create_sync('sold', 'explain', 'explain.person', 'user', 'id', 'email');
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER explain FROM regress_iterable_seller;
SELECT * FROM iterable_send_row('sold', '100');
SELECT * FROM iterable_explain('sold');

-- a copy of the database
SET client_min_messages = error;
SELECT iterable_enable_sync('explain_event_upsert', 'updates_only');
RESET client_min_messages;
UPDATE iterable.sync_state SET identity = 'elsewhere' WHERE sync_id = (SELECT sync_id FROM iterable.sync WHERE name = 'explain_event_upsert');
SELECT * FROM iterable_send_row('explain_event_upsert', '100');
DELETE FROM iterable.sync_state WHERE sync_id = (SELECT sync_id FROM iterable.sync WHERE name = 'explain_event_upsert');
SELECT * FROM iterable_send_row('explain_event_upsert', '100');

-- a connection that is stopped
INSERT INTO iterable.connection_state SELECT 'explain', now(), 'Iterable answered with status 401', 0;
SELECT verdict ~ '^retry: no answer: ' AS "another key is tried" FROM iterable_send_row('explain_insert', '100');
DELETE FROM iterable.connection_state WHERE connection = 'explain';

SET client_min_messages = warning;
DROP SCHEMA explain CASCADE;
DROP SERVER explain CASCADE;
SELECT iterable_drop_sync(name) FROM iterable.sync WHERE name ~ '^explain_|^sold$' ORDER BY name;
DROP ROLE regress_iterable_explain, regress_iterable_seller;
