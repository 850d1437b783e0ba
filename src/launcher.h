/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  Which databases need a worker: shared slots with generations, and the
 *	  launcher process that keeps a worker where there is something to do.
 *
 * A slot belongs to a database.  Whoever commits captured changes bumps the
 * slot's generation and wakes the worker, or the launcher if there is none.
 * A worker may go only if the generation is still the one it has served, so
 * no wake-up is lost between its last look and its exit.  All functions do
 * nothing (and say so by their result) when the library was not preloaded.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_LAUNCHER_H
#define IS_LAUNCHER_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Called from _PG_init when preloaded: hooks for shared memory, launcher. */
extern void is_launcher_register(void);

/* Was the library preloaded, so that slots exist? */
extern bool is_launcher_available(void);

/*
 * Something was committed (or configured) in this database: bump its
 * generation and wake its worker or the launcher.  Makes the slot if the
 * database has none.  Safe in a commit callback: raises no error; when all
 * slots are taken, the next rescan finds the work.
 */
extern void is_launcher_wake(Oid database);

/* Is a worker running for this database? */
extern bool is_launcher_worker_running(Oid database);

/*
 * For the worker of a slot.  slot is its bgw_main_arg.  start comes after the
 * signals are unblocked and before the connection to the database, so that
 * the slot is given up after the process has left the database.
 */
extern Oid	is_launcher_worker_start(int slot); /* database; InvalidOid: held or gone, exit at once */
extern uint64 is_launcher_generation(int slot);

/*
 * Was the worker started for a rescan, and has nobody woken it since?  Then it
 * asks to go as soon as it finds nothing to do, without an idle timeout: only
 * a few databases are looked at together, and others wait for their turn.
 */
extern bool is_launcher_worker_is_look(int slot);

/*
 * The worker wants to go: it has served "served" and has nothing to do before
 * next_due (DT_NOEND: nothing planned).  Returns false if the generation has
 * moved on, then it must stay.  A worker that exits without having been told
 * true counts as failed, whatever its exit code, unless it is held: it is
 * started again, later each time.
 */
extern bool is_launcher_worker_may_exit(int slot, uint64 served,
										TimestampTz next_due);

/* Has the database's worker been asked to leave (DROP DATABASE and such)? */
extern bool is_launcher_worker_held(int slot);

/*
 * Keep the worker of a database away until the current transaction ends, and
 * let it come back then.  Waits until the worker is gone (at most a few
 * seconds; one that does not listen is terminated).  The end of the
 * transaction and not of the statement, because only then others see what the
 * statement has done to the database.
 */
extern void is_launcher_hold(Oid database);

extern PGDLLEXPORT void is_launcher_main(Datum arg);

#endif							/* IS_LAUNCHER_H */
