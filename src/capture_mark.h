/*-------------------------------------------------------------------------
 *
 * capture_mark.h
 *	  Marks in shared memory: of which sources a change was committed that
 *	  could not be captured.
 *
 * A mark stays until the worker of its database has turned it into requests
 * for scans.  A clean stop of the server keeps the marks in a file; after any
 * other end of shared memory, and on a standby that is promoted, they are
 * lost.  That shows by the memory's number, which a database remembers
 * (uncaptured.h): it lives as long as no mark can have been lost.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CAPTURE_MARK_H
#define IS_CAPTURE_MARK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* The source_id of a mark of all sources of a database. */
#define IS_ALL_SOURCES 0

/* That of a permit to set marks, which is kept among them. */
#define IS_PERMIT (-1)

typedef struct IsCaptureMark
{
	Oid			database;		/* InvalidOid: free */
	int32		source_id;
	uint32		changes;		/* of the mark itself, to tell whether it is the same */
	TimestampTz since;			/* the first change was not before */
	bool		committed;		/* what was not captured can be seen, or … */

	/* … will be when a prepared transaction is finished; the newest of them */
	TransactionId prepared;
} IsCaptureMark;

/*
 * For the hooks that request and start shared memory; init is called with
 * AddinShmemInitLock held.
 */
extern Size is_capture_mark_shmem_size(void);
extern void is_capture_mark_shmem_init(void);

/* The number of the marks' memory; only with shared memory. */
extern pg_uuid_t is_capture_mark_memory(void);

/*
 * Mark a source of this database.  prepared: the transaction that it waits for,
 * or InvalidTransactionId if what was not captured is visible already.  Safe
 * in a commit callback: raises no error; when there is no room, all marks of
 * the database become one of all sources, and at last the memory gets another
 * number.
 */
extern void is_capture_mark_set(int32 source_id, TransactionId prepared);

/*
 * Marks may be lost, so none is set before this database has written down that
 * they may have been: then the worker permits it.  permitted raises no error.
 */
extern void is_capture_mark_permit(void);
extern bool is_capture_mark_permitted(void);

/* The marks of this database, palloc'ed. */
extern IsCaptureMark *is_capture_mark_list(int *n);

/*
 * The committed part of a mark has been dealt with, and if prepared is true
 * also the other; unless it was set again since it was listed.
 */
extern void is_capture_mark_clear(const IsCaptureMark *mark, bool prepared);

/* A database has been dropped. */
extern void is_capture_mark_forget(Oid database);

#endif							/* IS_CAPTURE_MARK_H */
