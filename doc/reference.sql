-- Writes doc/reference.md from the catalog of a server that has the extension
-- preloaded and created: psql -XAt -f doc/reference.sql.  "make reference" does.
--
-- What has no comment, or a setting no description, says so in bold, which
-- test/check.sh takes for a failure.
\set QUIET on
SET client_encoding = 'UTF8';
SET lc_messages = 'C';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';
SET TimeZone = 'UTC';
SET search_path = pg_catalog;

-- One line of a comment: what can't be English is code, and so are names of
-- arguments where they begin a sentence that explains them.
CREATE FUNCTION pg_temp.marked(line text, names text[])
RETURNS text
LANGUAGE sql
AS $$
	SELECT regexp_replace(line, '(' || concat_ws('|',
		'\{".*"\}+',												-- JSON
		'\m[a-z]+(_[a-z0-9]+)+(\.[a-z_]+)?(\(\))?',					-- with_underscore()
		'\m[a-z]+([A-Z][a-z]+)+\M',									-- camelCase
		'\miterable\.(?!com\M)[a-z_]+(\(\))?',
		CASE WHEN line ~ '^Raises ' THEN '\m(?=[A-Z]*[0-9])[0-9A-Z]{5}\M' END,	-- SQLSTATE
		replace('(?<=(^|[.;] )((NAMES), )*)(NAMES)(?=(, (NAMES))*: )', 'NAMES', array_to_string(names, '|')))
		|| ')', '`\1`', 'g')
$$;

-- A comment: each line is a paragraph, and so is what it returns and raises.
CREATE FUNCTION pg_temp.described(comment text, names text[] DEFAULT NULL)
RETURNS text
LANGUAGE sql
AS $$
	SELECT COALESCE(string_agg(pg_temp.marked(line, names), E'\n\n' ORDER BY n), '**not described**')
	FROM regexp_split_to_table(regexp_replace(comment, '([.?]) (?=(Returns|Raises) )', E'\\1\n', 'g'), '\n')
		WITH ORDINALITY AS l (line, n)
	WHERE line <> ''
$$;

-- Parts of a list that are written in one line, if it is not too long.
CREATE FUNCTION pg_temp.listed(before text, parts text[], after text)
RETURNS text
LANGUAGE sql
AS $$
	SELECT CASE WHEN length(before || array_to_string(parts, ', ') || after) <= 80
		THEN before || array_to_string(parts, ', ') || after
		ELSE before || E'\n    ' || array_to_string(parts, E',\n    ') || after END
$$;

\qecho '# Reference'
\qecho
\qecho 'Made from the comments in the catalog by `make reference`; `make check` fails where it differs from them.'

\qecho
\qecho '## Functions'
WITH function AS (
	SELECT p.oid, p.prokind, p.proretset, p.prorettype, n.nspname,
		CASE n.nspname WHEN 'iterable' THEN 'iterable.' ELSE '' END || p.proname AS name
	FROM pg_proc p
	JOIN pg_namespace n ON n.oid = p.pronamespace
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'iterable_sync'
), argument AS (
	SELECT p.oid AS function, a.n, a.mode IS NULL OR a.mode NOT IN ('o', 't') AS is_input, a.name AS word,
		concat_ws(' ', a.name, format_type(a.type, NULL),
			'DEFAULT ' || regexp_replace(pg_get_function_arg_default(p.oid, a.n::integer),
				'^(NULL|''[^'']*'')::[a-z ]+(\[\])?$', '\1')) AS text
	FROM pg_proc p, ROWS FROM (
		unnest(COALESCE(p.proallargtypes, p.proargtypes::oid[])), unnest(p.proargnames), unnest(p.proargmodes))
		WITH ORDINALITY AS a (type, name, mode, n)
	WHERE p.oid IN (SELECT oid FROM function)
), arguments AS (
	SELECT f.oid,
		COALESCE(array_agg(a.text ORDER BY a.n) FILTER (WHERE a.is_input), '{}') AS inputs,
		array_agg(a.text ORDER BY a.n) FILTER (WHERE NOT a.is_input) AS outputs,
		array_agg(a.word) FILTER (WHERE a.word IS NOT NULL) AS words
	FROM function f
	LEFT JOIN argument a ON a.function = f.oid
	GROUP BY f.oid
)
SELECT concat(E'\n### ', f.name, E'\n\n```sql\n',
	pg_temp.listed(CASE f.prokind WHEN 'p' THEN 'CALL ' ELSE '' END || f.name || '(', a.inputs, ')'),
	CASE
		WHEN f.prokind = 'p' THEN ''
		WHEN a.outputs IS NULL THEN E'\nRETURNS ' || CASE WHEN f.proretset THEN 'SETOF ' ELSE '' END
			|| format_type(f.prorettype, NULL)
		ELSE E'\n' || pg_temp.listed(CASE WHEN f.proretset THEN 'RETURNS TABLE (' ELSE 'RETURNS record (' END,
			a.outputs, ')')
	END,
	E'\n```\n\n', pg_temp.described(obj_description(f.oid, 'pg_proc'), a.words))
FROM function f
JOIN arguments a USING (oid)
ORDER BY f.nspname = 'iterable', f.name COLLATE "C", f.oid;

\qecho
\qecho '## Views'
SELECT concat(E'\n### iterable.', c.relname, E'\n\n',
	pg_temp.described(obj_description(c.oid, 'pg_class')),
	E'\n\n| column | type | |\n|---|---|---|\n',
	string_agg(concat('| `', a.attname, '` | ', format_type(a.atttypid, a.atttypmod), ' | ',
		replace(pg_temp.described(col_description(c.oid, a.attnum)), '|', '\|'), ' |'), E'\n' ORDER BY a.attnum))
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'iterable'::regnamespace AND c.relkind = 'v'
GROUP BY c.oid
ORDER BY c.relname COLLATE "C";

\qecho
\qecho '## Answers'
\qecho
\qecho 'What a list of rows, a code or a status in an answer of Iterable''s means, from'
\qecho '`iterable.verdicts()`; the first line that fits counts. Rows that no list names are'
\qecho 'accepted if the counts of the answer agree; if not, the request is sent again,'
\qecho 'then in halves, and what stays without an answer becomes the failure'
\qecho '`unknown_outcome`.'
\qecho
\qecho '- **rejected**: the row is a failure until it changes or somebody calls'
\qecho '  `iterable_retry_failures()`. Of a refused request, the rows that the answer'
\qecho '  names, or that hold the value it names; else it is halved until the row stands alone.'
\qecho '- **later**: the row is a failure that is tried again after 30 s, 1 min, 2 min …,'
\qecho '  in all 12 times, and when it changes.'
\qecho '- **skipped**: the user does not exist and was not to be created.'
\qecho '- **again**: the same batch again after a pause that grows from 1 s to 5 min, or as'
\qecho '  Retry-After says; after some errors in halves, and a row that stays alone with'
\qecho '  them is a failure for later.'
\qecho '- **stop**: the connection is stopped, its rows are kept.'
\qecho '- **split**: the batch is halved; a single row is the failure `too_large`.'
\qecho
\qecho '| of | in | name | status | verdict | class | meaning | what to do |'
\qecho '|---|---|---|---|---|---|---|---|'
SELECT concat_ws(' | ', '| ' || object, found_in, COALESCE('`' || name || '`', ''), COALESCE(status, ''), verdict,
	'`' || class || '`', pg_temp.marked(meaning, NULL), COALESCE(pg_temp.marked(what_to_do, NULL), '')) || ' |'
FROM iterable.verdicts();

\qecho
\qecho '## Settings'
SELECT concat(E'\n### ', name, E'\n\n',
	vartype, ', default ', CASE boot_val WHEN '' THEN 'empty' ELSE concat_ws(' ', boot_val, unit) END,
	', ' || min_val || ' to ' || max_val, '; context ', context, E'.\n\n',
	pg_temp.described(NULLIF(concat_ws(E'\n', NULLIF(short_desc, ''), NULLIF(extra_desc, '')), '')))
FROM pg_settings
WHERE name LIKE 'iterable\_sync.%'
ORDER BY name COLLATE "C";

\qecho
\qecho '## Options of connections'
\qecho
SELECT pg_temp.described(obj_description(oid, 'pg_foreign_data_wrapper'))
FROM pg_foreign_data_wrapper
WHERE fdwname = 'iterable';
