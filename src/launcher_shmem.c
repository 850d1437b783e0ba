/*-------------------------------------------------------------------------
 *
 * launcher_shmem.c
 *	  Slots in shared memory, and what sessions and workers do with them.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "launcher_shmem.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "capture_mark.h"
#include "compat.h"
#include "iterable_sync.h"
#include "launcher.h"
#include "pacer_shmem.h"

#define SHMEM_NAME "iterable_sync launcher"

#define HOLD_PATIENCE 300		/* ms until the worker is terminated */
#define HOLD_TIMEOUT 5000		/* ms */

IsLauncherShared *is_launcher_shared = NULL;

static shmem_request_hook_type next_request_hook = NULL;
static shmem_startup_hook_type next_startup_hook = NULL;

/* Has the current transaction holds? */
static bool holding = false;

/* ----------------------------------------------------------------
 * Shared memory
 * ----------------------------------------------------------------
 */

static Size
shared_size(void)
{
	return MAXALIGN(add_size(offsetof(IsLauncherShared, slots),
							 mul_size(is_max_databases, sizeof(IsSlot))));
}

static void
request_shmem(void)
{
	if (next_request_hook)
		next_request_hook();
	RequestAddinShmemSpace(add_size(shared_size(),
									add_size(is_pacer_shmem_size(),
											 is_capture_mark_shmem_size())));
	RequestNamedLWLockTranche(SHMEM_NAME, 1);
}

static void
startup_shmem(void)
{
	static int	starts = 0;		/* stays with the postmaster */
	bool		found;

	if (next_startup_hook)
		next_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	is_launcher_shared = ShmemInitStruct(SHMEM_NAME, shared_size(), &found);
	if (!found)
	{
		memset(is_launcher_shared, 0, shared_size());
		is_launcher_shared->crashes = starts++;
		is_launcher_shared->lock = &GetNamedLWLockTranche(SHMEM_NAME)->lock;
		for (int i = 0; i < is_max_databases; i++)
			pg_atomic_init_u64(&is_launcher_shared->slots[i].generation, 0);
	}
	is_pacer_shmem_init();
	is_capture_mark_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

void
is_launcher_shmem_register(void)
{
	next_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	next_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

bool
is_launcher_available(void)
{
	return is_launcher_shared != NULL;
}

/* ----------------------------------------------------------------
 * Slots; the caller holds the lock
 * ----------------------------------------------------------------
 */

static void
wake_launcher(void)
{
	if (is_launcher_shared->launcher != NULL)
		SetLatch(is_launcher_shared->launcher);
}

IsSlot *
is_launcher_slot_find(Oid database)
{
	static int	last = 0;		/* a session asks for its own database */

	if (last < is_max_databases && is_launcher_shared->slots[last].database == database)
		return &is_launcher_shared->slots[last];
	for (int i = 0; i < is_max_databases; i++)
	{
		if (is_launcher_shared->slots[i].database == database)
		{
			last = i;
			return &is_launcher_shared->slots[i];
		}
	}
	return NULL;
}

/* Find or take one, if any is free.  Needs the lock exclusively. */
IsSlot *
is_launcher_slot_make(Oid database)
{
	IsSlot	   *slot = is_launcher_slot_find(database);

	if (slot != NULL)
		return slot;
	slot = is_launcher_slot_find(InvalidOid);
	if (slot == NULL)
		return NULL;

	Assert(slot->state == IS_SLOT_FREE);
	slot->database = database;
	slot->state = IS_SLOT_WAITING;
	slot->served = pg_atomic_read_u64(&slot->generation);
	slot->next_due = DT_NOEND;
	slot->failures = 0;
	slot->not_before = DT_NOBEGIN;
	slot->look = false;
	return slot;
}

void
is_launcher_slot_free(IsSlot *slot)
{
	slot->state = IS_SLOT_FREE;
	slot->database = InvalidOid;
}

bool
is_launcher_slot_unserved(IsSlot *slot)
{
	return pg_atomic_read_u64(&slot->generation) != slot->served;
}

void
is_launcher_slot_settle(IsSlot *slot)
{
	if (is_launcher_slot_unserved(slot) || slot->next_due != DT_NOEND)
		slot->state = IS_SLOT_WAITING;
	else
		is_launcher_slot_free(slot);
}

void
is_launcher_slot_fail(IsSlot *slot, bool at_once)
{
	TimestampTz now = GetCurrentTimestamp();

	slot->state = IS_SLOT_WAITING;
	pg_atomic_fetch_add_u64(&slot->generation, 1);
	if (at_once)
		return;

	/* One that did well for a while is not in the same trouble again. */
	if (now - slot->started_at > IS_MAX_BACKOFF)
		slot->failures = 0;
	slot->not_before = now +
		Min(IS_MIN_BACKOFF << Min(slot->failures, 10), IS_MAX_BACKOFF);
	slot->failures++;
}

bool
is_launcher_database_held(Oid database)
{
	for (int i = 0; is_launcher_shared->nholds > 0 && i < IS_MAX_HOLDS; i++)
	{
		IsHold	   *hold = &is_launcher_shared->holds[i];

		if (hold->pid != 0 && hold->database == database)
			return true;
	}
	return false;
}

/* ----------------------------------------------------------------
 * Sessions
 * ----------------------------------------------------------------
 */

/* Bump the generation of a slot and tell who has to look. */
static void
bump(IsSlot *slot)
{
	uint64		before = pg_atomic_fetch_add_u64(&slot->generation, 1);

	/*
	 * The launcher has been told already if the generation was not served
	 * before: not by every commit while it waits for not_before.
	 */
	if (slot->state == IS_SLOT_RUNNING)
		SetLatch(slot->latch);
	else if (slot->state == IS_SLOT_WAITING && before == slot->served)
		wake_launcher();
}

void
is_launcher_wake(Oid database)
{
	IsSlot	   *slot;

	if (is_launcher_shared == NULL || !OidIsValid(database))
		return;

	LWLockAcquire(is_launcher_shared->lock, LW_SHARED);
	slot = is_launcher_slot_find(database);
	if (slot != NULL)
		bump(slot);
	LWLockRelease(is_launcher_shared->lock);
	if (slot != NULL)
		return;

	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	slot = is_launcher_slot_make(database);
	if (slot != NULL)
		bump(slot);
	LWLockRelease(is_launcher_shared->lock);
}

bool
is_launcher_worker_running(Oid database)
{
	IsSlot	   *slot;
	bool		running;

	if (is_launcher_shared == NULL || !OidIsValid(database))
		return false;

	LWLockAcquire(is_launcher_shared->lock, LW_SHARED);
	slot = is_launcher_slot_find(database);
	running = slot != NULL && slot->state == IS_SLOT_RUNNING;
	LWLockRelease(is_launcher_shared->lock);
	return running;
}

static void
release_holds(XactEvent event, void *arg)
{
	if (!holding ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		 event != XACT_EVENT_PREPARE))
		return;

	holding = false;
	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IS_MAX_HOLDS; i++)
	{
		if (is_launcher_shared->holds[i].pid == MyProcPid)
		{
			is_launcher_shared->holds[i].pid = 0;
			is_launcher_shared->nholds--;
		}
	}
	wake_launcher();
	LWLockRelease(is_launcher_shared->lock);
}

/* Record a hold of the current transaction; false if there are too many. */
static bool
add_hold(Oid database)
{
	static bool registered = false;
	bool		added = false;

	if (!registered)
	{
		RegisterXactCallback(release_holds, NULL);
		registered = true;
	}

	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IS_MAX_HOLDS && !added; i++)
	{
		IsHold	   *hold = &is_launcher_shared->holds[i];

		if (hold->pid != 0)
			continue;
		hold->pid = MyProcPid;
		hold->database = database;
		hold->latch = MyLatch;
		is_launcher_shared->nholds++;
		added = holding = true;
	}
	LWLockRelease(is_launcher_shared->lock);
	return added;
}

/*
 * Tell a worker that it is held.  Returns false if there is none in the
 * database.  One that is starting sees the hold before it connects.
 */
static bool
ask_to_leave(Oid database, bool terminate)
{
	IsSlot	   *slot;
	bool		present;

	LWLockAcquire(is_launcher_shared->lock, LW_SHARED);
	slot = is_launcher_slot_find(database);
	present = slot != NULL &&
		(slot->state == IS_SLOT_RUNNING || slot->state == IS_SLOT_LEAVING);
	if (present)
	{
		/* The process cannot end while we have the lock: the pid is its own. */
		SetLatch(slot->latch);
		if (terminate)
			kill(slot->pid, SIGTERM);
	}
	LWLockRelease(is_launcher_shared->lock);
	return present;
}

void
is_launcher_hold(Oid database)
{
	TimestampTz asked = GetCurrentTimestamp();
	bool		terminated = false;

	if (is_launcher_shared == NULL || !add_hold(database))
		return;

	for (;;)
	{
		long		waited = TimestampDifferenceMilliseconds(asked, GetCurrentTimestamp());
		bool		terminate = waited >= HOLD_PATIENCE && !terminated;

		/* After the timeout the statement complains in its own words. */
		if (!ask_to_leave(database, terminate) || waited >= HOLD_TIMEOUT)
			break;
		terminated |= terminate;

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (terminated ? HOLD_TIMEOUT : HOLD_PATIENCE) - waited,
						 is_wait_event("IterableHold"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ----------------------------------------------------------------
 * Workers
 * ----------------------------------------------------------------
 */

/*
 * Runs after the process has left the database (see launcher.h), so that who
 * waits for that need not wait again.
 */
static void
worker_exit(int code, Datum arg)
{
	IsSlot	   *slot = &is_launcher_shared->slots[DatumGetInt32(arg)];

	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < IS_MAX_HOLDS; i++)
	{
		IsHold	   *hold = &is_launcher_shared->holds[i];

		if (hold->pid != 0 && hold->database == slot->database)
			SetLatch(hold->latch);
	}
	if (slot->state == IS_SLOT_LEAVING)
		is_launcher_slot_settle(slot);
	else
		is_launcher_slot_fail(slot, is_launcher_database_held(slot->database));
	wake_launcher();
	LWLockRelease(is_launcher_shared->lock);
}

Oid
is_launcher_worker_start(int slotno)
{
	IsSlot	   *slot;
	Oid			database = InvalidOid;

	if (is_launcher_shared == NULL)
		return InvalidOid;
	Assert(slotno >= 0 && slotno < is_max_databases);

	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	slot = &is_launcher_shared->slots[slotno];

	/*
	 * A worker that the previous launcher has registered may come when the
	 * slot is no longer STARTING; it may just as well do the work, unless
	 * another one is there.
	 */
	if ((slot->state == IS_SLOT_STARTING || slot->state == IS_SLOT_WAITING) &&
		!is_launcher_database_held(slot->database))
	{
		database = slot->database;
		slot->state = IS_SLOT_RUNNING;
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->started_at = GetCurrentTimestamp();
		slot->next_due = DT_NOEND;
	}
	else if (slot->state == IS_SLOT_STARTING)
		is_launcher_slot_settle(slot);
	LWLockRelease(is_launcher_shared->lock);

	if (OidIsValid(database))
		on_shmem_exit(worker_exit, Int32GetDatum(slotno));
	return database;
}

uint64
is_launcher_generation(int slotno)
{
	return pg_atomic_read_u64(&is_launcher_shared->slots[slotno].generation);
}

bool
is_launcher_worker_is_look(int slotno)
{
	IsSlot	   *slot = &is_launcher_shared->slots[slotno];

	/* Only the worker itself changes these while it runs. */
	return slot->look && !is_launcher_slot_unserved(slot);
}

bool
is_launcher_worker_may_exit(int slotno, uint64 served, TimestampTz next_due)
{
	IsSlot	   *slot = &is_launcher_shared->slots[slotno];
	bool		may_exit;

	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	may_exit = pg_atomic_read_u64(&slot->generation) == served;
	if (may_exit)
	{
		slot->served = served;
		slot->next_due = next_due;
		slot->failures = 0;
		slot->not_before = DT_NOBEGIN;
		slot->state = IS_SLOT_LEAVING;
	}
	LWLockRelease(is_launcher_shared->lock);
	return may_exit;
}

bool
is_launcher_worker_held(int slotno)
{
	bool		held;

	LWLockAcquire(is_launcher_shared->lock, LW_SHARED);
	held = is_launcher_database_held(is_launcher_shared->slots[slotno].database);
	LWLockRelease(is_launcher_shared->lock);
	return held;
}
