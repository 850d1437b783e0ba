/*-------------------------------------------------------------------------
 *
 * change_log.c
 *	  The append-only log of captured keys.
 *
 * Segments.  Changes are written to one of a few tables, the current segment.
 * Which one that is stands in a sequence, because a writer in an old snapshot
 * must see the truth of now.  A writer that has read the sequence just before
 * the current segment moved on writes to the former one: nothing is lost by
 * that, since readers always read all segments and a segment is emptied only
 * under ACCESS EXCLUSIVE and after a look, taken under that lock, that no
 * position still needs a row of it.  Rows of open transactions are protected
 * by the writers' own locks, which last until they end (prepared ones
 * included).  Nobody ever waits for such a lock.
 *
 * No row is updated or deleted, so long snapshots of others make the log
 * neither bigger nor slower.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "change_log.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "catalog.h"
#include "compat.h"
#include "iterable_sync.h"
#include "query.h"

PG_FUNCTION_INFO_V1(iterable_rotate_change_log);

#define SEGMENTS 4

/* The writers move on when the current segment has this many blocks … */
#define SEGMENT_BLOCKS 512
/* … or is this old and not empty. */
#define SEGMENT_SECONDS 60

/* Log rows read from a held cursor at a time. */
#define FETCH_ROWS 64

/* The transaction that has appended last, for is_change_log_written(). */
static FullTransactionId last_writer = {InvalidTransactionId};

static const char *const segment_names[SEGMENTS] = {
	"change_0", "change_1", "change_2", "change_3"
};

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

static int
current_segment(void)
{
	Oid			sequence = is_catalog_relation("change_segment");
	Oid			userid;
	int			sec_context;
	int64		result;

	/*
	 * Who may write to a source needs no rights on what is ours.  This runs in
	 * every transaction that captures: ask for no role that must be looked up.
	 */
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE);
	result = DatumGetInt64(DirectFunctionCall1(pg_sequence_last_value,
											   ObjectIdGetDatum(sequence)));
	SetUserIdAndSecContext(userid, sec_context);
	return (int) result;
}

void
is_change_log_append(int32 source_id, int32 sync_id, const char *ops, int nops,
					 ArrayType *keys, int nkeys)
{
	Relation	rel = table_open(is_catalog_relation(segment_names[current_segment()]),
								 RowExclusiveLock);
	FullTransactionId xid = GetTopFullTransactionId();
	Datum		values[8];
	bool		nulls[8] = {false};
	HeapTuple	tuple;
	bool		pushed = false;

	/*
	 * The number is taken while the locks of the changed rows are held, and
	 * before commit: the next writer of such a row gets a higher one.
	 */
	values[0] = Int64GetDatum(nextval_internal(is_catalog_relation("change_seq"), false));
	values[1] = FullTransactionIdGetDatum(xid);
	values[2] = Int32GetDatum(source_id);
	values[3] = Int32GetDatum(sync_id);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[5] = Int32GetDatum(nkeys);
	values[6] = PointerGetDatum(cstring_to_text_with_len(ops, nops));
	values[7] = PointerGetDatum(keys);

	/* A toasted array wants a snapshot; before commit there may be none. */
	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	if (pushed)
		PopActiveSnapshot();

	/* the lock stays, it protects the row from is_change_log_rotate() */
	table_close(rel, NoLock);
	last_writer = xid;
}

void
is_change_log_append_keys(int32 source_id, int32 sync_id, const char *ops, int nops,
						  const List *keys)
{
	Datum	   *elems = palloc_array(Datum, list_length(keys) + 1);
	int			n = 0;
	ListCell   *lc;

	if (keys == NIL)
		return;
	foreach(lc, keys)
		elems[n++] = CStringGetTextDatum(lfirst(lc));
	is_change_log_append(source_id, sync_id, ops, nops,
						 construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT), n);
}

bool
is_change_log_written(void)
{
	FullTransactionId xid = GetTopFullTransactionIdIfAny();

	return FullTransactionIdIsValid(xid) && FullTransactionIdEquals(xid, last_writer);
}

/* ----------------------------------------------------------------
 * Positions
 * ----------------------------------------------------------------
 */

char *
is_change_log_snapshot(void)
{
	Datum		snapshot;
	char	   *text;

	PushActiveSnapshot(GetLatestSnapshot());
	snapshot = OidFunctionCall0(F_PG_CURRENT_SNAPSHOT);
	text = DatumGetCString(DirectFunctionCall1(pg_snapshot_out, snapshot));
	PopActiveSnapshot();
	return text;
}

char *
is_change_log_start_position(void)
{
	FullTransactionId self = GetTopFullTransactionId();
	uint64		self_id = U64FromFullTransactionId(self);
	char	   *snapshot;
	uint64		xmin;
	uint64		xmax;
	int			consumed;
	const char *rest;
	StringInfoData result;
	bool		placed = false;

	/*
	 * From here on what commits is this sync's, although nobody can see that
	 * before we commit: no segment may be emptied until then.
	 */
	for (int i = 0; i < SEGMENTS; i++)
		LockRelationOid(is_catalog_relation(segment_names[i]), AccessShareLock);

	snapshot = is_change_log_snapshot();
	if (sscanf(snapshot, UINT64_FORMAT ":" UINT64_FORMAT ":%n",
			   &xmin, &xmax, &consumed) != 2)
		elog(ERROR, "unexpected snapshot \"%s\"", snapshot);

	/* A snapshot never lists its own transaction as in progress. */
	if (self_id >= xmax)
		return snapshot;

	initStringInfo(&result);
	appendStringInfo(&result, UINT64_FORMAT ":" UINT64_FORMAT ":",
					 Min(xmin, self_id), xmax);
	for (rest = snapshot + consumed; *rest != '\0';)
	{
		char	   *end;
		uint64		xid = strtou64(rest, &end, 10);

		if (!placed && self_id < xid)
		{
			appendStringInfo(&result, UINT64_FORMAT ",", self_id);
			placed = true;
		}
		appendStringInfo(&result, UINT64_FORMAT ",", xid);
		rest = *end == ',' ? end + 1 : end;
	}
	if (!placed)
		appendStringInfo(&result, UINT64_FORMAT ",", self_id);
	result.data[--result.len] = '\0';
	return result.data;
}

/* ----------------------------------------------------------------
 * Windows
 *
 * The transactions of a window are those that began after the position
 * (a range of the index on xid) and those that were in progress at it (by
 * name), as in PgQ's batches.
 * ----------------------------------------------------------------
 */

#define WINDOW_CONDITION \
	"((xid OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmax($1) " \
	"  AND xid OPERATOR(pg_catalog.<) pg_catalog.pg_snapshot_xmax($2)) " \
	" OR xid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip($1)))) " \
	"AND pg_catalog.pg_visible_in_snapshot(xid, $2) " \
	"AND NOT pg_catalog.pg_visible_in_snapshot(xid, $1) "

#define SYNC_CONDITION \
	"AND source_id OPERATOR(pg_catalog.=) $3 " \
	"AND (sync_id OPERATOR(pg_catalog.=) 0 OR sync_id OPERATOR(pg_catalog.=) $4) "

static Datum
snapshot_datum(const char *text)
{
	return DirectFunctionCall1(pg_snapshot_in, CStringGetDatum(text));
}

List *
is_change_log_changed_sources(const char *old, const char *new)
{
	static IsQuery query = IS_QUERY(
		"SELECT DISTINCT source_id FROM iterable.change WHERE " WINDOW_CONDITION,
		2, PG_SNAPSHOTOID, PG_SNAPSHOTOID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2];
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	values[0] = snapshot_datum(old);
	values[1] = snapshot_datum(new);
	n = is_query_run(&query, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		MemoryContext spi = MemoryContextSwitchTo(context);

		result = lappend_int(result, DatumGetInt32(is_query_value(i, 1, &isnull)));
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return result;
}

bool
is_change_log_has_changes(int32 source_id, int32 sync_id,
						  const char *old, const char *new)
{
	static IsQuery query = IS_QUERY(
		"SELECT FROM iterable.change WHERE " WINDOW_CONDITION SYNC_CONDITION "LIMIT 1",
		4, PG_SNAPSHOTOID, PG_SNAPSHOTOID, INT4OID, INT4OID
	);
	Datum		values[4];
	bool		result;

	SPI_connect();
	values[0] = snapshot_datum(old);
	values[1] = snapshot_datum(new);
	values[2] = Int32GetDatum(source_id);
	values[3] = Int32GetDatum(sync_id);
	result = is_query_run(&query, values, NULL) > 0;
	SPI_finish();
	return result;
}

struct IsWindow
{
	MemoryContext context;
	char		portal_name[NAMEDATALEN];
	int64		after_seq;		/* where reading began */
	int32		after_offset;

	/* log rows fetched and not yet handed out */
	MemoryContext rows_context;
	HeapTuple	rows[FETCH_ROWS];
	TupleDesc	desc;
	int			nrows;
	int			row;			/* index of the current one */
	bool		exhausted;

	/* the current log row, taken apart */
	MemoryContext row_context;
	int64		seq;
	char	   *ops;
	int			nops;
	Datum	   *keys;
	int			nkeys;
	int			next_key;		/* 0-based */
};

IsWindow *
is_change_log_open_window(int32 source_id, int32 sync_id,
						  const char *old, const char *new,
						  int64 after_seq, int32 after_offset)
{
	IsWindow   *window;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "iterable_sync window",
												  ALLOCSET_SMALL_SIZES);
	Oid			types[5] = {PG_SNAPSHOTOID, PG_SNAPSHOTOID, INT4OID, INT4OID, INT8OID};
	Datum		values[5];
	SPIPlanPtr	plan;
	Portal		portal;
	int			nest = is_query_prefer_index();

	window = MemoryContextAllocZero(context, sizeof(IsWindow));
	window->context = context;
	window->rows_context = AllocSetContextCreate(context, "iterable_sync window rows",
												 ALLOCSET_DEFAULT_SIZES);
	window->row_context = AllocSetContextCreate(context, "iterable_sync window row",
												ALLOCSET_DEFAULT_SIZES);
	window->after_seq = after_seq;
	window->after_offset = after_offset;

	SPI_connect();
	values[0] = snapshot_datum(old);
	values[1] = snapshot_datum(new);
	values[2] = Int32GetDatum(source_id);
	values[3] = Int32GetDatum(sync_id);
	values[4] = Int64GetDatum(after_seq);
	plan = SPI_prepare_cursor("SELECT seq, ops, keys FROM iterable.change WHERE "
							  WINDOW_CONDITION SYNC_CONDITION
							  "AND seq OPERATOR(pg_catalog.>=) $5 ORDER BY seq",
							  5, types, CURSOR_OPT_NO_SCROLL);
	if (plan == NULL)
		elog(ERROR, "could not prepare a query on the change log");
	portal = SPI_cursor_open(NULL, plan, values, NULL, false);

	/*
	 * Held: at the end of this transaction the rest of the result goes to a
	 * tuplestore (work_mem, then a temporary file) and the snapshot is gone.
	 */
	portal->cursorOptions |= CURSOR_OPT_HOLD;
	strlcpy(window->portal_name, portal->name, sizeof(window->portal_name));
	SPI_finish();
	AtEOXact_GUC(true, nest);
	return window;
}

static bool
fetch_rows(IsWindow *window)
{
	Portal		portal;
	MemoryContext old;

	MemoryContextReset(window->rows_context);
	window->nrows = 0;
	window->row = 0;
	if (window->exhausted)
		return false;

	portal = SPI_cursor_find(window->portal_name);
	if (portal == NULL)
		elog(ERROR, "the cursor of a window is gone");

	SPI_connect();
	SPI_cursor_fetch(portal, true, FETCH_ROWS);
	old = MemoryContextSwitchTo(window->rows_context);
	window->desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
	for (uint64 i = 0; i < SPI_processed; i++)
		window->rows[window->nrows++] = heap_copytuple(SPI_tuptable->vals[i]);
	MemoryContextSwitchTo(old);
	window->exhausted = SPI_processed < FETCH_ROWS;
	SPI_finish();
	return window->nrows > 0;
}

static void
take_row_apart(IsWindow *window)
{
	HeapTuple	tuple = window->rows[window->row];
	bool		isnull;
	text	   *ops;
	MemoryContext old;

	MemoryContextReset(window->row_context);
	old = MemoryContextSwitchTo(window->row_context);
	window->seq = DatumGetInt64(heap_getattr(tuple, 1, window->desc, &isnull));
	ops = DatumGetTextPP(heap_getattr(tuple, 2, window->desc, &isnull));
	window->ops = VARDATA_ANY(ops);
	window->nops = VARSIZE_ANY_EXHDR(ops);
	deconstruct_array(DatumGetArrayTypeP(heap_getattr(tuple, 3, window->desc, &isnull)),
					  TEXTOID, -1, false, TYPALIGN_INT,
					  &window->keys, NULL, &window->nkeys);
	window->next_key = window->seq == window->after_seq ? window->after_offset : 0;
	MemoryContextSwitchTo(old);
}

bool
is_change_log_next(IsWindow *window, IsChange *change)
{
	MemoryContext old;

	for (;;)
	{
		if (window->nkeys > window->next_key)
		{
			int			i = window->next_key++;

			change->seq = window->seq;
			change->offset = i + 1;
			change->op = window->ops[window->nops == 1 ? 0 : i];
			old = MemoryContextSwitchTo(window->row_context);
			change->key = TextDatumGetCString(window->keys[i]);
			MemoryContextSwitchTo(old);
			return true;
		}

		if (window->row >= window->nrows && !fetch_rows(window))
		{
			window->nkeys = 0;
			window->next_key = 0;
			return false;
		}
		take_row_apart(window);
		window->row++;

		if (window->nkeys == 0 && window->next_key == 0)
		{
			change->seq = window->seq;
			change->offset = 1;
			change->op = window->ops[0];
			change->key = NULL;
			return true;
		}
	}
}

void
is_change_log_close_window(IsWindow *window)
{
	Portal		portal = SPI_cursor_find(window->portal_name);

	if (portal != NULL)
		SPI_cursor_close(portal);
	MemoryContextDelete(window->context);
}

/* ----------------------------------------------------------------
 * Segments
 * ----------------------------------------------------------------
 */

static BlockNumber
segment_blocks(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, AccessShareLock);
	return blocks;
}

/*
 * Does any position need a row of this segment?  A row of a source or sync
 * that is no more is needed by none.
 */
static bool
segment_needed(const char *segment)
{
	char	   *query = psprintf("SELECT FROM %s.%s c "
								 "JOIN iterable.sync s ON s.source_id OPERATOR(pg_catalog.=) c.source_id "
								 "JOIN iterable.sync_state t ON t.sync_id OPERATOR(pg_catalog.=) s.sync_id "
								 "WHERE (c.sync_id OPERATOR(pg_catalog.=) 0 OR c.sync_id OPERATOR(pg_catalog.=) s.sync_id) "
								 "AND NOT pg_catalog.pg_visible_in_snapshot(c.xid, t.\"position\") LIMIT 1",
								 IS_SCHEMA, segment);

	if (SPI_execute(query, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the change log");
	pfree(query);
	return SPI_processed > 0;
}

/*
 * Move the writers on to a segment that is empty, if it is time or at_once is
 * set.  Returns the segment that is current now.
 */
static int
move_writers(bool at_once)
{
	static TimestampTz moved_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	int			current = current_segment();
	BlockNumber blocks = segment_blocks(is_catalog_relation(segment_names[current]));

	if (moved_at == 0)
		moved_at = now;
	if (blocks == 0 ||
		!(at_once || blocks >= SEGMENT_BLOCKS ||
		  TimestampDifferenceExceeds(moved_at, now, SEGMENT_SECONDS * 1000)))
		return current;

	for (int i = 0; i < SEGMENTS; i++)
	{
		Datum		sequence;

		if (i == current ||
			segment_blocks(is_catalog_relation(segment_names[i])) != 0)
			continue;
		sequence = ObjectIdGetDatum(is_catalog_relation("change_segment"));
		DirectFunctionCall2(setval_oid, sequence, Int64GetDatum(i));
		moved_at = now;
		return i;
	}
	return current;
}

static void
rotate(bool at_once)
{
	int			current;

	SPI_connect();

	/*
	 * Before anything is emptied: writers must not be sent to a segment that
	 * stays locked until we have committed, which may take a while.
	 */
	current = move_writers(at_once);

	for (int i = 0; i < SEGMENTS; i++)
	{
		Oid			relid = is_catalog_relation(segment_names[i]);
		char	   *command;

		if (i == current || segment_blocks(relid) == 0)
			continue;

		/*
		 * A look without the lock first, so that nobody is kept out while a
		 * segment is read that can't be emptied anyway.
		 */
		if (segment_needed(segment_names[i]) ||
			!ConditionalLockRelationOid(relid, AccessExclusiveLock))
			continue;
		if (segment_needed(segment_names[i]))
		{
			UnlockRelationOid(relid, AccessExclusiveLock);
			continue;
		}
		command = psprintf("TRUNCATE ONLY %s.%s", IS_SCHEMA, segment_names[i]);
		SPI_execute(command, false, 0);
		pfree(command);

		/* one at a time: the lock must not last while others are looked at */
		break;
	}
	SPI_finish();
}

void
is_change_log_rotate(void)
{
	rotate(false);
}

/*
 * iterable.rotate_change_log() returns void
 *
 * What the worker does by itself, without waiting for the current segment to
 * grow.  Raises 25001 if the transaction's snapshot is fixed: it would hide
 * what was written since.
 */
Datum
iterable_rotate_change_log(PG_FUNCTION_ARGS)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("iterable.rotate_change_log() needs isolation level READ COMMITTED")));
	rotate(true);
	PG_RETURN_VOID();
}
