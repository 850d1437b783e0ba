/*-------------------------------------------------------------------------
 *
 * run.c
 *	  The way of a sync's changes.
 *
 *	   change log --> window --> chunk --> batch --> request --> verdicts
 *						 held	  rendered	filled	 bulk		 recorded with
 *						 cursor	  rows		in order			 the position
 *
 * Rules that everything rests on:
 *
 * - A window is recorded before its first request.  A run that finds an open
 *	 one resumes it and sends its rows even if Iterable seems to have them:
 *	 what was sent without a recorded verdict is unknown.
 * - Nothing is decided about a row (not even that it is unchanged) while a
 *	 batch with the same key or user waits for its verdict.
 * - Only what is durable is sent: WAL is flushed between reading rows and
 *	 sending them.
 * - A batch whose outcome is unknown goes again, before anything newer of its
 *	 keys, until it has verdicts.
 * - Batches cover the window in order.  The recorded place moves over a batch
 *	 when it and all before it are done; batches done beyond are listed.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "run.h"

#include "utils/memutils.h"

#include "gate.h"
#include "run_internal.h"
#include "txn.h"

/* Rows of the first chunk, before it is known how large they are. */
#define FIRST_CHUNK_ROWS 100

/* Payloads of batches beyond the lanes. */
#define PREPARED_BYTES (8 * 1024 * 1024)

void
is_run_load_connection(IsRun *run)
{
	MemoryContext old;

	run->connection = NULL;
	MemoryContextReset(run->connection_context);
	old = MemoryContextSwitchTo(run->connection_context);
	run->connection = is_connection_get(run->sync->connection, run->sync->owner);
	run->envelope = is_api_envelope_open(is_render_endpoint(run->sync),
										 run->sync->new_fields,
										 is_render_updates_users(run->sync) &&
										 run->connection->update_only);
	MemoryContextSwitchTo(old);
	is_gate_load(run->connection);
}

void
is_run_load_definition(IsRun *run)
{
	MemoryContext old;

	if (run->renderer)
		is_render_destroy(run->renderer);
	run->renderer = NULL;
	MemoryContextReset(run->sync_context);

	old = MemoryContextSwitchTo(run->sync_context);
	run->sync = is_catalog_get_sync_by_id(run->sync_id);
	if (run->sync == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the sync has been dropped")));
	is_run_load_connection(run);
	run->endpoint = is_render_endpoint(run->sync);
	run->project_type = run->connection->project_type;
	run->renderer = is_render_create(run->sync, run->project_type);
	if (!is_render_is_captured(run->renderer))
		is_source_check_compared(run->sync);
	MemoryContextSwitchTo(old);
}

IsRun *
is_run_create(int32 sync_id, IsHttp *http)
{
	MemoryContext context;
	MemoryContext old;
	IsRun	   *run;
	bool		locked;

	is_txn_begin();
	locked = is_state_lock_run(sync_id);
	is_txn_commit();
	if (!locked)
		return NULL;

	context = AllocSetContextCreate(CurrentMemoryContext, "iterable_sync run",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	run = palloc0(sizeof(IsRun));
	run->context = context;
	run->http = http;
	run->sync_id = sync_id;
	run->sync_context = AllocSetContextCreate(context, "iterable_sync run definition",
											  ALLOCSET_DEFAULT_SIZES);
	run->connection_context = AllocSetContextCreate(context, "iterable_sync run connection",
													ALLOCSET_SMALL_SIZES);
	run->state_context = AllocSetContextCreate(context, "iterable_sync run state",
											   ALLOCSET_DEFAULT_SIZES);
	run->claims = is_batch_claims_create();
	run->chunk_rows = FIRST_CHUNK_ROWS;
	run->rtt = 0.1 * US_PER_S;
	MemoryContextSwitchTo(old);
	return run;
}

const char *
is_run_trouble(const IsRun *run)
{
	return run->trouble[0] ? run->trouble : NULL;
}

TimestampTz
is_run_next_retry(const IsRun *run)
{
	return run->state ? run->state->next_retry_at : DT_NOEND;
}

TimestampTz
is_run_last_run(const IsRun *run)
{
	return run->state ? run->state->last_run_at : DT_NOBEGIN;
}

bool
is_run_scanning(const IsRun *run)
{
	return run->state != NULL && run->state->scanning;
}

int
is_run_patience(const IsRun *run)
{
	return run->connection ? 2 * run->connection->request_timeout_ms : 0;
}

bool
is_run_stopped(const IsRun *run)
{
	return run->connection != NULL && is_gate_stopped(run->connection);
}

void
is_run_abandon(IsRun *run)
{
	is_run_cancel_requests(run);
	is_state_unlock_run(run->sync_id);
}

void
is_run_free(IsRun *run)
{
	is_run_cancel_requests(run);
	is_txn_begin();
	if (run->window)
		is_change_log_close_window(run->window);
	if (run->renderer)
		is_render_destroy(run->renderer);
	is_state_unlock_run(run->sync_id);
	is_txn_commit();
	MemoryContextDelete(run->context);
}

/*
 * Batches that need no request are done as soon as they are complete.  False
 * if there is none.
 */
static bool
record_quiet_batch(IsRun *run)
{
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		IsBatch    *batch = lfirst(lc);

		if (is_run_batch_done(batch) && !batch->closed)
		{
			is_run_record(run, batch);
			return true;		/* the list has changed */
		}
	}
	return false;
}

/*
 * Besides the batches under way there are as many to follow them at once,
 * unless they are large: when the pacer lets several go, or their answers come
 * together, rendering would hold them up.
 */
static bool
may_fill(const IsRun *run)
{
	int			open = 0;
	Size		bytes = 0;
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		const IsBatch *batch = lfirst(lc);

		if (batch->closed)
			continue;
		open++;
		bytes += batch->payloads.len;
	}
	return open <= is_run_lanes(run) ||
		(open < 2 * is_run_lanes(run) && bytes < PREPARED_BYTES);
}

/*
 * A connection that is in trouble is read again, its key and its address may
 * have been mended.
 */
static void
look_at_connection(IsRun *run)
{
	char	   *base_url = pstrdup(run->connection->base_url);
	uint64		key_digest = run->connection->key_digest;
	int			connect_timeout_ms = run->connection->connect_timeout_ms;
	int			request_timeout_ms = run->connection->request_timeout_ms;

	is_txn_begin();
	is_run_load_connection(run);
	is_txn_commit();

	/* what is under way has been rendered for another one */
	if (run->project_type != run->connection->project_type)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the project type of the connection has changed")));
	if (strcmp(base_url, run->connection->base_url) != 0 ||
		key_digest != run->connection->key_digest ||
		connect_timeout_ms != run->connection->connect_timeout_ms ||
		request_timeout_ms != run->connection->request_timeout_ms)
	{
		run->setbacks = 0;
		run->not_before = 0;
	}
	pfree(base_url);
}

int64
is_run_advance(IsRun *run, bool stop)
{
	int64		wait;
	bool		blocked = false;

	if (run->window == NULL)
	{
		if (stop)
			return IS_RUN_IDLE;
		if (!is_run_start_window(run))
			return IS_RUN_IDLE;
	}
	if (stop)
		return run->requests ? IS_RUN_ANSWER : IS_RUN_IDLE;

	if ((is_gate_stopped(run->connection) || run->setbacks > 0) && run->sending == 0)
		look_at_connection(run);

	wait = is_run_dispatch(run);
	if ((!run->window_read || run->chunk) && may_fill(run))
	{
		blocked = !is_run_fill(run);
		if (record_quiet_batch(run) || !blocked)
			return IS_RUN_AT_ONCE;
		wait = is_run_dispatch(run);
	}

	/* An empty window (all of it was done ahead). */
	if (run->window_read && run->chunk == NULL && run->filling == NULL &&
		run->batches == NIL)
	{
		is_txn_begin();
		is_run_finish_window(run);
		is_txn_commit();
		return IS_RUN_AT_ONCE;
	}
	if (wait > 0)
		return wait;
	return IS_RUN_ANSWER;
}
