/*-------------------------------------------------------------------------
 *
 * txn.c
 *	  Short transactions of the engine.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "txn.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "catalog.h"
#include "compat.h"
#include "iterable_sync.h"

static bool in_procedure = false;
static IsUserContext outer_user;
static MemoryContext outer_context;

/* OID of iterable.sync when this engine began. */
static Oid	installation = InvalidOid;

void
is_txn_in_procedure(bool procedure)
{
	in_procedure = procedure;
	installation = InvalidOid;
}

/*
 * Keep the extension from being dropped until the transaction ends: DROP
 * EXTENSION locks it before anything that belongs to it, so it waits for us
 * or we for it, and neither meets the other halfway through the tables.
 *
 * What is under way belongs to the extension that it was begun with.  One
 * that was dropped and created again has syncs with the same numbers.
 */
static void
hold_installation(void)
{
	Oid			relid;

	LockDatabaseObject(ExtensionRelationId, get_extension_oid(IS_EXTENSION, false),
					   0, AccessShareLock);
	relid = is_catalog_relation("sync");
	if (OidIsValid(installation) && relid != installation)
		ereport(in_procedure ? ERROR : FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the extension iterable_sync has been created anew")));
	installation = relid;
}

void
is_txn_begin(void)
{
	outer_context = CurrentMemoryContext;
	if (!in_procedure)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
	}

	/* Before the first snapshot: default_transaction_… must not matter. */
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	XactDeferrable = false;
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);

	MemoryContextSwitchTo(TopTransactionContext);
	hold_installation();
	PushActiveSnapshot(GetTransactionSnapshot());
	is_catalog_become_owner(&outer_user);
}

void
is_txn_commit(void)
{
	is_catalog_restore_user(&outer_user);
	PopActiveSnapshot();
	if (in_procedure)
		SPI_commit();
	else
	{
		CommitTransactionCommand();
		/* or autovacuum would never hear of the worker's dead rows */
		pgstat_report_stat(false);
	}
	MemoryContextSwitchTo(outer_context);
}

void
is_txn_abort(void)
{
	AbortCurrentTransaction();
	MemoryContextSwitchTo(outer_context);
}

static void
installation_locktag(LOCKTAG *tag)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, ExtensionRelationId,
					   get_extension_oid(IS_EXTENSION, true), 0);
}

bool
is_txn_is_in_the_way(void)
{
	LOCKTAG		tag;

	installation_locktag(&tag);
	return LockHasWaiters(&tag, AccessShareLock, false);
}

bool
is_txn_would_wait(void)
{
	MemoryContext context = CurrentMemoryContext;
	LOCKTAG		tag;
	bool		result;

	StartTransactionCommand();
	installation_locktag(&tag);
	result = LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return result;
}

void
is_txn_flush_wal(void)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	/*
	 * At a page boundary the insert position stands behind the header of a
	 * page that is not begun: XLogFlush() would complain that there is no
	 * such WAL.
	 */
	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		lsn -= SizeOfXLogLongPHD;
	else if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		lsn -= SizeOfXLogShortPHD;
	XLogFlush(lsn);
}
