--
-- From rows to payloads
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('render_email', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
SELECT iterable_create_connection('render_userid', 'us', 'userid', api_key => 'test', base_url => 'http://127.0.0.1:9');
SELECT iterable_create_connection('render_hybrid', 'us', 'hybrid', api_key => 'test', base_url => 'http://127.0.0.1:9');

CREATE SCHEMA render;

-- A sync of users in the schema "render", by the columns "id" and "email".
CREATE FUNCTION render.make(sync text, relation text, connection text DEFAULT 'render_email', object text DEFAULT 'user',
	unique_field text DEFAULT 'id', match_field text DEFAULT 'email') RETURNS void
LANGUAGE sql AS $$
SELECT iterable_create_sync(sync, connection, ('render.' || relation)::regclass, object, unique_field,
	match_field => match_field, schedule => 'manual') $$;

-- Map columns to destinations of the same names.
CREATE FUNCTION render.map(sync text, VARIADIC columns text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
	c text;
BEGIN
	FOREACH c IN ARRAY columns LOOP
		PERFORM iterable_add_mapping(sync, c, column_name => c);
	END LOOP;
END $$;

-- State and message of the error that a preview ends with.
CREATE FUNCTION render.fails(sync text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM iterable_preview(sync);
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', concat(SQLSTATE, ': ', SQLERRM), nullif(detail, ''), nullif(hint, ''));
END $$;

\pset format unaligned
\pset tuples_only on

--
-- Numbers: exactly as PostgreSQL prints them
--
CREATE TABLE render.number (
	id bigint PRIMARY KEY, email text DEFAULT 'a@example.com',
	i2 smallint, i4 integer, i8 bigint, n numeric, n38 numeric(38,10), f4 real, f8 double precision, b boolean);
INSERT INTO render.number (id, i2, i4, i8, n, n38, f4, f8, b) VALUES
	(1, 32767, 2147483647, 9223372036854775807, 0, 0, 0, 0, true),
	(2, -32768, -2147483648, -9223372036854775808, -1.50, '9999999999999999999999999999.0123456789', '-0', '-0', false),
	(3, 0, 0, 9007199254740993, 0.10, -0.0000000001, 3.4028235e38, 1.7976931348623157e308, NULL),
	(4, 1, 1, 1, 1e30, 1, 1e-45, 5e-324, true),
	(5, 1, 1, 1, 99999999999999.984, 1, 0.1, 0.1, true),
	(6, 1, 1, 1, 1e-10, 1, 16777216, 1e15, true),
	(7, 1, 1, 1, 1e-10, 1, 1e6, 123456789012345680, true),
	(9223372036854775807, 1, 1, 1, '1.000', 1, 1e20, 1e20, true),
	(-9223372036854775808, 1, 1, 1, 1, 1, 1.5, 1.5, true);
SELECT render.make('number', 'number');
SELECT render.map('number', 'id', 'i2', 'i4', 'i8', 'n', 'n38', 'f4', 'f8', 'b');
SELECT payload FROM iterable_preview('number');
-- all of it comes back as it was
SELECT count(*), bool_and(payload::jsonb -> 'dataFields' = jsonb_strip_nulls(to_jsonb(r) - 'email'))
FROM iterable_preview('number') p JOIN render.number r ON r.id::text = p.key;
SELECT bool_and((payload #>> '{dataFields,f8}')::float8 = f8 AND (payload #>> '{dataFields,f4}')::float4 = f4)
FROM iterable_preview('number') p JOIN render.number n ON n.id::text = p.key;
-- larger than any number that a double can be
UPDATE render.number SET n = 1e400 + 1, n38 = NULL WHERE id = 1;
SELECT key, length(payload #>> '{dataFields,n}'), (payload #>> '{dataFields,n}')::numeric = 1e400 + 1, problem
FROM iterable_preview('number') WHERE key = '1';
-- no numbers, in JSON
TRUNCATE render.number;
INSERT INTO render.number (id, n) VALUES (1, 'NaN'), (2, 'Infinity'), (3, '-Infinity');
INSERT INTO render.number (id, f4) VALUES (4, 'NaN'), (5, 'Infinity'), (6, '-Infinity');
INSERT INTO render.number (id, f8) VALUES (7, 'NaN'), (8, 'Infinity'), (9, '-Infinity'), (10, 1);
SELECT * FROM iterable_preview('number', 100);

--
-- Texts
--
CREATE TYPE render.mood AS ENUM ('calm', 'no "peace"', E'back\\slash\n');
CREATE DOMAIN render.code AS varchar(20) CHECK (VALUE <> '');
CREATE TABLE render.string (
	id int PRIMARY KEY, email text DEFAULT 'a@example.com',
	t text, v varchar(40), c char(5), n name, q "char", m render.mood, d render.code, u uuid);
INSERT INTO render.string (id, t) VALUES
	(1, ''), (2, ' '), (3, 'plain'), (4, '"quoted" back\slash /slash'),
	(5, E'\b\f\n\r\t\x0b\x01\x1f'), (6, '<script>&amp;'), (7, '{"not":"json"}'), (8, 'null');
INSERT INTO render.string (id, v, c, n, q, m, d, u) VALUES
	(9, 'varchar', 'ab', 'a "name"', 'x', 'calm', 'D1', '00112233-4455-6677-8899-AABBCCDDEEFF'),
	(10, '', '', '', '', 'no "peace"', E'\n', NULL),
	(11, NULL, NULL, NULL, '"', E'back\\slash\n', NULL, NULL);
SELECT render.make('string', 'string');
SELECT render.map('string', 't', 'v', 'c', 'n', 'q', 'm', 'd', 'u');
SELECT payload FROM iterable_preview('string', 100);
-- every character of one byte, and some of more
TRUNCATE render.string;
INSERT INTO render.string (id, t) SELECT i, 'a' || chr(i) || chr(i) || 'z' FROM generate_series(1, 127) i;
INSERT INTO render.string (id, t) SELECT i, chr(i) || 'x' || chr(i) FROM unnest(ARRAY[128, 233, 2047, 2048, 8232, 8233, 8364, 65279, 65533, 65535, 65536, 128512, 1114111]) i;
INSERT INTO render.string (id, t) VALUES (2000000, repeat(chr(8364) || '"' || chr(10), 100000));
SELECT count(*), bool_and(payload #>> '{dataFields,t}' IS NOT DISTINCT FROM s.t AND problem IS NULL)
FROM iterable_preview('string', 1000) p JOIN render.string s ON s.id::text = p.key;
-- no control character is left as it is
SELECT count(*) FROM iterable_preview('string', 1000) WHERE payload::text ~ '[\x01-\x1f]';

--
-- Dates: in the forms that Iterable takes for dates
--
CREATE TABLE render.moment (
	id int PRIMARY KEY, email text DEFAULT 'a@example.com', d date, t timestamp, z timestamptz);
INSERT INTO render.moment (id, d, t, z) VALUES
	(1, '2024-02-29', '2024-02-29 23:59:59.999999', '2024-02-29 23:59:59.999999+00'),
	(2, '0001-01-01', '0001-01-01 00:00:00', '0001-01-01 00:00:00+00'),
	(3, '9999-12-31', '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.999+00'),
	(4, '1969-12-31', '1969-12-31 23:59:59.5', '1969-12-31 23:59:59.5+00'),
	(5, NULL, NULL, '2024-03-31 02:30:00 Europe/Berlin'),
	(6, NULL, NULL, '9999-12-31 23:59:59-01'),
	(7, '10000-01-01', NULL, NULL),
	(8, '0001-12-31 BC', NULL, NULL),
	(9, 'infinity', NULL, NULL),
	(10, NULL, '-infinity', NULL),
	(11, NULL, NULL, 'infinity'),
	(12, NULL, '294276-12-31 23:59:59', NULL),
	(13, NULL, NULL, '4713-01-01 00:00:00+00 BC'),
	(14, NULL, NULL, '0001-01-01 00:00:00+01'),
	(15, '2000-01-01', '2000-01-01', '2000-01-01 00:00:00+00');
SELECT render.make('moment', 'moment');
SELECT render.map('moment', 'd', 't', 'z');
SELECT key, payload -> 'dataFields', problem FROM iterable_preview('moment', 100);

--
-- JSON and arrays
--
CREATE TABLE render.tree (
	id int PRIMARY KEY, email text DEFAULT 'a@example.com',
	j json, jb jsonb, ai int[], at text[], an numeric[], az timestamptz[], aj jsonb[], am render.mood[], av int2vector);
INSERT INTO render.tree (id, j, jb) VALUES
	(1, E'{"a" : [1, 2.50, "x"],\n "a":null}', '{"b": {"c": [1e30, -0.0, 1.50, null]}, "a": "\u20ac"}'),
	(2, '"\u0000 \ud800 \/"', '"text"'),
	(3, ' 1E5 ', '[]'),
	(4, E'\n null ', 'null'),
	(5, '[null]', '{"null": null}'),
	(6, 'false', '12345678901234567890.10');
INSERT INTO render.tree (id, ai, at, an, az, aj, am, av) VALUES
	(11, '{1,NULL,-3}', '{a,"b \"c\"",NULL,"NULL",""}', '{1.50}', '{2024-01-01 00:00:00.9+01}', ARRAY['{"a": 1}', 'null', NULL]::jsonb[], '{calm,"no \"peace\""}', '1 2'),
	(12, '{}', '{}', '{}', '{}', '{}', '{}', ''),
	(13, '{{1,2},{3,NULL}}', '{{{a}},{{b}}}', '[5:6]={1,2}', NULL, NULL, NULL, NULL),
	(14, NULL, NULL, '{1,NaN}', NULL, NULL, NULL, NULL),
	(15, NULL, NULL, NULL, '{infinity}', NULL, NULL, NULL);
SELECT render.make('tree', 'tree');
SELECT render.map('tree', 'j', 'jb', 'ai', 'at', 'an', 'az', 'aj', 'am', 'av');
SELECT key, payload, problem FROM iterable_preview('tree', 100);
SELECT count(*), bool_and((payload #> '{dataFields,jb}')::jsonb = jb) FROM iterable_preview('tree', 100) p JOIN render.tree t ON t.id::text = p.key
WHERE jb <> 'null' AND CASE WHEN p.key <> '2' THEN payload #> '{dataFields,jb}' IS NOT NULL END;
-- and a null in JSON is a null as any other
SELECT iterable_drop_mapping('tree', 'j'), iterable_drop_mapping('tree', 'jb');
SELECT iterable_add_mapping('tree', 'j', 'j', null_policy => 'clear'), iterable_add_mapping('tree', 'jb', 'jb', null_policy => 'clear');
SELECT key, payload FROM iterable_preview('tree', 5);

--
-- Whatever the session, the role or the database has set, no byte changes
--
CREATE TABLE render.byte (
	id numeric(10,3), day date, seen timestamptz, PRIMARY KEY (id, day, seen), email text, f float8, x text, b bytea, i interval, m money, r real);
INSERT INTO render.byte SELECT i / 4.0, date '2024-02-03' + i, timestamptz '2024-02-03 04:05:06.7+00' + i * interval '1 day', 'a@example.com',
	1 / 3.0 + i, 'Ii', '\x0102', '1 mon 2 days 03:00', 1234.5, i / 3.0 FROM generate_series(0, 9) i;
SELECT render.make('byte', 'byte', unique_field => '{seen,id,day}');
SELECT render.map('byte', 'id', 'day', 'seen', 'f', 'r');
SELECT iterable_add_mapping('byte', a[1], expression => a[2]) FROM (VALUES
	('{e1,"seen::text || day"}'::text[]), ('{e2,"f::text"}'), ('{e3,"b::text"}'), ('{e4,"i::text"}'), ('{e5,"m::text"}'),
	('{e6,"to_char(id, ''9G999D99'')"}'), ('{e7,"to_char(seen, ''TMMonth HH24 TZ'')"}'), ('{e8,"upper(x COLLATE \"C\")"}'),
	('{e9,"to_tsvector(''the rats'')::text"}'), ('{f1,"to_char(day, ''TMDay'')"}'), ('{f2,"date_trunc(''day'', seen)"}')) v (a);
SELECT * FROM iterable_preview('byte', 1);
CREATE FUNCTION render.digest() RETURNS text LANGUAGE sql AS
	$$SELECT md5(string_agg(p.key OPERATOR(pg_catalog.||) p.payload::text, ',' ORDER BY p.key COLLATE "C")) FROM iterable_preview('byte', 100) p$$;
CREATE TABLE render.before AS SELECT render.digest() AS digest;
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'Pacific/Auckland';
SET IntervalStyle = 'sql_standard';
SET extra_float_digits = -10;
SET bytea_output = 'escape';
SET xmlbinary = 'hex';
SET default_text_search_config = 'pg_catalog.english';
SET search_path = render, public;
SET transform_null_equals = on;
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET array_nulls = off;
SET quote_all_identifiers = on;
SET row_security = off;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT render.digest() = digest AS session FROM render.before;
SHOW DateStyle;
SHOW TimeZone;
SHOW search_path;
RESET ALL;
CREATE ROLE regress_render_owner;
DO $$
BEGIN
	EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Kathmandu''', current_database());
	EXECUTE format('ALTER DATABASE %I SET extra_float_digits = 0', current_database());
	EXECUTE format('ALTER ROLE %I IN DATABASE %I SET IntervalStyle = ''iso_8601''', current_user, current_database());
	EXECUTE format('ALTER ROLE %I IN DATABASE %I SET bytea_output = ''escape''', current_user, current_database());
END $$;
\c -
\pset format unaligned
\pset tuples_only on
SHOW extra_float_digits;
SHOW bytea_output;
SELECT render.digest() = digest AS role_and_database FROM render.before;
DO $$
BEGIN
	EXECUTE format('ALTER DATABASE %I RESET TimeZone', current_database());
	EXECUTE format('ALTER DATABASE %I RESET extra_float_digits', current_database());
	EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', current_user, current_database());
END $$;
\c -
\pset format unaligned
\pset tuples_only on

--
-- Keys: joined to their rows in SQL
--
SET DateStyle = 'ISO';
SET TimeZone = 'UTC';
SELECT count(*) FROM iterable_preview('byte', 100) p JOIN render.byte b
ON p.key = json_build_array(b.seen::text, trim_scale(b.id)::text, b.day::text)::text;
RESET DateStyle;
RESET TimeZone;
CREATE TABLE render.key (a varchar(10) NOT NULL, b render.mood NOT NULL, c boolean NOT NULL, d uuid NOT NULL, e numeric NOT NULL, f timestamp NOT NULL, g smallint NOT NULL, email text DEFAULT 'a@example.com');
CREATE UNIQUE INDEX ON render.key (g, f, e, d, c, b, a);
INSERT INTO render.key VALUES
	(E'"\\\n\t\x01' || chr(8364), E'back\\slash\n', true, '00000000-0000-0000-0000-000000000001', 1.2300, '2024-01-01 00:00:00.120', 1),
	('', 'no "peace"', false, '00000000-0000-0000-0000-000000000002', 'NaN', '-infinity', -32768),
	('[a, "b"]', 'calm', false, '00000000-0000-0000-0000-000000000002', '-0.0', '0044-03-15 12:00 BC', 0);
SELECT render.make('key', 'key', unique_field => '{a,b,c,d,e,f,g}');
SELECT key, payload FROM iterable_preview('key');
-- a text that differs from another only in form is another key, of one column or several
CREATE TABLE render.textkey (t text PRIMARY KEY, email text DEFAULT 'a@example.com');
INSERT INTO render.textkey (t) VALUES (''), (' '), ('a'), ('A'), ('01'), ('1'), ('["1"]'), ('it''s'), (E'\\'), ('{x}'), ('NULL');
SELECT render.make('textkey', 'textkey', unique_field => 't');
SELECT render.map('textkey', 't');
SELECT count(*), count(*) FILTER (WHERE key = payload #>> '{dataFields,t}') FROM iterable_preview('textkey', 100);
-- more than a chunk, in order
CREATE TABLE render.many (id int PRIMARY KEY, email text DEFAULT 'a@example.com');
INSERT INTO render.many SELECT i FROM generate_series(1, 3500) i;
SELECT render.make('many', 'many');
SELECT count(*), count(DISTINCT key), min(key::int), max(key::int), count(*) FILTER (WHERE n = key::int)
FROM (SELECT key, row_number() OVER () AS n FROM iterable_preview('many', 2500)) p;
SELECT count(*) FROM iterable_preview('many', 1000000);
SELECT count(*) FROM iterable_preview('many');
SELECT iterable_preview('many', 0);
SELECT iterable_preview('many', -1);
SELECT iterable_preview('many', NULL);
SELECT iterable_preview(NULL);
SELECT iterable_preview('nobody');
-- partitions, and a column named like what the query needs
CREATE TABLE render.part (k1 int, part text, "group" int, PRIMARY KEY (k1, "group")) PARTITION BY LIST ("group");
CREATE TABLE render.part_1 PARTITION OF render.part FOR VALUES IN (1);
CREATE TABLE render.part_2 ("group" int NOT NULL, k1 int NOT NULL, part text);
ALTER TABLE render.part ATTACH PARTITION render.part_2 FOR VALUES IN (2);
INSERT INTO render.part SELECT i, 'x' || i || '@example.com', 1 + i % 2 FROM generate_series(1, 6) i;
SELECT render.make('part', 'part', unique_field => '{group,k1}', match_field => 'part');
SELECT render.map('part', 'k1');
SELECT iterable_add_mapping('part', 'row', expression => 'to_jsonb(part.*)');
SELECT key, payload FROM iterable_preview('part');
-- an empty source
TRUNCATE render.many;
SELECT * FROM iterable_preview('many');

--
-- Where things go in the payload
--
CREATE TABLE render.shape (
	id int PRIMARY KEY, email text, user_id text, n int, nothing text, campaign numeric, template text, at timestamptz, name text);
INSERT INTO render.shape VALUES (1, 'ann@example.com', 'u1', 7, NULL, 12.0, '34', '1969-12-31 23:59:58.5+00', 'Signed up');
-- a user
SELECT render.make('shape', 'shape', match_field => NULL);
SELECT iterable_add_mapping('shape', 'email', 'email'), iterable_add_mapping('shape', 'userId', 'user_id'),
	iterable_add_mapping('shape', 'n', 'n'), iterable_add_mapping('shape', 'empty', 'nothing'),
	iterable_add_mapping('shape', 'address.city.name', constant => 'Berlin "Mitte"'), iterable_add_mapping('shape', 'address.zip', 'n'),
	iterable_add_mapping('shape', 'address.none.at.all', 'nothing'), iterable_add_mapping('shape', 'only.none', 'nothing'),
	iterable_add_mapping('shape', 'cleared', 'nothing', null_policy => 'clear'), iterable_add_mapping('shape', 'gone.too', 'nothing', null_policy => 'clear'),
	iterable_add_mapping('shape', 'a "quoted" name', constant => ''), iterable_add_mapping('shape', 'back\slash', constant => '\'),
	iterable_add_mapping('shape', 'eventName', 'name'), iterable_add_mapping('shape', 'id', 'id'), iterable_add_mapping('shape', 'createdAt', 'at'),
	iterable_add_mapping('shape', 'campaignId', constant => '12'), iterable_add_mapping('shape', 'templateId', 'template'),
	iterable_add_mapping('shape', 'dataFields.explicit', constant => 'x'), iterable_add_mapping('shape', 'email_2', 'email');
SELECT * FROM iterable_preview('shape');
-- a user's new identity
SELECT iterable_add_mapping('shape', 'dataFields.email', expression => '''new-'' || email'), iterable_add_mapping('shape', 'dataFields.userId', 'n');
SELECT payload -> 'dataFields' -> 'email', payload -> 'dataFields' -> 'userId' FROM iterable_preview('shape');
-- nothing but an identifier
SELECT render.make('bare', 'shape');
SELECT iterable_add_mapping('bare', 'a.b', 'nothing');
SELECT payload FROM iterable_preview('bare');
-- an event
SELECT render.make('event', 'shape', object => 'event');
SELECT iterable_add_mapping('event', 'eventName', constant => 'Signed up'), iterable_add_mapping('event', 'dataFields.id', 'id'),
	iterable_add_mapping('event', 'dataFields.email', 'n'), iterable_add_mapping('event', 'n', 'n'), iterable_add_mapping('event', 'none', 'nothing');
SELECT key, endpoint, regexp_replace(payload::text, '[0-9a-f]{64}', '(id)'), problem FROM iterable_preview('event');
SELECT payload ->> 'id' = encode(sha256(uuid_send(sync_uuid) || convert_to(key, 'UTF8')), 'hex')
FROM iterable_preview('event'), iterable.sync WHERE name = 'event';
SELECT iterable_add_mapping('event', 'id', expression => 'user_id || ''-'' || id'), iterable_add_mapping('event', 'createdAt', 'at'),
	iterable_add_mapping('event', 'campaignId', 'campaign'), iterable_add_mapping('event', 'templateId', 'template'), iterable_add_mapping('event', 'userId', 'user_id');
SELECT payload FROM iterable_preview('event');
-- what has a meaning is never cleared
UPDATE render.shape SET campaign = NULL, template = NULL, at = NULL, user_id = NULL, name = NULL;
SELECT iterable_drop_mapping('event', d) FROM unnest('{userId,createdAt,campaignId,templateId,id}'::text[]) d;
SELECT iterable_add_mapping('event', 'id', 'user_id', null_policy => 'clear'), iterable_add_mapping('event', 'createdAt', 'at', null_policy => 'clear'),
	iterable_add_mapping('event', 'campaignId', 'campaign', null_policy => 'clear'), iterable_add_mapping('event', 'templateId', 'template', null_policy => 'clear'),
	iterable_add_mapping('event', 'email', 'email', null_policy => 'clear'), iterable_add_mapping('event', 'userId', 'user_id', null_policy => 'clear');
SELECT payload::jsonb - 'id', length(payload ->> 'id') FROM iterable_preview('event');
-- the mode does not matter
SELECT iterable_create_sync('by_' || mode, 'render_email', 'render.shape', 'user', 'id', match_field => 'email', mode => mode, schedule => 'manual')
FROM unnest('{insert,update,upsert}'::text[]) mode;
SELECT DISTINCT payload::text FROM unnest('{insert,update,upsert}'::text[]) mode, iterable_preview('by_' || mode);

--
-- createdAt, campaignId, templateId: integers
--
CREATE TABLE render.int (id int PRIMARY KEY, email text DEFAULT 'a@example.com', z timestamptz, t timestamp, d date, i int, i8 bigint, n numeric, x text);
INSERT INTO render.int (id, z, t, d, i, i8, n, x) VALUES
	(1, '2024-01-01 00:00:00.999+00', '2024-01-01 00:00:00.999', '2024-01-01', 1, 253402300799, 5, '6'),
	(2, '1970-01-01 00:00:00-00:00:01', '1969-12-31 23:59:59.9', '1969-12-31', -1, -62135596800, 5.000, '-6'),
	(3, '0001-01-01 00:00:00+00', '9999-12-31 23:59:59.9', '9999-12-31', 0, 0, -9223372036854775808, '9223372036854775807'),
	(4, 'infinity', '-infinity', 'infinity', 0, 1704067200000, 5.5, ' 6'),
	(5, '0001-01-01 00:00:00+01', '10000-01-01 00:00', '10000-01-01', 0, -62135596801, 9223372036854775808, '6.0'),
	(6, NULL, NULL, NULL, NULL, NULL, 'NaN', ''),
	(7, NULL, NULL, NULL, NULL, NULL, NULL, '0x10'),
	(8, NULL, NULL, NULL, NULL, NULL, 1e30, '9223372036854775808');
SELECT render.make('int_' || c, 'int', object => 'event') FROM unnest('{z,t,d,i,i8,n,x,const}'::text[]) c;
SELECT iterable_add_mapping('int_' || c, 'eventName', constant => 'e') FROM unnest('{z,t,d,i,i8,n,x,const}'::text[]) c;
SELECT iterable_add_mapping('int_' || c, 'createdAt', c) FROM unnest('{z,t,d,i,i8}'::text[]) c;
SELECT iterable_add_mapping('int_' || c, 'campaignId', c) FROM unnest('{i,i8,n,x}'::text[]) c;
SELECT iterable_add_mapping('int_const', 'createdAt', constant => '1704067200'), iterable_add_mapping('int_const', 'templateId', constant => '-5');
SELECT c, key, payload::jsonb - '{id,email,eventName}'::text[], problem FROM unnest('{z,t,d,i,i8,n,x}'::text[]) WITH ORDINALITY u (c, o), iterable_preview('int_' || c) ORDER BY o, key::int;
SELECT payload::jsonb - '{id,email,eventName}'::text[] FROM iterable_preview('int_const', 1);

--
-- Identifiers
--
CREATE TABLE render.who (id int PRIMARY KEY, email text, user_id text, n int, u uuid);
INSERT INTO render.who VALUES
	(1, 'Ann.Lee+x@Example.com', 'u1', 1, '00000000-0000-0000-0000-000000000001'), (2, NULL, 'u2', 2, NULL), (3, 'c@example.com', NULL, NULL, NULL), (4, NULL, NULL, NULL, NULL),
	(5, '', '', 5, NULL), (6, ' d@example.com', ' u6', 6, NULL), (7, 'nobody', 'u7 ', 7, NULL), (8, 'e@example.com', repeat('x', 53), 8, NULL),
	(9, repeat('y', 300) || '@example.com', 'ü', 9, NULL);
SELECT render.make('who_email', 'who'), render.make('who_userid', 'who', connection => 'render_userid', match_field => 'user_id'),
	render.make('who_number', 'who', connection => 'render_userid', match_field => 'n'), render.make('who_uuid', 'who', connection => 'render_userid', match_field => 'u');
SELECT sync, key, payload, problem FROM unnest('{who_email,who_userid,who_number,who_uuid}'::text[]) WITH ORDINALITY u (sync, o), iterable_preview(sync, 4) ORDER BY o, key::int;
SELECT sync, key, problem FROM unnest('{who_email,who_userid}'::text[]) WITH ORDINALITY u (sync, o), iterable_preview(sync) WHERE key > '4' ORDER BY o, key::int;
-- mappings win over the match field; in a project by user id it fills the user id all the same
SELECT render.make('who_both', 'who', match_field => 'email'), render.make('who_by', 'who', connection => 'render_userid', match_field => 'user_id'), render.make('who_hybrid', 'who', connection => 'render_hybrid', match_field => NULL);
SELECT iterable_add_mapping('who_both', 'userId', 'user_id'), iterable_add_mapping('who_by', 'email', 'email'),
	iterable_add_mapping('who_hybrid', 'userId', 'user_id'), iterable_add_mapping('who_hybrid', 'email', 'email');
SELECT sync, key, payload, problem FROM unnest('{who_both,who_by,who_hybrid}'::text[]) WITH ORDINALITY u (sync, o), iterable_preview(sync, 4) ORDER BY o, key::int;
-- without an identifier, or an event name, there is nothing to be sent
SELECT render.make('none', 'who', match_field => NULL), render.make('none_userid', 'who', connection => 'render_userid', match_field => NULL),
	render.make('none_hybrid', 'who', connection => 'render_hybrid', match_field => NULL), render.make('match_hybrid', 'who', connection => 'render_hybrid'),
	render.make('none_event', 'who', object => 'event'), render.make('only_email', 'who', connection => 'render_userid', match_field => NULL);
SELECT iterable_add_mapping('only_email', 'email', 'email');
SELECT sync, render.fails(sync) FROM unnest('{none,none_userid,none_hybrid,match_hybrid,none_event,only_email}'::text[]) sync;

--
-- Events that Iterable would refuse
--
CREATE TABLE render.event (id int PRIMARY KEY, email text DEFAULT 'a@example.com', name text, event_id text);
INSERT INTO render.event (id, name, event_id) VALUES
	(1, 'ok', 'A-1'), (2, NULL, 'x'), (3, '', 'x'), (4, ' ', 'x'), (5, 'ok', ''), (6, 'ok', 'a b'), (7, 'ok', 'a_b'), (8, 'ok', 'é'),
	(9, 'ok', repeat('x', 512)), (10, 'ok', repeat('x', 513)), (11, 'ok', NULL);
SELECT render.make('named', 'event', object => 'event');
SELECT iterable_add_mapping('named', 'eventName', 'name'), iterable_add_mapping('named', 'id', 'event_id');
SELECT key, length(payload ->> 'id'), problem FROM iterable_preview('named', 20);

--
-- Types that do not fit where they are to go; destinations and constants
--
CREATE TABLE render.misfit (id int PRIMARY KEY, email text, b boolean, f float8, j jsonb, d date, i money, x tsvector, m render.mood, a int[]);
SELECT render.make('misfit', 'misfit');
SELECT render.make('misfit_event', 'misfit', object => 'event');
SELECT iterable_add_mapping('misfit_event', 'eventName', constant => 'e');
-- is refused when it is added, or at the latest when a payload is to be built
CREATE FUNCTION render.misfit(sync text, destination text, column_name text DEFAULT NULL, constant text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	hint text;
	message text;
BEGIN
	BEGIN
		PERFORM iterable_add_mapping(sync, destination, column_name, constant => constant);
		PERFORM iterable_preview(sync);
		RAISE EXCEPTION 'fits';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, message = MESSAGE_TEXT;
		RETURN concat_ws(E'\n  ', SQLSTATE || ': ' || message, nullif(hint, ''));
	END;
END $$;
SELECT render.misfit('misfit', d, c) FROM (VALUES
	('i', 'i'), ('x', 'x'), ('email', 'b'), ('email', 'a'), ('userId', 'f'), ('userId', 'j'), ('userId', 'd'), ('dataFields.email', 'b'), ('dataFields.userId', 'a'), ('userId', 'm')) v (d, c);
SELECT render.misfit('misfit_event', d, c) FROM (VALUES
	('eventName2', 'i'), ('id', 'b'), ('id', 'd'), ('createdAt', 'b'), ('createdAt', 'f'), ('createdAt', 'email'), ('campaignId', 'b'), ('campaignId', 'm'), ('templateId', 'f'), ('dataFields.email', 'b'), ('id', 'm')) v (d, c);
SELECT render.misfit('misfit_event', d, constant => c) FROM (VALUES
	('campaignId', 'x'), ('campaignId', ''), ('campaignId', '1.5'), ('createdAt', '2024-01-01'), ('templateId', '9223372036854775808'), ('templateId', '12')) v (d, c);
INSERT INTO iterable.mapping (sync_id, destination, constant) SELECT sync_id, d, 'x' FROM iterable.sync, unnest('{plan,dataFields.plan}'::text[]) d WHERE name = 'misfit';
SELECT render.fails('misfit');
UPDATE iterable.mapping m SET destination = 'dataFields.plan.x' FROM iterable.sync s WHERE s.sync_id = m.sync_id AND name = 'misfit' AND destination = 'dataFields.plan';
SELECT render.fails('misfit');
UPDATE iterable.mapping m SET destination = v.new FROM iterable.sync s, (VALUES ('plan', 'dataFields'), ('dataFields.plan.x', 'x')) v (old, new) WHERE s.sync_id = m.sync_id AND name = 'misfit' AND destination = v.old;
SELECT render.fails('misfit');
UPDATE iterable.mapping m SET destination = 'dataFields.a..b' FROM iterable.sync s WHERE s.sync_id = m.sync_id AND name = 'misfit' AND destination = 'dataFields';
SELECT render.fails('misfit');

--
-- What becomes of mappings when the source changes
--
CREATE TABLE render.drift (id int PRIMARY KEY, email text DEFAULT 'a@example.com', plan text, n int);
INSERT INTO render.drift VALUES (1, DEFAULT, '7', 8);
SELECT render.make('drift', 'drift');
SELECT render.map('drift', 'plan', 'n');
SELECT iterable_add_mapping('drift', 'e', expression => 'n + 1');
SELECT payload FROM iterable_preview('drift');
BEGIN;
ALTER TABLE render.drift ALTER plan TYPE int USING plan::int, ALTER n TYPE numeric, ALTER id TYPE bigint;
SELECT key, payload FROM iterable_preview('drift');
ROLLBACK;
BEGIN;
ALTER TABLE render.drift RENAME plan TO "plan B";
SELECT render.fails('drift');
ROLLBACK;
BEGIN;
ALTER TABLE render.drift DROP plan;
SELECT render.fails('drift');
ROLLBACK;
BEGIN;
ALTER TABLE render.drift ALTER plan TYPE tsvector USING NULL;
SELECT render.fails('drift');
ROLLBACK;
BEGIN;
ALTER TABLE render.drift DROP n, ADD n text;
SELECT render.fails('drift');
ROLLBACK;
BEGIN;
ALTER TABLE render.drift RENAME TO drift_2;
SELECT render.fails('drift');
ROLLBACK;
BEGIN;
ALTER TABLE render.drift ADD "select" int DEFAULT 5;
SELECT iterable_add_mapping('drift', 'select', 'select');
SELECT payload FROM iterable_preview('drift');
ROLLBACK;

--
-- What this transaction has changed is seen, and nothing is left of it
--
BEGIN;
UPDATE render.drift SET plan = 'uncommitted';
SELECT iterable_drop_mapping('drift', 'n');
SELECT payload FROM iterable_preview('drift');
ROLLBACK;
SELECT payload FROM iterable_preview('drift');
BEGIN READ ONLY;
SELECT payload FROM iterable_preview('drift');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT payload FROM iterable_preview('drift');
SET LOCAL transaction_read_only = off;
INSERT INTO render.drift (id) VALUES (2);
ROLLBACK;

--
-- A row whose expression fails does not hold up its neighbours
--
CREATE TABLE render.fault (id int PRIMARY KEY, email text DEFAULT 'a@example.com', n int, t text);
INSERT INTO render.fault SELECT i, 'a@example.com', CASE WHEN i % 500 = 7 THEN 0 ELSE 1 END, CASE WHEN i = 3 THEN 'secret "quoted" value' ELSE '1' END FROM generate_series(1, 2000) i;
CREATE FUNCTION render.shout(text) RETURNS text LANGUAGE plpgsql STABLE AS
	$$BEGIN IF $1 <> '1' THEN RAISE EXCEPTION 'personal data: %', $1; END IF; RETURN $1; END$$;
CREATE DOMAIN render.one AS text CHECK (VALUE = '1');
SELECT render.make('fault', 'fault');
SELECT iterable_add_mapping('fault', 'quotient', expression => '10 / n');
SELECT count(*), count(payload), count(problem), count(*) FILTER (WHERE payload #>> '{dataFields,quotient}' = '10') FROM iterable_preview('fault', 10000);
SELECT * FROM iterable_preview('fault', 10000) WHERE problem IS NOT NULL;
SELECT iterable_add_mapping('fault', 't', expression => 't::int');
SELECT key, problem FROM iterable_preview('fault', 5) WHERE problem IS NOT NULL;
SELECT iterable_drop_mapping('fault', 't');
SELECT iterable_add_mapping('fault', 't', expression => 'render.shout(t)');
SELECT key, problem FROM iterable_preview('fault', 5) WHERE problem IS NOT NULL;
SELECT iterable_drop_mapping('fault', 't');
SELECT iterable_add_mapping('fault', 't', expression => 't::render.one');
SELECT key, problem FROM iterable_preview('fault', 5) WHERE problem IS NOT NULL;
SELECT iterable_drop_mapping('fault', 't');
SELECT iterable_add_mapping('fault', 't', expression => 'repeat(t, 2000000000)');
SELECT key, problem FROM iterable_preview('fault', 1);
-- an error that is not a row's is the sync's
SELECT iterable_drop_mapping('fault', 't');
SELECT iterable_add_mapping('fault', 't', expression => 'render.shout(t)');
DROP FUNCTION render.shout(text);
SELECT render.fails('fault');

--
-- Rows that are too large for any request
--
CREATE TABLE render.large (id int PRIMARY KEY, email text DEFAULT 'a@example.com', t text, a text[], j jsonb, t2 text);
INSERT INTO render.large (id, t, a, j, t2) VALUES
	(1, repeat('x', 3999900), NULL, NULL, NULL), (2, repeat('x', 4000001), NULL, NULL, NULL), (3, repeat('"', 2000000), NULL, NULL, NULL),
	(4, NULL, array_fill('xxxxxxxx'::text, ARRAY[500000]), NULL, NULL), (5, NULL, NULL, to_jsonb(repeat('x', 4000000)), NULL),
	(6, repeat('x', 2000000), NULL, NULL, repeat('y', 2000000)), (7, repeat('x', 1000000), NULL, NULL, repeat('y', 2000000)), (8, 'small', NULL, NULL, NULL);
SELECT render.make('large', 'large');
SELECT render.map('large', 't', 'a', 'j', 't2');
SELECT key, length(payload::text), problem FROM iterable_preview('large');
-- to the byte: 4,000,000 with the envelope
TRUNCATE render.large;
INSERT INTO render.large (id, t) SELECT i, repeat('x', 4000000 - length('{"users":[') - length(']}') - length('{"email":"a@example.com","dataFields":{"t":""}}') + i) FROM generate_series(0, 1) i;
SELECT key, length(payload::text), problem FROM iterable_preview('large');

--
-- Whose rights: a user's code runs as the owner of the source, in nothing that it could misuse
--
GRANT USAGE, CREATE ON SCHEMA render TO regress_render_owner;
CREATE ROLE regress_render_other;
GRANT regress_render_owner TO regress_render_other;
GRANT USAGE ON SCHEMA render TO regress_render_other;
GRANT USAGE ON FOREIGN SERVER render_email TO regress_render_owner, regress_render_other;
CREATE TABLE render.superusers_own (t text);
INSERT INTO render.superusers_own VALUES ('secret');
SET ROLE regress_render_owner;
CREATE FUNCTION render.whoami() RETURNS text LANGUAGE plpgsql STABLE AS
	$$BEGIN RETURN current_user || CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ' (superuser)' ELSE '' END; END$$;
CREATE TYPE render.trap AS ENUM ('bait');
CREATE TABLE render.log (who text);
CREATE TABLE render.own (id int PRIMARY KEY, email text, m render.trap);
INSERT INTO render.own VALUES (1, 'a@example.com', 'bait'), (2, 'b@example.com', 'bait');
-- a cast that to_json would look for
CREATE FUNCTION render.evil_json(render.trap) RETURNS json LANGUAGE plpgsql IMMUTABLE AS
	$$BEGIN RETURN to_json('cast as ' || render.whoami()); END$$;
CREATE FUNCTION render.evil_text(render.trap) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
	$$BEGIN RETURN 'cast as ' || render.whoami(); END$$;
CREATE CAST (render.trap AS json) WITH FUNCTION render.evil_json(render.trap) AS IMPLICIT;
CREATE CAST (render.trap AS text) WITH FUNCTION render.evil_text(render.trap) AS IMPLICIT;
SELECT to_json(m) FROM render.own WHERE id = 1;
SELECT render.make('own', 'own');
SELECT render.map('own', 'm');
SELECT iterable_add_mapping('own', 'who', expression => 'render.whoami()'), iterable_add_mapping('own', 'cast', expression => 'm::text'), iterable_add_mapping('own', 'json', expression => 'to_json(m)');
SELECT payload FROM iterable_preview('own', 1);
RESET ROLE;
-- the same for a superuser, and for a member of the owner
SELECT payload FROM iterable_preview('own', 1);
SET ROLE regress_render_other;
SELECT payload FROM iterable_preview('own', 1);
RESET ROLE;
-- a policy, an index expression and a check are the owner's code as well
SET ROLE regress_render_owner;
ALTER TABLE render.own ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE FUNCTION render.visible(int) RETURNS boolean LANGUAGE plpgsql STABLE AS
	$$BEGIN RETURN $1 = 2 AND render.whoami() = 'regress_render_owner'; END$$;
CREATE POLICY own ON render.own USING (render.visible(id));
CREATE INDEX ON render.own ((length(email)));
RESET ROLE;
SELECT key, payload FROM iterable_preview('own');
SET row_security = off;
SELECT key, payload FROM iterable_preview('own');
RESET row_security;
-- it cannot become another role, change settings for good, write, or read what the owner may not
SET ROLE regress_render_owner;
CREATE FUNCTION render.try(what text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	result text;
BEGIN
	CASE what
		WHEN 'role' THEN result := set_config('role', 'none', false);
		WHEN 'authorization' THEN result := set_config('session_authorization', 'default', false);
		WHEN 'setting' THEN result := set_config('search_path', 'render', false) || set_config('work_mem', '99MB', false);
		WHEN 'read' THEN EXECUTE 'SELECT t FROM render.superusers_own' INTO result;
		WHEN 'write' THEN EXECUTE 'SELECT render.write()' INTO result;
		WHEN 'temp' THEN EXECUTE 'SELECT render.temp()' INTO result;
	END CASE;
	RETURN result;
END $$;
CREATE FUNCTION render.write() RETURNS text LANGUAGE plpgsql AS $$BEGIN INSERT INTO render.log VALUES ('x'); RETURN 'written'; END$$;
CREATE FUNCTION render.temp() RETURNS text LANGUAGE plpgsql AS $$BEGIN CREATE TEMP TABLE t (x int); RETURN 'created'; END$$;
RESET ROLE;
CREATE FUNCTION render.attempt(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		PERFORM iterable_add_mapping('own', 'try', expression => format('render.try(%L || left(email, 0))', what));
		SELECT coalesce(problem, payload #>> '{dataFields,try}') INTO result FROM iterable_preview('own');
		RAISE EXCEPTION USING ERRCODE = 'ZZZZZ', MESSAGE = result;
	EXCEPTION
		WHEN SQLSTATE 'ZZZZZ' THEN RETURN SQLERRM;
		WHEN OTHERS THEN RETURN concat(SQLSTATE, ': ', SQLERRM);
	END;
END $$;
SELECT what, render.attempt(what) FROM unnest('{role,authorization,setting,read,write,temp}'::text[]) what;
SELECT count(*) FROM render.log;
SHOW search_path;
BEGIN;
SELECT iterable_add_mapping('own', 'try', expression => 'render.try(''setting'' || left(email, 0))');
SELECT payload -> 'dataFields' -> 'try' FROM iterable_preview('own');
SELECT current_setting('work_mem') <> '99MB';
ROLLBACK;
SELECT current_user = session_user;
-- rights are those at the time of reading
REVOKE regress_render_owner FROM regress_render_other;
SET ROLE regress_render_other;
SELECT render.fails('own');
RESET ROLE;
UPDATE iterable.sync SET owner = 'regress_render_other' WHERE name = 'own';
SELECT render.fails('own');
SET ROLE regress_render_other;
SELECT render.fails('own');
RESET ROLE;
UPDATE iterable.sync SET owner = 'regress_render_owner' WHERE name = 'own';
REVOKE SELECT ON render.own FROM regress_render_owner;
SELECT render.fails('own');
GRANT SELECT (id, email) ON render.own TO regress_render_owner;
SELECT render.fails('own');
GRANT SELECT ON render.own TO regress_render_owner;
SELECT count(*) FROM iterable_preview('own');
ALTER TABLE render.own OWNER TO regress_render_other;
SELECT render.fails('own');

SET client_min_messages = warning;
SELECT count(iterable_drop_sync(name)) > 0 FROM iterable.sync s JOIN iterable.source c USING (source_id) WHERE c.schema_name = 'render';
DROP SCHEMA render CASCADE;
DROP SERVER render_email CASCADE;
DROP SERVER render_userid CASCADE;
DROP SERVER render_hybrid CASCADE;
DROP OWNED BY regress_render_owner, regress_render_other CASCADE;
DROP ROLE regress_render_owner, regress_render_other;
