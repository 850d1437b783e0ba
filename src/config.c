/*-------------------------------------------------------------------------
 *
 * config.c
 *	  SQL functions that enable, disable, run and drop syncs.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "config.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "capture.h"
#include "change_log.h"
#include "compat.h"
#include "connection.h"
#include "expression.h"
#include "follow.h"
#include "layout.h"
#include "render.h"
#include "scan.h"
#include "schedule.h"
#include "source.h"
#include "source_watch.h"
#include "state.h"

PG_FUNCTION_INFO_V1(iterable_enable_sync);
PG_FUNCTION_INFO_V1(iterable_disable_sync);
PG_FUNCTION_INFO_V1(iterable_drop_sync);
PG_FUNCTION_INFO_V1(iterable_run);
PG_FUNCTION_INFO_V1(iterable_backfill);
PG_FUNCTION_INFO_V1(iterable_cancel_backfill);

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

void
is_config_check_writable(const char *function)
{
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
}

IsSync *
is_config_lock_sync(const char *name, const char *function)
{
	static IsQuery query =
		IS_QUERY("SELECT FROM iterable.sync "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE", 1, INT4OID);

	is_config_check_writable(function);

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
is_config_start_backfill(const IsSync *sync, const char *condition, bool force)
{
	IsUserContext save;

	(void) is_source_resolve(sync);
	is_catalog_become_owner(&save);
	is_scan_request(sync->sync_id, IS_SCAN_BACKFILL, condition, force,
					"a backfill was asked for");
	is_catalog_restore_user(&save);
}

void
is_config_note_rows(const IsSync *sync)
{
	IsUserContext save;

	if (!sync->track)
		return;
	is_catalog_become_owner(&save);
	is_scan_request(sync->sync_id, IS_SCAN_NOTE, NULL, false,
					"rows that are there already are noted, not sent");
	is_catalog_restore_user(&save);
}

/* ----------------------------------------------------------------
 * Enabling and disabling
 * ----------------------------------------------------------------
 */

bool
is_config_enabled_here(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("SELECT FROM iterable.sync_state "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1 "
				 "AND identity OPERATOR(pg_catalog.=) $2", 2, INT4OID, TEXTOID);
	Datum		values[2];

	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = CStringGetTextDatum(is_state_identity());
	return is_config_write(&query, values, NULL) == 1;
}

void
is_config_forget_state(const IsSync *sync)
{
	static IsQuery queries[] = {
		IS_QUERY("DELETE FROM iterable.sync_state "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
		IS_QUERY("UPDATE iterable.sync_run SET finished_at = pg_catalog.now() "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1 AND finished_at IS NULL",
				 1, INT4OID),
	};
	Datum		arg = Int32GetDatum(sync->sync_id);

	for (int i = 0; i < (int) lengthof(queries); i++)
		is_config_write(&queries[i], &arg, NULL);
}

void
is_config_start_state(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("INSERT INTO iterable.sync_state (sync_id, identity, \"position\") "
				 "VALUES ($1, $2, $3::pg_catalog.pg_snapshot)",
				 3, INT4OID, TEXTOID, TEXTOID);
	Datum		values[3];

	is_config_forget_state(sync);
	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = CStringGetTextDatum(is_state_identity());
	values[2] = CStringGetTextDatum(is_change_log_start_position());
	is_config_write(&query, values, NULL);
	is_config_start_schedule(sync);
}

void
is_config_start_schedule(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync_state "
				 "SET last_run_at = pg_catalog.clock_timestamp() "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	Datum		arg = Int32GetDatum(sync->sync_id);

	if (is_schedule_waits(sync->schedule))
		is_config_write(&query, &arg, NULL);
}

void
is_config_hurry(const IsSync *sync)
{
	IsUserContext save;

	is_catalog_become_owner(&save);
	is_scan_hurry(sync->sync_id);
	is_catalog_restore_user(&save);
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
	is_config_hurry(sync);
}

/* What is permitted, but is perhaps not what was meant. */
static void
warn(const IsSync *sync, const IsRelation *relation, IsApply apply)
{
	Oid			schema = get_rel_namespace(relation->relid);

	if (sync->object == IS_OBJECT_EVENT && !is_layout_has_time(sync))
		ereport(WARNING,
				(errmsg("sync \"%s\" does not say when its events happened", sync->name),
				 apply == IS_APPLY_BACKFILL ?
				 errdetail("Iterable will date all events of the backfill now.") :
				 errdetail("Iterable dates an event when it receives it."),
				 errhint("Add a mapping to \"createdAt\".")));
	if (is_namespace_aclcheck(schema, relation->owner, ACL_CREATE) != ACLCHECK_OK)
		ereport(WARNING,
				(errmsg("owner of source \"%s.%s\" may not create tables in its schema",
						sync->source.schema_name, sync->source.table_name),
				 errdetail("If another role puts a new table under this name, the sync pauses."),
				 errhint("Use GRANT CREATE ON SCHEMA %s TO %s if the table is to be rebuilt.",
						 quote_identifier(sync->source.schema_name),
						 quote_identifier(GetUserNameFromId(relation->owner, false)))));
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
	bool		first = !is_config_enabled_here(sync);
	IsConnection *connection;
	IsRelation *relation;

	if (first)
		is_config_require_apply(apply, "The sync is enabled for the first time here.");

	/* Everything that creating has checked may have changed since. */
	connection = is_connection_describe(sync->connection, sync->owner);
	relation = is_source_resolve(sync);
	is_source_check(relation->relid, sync);
	is_render_destroy(is_render_create(sync, connection->project_type));
	if (first || apply == IS_APPLY_BACKFILL)
		warn(sync, relation, apply);

	is_source_watch_put(sync);
	if (first)
		is_config_start_state(sync);
	else if (!sync->enabled)
		is_config_start_schedule(sync);
	set_enabled(sync, true);
	clear_trouble(sync);
	if (apply == IS_APPLY_BACKFILL)
		is_config_start_backfill(sync, NULL, false);
	else if (first)
		is_config_note_rows(sync);
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

void
is_config_lock_source(const IsSource *source)
{
	static IsQuery query =
		IS_QUERY("SELECT FROM iterable.source "
				 "WHERE source_id OPERATOR(pg_catalog.=) $1 FOR UPDATE", 1, INT4OID);
	Datum		arg = Int32GetDatum(source->source_id);

	is_config_write(&query, &arg, NULL);
}

void
is_config_release_source(const IsSource *source)
{
	static IsQuery query =
		IS_QUERY("DELETE FROM iterable.source c "
				 "WHERE c.source_id OPERATOR(pg_catalog.=) $1 "
				 "AND NOT EXISTS (SELECT FROM iterable.sync s "
				 "WHERE s.source_id OPERATOR(pg_catalog.=) c.source_id)", 1, INT4OID);
	Datum		arg = Int32GetDatum(source->source_id);

	/* Triggers that had to stay bear its number: the next sync adopts them. */
	if (is_source_drop_triggers(source))
		is_config_write(&query, &arg, NULL);
}

/*
 * iterable_drop_sync(sync text) returns void
 */
Datum
iterable_drop_sync(PG_FUNCTION_ARGS)
{
	/*
	 * State first: a batch that is being recorded has its row locked, so we
	 * wait until that is done, and the next one finds no state.
	 */
	static IsQuery drop[] = {
		IS_QUERY("DELETE FROM iterable.sync_state "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
		IS_QUERY("DELETE FROM iterable.sync_staged "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID),
		IS_QUERY("DELETE FROM iterable.sync_staging "
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
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsSync	   *sync = is_config_lock_sync(name, "iterable_drop_sync()");
	Datum		sync_id = Int32GetDatum(sync->sync_id);

	is_follow_check_drop(sync);
	is_config_lock_source(&sync->source);
	for (int i = 0; i < (int) lengthof(drop); i++)
		is_config_write(&drop[i], &sync_id, NULL);
	is_state_break_pass(sync->sync_id);
	is_config_release_source(&sync->source);
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
	is_config_hurry(sync);
	is_capture_wake_on_commit();
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * Backfills
 * ----------------------------------------------------------------
 */

/*
 * iterable_backfill(sync text, condition text, force boolean) returns void
 */
Datum
iterable_backfill(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	char	   *condition = is_config_arg(fcinfo, 1, "condition", false);
	IsSync	   *sync = is_config_lock_sync(name, "iterable_backfill()");

	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "force")));
	if (!sync->enabled || !is_config_enabled_here(sync))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sync \"%s\" is not enabled", name),
				 errhint("Use iterable_enable_sync() with apply => 'backfill'.")));
	if (condition)
		condition = is_expression_check(condition, is_source_resolve(sync)->relid,
										IS_EXPRESSION_FILTER)->text;
	is_config_start_backfill(sync, condition, PG_GETARG_BOOL(2));
	is_capture_wake_on_commit();
	PG_RETURN_VOID();
}

/*
 * iterable_cancel_backfill(sync text) returns boolean
 */
Datum
iterable_cancel_backfill(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsSync	   *sync = is_config_lock_sync(name, "iterable_cancel_backfill()");
	IsUserContext save;
	bool		canceled;

	is_catalog_become_owner(&save);
	canceled = is_scan_cancel(sync->sync_id, is_source_may_be_captured(sync));
	is_catalog_restore_user(&save);
	is_capture_wake_on_commit();
	PG_RETURN_BOOL(canceled);
}
