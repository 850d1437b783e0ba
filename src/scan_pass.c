/*-------------------------------------------------------------------------
 *
 * scan_pass.c
 *	  Comparing a source that is not captured: one pass over it, staging, and
 *	  what follows from that.
 *
 *	   wait for the fence --> pass --> stage --> feed --> check --> drain
 *
 * The pass is one query in one read-only transaction without an xid, which
 * holds nothing up but the removal of old row versions.  It goes into a
 * tuplestore, which outlives the transaction and takes no more memory than it
 * is given.  All else is in short transactions.
 *
 * Payloads are staged, so that what is sent is what was seen in one snapshot,
 * and no row has to be looked for in a view again.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "scan_internal.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "capture.h"
#include "change_log.h"
#include "compat.h"
#include "decide.h"
#include "delivery.h"
#include "query.h"
#include "source.h"
#include "staged.h"
#include "txn.h"

/* Memory of the tuplestore, in kB; the rest is in a temporary file. */
#define STORE_KB 4096

/* Rows that are forgotten in one transaction. */
#define FORGET_ROWS 10000

/* ----------------------------------------------------------------
 * The pass
 * ----------------------------------------------------------------
 */

typedef struct Passing
{
	IsScan	   *scan;
	const IsScanRequest *request;
} Passing;

/*
 * Was the very payload refused before, and is it not time to try again?  A
 * backfill tries again whatever has failed.
 */
static bool
is_failed_as_it_is(const IsScanRequest *request, const IsRow *row, const IsMemory *memory)
{
	return request->kind != IS_SCAN_BACKFILL && memory->failed && !memory->retry_due &&
		memory->failed_hash_known && memory->failed_hash == row->hash;
}

/* The letter under which a row goes into the log, or 0. */
static char
choose_op(IsScan *scan, const IsScanRequest *request, const IsRow *row,
		  const IsMemory *memory)
{
	const IsSync *sync = scan->sync;
	IsScanProgress *progress = &scan->store_progress;
	IsCircumstances circumstances = {.update_only = scan->update_only, .compared = true};
	IsFate		fate = IS_FATE_PENDING;
	IsDecision	decision;

	if (row->found)
		progress->seen++;
	decision = is_decide(sync, row, memory, &circumstances, &fate);

	if (!row->found)
	{
		bool		known = memory->failed || memory->state == IS_DELIVERY_ACCEPTED;

		/* what the filter keeps out, and always has */
		if (!known && fate != IS_FATE_UNMATCHED)
			progress->skipped++;
		return known || fate == IS_FATE_UNMATCHED ? IS_OP_COMPARED : 0;
	}
	if (request->force && !row->problem)
		return IS_OP_FORCE;
	if (decision != IS_DECISION_NOTE)
	{
		if (!is_failed_as_it_is(request, row, memory))
			return IS_OP_COMPARED;
		progress->failed++;
		return 0;
	}

	/* A backfill is for rows that were noted and not sent. */
	if (request->kind == IS_SCAN_BACKFILL &&
		(memory->state == IS_DELIVERY_SEEN || memory->state == IS_DELIVERY_NOTED) &&
		!row->problem &&
		!(sync->object == IS_OBJECT_EVENT && sync->mode == IS_MODE_UPDATE))
		return IS_OP_FORCE;
	switch (fate)
	{
		case IS_FATE_UNCHANGED:
			progress->unchanged++;
			return memory->failed ? IS_OP_COMPARED : 0;
		case IS_FATE_SKIPPED:
			progress->skipped++;
			return 0;
		case IS_FATE_REJECTED:
			if (!memory->failed)
				return IS_OP_COMPARED;
			progress->failed++;
			return 0;
		default:
			return IS_OP_COMPARED;
	}
}

static void
check_in_the_way(void)
{
	if (is_txn_is_in_the_way())
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("reading the source was broken off, because the extension is to be dropped")));
}

static bool
take_rows(void *arg, const char **keys, int n, IsRow *rows)
{
	Passing    *passing = arg;
	IsScan	   *scan = passing->scan;
	IsMemory   *memory = palloc_array(IsMemory, n);
	IsUserContext save;

	if (passing->request->kind == IS_SCAN_NOTE)
	{
		for (int i = 0; i < n; i++)
			is_staged_store(scan->store, scan->store_desc, &rows[i], 0, NULL);
		scan->store_progress.seen += n;
		check_in_the_way();
		return true;
	}
	is_catalog_become_owner(&save);
	is_delivery_recall(scan->sync, keys, NULL, n, memory);
	is_catalog_restore_user(&save);
	for (int i = 0; i < n; i++)
		is_staged_store(scan->store, scan->store_desc, &rows[i],
						choose_op(scan, passing->request, &rows[i], &memory[i]),
						&memory[i]);
	check_in_the_way();
	return true;
}

void
is_scan_pass_drop(IsScan *scan)
{
	if (scan->store)
		tuplestore_end(scan->store);
	scan->store = NULL;
}

static void
make_pass(IsScan *scan, const IsScanRequest *request)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	Passing		passing = {scan, request};
	ErrorData  *error;

	if (scan->store_desc == NULL)
		scan->store_desc = is_staged_desc();
	scan->store = tuplestore_begin_heap(false, true, STORE_KB);
	MemoryContextSwitchTo(old);
	scan->store_scan_id = request->scan_id;
	scan->store_version = scan->sync->version;
	memset(&scan->store_progress, 0, sizeof(scan->store_progress));

	/* Of rows that were not asked for it is not asked what they are. */
	is_state_begin_pass(scan->sync_id);
	error = is_render_try_pass(scan->renderer, request->checking, take_rows, &passing,
							   &scan->nulls);
	if (error == NULL)
		tuplestore_rescan(scan->store);
	else if (error->sqlerrcode != ERRCODE_QUERY_CANCELED ||
			 is_scan_lock_request(scan, request))
		ReThrowError(error);
	else
		is_scan_pass_drop(scan);	/* nobody wants to know any more */
}

/* ----------------------------------------------------------------
 * Steps
 * ----------------------------------------------------------------
 */

/*
 * Rows without a key are one failure; there is no telling them apart, and so
 * no sending them.
 */
static void
record_nulls(const IsScan *scan, const IsScanRequest *request)
{
	static IsQuery clear = IS_QUERY(
		"DELETE FROM iterable.sync_failure WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND class OPERATOR(pg_catalog.=) '" IS_CLASS_NULL_KEY "'", 1, INT4OID
	);
	IsRow		row = {.key = IS_NULL_KEY};
	IsResult	result = {.row = &row, .fate = IS_FATE_REJECTED, .class = IS_CLASS_NULL_KEY};
	Datum		arg = Int32GetDatum(scan->sync_id);

	if (scan->nulls > 0)
	{
		result.message = psprintf(INT64_FORMAT " rows have a NULL in the unique field",
								  scan->nulls);
		is_delivery_record(scan->sync, &result, 1);
	}
	else if (request->condition == NULL)
	{
		SPI_connect();
		(void) is_query_run(&clear, &arg, NULL);
		SPI_finish();
	}
}

/* Of rows that share a key one is noted; they are a failure all the same. */
static IsScanStep
note_rows(IsScan *scan)
{
	if (is_staged_note(scan->sync_id, scan->store, scan->store_desc, IS_SCAN_CHUNK_ROWS))
		return IS_SCAN_MORE;
	is_scan_finish(scan);
	is_scan_pass_drop(scan);
	return IS_SCAN_DONE;
}

static IsScanStep
stage_rows(IsScan *scan, const IsSyncState *state, const IsScanRequest *request)
{
	if (scan->store && (scan->store_scan_id != request->scan_id ||
						scan->store_version != state->version))
		is_scan_pass_drop(scan);
	if (scan->store == NULL)
	{
		/* of a pass that was broken off */
		if (is_staged_forget(scan->sync_id, FORGET_ROWS) == 0)
			make_pass(scan, request);
		return IS_SCAN_MORE;
	}
	if (!is_scan_lock_request(scan, request))
		return IS_SCAN_MORE;
	is_scan_note_success(scan, request);
	if (request->kind == IS_SCAN_NOTE)
		return note_rows(scan);
	if (is_staged_put(scan->sync_id, scan->store, scan->store_desc, IS_SCAN_CHUNK_ROWS))
		return IS_SCAN_MORE;

	record_nulls(scan, request);
	is_staged_finish(scan->sync_id, request->scan_id, scan->store_version);
	is_scan_save_progress(scan, "", &scan->store_progress);
	is_scan_save_phase(scan, IS_SCAN_FEEDING, 0);
	is_scan_pass_drop(scan);
	return IS_SCAN_MORE;
}

static void
begin_draining(const IsScan *scan)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET fence = $3::pg_catalog.pg_snapshot "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND scan_id OPERATOR(pg_catalog.=) $2",
		3, INT4OID, INT8OID, TEXTOID
	);
	Datum		values[3] = {
		Int32GetDatum(scan->sync_id), Int64GetDatum(scan->scan_id),
		CStringGetTextDatum(is_change_log_snapshot())
	};

	SPI_connect();
	(void) is_query_run(&query, values, NULL);
	SPI_finish();
	is_scan_save_phase(scan, IS_SCAN_DRAINING, 0);
}

static IsScanStep
feed_rows(IsScan *scan, const IsScanRequest *request)
{
	IsScanProgress progress = {0};
	char	   *ops = NULL;

	if (!is_scan_lock_request(scan, request))
		return IS_SCAN_MORE;
	progress.keys = is_staged_next(scan->sync_id, request->after, IS_SCAN_CHUNK_ROWS, &ops);
	is_scan_feed(scan, progress.keys, ops, list_length(progress.keys));
	if (progress.keys != NIL)
		is_scan_save_progress(scan, llast(progress.keys), &progress);
	else if (request->checking)
		is_scan_save_phase(scan, IS_SCAN_CHECKING, 0);
	else
		begin_draining(scan);
	return IS_SCAN_MORE;
}

static IsScanStep
check_deliveries(IsScan *scan, const IsScanRequest *request)
{
	List	   *keys = is_delivery_walk_keys(scan->sync_id, request->after,
											 IS_SCAN_CHUNK_ROWS, true);
	IsScanProgress progress = {0};
	char		op = IS_OP_COMPARED;

	if (!is_scan_lock_request(scan, request))
		return IS_SCAN_MORE;
	if (keys == NIL)
	{
		begin_draining(scan);
		return IS_SCAN_MORE;
	}
	progress.keys = is_staged_missing(scan->sync_id, keys, request->started_at);
	progress.vanished = list_length(progress.keys);
	is_scan_feed(scan, progress.keys, &op, 1);
	is_scan_save_progress(scan, llast(keys), &progress);
	return IS_SCAN_MORE;
}

/* What is staged is needed until the last verdict. */
static IsScanStep
drain(IsScan *scan, const IsSyncState *state, const IsScanRequest *request)
{
	if (!is_scan_passed(state, request->fence))
		return IS_SCAN_WAIT;
	if (!is_scan_lock_request(scan, request) ||
		is_staged_forget(scan->sync_id, FORGET_ROWS) > 0)
		return IS_SCAN_MORE;
	is_scan_finish(scan);
	return IS_SCAN_DONE;
}

IsScanStep
is_scan_pass_step(IsScan *scan, const IsSyncState *state, IsScanRequest *request)
{
	/* A crash has emptied it, or the sync is another now: begin anew. */
	if ((request->phase == IS_SCAN_FEEDING || request->phase == IS_SCAN_CHECKING) &&
		!is_staged_is_complete(scan->sync_id, request->scan_id, state->version))
	{
		if (is_scan_lock_request(scan, request))
			is_scan_restart(scan, request);
		return IS_SCAN_MORE;
	}

	switch (request->phase)
	{
		case IS_SCAN_READING:
			return stage_rows(scan, state, request);
		case IS_SCAN_FEEDING:
			return feed_rows(scan, request);
		case IS_SCAN_CHECKING:
			return check_deliveries(scan, request);
		default:
			return drain(scan, state, request);
	}
}
