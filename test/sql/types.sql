--
-- Types of values: how each is written, which are refused, which rows fail
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('types', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
CREATE SCHEMA types;

\pset format unaligned
\pset tuples_only on

-- A sync in the schema "types" with a mapping for each column but id and email.
CREATE FUNCTION types.make(relation text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM iterable_create_sync(relation, 'types', ('types.' || relation)::regclass, 'user', 'id', match_field => 'email', schedule => 'manual');
	PERFORM iterable_add_mapping(relation, attname, column_name => attname) FROM pg_attribute
	WHERE attrelid = ('types.' || relation)::regclass AND attnum > 2 AND NOT attisdropped ORDER BY attnum;
END $$;

-- What is sent of each row; a line each.
CREATE FUNCTION types.sent(sync text) RETURNS SETOF text
LANGUAGE sql AS $$
SELECT concat_ws(' ', key, coalesce(payload ->> 'createdAt', payload ->> 'dataFields'), problem) FROM iterable_preview(sync, 1000) $$;

-- What becomes of a mapping of an expression.
CREATE TABLE types.nothing (id int PRIMARY KEY, email text);
SELECT iterable_create_sync('nothing', 'types', 'types.nothing', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT iterable_create_sync('nothing_event', 'types', 'types.nothing', 'event', 'id', match_field => 'email', schedule => 'manual');
CREATE FUNCTION types.map(type text, destination text DEFAULT 'v', time_zone text DEFAULT NULL, sync text DEFAULT 'nothing') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM iterable_add_mapping(sync, destination, expression => 'NULL::' || type, time_zone => time_zone);
	PERFORM iterable_drop_mapping(sync, destination);
	RETURN type || ' fits';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', concat(SQLSTATE, ': ', SQLERRM), nullif(detail, ''), nullif(hint, ''));
END $$;

--
-- Strings by their output functions
--
CREATE TABLE types.word (
	id int PRIMARY KEY, email text DEFAULT 'a@example.com',
	t time, tz timetz, i inet, c cidr, m macaddr, m8 macaddr8, b bit(5), vb bit varying, x xml);
INSERT INTO types.word (id, t, tz, i, c, m, m8, b, vb, x) VALUES
	(1, '12:34:56.789', '12:34:56.789-05:30', '192.168.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '10101', '', '<a b="c">&lt;é</a>'),
	(2, '24:00', '00:00+15:59:59', '192.168.0.1/24', '::ffff:1.2.3.4', NULL, NULL, '00000', '0', 'content only'),
	(3, '00:00', '24:00-15:59', '2001:db8::1/64', '2001:db8::/32', NULL, NULL, NULL, repeat('01', 40)::varbit, '<?xml version="1.0" encoding="UTF-8"?><a>"\</a>');
SELECT types.make('word');
SELECT types.sent('word');

-- bytes
CREATE TABLE types.bytes (id int PRIMARY KEY, email text DEFAULT 'a@example.com', v bytea, a bytea[]);
INSERT INTO types.bytes (id, v, a) VALUES
	(1, '', '{}'), (2, '\x00', ARRAY['\x0001'::bytea, NULL]), (3, '\xfbff', NULL), (4, '\xfbfffe', NULL), (5, 'text\\', NULL);
INSERT INTO types.bytes (id, v) SELECT 6, decode(string_agg(lpad(to_hex(i), 2, '0'), '' ORDER BY i), 'hex') FROM generate_series(0, 255) i;
SELECT types.make('bytes');
SELECT types.sent('bytes');
UPDATE types.bytes SET v = decode(repeat('00ff', 100000), 'hex');
SELECT bool_and(decode(payload #>> '{dataFields,v}', 'base64') = v), max(strpos(payload::text, E'\n'))
FROM iterable_preview('bytes') p JOIN types.bytes b ON b.id::text = p.key;

-- intervals
CREATE TABLE types.span (id int PRIMARY KEY, email text DEFAULT 'a@example.com', v interval);
INSERT INTO types.span (id, v) VALUES
	(1, '0'), (2, '1 year 2 mons 3 days 04:05:06.789'), (3, '-1 year 2 mons -3 days 04:05:06'), (4, '-00:00:00.000001'),
	(5, '178000000 years 11 mons 31 days 23:59:59.999999'), (6, '90 min'), (7, '36 hours'), (8, '14 months');
SELECT types.make('span');
SELECT types.sent('span');

--
-- Ranges: an object; null for no bound
--
CREATE TYPE types.float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE types.text_range AS RANGE (subtype = text, collation = "C", multirange_type_name = types.text_ranges);
CREATE TABLE types.range (
	id int PRIMARY KEY, email text DEFAULT 'a@example.com',
	i int4range, n numrange, d daterange, t tsrange, z tstzrange, f types.float_range, x types.text_range, im int4multirange, xm types.text_ranges, a numrange[]);
INSERT INTO types.range (id, i, n, d, t, z, f, x, im, xm, a) VALUES
	(1, '[1,3]', '(1.50,2.0]', '[2024-02-29,2024-03-01]', '["2024-02-29 01:02:03.999","2024-03-01")', '["2024-02-29 01:02:03.999+02",)',
		'[0.1,1e300)', '["a ""b""",z]', '{[1,2],[5,7)}', '{(,b),[c,d]}', '{"[1,2]",NULL,empty}'),
	(2, 'empty', '(,)', '(,2024-01-01]', '(,)', '(,)', '(,0)', '(,)', '{}', '{(,)}', '{}'),
	(3, '(,)', 'empty', 'empty', 'empty', 'empty', 'empty', 'empty', '{(,)}', '{}', NULL);
SELECT types.make('range');
SELECT types.sent('range');

--
-- Composites: an object by the names of the attributes
--
CREATE TYPE types.place AS (street text, "zip ""code""" int, gone numeric, since timestamp);
ALTER TYPE types.place DROP ATTRIBUTE gone;
CREATE TYPE types.person AS (name varchar(20), home types.place, others types.place[], born daterange);
CREATE TYPE types.empty AS ();
CREATE TABLE types.row_of_table (a int, b text);
ALTER TABLE types.row_of_table DROP a, ADD c bigint;
CREATE TABLE types.composite (
	id int PRIMARY KEY, email text DEFAULT 'a@example.com',
	p types.place, pa types.place[], q types.person, r types.row_of_table, e types.empty);
INSERT INTO types.composite (id, p, pa, q, r, e) VALUES
	(1, ('Main "St" 1', 1234, '2024-02-29 12:00:00.5'), ARRAY[('A', 1, NULL), NULL, (NULL, NULL, NULL)]::types.place[],
		('Ann', ('B', 2, '1999-12-31 23:59:59.9'), ARRAY[[('C', 3, NULL)], [NULL]]::types.place[], '[1980-01-01,)'), ('b', 9007199254740993), ROW()),
	(2, ROW(NULL, NULL, NULL), '{}', ROW(NULL, NULL, NULL, NULL), ROW(NULL, NULL), NULL),
	(3, NULL, NULL, ('Bob', NULL, '{}', 'empty'), NULL, NULL);
SELECT types.make('composite');
SELECT types.sent('composite');
-- expressions
SELECT count(iterable_drop_mapping('composite', c)) FROM unnest('{p,pa,q,r,e}'::text[]) c;
SELECT iterable_add_mapping('composite', 'home', expression => '(q).home'), iterable_add_mapping('composite', 'made', expression => 'ROW(''x'', id)::types.row_of_table');
SELECT types.sent('composite') LIMIT 1;
SELECT iterable_drop_mapping('composite', 'home'), iterable_drop_mapping('composite', 'made');
-- but not the row itself
SELECT iterable_add_mapping('composite', 'row', expression => 'composite');
-- what a mapping says of NULL is about the value as a whole
SELECT iterable_add_mapping('composite', 'r', 'r', null_policy => 'clear'), iterable_add_mapping('composite', 'omitted', 'r');
SELECT types.sent('composite');
-- attributes that come and go
BEGIN;
ALTER TYPE types.place ADD ATTRIBUTE country char(4) CASCADE, DROP ATTRIBUTE since CASCADE;
ALTER TYPE types.place RENAME ATTRIBUTE street TO "straße" CASCADE;
SELECT iterable_add_mapping('composite', 'p', 'p');
SELECT types.sent('composite') LIMIT 1;
UPDATE types.composite SET p.country = 'NO' WHERE id = 2;
SELECT sent FROM types.sent('composite') sent WHERE sent LIKE '2 %';
ROLLBACK;

--
-- Domains are what they are over
--
CREATE DOMAIN types.d_int AS int CHECK (VALUE > 0);
CREATE DOMAIN types.d_d_int AS types.d_int;
CREATE DOMAIN types.d_ints AS types.d_int[];
CREATE DOMAIN types.d_range AS int8range NOT NULL;
CREATE DOMAIN types.d_place AS types.place;
CREATE DOMAIN types.d_bytes AS bytea;
CREATE DOMAIN types.d_point AS point;
CREATE DOMAIN types.d_time AS time(0);
CREATE DOMAIN types.d_stamp AS timestamp;
CREATE DOMAIN types.d_multi AS datemultirange;
CREATE TABLE types.domain (
	id int PRIMARY KEY, email text DEFAULT 'a@example.com', a types.d_d_int, b types.d_ints, c types.d_ints[], d types.d_range, e types.d_place, f types.d_place[],
	g types.d_bytes, h_geo_location types.d_point, i types.d_time, j types.d_stamp, k types.d_multi);
INSERT INTO types.domain (id, a, b, c, d, e, f, g, h_geo_location, i, j, k) VALUES
	(1, 1, '{1,2}', ARRAY['{3}', '{{4,5}}']::types.d_ints[], '[1,2)', ('A', 1, NULL), ARRAY[('B', 2, NULL)]::types.d_place[],
		'\x01', '(10.75,59.91)', '12:00', '2024-02-29', '{[2024-01-01,2024-01-02)}');
SELECT types.make('domain');
SELECT types.sent('domain');

--
-- Places
--
CREATE TABLE types.geo (id int PRIMARY KEY, email text DEFAULT 'a@example.com', home_geo_location point, work_geo_location jsonb, j_geo_location json);
INSERT INTO types.geo (id, home_geo_location, work_geo_location, j_geo_location) VALUES
	(1, '(10.75,59.91)', '{"lat": 1, "lon": 2}', '{"lat": 1.50, "lon": 2}'), (2, '(180,90)', NULL, NULL), (3, '(-180,-90)', NULL, NULL), (4, '(0,-0)', NULL, NULL),
	(5, '(1e-300,0.1)', NULL, NULL), (6, '(180.00001,0)', NULL, NULL), (7, '(0,-90.00001)', NULL, NULL), (8, '(59.91,100.75)', NULL, NULL),
	(9, '(NaN,0)', NULL, NULL), (10, '(0,NaN)', NULL, NULL), (11, '(Infinity,0)', NULL, NULL), (12, '(0,-Infinity)', NULL, NULL), (13, NULL, NULL, NULL);
SELECT types.make('geo');
SELECT iterable_add_mapping('geo', 'address.x_geo_location', 'home_geo_location', null_policy => 'clear');
SELECT types.sent('geo');
SELECT types.map(type, destination) FROM (VALUES
	('point', '_geo_location'), ('point', 'dataFields.a_geo_location'), ('point', 'a_geo_location.x'), ('point', 'geo_location'), ('point', 'a_geo_locations'),
	('point', 'v'), ('point', 'email'), ('point[]', 'v'), ('point[]', 'a_geo_location'), ('text', 'a_geo_location'), ('types.place', 'a.b_geo_location'),
	('jsonb', 'a_geo_location'), ('json', 'a_geo_location'), ('float8[]', 'a_geo_location'), ('jsonb[]', 'a_geo_location'), ('text', 'a_geo_location.x')) v (type, destination);
SELECT types.map('point', 'createdAt', sync => 'nothing_event');
\set VERBOSITY terse
SELECT iterable_add_mapping('nothing', 'a_geo_location', constant => '59.91,10.75');
SELECT iterable_add_mapping('nothing', 'a_geo_location', constant => '0');
\set VERBOSITY default

--
-- What is refused, be it inside another type
--
CREATE TYPE types.with_money AS (a int, b money);
CREATE TYPE types.with_point AS (a int, b_geo_location point);
CREATE TYPE types.with_oids AS (a types.with_money[]);
CREATE DOMAIN types.d_money AS money;
CREATE TYPE types.lsn_range AS RANGE (subtype = pg_lsn);
SELECT types.map(type) FROM unnest(ARRAY['money', 'types.d_money', 'money[]', 'types.with_money', 'types.with_money[]', 'types.with_oids',
	'types.with_point', 'types.lsn_range', 'types.lsn_multirange', 'types.lsn_range[]']) type;
-- the same hint for all others
SELECT split_part(types.map(type), E'\n', 1) FROM unnest(ARRAY['tsvector', 'tsquery', 'pg_lsn', 'oid', 'oid[]', 'oidvector', 'xid', 'xid8', 'cid', 'tid', 'regclass', 'regtype', 'regproc',
	'circle', 'box', 'path', 'line', 'lseg', 'polygon', 'jsonpath', 'pg_snapshot', 'txid_snapshot', 'refcursor', 'record', 'aclitem']) type;
SELECT types.map('tsvector'), types.map('circle[]');
-- others are no identifiers
SELECT DISTINCT regexp_replace(split_part(types.map(type, destination), E'\n', 1), 'type .* cannot be', 'type ... cannot be')
FROM unnest(ARRAY['inet', 'time', 'bit(3)', 'xml', 'macaddr', 'bytea', 'interval', 'int4range', 'int4multirange', 'types.place', 'json']) type, unnest(ARRAY['email', 'userId', 'dataFields.email', 'dataFields.userId']) destination ORDER BY 1;
SELECT types.map(type, destination, sync => 'nothing_event') FROM (VALUES
	('time', 'createdAt'), ('interval', 'createdAt'), ('tsrange', 'createdAt'), ('inet', 'id'), ('bytea', 'id'), ('bit(3)', 'campaignId'), ('types.place', 'templateId')) v (type, destination);

--
-- Time zones
--
CREATE TYPE types.tour AS (name text, at timestamp, exact timestamptz, days tsrange);
CREATE TABLE types.local (id int PRIMARY KEY, email text DEFAULT 'a@example.com', t timestamp, z timestamptz, a timestamp[], r tsrange, m tsmultirange, c types.tour, ca types.tour[]);
SELECT iterable_create_sync('local', 'types', 'types.local', 'user', 'id', match_field => 'email', schedule => 'manual');
SELECT count(iterable_add_mapping('local', c, c, time_zone => 'Europe/Berlin')) FROM unnest('{t,a,r,m,c,ca}'::text[]) c;
SELECT iterable_add_mapping('local', 'utc', 't'), iterable_add_mapping('local', 'exact', 'z'), iterable_add_mapping('local', 'ny', 't', time_zone => 'America/New_York');
INSERT INTO types.local (id, t, z, a, r, m, c, ca) VALUES
	(1, '2024-07-01 12:00:00.999999', '2024-07-01 12:00+02', '{2024-01-01 00:00,NULL}', '[2024-01-01,2024-07-01)', '{[2024-01-01,2024-01-02)}',
		('x', '2024-07-01', '2024-07-01 00:00+00', '[2024-01-01,)'), ARRAY[('y', '2024-01-01', NULL, 'empty')]::types.tour[]);
-- does not exist, and exists twice; before 2000 and before 1970, where fractions are cut towards the past, too; before time zones
INSERT INTO types.local (id, t) VALUES
	(2, '2024-03-31 02:30:00'), (3, '2024-10-27 02:30:00'), (4, '1999-12-31 23:59:59.5'), (5, '1969-12-31 23:59:59.999999'), (6, '1850-01-01 00:00:00.5'), (7, '0001-01-01 01:00'), (8, '9999-12-31 23:59:59.9');
SELECT types.sent('local');
SELECT key, payload #>> '{dataFields,t}' = to_char(date_trunc('second', t AT TIME ZONE 'Europe/Berlin') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS +00:00')
FROM iterable_preview('local') JOIN types.local ON id::text = key WHERE problem IS NULL;
-- out of the years that there are, in UTC
INSERT INTO types.local (id, t) VALUES
	(9, '0001-01-01 00:00'), (10, '9999-12-31 20:00'), (11, 'infinity'), (12, '-infinity'), (13, '294276-12-31 23:59:59'), (14, '4714-11-24 00:00 BC');
SELECT types.sent('local') OFFSET 8;
-- the moment of an event
CREATE TABLE types.event (id int PRIMARY KEY, email text DEFAULT 'a@example.com', d date, t timestamp, z timestamptz);
SELECT count(iterable_create_sync(s, 'types', 'types.event', 'event', 'id', match_field => 'email', schedule => 'manual')),
	count(iterable_add_mapping(s, 'eventName', constant => 'e')) FROM unnest('{event_d,event_t,event_u}'::text[]) s;
SELECT iterable_add_mapping('event_d', 'createdAt', 'd', time_zone => 'America/New_York');
SELECT iterable_add_mapping('event_t', 'createdAt', 't', time_zone => 'America/New_York');
SELECT iterable_add_mapping('event_u', 'createdAt', 't');
INSERT INTO types.event (id, d, t) VALUES
	(1, '2024-07-01', '2024-07-01 00:00:00.9'), (2, '2024-01-01', '2024-03-10 02:30'), (3, '1969-12-31', '1969-12-31 18:59:59.5'), (4, '1960-07-01', '2024-11-03 01:30'),
	(5, '0001-01-01', '0001-01-01 00:00'), (6, '9999-12-31', '9999-12-31 20:00'), (7, '10000-01-01', '10000-01-01'), (8, '0001-12-31 BC', '0001-12-31 23:59:59 BC'), (9, '5874897-12-31', '294276-12-31'),
	(10, 'infinity', 'infinity'), (11, '4714-11-24 BC', '4714-11-24 BC');
SELECT types.sent('event_d');
SELECT types.sent('event_t');
SELECT types.sent('event_u');
SELECT key, (p.payload ->> 'createdAt')::bigint = floor(extract(epoch FROM d::timestamp AT TIME ZONE 'America/New_York')),
	(q.payload ->> 'createdAt')::bigint = floor(extract(epoch FROM t AT TIME ZONE 'America/New_York'))
FROM iterable_preview('event_d') p JOIN iterable_preview('event_t') q USING (key) JOIN types.event ON id::text = key WHERE p.problem IS NULL AND q.problem IS NULL;
-- a zone must have something to do
SELECT types.map(type, time_zone => 'Europe/Berlin') FROM unnest(ARRAY['timestamp', 'timestamp[]', 'tsrange', 'tsmultirange', 'types.tour', 'types.tour[]', 'types.d_stamp', 'types.place',
	'timestamptz', 'date', 'time', 'timetz', 'tstzrange', 'daterange', 'text', 'int', 'jsonb', 'types.row_of_table', 'interval']) type;
SELECT types.map(type, 'createdAt', 'Europe/Berlin', 'nothing_event') FROM unnest(ARRAY['timestamp', 'date', 'timestamptz', 'int8']) type;
SELECT types.map('timestamp', time_zone => z) FROM unnest(ARRAY['Europe/berlin', 'UTC', '+02', 'Nowhere', '']) z;
\set VERBOSITY terse
SELECT iterable_add_mapping('nothing', 'x', constant => '2024-01-01', time_zone => 'UTC');
\set VERBOSITY default

--
-- Rows that fail, wherever in a value the reason is
--
CREATE TYPE types.bad AS (n numeric, f float4, d date, z timestamptz, j json);
CREATE TABLE types.failing (id int PRIMARY KEY, email text DEFAULT 'a@example.com', c types.bad, ca types.bad[], d date[], dr daterange, dm datemultirange, nr numrange, fr types.float_range, tr tstzrange);
INSERT INTO types.failing (id, c) VALUES
	(1, ('NaN', 0, NULL, NULL, NULL)), (2, (0, 'Infinity', NULL, NULL, NULL)), (3, (0, 0, 'infinity', NULL, NULL)), (4, (0, 0, '10000-01-01', NULL, NULL)),
	(5, (0, 0, '0001-01-01 BC', NULL, NULL)), (6, (0, 0, NULL, '-infinity', NULL)), (7, (0, 0, NULL, NULL, 'null')), (8, (0, 0, '9999-12-31', NULL, '[1]'));
INSERT INTO types.failing (id, ca) VALUES (9, ARRAY[NULL, (0, 0, NULL, 'infinity', NULL)]::types.bad[]);
INSERT INTO types.failing (id, d) VALUES (10, '{2024-01-01,infinity}'), (11, '{2024-01-01,NULL}');
INSERT INTO types.failing (id, dr) VALUES (12, '[2024-01-01,infinity]'), (13, '[-infinity,)'), (14, '[2024-01-01,)');
INSERT INTO types.failing (id, dm) VALUES (15, '{[2024-01-01,2024-01-02),[2025-01-01,infinity)}');
INSERT INTO types.failing (id, nr) VALUES (16, '[1,NaN]'), (17, '[-Infinity,1]');
INSERT INTO types.failing (id, fr) VALUES (18, '[1,Infinity)');
INSERT INTO types.failing (id, tr) VALUES (19, '["2024-01-01 00:00+00",infinity]'), (20, '["0001-01-01 00:00+01",]');
SELECT types.make('failing');
SELECT types.sent('failing');
-- too large
CREATE TABLE types.large (id int PRIMARY KEY, email text DEFAULT 'a@example.com', b bytea, v varbit, c types.place, a text[]);
INSERT INTO types.large (id, b) VALUES (1, decode(repeat('00', 2990000), 'hex')), (2, decode(repeat('00', 3010000), 'hex'));
INSERT INTO types.large (id, v) VALUES (3, repeat('0', 3990000)::varbit), (4, repeat('0', 4010000)::varbit);
INSERT INTO types.large (id, c) VALUES (5, (repeat('x', 3990000), 1, NULL)), (6, (repeat('x', 4010000), 1, NULL));
INSERT INTO types.large (id, a) VALUES (7, array_fill(repeat('x', 1000), '{3900}')), (8, array_fill(repeat('x', 1000), '{4000}'));
SELECT types.make('large');
SELECT key, length(payload::text), problem FROM iterable_preview('large');

--
-- No setting changes a byte
--
CREATE TABLE types.before AS SELECT s AS sync, p.* FROM unnest('{word,bytes,span,range,composite,domain,geo,local,event_t,failing}'::text[]) s, iterable_preview(s, 1000) p;
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'sql_standard';
SET TimeZone = 'Asia/Kathmandu';
SET extra_float_digits = -15;
SET bytea_output = 'escape';
SET xmlbinary = 'hex';
SET xmloption = 'document';
SET quote_all_identifiers = on;
SET search_path = '';
CREATE TABLE types.after AS SELECT s AS sync, p.* FROM unnest('{word,bytes,span,range,composite,domain,geo,local,event_t,failing}'::text[]) s, public.iterable_preview(s, 1000) p;
RESET ALL;
SELECT count(*) FROM types.before JOIN types.after USING (sync, key) WHERE before.payload::text = after.payload::text OR before.problem = after.problem;
SELECT (SELECT count(*) FROM types.before), (SELECT count(*) FROM types.after);

--
-- A type that is called hstore is none for that
--
SET client_min_messages = warning;
CREATE TYPE types.hstore AS (a text, b text);
CREATE TABLE types.false_hstore (id int PRIMARY KEY, email text DEFAULT 'a@example.com', v types.hstore);
INSERT INTO types.false_hstore (id, v) VALUES (1, ('"x"=>"y"', NULL));
SELECT types.make('false_hstore');
SELECT types.sent('false_hstore');

SELECT count(iterable_drop_sync(name)) FROM iterable.sync WHERE connection = 'types';
DROP SCHEMA types CASCADE;
DROP SERVER types CASCADE;
