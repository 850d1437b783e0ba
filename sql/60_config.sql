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
	schedule text DEFAULT 'continuous',
	filter text DEFAULT NULL,
	time_zone text DEFAULT 'UTC',
	prefer_user_id boolean DEFAULT false,
	merge_nested_objects boolean DEFAULT false,
	create_new_fields text DEFAULT 'project',
	dry_run boolean DEFAULT false,
	capture text DEFAULT 'key',
	versions boolean DEFAULT false,
	track boolean DEFAULT true)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_create_sync';
COMMENT ON FUNCTION iterable_create_sync(text, text, regclass, text, text, text, text, text, text, text, boolean, boolean, text, boolean, text, boolean, boolean) IS
'Creates a sync, which is disabled and has no mappings yet; the current role becomes its owner.
name: at most 63 bytes. connection: a connection that the current role may use. source: a table, partitioned table, view, materialized view or foreign table of the current role; of the last three changes are not captured, but each run reads all rows, as their owner and in one query, and compares them with what was sent. object: user or event. unique_field: the column that makes the key, or an array of several such as {id,day}; NOT NULL, with a unique index on exactly these columns; of sources that are not captured neither is asked for, and rows without a key or with the same key are failures. A run that fails to read one row fails as a whole. match_field: column that holds the identifier where no mapping fills email or userId. mode: insert, update or upsert. schedule: continuous, for sources that are captured; manual; an interval such as 15 minutes; a cron line such as 30 2 * * mon-fri or @daily; after and the name of another sync, to run when that has finished a run. iterable_schedule_preview() shows the times. filter: a condition over the columns of one row, as an expression of a mapping; only rows for which it is true are sent. time_zone: in which a cron line is read. prefer_user_id: for users of an email project, a user who is known by a user id alone is made if there is none. merge_nested_objects: for users, objects in dataFields are merged with what Iterable has, one level deep, instead of replacing it. create_new_fields: may Iterable create fields that it does not know: project (as its setting says), always or never. dry_run: everything is done but the requests; iterable.run shows what would have gone. capture: for events of tables; key sends a changed row as it is when it is sent, row sends every version of it as it was committed, in order, also of rows that are gone by then; of columns that were not mapped yet when a row was captured, NULL. versions: with capture row, each version is an event of its own, with its own id, instead of one event whose last version wins. track: what was accepted of each row is remembered, so that it is not sent again unchanged; with false, for sources that are captured and mode upsert, every change is sent, and backfills and comparing send all rows.
Returns nothing.
Raises 42710 if there is a sync of that name, 42704 or 42501 for the connection, 42501 if the source is not the current role''s, 42809 if it is nothing whose rows can be synced, or sent as they were committed, 0A000 if the unique field has a type without a canonical text, 42703 for an unknown column, 42804 for a match_field of a type that is no identifier, 42P10 if the unique field is not unique or may be NULL, 22023 for an unknown object, mode, schedule or time zone, for a source that is not captured with the schedule continuous, for a schedule that names no sync or has the sync wait for itself, for an unknown capture, and for a flag, a capture or versions that have no meaning for the sync, 42601, 0A000 or 42804 for a filter that is no condition over one row, 42622 for a name that is too long.';


CREATE FUNCTION iterable_update_sync(
	sync text,
	connection text DEFAULT NULL,
	source regclass DEFAULT NULL,
	object text DEFAULT NULL,
	unique_field text DEFAULT NULL,
	match_field text DEFAULT NULL,
	mode text DEFAULT NULL,
	schedule text DEFAULT NULL,
	filter text DEFAULT NULL,
	time_zone text DEFAULT NULL,
	prefer_user_id boolean DEFAULT NULL,
	merge_nested_objects boolean DEFAULT NULL,
	create_new_fields text DEFAULT NULL,
	dry_run boolean DEFAULT NULL,
	capture text DEFAULT NULL,
	versions boolean DEFAULT NULL,
	track boolean DEFAULT NULL,
	apply text DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_update_sync';
COMMENT ON FUNCTION iterable_update_sync(text, text, regclass, text, text, text, text, text, text, text, boolean, boolean, text, boolean, text, boolean, boolean, text) IS
'Changes what a sync is.
Arguments are those of iterable_create_sync(); one that is not given leaves the property as it is, an empty text takes match_field or filter away. capture: counts for all that is sent from now on; with row, what was captured before is sent as it is, with key, what is pending too. apply: must be given if the sync was ever enabled and the change concerns rows that were sent; updates_only lets it count for rows that change from now on, backfill looks at all rows now; where changes are not captured, a row has changed if its payload is another, so that the next run sends all rows whose payload the change concerns. A sync that gets another connection, object or unique_field begins anew: what was delivered and what failed is forgotten. With another source it begins anew in the change log, and knows what was delivered.
Returns nothing.
Raises 42704 if there is no such sync of the current role, 22023 if apply is missing, 55P03 if the source is locked by others, and what iterable_create_sync() and iterable_add_mapping() raise for what does not fit.';

CREATE FUNCTION iterable_rename_sync(
	sync text,
	new_name text)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_rename_sync';
COMMENT ON FUNCTION iterable_rename_sync(text, text) IS
'Gives a sync another name; schedules that name it follow.
new_name: at most 63 bytes.
Returns nothing.
Raises 42704 if there is no such sync of the current role, 42710 if there is one of the new name, 42622 for a name that is too long.';

CREATE FUNCTION iterable_copy_sync(
	sync text,
	new_name text,
	connection text DEFAULT NULL,
	source regclass DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_copy_sync';
COMMENT ON FUNCTION iterable_copy_sync(text, text, text, regclass) IS
'Makes a sync like another, with the same mappings, disabled; the current role becomes its owner. Its events have other ids.
new_name: at most 63 bytes. connection, source: if given, instead of those of the sync.
Returns nothing.
Raises 42704 if there is no such sync of the current role, and what iterable_create_sync() and iterable_add_mapping() raise for what does not fit.';

CREATE FUNCTION iterable_sync_sql(
	sync text)
RETURNS text
LANGUAGE C STABLE
AS 'MODULE_PATHNAME', 'iterable_sync_sql';
COMMENT ON FUNCTION iterable_sync_sql(text) IS
'Returns the SQL that makes a sync and its mappings again, disabled; so a definition can be kept in a file. What it connects to is a name: no key is in it. The ids of events of a sync that is made again are others.
Raises 42704 if there is no such sync of the current role.';

CREATE FUNCTION iterable_add_mapping(
	sync text,
	destination text,
	column_name text DEFAULT NULL,
	constant text DEFAULT NULL,
	expression text DEFAULT NULL,
	null_policy text DEFAULT 'omit',
	time_zone text DEFAULT NULL,
	apply text DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_add_mapping';
COMMENT ON FUNCTION iterable_add_mapping(text, text, text, text, text, text, text, text) IS
'Adds a mapping to a sync: one destination and what fills it.
destination: email, userId, for events eventName, id, campaignId, templateId and createdAt; any other is a path in dataFields such as address.city. Exactly one of column_name (a column of the source), constant and expression (over the columns of one row, with search_path pg_catalog, pg_temp). null_policy: omit leaves the field untouched at Iterable when the value is NULL, clear deletes it there. time_zone: of a timestamp without time zone, default UTC. apply: for a sync that was ever enabled, updates_only (rows get the field when they change next) or backfill (all rows are looked at now).
Returns nothing.
Raises 42704 if there is no such sync of the current role, 22023 for a wrong argument or a destination inside another, 42710 for a destination that is mapped already, 42703 for an unknown column, 42804 or 0A000 for a type or an expression that cannot be sent, 42P01 or 42501 if the source is gone or not the current role''s, 55P03 if the source is locked by others.';

CREATE FUNCTION iterable_set_mappings(
	sync text,
	mappings jsonb,
	apply text DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_set_mappings';
COMMENT ON FUNCTION iterable_set_mappings(text, jsonb, text) IS
'Gives a sync these mappings instead of those that it has, as one change.
mappings: an object with a member a destination; its value is the name of a column, or an object with one of column_name, constant and expression, and null_policy and time_zone where wanted: {"plan": "plan_code", "eventName": {"constant": "Subscribe"}}. apply: as for iterable_add_mapping().
Returns nothing.
Raises what iterable_add_mapping() raises, and 22023 if mappings are not of this form.';

CREATE FUNCTION iterable_map_columns(
	sync text,
	except_columns text[] DEFAULT NULL,
	style text DEFAULT NULL,
	apply text DEFAULT NULL)
RETURNS TABLE (destination text, column_name name)
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_map_columns';
COMMENT ON FUNCTION iterable_map_columns(text, text[], text, text) IS
'Maps every column of a sync''s source that is not mapped yet to a field in dataFields.
except_columns: columns that are left out; so is the match field. style: how names of columns become names of fields: camel (planCode), snake (plan_code), or null, as they are; a dot becomes an underscore. A column whose name has a meaning at Iterable, such as id or createdAt of an event, becomes a field of that name in dataFields; email and userId of a user are not mapped, with a notice. apply: as for iterable_add_mapping().
Returns a line a mapping that was made.
Raises what iterable_add_mapping() raises, for instance 0A000 for a column of a type that cannot be sent: leave it out; 42703 for an unknown column in except_columns, 22023 for an unknown style.';

CREATE FUNCTION iterable_drop_mapping(
	sync text,
	destination text,
	apply text DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_drop_mapping';
COMMENT ON FUNCTION iterable_drop_mapping(text, text, text) IS
'Drops a mapping of a sync.
destination: as it was mapped. apply: as for iterable_add_mapping(). The field keeps its value at Iterable.
Returns nothing.
Raises 42704 if there is no such sync of the current role or no such mapping, 22023 if apply is missing or unknown, or if the sync is enabled and cannot do without the mapping.';

CREATE FUNCTION iterable_enable_sync(
	sync text,
	apply text DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_enable_sync';
COMMENT ON FUNCTION iterable_enable_sync(text, text) IS
'Enables a sync: checks it, puts the capture triggers on its source, if that can have any, and lets it send. Enabled again, it goes on where it stopped.
apply: must be given the first time; updates_only sends what changes from now on, backfill also sends the rows that are there; later, backfill sends all rows again that Iterable does not have as they are. With updates_only the rows that are there are noted, by the worker at once or by iterable_run_now() at its first call; iterable.progress shows it. What is captured before all are noted is sent whatever the notes say, later only if the row is not as it was noted (deleted and inserted, or loaded again, say). Where rows are compared (a source that is not captured, a table that was replaced, triggers that were bypassed) only those are sent that have changed since they were noted, in mode insert those that were not there. So what no trigger sees counts from the moment when the row is noted; and when mappings are changed later, the rows whose payload that concerns have changed, too. A note takes about 150 bytes, with a UUID as the key 230.
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

CREATE FUNCTION iterable_adopt()
RETURNS integer
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_adopt';
COMMENT ON FUNCTION iterable_adopt() IS
'Makes this database one that sends, after it was copied from another (a template, a base backup, another value of iterable_sync.environment), for all syncs whose owner''s privileges the current role has. They capture from now on and compare once: rows that differ from what Iterable had accepted when the copy was made, or from what was noted, are sent, and rows that were being sent then. What the original has sent since is not known here: iterable_backfill() with force sends all rows. Disable the syncs of the original first, if it still runs.
Returns how many syncs were adopted; those that came with pg_dump are not among them: enable them.
Raises 25006 in recovery or a read-only transaction. A sync whose source cannot be captured yet is adopted with a warning, and goes on by itself when that is mended.';

CREATE FUNCTION iterable_drop_sync(
	sync text)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_drop_sync';
COMMENT ON FUNCTION iterable_drop_sync(text) IS
'Drops a sync with its mappings, deliveries, failures and runs, and the capture triggers if no other sync needs them; what was sent stays at Iterable. Works when the source is gone too. Triggers on a table that the current role does not own are left in place, with a notice.
Returns nothing.
Raises 42704 if there is no such sync of the current role, 2BP01 if other syncs run after it, 55P03 if the source is locked by others.';

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
	sync text,
	keys text[] DEFAULT NULL,
	class text DEFAULT NULL,
	code text DEFAULT NULL,
	older_than interval DEFAULT NULL)
RETURNS bigint
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_retry_failures';
COMMENT ON FUNCTION iterable_retry_failures(text, text[], text, text, interval) IS
'Has failures of a sync tried again now: all, or those that fit every other argument that is given.
keys: of these rows, written as iterable.failure shows them. class, code: of this class, of this code of Iterable''s, as iterable.failure shows them. older_than: that failed last longer ago than this.
Returns how many these are, without those whose time has come anyway.
Raises 42704 if there is no such sync of the current role, 22023 for an unknown class or a negative older_than, 22004 for a null in keys.';

CREATE FUNCTION iterable_discard_failures(
	sync text,
	keys text[] DEFAULT NULL,
	class text DEFAULT NULL,
	code text DEFAULT NULL,
	older_than interval DEFAULT NULL)
RETURNS bigint
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_discard_failures';
COMMENT ON FUNCTION iterable_discard_failures(text, text[], text, text, interval) IS
'Takes failures of a sync off the list: all, or those that fit every other argument that is given. Their rows are sent again when they change, and by a backfill; of a source that is compared, by its next run.
Arguments are those of iterable_retry_failures().
Returns how many these are.
Raises what iterable_retry_failures() raises.';

CREATE FUNCTION iterable_backfill(
	sync text,
	condition text DEFAULT NULL,
	force boolean DEFAULT false)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_backfill';
COMMENT ON FUNCTION iterable_backfill(text, text, boolean) IS
'Has the rows of a source compared with what Iterable has accepted; rows that are new or differ are sent, also those that updates_only has noted, failed ones are tried again. Rows that change meanwhile overtake it. iterable.progress shows how far it is; it goes on after a restart. A second call begins it anew, for the rows of both.
condition: over the columns of one row, as a filter: only rows for which it is true are looked at; without one it is also looked for rows that are gone. force: send the rows also if Iterable has them as they are.
Returns nothing, and does not wait.
Raises 42704 if there is no such sync of the current role, 55000 if it is not enabled, 42601, 42703, 0A000 or 42804 for a condition that is none, 42P01 or 42501 if the source is gone or not the current role''s.';

CREATE FUNCTION iterable_cancel_backfill(
	sync text)
RETURNS boolean
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_cancel_backfill';
COMMENT ON FUNCTION iterable_cancel_backfill(text) IS
'Ends a backfill that is under way, also in the middle of a slow query; of a source that is not captured also the comparing of a run. What it has found already is still sent. Comparing after a table was replaced goes on, since nothing else would find what it finds.
Returns whether there was anything to end.
Raises 42704 if there is no such sync of the current role.';

CREATE FUNCTION iterable.check_sync() RETURNS trigger
	LANGUAGE C
	AS 'MODULE_PATHNAME', 'iterable_check_sync';
COMMENT ON FUNCTION iterable.check_sync() IS 'Trigger of iterable.sync: at the end of a transaction, can an enabled sync do with the mappings that it has now? Raises 22023 if not, 39P01 when fired by anything else.';
CREATE CONSTRAINT TRIGGER check_sync AFTER UPDATE ON iterable.sync
	DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION iterable.check_sync();
