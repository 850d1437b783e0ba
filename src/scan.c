/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Comparing: a walk over a source, and over its deliveries.
 *
 * That a row is unchanged may be said only of a memory that no request under
 * way can change.  So a scan begins when everything that was captured before
 * it was asked for has its verdict; what changes later is captured.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "scan.h"

#include "catalog/pg_type.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "capture.h"
#include "catalog.h"
#include "change_log.h"
#include "compat.h"
#include "connection.h"
#include "decide.h"
#include "delivery.h"
#include "query.h"
#include "render.h"
#include "scan_internal.h"
#include "source.h"
#include "state.h"
#include "txn.h"

static const char phase_letters[] = "wrcfd";
static const char kind_letters[] = "brs";

/* ----------------------------------------------------------------
 * Requests
 * ----------------------------------------------------------------
 */

static uint64
run(IsQuery *query, Datum *values, const char *nulls)
{
	uint64		n;

	SPI_connect();
	n = is_query_run(query, values, nulls);
	SPI_finish();
	return n;
}

static void
request_scan(int32 sync_id, IsScanKind kind, const char *condition, bool force,
			 bool reading, bool checking, const char *reason)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.sync_scan AS s "
		"(sync_id, fence, kind, condition, force, reading, checking, reason) "
		"VALUES ($1, $2::pg_catalog.pg_snapshot, $8, $3, $4, $5, $6, $7) "
		"ON CONFLICT (sync_id) DO UPDATE SET scan_id = DEFAULT, fence = EXCLUDED.fence, "
		"condition = CASE WHEN NOT s.reading THEN EXCLUDED.condition "
		"WHEN NOT EXCLUDED.reading OR s.condition OPERATOR(pg_catalog.=) EXCLUDED.condition "
		"THEN s.condition END, "
		"kind = CASE WHEN s.kind OPERATOR(pg_catalog.=) 'b' THEN s.kind ELSE EXCLUDED.kind END, "
		"force = s.force OR EXCLUDED.force, "
		"reading = s.reading OR EXCLUDED.reading, checking = s.checking OR EXCLUDED.checking, "
		"reason = EXCLUDED.reason, phase = DEFAULT, requested_at = DEFAULT, "
		"started_at = NULL, after_key = NULL, rows_seen = 0, to_send = 0, unchanged = 0, "
		"skipped = 0, failed = 0, vanished = 0, rows_estimated = NULL",
		8, INT4OID, TEXTOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID, TEXTOID, CHAROID
	);
	Datum		values[8];

	values[0] = Int32GetDatum(sync_id);
	values[1] = CStringGetTextDatum(is_change_log_snapshot());
	values[2] = condition ? CStringGetTextDatum(condition) : (Datum) 0;
	values[3] = BoolGetDatum(force);
	values[4] = BoolGetDatum(reading);
	values[5] = BoolGetDatum(checking);
	values[6] = CStringGetTextDatum(reason);
	values[7] = CharGetDatum(kind_letters[kind]);
	(void) run(&query, values, condition ? NULL : "  n     ");
}

void
is_scan_request(int32 sync_id, IsScanKind kind, const char *condition, bool force,
				const char *reason)
{
	/* Of rows that were not asked for it is not asked whether they are gone. */
	request_scan(sync_id, kind, condition, force, true, condition == NULL, reason);
}

void
is_scan_request_check(int32 sync_id, const char *reason)
{
	request_scan(sync_id, IS_SCAN_BACKFILL, NULL, false, false, true, reason);
}

void
is_scan_request_again(int32 sync_id, const char *reason)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET again = $2 "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1", 2, INT4OID, TEXTOID
	);
	Datum		values[2] = {Int32GetDatum(sync_id), CStringGetTextDatum(reason)};

	if (run(&query, values, NULL) == 0)
		is_scan_request(sync_id, IS_SCAN_BACKFILL, NULL, false, reason);
}

/* Everything is found: that was it, unless another has been asked for. */
void
is_scan_finish(IsScan *scan)
{
	static IsQuery query = IS_QUERY(
		"DELETE FROM iterable.sync_scan WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"RETURNING again", 1, INT4OID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		arg = Int32GetDatum(scan->sync_id);
	char	   *again = NULL;

	SPI_connect();
	if (is_query_run(&query, &arg, NULL) == 1)
		again = is_query_text(0, 1, context);
	SPI_finish();
	if (again)
		is_scan_request(scan->sync_id, IS_SCAN_BACKFILL, NULL, false, again);
	is_capture_wake_on_commit();
}

bool
is_scan_waits(int32 sync_id, const char *reason)
{
	static IsQuery query = IS_QUERY(
		"SELECT FROM iterable.sync_scan WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND reason OPERATOR(pg_catalog.=) $2 AND phase OPERATOR(pg_catalog.=) 'w'",
		2, INT4OID, TEXTOID
	);
	Datum		values[2] = {Int32GetDatum(sync_id), CStringGetTextDatum(reason)};

	return run(&query, values, NULL) > 0;
}

bool
is_scan_cancel(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"DELETE FROM iterable.sync_scan WHERE sync_id OPERATOR(pg_catalog.=) $1",
		1, INT4OID
	);
	Datum		arg = Int32GetDatum(sync_id);

	return run(&query, &arg, NULL) > 0;
}

static IsScanRequest *
load_request(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"SELECT scan_id, fence::pg_catalog.text, condition, force, phase, after_key, kind, "
		"reason, started_at, reading, checking "
		"FROM iterable.sync_scan WHERE sync_id OPERATOR(pg_catalog.=) $1",
		1, INT4OID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		arg = Int32GetDatum(sync_id);
	IsScanRequest    *request = NULL;

	SPI_connect();
	if (is_query_run(&query, &arg, NULL) == 1)
	{
		bool		isnull;
		char		letter;

		request = MemoryContextAllocZero(context, sizeof(IsScanRequest));
		request->scan_id = DatumGetInt64(is_query_value(0, 1, &isnull));
		request->fence = is_query_text(0, 2, context);
		request->condition = is_query_text(0, 3, context);
		request->force = DatumGetBool(is_query_value(0, 4, &isnull));
		letter = DatumGetChar(is_query_value(0, 5, &isnull));
		request->phase = (IsScanPhase) (strchr(phase_letters, letter) - phase_letters);
		request->after = is_query_text(0, 6, context);
		letter = DatumGetChar(is_query_value(0, 7, &isnull));
		request->kind = (IsScanKind) (strchr(kind_letters, letter) - kind_letters);
		request->reason = is_query_text(0, 8, context);
		request->started_at = DatumGetTimestampTz(is_query_value(0, 9, &isnull));
		request->reading = DatumGetBool(is_query_value(0, 10, &isnull));
		request->checking = DatumGetBool(is_query_value(0, 11, &isnull));
	}
	SPI_finish();
	return request;
}

/* Is it still asked for?  Then it stays so until we have written it down. */
bool
is_scan_lock_request(const IsScan *scan, const IsScanRequest *request)
{
	static IsQuery query = IS_QUERY(
		"SELECT FROM iterable.sync_scan WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND scan_id OPERATOR(pg_catalog.=) $2 FOR UPDATE",
		2, INT4OID, INT8OID
	);
	Datum		values[2] = {Int32GetDatum(scan->sync_id), Int64GetDatum(request->scan_id)};

	return run(&query, values, NULL) == 1;
}

void
is_scan_save_phase(const IsScan *scan, IsScanPhase phase, int64 estimate)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET phase = $2, after_key = NULL, "
		"started_at = COALESCE(started_at, pg_catalog.now()), "
		"rows_estimated = COALESCE(rows_estimated, $3) "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1",
		3, INT4OID, CHAROID, INT8OID
	);
	Datum		values[3] = {
		Int32GetDatum(scan->sync_id), CharGetDatum(phase_letters[phase]),
		Int64GetDatum(estimate)
	};

	(void) run(&query, values, NULL);
}

void
is_scan_save_progress(const IsScan *scan, const char *after, const IsScanProgress *progress)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET after_key = $2, "
		"rows_seen = rows_seen OPERATOR(pg_catalog.+) $3, "
		"to_send = to_send OPERATOR(pg_catalog.+) $4, "
		"unchanged = unchanged OPERATOR(pg_catalog.+) $5, "
		"skipped = skipped OPERATOR(pg_catalog.+) $6, "
		"failed = failed OPERATOR(pg_catalog.+) $7, "
		"vanished = vanished OPERATOR(pg_catalog.+) $8 "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1",
		8, INT4OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID
	);
	Datum		values[8] = {
		Int32GetDatum(scan->sync_id), CStringGetTextDatum(after),
		Int64GetDatum(progress->seen),
		Int64GetDatum((int64) list_length(progress->keys) - progress->vanished),
		Int64GetDatum(progress->unchanged), Int64GetDatum(progress->skipped),
		Int64GetDatum(progress->failed), Int64GetDatum(progress->vanished)
	};

	(void) run(&query, values, NULL);
}

/* ----------------------------------------------------------------
 * The scan
 * ----------------------------------------------------------------
 */

IsScan *
is_scan_create(int32 sync_id)
{
	MemoryContext context;
	IsScan	   *scan;
	bool		locked;

	is_txn_begin();
	locked = is_state_lock_scan(sync_id);
	is_txn_commit();
	if (!locked)
		return NULL;

	context = AllocSetContextCreate(CurrentMemoryContext, "iterable_sync scan",
									ALLOCSET_DEFAULT_SIZES);
	scan = MemoryContextAllocZero(context, sizeof(IsScan));
	scan->context = context;
	scan->step_context = AllocSetContextCreate(context, "iterable_sync scan step",
											   ALLOCSET_DEFAULT_SIZES);
	scan->sync_context = AllocSetContextCreate(context, "iterable_sync scan definition",
											   ALLOCSET_DEFAULT_SIZES);
	scan->sync_id = sync_id;
	return scan;
}

void
is_scan_free(IsScan *scan)
{
	is_scan_pass_drop(scan);
	is_state_unlock_scan(scan->sync_id);
	MemoryContextDelete(scan->context);
}

static void
load_definition(IsScan *scan, const IsScanRequest *request)
{
	MemoryContext old;
	IsConnection *connection;

	scan->renderer = NULL;
	MemoryContextReset(scan->sync_context);
	old = MemoryContextSwitchTo(scan->sync_context);
	scan->sync = is_catalog_get_sync_by_id(scan->sync_id);
	connection = is_connection_describe(scan->sync->connection, scan->sync->owner);
	scan->update_only = connection->update_only;
	scan->narrowed = *scan->sync;
	if (request->phase == IS_SCAN_CHECKING)
		;						/* a delivery of any row */
	else if (request->condition && scan->sync->filter)
		scan->narrowed.filter = psprintf("(%s) AND (%s)", scan->sync->filter,
										 request->condition);
	else if (request->condition)
		scan->narrowed.filter = pstrdup(request->condition);
	scan->renderer = is_render_create(&scan->narrowed, connection->project_type);
	if (is_render_is_captured(scan->renderer))
		is_render_only_hashes(scan->renderer);
	scan->piece_rows = Max(1, (int) (connection->rate[is_render_endpoint(scan->sync)] / 2)) *
		IS_MAX_BATCH_ROWS;
	scan->scan_id = request->scan_id;
	MemoryContextSwitchTo(old);
}

/* Have the syncs's changes up to this snapshot their verdicts? */
bool
is_scan_passed(const IsSyncState *state, const char *snapshot)
{
	return !is_change_log_has_changes(state->source_id, state->sync_id,
									  state->position, snapshot);
}

/* Is enough of what was found on its way? */
bool
is_scan_must_wait(IsScan *scan, const IsSyncState *state)
{
	if (scan->in_piece >= scan->piece_rows)
	{
		scan->ahead[scan->nahead++] =
			MemoryContextStrdup(scan->context, is_change_log_snapshot());
		scan->in_piece = 0;
	}
	while (scan->nahead > 0 && is_scan_passed(state, scan->ahead[0]))
	{
		pfree(scan->ahead[0]);
		memmove(scan->ahead, scan->ahead + 1, --scan->nahead * sizeof(char *));
	}
	return scan->nahead == IS_SCAN_PIECES_AHEAD;
}

void
is_scan_feed(IsScan *scan, List *keys, const char *ops, int nops)
{
	is_change_log_append_keys(scan->sync->source.source_id, scan->sync_id, ops, nops,
							  keys);
	scan->in_piece += list_length(keys);
	is_capture_wake_on_commit();
}

void
is_scan_restart(IsScan *scan, const IsScanRequest *request)
{
	is_scan_request(scan->sync_id, request->kind, request->condition, request->force,
					request->reason);
}

/* ----------------------------------------------------------------
 * Steps
 * ----------------------------------------------------------------
 */

static void
take_row(const IsScan *scan, const IsScanRequest *request, const IsRow *row,
		 const IsMemory *memory, IsScanProgress *progress)
{
	IsCircumstances circumstances = {.update_only = scan->update_only};
	IsFate		fate = IS_FATE_PENDING;
	IsDecision	decision = is_decide(scan->sync, row, memory, &circumstances, &fate);
	bool		in_question = true;

	progress->seen++;
	if (!row->found && (row->left ? request->condition != NULL : true))
		in_question = false;	/* nothing that was asked for, or gone since */
	else if (decision != IS_DECISION_NOTE || (request->force && row->found && !row->problem))
		in_question = true;
	else if (fate == IS_FATE_UNCHANGED)
	{
		progress->unchanged++;
		in_question = false;
	}
	else if (fate == IS_FATE_SKIPPED || (fate == IS_FATE_LEFT && memory->state == 0))
	{
		progress->skipped++;
		in_question = false;
	}
	else if (fate == IS_FATE_REJECTED && memory->failed)
	{
		progress->failed++;		/* as is known */
		in_question = false;
	}
	if (in_question)
		progress->keys = lappend(progress->keys, unconstify(char *, row->key));
}

/* The next rows.  Returns the last key, or NULL if there are no more. */
static const char *
read_rows(IsScan *scan, const IsScanRequest *request, IsScanProgress *progress)
{
	IsRow	   *rows = palloc_array(IsRow, IS_SCAN_CHUNK_ROWS);
	int			n = is_render_walk_rows(scan->renderer, request->after,
										IS_SCAN_CHUNK_ROWS, rows);
	const char **keys = palloc_array(const char *, n + 1);
	IsMemory   *memory = palloc_array(IsMemory, n + 1);

	if (n == 0)
		return NULL;
	for (int i = 0; i < n; i++)
		keys[i] = rows[i].key;
	is_delivery_recall(scan->sync_id, keys, NULL, n, memory);
	for (int i = 0; i < n; i++)
		take_row(scan, request, &rows[i], &memory[i], progress);
	return keys[n - 1];
}

/*
 * The next deliveries.  A row that seems to be gone is read again when its
 * turn in the log has come, before anything follows from it.
 */
static const char *
check_deliveries(IsScan *scan, const IsScanRequest *request, IsScanProgress *progress)
{
	List	   *keys = is_delivery_walk_keys(scan->sync_id, request->after,
												  IS_SCAN_CHUNK_ROWS, false);
	int			n = list_length(keys);
	const char **key_array = palloc_array(const char *, n + 1);
	bool	   *present = palloc_array(bool, n + 1);

	if (n == 0)
		return NULL;
	for (int i = 0; i < n; i++)
		key_array[i] = list_nth(keys, i);
	is_render_find(scan->renderer, key_array, n, present);
	for (int i = 0; i < n; i++)
		if (!present[i])
		{
			progress->keys = lappend(progress->keys, unconstify(char *, key_array[i]));
			progress->vanished++;
		}
	return key_array[n - 1];
}

/* In a transaction; what is written is one short part of it at its end. */
static IsScanStep
do_step(IsScan *scan)
{
	IsSyncState *state = is_state_load(scan->sync_id, false);
	IsScanRequest    *request = state ? load_request(scan->sync_id) : NULL;
	IsScanProgress	progress = {0};
	const char *last;

	if (request == NULL)
		return IS_SCAN_DONE;
	if (request->phase == IS_SCAN_WAITING ? !is_scan_passed(state, request->fence) :
		is_scan_must_wait(scan, state))
		return IS_SCAN_WAIT;
	if (scan->renderer == NULL || scan->sync->version != state->version ||
		scan->scan_id != request->scan_id)
		load_definition(scan, request);

	if (!is_render_is_captured(scan->renderer) && request->phase != IS_SCAN_WAITING)
		return is_scan_pass_step(scan, state, request);
	if (request->phase > IS_SCAN_CHECKING)
	{
		/* a table has taken the place of a view */
		is_scan_restart(scan, request);
		return IS_SCAN_MORE;
	}

	if (request->phase == IS_SCAN_WAITING)
	{
		if (is_scan_lock_request(scan, request))
			is_scan_save_phase(scan, request->reading ? IS_SCAN_READING : IS_SCAN_CHECKING,
							   request->reading ? is_source_estimate(scan->sync) : -1);
		scan->renderer = NULL;
		return IS_SCAN_MORE;
	}

	last = request->phase == IS_SCAN_READING ?
		read_rows(scan, request, &progress) :
		check_deliveries(scan, request, &progress);

	/* Another relation: wait until it has been looked at, then begin anew. */
	if (OidIsValid(state->source_relid) &&
		!is_render_kept_to(scan->renderer, state->source_relid))
		return IS_SCAN_WAIT;
	if (!is_scan_lock_request(scan, request))
		return IS_SCAN_MORE;
	if (last != NULL)
	{
		char		op = request->force ? IS_OP_FORCE : IS_OP_BACKFILL;

		is_scan_feed(scan, progress.keys, &op, 1);
		is_scan_save_progress(scan, last, &progress);
		return IS_SCAN_MORE;
	}

	if (request->phase == IS_SCAN_READING && request->checking)
	{
		is_scan_save_phase(scan, IS_SCAN_CHECKING, 0);
		scan->renderer = NULL;
		return IS_SCAN_MORE;
	}
	is_scan_finish(scan);
	return IS_SCAN_DONE;
}

IsScanStep
is_scan_step(IsScan *scan)
{
	MemoryContext old;
	IsScanStep	result;

	MemoryContextReset(scan->step_context);
	old = MemoryContextSwitchTo(scan->step_context);
	is_txn_begin();

	/* What a crash takes back goes as a whole, and nothing was sent of it. */
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	result = do_step(scan);
	is_txn_commit();
	MemoryContextSwitchTo(old);
	return result;
}
