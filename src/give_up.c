/*-------------------------------------------------------------------------
 *
 * give_up.c
 *	  Giving up the place of a sync in the change log.
 *
 * The position moves to what is committed now, and a scan is asked for, which
 * compares all rows with what Iterable has when the sync may run.  What the
 * given-up part of the log had is found by that:
 *
 * - rows that were changed, unless they were changed back, which is as well;
 *	 rows that are gone, whether deleted or by TRUNCATE;
 * - changes whose key could not be told, and rows of another scan, which
 *	 begins anew as a part of this one;
 * - failures whose turn to be tried again had come: such a scan tries all.
 *
 * What it cannot find is forgotten first, in the same transaction, so that it
 * differs: keys that were to be sent whatever Iterable has or was noted, what was
 * noted after the oldest change that is given up, and keys of an
 * open window that may have been sent.  Nobody knows whether Iterable has them
 * as they were when they were sent, and a row that has gone back to what was
 * accepted before would pass for unchanged.  They are among the first that the
 * window has left undone: no run has more than so many in batches, and none
 * gets further while we have its state locked.  A run that is under way has
 * requests out, and may still send what it has prepared; it holds the lock of
 * the sync until it finds that the state is another one, so what is sent then
 * comes before what the scan sends, and is not recorded.
 *
 * What cannot be known is whether a row that the sync has never seen was
 * changed after it was inserted: mode update of an event notes such a row.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "give_up.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"

#include "capture.h"
#include "catalog.h"
#include "change_log.h"
#include "delivery.h"
#include "query.h"
#include "run.h"
#include "scan.h"
#include "source.h"
#include "state.h"

/* Keys that are forgotten by one statement. */
#define CHUNK_KEYS 1000

/* Keys that the open window has left undone, as far as a run may have come. */
static void
forget_window(const IsSyncState *state)
{
	HASHCTL		ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(uint64),
	.hcxt = CurrentMemoryContext};
	HTAB	   *seen;
	List	   *keys = NIL;
	IsWindow   *window;
	IsChange	change;

	if (state->window_end == NULL)
		return;
	seen = hash_create("iterable_sync keys given up", 1000, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	window = is_change_log_open_window(state->source_id, state->sync_id, state->position,
									   state->window_end, state->done.seq,
									   state->done.offset, false);
	while (hash_get_num_entries(seen) <= IS_RUN_OPEN_KEYS &&
		   is_change_log_next(window, &change))
	{
		IsPlace		place = {change.seq, change.offset};
		uint64		hash;

		if (change.key == NULL || is_state_done_ahead(state, place))
			continue;
		hash = hash_bytes_extended((unsigned char *) change.key, strlen(change.key), 0);
		(void) hash_search(seen, &hash, HASH_ENTER, NULL);
		keys = lappend(keys, pstrdup(change.key));
		if (list_length(keys) == CHUNK_KEYS)
		{
			is_delivery_forget_payloads(state->sync_id, keys);
			list_free_deep(keys);
			keys = NIL;
		}
	}
	is_delivery_forget_payloads(state->sync_id, keys);
	is_change_log_close_window(window);
	hash_destroy(seen);
}

/* Keys that were to be sent whatever Iterable has, or was noted. */
static void
forget_asked(const IsSyncState *state)
{
	static IsQuery query = IS_QUERY(
		"SELECT DISTINCT k.key FROM iterable.change c, "
		"LATERAL pg_catalog.unnest(c.keys) WITH ORDINALITY AS k (key, i) "
		"WHERE c.source_id OPERATOR(pg_catalog.=) $1 "
		"AND c.sync_id OPERATOR(pg_catalog.=) $2 "
		"AND c.xid OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmin($3) "
		"AND NOT pg_catalog.pg_visible_in_snapshot(c.xid, $3) "
		"AND pg_catalog.substr(c.ops, CASE WHEN pg_catalog.length(c.ops) "
		"OPERATOR(pg_catalog.>) 1 THEN k.i::pg_catalog.int4 ELSE 1 END, 1) "
		"OPERATOR(pg_catalog.=) ANY ('{F,R}')",
		3, INT4OID, INT4OID, PG_SNAPSHOTOID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3] = {
		Int32GetDatum(state->source_id), Int32GetDatum(state->sync_id),
		DirectFunctionCall1(pg_snapshot_in, CStringGetDatum(state->position))
	};
	List	   *keys = NIL;
	uint64		n;

	SPI_connect();
	n = is_query_run(&query, values, NULL);
	keys = is_query_texts(n, 1, context);
	SPI_finish();
	is_delivery_forget_payloads(state->sync_id, keys);
	list_free_deep(keys);
}

bool
is_give_up_place(int32 sync_id)
{
	IsSyncState *state = is_state_load(sync_id, true);
	IsSync	   *sync = state ? is_catalog_get_sync_by_id(sync_id) : NULL;
	TimestampTz oldest;
	bool		news;

	if (sync == NULL)
		return false;			/* dropped just now */
	news = !is_scan_waits(sync_id, IS_GIVE_UP_REASON);
	if (is_change_log_oldest(state->source_id, sync_id, state->position, &oldest))
		is_delivery_forget_notes(sync_id, oldest);
	forget_window(state);
	forget_asked(state);
	is_state_begin_anew(sync_id, is_change_log_snapshot());
	is_scan_request(sync_id, IS_SCAN_COMPARE, NULL, false, IS_GIVE_UP_REASON);
	is_capture_wake_on_commit();
	return news;
}
