/*-------------------------------------------------------------------------
 *
 * run_now.c
 *	  CALL iterable_run_now(): a run in the caller's session, for pg_cron or
 *	  a server without the worker.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "background.h"
#include "catalog.h"
#include "config.h"
#include "http.h"
#include "iterable_sync.h"
#include "launcher.h"
#include "reading.h"
#include "run.h"
#include "scan.h"
#include "schedule.h"
#include "source_watch.h"
#include "state.h"
#include "txn.h"

PG_FUNCTION_INFO_V1(iterable_run_now);

/* How long a scan that waits is left alone, in ms. */
#define SCAN_PAUSE_MS 50

/*
 * Take the scan of a sync a step further, here, where there may be no other
 * process for it.  Returns how long to leave it alone, in ms.
 */
static long
advance_scan(IsScan **scan, int32 sync_id)
{
	if (*scan == NULL)
		*scan = is_scan_create(sync_id);
	if (*scan == NULL)
		return SCAN_PAUSE_MS;	/* the worker's is at it */
	switch (is_scan_step(*scan))
	{
		case IS_SCAN_MORE:
			return 0;
		case IS_SCAN_WAIT:
			return SCAN_PAUSE_MS;
		case IS_SCAN_DONE:
			is_scan_free(*scan);
			*scan = NULL;
			break;
	}
	return 0;
}

static void
look(void *arg)
{
	IsSync	   *sync = is_catalog_get_sync_by_id(*(int32 *) arg);

	if (sync != NULL)
		(void) is_source_watch_look(sync);
}

/*
 * What the worker does every now and then: there may be none.  What is in the
 * log can be sent also if the triggers cannot be put now.
 */
static void
watch_source(int32 sync_id)
{
	ErrorData  *error;

	is_txn_begin();
	error = is_reading_try(look, &sync_id);
	if (error && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	if (error)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("it was not looked whether the source has been replaced: %s",
						error->message),
				 error->hint ? errhint("%s", error->hint) : 0));
	is_txn_commit();
}

/* Run until nothing is left; everything that is pending at the start is. */
static void
run_to_the_end(IsRun *run, IsHttp *http, int32 sync_id, IsScan **scan)
{
	TimestampTz trouble_since = 0;
	TimestampTz watched_at = 0;

	for (;;)
	{
		int64		wait;
		const char *trouble;
		IsHttpAnswer *answer;
		long		wait_ms;

		if (TimestampDifferenceExceeds(watched_at, GetCurrentTimestamp(),
									   is_rescan_interval * 1000))
		{
			watch_source(sync_id);
			watched_at = GetCurrentTimestamp();
		}
		wait = is_run_advance(run, false);
		trouble = is_run_trouble(run);
		wait_ms = wait < 0 ? 1000 : (long) ((wait + 999) / 1000);

		if (is_run_scanning(run))
			wait_ms = Min(wait_ms, advance_scan(scan, sync_id));
		else if (wait == IS_RUN_IDLE)
			return;
		if (trouble == NULL)
			trouble_since = 0;
		else if (trouble_since == 0)
			trouble_since = GetCurrentTimestamp();
		if (trouble != NULL &&
			(is_run_stopped(run) ||
			 TimestampDifferenceExceeds(trouble_since, GetCurrentTimestamp(),
										is_run_patience(run))))
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("the run could not be completed"),
					 errdetail("%s", trouble),
					 errhint("What was accepted is recorded; the rest stays pending and goes with the next run.")));

		(void) is_http_wait(http, wait_ms, false);
		while ((answer = is_http_next_answer(http)) != NULL)
		{
			is_run_take_answer(answer);
			is_http_answer_free(answer);
		}
	}
}

/* Not a part of its caller: PG_TRY() blocks in one function shadow each other. */
static void
run_or_abandon(IsRun *run, IsHttp *http, int32 sync_id)
{
	IsScan	   *volatile scan = NULL;

	PG_TRY();
	{
		run_to_the_end(run, http, sync_id, (IsScan **) &scan);
	}
	PG_CATCH();
	{
		if (scan)
			is_scan_free(scan);
		is_run_abandon(run);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * iterable_run_now(sync text)
 *
 * Commits between its requests, so it cannot be part of a transaction block.
 * Errors: 22004 null; 42704 no such sync; 55000 the sync is disabled or belongs to
 * another server; 55006 another session or the worker runs it; 2D000 in a
 * transaction block; 25006 in recovery; 08006 Iterable cannot be reached or
 * has refused the key.
 */
Datum
iterable_run_now(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);	/* never strict */
	bool		atomic = !(fcinfo->context && IsA(fcinfo->context, CallContext)) ||
		((CallContext *) fcinfo->context)->atomic;
	MemoryContext context;
	IsSync	   *sync;
	IsSyncState *state;
	IsHttp	   *http;
	IsRun	   *run;
	IsUserContext save;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot run a sync during recovery"),
				 errhint("Syncs run on the primary.")));
	if (atomic)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("iterable_run_now() cannot be called in a transaction block"),
				 errhint("It commits between its requests: CALL it by itself.")));

	sync = is_catalog_get_sync(name);
	is_catalog_become_owner(&save);
	state = is_state_load(sync->sync_id, false);
	if (!sync->enabled || state == NULL ||
		strcmp(state->identity, is_state_identity()) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sync \"%s\" is not enabled", sync->name),
				 errhint("Call iterable_enable_sync() first.")));
	is_catalog_restore_user(&save);

	/* outlives the transactions in between */
	context = AllocSetContextCreate(PortalContext, "iterable_run_now",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	MemoryContextSwitchTo(context);
	SPI_commit();
	MemoryContextSwitchTo(context);

	is_txn_in_procedure(true);
	PG_TRY();
	{
		http = is_http_create();
		run = is_run_create(sync->sync_id, http);
		if (run == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("sync \"%s\" is being run already", name),
					 errhint("The worker or another session sends what is pending; iterable_wait() waits for it.")));
		run_or_abandon(run, http, sync->sync_id);
		is_run_free(run);
		is_txn_begin();
		state = is_state_load(sync->sync_id, false);
		if (state && (state->run_id != 0 || is_schedule_continuous(state->schedule)))
			is_state_end_run(sync->sync_id, state->run_id);
		is_txn_commit();
		if (!is_launcher_available())
			is_background_tidy();	/* nobody else does */
		is_http_destroy(http);
	}
	PG_FINALLY();
	{
		is_txn_in_procedure(false);
	}
	PG_END_TRY();

	SPI_finish();
	PG_RETURN_VOID();
}
