--
-- Who may do what: roles, owners, names that were taken over, planted objects
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('rights', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');

CREATE ROLE regress_iterable_owner;
CREATE ROLE regress_iterable_member;
CREATE ROLE regress_iterable_noinherit NOINHERIT;
CREATE ROLE regress_iterable_other;
GRANT regress_iterable_owner TO regress_iterable_member, regress_iterable_noinherit;

CREATE SCHEMA shop;
GRANT USAGE, CREATE ON SCHEMA shop TO regress_iterable_owner, regress_iterable_other, regress_iterable_noinherit;

SET ROLE regress_iterable_owner;
CREATE TABLE shop.customer (id bigint PRIMARY KEY, email text, plan text);
INSERT INTO shop.customer VALUES (1, 'a@example.com', 'free');
RESET ROLE;

CREATE VIEW shop.syncs AS
SELECT s.name, s.owner, s.enabled, s.version, t.sync_id IS NOT NULL AS has_state,
	(SELECT count(*) FROM iterable.mapping m WHERE m.sync_id = s.sync_id) AS mappings,
	(SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = to_regclass('shop.customer') AND NOT g.tgisinternal) AS triggers
FROM iterable.sync s JOIN iterable.source c USING (source_id) LEFT JOIN iterable.sync_state t USING (sync_id)
WHERE c.schema_name = 'shop'
ORDER BY s.name;

\pset format unaligned

--
-- The connection: USAGE is needed
--
SET ROLE regress_iterable_owner;
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER rights TO regress_iterable_owner, regress_iterable_other, regress_iterable_noinherit;

--
-- The source: only its owner, or who has the owner's rights, whatever else is granted
--
GRANT ALL ON shop.customer TO regress_iterable_other;
SET ROLE regress_iterable_other;
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
RESET ROLE;
SET ROLE regress_iterable_noinherit;
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
RESET ROLE;
SELECT * FROM shop.syncs;
SELECT count(*) FROM iterable.source WHERE schema_name = 'shop';

SET ROLE regress_iterable_member;
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_add_mapping('customers', 'plan', 'plan');
SELECT iterable_enable_sync('customers', 'updates_only');
RESET ROLE;
SELECT * FROM shop.syncs;

--
-- Others do not even learn that the sync exists; nor does the table's owner,
-- who has not the rights of the sync's owner
--
SET ROLE regress_iterable_other;
SELECT iterable_add_mapping('customers', 'city', 'plan', apply => 'updates_only');
SELECT iterable_drop_mapping('customers', 'plan', apply => 'updates_only');
SELECT iterable_enable_sync('customers');
SELECT iterable_disable_sync('customers');
SELECT iterable_run('customers');
SELECT iterable_retry_failures('customers');
SELECT iterable_discard_failures('customers');
SELECT iterable_drop_sync('customers');
SET ROLE regress_iterable_owner;
SELECT iterable_disable_sync('customers');
SELECT iterable_drop_sync('customers');
-- but a name can be taken only once
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id');

-- the tables are nobody's
SET ROLE regress_iterable_member;
SELECT count(*) FROM iterable.source;
SELECT count(*) FROM iterable.sync;
SELECT count(*) FROM iterable.mapping;
SELECT count(*) FROM iterable.sync_state;
SELECT count(*) FROM iterable.change;
SELECT count(*) FROM iterable.change_0;
SELECT count(*) FROM iterable.sync_delivery;
SELECT count(*) FROM iterable.sync_failure;
SELECT count(*) FROM iterable.sync_run;
SELECT count(*) FROM iterable.connection_state;
UPDATE iterable.sync SET owner = current_user::regrole;
INSERT INTO iterable.mapping (sync_id, destination, constant) VALUES (1, 'x', 'y');
SELECT nextval('iterable.change_seq');
SELECT setval('iterable.change_segment', 1);
RESET ROLE;
SELECT * FROM shop.syncs;

-- capturing needs no rights but those on the table
GRANT USAGE ON SCHEMA shop TO PUBLIC;
SET ROLE regress_iterable_other;
INSERT INTO shop.customer VALUES (2, 'b@example.com', 'free');
RESET ROLE;
SELECT ops, keys FROM iterable.change l JOIN iterable.source c USING (source_id) WHERE c.schema_name = 'shop' ORDER BY l.seq;

-- a role that loses its rights on the connection can't enable
REVOKE USAGE ON FOREIGN SERVER rights FROM regress_iterable_owner;
SET ROLE regress_iterable_member;
SELECT iterable_disable_sync('customers');
SELECT iterable_enable_sync('customers');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER rights TO regress_iterable_owner;
SET ROLE regress_iterable_member;
SELECT iterable_enable_sync('customers');
RESET ROLE;
SELECT * FROM shop.syncs;

--
-- The owner of the source changes
--
ALTER TABLE shop.customer OWNER TO regress_iterable_other;
SET ROLE regress_iterable_member;
SELECT iterable_add_mapping('customers', 'id', 'id', apply => 'updates_only');
SELECT iterable_add_mapping('customers', 'id', expression => 'id + 1', apply => 'updates_only');
SELECT iterable_drop_mapping('customers', 'plan', apply => 'backfill');
SELECT iterable_enable_sync('customers');
RESET ROLE;
-- nor does a superuser lend its rights to the sync
SELECT iterable_enable_sync('customers');
SELECT * FROM shop.syncs;
-- disabling works, and so does dropping, which leaves the triggers to the new owner
SET ROLE regress_iterable_member;
SELECT iterable_disable_sync('customers');
\set VERBOSITY terse
SELECT iterable_drop_sync('customers');
\set VERBOSITY default
RESET ROLE;
SELECT count(*) FROM shop.syncs;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.customer'::regclass AND NOT tgisinternal;
-- who owns the table adopts them, and takes them off in the end
SET ROLE regress_iterable_other;
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_enable_sync('customers', 'updates_only');
RESET ROLE;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.customer'::regclass AND NOT tgisinternal;
SET ROLE regress_iterable_other;
SELECT iterable_drop_sync('customers');
RESET ROLE;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.customer'::regclass AND NOT tgisinternal;
SELECT count(*) FROM iterable.source WHERE schema_name = 'shop';
ALTER TABLE shop.customer OWNER TO regress_iterable_owner;

--
-- The name of the source is taken over
--
SET ROLE regress_iterable_member;
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_enable_sync('customers', 'updates_only');
SET ROLE regress_iterable_owner;
ALTER TABLE shop.customer RENAME TO customer_old;
SET ROLE regress_iterable_other;
CREATE TABLE shop.customer (id bigint PRIMARY KEY, email text, plan text);
SET ROLE regress_iterable_member;
SELECT iterable_enable_sync('customers');
SELECT iterable_enable_sync('customers', 'backfill');
SELECT iterable_add_mapping('customers', 'plan', 'plan', apply => 'backfill');
RESET ROLE;
SELECT * FROM shop.syncs;
SET ROLE regress_iterable_member;
SELECT iterable_drop_sync('customers');
RESET ROLE;
SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('shop.customer'::regclass, 'shop.customer_old'::regclass) AND NOT tgisinternal;
DROP TABLE shop.customer;
ALTER TABLE shop.customer_old RENAME TO customer;

--
-- Membership is taken away; a superuser's sync reads any table
--
SET ROLE regress_iterable_member;
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
RESET ROLE;
REVOKE regress_iterable_owner FROM regress_iterable_member;
GRANT USAGE ON FOREIGN SERVER rights TO regress_iterable_member;
SET ROLE regress_iterable_member;
SELECT iterable_enable_sync('customers', 'updates_only');
RESET ROLE;
SELECT iterable_create_sync('super', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_enable_sync('super', 'updates_only');
SELECT name, enabled, triggers FROM shop.syncs;
-- one sync is not the other's way to rights
SET ROLE regress_iterable_member;
SELECT iterable_enable_sync('customers', 'updates_only');
SELECT iterable_drop_sync('customers');
RESET ROLE;
SELECT name, enabled, triggers FROM shop.syncs;
SELECT iterable_drop_sync('super');
GRANT regress_iterable_owner TO regress_iterable_member;

--
-- The sync's owner is dropped
--
SET ROLE regress_iterable_member;
SELECT iterable_create_sync('customers', 'rights', 'shop.customer', 'user', 'id', match_field => 'email', schedule => 'manual');
RESET ROLE;
REVOKE ALL ON FOREIGN SERVER rights FROM regress_iterable_member;
DROP ROLE regress_iterable_member;
SET ROLE regress_iterable_owner;
SELECT iterable_drop_sync('customers');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER rights TO PUBLIC;
SELECT iterable_enable_sync('customers', 'updates_only');
REVOKE USAGE ON FOREIGN SERVER rights FROM PUBLIC;
SELECT iterable_drop_sync('customers');
SELECT count(*) FROM shop.syncs;

--
-- Objects that somebody has planted in front of those that are meant
--
CREATE SCHEMA planted;
CREATE FUNCTION planted.evil(integer, integer) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE FUNCTION planted.evil(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE FUNCTION planted.evil(name, name) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE FUNCTION planted.evil(anyarray, anyarray) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE FUNCTION planted.evil(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE FUNCTION planted.evil_plus(integer, integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE OPERATOR planted.= (FUNCTION = planted.evil, LEFTARG = integer, RIGHTARG = integer);
CREATE OPERATOR planted.= (FUNCTION = planted.evil, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR planted.= (FUNCTION = planted.evil, LEFTARG = name, RIGHTARG = name);
CREATE OPERATOR planted.= (FUNCTION = planted.evil, LEFTARG = anyarray, RIGHTARG = anyarray);
CREATE OPERATOR planted.> (FUNCTION = planted.evil, LEFTARG = timestamptz, RIGHTARG = timestamptz);
CREATE OPERATOR planted.+ (FUNCTION = planted.evil_plus, LEFTARG = integer, RIGHTARG = integer);
CREATE FUNCTION planted.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE FUNCTION planted.gen_random_uuid() RETURNS uuid LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE FUNCTION planted.iterable_capture() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE FUNCTION planted.pg_current_snapshot() RETURNS pg_snapshot LANGUAGE plpgsql AS 'BEGIN RAISE ''planted code ran as %'', current_user; END';
CREATE TYPE planted.pg_snapshot AS (x integer);
SET client_min_messages = warning;
CREATE TEMP TABLE sync (LIKE iterable.sync);
CREATE TEMP TABLE source (LIKE iterable.source);
CREATE TEMP TABLE mapping (LIKE iterable.mapping);
CREATE TEMP TABLE sync_state (LIKE iterable.sync_state);
CREATE TEMP TABLE customer (id bigint PRIMARY KEY, email text, plan text);
RESET client_min_messages;
SELECT current_schema AS functions \gset
SET search_path = planted, pg_temp, pg_catalog, :"functions";
-- the plant works
SELECT 1 = 1;
BEGIN;
SELECT iterable_create_sync('planted', 'rights', 'shop.customer', 'user', '{id}', match_field => 'email', schedule => '1 hour');
SELECT iterable_add_mapping('planted', 'plan', 'plan');
SELECT iterable_add_mapping('planted', 'sum', expression => 'id + 1');
SELECT iterable_enable_sync('planted', 'backfill');
SELECT iterable_retry_failures('planted');
SELECT iterable_run('planted');
SELECT iterable_disable_sync('planted');
INSERT INTO shop.customer VALUES (3, 'c@example.com', 'free');
SELECT iterable_drop_mapping('planted', 'plan', 'updates_only');
SELECT iterable_drop_sync('planted');
COMMIT;
RESET search_path;
SELECT count(*) FROM shop.syncs;
SET client_min_messages = warning;
DROP SCHEMA planted CASCADE;
DISCARD TEMP;

--
-- A schema or function that was prepared by others makes CREATE EXTENSION fail
--
DROP SCHEMA shop CASCADE;
DROP SERVER rights CASCADE;
SELECT current_database() AS database \gset
CREATE DATABASE regress_iterable_planted;
GRANT CREATE ON DATABASE regress_iterable_planted TO regress_iterable_other;
\c regress_iterable_planted
-- where an error stood is told in other words by other versions
\set SHOW_CONTEXT never
SET ROLE regress_iterable_other;
CREATE SCHEMA iterable;
CREATE TABLE iterable.sync (sync_id integer);
RESET ROLE;
CREATE EXTENSION iterable_sync;
SELECT count(*) FROM pg_extension WHERE extname = 'iterable_sync';
SELECT count(*) FROM pg_proc WHERE proname ~ '^iterable_';
DROP SCHEMA iterable CASCADE;
GRANT CREATE ON SCHEMA public TO regress_iterable_other;
SET ROLE regress_iterable_other;
CREATE FUNCTION public.iterable_drop_sync(text) RETURNS void LANGUAGE sql AS 'SELECT';
RESET ROLE;
CREATE EXTENSION iterable_sync;
SELECT count(*) FROM pg_extension WHERE extname = 'iterable_sync';
SELECT count(*) FROM pg_namespace WHERE nspname = 'iterable';
DROP FUNCTION public.iterable_drop_sync(text);

\set SHOW_CONTEXT errors

--
-- The functions may be in any schema
--
CREATE SCHEMA "Ext";
CREATE EXTENSION iterable_sync SCHEMA "Ext";
SELECT n.nspname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
	WHERE proname = 'iterable_capture';
SELECT "Ext".iterable_create_connection('elsewhere', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
CREATE TABLE t (id integer PRIMARY KEY, email text);
SELECT "Ext".iterable_create_sync('elsewhere', 'elsewhere', 't', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT "Ext".iterable_enable_sync('elsewhere', 'updates_only');
SELECT substring(pg_get_triggerdef(oid) FROM 'EXECUTE.*') FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgtype & 1 = 1;
INSERT INTO t VALUES (1);
SELECT ops, keys FROM iterable.change;
SELECT "Ext".iterable_drop_sync('elsewhere');
SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass;
DROP EXTENSION iterable_sync CASCADE;
\c :database
DROP DATABASE regress_iterable_planted;
DROP ROLE regress_iterable_other, regress_iterable_noinherit, regress_iterable_owner;
