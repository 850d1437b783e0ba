/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The background worker of one database.
 *
 * One loop over all syncs: look which may have something to do, let each do
 * what it can, wait for answers, the latch and the next thing that is due.
 * An error in one sync's work is caught there, written to its state, and
 * tried again later; the others go on.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "worker.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "background.h"
#include "catalog.h"
#include "change_log.h"
#include "clock.h"
#include "compat.h"
#include "connection.h"
#include "http.h"
#include "iterable_sync.h"
#include "launcher.h"
#include "render.h"
#include "scan_worker.h"
#include "schedule.h"
#include "source_watch.h"
#include "state.h"
#include "run.h"
#include "txn.h"
#include "uncaptured.h"

#define US_PER_S INT64CONST(1000000)

/* Pause after an error of a sync, doubled with each up to the longest. */
#define FIRST_PAUSE US_PER_S
#define LAST_PAUSE (60 * US_PER_S)

/* Another session runs the sync: look again after this. */
#define LOCKED_PAUSE (US_PER_S / 2)

/* Commits that follow one another closely are looked for together. */
#define LOOK_PAUSE (US_PER_S / 200)
/* While all syncs have something to do, only what a person changes is news. */
#define BUSY_LOOK_PAUSE (US_PER_S / 10)

/* What the worker knows of a sync. */
typedef struct Entry
{
	int32		sync_id;
	IsSyncState *state;			/* as last loaded; NULL: the sync is gone */
	IsRun	   *run;
	bool		pending;		/* the log may have something for it */
	bool		idle;			/* its run had nothing to do when last asked */
	int64		not_before;		/* after an error; µs */
	int			errors;			/* in a row */
	int32		version;		/* at the last error */
	bool		unwatched;		/* the last look at its source has failed */
	bool		barred;			/* and it must not run until one succeeds */
} Entry;

static int	slot;
static IsHttp *http;
static List *entries = NIL;
static MemoryContext worker_context;
static MemoryContext states_context;
static char *looked = NULL;		/* snapshot of the last look at the log */
static char *identity = NULL;
static uint64 served;			/* generation that the last look covers */

/* ----------------------------------------------------------------
 * Looking
 * ----------------------------------------------------------------
 */

static Entry *
find_entry(int32 sync_id)
{
	MemoryContext old;
	Entry	   *entry;
	ListCell   *lc;

	foreach(lc, entries)
	{
		entry = lfirst(lc);
		if (entry->sync_id == sync_id)
			return entry;
	}
	old = MemoryContextSwitchTo(worker_context);
	entry = palloc0(sizeof(Entry));
	entry->sync_id = sync_id;
	entry->pending = true;		/* nothing is known of it yet */
	entry->unwatched = true;
	entries = lappend(entries, entry);
	MemoryContextSwitchTo(old);
	return entry;
}

static bool
installed(void)
{
	MemoryContext context = CurrentMemoryContext;
	bool		result;

	StartTransactionCommand();
	result = is_catalog_installed();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

/* Is it known of every sync that the log may have something for it? */
static bool
all_pending(void)
{
	ListCell   *lc;

	foreach(lc, entries)
		if (!((Entry *) lfirst(lc))->pending)
			return false;
	return true;
}

static int64
look_pause(void)
{
	return all_pending() ? BUSY_LOOK_PAUSE : LOOK_PAUSE;
}

/*
 * Load all states, and mark the syncs whose sources have changed since the
 * last look: one query for all of them.  False if the extension is gone.
 */
static bool
look(void)
{
	MemoryContext old;
	List	   *states;
	List	   *sources = NIL;
	char	   *snapshot;
	ListCell   *lc;

	/* before the snapshot: what is committed later bumps it again */
	served = is_launcher_generation(slot);

	if (!installed())
		return false;

	is_txn_begin();
	MemoryContextReset(states_context);
	old = MemoryContextSwitchTo(states_context);
	states = is_state_load_all();
	identity = is_state_identity();
	snapshot = is_change_log_snapshot();
	if (looked && !all_pending())
		sources = is_change_log_changed_sources(looked, snapshot);
	MemoryContextSwitchTo(worker_context);
	if (looked)
		pfree(looked);
	looked = pstrdup(snapshot);
	MemoryContextSwitchTo(old);
	is_txn_commit();

	foreach(lc, entries)
		((Entry *) lfirst(lc))->state = NULL;
	foreach(lc, states)
	{
		IsSyncState *state = lfirst(lc);
		Entry	   *entry = find_entry(state->sync_id);

		entry->state = state;
		if (list_member_int(sources, state->source_id))
			entry->pending = true;
		if (entry->errors > 0 && entry->version != state->version)
			entry->not_before = 0;	/* somebody has mended something */
	}
	return true;
}

static bool
may_run(const Entry *entry)
{
	return entry->state != NULL && entry->state->enabled && !entry->barred &&
		strcmp(entry->state->identity, identity) == 0;
}

/*
 * When the sync wants to run: DT_NOBEGIN for now, DT_NOEND for never as far
 * as is known.
 */
static TimestampTz
wants_to_run(const Entry *entry)
{
	const IsSyncState *state = entry->state;

	/* What was begun is finished, and what was asked for is done. */
	if (state->window_end || state->run_requested)
		return DT_NOBEGIN;
	if (!is_schedule_continuous(state->schedule) && state->run_id != 0)
		return state->scanning && !entry->pending ? DT_NOEND : DT_NOBEGIN;
	if (is_schedule_continuous(state->schedule))
	{
		if (entry->pending)
			return DT_NOBEGIN;
		return state->next_retry_at;
	}
	if (is_schedule_after(state->schedule))
		return state->after_finished_at > state->last_run_at ? DT_NOBEGIN : DT_NOEND;
	return is_schedule_next(state->schedule, state->time_zone, state->last_run_at);
}

/* The same in µs, 0 for now and -1 for never. */
static int64
until_next_run(const Entry *entry)
{
	TimestampTz when = may_run(entry) ? wants_to_run(entry) : DT_NOEND;
	TimestampTz now = GetCurrentTimestamp();

	if (TIMESTAMP_IS_NOEND(when))
		return -1;
	return when > now ? when - now : 0;
}

/*
 * A scan goes on while its sync runs: one with a schedule only when it is due,
 * and until the scan is done.  To note what is there needs no run.
 */
static bool
may_scan(const Entry *entry)
{
	return may_run(entry) && entry->state->scanning &&
		(entry->run != NULL || entry->state->run_id != 0 || entry->state->noting ||
		 is_schedule_continuous(entry->state->schedule));
}

/* ----------------------------------------------------------------
 * Working
 * ----------------------------------------------------------------
 */

/* An error of a sync: when to try again.  To the log only if it is news. */
static void
take_error(Entry *entry, ErrorData *error)
{
	char	   *text;
	bool		person = is_background_report_error(entry->sync_id, error, &text);

	if (entry->errors == 0)
		ereport(LOG,
				(errmsg("sync \"%s\" is %s: %s", entry->state->name,
						person ? "paused" : "failing", text)));
	entry->not_before = is_clock_us() +
		(person ? is_rescan_interval * US_PER_S :
		 Min(LAST_PAUSE, FIRST_PAUSE << Min(entry->errors, 6)));
	entry->errors++;
	entry->version = entry->state ? entry->state->version : 0;
	pfree(text);
}

/* Run a piece of work; an error of it is the sync's, not ours. */
typedef void (*Work) (Entry *entry, void *arg);

static void
guarded(Entry *entry, Work work, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		work(entry, arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		is_txn_abort();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();

	if (error)
	{
		if (entry->run)
			is_run_free(entry->run);
		entry->run = NULL;
		if (error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE)
			entry->not_before = is_clock_us() + LOCKED_PAUSE;	/* it begins anew, we too */
		else if (entry->state)
			take_error(entry, error);
		FreeErrorData(error);
	}
}

static void
begin_run(Entry *entry, void *arg)
{
	const IsSyncState *state = entry->state;
	MemoryContext old;

	/* It has run and is due whenever it has: its time zone has gone. */
	if (!is_schedule_continuous(state->schedule) &&
		!TIMESTAMP_IS_NOBEGIN(state->last_run_at) &&
		TIMESTAMP_IS_NOBEGIN(is_schedule_next(state->schedule, state->time_zone,
											  state->last_run_at)))
		is_schedule_check(state->schedule, state->time_zone);

	old = MemoryContextSwitchTo(worker_context);
	entry->run = is_run_create(entry->sync_id, http);
	MemoryContextSwitchTo(old);
	if (entry->run == NULL)
		entry->not_before = is_clock_us() + LOCKED_PAUSE;
}

static void
advance_run(Entry *entry, void *arg)
{
	int64	   *result = arg;

	*result = is_run_advance(entry->run, !may_run(entry));
	if (*result >= 0)
		entry->errors = 0;
}

static void
end_run(Entry *entry, void *arg)
{
	IsRun	   *run = entry->run;

	entry->run = NULL;
	is_run_free(run);
}

/*
 * Let a sync do what it can.  Returns µs until it wants to be asked again, or
 * -1 if only an answer or a look can bring it something.
 */
static int64
serve(Entry *entry)
{
	int64		result = IS_RUN_IDLE;
	int64		now = is_clock_us();
	int64		wait;

	if (entry->run == NULL)
	{
		wait = until_next_run(entry);
		if (wait != 0)
			return wait;
		if (entry->not_before > now)
			return entry->not_before - now;
		guarded(entry, begin_run, NULL);
		if (entry->run == NULL)
			return Max(entry->not_before - is_clock_us(), 1000);
	}
	else if (entry->idle && may_run(entry))
	{
		/* a person's row goes first */
		if (is_state_run_wanted(entry->sync_id))
		{
			guarded(entry, end_run, NULL);
			entry->not_before = now + LOCKED_PAUSE;
			return LOCKED_PAUSE;
		}

		/* asking costs a transaction, and what wakes us is mostly others' */
		wait = until_next_run(entry);
		if (wait != 0)
			return wait;
	}

	entry->idle = false;
	guarded(entry, advance_run, &result);
	if (entry->run == NULL)
		return Max(entry->not_before - is_clock_us(), 1000);
	if (result != IS_RUN_IDLE)
		return result == IS_RUN_ANSWER ? -1 : result;

	if (!may_run(entry))
	{
		/* It was told to stop: what is left waits until it may run again. */
		guarded(entry, end_run, NULL);
		return until_next_run(entry);
	}

	/* as they are now, until the next look says otherwise */
	entry->idle = true;
	entry->pending = false;
	entry->state->window_end = NULL;
	entry->state->scanning = is_run_scanning(entry->run);
	if (!entry->state->scanning)
		entry->state->run_id = 0;
	entry->state->run_requested = false;
	entry->state->next_retry_at = is_run_next_retry(entry->run);
	entry->state->last_run_at = is_run_last_run(entry->run);
	entry->errors = 0;

	/* A continuous sync keeps its plans and its lock for the next change. */
	if ((!is_schedule_continuous(entry->state->schedule) && !entry->state->scanning) ||
		is_state_run_wanted(entry->sync_id))
		guarded(entry, end_run, NULL);
	return until_next_run(entry);
}

static void
close_run(Entry *entry, void *arg)
{
	is_txn_begin();
	is_run_end(entry->run);
	is_txn_commit();
}

/*
 * Runs of continuous syncs that are idle end when they are a minute old: who
 * is after them waits for it.  Returns µs until the next, -1 if there is none.
 */
static int64
close_old_runs(void)
{
	int64		result = -1;
	ListCell   *lc;

	foreach(lc, entries)
	{
		Entry	   *entry = lfirst(lc);
		int64		left;

		if (entry->run == NULL || !entry->idle)
			continue;
		left = is_run_until_end(entry->run);
		if (left == 0)
			guarded(entry, close_run, NULL);
		else if (left > 0)
			result = result < 0 ? left : Min(result, left);
	}
	return result;
}

static void
take_answer(Entry *entry, void *arg)
{
	is_run_take_answer(arg);

	/* What is ready goes at once, not after what else has come. */
	if (may_run(entry))
		(void) is_run_dispatch(entry->run);
}

static void
take_answers(void)
{
	IsHttpAnswer *answer;

	while ((answer = is_http_next_answer(http)) != NULL)
	{
		IsRun	   *run = is_run_of_answer(answer);
		ListCell   *lc;

		foreach(lc, entries)
		{
			Entry	   *entry = lfirst(lc);

			if (entry->run == run)
			{
				guarded(entry, take_answer, answer);
				break;
			}
		}
		is_http_answer_free(answer);
	}
}

/* ----------------------------------------------------------------
 * Watching
 * ----------------------------------------------------------------
 */

/*
 * Has anything been done to the source that its triggers could not see?
 * Returns the error, if that is to be told.
 */
static ErrorData *
watch(Entry *entry, bool look_at_source)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	volatile bool stale = false;

	PG_TRY();
	{
		IsSync	   *sync;

		is_txn_begin();
		sync = is_catalog_get_sync_by_id(entry->sync_id);
		if (sync != NULL && look_at_source)
			stale = is_source_watch_look(sync);
		is_txn_commit();

		/* Does the sync still fit?  A run would ask when it has something to do. */
		is_txn_begin();
		sync = is_catalog_get_sync_by_id(entry->sync_id);
		if (sync != NULL && sync->enabled)
			is_render_destroy(is_render_create(sync,
											   is_connection_describe(sync->connection,
																	  sync->owner)->project_type));
		if (entry->unwatched)
			is_state_clear_trouble(entry->sync_id);
		is_txn_commit();

		if (stale)
		{
			is_txn_begin();
			sync = is_catalog_get_sync_by_id(entry->sync_id);
			if (sync != NULL)
				is_source_watch_tidy(sync);
			is_txn_commit();
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		is_txn_abort();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
	return error;
}

static void
note_watched(Entry *entry, const ErrorData *error)
{
	char	   *text;
	bool		person;

	if (error == NULL)
	{
		if (entry->barred)
		{
			entry->errors = 0;
			entry->not_before = 0;
		}
		entry->unwatched = false;
		entry->barred = false;
		return;
	}

	person = is_background_report_error(entry->sync_id, error, &text);
	if (!entry->unwatched || entry->barred != person)
		ereport(LOG,
				(errmsg("sync \"%s\" is %s: %s", entry->state->name,
						person ? "paused" : "failing", text)));
	entry->unwatched = true;
	entry->barred = person;
	pfree(text);
}

/*
 * Sources are looked at once, by the first of their syncs that can.  One that
 * is in use by others concerns all of them.
 */
static void
watch_sources(void)
{
	List	   *watched = NIL;
	ListCell   *lc;

	foreach(lc, entries)
	{
		Entry	   *entry = lfirst(lc);
		int32		source_id;
		ErrorData  *error;
		ListCell   *other;

		if (entry->state == NULL || strcmp(entry->state->identity, identity) != 0)
			continue;
		source_id = entry->state->source_id;
		error = watch(entry, !list_member_int(watched, source_id));
		if (error == NULL || error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		{
			if (error == NULL)
				watched = list_append_unique_int(watched, source_id);
			note_watched(entry, error);
			continue;
		}

		watched = list_append_unique_int(watched, source_id);
		foreach(other, entries)
		{
			entry = lfirst(other);
			if (entry->state != NULL && entry->state->source_id == source_id &&
				strcmp(entry->state->identity, identity) == 0)
				note_watched(entry, error);
		}
	}
}

/* ----------------------------------------------------------------
 * Coming and going
 * ----------------------------------------------------------------
 */

/* The earliest time at which a sync is due without a commit. */
static TimestampTz
next_due(void)
{
	TimestampTz result = DT_NOEND;
	TimestampTz now = GetCurrentTimestamp();
	int64		now_mono = is_clock_us();
	ListCell   *lc;

	foreach(lc, entries)
	{
		Entry	   *entry = lfirst(lc);
		TimestampTz when;

		if (!may_run(entry))
			continue;
		when = wants_to_run(entry);
		if (entry->not_before > now_mono)
			when = Max(when, now + (entry->not_before - now_mono));
		result = Min(result, when);
	}
	return result;
}

/* Leave with nothing open, if nobody has committed anything meanwhile. */
static void
try_to_leave(void)
{
	ListCell   *lc;

	foreach(lc, entries)
	{
		Entry	   *entry = lfirst(lc);

		if (entry->run)
			guarded(entry, end_run, NULL);
	}
	is_txn_begin();
	foreach(lc, entries)
	{
		Entry	   *entry = lfirst(lc);
		IsSyncState *state = entry->state ? is_state_load(entry->sync_id, false) : NULL;

		if (state && state->run_id != 0 && state->window_end == NULL)
			is_state_end_run(entry->sync_id, state->run_id);
	}
	is_txn_commit();
	if (is_launcher_worker_may_exit(slot, served, next_due()))
		proc_exit(0);
}

void
is_worker_main(Datum arg)
{
	Oid			database;
	MemoryContext loop_context;
	int64		idle_since;
	int64		look_at = 0;
	int64		looked_at = 0;
	int64		watch_at = 0;

	slot = DatumGetInt32(arg);
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	database = is_launcher_worker_start(slot);
	if (!OidIsValid(database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	is_background_pin_settings();

	worker_context = AllocSetContextCreate(TopMemoryContext, "iterable_sync worker",
										   ALLOCSET_DEFAULT_SIZES);
	states_context = AllocSetContextCreate(worker_context, "iterable_sync states",
										   ALLOCSET_DEFAULT_SIZES);
	loop_context = AllocSetContextCreate(TopMemoryContext, "iterable_sync worker loop",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(worker_context);
	http = is_http_create();
	idle_since = is_clock_us();

	for (;;)
	{
		int64		wait = -1;
		int64		pause;
		int64		left;
		bool		busy = false;
		bool		scanning = false;
		bool		woken;
		ListCell   *lc;

		MemoryContextReset(loop_context);
		MemoryContextSwitchTo(loop_context);

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			look_at = 0;		/* some settings are for that */
		}
		if (is_launcher_worker_held(slot))
			proc_exit(0);

		woken = is_launcher_generation(slot) != served;
		if (is_clock_us() >= look_at || (woken && is_clock_us() >= looked_at + look_pause()))
		{
			pgstat_report_activity(STATE_RUNNING, "iterable_sync: looking for changes");
			if (!look())
			{
				/* no extension here (any more); come back when there is */
				if (is_launcher_worker_may_exit(slot, served, DT_NOEND))
					proc_exit(0);
				continue;
			}
			looked_at = is_clock_us();
			if (woken)
				idle_since = looked_at;
			is_uncaptured_compare(looked_at);
			if (looked_at >= watch_at)
			{
				watch_sources();
				watch_at = looked_at + is_rescan_interval * US_PER_S;
			}
			look_at = looked_at + is_rescan_interval * US_PER_S;
		}

		foreach(lc, entries)
		{
			Entry	   *entry = lfirst(lc);
			int64		its_wait = serve(entry);

			if (its_wait >= 0)
				wait = wait < 0 ? its_wait : Min(wait, its_wait);
			if (may_scan(entry))
			{
				scanning = true;
				its_wait = is_scan_worker_want(entry->sync_id, entry->state->scan_id,
											   entry->state->scan_retry_at);
				if (its_wait >= 0)
					wait = wait < 0 ? its_wait : Min(wait, its_wait);
			}
			else if (entry->state != NULL && !entry->state->scanning)
				is_scan_worker_unwant(entry->sync_id);
			else if (!may_run(entry))
				is_scan_worker_stop(entry->sync_id);
			if (its_wait == 0)
				busy = true;
			if (entry->state == NULL && entry->run == NULL)
				entries = foreach_delete_current(entries, lc);
		}
		left = is_scan_worker_look();
		if (left >= 0)
			wait = wait < 0 ? left : Min(wait, left);
		is_background_keep_house(is_clock_us());

		if (is_http_in_flight(http) > 0 || scanning ||
			(wait >= 0 && wait < is_worker_idle_timeout * US_PER_S))
			idle_since = is_clock_us();
		else if (is_clock_us() - idle_since >= is_worker_idle_timeout * US_PER_S ||
				 is_launcher_worker_is_look(slot))
		{
			try_to_leave();
			idle_since = is_clock_us();
		}

		if (wait < 0 || wait > is_worker_idle_timeout * US_PER_S)
			wait = is_worker_idle_timeout * US_PER_S;
		wait = Min(wait, Max(0, look_at - is_clock_us()));
		left = close_old_runs();
		if (left >= 0)
			wait = Min(wait, left);
		pgstat_report_activity(STATE_IDLE, NULL);

		/* Until the next look may be, commits need not wake us. */
		pause = looked_at + look_pause() - is_clock_us();
		if (pause > 0 && !busy)
			wait = Min(wait, pause);
		(void) is_http_wait(http, busy ? 0 : (long) ((wait + 999) / 1000),
							pause > 0);
		take_answers();
	}
}
