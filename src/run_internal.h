/*-------------------------------------------------------------------------
 *
 * run_internal.h
 *	  What the files of a run share: run.c, run_window.c, run_fill.c,
 *	  run_version.c, run_request.c, run_verdict.c.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_RUN_INTERNAL_H
#define IS_RUN_INTERNAL_H

#include "postgres.h"

#include "batch.h"
#include "catalog.h"
#include "change_log.h"
#include "connection.h"
#include "delivery.h"
#include "render.h"
#include "run.h"
#include "state.h"

#define US_PER_S INT64CONST(1000000)

/* What the window says of a row of a chunk. */
typedef struct IsChunkChange
{
	bool		updated;		/* the trigger saw an UPDATE */
	bool		forced;			/* to be sent even if Iterable has it */
	bool		captured;		/* it was not only found by comparing */
	bool		asked;			/* it is to be sent though it was noted, or tried
								 * again */
	bool		deleted;		/* there is nothing to be sent */
	const char *tag;			/* of the version that failed and is tried again */
	const IsVersion *version;	/* the row as it was committed; NULL: as it is */
	IsPlace		before;			/* place just before the key's first change */
} IsChunkChange;

/* A stretch of the window, read and rendered, not yet in a batch. */
typedef struct IsChunk
{
	MemoryContext context;
	int			n;
	int			next;			/* first row not taken into a batch yet */
	const char **keys;
	const char **tags;			/* of versions, "" for rows as they are; NULL: a
								 * row's failures count, of whatever they are */
	IsChunkChange *changes;
	IsRow	   *rows;
	IsMemory   *memory;
	IsPlace		end;			/* place of the last change read */
	bool		recall;			/* memory is outdated */
} IsChunk;

struct IsRun
{
	MemoryContext context;
	IsHttp	   *http;
	int32		sync_id;
	IsSync	   *sync;
	MemoryContext sync_context; /* sync, renderer */
	IsRenderer *renderer;
	IsProjectType project_type; /* that the renderer was made for */
	MemoryContext connection_context;
	IsConnection *connection;
	IsEndpoint	endpoint;
	char	   *envelope;		/* of its requests */

	IsSyncState *state;			/* as of the window's opening */
	MemoryContext state_context;
	IsWindow   *window;			/* NULL: none is open */
	bool		window_read;	/* to its end */
	HTAB	   *known;			/* if an earlier run left it open: keys of which
								 * there is a verdict since */
	bool		look_at_all;	/* it has changes without a key, or of rows that
								 * are to be found again */
	bool		truncated;		/* the source was truncated */
	Oid			source_owner;	/* whose versions of rows are taken */
	Oid			astray_from;	/* rows were read from another one than this */
	int64		run_id;
	TimestampTz run_started_at;
	IsChunk    *chunk;
	int			chunk_rows;
	IsBatch    *filling;
	List	   *batches;		/* complete ones in order; head not done yet */
	HTAB	   *claims;
	IsPlace		read_to;		/* end of the last complete batch */
	int			sending;
	List	   *requests;		/* IsRequest *, under way */

	int64		not_before;		/* back off until */
	int			setbacks;		/* answers in a row that said "again" */
	bool		reported;		/* the trouble stands in the sync's state */
	double		rtt;			/* of requests, µs, smoothed */
	int64		answered;		/* bulk requests that had an answer for rows */
	char		trouble[400];
};

/* Owner of a request: a batch's bulk request or the look-up of one row. */
typedef struct IsRequest
{
	IsRun	   *run;
	IsBatch    *batch;
	int			row;			/* -1: bulk */
	/* where and when the pacer has counted it */
	uint64		rate_group;
	IsEndpoint	endpoint;
	int64		counted;
} IsRequest;

/*
 * run.c: load the connection, or sync, connection and renderer, as they are
 * now; rights are checked anew (in a transaction).
 */
extern void is_run_load_connection(IsRun *run);
extern void is_run_load_definition(IsRun *run);

/*
 * run_window.c: error if the sync has been dropped (42704), or has begun anew
 * (40001), since the window was opened; state as it is now.
 */
extern void is_run_check_state(const IsRun *run, const IsSyncState *now);

/*
 * run_window.c: resume the window that an earlier run left open, or open one
 * if there is anything to do; ask for a scan if what was read calls for one
 * (in the transaction that records it as done, or a crash would lose it: what
 * is done is not read again); finish one (in the transaction that records its
 * last batch).
 */
extern bool is_run_start_window(IsRun *run);
extern void is_run_ask_for_scan(IsRun *run);
extern void is_run_finish_window(IsRun *run);

/*
 * run_fill.c: fill the next batch; false if nothing can be decided before a
 * verdict comes.
 */
extern bool is_run_fill(IsRun *run);

/*
 * run_version.c, of syncs that send rows as they were committed: is this change
 * a version of its row, or does it say that there is none?  Take it into the
 * chunk; render the chunk.
 */
extern bool is_run_is_version(const IsRun *run, const IsChange *change);
extern void is_run_take_version(IsChunkChange *into, const IsChange *change);
extern void is_run_render_versions(IsRun *run, IsChunk *chunk);

/* run_request.c: drop requests; how many may be under way at once. */
extern void is_run_cancel_requests(IsRun *run);
extern int	is_run_lanes(const IsRun *run);

/*
 * run_verdict.c: all rows of the batch have a fate; record what was learnt of
 * a batch and how far the window is done.
 */
extern bool is_run_batch_done(const IsBatch *batch);
extern void is_run_record(IsRun *run, IsBatch *batch);

#endif							/* IS_RUN_INTERNAL_H */
