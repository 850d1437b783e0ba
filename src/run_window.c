/*-------------------------------------------------------------------------
 *
 * run_window.c
 *	  A window of the change log: from its opening to its end.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "run_internal.h"
#include "scan.h"
#include "schedule.h"
#include "source.h"
#include "source_watch.h"
#include "staged.h"
#include "txn.h"

/* A run of a continuous sync lasts at most about this long, in ms. */
#define RUN_MS 60000

/*
 * Failures whose time has come become changes of this sync in the log: so they
 * take the one way that everything takes, and share its order and its safety.
 * Whoever is about to change failures otherwise has the state locked, too.
 */
static void
feed(IsRun *run)
{
	List	   *tags;
	List	   *keys;

	(void) is_state_load(run->sync_id, true);
	keys = is_delivery_take_due_failures(run->sync_id, IS_MAX_BATCH_ROWS, &tags);
	is_change_log_append_failed(run->sync->source.source_id, run->sync_id, keys, tags);
}

void
is_run_check_state(const IsRun *run, const IsSyncState *now)
{
	if (now == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the sync has been dropped")));

	/* Another source or connection: what is under way is nobody's. */
	if (run->state != NULL && run->window != NULL &&
		run->state->state_id != now->state_id)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the sync has begun anew")));
}

static void
reload_state(IsRun *run)
{
	MemoryContext old;

	MemoryContextReset(run->state_context);
	old = MemoryContextSwitchTo(run->state_context);
	run->state = is_state_load(run->sync_id, false);
	MemoryContextSwitchTo(old);
	is_run_check_state(run, run->state);
}

/*
 * A run of a sync whose source is not captured compares all rows, unless that
 * is asked for already, or they are being noted.
 */
static void
ask_for_comparing(IsRun *run)
{
	if (run->state->noting || run->state->scanning_all)
		return;
	is_scan_request(run->sync_id, IS_SCAN_COMPARE, NULL, false,
					"the source is compared at each run");
	run->state->scanning = true;
}

/*
 * Resume the window that an earlier run left open, or open one if there is
 * anything to do.
 */
bool
is_run_start_window(IsRun *run)
{
	IsSyncState *state;
	MemoryContext old;
	bool		captured;
	bool		asked;
	bool		resumed;

	is_txn_begin();
	reload_state(run);
	state = run->state;
	if (run->sync != NULL)
		is_run_load_connection(run);
	if (run->sync == NULL || run->sync->version != state->version ||
		run->project_type != run->connection->project_type ||
		is_source_may_be_captured(run->sync) != is_render_is_captured(run->renderer))
		is_run_load_definition(run);

	captured = is_render_is_captured(run->renderer);
	resumed = state->window_end != NULL;
	if (!resumed)
	{
		/* comparing finds them by itself */
		if (captured && state->next_retry_at <= GetCurrentTimestamp())
		{
			feed(run);
			is_txn_commit();
			is_txn_begin();
			reload_state(run);
			state = run->state;
		}

		/* With it: a run that fails before this has not been one. */
		asked = !is_schedule_continuous(state->schedule) || state->run_requested;
		if (asked && state->run_id == 0)
		{
			state->last_run_at = GetCurrentTimestamp();
			is_state_mark_run(run->sync_id);
			if (!captured)
				ask_for_comparing(run);
		}

		/* before the snapshot: what is asked for later waits for the next */
		if (state->run_requested)
			is_state_answer_request(run->sync_id);
		old = MemoryContextSwitchTo(run->state_context);
		state->window_end = is_change_log_next_window(state->source_id, run->sync_id,
													  state->position,
													  is_change_log_snapshot(),
													  run->sync->capture != IS_CAPTURE_KEY);
		MemoryContextSwitchTo(old);
		if (state->window_end == NULL)
		{
			/* to note what is there is not a run */
			if (state->scanning && state->run_id == 0 &&
				!(state->noting && is_schedule_continuous(state->schedule)))
				state->run_id = is_state_begin_run(run->sync_id);
			else if (asked && !state->scanning)
			{
				is_state_end_run(run->sync_id, state->run_id);
				is_state_clear_trouble(run->sync_id);
				if (!captured)
					is_staged_forget_all(run->sync_id);
				state->run_id = 0;
			}
			run->run_id = state->run_id;
			run->run_started_at = state->run_started_at;
			is_txn_commit();
			return false;
		}
		is_state_open_window(run->sync_id, state->window_end);
	}

	run->run_id = state->run_id;
	run->run_started_at = state->run_started_at;
	if (run->run_id == 0)
	{
		run->run_id = is_state_begin_run(run->sync_id);
		run->run_started_at = GetCurrentTimestamp();
	}
	is_txn_commit();

	/* The window is on disk: from here on requests may leave. */
	is_txn_begin();
	old = MemoryContextSwitchTo(run->context);
	run->window = is_change_log_open_window(state->source_id, run->sync_id,
											state->position, state->window_end,
											state->done.seq, state->done.offset,
											run->sync->capture != IS_CAPTURE_KEY);
	run->known = resumed ? is_batch_known_create() : NULL;
	MemoryContextSwitchTo(old);
	is_txn_commit();
	run->window_read = false;
	run->read_to = state->done;
	return true;
}

void
is_run_ask_for_scan(IsRun *run)
{
	if (run->look_at_all && is_render_is_captured(run->renderer))
		is_scan_request_again(run->sync_id, "which rows have changed could not be captured");
	else if (run->look_at_all)
		is_scan_request(run->sync_id, IS_SCAN_COMPARE, NULL, false,
						"which rows have changed could not be captured");
	else if (run->truncated)
		is_scan_request_check(run->sync_id, "the source was truncated");
	if (OidIsValid(run->astray_from))
		is_source_watch_doubt(run->sync->source.source_id, run->astray_from);
	run->look_at_all = false;
	run->truncated = false;
	run->astray_from = InvalidOid;
}

/* Everything of the window is done (in a transaction, with the last record). */
void
is_run_finish_window(IsRun *run)
{
	is_state_close_window(run->sync_id);
	is_run_ask_for_scan(run);
	is_state_clear_trouble(run->sync_id);
	if (is_schedule_continuous(run->state->schedule) &&
		TimestampDifferenceExceeds(run->run_started_at, GetCurrentTimestamp(), RUN_MS))
		is_run_end(run);
	is_change_log_close_window(run->window);
	run->window = NULL;
	if (run->known)
		hash_destroy(run->known);
	run->known = NULL;
}

int64
is_run_until_end(const IsRun *run)
{
	TimestampTz now = GetCurrentTimestamp();

	if (run->run_id == 0)
		return -1;
	return Max(0, run->run_started_at + RUN_MS * INT64CONST(1000) - now);
}

void
is_run_end(IsRun *run)
{
	is_state_end_run(run->sync_id, run->run_id);
	run->run_id = 0;
}
