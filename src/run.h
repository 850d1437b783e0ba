/*-------------------------------------------------------------------------
 *
 * run.h
 *	  The way of a sync's changes: window, rows, batches, requests, verdicts.
 *
 * A run is driven from outside by one process, the worker or a session in
 * iterable_run_now(), which waits for all its runs at once.  Every database
 * access happens in a short transaction; nothing is open while a request is
 * under way.  Errors pass through: the driver drops the run, and a new one
 * resumes the window from what is recorded, as after a crash.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_RUN_H
#define IS_RUN_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "http.h"

/* Requests under way at once, at most. */
#define IS_RUN_MAX_LANES 10

/* A batch is complete when it has this many keys, however few are to be sent. */
#define IS_RUN_BATCH_KEYS 20000

/*
 * Keys that are in batches and not recorded as done, at most: twice the lanes,
 * one that is being filled, each with the last chunk that made it full.
 */
#define IS_RUN_OPEN_KEYS ((2 * IS_RUN_MAX_LANES + 1) * (IS_RUN_BATCH_KEYS + 1000))

typedef struct IsRun IsRun;

/*
 * Take up a sync: NULL if another session runs it.  Lives in a context below
 * CurrentMemoryContext.  Call outside of a transaction of the engine.
 */
extern IsRun *is_run_create(int32 sync_id, IsHttp *http);

/* Results of is_run_advance() besides a number of microseconds to wait. */
#define IS_RUN_AT_ONCE INT64CONST(0)	/* call again, there is more to do */
#define IS_RUN_IDLE INT64CONST(-1)	/* nothing pending, nothing under way */
#define IS_RUN_ANSWER INT64CONST(-2)	/* an answer must come first */

/*
 * Do what can be done now.  stop: begin nothing new, only wait for what is
 * under way.
 */
extern int64 is_run_advance(IsRun *run, bool stop);

/*
 * Send what is complete, in order; is_run_advance() does this first.  0, or
 * µs until the first that had to wait may leave.
 */
extern int64 is_run_dispatch(IsRun *run);

/* Take an answer whose owner is a request of some run (which one). */
extern IsRun *is_run_of_answer(const IsHttpAnswer *answer);
extern void is_run_take_answer(IsHttpAnswer *answer);

/*
 * Why the run does not move although it has something to do (connection
 * stopped, last error of a request), or NULL.
 */
extern const char *is_run_trouble(const IsRun *run);

/* When an idle run has a failure to try again; DT_NOEND: never. */
extern TimestampTz is_run_next_retry(const IsRun *run);

/* From when the schedule counts now; DT_NOBEGIN: it has not begun. */
extern TimestampTz is_run_last_run(const IsRun *run);

/*
 * A continuous sync that is idle ends its run when that is a minute old:
 * µs until then, -1 if none is open.  Then let it end (in a transaction).
 */
extern int64 is_run_until_end(const IsRun *run);
extern void is_run_end(IsRun *run);

/* Was a scan of the sync asked for or under way when the run was idle? */
extern bool is_run_scanning(const IsRun *run);

/* How long requests may fail before somebody who waits is told, in ms. */
extern int	is_run_patience(const IsRun *run);

/* Has Iterable refused the key of its connection? */
extern bool is_run_stopped(const IsRun *run);

/*
 * Let go: cancels requests, closes the window's cursor, gives the lock back.
 * An open window stays open in the database.  Call outside of a transaction
 * of the engine; also after an error that a background worker has caught.
 */
extern void is_run_free(IsRun *run);

/*
 * The part of it that needs no transaction, for a session that leaves with an
 * error: cancels requests and gives the lock back.
 */
extern void is_run_abandon(IsRun *run);

#endif							/* IS_RUN_H */
