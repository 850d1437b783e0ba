/*-------------------------------------------------------------------------
 *
 * scan_worker.c
 *	  Processes in which scans run.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "scan_worker.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "background.h"
#include "clock.h"
#include "compat.h"
#include "iterable_sync.h"
#include "scan.h"
#include "state.h"
#include "txn.h"

#define US_PER_S INT64CONST(1000000)

/*
 * A process that could not be started, or has ended for no reason of its scan,
 * is started again after this.  A scan that fails is put off: for so long at
 * most, or, if a person must mend it, rescan_interval.
 */
#define RESTART_PAUSE (5 * US_PER_S)
#define LAST_PAUSE_S 300

/* How often a scan that waits looks again, in ms. */
#define LOOK_MS 50

int			is_max_scan_workers = 2;

typedef struct ScanWorker
{
	int32		sync_id;		/* 0: free */
	int64		scan_id;		/* for which it was started */
	BackgroundWorkerHandle *handle; /* NULL: it has ended */
	int64		not_before;
} ScanWorker;

#define MAX_SCAN_WORKERS 64
static ScanWorker workers[MAX_SCAN_WORKERS];

/* What a process is told. */
typedef struct Task
{
	Oid			database;
	int32		sync_id;
} Task;

StaticAssertDecl(sizeof(Task) <= BGW_EXTRALEN, "task does not fit");

/* ----------------------------------------------------------------
 * In the worker of the database
 * ----------------------------------------------------------------
 */

static void
stop_at_exit(int code, Datum arg)
{
	is_scan_worker_stop_all();
}

/* Notice who has ended.  Returns how many run. */
static int
reap(void)
{
	int			n = 0;

	for (int i = 0; i < MAX_SCAN_WORKERS; i++)
	{
		pid_t		pid;

		if (workers[i].handle == NULL)
			continue;
		if (GetBackgroundWorkerPid(workers[i].handle, &pid) != BGWH_STOPPED)
		{
			n++;
			continue;
		}
		pfree(workers[i].handle);
		workers[i].handle = NULL;
		workers[i].not_before = is_clock_us() + RESTART_PAUSE;
	}
	return n;
}

/* The place of a sync, or a free one, or NULL. */
static ScanWorker *
find_place(int32 sync_id)
{
	ScanWorker *place = NULL;

	for (int i = 0; i < MAX_SCAN_WORKERS; i++)
	{
		if (workers[i].sync_id == sync_id)
			return &workers[i];
		if (workers[i].handle == NULL &&
			(workers[i].sync_id == 0 || workers[i].not_before < is_clock_us()))
			place = &workers[i];
	}
	return place;
}

static bool
start(ScanWorker *place, int32 sync_id)
{
	static bool registered = false;
	BackgroundWorker worker = {0};
	Task		task = {MyDatabaseId, sync_id};
	MemoryContext old;
	bool		started;

	if (!registered)
		before_shmem_exit(stop_at_exit, (Datum) 0);
	registered = true;

	snprintf(worker.bgw_name, sizeof(worker.bgw_name),
			 "iterable_sync scan of sync %d in database %u", sync_id, MyDatabaseId);
	strlcpy(worker.bgw_type, "iterable_sync scan", sizeof(worker.bgw_type));
	strlcpy(worker.bgw_library_name, IS_EXTENSION, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "is_scan_worker_main", sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &task, sizeof(task));

	place->sync_id = sync_id;
	old = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, &place->handle);
	MemoryContextSwitchTo(old);
	if (!started)
	{
		place->handle = NULL;
		place->not_before = is_clock_us() + RESTART_PAUSE;
		ereport(LOG,
				(errmsg("could not start a scan worker of iterable_sync"),
				 errdetail("All %d background worker processes are in use.", max_worker_processes),
				 errhint("Raise \"max_worker_processes\".")));
	}
	return started;
}

int64
is_scan_worker_want(int32 sync_id, int64 scan_id, TimestampTz retry_at)
{
	int			n = reap();
	ScanWorker *place = find_place(sync_id);
	int64		now = is_clock_us();
	int64		wait = TIMESTAMP_IS_NOBEGIN(retry_at) ? 0 : retry_at - GetCurrentTimestamp();

	if (place != NULL && place->handle != NULL)
		return -1;
	if (wait > 0)
		return wait;
	if (place == NULL || n >= Min(is_max_scan_workers, MAX_SCAN_WORKERS))
		return US_PER_S;
	if (place->sync_id == sync_id && place->scan_id == scan_id &&
		TIMESTAMP_IS_NOBEGIN(retry_at) && place->not_before > now)
		return place->not_before - now;
	place->scan_id = scan_id;
	return start(place, sync_id) ? -1 : RESTART_PAUSE;
}

/* What was held back after a scan that failed need not be any longer. */
void
is_scan_worker_unwant(int32 sync_id)
{
	(void) reap();
	for (int i = 0; i < MAX_SCAN_WORKERS; i++)
		if (workers[i].sync_id == sync_id && workers[i].handle == NULL)
			workers[i].sync_id = 0;
}

void
is_scan_worker_stop(int32 sync_id)
{
	for (int i = 0; i < MAX_SCAN_WORKERS; i++)
		if (workers[i].sync_id == sync_id && workers[i].handle)
			TerminateBackgroundWorker(workers[i].handle);
}

int64
is_scan_worker_look(void)
{
	static int64 next = 0;
	int64		now = is_clock_us();

	if (reap() == 0)
		return -1;
	if (now < next)
		return next - now;
	next = now + US_PER_S;
	if (is_txn_would_wait())
		for (int i = 0; i < MAX_SCAN_WORKERS; i++)
			if (workers[i].handle)
				TerminateBackgroundWorker(workers[i].handle);
	return US_PER_S;
}

void
is_scan_worker_stop_all(void)
{
	for (int i = 0; i < MAX_SCAN_WORKERS; i++)
		if (workers[i].handle)
			TerminateBackgroundWorker(workers[i].handle);
	for (int i = 0; i < MAX_SCAN_WORKERS; i++)
		if (workers[i].handle)
		{
			(void) WaitForBackgroundWorkerShutdown(workers[i].handle);
			workers[i].handle = NULL;
		}
}

/* ----------------------------------------------------------------
 * In the process
 * ----------------------------------------------------------------
 */

static void
scan_all(int32 sync_id)
{
	IsScan	   *scan = is_scan_create(sync_id);
	uint32		wait_event = is_wait_event("IterableScan");
	IsScanStep	step;

	if (scan == NULL)
		return;					/* a session in iterable_run_now() is at it */
	while ((step = is_scan_step(scan)) != IS_SCAN_DONE)
	{
		if (step == IS_SCAN_WAIT)
		{
			pgstat_report_activity(STATE_IDLE, NULL);
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 LOOK_MS, wait_event);
			ResetLatch(MyLatch);
		}
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	is_scan_free(scan);
}

void
is_scan_worker_main(Datum arg)
{
	Task		task;
	MemoryContext context;

	memcpy(&task, MyBgworkerEntry->bgw_extra, sizeof(task));
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(task.database, InvalidOid, 0);
	is_background_pin_settings();

	context = AllocSetContextCreate(TopMemoryContext, "iterable_sync scan worker",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		scan_all(task.sync_id);
	}
	PG_CATCH();
	{
		ErrorData  *error;
		char	   *text;
		bool		person;

		/* The reason is the sync's: its worker starts a scan again later. */
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		is_txn_abort();
		MemoryContextSwitchTo(context);
		person = is_background_report_error(task.sync_id, error, &text);
		is_txn_begin();
		is_scan_put_off(task.sync_id, person ? is_rescan_interval : LAST_PAUSE_S);
		is_txn_commit();
		ereport(LOG, (errmsg("scan of sync %d has failed: %s", task.sync_id, text)));
	}
	PG_END_TRY();
}
