/*-------------------------------------------------------------------------
 *
 * scan_worker.h
 *	  Processes in which scans run, so that no long read stands between a
 *	  change and its request.  They belong to the worker of their database.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SCAN_WORKER_H
#define IS_SCAN_WORKER_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* iterable_sync.max_scan_workers: at once, for one database */
extern int	is_max_scan_workers;

/*
 * Called by the worker of a database in each of its turns: have this scan of
 * this sync run, unless one does, or there is no process for it, or it has
 * failed, and its time has not come again.  Returns µs until then, or -1.
 */
extern int64 is_scan_worker_want(int32 sync_id, int64 scan_id, TimestampTz retry_at);

/* Nothing of this sync is to be scanned (any more). */
extern void is_scan_worker_unwant(int32 sync_id);

/* End that of a sync that must not run any more; does not wait. */
extern void is_scan_worker_stop(int32 sync_id);

/*
 * Every second in which any runs: end them if somebody waits to drop the
 * extension, which would take as long as their queries.  Returns µs until the
 * next look, or -1.
 */
extern int64 is_scan_worker_look(void);

/*
 * Before the worker goes: end all of them and wait until they are gone.  Runs
 * by itself when the worker exits.
 */
extern void is_scan_worker_stop_all(void);

extern PGDLLEXPORT void is_scan_worker_main(Datum arg);

#endif							/* IS_SCAN_WORKER_H */
