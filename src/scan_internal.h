/*-------------------------------------------------------------------------
 *
 * scan_internal.h
 *	  What the files of a scan share: scan.c, and scan_pass.c for sources that
 *	  are not captured.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SCAN_INTERNAL_H
#define IS_SCAN_INTERNAL_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/tuplestore.h"

#include "catalog.h"
#include "render.h"
#include "scan.h"
#include "state.h"

/* Rows of a step. */
#define IS_SCAN_CHUNK_ROWS 1000

/*
 * What is found is put into the log in pieces of as many rows as go out in
 * half a second, at most two of them ahead of what is sent: so a row that
 * changes meanwhile waits for little.
 */
#define IS_SCAN_PIECES_AHEAD 2

typedef enum IsScanPhase
{
	IS_SCAN_WAITING,			/* for what was captured before */
	IS_SCAN_READING,			/* the rows */
	IS_SCAN_CHECKING,			/* the deliveries */
	/* of sources that are not captured: */
	IS_SCAN_FEEDING,			/* after reading: what is staged, into the log */
	IS_SCAN_DRAINING			/* at last: until all of it has verdicts */
} IsScanPhase;

/* The row of iterable.sync_scan. */
typedef struct IsScanRequest
{
	int64		scan_id;
	char	   *fence;
	IsScanKind	kind;
	char	   *condition;
	bool		force;
	bool		reading;		/* the rows … */
	bool		checking;		/* … and the deliveries are looked at */
	char	   *reason;
	IsScanPhase phase;
	char	   *after;			/* last key that is done, or NULL */
	TimestampTz started_at;
	int			errors;			/* in a row, before it came here */
} IsScanRequest;

/* What a step adds. */
typedef struct IsScanProgress
{
	int64		seen;
	int64		unchanged;
	int64		skipped;
	int64		failed;
	int64		vanished;
	List	   *keys;			/* to be sent, of char * */
	int			nrows;			/* that were read */
	IsRow	   *rows;
} IsScanProgress;

struct IsScan
{
	MemoryContext context;
	MemoryContext step_context;
	MemoryContext sync_context; /* sync, renderer */
	int32		sync_id;
	IsSync	   *sync;
	IsSync		narrowed;		/* with the condition in its filter */
	IsRenderer *renderer;
	bool		update_only;
	int			piece_rows;
	int64		scan_id;		/* that the renderer was made for */

	int			in_piece;		/* rows in the piece that is being made */
	char	   *ahead[IS_SCAN_PIECES_AHEAD];	/* snapshots at the ends of pieces */
	int			nahead;

	/* what a pass has found and is not staged yet */
	Tuplestorestate *store;
	TupleDesc	store_desc;
	int64		store_scan_id;	/* that it was made for … */
	int32		store_version;	/* … of this sync */
	IsScanProgress store_progress;
	int64		nulls;			/* rows without a key */
};

/*
 * scan.c, all in a transaction: is the request still there?  Then it stays so
 * until the end of the transaction.
 */
extern bool is_scan_lock_request(const IsScan *scan, const IsScanRequest *request);

/* Write down: the next phase; how far this one is, up to the key "after". */
extern void is_scan_save_phase(const IsScan *scan, IsScanPhase phase, int64 estimate);
extern void is_scan_save_progress(const IsScan *scan, const char *after,
								  const IsScanProgress *progress);

/* It has come further: what was wrong has passed. */
extern void is_scan_note_success(const IsScan *scan, const IsScanRequest *request);

/* Note rows as they were read; those that are not found are passed over. */
extern void is_scan_note(const IsScan *scan, const IsRow *rows, int n);

/* Begin anew, with a fence that is taken now. */
extern void is_scan_restart(IsScan *scan, const IsScanRequest *request);

/* It is done: the request goes, or becomes that for the next one. */
extern void is_scan_finish(const IsScan *scan);

/* Have the sync's changes up to this snapshot their verdicts? */
extern bool is_scan_passed(const IsSyncState *state, const char *snapshot);

/* Is enough of what was found on its way? */
extern bool is_scan_must_wait(IsScan *scan, const IsSyncState *state);

/* Put keys into the log; ops as is_change_log_append() takes them. */
extern void is_scan_feed(IsScan *scan, List *keys, const char *ops, int nops);

/*
 * scan_pass.c: a step of the scan of a source that is not captured, after it
 * has waited for its fence; drop what a pass has found (needs no transaction).
 */
extern IsScanStep is_scan_pass_step(IsScan *scan, const IsSyncState *state,
									IsScanRequest *request);
extern void is_scan_pass_drop(IsScan *scan);

#endif							/* IS_SCAN_INTERNAL_H */
