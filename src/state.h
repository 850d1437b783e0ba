/*-------------------------------------------------------------------------
 *
 * state.h
 *	  How far each sync has come: positions, windows, runs, and
 *	  why a sync does not move.
 *
 * Every function works in the caller's transaction as the caller's user (the
 * engine's transactions run as the extension's owner, see txn.h).
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_STATE_H
#define IS_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A place in a window: keys up to (seq, offset). */
typedef struct IsPlace
{
	int64		seq;
	int32		offset;
} IsPlace;

/* A stretch of a window, (from, to]. */
typedef struct IsStretch
{
	IsPlace		from;
	IsPlace		to;
} IsStretch;

typedef struct IsSyncState
{
	int32		sync_id;
	int64		state_id;		/* another one when the sync begins anew */
	/* of the sync */
	char	   *name;
	int32		version;
	int32		source_id;
	Oid			source_relid;	/* as last looked at; InvalidOid: never, or in doubt */
	bool		enabled;
	char	   *schedule;
	char	   *time_zone;		/* of the schedule */
	/* of its state */
	char	   *identity;
	char	   *position;
	char	   *window_end;		/* NULL: no window is open */
	IsPlace		done;			/* keys up to here are done */
	IsStretch  *ahead;			/* and these beyond it */
	int			nahead;
	int64		run_id;			/* 0: no run is open */
	TimestampTz run_started_at;
	bool		scanning;		/* a scan is asked for or under way … */
	bool		noting;			/* … of kind IS_SCAN_NOTE … */
	bool		scanning_all;	/* … or one that compares all rows */
	int64		scan_id;		/* the one that is next or under way … */
	TimestampTz scan_retry_at;	/* … but not before; DT_NOBEGIN: at once */
	bool		noted;			/* what is captured beyond the position was changed
								 * after the rows that were there had been noted */
	bool		run_requested;
	TimestampTz last_run_at;	/* from which the schedule counts; DT_NOBEGIN: never ran */
	TimestampTz after_finished_at;	/* the sync that it is after; DT_NOBEGIN: never, or none */
	char	   *paused_reason;	/* NULL: not paused */
	TimestampTz next_retry_at;	/* earliest failure to try again; DT_NOEND */
} IsSyncState;

/* What a piece of work adds to its run. */
typedef struct IsRunCounts
{
	List	   *created_fields; /* names, of char *, in UTF-8 */
	List	   *filtered_fields;
	int64		keys_seen;
	int64		accepted;
	int64		rejected;
	int64		retried;
	int64		unchanged;
	int64		skipped;
	int64		vanished;
	int64		filtered;
	int64		would_send;
	int64		requests;
	int64		bytes;
} IsRunCounts;

static inline bool
is_state_place_after(IsPlace a, IsPlace b)
{
	return a.seq > b.seq || (a.seq == b.seq && a.offset > b.offset);
}

/* Is this place of the open window done, beyond those that are left undone? */
extern bool is_state_done_ahead(const IsSyncState *state, IsPlace place);

/*
 * System identifier, database and iterable_sync.environment as one text,
 * palloc'ed: a sync runs only where it was enabled.
 */
extern char *is_state_identity(void);

/* States of all syncs that were ever enabled, as a List of IsSyncState *. */
extern List *is_state_load_all(void);

/* One of them, or NULL; for_update locks the row. */
extern IsSyncState *is_state_load(int32 sync_id, bool for_update);

/*
 * One run per sync at a time: a lock of the session, shared by the worker and
 * iterable_run_now().  False if another session has it.
 */
extern bool is_state_lock_run(int32 sync_id);
extern void is_state_unlock_run(int32 sync_id);

/* One scan per sync at a time: another lock of the session. */
extern bool is_state_lock_scan(int32 sync_id);
extern void is_state_unlock_scan(int32 sync_id);

/*
 * A query that may take long begins, for this transaction's scan: until it
 * ends, it can be broken off as by pg_cancel_backend() (error 57014).  Whoever
 * does that has changed what the query was for, and says so before his commit:
 * who is canceled waits for that when he looks at what has become of it.
 */
extern void is_state_begin_pass(int32 sync_id);
extern void is_state_break_pass(int32 sync_id);

/*
 * The lock of a run for the rest of a transaction.  First make known that it is
 * wanted (then nobody takes it for a run any more), then tell the worker that
 * there is something to look at, then wait, as long as lock_timeout lets us.
 */
extern void is_state_want_run(int32 sync_id);
extern void is_state_await_run(int32 sync_id);

/*
 * Does anybody want it?  Needs no transaction where the lock has been taken
 * before.
 */
extern bool is_state_run_wanted(int32 sync_id);

/*
 * Open a window that ends at this snapshot, which answers a request for a run,
 * or close it: position = its end.
 */
extern void is_state_open_window(int32 sync_id, const char *window_end);
extern void is_state_close_window(int32 sync_id);

/*
 * The sync has no changes between these two, nor a window open: move its
 * position on, if it still is the first.
 */
extern void is_state_pass(int32 sync_id, const char *from, const char *to);

/* All rows had been noted in this snapshot; NULL: they have not. */
extern void is_state_set_noted(int32 sync_id, const char *snapshot);

/*
 * The sync is at this position from now on, with no window open; it is another
 * state, for which a run that is under way records nothing.
 */
extern void is_state_begin_anew(int32 sync_id, const char *position);

/* Note how far the open window is done. */
extern void is_state_advance(int32 sync_id, IsPlace done,
							 const IsStretch *ahead, int nahead);

/*
 * A run begins (its id), gets counts, ends; one that has found nothing to do
 * has the id 0.  When the end is committed, the worker looks for syncs that
 * are after this one.
 */
extern int64 is_state_begin_run(int32 sync_id);
extern void is_state_count(int64 run_id, const IsRunCounts *counts);
extern void is_state_end_run(int32 sync_id, int64 run_id);

/*
 * The sync is looked at as its schedule or iterable_run() asked: the schedule
 * counts from now on.
 */
extern void is_state_mark_run(int32 sync_id);

/*
 * A request for a run is done with what a snapshot shows that is taken after
 * this in the same transaction.
 */
extern void is_state_answer_request(int32 sync_id);

/*
 * The sync can't go on (paused: until the reason is mended; otherwise it is
 * failing and tries again by itself), or goes on again.
 */
extern void is_state_report_trouble(int32 sync_id, const char *error, bool paused);
extern void is_state_clear_trouble(int32 sync_id);

/* Drop what is older than 30 days from the list of runs. */
extern void is_state_forget_runs(void);

#endif							/* IS_STATE_H */
