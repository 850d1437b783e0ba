/*-------------------------------------------------------------------------
 *
 * config.c
 *	  SQL functions that create, enable, disable and drop syncs.
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
#include "change_log.h"
#include "connection.h"
#include "render.h"
#include "schedule.h"
#include "source.h"
#include "state.h"

PG_FUNCTION_INFO_V1(iterable_create_sync);
PG_FUNCTION_INFO_V1(iterable_enable_sync);
PG_FUNCTION_INFO_V1(iterable_disable_sync);
PG_FUNCTION_INFO_V1(iterable_drop_sync);
PG_FUNCTION_INFO_V1(iterable_run);
PG_FUNCTION_INFO_V1(iterable_retry_failures);

/* ----------------------------------------------------------------
 * What the configuration functions share
 * ----------------------------------------------------------------
 */

char *
is_config_arg(FunctionCallInfo fcinfo, int i, const char *name, bool required)
{
	if (!PG_ARGISNULL(i))
		return text_to_cstring(PG_GETARG_TEXT_PP(i));
	if (required)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return NULL;
}

#define APPLY_HINT \
	"Valid values are \"updates_only\", which sends what changes from now on, and \"backfill\", which also sends the rows that are there."

IsApply
is_config_parse_apply(const char *text)
{
	if (text == NULL)
		return IS_APPLY_NOT_GIVEN;
	if (strcmp(text, "updates_only") == 0)
		return IS_APPLY_UPDATES_ONLY;
	if (strcmp(text, "backfill") == 0)
		return IS_APPLY_BACKFILL;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized value \"%s\" for argument \"%s\"", text, "apply"),
			 errhint(APPLY_HINT)));
}

void
is_config_require_apply(IsApply apply, const char *because)
{
	if (apply == IS_APPLY_NOT_GIVEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be given", "apply"),
				 errdetail("%s", because),
				 errhint(APPLY_HINT)));
}

uint64
is_config_write(IsQuery *query, Datum *values, const char *nulls)
{
	uint64		n;
	IsUserContext save;

	is_catalog_become_owner(&save);
	SPI_connect();
	n = is_query_run(query, values, nulls);
	SPI_finish();
	is_catalog_restore_user(&save);
	return n;
}

static void
check_writable(const char *function)
{
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
}

IsSync *
is_config_lock_sync(const char *name, const char *function)
{
	static IsQuery query =
		IS_QUERY("SELECT FROM iterable.sync "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1 FOR UPDATE", 1, INT4OID);

	check_writable(function);

	for (;;)
	{
		IsSync	   *sync = is_catalog_get_sync(name);
		Datum		arg = Int32GetDatum(sync->sync_id);

		/*
		 * Whom we waited for may have changed it, or dropped it and created
		 * another of that name.
		 */
		if (is_config_write(&query, &arg, NULL) == 1)
			return is_catalog_get_sync(name);
	}
}

void
is_config_start_backfill(const IsSync *sync, IsProjectType project_type)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync_state "
				 "SET backfilling = $2 IS NOT NULL, backfill_after = NULL, "
				 "backfill_until = $2 "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 2, INT4OID, TEXTOID);
	IsRenderer *renderer = is_render_create(sync, project_type);
	char	   *last_key = is_render_last_key(renderer);
	Datum		values[2];

	is_render_destroy(renderer);
	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = last_key ? CStringGetTextDatum(last_key) : (Datum) 0;
	is_config_write(&query, values, last_key ? "  " : " n");
}

/* ----------------------------------------------------------------
 * Creating
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

/*
 * iterable_create_sync(name text, connection text, source regclass,
 *		object text, unique_field text, match_field text, mode text,
 *		schedule text) returns void
 */
Datum
iterable_create_sync(PG_FUNCTION_ARGS)
{
	static IsQuery query =
		IS_QUERY("INSERT INTO iterable.sync (name, owner, connection, source_id, "
				 "object, mode, schedule, match_field) "
				 "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
				 "ON CONFLICT (name) DO NOTHING",
				 8, TEXTOID, REGROLEOID, NAMEOID, INT4OID, TEXTOID, TEXTOID,
				 TEXTOID, NAMEOID);
	char	   *name = is_config_arg(fcinfo, 0, "name", true);
	char	   *connection = is_config_arg(fcinfo, 1, "connection", true);
	Oid			relid;
	char	   *object = is_config_arg(fcinfo, 3, "object", true);
	char	   *unique_field = is_config_arg(fcinfo, 4, "unique_field", true);
	char	   *match_field = is_config_arg(fcinfo, 5, "match_field", false);
	char	   *mode = is_config_arg(fcinfo, 6, "mode", true);
	char	   *schedule = is_config_arg(fcinfo, 7, "schedule", true);
	IsProjectType project_type;
	List	   *key_columns;
	Datum		values[8];

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "source")));
	relid = PG_GETARG_OID(2);

	check_writable("iterable_create_sync()");

	check_name(name);
	(void) is_catalog_parse_object(object);
	(void) is_catalog_parse_mode(mode);
	is_schedule_check(schedule);
	project_type = is_connection_describe(connection, GetUserId())->project_type;
	key_columns = parse_unique_field(unique_field);
	is_source_check(relid, key_columns);
	if (match_field)
		is_render_check_type(get_atttype(relid, is_source_column(relid, match_field)),
							 project_type == IS_PROJECT_USERID ? "userId" : "email");

	values[0] = CStringGetTextDatum(name);
	values[1] = ObjectIdGetDatum(GetUserId());
	values[2] = DirectFunctionCall1(namein, CStringGetDatum(connection));
	values[3] = Int32GetDatum(get_source(relid, key_columns));
	values[4] = CStringGetTextDatum(object);
	values[5] = CStringGetTextDatum(mode);
	values[6] = CStringGetTextDatum(schedule);
	values[7] = match_field ?
		DirectFunctionCall1(namein, CStringGetDatum(match_field)) : (Datum) 0;
	if (is_config_write(&query, values, match_field ? "        " : "       n") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("sync \"%s\" already exists", name)));
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Enabling and disabling
 * ----------------------------------------------------------------
 */

/* Was the sync enabled before, here and not in another copy of the database? */
static bool
is_enabled_before(const IsSync *sync, const char *identity)
{
	static IsQuery query =
		IS_QUERY("SELECT FROM iterable.sync_state "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1 "
				 "AND identity OPERATOR(pg_catalog.=) $2", 2, INT4OID, TEXTOID);
	Datum		values[2];

	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = CStringGetTextDatum(identity);
	return is_config_write(&query, values, NULL) == 1;
}

/*
 * Give the sync a place in the change log: from now on.  The triggers must
 * stand already, or what is committed in between would be in neither.
 */
static void
start_state(const IsSync *sync, const char *identity)
{
	static IsQuery forget =
		IS_QUERY("DELETE FROM iterable.sync_state "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	static IsQuery query =
		IS_QUERY("INSERT INTO iterable.sync_state (sync_id, identity, \"position\") "
				 "VALUES ($1, $2, $3::pg_catalog.pg_snapshot)",
				 3, INT4OID, TEXTOID, TEXTOID);
	Datum		values[3];

	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = CStringGetTextDatum(identity);
	values[2] = CStringGetTextDatum(is_change_log_start_position());
	is_config_write(&forget, values, NULL);
	is_config_write(&query, values, NULL);
}

static void
set_enabled(const IsSync *sync, bool enabled)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync "
				 "SET enabled = $2, version = version OPERATOR(pg_catalog.+) 1 "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 2, INT4OID, BOOLOID);
	Datum		values[2];

	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = BoolGetDatum(enabled);
	is_config_write(&query, values, NULL);
}

/* Somebody has looked after it: what held it up may be mended. */
static void
clear_trouble(const IsSync *sync)
{
	IsUserContext save;

	is_catalog_become_owner(&save);
	SPI_connect();
	is_state_clear_trouble(sync->sync_id);
	SPI_finish();
	is_catalog_restore_user(&save);
}

/*
 * iterable_enable_sync(sync text, apply text) returns void
 */
Datum
iterable_enable_sync(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsApply		apply = is_config_parse_apply(is_config_arg(fcinfo, 1, "apply", false));
	IsSync	   *sync = is_config_lock_sync(name, "iterable_enable_sync()");
	char	   *identity = is_state_identity();
	bool		first = !is_enabled_before(sync, identity);
	IsConnection *connection;
	IsRenderer *renderer;

	if (first)
		is_config_require_apply(apply, "The sync is enabled for the first time here.");

	/* Everything that creating has checked may have changed since. */
	connection = is_connection_describe(sync->connection, sync->owner);
	is_source_check(is_source_resolve(sync)->relid, sync->source.key_columns);
	renderer = is_render_create(sync, connection->project_type);
	is_render_destroy(renderer);

	is_source_put_triggers(sync);
	if (first)
		start_state(sync, identity);
	set_enabled(sync, true);
	clear_trouble(sync);
	if (apply == IS_APPLY_BACKFILL)
		is_config_start_backfill(sync, connection->project_type);
	is_capture_wake_on_commit();
	PG_RETURN_VOID();
}

/*
 * iterable_disable_sync(sync text) returns void
 *
 * Changes are captured on, so that the sync can go on where it stopped.
 */
Datum
iterable_disable_sync(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);

	set_enabled(is_config_lock_sync(name, "iterable_disable_sync()"), false);
	is_capture_wake_on_commit();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Dropping
 * ----------------------------------------------------------------
 */

/*
 * iterable_drop_sync(sync text) returns void
 */
Datum
iterable_drop_sync(PG_FUNCTION_ARGS)
{
	/*
	 * Nobody may begin to use the source while we find out whether anybody
	 * does.
	 */
	static IsQuery lock_source =
		IS_QUERY("SELECT FROM iterable.source "
				 "WHERE source_id OPERATOR(pg_catalog.=) $1 FOR UPDATE", 1, INT4OID);

	/*
	 * State first: a batch that is being recorded has its row locked, so we
	 * wait until that is done, and the next one finds no state.
	 */
	static IsQuery drop[] = {
		IS_QUERY("DELETE FROM iterable.sync_state "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
		IS_QUERY("DELETE FROM iterable.sync_delivery "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
		IS_QUERY("DELETE FROM iterable.sync_failure "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
		IS_QUERY("DELETE FROM iterable.sync_run "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
		IS_QUERY("DELETE FROM iterable.mapping "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
		IS_QUERY("DELETE FROM iterable.sync "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
	};
	static IsQuery drop_source =
		IS_QUERY("DELETE FROM iterable.source c "
				 "WHERE c.source_id OPERATOR(pg_catalog.=) $1 "
				 "AND NOT EXISTS (SELECT FROM iterable.sync s "
				 "WHERE s.source_id OPERATOR(pg_catalog.=) c.source_id)", 1, INT4OID);
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsSync	   *sync = is_config_lock_sync(name, "iterable_drop_sync()");
	Datum		sync_id = Int32GetDatum(sync->sync_id);
	Datum		source_id = Int32GetDatum(sync->source.source_id);

	is_config_write(&lock_source, &source_id, NULL);
	for (int i = 0; i < (int) lengthof(drop); i++)
		is_config_write(&drop[i], &sync_id, NULL);

	/* Triggers that had to stay bear its number: the next sync adopts them. */
	if (is_source_drop_triggers(&sync->source))
		is_config_write(&drop_source, &source_id, NULL);
	is_capture_wake_on_commit();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Asking the worker
 * ----------------------------------------------------------------
 */

/*
 * iterable_run(sync text) returns void
 */
Datum
iterable_run(PG_FUNCTION_ARGS)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync_state SET run_requested = true "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsSync	   *sync = is_config_lock_sync(name, "iterable_run()");
	Datum		arg = Int32GetDatum(sync->sync_id);

	if (!sync->enabled || is_config_write(&query, &arg, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sync \"%s\" is not enabled", name),
				 errhint("Use iterable_enable_sync().")));
	is_capture_wake_on_commit();
	PG_RETURN_VOID();
}

/*
 * iterable_retry_failures(sync text) returns bigint
 */
Datum
iterable_retry_failures(PG_FUNCTION_ARGS)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync_failure SET next_at = pg_catalog.now() "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1 "
				 "AND (next_at IS NULL "
				 "OR next_at OPERATOR(pg_catalog.>) pg_catalog.now())", 1, INT4OID);
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsSync	   *sync;
	Datum		arg;
	uint64		n;

	check_writable("iterable_retry_failures()");
	sync = is_catalog_get_sync(name);
	arg = Int32GetDatum(sync->sync_id);
	n = is_config_write(&query, &arg, NULL);
	is_capture_wake_on_commit();
	PG_RETURN_INT64((int64) n);
}
