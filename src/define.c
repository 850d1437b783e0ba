/*-------------------------------------------------------------------------
 *
 * define.c
 *	  SQL functions that create a sync, and change, rename and copy what it
 *	  is.
 *
 * Creating and changing take the same arguments, and check and write the
 * definition as a whole.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "config.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "capture.h"
#include "connection.h"
#include "expression.h"
#include "follow.h"
#include "mapping.h"
#include "render.h"
#include "schedule.h"
#include "source.h"
#include "source_watch.h"

PG_FUNCTION_INFO_V1(iterable_create_sync);
PG_FUNCTION_INFO_V1(iterable_update_sync);
PG_FUNCTION_INFO_V1(iterable_rename_sync);
PG_FUNCTION_INFO_V1(iterable_copy_sync);

/* Arguments of iterable_create_sync() and iterable_update_sync() */
enum
{
	ARG_NAME,
	ARG_CONNECTION,
	ARG_SOURCE,
	ARG_OBJECT,
	ARG_UNIQUE_FIELD,
	ARG_MATCH_FIELD,
	ARG_MODE,
	ARG_SCHEDULE,
	ARG_FILTER,
	ARG_TIME_ZONE,
	ARG_PREFER_USER_ID,
	ARG_MERGE_NESTED_OBJECTS,
	ARG_CREATE_NEW_FIELDS,
	ARG_DRY_RUN,
	ARG_CAPTURE,
	ARG_VERSIONS,
	ARG_TRACK,
	ARG_APPLY
};

/* ----------------------------------------------------------------
 * Parts of a definition
 * ----------------------------------------------------------------
 */

/* The columns of a unique field: the name of one, or an array literal. */
static List *
parse_unique_field(const char *unique_field)
{
	Datum	   *names;
	int			n;
	ArrayType  *array;
	List	   *result = NIL;

	if (unique_field[0] != '{')
		return list_make1(pstrdup(unique_field));

	array = DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN,
													pstrdup(unique_field),
													TEXTOID, -1));
	if (ARR_NDIM(array) != 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unique_field \"%s\" is not a list of columns", unique_field),
				 errhint("Write the name of a column, or an array of names such as '{id,day}'.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	for (int i = 0; i < n; i++)
		result = lappend(result, TextDatumGetCString(names[i]));
	return result;
}

static Datum
names_datum(const List *names)
{
	Datum	   *elems = palloc_array(Datum, list_length(names));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, names)
		elems[n++] = DirectFunctionCall1(namein, CStringGetDatum(lfirst(lc)));
	return PointerGetDatum(construct_array(elems, n, NAMEOID, NAMEDATALEN,
										   false, TYPALIGN_CHAR));
}

/*
 * Find or make the row of a source, and keep it from going away.  The update
 * to itself, rather than a lock, makes a session fail that wants to drop it in
 * an older snapshot: it would not see our sync.
 */
static int32
get_source(Oid relid, const List *key_columns)
{
	static IsQuery find =
		IS_QUERY("UPDATE iterable.source SET key_columns = key_columns "
				 "WHERE schema_name OPERATOR(pg_catalog.=) $1 "
				 "AND table_name OPERATOR(pg_catalog.=) $2 "
				 "AND key_columns OPERATOR(pg_catalog.=) $3 RETURNING source_id",
				 3, NAMEOID, NAMEOID, NAMEARRAYOID);
	static IsQuery make =
		IS_QUERY("INSERT INTO iterable.source (schema_name, table_name, key_columns) "
				 "VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
				 3, NAMEOID, NAMEOID, NAMEARRAYOID);
	int32		source_id;
	bool		isnull;
	Datum		values[3];
	IsUserContext save;

	values[0] = DirectFunctionCall1(namein,
									CStringGetDatum(get_namespace_name(get_rel_namespace(relid))));
	values[1] = DirectFunctionCall1(namein, CStringGetDatum(get_rel_name(relid)));
	values[2] = names_datum(key_columns);

	is_catalog_become_owner(&save);
	SPI_connect();

	/* Others may make it or drop it between two of our looks. */
	while (is_query_run(&find, values, NULL) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		is_query_run(&make, values, NULL);
	}
	source_id = DatumGetInt32(is_query_value(0, 1, &isnull));
	SPI_finish();
	is_catalog_restore_user(&save);
	return source_id;
}

static void
check_name(const char *name)
{
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a sync must not be empty")));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of a sync must not be longer than %d bytes",
						NAMEDATALEN - 1)));
}

/* ----------------------------------------------------------------
 * Arguments
 * ----------------------------------------------------------------
 */

static void
take_text(FunctionCallInfo fcinfo, int i, const char *name, bool required, char **place)
{
	char	   *text = is_config_arg(fcinfo, i, name, required);

	if (text)
		*place = text;
}

/* An empty text stands for none. */
static void
take_optional_text(FunctionCallInfo fcinfo, int i, const char *name, char **place)
{
	char	   *text = is_config_arg(fcinfo, i, name, false);

	if (text)
		*place = text[0] ? text : NULL;
}

static void
take_bool(FunctionCallInfo fcinfo, int i, const char *name, bool required, bool *place)
{
	if (!PG_ARGISNULL(i))
		*place = PG_GETARG_BOOL(i);
	else if (required)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

/* Two arguments that make one property. */
static void
take_capture(FunctionCallInfo fcinfo, IsSync *sync, bool required)
{
	char	   *text = is_config_arg(fcinfo, ARG_CAPTURE, "capture", required);
	bool		versions = sync->capture == IS_CAPTURE_VERSIONS;

	if (text)
		sync->capture = is_catalog_parse_capture(text);
	if (sync->capture == IS_CAPTURE_KEY)
		versions = false;
	take_bool(fcinfo, ARG_VERSIONS, "versions", required, &versions);
	if (versions && sync->capture == IS_CAPTURE_KEY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("versions has no meaning with capture => 'key'"),
				 errdetail("Of a row only what it is when it is sent is known then."),
				 errhint("Use capture => 'row', or versions => false.")));
	if (sync->capture != IS_CAPTURE_KEY)
		sync->capture = versions ? IS_CAPTURE_VERSIONS : IS_CAPTURE_ROW;
}

/*
 * What the arguments say, but source and connection.  Those that are null
 * leave the definition as it is, unless all are required.
 */
static void
take_arguments(FunctionCallInfo fcinfo, IsSync *sync, bool required)
{
	char	   *text;

	take_text(fcinfo, ARG_CONNECTION, "connection", required, &sync->connection);
	if ((text = is_config_arg(fcinfo, ARG_OBJECT, "object", required)) != NULL)
		sync->object = is_catalog_parse_object(text);
	if ((text = is_config_arg(fcinfo, ARG_UNIQUE_FIELD, "unique_field", required)) != NULL)
		sync->source.key_columns = parse_unique_field(text);
	take_optional_text(fcinfo, ARG_MATCH_FIELD, "match_field", &sync->match_field);
	if ((text = is_config_arg(fcinfo, ARG_MODE, "mode", required)) != NULL)
		sync->mode = is_catalog_parse_mode(text);
	take_text(fcinfo, ARG_SCHEDULE, "schedule", required, &sync->schedule);
	take_optional_text(fcinfo, ARG_FILTER, "filter", &sync->filter);
	take_text(fcinfo, ARG_TIME_ZONE, "time_zone", required, &sync->time_zone);
	take_bool(fcinfo, ARG_PREFER_USER_ID, "prefer_user_id", required,
			  &sync->prefer_user_id);
	take_bool(fcinfo, ARG_MERGE_NESTED_OBJECTS, "merge_nested_objects", required,
			  &sync->merge_nested_objects);
	if ((text = is_config_arg(fcinfo, ARG_CREATE_NEW_FIELDS, "create_new_fields", required)) != NULL)
		sync->new_fields = is_catalog_parse_new_fields(text);
	take_bool(fcinfo, ARG_DRY_RUN, "dry_run", required, &sync->dry_run);
	take_capture(fcinfo, sync, required);
	take_bool(fcinfo, ARG_TRACK, "track", required, &sync->track);
}

/* ----------------------------------------------------------------
 * Checking
 * ----------------------------------------------------------------
 */

/* Iterable would ignore them elsewhere, and nobody would know. */
static void
check_flags(const IsSync *sync, IsProjectType project_type)
{
	if (sync->prefer_user_id &&
		(sync->object != IS_OBJECT_USER || project_type != IS_PROJECT_EMAIL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("prefer_user_id has no meaning for this sync"),
				 errdetail("It is for syncs of users in projects of type email.")));
	if (sync->merge_nested_objects && sync->object != IS_OBJECT_USER)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("merge_nested_objects has no meaning for this sync"),
				 errdetail("It is for syncs of users; an event is replaced as a whole.")));
}

/* Rows as they were committed: for events of tables. */
static void
check_capture(const IsSync *sync, Oid relid)
{
	if (sync->capture == IS_CAPTURE_KEY)
		return;
	if (sync->object == IS_OBJECT_USER)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("capture => 'row' is for syncs of events"),
				 errhint("Of a user only the last state matters: use capture => 'key'.")));
	if (sync->capture == IS_CAPTURE_VERSIONS && sync->mode != IS_MODE_UPSERT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("versions needs mode upsert"),
				 errdetail("Mode insert sends the first version of a row only, mode update changes events that are there.")));
	if (get_rel_relkind(relid) != RELKIND_RELATION &&
		get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("rows of \"%s\" cannot be sent as they were committed",
						get_rel_name(relid)),
				 errdetail("Changes of views, materialized views and foreign tables cannot be captured."),
				 errhint("Use capture => 'key'.")));
}

/* Without memory every change is sent. */
static void
check_track(const IsSync *sync)
{
	if (!sync->track && sync->mode != IS_MODE_UPSERT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("track => false needs mode upsert"),
				 errdetail("Modes insert and update rest on what was accepted before.")));
}

/*
 * Check what depends on the source or the connection, and give the filter the
 * form in which it is kept.
 */
static void
check_definition(IsSync *sync, Oid relid)
{
	IsProjectType project_type = is_connection_describe(sync->connection,
														sync->owner)->project_type;

	check_flags(sync, project_type);
	is_source_check(relid, sync);
	check_capture(sync, relid);
	if (sync->match_field)
		is_render_check_type(get_atttype(relid, is_source_column(relid, sync->match_field)),
							 project_type == IS_PROJECT_USERID ? "userId" : "email");
	if (sync->filter)
	{
		IsExpression *filter = is_expression_check(sync->filter, relid, IS_EXPRESSION_FILTER);

		if (filter->whole_row && sync->capture != IS_CAPTURE_KEY)
			is_expression_refuse_whole_row();
		sync->filter = filter->text;
	}
}

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

#define COMMON_TYPES \
	NAMEOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, NAMEOID, TEXTOID, \
	BOOLOID, BOOLOID, TEXTOID, BOOLOID, TEXTOID, BOOLOID, BOOLOID
#define COMMON_COUNT 15
#define COMMON_COLUMNS \
	"connection, source_id, object, mode, schedule, time_zone, match_field, " \
	"filter, prefer_user_id, merge_nested_objects, create_new_fields, dry_run, " \
	"capture, versions, track"
#define COMMON_PARAMETERS "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15"

static Datum
name_datum(const char *name)
{
	return DirectFunctionCall1(namein, CStringGetDatum(name));
}

static void
common_values(const IsSync *sync, Datum *values, char *nulls)
{
	memset(nulls, ' ', COMMON_COUNT);
	values[0] = name_datum(sync->connection);
	values[1] = Int32GetDatum(sync->source.source_id);
	values[2] = CStringGetTextDatum(is_catalog_object_name(sync->object));
	values[3] = CStringGetTextDatum(is_catalog_mode_name(sync->mode));
	values[4] = CStringGetTextDatum(sync->schedule);
	values[5] = CStringGetTextDatum(sync->time_zone);
	if (sync->match_field)
		values[6] = name_datum(sync->match_field);
	else
		nulls[6] = 'n';
	if (sync->filter)
		values[7] = CStringGetTextDatum(sync->filter);
	else
		nulls[7] = 'n';
	values[8] = BoolGetDatum(sync->prefer_user_id);
	values[9] = BoolGetDatum(sync->merge_nested_objects);
	values[10] = CStringGetTextDatum(is_catalog_new_fields_name(sync->new_fields));
	values[11] = BoolGetDatum(sync->dry_run);
	values[12] = CStringGetTextDatum(is_catalog_capture_name(sync->capture));
	values[13] = BoolGetDatum(sync->capture == IS_CAPTURE_VERSIONS);
	values[14] = BoolGetDatum(sync->track);
}

static void
report_exists(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("sync \"%s\" already exists", name)));
}

static void
insert_sync(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("INSERT INTO iterable.sync (" COMMON_COLUMNS ", name, owner) "
				 "VALUES (" COMMON_PARAMETERS ", $16, $17) "
				 "ON CONFLICT (name) DO NOTHING",
				 COMMON_COUNT + 2, COMMON_TYPES, TEXTOID, REGROLEOID);
	Datum		values[COMMON_COUNT + 2];
	char		nulls[COMMON_COUNT + 2];

	common_values(sync, values, nulls);
	values[COMMON_COUNT] = CStringGetTextDatum(sync->name);
	values[COMMON_COUNT + 1] = ObjectIdGetDatum(sync->owner);
	nulls[COMMON_COUNT] = nulls[COMMON_COUNT + 1] = ' ';
	if (is_config_write(&query, values, nulls) == 0)
		report_exists(sync->name);
}

static void
update_sync(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync SET (" COMMON_COLUMNS ", version) = "
				 "(" COMMON_PARAMETERS ", version OPERATOR(pg_catalog.+) 1) "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $16",
				 COMMON_COUNT + 1, COMMON_TYPES, INT4OID);
	Datum		values[COMMON_COUNT + 1];
	char		nulls[COMMON_COUNT + 1];

	common_values(sync, values, nulls);
	values[COMMON_COUNT] = Int32GetDatum(sync->sync_id);
	nulls[COMMON_COUNT] = ' ';
	is_config_write(&query, values, nulls);
}

/* ----------------------------------------------------------------
 * Creating
 * ----------------------------------------------------------------
 */

/*
 * iterable_create_sync(name text, connection text, source regclass,
 *		object text, unique_field text, match_field text, mode text,
 *		schedule text, filter text, time_zone text, prefer_user_id boolean,
 *		merge_nested_objects boolean, create_new_fields text,
 *		dry_run boolean, capture text, versions boolean, track boolean) returns void
 */
Datum
iterable_create_sync(PG_FUNCTION_ARGS)
{
	IsSync		sync = {.owner = GetUserId()};
	Oid			relid;

	sync.name = is_config_arg(fcinfo, ARG_NAME, "name", true);
	if (PG_ARGISNULL(ARG_SOURCE))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "source")));
	relid = PG_GETARG_OID(ARG_SOURCE);
	is_config_check_writable("iterable_create_sync()");

	check_name(sync.name);
	take_arguments(fcinfo, &sync, true);
	is_schedule_check(sync.schedule, sync.time_zone);
	is_follow_check(&sync);
	check_track(&sync);
	check_definition(&sync, relid);

	sync.source.source_id = get_source(relid, sync.source.key_columns);
	insert_sync(&sync);
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Changing
 * ----------------------------------------------------------------
 */

static bool
is_text_equal(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
are_names_equal(const List *a, const List *b)
{
	if (list_length(a) != list_length(b))
		return false;
	for (int i = 0; i < list_length(a); i++)
		if (strcmp(list_nth(a, i), list_nth(b, i)) != 0)
			return false;
	return true;
}

/*
 * Would what was accepted before say nothing about the rows of the sync as it
 * shall be?  It went to another project, as something else, or under other
 * keys.
 */
static bool
is_another(const IsSync *old, const IsSync *new)
{
	return !is_text_equal(old->connection, new->connection) ||
		old->object != new->object ||
		!are_names_equal(old->source.key_columns, new->source.key_columns);
}

/* Does the change concern rows that were delivered before? */
static bool
concerns_rows(const IsSync *old, const IsSync *new)
{
	return is_another(old, new) ||
		old->source.source_id != new->source.source_id ||
		old->mode != new->mode ||
		!is_text_equal(old->match_field, new->match_field) ||
		!is_text_equal(old->filter, new->filter) ||
		old->prefer_user_id != new->prefer_user_id ||
		old->merge_nested_objects != new->merge_nested_objects ||
		old->new_fields != new->new_fields ||
		(old->dry_run && !new->dry_run);
}

static void
forget_deliveries(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("DELETE FROM iterable.sync_delivery "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	Datum		arg = Int32GetDatum(sync->sync_id);

	is_config_write(&query, &arg, NULL);
}

static void
forget_failures(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("DELETE FROM iterable.sync_failure "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	Datum		arg = Int32GetDatum(sync->sync_id);

	is_config_write(&query, &arg, NULL);
}

/* What follows for a sync that was enabled before from a change that is written. */
static void
follow_change(const IsSync *old, IsSync *sync, IsApply apply)
{
	bool		moved = old->source.source_id != sync->source.source_id;
	bool		restart = moved || is_another(old, sync);
	bool		here = is_config_enabled_here(old);
	bool		tracked = old->track != sync->track;

	/* as a run will find it: is anything missing, or does it not fit? */
	if (sync->enabled || here)
		is_render_destroy(is_render_create(sync,
										   is_connection_describe(sync->connection,
																  sync->owner)->project_type));
	if (here)
	{
		is_source_watch_put(sync);
		is_config_hurry(sync);
	}

	/*
	 * A run of before, which may have a request under way, must not record
	 * what it learns: it finds that the state is another one.
	 */
	if (restart && here)
		is_config_start_state(sync);
	else if (restart)
		is_config_forget_state(sync);

	/*
	 * After the state, as who records what was learnt has that locked first.
	 * Also when a sync begins to remember: a run of before may have recorded
	 * some.
	 */
	if (is_another(old, sync) || tracked)
		forget_deliveries(sync);
	if (is_another(old, sync))
		forget_failures(sync);
	if (here && apply == IS_APPLY_BACKFILL)
		is_config_start_backfill(sync, NULL, false);
	else if (here && (restart || tracked))
		is_config_note_rows(sync);
}

/*
 * iterable_update_sync(sync text, connection text, source regclass,
 *		object text, unique_field text, match_field text, mode text,
 *		schedule text, filter text, time_zone text, prefer_user_id boolean,
 *		merge_nested_objects boolean, create_new_fields text,
 *		dry_run boolean, capture text, versions boolean, track boolean,
 *		apply text) returns void
 */
Datum
iterable_update_sync(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, ARG_NAME, "sync", true);
	IsApply		apply = is_config_parse_apply(is_config_arg(fcinfo, ARG_APPLY, "apply", false));
	IsSync	   *old = is_config_lock_sync(name, "iterable_update_sync()");
	IsSync		sync = *old;

	take_arguments(fcinfo, &sync, false);
	is_schedule_check(sync.schedule, sync.time_zone);
	is_follow_check(&sync);
	check_track(&sync);
	for (int i = ARG_CONNECTION; i < ARG_APPLY; i++)
	{
		/* the source may be gone while these are changed */
		if (i == ARG_SCHEDULE || i == ARG_TIME_ZONE || i == ARG_DRY_RUN || i == ARG_TRACK)
			continue;
		if (!PG_ARGISNULL(i))
		{
			Oid			relid = PG_ARGISNULL(ARG_SOURCE) ?
				is_source_resolve(old)->relid : PG_GETARG_OID(ARG_SOURCE);

			check_definition(&sync, relid);
			sync.source.source_id = get_source(relid, sync.source.key_columns);
			break;
		}
	}
	if ((!PG_ARGISNULL(ARG_SCHEDULE) || !PG_ARGISNULL(ARG_TRACK)) &&
		PG_ARGISNULL(ARG_SOURCE))
		is_source_check_compared(&sync);
	if (old->has_state && concerns_rows(old, &sync))
		is_config_require_apply(apply,
								"The sync was enabled before: rows may have been sent as it was.");

	if (old->source.source_id != sync.source.source_id)
		is_config_lock_source(&old->source);
	update_sync(&sync);
	if (old->has_state)
		follow_change(old, is_catalog_get_sync_by_id(sync.sync_id), apply);
	if (!is_text_equal(old->schedule, sync.schedule) ||
		!is_text_equal(old->time_zone, sync.time_zone))
		is_config_start_schedule(&sync);
	if (old->source.source_id != sync.source.source_id)
		is_config_release_source(&old->source);
	is_capture_wake_on_commit();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Names and copies
 * ----------------------------------------------------------------
 */

/*
 * iterable_rename_sync(sync text, new_name text) returns void
 */
Datum
iterable_rename_sync(PG_FUNCTION_ARGS)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync SET name = $2, "
				 "version = version OPERATOR(pg_catalog.+) 1 "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1 "
				 "AND NOT EXISTS (SELECT FROM iterable.sync o WHERE o.name OPERATOR(pg_catalog.=) $2)",
				 2, INT4OID, TEXTOID);
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	char	   *new_name = is_config_arg(fcinfo, 1, "new_name", true);
	IsSync	   *sync = is_config_lock_sync(name, "iterable_rename_sync()");
	Datum		values[2];

	check_name(new_name);
	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = CStringGetTextDatum(new_name);

	/* two at once: the unique index has the last word */
	if (is_config_write(&query, values, NULL) == 0)
		report_exists(new_name);
	is_follow_rename(sync, new_name);
	is_capture_wake_on_commit();
	PG_RETURN_VOID();
}

/*
 * iterable_copy_sync(sync text, new_name text, connection text,
 *		source regclass) returns void
 */
Datum
iterable_copy_sync(PG_FUNCTION_ARGS)
{
	static IsQuery query =
		IS_QUERY("INSERT INTO iterable.mapping (sync_id, destination, column_name, "
				 "constant, expression, null_policy, time_zone) "
				 "SELECT s.sync_id, m.destination, m.column_name, m.constant, "
				 "m.expression, m.null_policy, m.time_zone "
				 "FROM iterable.mapping m, iterable.sync s "
				 "WHERE m.sync_id OPERATOR(pg_catalog.=) $1 "
				 "AND s.name OPERATOR(pg_catalog.=) $2",
				 2, INT4OID, TEXTOID);
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsSync	   *old = is_config_lock_sync(name, "iterable_copy_sync()");
	IsSync		sync = *old;
	Oid			relid = PG_ARGISNULL(3) ? is_source_resolve(old)->relid : PG_GETARG_OID(3);
	Datum		values[2];

	sync.name = is_config_arg(fcinfo, 1, "new_name", true);
	sync.owner = GetUserId();
	take_text(fcinfo, 2, "connection", false, &sync.connection);
	check_name(sync.name);
	is_follow_check(&sync);
	check_track(&sync);
	check_definition(&sync, relid);
	sync.source.source_id = get_source(relid, sync.source.key_columns);
	insert_sync(&sync);

	values[0] = Int32GetDatum(old->sync_id);
	values[1] = CStringGetTextDatum(sync.name);
	is_config_write(&query, values, NULL);
	is_mapping_check_all(is_catalog_get_sync(sync.name));
	PG_RETURN_VOID();
}
