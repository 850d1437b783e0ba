/*-------------------------------------------------------------------------
 *
 * state.c
 *	  How far each sync has come.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "state.h"

#include <signal.h>

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "capture.h"
#include "catalog.h"
#include "compat.h"
#include "iterable_sync.h"
#include "query.h"
#include "schedule.h"

char *
is_state_identity(void)
{
	return psprintf(UINT64_FORMAT "/%u/%s", GetSystemIdentifier(), MyDatabaseId,
					is_environment ? is_environment : "");
}

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */

#define STATE_QUERY \
	"SELECT t.sync_id, s.version, s.source_id, s.enabled, s.schedule, " \
	"t.identity, t.\"position\", t.window_end, t.window_seq, t.window_offset, " \
	"t.window_ahead, t.run_id, " \
	"c.scan_id, COALESCE(c.kind OPERATOR(pg_catalog.=) 'n', false), " \
	"EXISTS (SELECT FROM iterable.sync_scan a " \
	"  WHERE a.sync_id OPERATOR(pg_catalog.=) t.sync_id " \
	"  AND a.kind OPERATOR(pg_catalog.<>) 'n' AND a.reading AND a.condition IS NULL), " \
	"t.run_requested, t.last_run_at, t.paused_reason, " \
	"(SELECT f.next_at FROM iterable.sync_failure f " \
	"  WHERE f.sync_id OPERATOR(pg_catalog.=) t.sync_id AND f.next_at IS NOT NULL " \
	"  ORDER BY f.next_at LIMIT 1), " \
	"(SELECT r.started_at FROM iterable.sync_run r " \
	"  WHERE r.run_id OPERATOR(pg_catalog.=) t.run_id), s.name, s.time_zone, t.state_id, " \
	"(SELECT p.finished_at FROM iterable.sync a JOIN iterable.sync_state p " \
	"  ON p.sync_id OPERATOR(pg_catalog.=) a.sync_id " \
	"  WHERE s.schedule OPERATOR(pg_catalog.^@) '" IS_SCHEDULE_AFTER "' " \
	"  AND a.name OPERATOR(pg_catalog.=) pg_catalog.substr(s.schedule, " \
	"    pg_catalog.length('" IS_SCHEDULE_AFTER "') OPERATOR(pg_catalog.+) 1)), " \
	"(SELECT w.relid FROM iterable.source_state w " \
	"  WHERE w.source_id OPERATOR(pg_catalog.=) s.source_id)" \
	", c.retry_at, " \
	"COALESCE(pg_catalog.pg_snapshot_xmax(t.\"position\") OPERATOR(pg_catalog.>=) " \
	"  pg_catalog.pg_snapshot_xmax(t.noted) " \
	"  AND NOT EXISTS (SELECT FROM pg_catalog.pg_snapshot_xip(t.\"position\") AS x (xid) " \
	"    WHERE pg_catalog.pg_visible_in_snapshot(x.xid, t.noted)), false) " \
	"FROM iterable.sync_state t JOIN iterable.sync s " \
	"ON s.sync_id OPERATOR(pg_catalog.=) t.sync_id " \
	"LEFT JOIN LATERAL (SELECT n.scan_id, n.kind, n.retry_at FROM iterable.sync_scan n " \
	"  WHERE n.sync_id OPERATOR(pg_catalog.=) t.sync_id " \
	"  ORDER BY n.kind DESC LIMIT 1) AS c ON true "

static int64
get_int(uint64 i, int column)
{
	bool		isnull;
	Datum		value = is_query_value(i, column, &isnull);

	if (isnull)
		return 0;
	return SPI_gettypeid(SPI_tuptable->tupdesc, column) == INT8OID ?
		DatumGetInt64(value) : DatumGetInt32(value);
}

static Oid
get_oid(uint64 i, int column)
{
	bool		isnull;
	Datum		value = is_query_value(i, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

static bool
get_bool(uint64 i, int column)
{
	bool		isnull;

	return DatumGetBool(is_query_value(i, column, &isnull));
}

static TimestampTz
get_time(uint64 i, int column, TimestampTz if_null)
{
	bool		isnull;
	Datum		value = is_query_value(i, column, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(value);
}

static void
get_stretches(uint64 i, int column, MemoryContext context, IsSyncState *state)
{
	bool		isnull;
	ArrayType  *array = DatumGetArrayTypeP(is_query_value(i, column, &isnull));
	Datum	   *numbers;
	int			n;

	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &numbers, NULL, &n);
	state->nahead = n / 4;
	state->ahead = MemoryContextAlloc(context, (state->nahead + 1) * sizeof(IsStretch));
	for (int k = 0; k < state->nahead; k++)
	{
		state->ahead[k].from.seq = DatumGetInt64(numbers[4 * k]);
		state->ahead[k].from.offset = (int32) DatumGetInt64(numbers[4 * k + 1]);
		state->ahead[k].to.seq = DatumGetInt64(numbers[4 * k + 2]);
		state->ahead[k].to.offset = (int32) DatumGetInt64(numbers[4 * k + 3]);
	}
}

static IsSyncState *
get_state(uint64 i, MemoryContext context)
{
	IsSyncState *state = MemoryContextAllocZero(context, sizeof(IsSyncState));

	state->sync_id = (int32) get_int(i, 1);
	state->version = (int32) get_int(i, 2);
	state->source_id = (int32) get_int(i, 3);
	state->enabled = get_bool(i, 4);
	state->schedule = is_query_text(i, 5, context);
	state->identity = is_query_text(i, 6, context);
	state->position = is_query_text(i, 7, context);
	state->window_end = is_query_text(i, 8, context);
	state->done.seq = get_int(i, 9);
	state->done.offset = (int32) get_int(i, 10);
	get_stretches(i, 11, context, state);
	state->run_id = get_int(i, 12);
	state->scan_id = get_int(i, 13);
	state->scanning = state->scan_id != 0;
	state->noting = get_bool(i, 14);
	state->scanning_all = get_bool(i, 15);
	state->run_requested = get_bool(i, 16);
	state->last_run_at = get_time(i, 17, DT_NOBEGIN);
	state->paused_reason = is_query_text(i, 18, context);
	state->next_retry_at = get_time(i, 19, DT_NOEND);
	state->run_started_at = get_time(i, 20, DT_NOBEGIN);
	state->name = is_query_text(i, 21, context);
	state->time_zone = is_query_text(i, 22, context);
	state->state_id = get_int(i, 23);
	state->after_finished_at = get_time(i, 24, DT_NOBEGIN);
	state->source_relid = get_oid(i, 25);
	state->scan_retry_at = get_time(i, 26, DT_NOBEGIN);
	state->noted = get_bool(i, 27);
	return state;
}

List *
is_state_load_all(void)
{
	static IsQuery query = IS_QUERY(STATE_QUERY "ORDER BY t.sync_id", 0, 0
	);
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = is_query_run(&query, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		result = lappend(result, get_state(i, context));
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return result;
}

IsSyncState *
is_state_load(int32 sync_id, bool for_update)
{
	static IsQuery plain = IS_QUERY(
		STATE_QUERY "WHERE t.sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID
	);
	static IsQuery locking = IS_QUERY(
		STATE_QUERY "WHERE t.sync_id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE OF t",
		1, INT4OID
	);
	MemoryContext context = CurrentMemoryContext;
	IsSyncState *state = NULL;
	Datum		arg = Int32GetDatum(sync_id);

	SPI_connect();
	if (is_query_run(for_update ? &locking : &plain, &arg, NULL) == 1)
		state = get_state(0, context);
	SPI_finish();
	return state;
}

bool
is_state_done_ahead(const IsSyncState *state, IsPlace place)
{
	for (int i = 0; i < state->nahead; i++)
		if (is_state_place_after(place, state->ahead[i].from) &&
			!is_state_place_after(place, state->ahead[i].to))
			return true;
	return false;
}

/* ----------------------------------------------------------------
 * The lock of a run
 * ----------------------------------------------------------------
 */

/*
 * An advisory lock, since those of other kinds go with an aborted transaction
 * even if they are the session's.  The last field of the tag is 1 or 2 for
 * pg_advisory_lock(), so none of a user's is ever ours.
 */
#define RUN_LOCK 7
#define SCAN_LOCK 9
#define RUN_WANTED 8
#define PASS_LOCK 11

/* Kept, since unlocking must work while a transaction is failing. */
static Oid	lock_class = InvalidOid;

static void
run_locktag(int32 sync_id, LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, lock_class, (uint32) sync_id,
						 RUN_LOCK);
}

static void
scan_locktag(int32 sync_id, LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, lock_class, (uint32) sync_id,
						 SCAN_LOCK);
}

static void
wanted_locktag(int32 sync_id, LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, lock_class, (uint32) sync_id,
						 RUN_WANTED);
}

static bool
lock_for_session(const LOCKTAG *tag)
{
	LockAcquireResult result = LockAcquire(tag, ExclusiveLock, true, true);

	/* counted, so a second one of this session would unlock too early */
	if (result == LOCKACQUIRE_ALREADY_HELD || result == LOCKACQUIRE_ALREADY_CLEAR)
	{
		LockRelease(tag, ExclusiveLock, true);
		return false;
	}
	return result == LOCKACQUIRE_OK;
}

bool
is_state_lock_run(int32 sync_id)
{
	LOCKTAG		tag;

	lock_class = is_catalog_relation("sync");
	if (is_state_run_wanted(sync_id))
		return false;
	run_locktag(sync_id, &tag);
	return lock_for_session(&tag);
}

void
is_state_unlock_run(int32 sync_id)
{
	LOCKTAG		tag;

	run_locktag(sync_id, &tag);
	(void) LockRelease(&tag, ExclusiveLock, true);
}

bool
is_state_lock_scan(int32 sync_id)
{
	LOCKTAG		tag;

	lock_class = is_catalog_relation("sync");
	scan_locktag(sync_id, &tag);
	return lock_for_session(&tag);
}

void
is_state_unlock_scan(int32 sync_id)
{
	LOCKTAG		tag;

	scan_locktag(sync_id, &tag);
	(void) LockRelease(&tag, ExclusiveLock, true);
}

static void
pass_locktag(int32 sync_id, LOCKTAG *tag)
{
	lock_class = is_catalog_relation("sync");
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, lock_class, (uint32) sync_id,
						 PASS_LOCK);
}

void
is_state_begin_pass(int32 sync_id)
{
	LOCKTAG		tag;

	pass_locktag(sync_id, &tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Who has the lock is in the pass, or, for a moment, behind it: then the scan
 * is canceled elsewhere, and goes on where it was.
 */
void
is_state_break_pass(int32 sync_id)
{
	LOCKTAG		tag;
	VirtualTransactionId *holder;

	pass_locktag(sync_id, &tag);
	for (holder = GetLockConflicts(&tag, ExclusiveLock, NULL);
		 VirtualTransactionIdIsValid(*holder); holder++)
	{
		PGPROC	   *proc = is_proc_of_transaction(*holder);

		if (proc != NULL && proc->pid != 0)
			(void) kill(proc->pid, SIGINT);
	}
}

void
is_state_want_run(int32 sync_id)
{
	LOCKTAG		tag;

	lock_class = is_catalog_relation("sync");
	wanted_locktag(sync_id, &tag);

	/* Shared by all who want it, so there is nothing to wait for. */
	(void) LockAcquire(&tag, ShareLock, false, false);
}

void
is_state_await_run(int32 sync_id)
{
	LOCKTAG		tag;

	lock_class = is_catalog_relation("sync");
	run_locktag(sync_id, &tag);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/*
 * Who waits for the lock itself is in its queue only after the worker was
 * woken, and may come too late to be seen there.
 */
bool
is_state_run_wanted(int32 sync_id)
{
	LOCKTAG		tag;

	wanted_locktag(sync_id, &tag);
	return LockWaiterCount(&tag) > 0;	/* those who have it count */
}

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

static void
run_update(IsQuery *query, Datum *values, const char *nulls)
{
	SPI_connect();
	(void) is_query_run(query, values, nulls);
	SPI_finish();
}

void
is_state_open_window(int32 sync_id, const char *window_end)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET window_end = $2, window_seq = 0, "
		"window_offset = 0, window_ahead = '{}', run_requested = false "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1",
		2, INT4OID, PG_SNAPSHOTOID
	);
	Datum		values[2] = {
		Int32GetDatum(sync_id),
		DirectFunctionCall1(pg_snapshot_in, CStringGetDatum(window_end))
	};

	run_update(&query, values, NULL);
}

void
is_state_close_window(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET \"position\" = window_end, window_end = NULL, "
		"window_seq = 0, window_offset = 0, window_ahead = '{}' "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND window_end IS NOT NULL",
		1, INT4OID
	);
	Datum		value = Int32GetDatum(sync_id);

	run_update(&query, &value, NULL);
}

void
is_state_pass(int32 sync_id, const char *from, const char *to)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET \"position\" = $3::pg_catalog.pg_snapshot "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND window_end IS NULL "
		"AND \"position\"::pg_catalog.text OPERATOR(pg_catalog.=) $2",
		3, INT4OID, TEXTOID, TEXTOID
	);
	Datum		values[3] = {
		Int32GetDatum(sync_id), CStringGetTextDatum(from), CStringGetTextDatum(to)
	};

	run_update(&query, values, NULL);
}

void
is_state_set_noted(int32 sync_id, const char *snapshot)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET noted = $2::pg_catalog.pg_snapshot "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1",
		2, INT4OID, TEXTOID
	);
	Datum		values[2] = {
		Int32GetDatum(sync_id), snapshot ? CStringGetTextDatum(snapshot) : (Datum) 0
	};

	run_update(&query, values, snapshot ? NULL : " n");
}

void
is_state_begin_anew(int32 sync_id, const char *position)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET state_id = DEFAULT, "
		"\"position\" = $2::pg_catalog.pg_snapshot, window_end = NULL, "
		"window_seq = 0, window_offset = 0, window_ahead = '{}' "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1",
		2, INT4OID, TEXTOID
	);
	Datum		values[2] = {Int32GetDatum(sync_id), CStringGetTextDatum(position)};

	run_update(&query, values, NULL);
}

void
is_state_advance(int32 sync_id, IsPlace done, const IsStretch *ahead, int nahead)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET window_seq = $2, window_offset = $3, "
		"window_ahead = $4 WHERE sync_id OPERATOR(pg_catalog.=) $1",
		4, INT4OID, INT8OID, INT4OID, INT8ARRAYOID
	);
	Datum	   *numbers = palloc(Max(1, 4 * nahead) * sizeof(Datum));
	Datum		values[4];

	for (int i = 0; i < nahead; i++)
	{
		numbers[4 * i] = Int64GetDatum(ahead[i].from.seq);
		numbers[4 * i + 1] = Int64GetDatum((int64) ahead[i].from.offset);
		numbers[4 * i + 2] = Int64GetDatum(ahead[i].to.seq);
		numbers[4 * i + 3] = Int64GetDatum((int64) ahead[i].to.offset);
	}
	values[0] = Int32GetDatum(sync_id);
	values[1] = Int64GetDatum(done.seq);
	values[2] = Int32GetDatum(done.offset);
	values[3] = PointerGetDatum(construct_array(numbers, 4 * nahead, INT8OID,
												sizeof(int64), FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	run_update(&query, values, NULL);
}

int64
is_state_begin_run(int32 sync_id)
{
	static IsQuery insert = IS_QUERY(
		"INSERT INTO iterable.sync_run (sync_id, started_at) "
		"VALUES ($1, pg_catalog.clock_timestamp()) RETURNING run_id",
		1, INT4OID
	);
	static IsQuery update = IS_QUERY(
		"UPDATE iterable.sync_state SET run_id = $2 "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1",
		2, INT4OID, INT8OID
	);
	Datum		values[2] = {Int32GetDatum(sync_id)};
	int64		run_id;

	SPI_connect();
	(void) is_query_run(&insert, values, NULL);
	run_id = get_int(0, 1);
	values[1] = Int64GetDatum(run_id);
	(void) is_query_run(&update, values, NULL);
	SPI_finish();
	return run_id;
}

/* A list of names as an array; names that are not of this encoding in part. */
static Datum
names_array(const List *names)
{
	Datum	   *elems = palloc((list_length(names) + 1) * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, names)
	{
		char	   *name = pstrdup(lfirst(lc));

		if (GetDatabaseEncoding() != PG_UTF8)
			for (char *p = name; *p != '\0'; p++)
				if (IS_HIGHBIT_SET(*p))
					*p = '?';
		elems[n++] = CStringGetTextDatum(name);
	}
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

#define WITH_NAMES(column, names) \
	column " = (SELECT pg_catalog.array_agg(f.name) FROM (SELECT DISTINCT u.name " \
	"FROM pg_catalog.unnest(pg_catalog.array_cat(" column ", " names ")) AS u (name) " \
	"ORDER BY u.name LIMIT 1000) AS f)"

static void
note_fields(int64 run_id, const List *created, const List *filtered)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_run SET " WITH_NAMES("created_fields", "$2") ", "
		WITH_NAMES("filtered_fields", "$3") " WHERE run_id OPERATOR(pg_catalog.=) $1",
		3, INT8OID, TEXTARRAYOID, TEXTARRAYOID
	);
	Datum		values[3] = {
		Int64GetDatum(run_id), names_array(created), names_array(filtered)
	};

	run_update(&query, values, NULL);
}

void
is_state_count(int64 run_id, const IsRunCounts *counts)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_run SET keys_seen = keys_seen OPERATOR(pg_catalog.+) $2, "
		"accepted = accepted OPERATOR(pg_catalog.+) $3, "
		"rejected = rejected OPERATOR(pg_catalog.+) $4, "
		"retried = retried OPERATOR(pg_catalog.+) $5, "
		"unchanged = unchanged OPERATOR(pg_catalog.+) $6, "
		"skipped = skipped OPERATOR(pg_catalog.+) $7, "
		"vanished = vanished OPERATOR(pg_catalog.+) $8, "
		"requests = requests OPERATOR(pg_catalog.+) $9, "
		"bytes = bytes OPERATOR(pg_catalog.+) $10, "
		"filtered = filtered OPERATOR(pg_catalog.+) $11, "
		"would_send = would_send OPERATOR(pg_catalog.+) $12 "
		"WHERE run_id OPERATOR(pg_catalog.=) $1",
		12, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
			 INT8OID, INT8OID, INT8OID, INT8OID, INT8OID
	);
	Datum		values[12] = {
		Int64GetDatum(run_id), Int64GetDatum(counts->keys_seen),
		Int64GetDatum(counts->accepted), Int64GetDatum(counts->rejected),
		Int64GetDatum(counts->retried), Int64GetDatum(counts->unchanged),
		Int64GetDatum(counts->skipped), Int64GetDatum(counts->vanished),
		Int64GetDatum(counts->requests), Int64GetDatum(counts->bytes),
		Int64GetDatum(counts->filtered), Int64GetDatum(counts->would_send)
	};

	run_update(&query, values, NULL);
	if (counts->created_fields != NIL || counts->filtered_fields != NIL)
		note_fields(run_id, counts->created_fields, counts->filtered_fields);
}

void
is_state_end_run(int32 sync_id, int64 run_id)
{
	static IsQuery end = IS_QUERY(
		"UPDATE iterable.sync_run SET finished_at = pg_catalog.clock_timestamp() "
		"WHERE run_id OPERATOR(pg_catalog.=) $1",
		1, INT8OID
	);
	static IsQuery leave = IS_QUERY(
		"UPDATE iterable.sync_state SET run_id = NULL, "
		"finished_at = pg_catalog.clock_timestamp() "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 RETURNING EXISTS ("
		"SELECT FROM iterable.sync s, iterable.sync b "
		"WHERE s.sync_id OPERATOR(pg_catalog.=) $1 "
		"AND b.schedule OPERATOR(pg_catalog.=) "
		"('" IS_SCHEDULE_AFTER "' OPERATOR(pg_catalog.||) s.name))",
		1, INT4OID
	);
	Datum		value = Int64GetDatum(run_id);

	if (run_id != 0)
		run_update(&end, &value, NULL);
	value = Int32GetDatum(sync_id);
	SPI_connect();
	if (is_query_run(&leave, &value, NULL) == 1 && get_bool(0, 1))
		is_capture_wake_on_commit();
	SPI_finish();
}

void
is_state_mark_run(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET last_run_at = pg_catalog.clock_timestamp() "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1",
		1, INT4OID
	);
	Datum		value = Int32GetDatum(sync_id);

	run_update(&query, &value, NULL);
}

void
is_state_answer_request(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET run_requested = false "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND run_requested",
		1, INT4OID
	);
	Datum		value = Int32GetDatum(sync_id);

	run_update(&query, &value, NULL);
}

void
is_state_report_trouble(int32 sync_id, const char *error, bool paused)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET last_error = $2, "
		"last_error_at = pg_catalog.clock_timestamp(), "
		"failing_since = COALESCE(failing_since, pg_catalog.clock_timestamp()), "
		"paused_reason = CASE WHEN $3 THEN $2 END "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1",
		3, INT4OID, TEXTOID, BOOLOID
	);
	Datum		values[3] = {
		Int32GetDatum(sync_id), CStringGetTextDatum(error), BoolGetDatum(paused)
	};

	run_update(&query, values, NULL);
}

void
is_state_clear_trouble(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_state SET failing_since = NULL, paused_reason = NULL "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND (failing_since IS NOT NULL OR paused_reason IS NOT NULL)",
		1, INT4OID
	);
	Datum		value = Int32GetDatum(sync_id);

	run_update(&query, &value, NULL);
}

void
is_state_forget_runs(void)
{
	static IsQuery query = IS_QUERY(
		"DELETE FROM iterable.sync_run WHERE finished_at OPERATOR(pg_catalog.<) "
		"(pg_catalog.now() OPERATOR(pg_catalog.-) '30 days'::pg_catalog.interval)",
		0, 0
	);

	run_update(&query, NULL, NULL);
}
