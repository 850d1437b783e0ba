/*-------------------------------------------------------------------------
 *
 * forget.c
 *	  Forgetting what Iterable has of a row, in a transaction of its own.
 *
 * A run sends with no transaction open, and can say so before.  Who sends in
 * the caller's transaction may see its record rolled back, or crash: then it
 * must not stand anywhere that Iterable has what it had before, or a row that
 * goes back to that would not be sent again.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "forget.h"

#include <signal.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/resowner.h"

#include "compat.h"
#include "delivery.h"
#include "iterable_sync.h"
#include "txn.h"

typedef struct Request
{
	Oid			database;
	int32		sync_id;
	bool		done;
	char		key[FLEXIBLE_ARRAY_MEMBER];
} Request;

void
is_forget_main(Datum arg)
{
	dsm_segment *segment;
	Request    *request;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	CurrentResourceOwner = ResourceOwnerCreate(NULL, "iterable_sync forget");
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* who asked has gone */
	dsm_pin_mapping(segment);
	request = dsm_segment_address(segment);
	BackgroundWorkerInitializeConnectionByOid(request->database, InvalidOid, 0);

	/* Who waits for us may have a lock that we would wait for. */
	SetConfigOption("lock_timeout", "1s", PGC_SUSET, PGC_S_OVERRIDE);

	is_txn_begin();
	is_delivery_forget_payloads(request->sync_id, list_make1(request->key));
	is_txn_commit();
	request->done = true;
	proc_exit(0);
}

void
is_forget_payload(int32 sync_id, const char *key)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	dsm_segment *segment = dsm_create(offsetof(Request, key) + strlen(key) + 1, 0);
	Request    *request = dsm_segment_address(segment);
	bool		done;

	request->database = MyDatabaseId;
	request->sync_id = sync_id;
	request->done = false;
	strcpy(request->key, key);

	strlcpy(worker.bgw_name, "iterable_sync forget", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "iterable_sync forget", sizeof(worker.bgw_type));
	strlcpy(worker.bgw_library_name, IS_EXTENSION, sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "is_forget_main", sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no background worker is free"),
				 errhint("Try again, or raise max_worker_processes.")));
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	done = request->done;
	dsm_detach(segment);
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the row could not be prepared for being sent"),
				 errdetail("A background worker has failed; the log of the server says why."),
				 errhint("Nothing was sent: try again.")));
}
