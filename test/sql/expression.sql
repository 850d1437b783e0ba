--
-- Expressions in mappings: what is kept, what is refused, what names mean
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('expression', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');

CREATE SCHEMA expr;
CREATE TYPE expr.mood AS ENUM ('calm', 'wild');
CREATE TYPE expr.place AS (street text, city text);
CREATE DOMAIN expr.short AS text CHECK (length(VALUE) < 5);
CREATE TABLE expr.customer (
	id bigint PRIMARY KEY,
	email text,
	plan text,
	"Odd ""Name" text,
	born date,
	seen timestamptz,
	balance numeric,
	tags text[],
	mood expr.mood,
	home expr.place,
	extra jsonb);
INSERT INTO expr.customer VALUES (1, 'ann@example.com', 'gold', 'odd', '1990-05-06', '2024-01-02 03:04:05+00', 12.50,
	'{a,b}', 'wild', ('1 Main St', 'berlin'), '{"n": 1}');
SELECT iterable_create_sync('expression', 'expression', 'expr.customer', 'user', 'id', match_field => 'email', schedule => 'manual');

-- What is kept of an expression, or the state and message of the error.
CREATE FUNCTION expr.kept(expression text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	kept text;
BEGIN
	PERFORM iterable_add_mapping('expression', 'x', expression => kept.expression);
	SELECT m.expression INTO kept FROM iterable.mapping m JOIN iterable.sync s USING (sync_id)
	WHERE s.name = 'expression' AND m.destination = 'x';
	PERFORM iterable_drop_mapping('expression', 'x');
	RETURN kept;
EXCEPTION WHEN OTHERS THEN
	RETURN concat(SQLSTATE, ': ', SQLERRM);
END $$;

-- The same, and the value in the payload.
CREATE FUNCTION expr.value(expression text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	PERFORM iterable_add_mapping('expression', 'x', expression => value.expression);
	SELECT coalesce(problem, payload #>> '{dataFields,x}') INTO result FROM iterable_preview('expression');
	PERFORM iterable_drop_mapping('expression', 'x');
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN concat(SQLSTATE, ': ', SQLERRM);
END $$;

\pset format unaligned
\pset tuples_only on

--
-- Kept as the server writes it, and the same again when it is given back
--
CREATE TABLE expr.fine (n int GENERATED ALWAYS AS IDENTITY, expression text);
INSERT INTO expr.fine (expression) VALUES
	('plan'),
	('customer.plan'),
	('initcap(plan)'),
	('  plan || ''-'' /* a comment */ || id  -- and another'),
	('"Odd ""Name"'),
	('''it''''s'''),
	('E''back\\slash'''),
	('NULL'),
	('42'),
	('1.50'),
	('true'),
	('id > 1 AND plan IS NOT NULL'),
	('CASE WHEN balance > 10 THEN ''rich'' ELSE ''poor'' END'),
	('coalesce(plan, ''none'')'),
	('date_part(''year'', born)'),
	('extract(year FROM born)'),
	('to_char(seen AT TIME ZONE ''Europe/Berlin'', ''YYYY-MM-DD'')'),
	('seen::date'),
	('seen::text'),
	('tags[1]'),
	('array_length(tags, 1)'),
	('tags || ARRAY[''c'']'),
	('(home).city'),
	('mood::text'),
	('mood = ''wild'''),
	('mood = ''wild''::expr.mood'),
	('extra -> ''n'''),
	('extra @> ''{"n": 1}'''),
	('to_jsonb(customer) -> ''plan'''),
	('to_jsonb(customer.*) -> ''plan'''),
	('to_jsonb(home)'),
	('plan COLLATE "C" < ''h'''),
	('now() > seen'),
	('current_user'),
	('born + 1'),
	('ARRAY[id, 2]'),
	('ROW(1, 2) < ROW(id, 3)'),
	('plan IN (''gold'', ''silver'')'),
	('plan LIKE ''g%'''),
	('position(''o'' IN plan)'),
	('balance::int'),
	('jsonb_build_object(''id'', id, ''tags'', tags)'),
	('home'),
	('ARRAY[home]'),
	('seen - ''2024-01-01''::timestamptz'),
	('int4range(id::int, NULL)');
SELECT expression, expr.kept(expression), expr.value(expression) FROM expr.fine WHERE expression <> 'current_user' ORDER BY n;
SELECT expression, expr.kept(expression) FROM expr.fine
WHERE expr.kept(expr.kept(expression)) IS DISTINCT FROM expr.kept(expression) ORDER BY n;

--
-- Not an expression, or more than one
--
SELECT expression, expr.kept(expression) FROM unnest(ARRAY[
	'', '   ', '-- nothing', ')', 'plan)', '(plan', 'plan FROM expr.customer', 'plan, email', 'plan AS p', 'plan p', '*', 'customer.*',
	'(home).*', 'plan;', 'plan; DROP TABLE expr.customer', 'DISTINCT plan', 'SELECT plan', 'plan WHERE true',
	'plan ORDER BY 1', 'plan LIMIT 1', 'plan OFFSET 1', 'plan GROUP BY plan', 'count(*) HAVING true', 'plan FOR UPDATE',
	'plan UNION SELECT 1', 'plan INTO x', '1) FROM pg_authid --', 'DEFAULT', 'plan WINDOW w AS ()',
	'''open', '"open', '/* open'
]) AS expression;

--
-- Names that are not there; what does not fit
--
SELECT expression, expr.kept(expression) FROM unnest(ARRAY[
	'nothing', 'customer.nothing', 'other.plan', 'nothing(plan)', 'nothing.nothing(plan)', 'plan + 1', 'plan::nothing',
	'plan COLLATE "nothing"', 'initcap(id)', 'CASE plan WHEN 1 THEN 2 END', '''x''::int', '''toolong''::expr.mood'
]) AS expression;

--
-- What must not be in one
--
CREATE FUNCTION expr.volatile_one(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION expr.stable_one(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT upper($1)';
CREATE FUNCTION expr.with_default(text, double precision DEFAULT random()) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE FUNCTION expr.several(text) RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT $1';
SELECT expression, expr.kept(expression) FROM unnest(ARRAY[
	'(SELECT 1)', 'EXISTS (SELECT 1)', 'ARRAY(SELECT 1)', 'plan IN (SELECT ''gold'')', 'initcap((SELECT plan))',
	'count(*)', 'max(plan)', 'string_agg(plan, '','')', 'grouping(plan)',
	'row_number() OVER ()', 'count(*) OVER (PARTITION BY plan)',
	'unnest(tags)', 'generate_series(1, 2)', 'initcap(unnest(tags))', 'expr.several(plan)', 'jsonb_each(extra)',
	'random()', 'clock_timestamp()', 'gen_random_uuid()', 'nextval(''iterable.change_seq'')', 'pg_sleep(1)', 'expr.volatile_one(plan)',
	'expr.with_default(plan)', 'set_config(''search_path'', ''public'', false)',
	'$1', 'plan || $2',
	'ctid', 'xmin', 'customer.tableoid', 'tableoid::regclass::text'
]) AS expression;
SELECT expr.kept('expr.stable_one(plan)'), expr.value('expr.stable_one(plan)');

--
-- Types that cannot be sent are refused at the latest when payloads are built
--
SELECT expression, expr.value(expression) FROM unnest(ARRAY[
	'customer', 'ROW(1, 2)', '''(1,2)''::point', '1::money', 'to_tsvector(plan)', '1::oid', 'ARRAY[1::money]', 'pg_typeof(plan)'
]) AS expression;

--
-- Names mean what they mean in pg_catalog: nothing that is planted elsewhere is picked up
--
CREATE FUNCTION public.initcap(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'planted'$$;
CREATE FUNCTION public.initcap(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'planted'$$;
CREATE FUNCTION public.planted_only(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'planted'$$;
CREATE FUNCTION expr.planted_concat(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'planted'$$;
CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = expr.planted_concat);
CREATE OPERATOR public.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = expr.planted_concat);
CREATE DOMAIN public.numeric AS text;
CREATE FUNCTION pg_temp.initcap(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'planted'$$;
CREATE FUNCTION pg_temp.temp_only(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'planted'$$;
CREATE TABLE pg_temp.customer (id bigint, plan int);
SET search_path = public, expr, pg_temp, pg_catalog;
SELECT expression, expr.kept(expression), expr.value(expression) FROM unnest(ARRAY[
	'initcap(plan)', 'plan || ''x''', '1.5::numeric', 'planted_only(plan)', 'plan === ''x''', 'temp_only(plan)', 'stable_one(plan)',
	'''calm''::mood', 'public.initcap(plan)', 'plan OPERATOR(public.||) ''x''', 'expr.stable_one(plan)'
]) AS expression;
RESET search_path;
DROP TABLE pg_temp.customer;
DROP FUNCTION public.initcap(text), public.initcap(varchar), public.planted_only(text);
DROP OPERATOR public.|| (text, text);
DROP OPERATOR public.=== (text, text);
DROP DOMAIN public.numeric;

--
-- Settings of the session change neither what is kept nor what it gives
--
SET DateStyle = 'German, DMY';
SET TimeZone = 'America/New_York';
SET IntervalStyle = 'iso_8601';
SET extra_float_digits = -15;
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET transform_null_equals = on;
SET quote_all_identifiers = on;
SELECT expression, expr.kept(expression), expr.value(expression) FROM unnest(ARRAY[
	'seen::text', 'born::text', '''01/02/2024''::date', '(seen - ''2024-01-01''::timestamptz)::text', '(1::float8 / 3)::text',
	$$'back\slash'$$, 'plan = NULL', 'plan'
]) AS expression;
RESET ALL;

--
-- Who runs it: parts are evaluated when an expression is added, as the owner of the source
--
CREATE ROLE regress_expression_owner;
CREATE ROLE regress_expression_other;
GRANT USAGE, CREATE ON SCHEMA expr TO regress_expression_owner;
GRANT USAGE ON FOREIGN SERVER expression TO regress_expression_owner;
SET ROLE regress_expression_owner;
CREATE TABLE expr.theirs (id int PRIMARY KEY, email text);
INSERT INTO expr.theirs VALUES (1, 'ann@example.com');
CREATE FUNCTION expr.whoami(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN current_user; END$$;
CREATE FUNCTION expr.check_whoami(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
	$$BEGIN RETURN current_user = 'regress_expression_owner'; END$$;
CREATE DOMAIN expr.nosy AS text CHECK (expr.check_whoami(VALUE));
CREATE TYPE expr.nosy_row AS (a expr.nosy);
CREATE FUNCTION expr.raise() RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM set_config('role', 'none', false); END$$;
SELECT iterable_create_sync('theirs', 'expression', 'expr.theirs', 'user', 'id', match_field => 'email', schedule => 'manual');
RESET ROLE;
-- the superuser adds the mappings; the check of the domain would fail
SELECT iterable_add_mapping('theirs', 'constant', expression => 'expr.whoami(1)');
SELECT iterable_add_mapping('theirs', 'column', expression => 'expr.whoami(id)');
SELECT iterable_add_mapping('theirs', 'nosy', expression => '((''(x)''::expr.nosy_row).a)::text');
SELECT iterable_add_mapping('theirs', 'role', expression => '(expr.raise())::text');
SELECT payload FROM iterable_preview('theirs');
SELECT current_user = session_user AS still_superuser;

-- another's schema
CREATE SCHEMA expr_hidden;
CREATE FUNCTION expr_hidden.f(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
SELECT iterable_add_mapping('theirs', 'hidden', expression => 'expr_hidden.f(email)');

-- the place of a mistake is shown in the expression
\set VERBOSITY default
SELECT iterable_add_mapping('expression', 'x', expression => 'plan || nothing(id)');
SELECT iterable_add_mapping('expression', 'x', expression => 'plan plan plan');

SET client_min_messages = warning;
SELECT iterable_drop_sync('theirs'), iterable_drop_sync('expression');
DROP SCHEMA expr, expr_hidden CASCADE;
DROP SERVER expression CASCADE;
DROP ROLE regress_expression_owner, regress_expression_other;
