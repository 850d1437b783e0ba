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

/* Before a scan that has failed is tried again: at first, doubled each time. */
#define FIRST_PAUSE_S 4

static const char phase_letters[] = "wrcfd";
static const char kind_letters[] = "ncb";	/* downwards, as they go */

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
		"(sync_id, kind, fence, condition, force, reading, checking, reason) "
		"VALUES ($1, $2, $3::pg_catalog.pg_snapshot, $4, $5, $6, $7, $8) "
		"ON CONFLICT (sync_id, kind) DO UPDATE SET scan_id = DEFAULT, fence = EXCLUDED.fence, "
		"condition = CASE WHEN NOT s.reading THEN EXCLUDED.condition "
		"WHEN NOT EXCLUDED.reading OR s.condition OPERATOR(pg_catalog.=) EXCLUDED.condition "
		"THEN s.condition ELSE ('(' OPERATOR(pg_catalog.||) s.condition "
		"OPERATOR(pg_catalog.||) ') OR (' OPERATOR(pg_catalog.||) EXCLUDED.condition "
		"OPERATOR(pg_catalog.||) ')') END, "
		"force = s.force OR EXCLUDED.force, "
		"reading = s.reading OR EXCLUDED.reading, checking = s.checking OR EXCLUDED.checking, "
		"reason = EXCLUDED.reason, phase = DEFAULT, requested_at = DEFAULT, "
		"started_at = NULL, after_key = NULL, rows_seen = 0, to_send = 0, unchanged = 0, "
		"skipped = 0, failed = 0, vanished = 0, rows_estimated = NULL, "
		"errors = 0, retry_at = NULL",
		8, INT4OID, CHAROID, TEXTOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID, TEXTOID
	);
	Datum		values[8];

	values[0] = Int32GetDatum(sync_id);
	values[1] = CharGetDatum(kind_letters[kind]);
	values[2] = CStringGetTextDatum(is_change_log_snapshot());
	values[3] = condition ? CStringGetTextDatum(condition) : (Datum) 0;
	values[4] = BoolGetDatum(force);
	values[5] = BoolGetDatum(reading);
	values[6] = BoolGetDatum(checking);
	values[7] = CStringGetTextDatum(reason);
	(void) run(&query, values, condition ? NULL : "   n    ");
	if (kind == IS_SCAN_NOTE)
		is_state_set_noted(sync_id, NULL);
	is_state_break_pass(sync_id);
}

void
is_scan_request(int32 sync_id, IsScanKind kind, const char *condition, bool force,
				const char *reason)
{
	/* Of rows that were not asked for it is not asked whether they are gone. */
	request_scan(sync_id, kind, condition, force, true,
				 condition == NULL && kind != IS_SCAN_NOTE, reason);
}

void
is_scan_request_check(int32 sync_id, const char *reason)
{
	request_scan(sync_id, IS_SCAN_COMPARE, NULL, false, false, true, reason);
}

void
is_scan_request_again(int32 sync_id, const char *reason)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET again = $2 "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND kind OPERATOR(pg_catalog.=) 'c'",
		2, INT4OID, TEXTOID
	);
	Datum		values[2] = {Int32GetDatum(sync_id), CStringGetTextDatum(reason)};

	if (run(&query, values, NULL) == 0)
		is_scan_request(sync_id, IS_SCAN_COMPARE, NULL, false, reason);
}

bool
is_scan_noting_since(int32 sync_id, TimestampTz *since)
{
	static IsQuery query = IS_QUERY(
		"SELECT requested_at FROM iterable.sync_scan "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND kind OPERATOR(pg_catalog.=) 'n'",
		1, INT4OID
	);
	Datum		arg = Int32GetDatum(sync_id);
	bool		found;
	bool		isnull;

	SPI_connect();
	found = is_query_run(&query, &arg, NULL) == 1;
	if (found)
		*since = DatumGetTimestampTz(is_query_value(0, 1, &isnull));
	SPI_finish();
	return found;
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
is_scan_cancel(int32 sync_id, bool captured)
{
	static IsQuery query = IS_QUERY(
		"DELETE FROM iterable.sync_scan WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND (kind OPERATOR(pg_catalog.=) 'b' OR kind OPERATOR(pg_catalog.=) 'c' AND NOT $2)",
		2, INT4OID, BOOLOID
	);
	Datum		values[2] = {Int32GetDatum(sync_id), BoolGetDatum(captured)};

	if (run(&query, values, NULL) == 0)
		return false;
	is_state_break_pass(sync_id);
	return true;
}

static IsScanRequest *
load_request(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"SELECT scan_id, fence::pg_catalog.text, condition, force, phase, after_key, kind, "
		"reason, started_at, reading, checking, errors "
		"FROM iterable.sync_scan WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"ORDER BY kind DESC LIMIT 1",
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
		request->errors = DatumGetInt32(is_query_value(0, 12, &isnull));
	}
	SPI_finish();
	return request;
}

/* The state first, as all do that write both. */
#define LOCK_REQUEST(wait) \
	"SELECT FROM iterable.sync_state t JOIN iterable.sync_scan s " \
	"ON s.sync_id OPERATOR(pg_catalog.=) t.sync_id " \
	"WHERE t.sync_id OPERATOR(pg_catalog.=) $1 AND s.scan_id OPERATOR(pg_catalog.=) $2 " \
	"FOR KEY SHARE OF t " wait "FOR UPDATE OF s " wait

bool
is_scan_lock_request(const IsScan *scan, const IsScanRequest *request)
{
	static IsQuery query = IS_QUERY(LOCK_REQUEST(""), 2, INT4OID, INT8OID);
	Datum		values[2] = {Int32GetDatum(scan->sync_id), Int64GetDatum(request->scan_id)};

	return run(&query, values, NULL) == 1;
}

/*
 * The same without waiting.  Who drops a sync has these rows locked and asks
 * for a lock on the source, on which we have one after reading it.
 */
static bool
try_lock_request(const IsScan *scan, const IsScanRequest *request)
{
	static IsQuery query = IS_QUERY(LOCK_REQUEST("SKIP LOCKED "), 2, INT4OID, INT8OID);
	Datum		values[2] = {Int32GetDatum(scan->sync_id), Int64GetDatum(request->scan_id)};

	return run(&query, values, NULL) == 1;
}

void
is_scan_save_phase(const IsScan *scan, IsScanPhase phase, int64 estimate)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET phase = $3, after_key = NULL, "
		"started_at = COALESCE(started_at, pg_catalog.now()), "
		"rows_estimated = COALESCE(rows_estimated, $4) "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND scan_id OPERATOR(pg_catalog.=) $2",
		4, INT4OID, INT8OID, CHAROID, INT8OID
	);
	Datum		values[4] = {
		Int32GetDatum(scan->sync_id), Int64GetDatum(scan->scan_id),
		CharGetDatum(phase_letters[phase]), Int64GetDatum(estimate)
	};

	(void) run(&query, values, NULL);
}

void
is_scan_save_progress(const IsScan *scan, const char *after, const IsScanProgress *progress)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET after_key = $3, "
		"rows_seen = rows_seen OPERATOR(pg_catalog.+) $4, "
		"to_send = to_send OPERATOR(pg_catalog.+) $5, "
		"unchanged = unchanged OPERATOR(pg_catalog.+) $6, "
		"skipped = skipped OPERATOR(pg_catalog.+) $7, "
		"failed = failed OPERATOR(pg_catalog.+) $8, "
		"vanished = vanished OPERATOR(pg_catalog.+) $9 "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND scan_id OPERATOR(pg_catalog.=) $2",
		9, INT4OID, INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID
	);
	Datum		values[9] = {
		Int32GetDatum(scan->sync_id), Int64GetDatum(scan->scan_id),
		CStringGetTextDatum(after),
		Int64GetDatum(progress->seen),
		Int64GetDatum((int64) list_length(progress->keys) - progress->vanished),
		Int64GetDatum(progress->unchanged), Int64GetDatum(progress->skipped),
		Int64GetDatum(progress->failed), Int64GetDatum(progress->vanished)
	};

	(void) run(&query, values, NULL);
}

void
is_scan_note_success(const IsScan *scan, const IsScanRequest *request)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET errors = 0, retry_at = NULL "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND scan_id OPERATOR(pg_catalog.=) $2",
		2, INT4OID, INT8OID
	);
	Datum		values[2] = {Int32GetDatum(scan->sync_id), Int64GetDatum(scan->scan_id)};

	if (request->errors == 0)
		return;
	(void) run(&query, values, NULL);
	is_state_clear_trouble(scan->sync_id);
}

/*
 * Put the one that is next off, since it has failed: for longer with each time
 * in a row, and not all at the same moment.
 */
void
is_scan_put_off(int32 sync_id, int longest)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET errors = errors OPERATOR(pg_catalog.+) 1, "
		"retry_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) "
		"pg_catalog.make_interval(secs => (1 OPERATOR(pg_catalog.-) "
		"(pg_catalog.random() OPERATOR(pg_catalog./) 2)) OPERATOR(pg_catalog.*) LEAST($2 OPERATOR(pg_catalog.*) "
		"pg_catalog.power(2, LEAST(errors, 20)), $3)) "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND kind OPERATOR(pg_catalog.=) "
		"(SELECT s.kind FROM iterable.sync_scan s WHERE s.sync_id OPERATOR(pg_catalog.=) $1 "
		"ORDER BY s.kind DESC LIMIT 1)",
		3, INT4OID, FLOAT8OID, FLOAT8OID
	);
	Datum		values[3] = {
		Int32GetDatum(sync_id), Float8GetDatum((double) FIRST_PAUSE_S),
		Float8GetDatum((double) longest)
	};

	if (run(&query, values, NULL) > 0)
		is_capture_wake_on_commit();
}

void
is_scan_hurry(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_scan SET retry_at = pg_catalog.clock_timestamp() "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND retry_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()",
		1, INT4OID
	);
	Datum		arg = Int32GetDatum(sync_id);

	(void) run(&query, &arg, NULL);
}

/*
 * Those that follow must not begin before what this one has found has its
 * verdicts.
 */
void
is_scan_finish(const IsScan *scan)
{
	static IsQuery finish = IS_QUERY(
		"DELETE FROM iterable.sync_scan "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND scan_id OPERATOR(pg_catalog.=) $2 "
		"RETURNING again",
		2, INT4OID, INT8OID
	);
	static IsQuery follow = IS_QUERY(
		"UPDATE iterable.sync_scan SET fence = $2::pg_catalog.pg_snapshot "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND phase OPERATOR(pg_catalog.=) 'w'",
		2, INT4OID, TEXTOID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2] = {Int32GetDatum(scan->sync_id), Int64GetDatum(scan->scan_id)};
	char	   *again = NULL;

	SPI_connect();
	if (is_query_run(&finish, values, NULL) == 1)
		again = is_query_text(0, 1, context);
	SPI_finish();
	if (again)
		is_scan_request(scan->sync_id, IS_SCAN_COMPARE, NULL, false, again);
	values[1] = CStringGetTextDatum(is_change_log_snapshot());
	(void) run(&follow, values, NULL);
	is_capture_wake_on_commit();
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

static bool
load_definition(IsScan *scan, const IsScanRequest *request)
{
	MemoryContext old;
	IsConnection *connection;

	scan->renderer = NULL;
	MemoryContextReset(scan->sync_context);
	old = MemoryContextSwitchTo(scan->sync_context);
	scan->sync = is_catalog_get_sync_by_id(scan->sync_id);
	if (scan->sync == NULL)
	{
		MemoryContextSwitchTo(old);
		return false;			/* dropped just now */
	}
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
	return true;
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
	if (keys == NIL)
		return;
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
	IsCircumstances circumstances = {
		.update_only = scan->update_only,
		.compared = request->kind == IS_SCAN_COMPARE,
	};
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
	progress->nrows = n;
	progress->rows = rows;
	if (request->kind == IS_SCAN_NOTE)
	{
		progress->seen = n;
		return keys[n - 1];
	}
	is_delivery_recall(scan->sync, keys, NULL, n, memory);
	for (int i = 0; i < n; i++)
		take_row(scan, request, &rows[i], &memory[i], progress);
	return keys[n - 1];
}

void
is_scan_note(const IsScan *scan, const IsRow *rows, int n)
{
	Datum	   *keys = palloc_array(Datum, n + 1);
	Datum	   *hashes = palloc_array(Datum, n + 1);
	bool	   *no_hash = palloc_array(bool, n + 1);
	int			k = 0;

	for (int i = 0; i < n; i++)
	{
		if (!rows[i].found)
			continue;
		keys[k] = CStringGetTextDatum(rows[i].key);
		hashes[k] = Int64GetDatum(rows[i].hash);
		no_hash[k++] = rows[i].problem != NULL;
	}
	if (k > 0)
		is_delivery_note(scan->sync_id, keys, hashes, no_hash, k);
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

/*
 * What commits from now on was changed after its row was noted, or is new.  The
 * position moves on, if nothing was captured meanwhile, so that this counts at
 * once.
 */
static void
end_noting(const IsScan *scan, const IsSyncState *state)
{
	char	   *snapshot = is_change_log_snapshot();

	is_state_set_noted(scan->sync_id, snapshot);
	if (is_scan_passed(state, snapshot))
		is_state_pass(scan->sync_id, state->position, snapshot);
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
	if (request->kind == IS_SCAN_NOTE)
		;						/* nothing is said of what is under way */
	else if (request->phase == IS_SCAN_WAITING ? !is_scan_passed(state, request->fence) :
			 is_scan_must_wait(scan, state))
		return IS_SCAN_WAIT;
	if ((scan->renderer == NULL || scan->sync->version != state->version ||
		 scan->scan_id != request->scan_id) && !load_definition(scan, request))
		return IS_SCAN_DONE;

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
		if (!try_lock_request(scan, request))
			return IS_SCAN_WAIT;
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
	if (!try_lock_request(scan, request))
		return IS_SCAN_WAIT;
	is_scan_note_success(scan, request);
	if (last != NULL)
	{
		char		op = request->force ? IS_OP_FORCE :
			request->kind == IS_SCAN_BACKFILL ? IS_OP_RETRY : IS_OP_COMPARED;

		if (request->kind == IS_SCAN_NOTE)
			is_scan_note(scan, progress.rows, progress.nrows);
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
	if (request->kind == IS_SCAN_NOTE)
		end_noting(scan, state);
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
