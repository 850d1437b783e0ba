-- Everything that the extension shows is described where it stands.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT pg_describe_object(d.classid, d.objid, 0) AS "object without a comment"
FROM pg_depend d
WHERE d.refclassid = 'pg_extension'::regclass
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'iterable_sync')
	AND d.deptype = 'e'
	AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass,
		'pg_foreign_data_wrapper'::regclass)
	AND obj_description(d.objid, d.classid::regclass::name) IS NULL
	AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = d.objid AND d.classid = 'pg_class'::regclass
		AND (c.relkind IN ('i', 'S') OR c.relname ~ '^change_[0-9]$'))
ORDER BY 1;

SELECT a.attrelid::regclass AS view, a.attname AS "column without a comment"
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'iterable'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
	AND col_description(a.attrelid, a.attnum) IS NULL
ORDER BY c.relname, a.attnum;

-- "Arguments are those of f()" stands for what the comment of f says.
SELECT p.oid::regproc AS function, a.name AS "argument that its comment does not name"
FROM pg_depend d
JOIN pg_proc p ON p.oid = d.objid
CROSS JOIN unnest(p.proargnames, p.proargmodes) WITH ORDINALITY AS a (name, mode, n)
CROSS JOIN obj_description(p.oid, 'pg_proc') AS comment
WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'iterable_sync')
	AND d.deptype = 'e'
	AND a.name <> '' AND COALESCE(a.mode, 'i') IN ('i', 'b', 'v')
	AND comment || COALESCE((SELECT string_agg(obj_description(o.oid, 'pg_proc'), ' ') FROM pg_proc o
			WHERE o.proname = substring(comment FROM 'Arguments are those of (\w+)\(\)')), '')
		!~ ('\m' || a.name || '\M')
ORDER BY p.proname COLLATE "C", a.n;

-- Options of connections, as iterable_create_connection() takes them
SELECT option AS "option that the comment of the wrapper does not name"
FROM pg_proc p CROSS JOIN unnest(p.proargnames) AS option
WHERE p.proname = 'iterable_create_connection' AND option <> 'name'
	AND (SELECT obj_description(oid, 'pg_foreign_data_wrapper')
		FROM pg_foreign_data_wrapper WHERE fdwname = 'iterable') !~ ('\m' || option || '\M')
ORDER BY 1;
