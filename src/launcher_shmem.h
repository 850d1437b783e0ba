/*-------------------------------------------------------------------------
 *
 * launcher_shmem.h
 *	  Slots as the launcher sees them; all others use launcher.h.
 *
 * A slot is in use as long as its database has a worker or is to have one;
 * the worker of a database for which nothing is planned takes its slot away
 * with it.  All changes of state happen under the lock, held exclusively:
 *
 *	state		event											becomes
 *	---------	-----------------------------------------------	---------
 *	FREE		wake: generation goes up						WAITING
 *				launcher: the database's turn in a rescan		STARTING
 *	WAITING		launcher: generation is not the served one or
 *				next_due is reached (and not held, and
 *				not_before is reached)							STARTING
 *				launcher: no such database (any more)			FREE
 *	STARTING	worker came										RUNNING
 *				worker came and database is held				settle
 *				launcher: no worker could be registered			settle
 *				launcher: worker ended before it came			failed
 *	RUNNING		worker may exit (generation is the served one)	LEAVING
 *				worker exited without asking, held				failed, at once
 *				worker exited without asking					failed
 *	LEAVING		worker exited									settle
 *
 *	settle		WAITING if the generation has moved on or something is
 *				planned, else FREE
 *	failed		WAITING; the generation goes up, so that another worker is
 *				started, not_before some time from now
 *
 * Nobody counts on a signal to arrive: a bump of the generation that finds
 * the slot RUNNING sets the worker's latch, and the worker compares before it
 * goes.  One that finds it STARTING is seen by the worker when it comes.  One
 * that finds it LEAVING is seen by settle.  In any other state the launcher
 * compares, at each of its turns, what should run with what runs.  A launcher
 * that died starts with the slots as they are.
 *
 * A kill -9 of any process makes the postmaster start over with new shared
 * memory, so slots and holds of processes that could not run their exit
 * callbacks need no search.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_LAUNCHER_SHMEM_H
#define IS_LAUNCHER_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

/* Databases that all transactions together keep free of workers. */
#define IS_MAX_HOLDS 64

/* A worker that fails is started again after 1 s, 2 s, 4 s … 60 s. */
#define IS_MIN_BACKOFF (USECS_PER_SEC)
#define IS_MAX_BACKOFF (60 * USECS_PER_SEC)

typedef enum IsSlotState
{
	IS_SLOT_FREE = 0,
	IS_SLOT_WAITING,
	IS_SLOT_STARTING,
	IS_SLOT_RUNNING,
	IS_SLOT_LEAVING,
} IsSlotState;

typedef struct IsSlot
{
	/* Bumped with the lock shared; never goes back, whoever has the slot. */
	pg_atomic_uint64 generation;

	/* All else changes with the lock held exclusively. */
	uint64		served;
	IsSlotState state;
	Oid			database;
	bool		look;			/* started for a rescan */
	int			pid;			/* RUNNING, LEAVING */
	Latch	   *latch;
	TimestampTz started_at;
	TimestampTz next_due;		/* DT_NOEND: nothing planned */
	int			failures;		/* in a row */
	TimestampTz not_before;
} IsSlot;

typedef struct IsHold
{
	Oid			database;
	int			pid;			/* 0: free */
	Latch	   *latch;
} IsHold;

typedef struct IsLauncherShared
{
	LWLock	   *lock;
	Latch	   *launcher;		/* NULL: not running */
	int			crashes;		/* of this server since its start */
	int			nholds;
	IsHold		holds[IS_MAX_HOLDS];
	IsSlot		slots[FLEXIBLE_ARRAY_MEMBER];	/* is_max_databases */
} IsLauncherShared;

extern IsLauncherShared *is_launcher_shared;

/* Called by is_launcher_register. */
extern void is_launcher_shmem_register(void);

/*
 * For all of these the caller holds the lock, for those that change a slot
 * exclusively.
 */
extern bool is_launcher_slot_unserved(IsSlot *slot);
extern bool is_launcher_database_held(Oid database);
extern IsSlot *is_launcher_slot_find(Oid database);
extern IsSlot *is_launcher_slot_make(Oid database); /* NULL: all are in use */
extern void is_launcher_slot_free(IsSlot *slot);
extern void is_launcher_slot_settle(IsSlot *slot);
extern void is_launcher_slot_fail(IsSlot *slot, bool at_once);

#endif							/* IS_LAUNCHER_SHMEM_H */
