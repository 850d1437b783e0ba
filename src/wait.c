/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  iterable_wait(): until what is committed now has been dealt with.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "capture.h"
#include "catalog.h"
#include "change_log.h"
#include "compat.h"
#include "launcher.h"
#include "query.h"
#include "schedule.h"
#include "state.h"

PG_FUNCTION_INFO_V1(iterable_wait);
PG_FUNCTION_INFO_V1(iterable_server_identity);

#define POLL_MS 20

/* Identity of this server and database, as sync_state.identity has it. */
Datum
iterable_server_identity(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(is_state_identity()));
}

static int64
count_failures(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"SELECT pg_catalog.count(*) FROM iterable.sync_failure "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	Datum		value = Int32GetDatum(sync_id);
	bool		isnull;
	int64		result;

	SPI_connect();
	(void) is_query_run(&query, &value, NULL);
	result = DatumGetInt64(is_query_value(0, 1, &isnull));
	SPI_finish();
	return result;
}

/* Why the connection of a sync is stopped, or NULL. */
static char *
connection_stopped(const char *connection)
{
	static IsQuery query = IS_QUERY(
		"SELECT reason FROM iterable.connection_state "
		"WHERE connection OPERATOR(pg_catalog.=) $1::pg_catalog.name", 1, TEXTOID);
	MemoryContext context = CurrentMemoryContext;
	Datum		value = CStringGetTextDatum(connection);
	char	   *result = NULL;

	SPI_connect();
	if (is_query_run(&query, &value, NULL) == 1)
		result = is_query_text(0, 1, context);
	SPI_finish();
	return result;
}

/* What is waited for. */
typedef struct Goal
{
	TimestampTz since;
	char	   *snapshot;		/* changes visible in it, unless there is … */
	bool		more;			/* … more that is still to enter the log */
	MemoryContext context;
} Goal;

/*
 * Look once (as the extension's owner): done, or why it will not be done, or
 * neither.
 */
static bool
look(const IsSync *sync, Goal *goal, const char **reason)
{
	IsSyncState *state = is_state_load(sync->sync_id, false);
	char	   *stopped;

	*reason = NULL;
	if (state == NULL)
	{
		*reason = "the sync has never been enabled";
		return false;
	}

	/*
	 * What a scan finds, which a run that is asked for may begin with, and
	 * failures to be tried again enter the log by themselves: take the snapshot when it is known that they have.
	 */
	if (state->scanning || state->run_requested || state->next_retry_at <= goal->since)
		goal->more = true;
	else
	{
		if (goal->more)
		{
			MemoryContext old = MemoryContextSwitchTo(goal->context);

			goal->snapshot = is_change_log_snapshot();
			MemoryContextSwitchTo(old);
		}
		goal->more = false;
		if (!is_change_log_has_changes(state->source_id, sync->sync_id,
									   state->position, goal->snapshot))
			return true;
	}

	stopped = connection_stopped(sync->connection);
	if (!state->enabled)
		*reason = "the sync is disabled";
	else if (strcmp(state->identity, is_state_identity()) != 0)
		*reason = "the sync was enabled on another server or in another database";
	else if (state->paused_reason)
		*reason = psprintf("the sync is paused: %s", state->paused_reason);
	else if (stopped)
		*reason = psprintf("the connection is stopped: %s", stopped);
	else if (!is_launcher_available())
		*reason = "there is no worker, because the library is not in shared_preload_libraries";
	else if (state->window_end == NULL && state->run_id == 0 &&
			 !state->run_requested && !state->noting &&
			 is_schedule_manual(state->schedule))
		*reason = "the schedule is manual and no run was requested";
	return false;
}

/*
 * iterable_wait(sync text, timeout interval)
 *	  returns (done boolean, failures bigint, reason text)
 *
 * Errors: 42704 no such sync; 55000 this transaction has changed a source
 * itself, or its snapshot is fixed, so that it would wait in vain.
 */
Datum
iterable_wait(PG_FUNCTION_ARGS)
{
	IsSync	   *sync = is_catalog_get_sync(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	Interval   *timeout = PG_GETARG_INTERVAL_P(1);
	TimestampTz until =
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												TimestampTzGetDatum(GetCurrentTimestamp()),
												IntervalPGetDatum(timeout)));
	const char *reason = NULL;
	Goal		goal = {
		.since = GetCurrentTimestamp(),
		.more = true,
		.context = CurrentMemoryContext
	};
	MemoryContext look_context;
	bool		done;
	int64		failures;
	IsUserContext save;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (is_capture_pending() || is_change_log_written())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("iterable_wait() cannot wait for changes of its own transaction"),
				 errhint("Commit first, then wait.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("iterable_wait() needs isolation level READ COMMITTED"),
				 errhint("In a fixed snapshot the progress of others cannot be seen.")));

	look_context = AllocSetContextCreate(CurrentMemoryContext, "iterable_wait",
										 ALLOCSET_DEFAULT_SIZES);
	is_launcher_wake(MyDatabaseId);
	for (;;)
	{
		MemoryContextReset(look_context);
		MemoryContextSwitchTo(look_context);
		is_catalog_become_owner(&save);
		done = look(sync, &goal, &reason);
		failures = count_failures(sync->sync_id);
		is_catalog_restore_user(&save);
		MemoryContextSwitchTo(goal.context);
		if (done || reason != NULL)
			break;
		if (GetCurrentTimestamp() >= until)
		{
			reason = "timeout";
			break;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS, is_wait_event("IterableWait"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}

	values[0] = BoolGetDatum(done);
	values[1] = Int64GetDatum(failures);
	if (reason)
		values[2] = CStringGetTextDatum(reason);
	else
		nulls[2] = true;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
