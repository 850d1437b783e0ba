/* ------------------------------------------------------------------------
 * Configuration.  Everybody may call these functions: each checks by itself
 * that the current role is a member of the sync's owner and owns the source.
 * ------------------------------------------------------------------------ */

CREATE FUNCTION iterable_create_sync(
	name text,
	connection text,
	source regclass,
	object text,
	unique_field text,
	match_field text DEFAULT NULL,
	mode text DEFAULT 'upsert',
	schedule text DEFAULT 'continuous')
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_create_sync';
COMMENT ON FUNCTION iterable_create_sync(text, text, regclass, text, text, text, text, text) IS
'Creates a sync, which is disabled and has no mappings yet; the current role becomes its owner.
name: at most 63 bytes. connection: a connection that the current role may use. source: a table or partitioned table of the current role. object: user or event. unique_field: the column that makes the key, or an array of several such as {id,day}; NOT NULL, with a unique index on exactly these columns. match_field: column that holds the identifier where no mapping fills email or userId. mode: insert, update or upsert. schedule: continuous, manual, or an interval such as 15 minutes.
Returns nothing.
Raises 42710 if there is a sync of that name, 42704 or 42501 for the connection, 42501 if the source is not the current role''s, 0A000 or 42809 if it is nothing that can be captured, 42703 for an unknown column, 42804 for a match_field of a type that is no identifier, 42P10 if the unique field is not unique or may be NULL, 22023 for an unknown object, mode or schedule, 42622 for a name that is too long.';

CREATE FUNCTION iterable_add_mapping(
	sync text,
	destination text,
	column_name text DEFAULT NULL,
	constant text DEFAULT NULL,
	expression text DEFAULT NULL,
	null_policy text DEFAULT 'omit',
	apply text DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_add_mapping';
COMMENT ON FUNCTION iterable_add_mapping(text, text, text, text, text, text, text) IS
'Adds a mapping to a sync: one destination and what fills it.
destination: email, userId, for events eventName, id, campaignId, templateId and createdAt; any other is a path in dataFields such as address.city. Exactly one of column_name (a column of the source), constant and expression (over the columns of one row, with search_path pg_catalog, pg_temp). null_policy: omit leaves the field untouched at Iterable when the value is NULL, clear deletes it there. apply: for a sync that was ever enabled, updates_only (rows get the field when they change next) or backfill (all rows are looked at now).
Returns nothing.
Raises 42704 if there is no such sync of the current role, 22023 for a wrong argument or a destination inside another, 42710 for a destination that is mapped already, 42703 for an unknown column, 42804 or 0A000 for a type or an expression that cannot be sent, 42P01 or 42501 if the source is gone or not the current role''s, 55P03 if the source is locked by others.';

CREATE FUNCTION iterable_drop_mapping(
	sync text,
	destination text,
	apply text DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_drop_mapping';
COMMENT ON FUNCTION iterable_drop_mapping(text, text, text) IS
'Drops a mapping of a sync.
apply: as for iterable_add_mapping. The field keeps its value at Iterable.
Returns nothing.
Raises 42704 if there is no such sync of the current role or no such mapping, 22023 if apply is missing or unknown, or if the sync is enabled and cannot do without the mapping.';

CREATE FUNCTION iterable_enable_sync(
	sync text,
	apply text DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_enable_sync';
COMMENT ON FUNCTION iterable_enable_sync(text, text) IS
'Enables a sync: checks it, puts the capture triggers on its source and lets it send. Enabled again, it goes on where it stopped.
apply: must be given the first time; updates_only sends what changes from now on, backfill also sends the rows that are there; later, backfill sends all rows again that Iterable does not have as they are.
Returns nothing.
Raises what iterable_create_sync raises for the connection, the source and the unique field, 22023 if the sync lacks an identifier or an event name, or if apply is missing or unknown, 55P03 if the source is locked by others.';

CREATE FUNCTION iterable_disable_sync(
	sync text)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_disable_sync';
COMMENT ON FUNCTION iterable_disable_sync(text) IS
'Disables a sync: nothing is sent any more. Changes are still captured, so that it can go on where it stopped.
Returns nothing.
Raises 42704 if there is no such sync of the current role.';

CREATE FUNCTION iterable_drop_sync(
	sync text)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_drop_sync';
COMMENT ON FUNCTION iterable_drop_sync(text) IS
'Drops a sync with its mappings, deliveries, failures and runs, and the capture triggers if no other sync needs them; what was sent stays at Iterable. Works when the source is gone too. Triggers on a table that the current role does not own are left in place, with a notice.
Returns nothing.
Raises 42704 if there is no such sync of the current role, 55P03 if the source is locked by others.';

CREATE FUNCTION iterable_run(
	sync text)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_run';
COMMENT ON FUNCTION iterable_run(text) IS
'Asks the worker to run a sync now, whatever its schedule is.
Returns nothing, and does not wait for the run.
Raises 42704 if there is no such sync of the current role, 55000 if it is not enabled.';

CREATE FUNCTION iterable_retry_failures(
	sync text)
RETURNS bigint
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_retry_failures';
COMMENT ON FUNCTION iterable_retry_failures(text) IS
'Has all failures of a sync tried again now.
Returns how many there are.
Raises 42704 if there is no such sync of the current role.';
