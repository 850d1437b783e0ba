/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The launcher: compares what should run with what runs, and starts it.
 *
 * Each turn looks at all slots and at the databases whose turn in the rescan
 * has come, starts what is missing, and says when something happens next by
 * itself.  What happens before sets the latch.  See launcher_shmem.h for the
 * life of a slot.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "launcher.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "capture_error.h"
#include "compat.h"
#include "iterable_sync.h"
#include "launcher_shmem.h"

#define LIBRARY "iterable_sync"
#define RESTART_TIME 5			/* s, of the launcher itself */

/*
 * So many workers look at databases together, lest 200 databases eat
 * max_worker_processes.  One that runs longer than LOOK_TIME has found work
 * and counts no more.
 */
#define MAX_LOOKS 2
#define LOOK_TIME (10 * USECS_PER_SEC)

/* Time until the launcher tries again to register a worker. */
#define RETRY_TIME (1 * USECS_PER_SEC)

/* Under pressure, what is lacking is lacking now and again. */
#define COMPLAINT_TIME (300 * USECS_PER_SEC)

/* The longest sleep: the clock may be set meanwhile. */
#define MAX_SLEEP (60 * USECS_PER_SEC)

/* A database that may have a worker. */
typedef struct Database
{
	Oid			oid;			/* hash key */
	TimestampTz looked_at;		/* DT_NOBEGIN: never */
	uint64		scan;			/* the last scan that has found it */
} Database;

/* A waiting slot, as it was before pg_database was read. */
typedef struct Candidate
{
	int			slotno;
	Oid			database;
	uint64		generation;
	bool		wanted;			/* its time has come */
} Candidate;

static HTAB *databases;
static Candidate *candidates;
static BackgroundWorkerHandle **handles;	/* of STARTING slots */

/* What the log has been told; not again within COMPLAINT_TIME. */
static TimestampTz lacks_processes = DT_NOBEGIN;
static TimestampTz lacks_slots = DT_NOBEGIN;

void
is_launcher_register(void)
{
	BackgroundWorker worker = {0};

	is_launcher_shmem_register();

	strlcpy(worker.bgw_name, "iterable_sync launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "iterable_sync launcher", sizeof(worker.bgw_type));
	strlcpy(worker.bgw_library_name, LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "is_launcher_main", sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_TIME;
	RegisterBackgroundWorker(&worker);
}

/* ----------------------------------------------------------------
 * Databases
 * ----------------------------------------------------------------
 */

/*
 * Read which databases there are.  No worker goes to templates: it would be
 * in the way of CREATE DATABASE, and what is in there is meant for copies.
 */
static void
read_databases(void)
{
	static uint64 scan_number = 0;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	HASH_SEQ_STATUS seq;
	Database   *database;

	scan_number++;
	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		bool		found;

		if (!form->datallowconn || form->datistemplate ||
			form->datconnlimit == DATCONNLIMIT_INVALID_DB)
			continue;
		database = hash_search(databases, &form->oid, HASH_ENTER, &found);
		if (!found)
			database->looked_at = DT_NOBEGIN;
		database->scan = scan_number;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	pgstat_report_stat(false);

	hash_seq_init(&seq, databases);
	while ((database = hash_seq_search(&seq)) != NULL)
	{
		if (database->scan != scan_number)
			hash_search(databases, &database->oid, HASH_REMOVE, NULL);
	}
}

/*
 * Find the database that was looked at longest ago (NULL: there is none).
 * Returns when its turn in the rescan comes.
 */
static TimestampTz
find_next_in_turn(TimestampTz now, Database **next)
{
	Database   *database;
	HASH_SEQ_STATUS seq;

	*next = NULL;
	hash_seq_init(&seq, databases);
	while ((database = hash_seq_search(&seq)) != NULL)
	{
		if (database->looked_at > now)	/* the clock was set back */
			database->looked_at = DT_NOBEGIN;
		if (*next == NULL || database->looked_at < (*next)->looked_at)
			*next = database;
	}
	if (*next == NULL)
		return now + is_rescan_interval * USECS_PER_SEC;
	if ((*next)->looked_at == DT_NOBEGIN)
		return now;
	return (*next)->looked_at + is_rescan_interval * USECS_PER_SEC;
}

/* The databases are to learn something: all have their turns now. */
static void
look_everywhere(void)
{
	Database   *database;
	HASH_SEQ_STATUS seq;

	hash_seq_init(&seq, databases);
	while ((database = hash_seq_search(&seq)) != NULL)
		database->looked_at = DT_NOBEGIN;
}

/* ----------------------------------------------------------------
 * Starting workers
 * ----------------------------------------------------------------
 */

/*
 * Workers that ended before they came: the postmaster could not fork, or the
 * library could not be loaded.
 */
static void
notice_lost_workers(void)
{
	for (int i = 0; i < is_max_databases; i++)
	{
		IsSlot	   *slot = &is_launcher_shared->slots[i];
		pid_t		pid;
		bool		stopped;
		Oid			lost = InvalidOid;

		if (handles[i] == NULL)
			continue;
		stopped = GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED;

		LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
		if (slot->state != IS_SLOT_STARTING)
			stopped = true;		/* it came; who ends now says so in the slot */
		else if (stopped)
		{
			if (slot->failures == 0)
				lost = slot->database;
			is_launcher_slot_fail(slot, false);
		}
		LWLockRelease(is_launcher_shared->lock);

		if (stopped)
		{
			pfree(handles[i]);
			handles[i] = NULL;
		}
		if (OidIsValid(lost))
			ereport(WARNING,
					(errmsg("iterable_sync worker for database %u ended before it began", lost),
					 errdetail("It is started again until that succeeds.")));
	}
}

static bool
should_complain(TimestampTz *since)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*since > now - COMPLAINT_TIME && *since <= now)
		return false;
	*since = now;
	return true;
}

/*
 * Start a worker for a waiting slot.  Returns false if there is no process
 * for it.
 */
static bool
start_worker(int slotno, Oid database, bool look)
{
	IsSlot	   *slot = &is_launcher_shared->slots[slotno];
	BackgroundWorker worker = {0};
	bool		start;

	/* Before it is registered: it may come at once. */
	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	start = slot->state == IS_SLOT_WAITING && slot->database == database;
	if (start)
	{
		slot->state = IS_SLOT_STARTING;
		slot->started_at = GetCurrentTimestamp();
		slot->look = look;
	}
	LWLockRelease(is_launcher_shared->lock);
	if (!start)
		return true;

	if (handles[slotno])
		pfree(handles[slotno]);
	handles[slotno] = NULL;

	snprintf(worker.bgw_name, sizeof(worker.bgw_name),
			 "iterable_sync worker for database %u", database);
	strlcpy(worker.bgw_type, "iterable_sync worker", sizeof(worker.bgw_type));
	strlcpy(worker.bgw_library_name, LIBRARY, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "is_worker_main", sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(slotno);

	if (RegisterDynamicBackgroundWorker(&worker, &handles[slotno]))
		return true;

	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	if (slot->state == IS_SLOT_STARTING)	/* a predecessor's may have come */
		is_launcher_slot_settle(slot);
	LWLockRelease(is_launcher_shared->lock);
	if (should_complain(&lacks_processes))
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start an iterable_sync worker for database %u", database),
				 errdetail("All %d background worker processes are in use.", max_worker_processes),
				 errhint("Raise \"max_worker_processes\"; until then databases wait for each other.")));
	return false;
}

/*
 * Note the waiting slots, and when the first of them wants a worker.  Returns
 * how many there are.
 */
static int
note_candidates(TimestampTz now, bool *wanted, TimestampTz *next)
{
	int			n = 0;

	LWLockAcquire(is_launcher_shared->lock, LW_SHARED);
	for (int i = 0; i < is_max_databases; i++)
	{
		IsSlot	   *slot = &is_launcher_shared->slots[i];
		Candidate  *candidate = &candidates[n];
		TimestampTz at;

		if (slot->state != IS_SLOT_WAITING)
			continue;
		candidate->slotno = i;
		candidate->database = slot->database;
		candidate->generation = pg_atomic_read_u64(&slot->generation);
		candidate->wanted = false;
		n++;

		/* Whoever releases it sets the latch. */
		if (is_launcher_database_held(slot->database))
			continue;

		at = is_launcher_slot_unserved(slot) ? DT_NOBEGIN : slot->next_due;
		/* not_before is not so far away unless the clock was set back */
		if (slot->not_before <= now + IS_MAX_BACKOFF)
			at = Max(at, slot->not_before);
		if (at <= now)
			*wanted = candidate->wanted = true;
		else
			*next = Min(*next, at);
	}
	LWLockRelease(is_launcher_shared->lock);
	return n;
}

/*
 * Start what is wanted, and free the slots of databases that are gone.  The
 * candidates are older than our knowledge of pg_database: a slot that was
 * made or woken since may be one of a newer database.
 */
static bool
start_wanted(int n)
{
	for (int i = 0; i < n; i++)
	{
		Candidate  *candidate = &candidates[i];
		IsSlot	   *slot = &is_launcher_shared->slots[candidate->slotno];

		if (hash_search(databases, &candidate->database, HASH_FIND, NULL))
		{
			if (candidate->wanted &&
				!start_worker(candidate->slotno, candidate->database, false))
				return false;
			continue;
		}

		LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
		if (slot->state == IS_SLOT_WAITING &&
			slot->database == candidate->database &&
			pg_atomic_read_u64(&slot->generation) == candidate->generation)
			is_launcher_slot_free(slot);
		LWLockRelease(is_launcher_shared->lock);
	}
	return true;
}

static int
count_looks(TimestampTz now)
{
	int			n = 0;

	LWLockAcquire(is_launcher_shared->lock, LW_SHARED);
	for (int i = 0; i < is_max_databases; i++)
	{
		IsSlot	   *slot = &is_launcher_shared->slots[i];

		if (slot->look && slot->state >= IS_SLOT_STARTING &&
			slot->started_at + LOOK_TIME > now)
			n++;
	}
	LWLockRelease(is_launcher_shared->lock);
	return n;
}

/* Have databases looked at whose turn has come. */
static bool
start_looks(TimestampTz now, TimestampTz *next)
{
	int			looks = count_looks(now);
	Database   *database;

	while (find_next_in_turn(now, &database) <= now)
	{
		IsSlot	   *slot;
		bool		start = false;

		if (looks >= MAX_LOOKS)
		{
			/* The end of one sets the latch. */
			*next = Min(*next, now + LOOK_TIME);
			return true;
		}

		LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
		slot = is_launcher_slot_make(database->oid);

		/*
		 * A worker that is there looks by itself.  One that is wanted, but
		 * not yet, will.
		 */
		if (slot != NULL && slot->state == IS_SLOT_WAITING &&
			!is_launcher_slot_unserved(slot))
		{
			start = !is_launcher_database_held(database->oid);
			if (!start)
				is_launcher_slot_settle(slot);
		}
		LWLockRelease(is_launcher_shared->lock);

		if (slot == NULL)
		{
			if (should_complain(&lacks_slots))
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("could not start an iterable_sync worker for database %u", database->oid),
						 errdetail("All %d slots for databases are in use.", is_max_databases),
						 errhint("Raise \"iterable_sync.max_databases\"; until then databases wait for each other.")));
			*next = Min(*next, now + RETRY_TIME);
			return true;
		}

		if (start &&
			!start_worker(slot - is_launcher_shared->slots, database->oid, true))
			return false;
		database->looked_at = now;
		looks += start;
	}
	return true;
}

/* Start what is missing.  Returns when there is something to do next. */
static TimestampTz
take_turn(void)
{
	static bool first = true;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = DT_NOEND;
	TimestampTz next_look;
	Database   *database;
	bool		wanted = false;
	int			n;

	notice_lost_workers();
	n = note_candidates(now, &wanted, &next);
	next_look = find_next_in_turn(now, &database);
	if (wanted || next_look <= now || first)
	{
		first = false;
		read_databases();
		if (!start_wanted(n) || !start_looks(now, &next))
			next = Min(next, now + RETRY_TIME);
		next_look = find_next_in_turn(now, &database);
	}

	/* One whose turn is over due waits for what start_looks waits for. */
	return next_look > now ? Min(next, next_look) : next;
}

/* ----------------------------------------------------------------
 * The process
 * ----------------------------------------------------------------
 */

static void
launcher_exit(int code, Datum arg)
{
	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	is_launcher_shared->launcher = NULL;
	LWLockRelease(is_launcher_shared->lock);
}

/*
 * A predecessor's workers that have not come yet are nobody's now.  Should
 * one come after all, it is as good as ours.
 */
static void
take_over(void)
{
	LWLockAcquire(is_launcher_shared->lock, LW_EXCLUSIVE);
	is_launcher_shared->launcher = MyLatch;
	for (int i = 0; i < is_max_databases; i++)
	{
		IsSlot	   *slot = &is_launcher_shared->slots[i];

		if (slot->state == IS_SLOT_STARTING)
			is_launcher_slot_settle(slot);
	}
	LWLockRelease(is_launcher_shared->lock);
}

/*
 * If it was a worker that has crashed the server, it may do so again: leave
 * time to do something about it, more each time.
 */
static int64
crash_pause(void)
{
	int			crashes = is_launcher_shared->crashes;

	if (crashes == 0)
		return 0;
	return Min((RESTART_TIME * USECS_PER_SEC) << Min(crashes - 1, 10), MAX_SLEEP);
}

void
is_launcher_main(Datum arg)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Database)};
	TimestampTz quiet_until;
	uint32		wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_activity(STATE_IDLE, NULL);

	MemoryContextSwitchTo(TopMemoryContext);
	databases = hash_create("iterable_sync databases", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	candidates = palloc_array(Candidate, is_max_databases);
	handles = palloc0_array(BackgroundWorkerHandle *, is_max_databases);
	wait_event = is_wait_event("IterableLauncherMain");

	on_shmem_exit(launcher_exit, (Datum) 0);
	take_over();
	quiet_until = GetCurrentTimestamp() + crash_pause();

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next = quiet_until;

		if (now >= quiet_until)
		{
			next = take_turn();
			now = GetCurrentTimestamp();
		}
		next = Min(next, now + MAX_SLEEP);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(now, next), wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			bool		compares = is_on_capture_error == IS_CAPTURE_COMPARE;

			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			if (!compares && is_on_capture_error == IS_CAPTURE_COMPARE)
				look_everywhere();
		}
	}
}
