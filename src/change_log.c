/*-------------------------------------------------------------------------
 *
 * change_log.c
 *	  The append-only log of captured keys.
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
#include "change_segment.h"
#include "compat.h"
#include "iterable_sync.h"
#include "query.h"

/* Columns of iterable.change that we know of. */
#define LOG_COLUMNS 10

/* Log rows read from a held cursor at a time. */
#define FETCH_ROWS 64

/*
 * A window is sorted in one go, while the other syncs wait: it covers so many
 * transactions at most, counted from its first change.
 */
#define WINDOW_TRANSACTIONS 100000

/* A position is moved on over at least so many that are not the sync's. */
#define PASS_TRANSACTIONS 10000

/* The transaction that has appended last, for is_change_log_written(). */
static FullTransactionId last_writer = {InvalidTransactionId};

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

void
is_change_log_append(int32 source_id, int32 sync_id, const char *ops, int nops,
					 ArrayType *keys, int nkeys, ArrayType *tags, bytea *versions)
{
	TimestampTz now = GetCurrentTimestamp();
	Relation	rel = is_change_segment_open(now);
	FullTransactionId xid = GetTopFullTransactionId();
	int			natts = RelationGetNumberOfAttributes(rel);
	Datum	   *values;
	bool	   *nulls;
	HeapTuple	tuple;
	bool		pushed = false;

	/* There may be columns of a newer version than this session has loaded. */
	if (natts < LOG_COLUMNS)
		elog(ERROR, "table \"%s\" has %d columns", RelationGetRelationName(rel), natts);
	values = palloc0_array(Datum, natts);
	nulls = palloc_array(bool, natts);
	for (int i = 0; i < natts; i++)
		nulls[i] = i >= LOG_COLUMNS;

	/*
	 * The number is taken while the locks of the changed rows are held, and
	 * before commit: the next writer of such a row gets a higher one.
	 */
	values[0] = Int64GetDatum(nextval_internal(is_catalog_relation("change_seq"), false));
	values[1] = FullTransactionIdGetDatum(xid);
	values[2] = Int32GetDatum(source_id);
	values[3] = Int32GetDatum(sync_id);
	values[4] = TimestampTzGetDatum(now);
	values[5] = Int32GetDatum(nkeys);
	values[6] = PointerGetDatum(cstring_to_text_with_len(ops, nops));
	values[7] = PointerGetDatum(keys);
	values[8] = PointerGetDatum(tags);
	nulls[8] = tags == NULL;
	values[9] = PointerGetDatum(versions);
	nulls[9] = versions == NULL;

	/* A toasted array wants a snapshot; before commit there may be none. */
	if (!ActiveSnapshotSet())
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		pushed = true;
	}
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	pfree(values);
	pfree(nulls);
	if (pushed)
		PopActiveSnapshot();

	/* the lock stays, it protects the row from is_change_segment_rotate() */
	table_close(rel, NoLock);
	last_writer = xid;
}

static ArrayType *
text_array(const List *texts)
{
	Datum	   *elems = palloc_array(Datum, list_length(texts) + 1);
	int			n = 0;
	ListCell   *lc;

	foreach(lc, texts)
		elems[n++] = CStringGetTextDatum(lfirst(lc));
	return construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT);
}

void
is_change_log_append_keys(int32 source_id, int32 sync_id, const char *ops, int nops,
						  const List *keys)
{
	if (keys != NIL)
		is_change_log_append(source_id, sync_id, ops, nops, text_array(keys),
							 list_length(keys), NULL, NULL);
}

void
is_change_log_append_failed(int32 source_id, int32 sync_id, const List *keys,
							const List *tags)
{
	char		op = IS_OP_RETRY;

	if (keys != NIL)
		is_change_log_append(source_id, sync_id, &op, 1, text_array(keys),
							 list_length(keys), text_array(tags), NULL);
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

/* A snapshot taken apart. */
typedef struct Parts
{
	uint64		xmin;
	uint64		xmax;
	const char *in_progress;	/* transactions, with commas in between */
} Parts;

static Parts
take_apart(const char *snapshot)
{
	Parts		parts;
	int			consumed;

	if (sscanf(snapshot, UINT64_FORMAT ":" UINT64_FORMAT ":%n",
			   &parts.xmin, &parts.xmax, &consumed) != 2)
		elog(ERROR, "unexpected snapshot \"%s\"", snapshot);
	parts.in_progress = snapshot + consumed;
	return parts;
}

/*
 * The snapshot in which xmax and what comes later is not visible, nor is
 * "hidden" (0: none).
 */
static char *
put_together(const Parts *parts, uint64 xmax, uint64 hidden)
{
	StringInfoData result;
	const char *rest;

	initStringInfo(&result);
	appendStringInfo(&result, UINT64_FORMAT ":" UINT64_FORMAT ":",
					 Min(Min(parts->xmin, xmax), hidden ? hidden : xmax), xmax);
	for (rest = parts->in_progress; *rest != '\0' || hidden;)
	{
		char	   *end = unconstify(char *, rest);
		uint64		xid = *rest != '\0' ? strtou64(rest, &end, 10) : xmax;

		if (hidden && hidden < xid)
		{
			appendStringInfo(&result, UINT64_FORMAT ",", hidden);
			hidden = 0;
			continue;
		}
		if (xid >= xmax)
			break;
		appendStringInfo(&result, UINT64_FORMAT ",", xid);
		rest = *end == ',' ? end + 1 : end;
	}
	if (result.data[result.len - 1] == ',')
		result.data[--result.len] = '\0';
	return result.data;
}

/* What is visible in a snapshot of the transactions below this one. */
static char *
cut_off(const char *snapshot, uint64 xmax)
{
	Parts		parts = take_apart(snapshot);

	return put_together(&parts, Min(xmax, parts.xmax), 0);
}

char *
is_change_log_start_position(void)
{
	uint64		self = U64FromFullTransactionId(GetTopFullTransactionId());
	char	   *snapshot;
	Parts		parts;

	/*
	 * From here on what commits is this sync's, although nobody can see that
	 * before we commit: no segment may be emptied until then.
	 */
	for (int i = 0; i < IS_SEGMENTS; i++)
		LockRelationOid(is_change_segment_relid(i), AccessShareLock);

	/* A snapshot never lists its own transaction as in progress. */
	snapshot = is_change_log_snapshot();
	parts = take_apart(snapshot);
	return self < parts.xmax ? put_together(&parts, parts.xmax, self) : snapshot;
}

/* ----------------------------------------------------------------
 * Windows
 *
 * The transactions of a window are those that began after the position
 * (a range of the index on xid) and those that were in progress at it (by
 * name), as in PgQ's batches.
 * ----------------------------------------------------------------
 */

#define BEGAN_AFTER \
	"xid OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmax($1) " \
	"AND xid OPERATOR(pg_catalog.<) pg_catalog.pg_snapshot_xmax($2) "

#define WERE_IN_PROGRESS \
	"xid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip($1))) "

#define ARE_NEW \
	"AND pg_catalog.pg_visible_in_snapshot(xid, $2) " \
	"AND NOT pg_catalog.pg_visible_in_snapshot(xid, $1) "

#define WINDOW_CONDITION "((" BEGAN_AFTER ") OR " WERE_IN_PROGRESS ") " ARE_NEW

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

/*
 * The lowest transaction of the window (old, new] that has changes for this
 * source and sync, or an invalid one.
 */
static FullTransactionId
first_change(int32 source_id, int32 sync_id, const char *old, const char *new)
{
#define FIRST_OF(range) \
	"(SELECT xid FROM iterable.change WHERE " range ARE_NEW SYNC_CONDITION "ORDER BY xid LIMIT 1)"
	static IsQuery query = IS_QUERY(
		FIRST_OF(WERE_IN_PROGRESS) " UNION ALL " FIRST_OF(BEGAN_AFTER) " LIMIT 1",
		4, PG_SNAPSHOTOID, PG_SNAPSHOTOID, INT4OID, INT4OID
	);
	FullTransactionId result = InvalidFullTransactionId;
	Datum		values[4];
	int			nest = NewGUCNestLevel();

	/* In the order of the index, and no further than to the first. */
	(void) set_config_option("enable_bitmapscan", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("enable_sort", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	values[0] = snapshot_datum(old);
	values[1] = snapshot_datum(new);
	values[2] = Int32GetDatum(source_id);
	values[3] = Int32GetDatum(sync_id);
	if (is_query_run(&query, values, NULL) > 0)
	{
		bool		isnull;

		result = DatumGetFullTransactionId(is_query_value(0, 1, &isnull));
	}
	SPI_finish();
	AtEOXact_GUC(true, nest);
	return result;
}

bool
is_change_log_oldest(int32 source_id, int32 sync_id, const char *position,
					 TimestampTz *captured_at)
{
	static IsQuery query = IS_QUERY(
		"SELECT pg_catalog.min(captured_at) FROM iterable.change "
		"WHERE source_id OPERATOR(pg_catalog.=) $1 "
		"AND (sync_id OPERATOR(pg_catalog.=) 0 OR sync_id OPERATOR(pg_catalog.=) $2) "
		"AND xid OPERATOR(pg_catalog.>=) "
		"pg_catalog.pg_snapshot_xmin($3::pg_catalog.pg_snapshot) "
		"AND NOT pg_catalog.pg_visible_in_snapshot(xid, $3::pg_catalog.pg_snapshot)",
		3, INT4OID, INT4OID, TEXTOID
	);
	Datum		values[3] = {
		Int32GetDatum(source_id), Int32GetDatum(sync_id), CStringGetTextDatum(position)
	};
	bool		none;

	SPI_connect();
	(void) is_query_run(&query, values, NULL);
	*captured_at = DatumGetTimestampTz(is_query_value(0, 1, &none));
	SPI_finish();
	return !none;
}

bool
is_change_log_has_changes(int32 source_id, int32 sync_id,
						  const char *old, const char *new)
{
	return FullTransactionIdIsValid(first_change(source_id, sync_id, old, new));
}

char *
is_change_log_next_window(int32 source_id, int32 sync_id, const char *position,
						  const char *newest, bool in_order)
{
	FullTransactionId first = first_change(source_id, sync_id, position, newest);
	uint64		to;

	if (!FullTransactionIdIsValid(first))
		return NULL;

	/* It may have been in progress at the position, which must stay visible. */
	to = Max(take_apart(position).xmax, U64FromFullTransactionId(first)) + WINDOW_TRANSACTIONS;
	return to < take_apart(newest).xmax && !in_order ? cut_off(newest, to) : pstrdup(newest);
}

char *
is_change_log_pass(int32 source_id, int32 sync_id, const char *position,
				   const char *newest)
{
	uint64		began = take_apart(position).xmax;
	FullTransactionId first;

	if (take_apart(newest).xmax < began + PASS_TRANSACTIONS)
		return NULL;
	first = first_change(source_id, sync_id, position, newest);
	if (!FullTransactionIdIsValid(first))
		return pstrdup(newest);
	return U64FromFullTransactionId(first) < began + PASS_TRANSACTIONS ? NULL :
		cut_off(newest, U64FromFullTransactionId(first));
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
	TimestampTz captured_at;
	char	   *ops;
	int			nops;
	Datum	   *keys;
	int			nkeys;
	Datum	   *tags;			/* NULL: none */
	IsVersion **versions;		/* NULL: none */
	int			next_key;		/* 0-based */
};

#define WINDOW_QUERY(columns) \
	"SELECT " columns " FROM iterable.change WHERE " WINDOW_CONDITION SYNC_CONDITION \
	"AND seq OPERATOR(pg_catalog.>=) $5 ORDER BY seq"

IsWindow *
is_change_log_open_window(int32 source_id, int32 sync_id,
						  const char *old, const char *new,
						  int64 after_seq, int32 after_offset, bool versions)
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
	plan = SPI_prepare_cursor(versions ?
							  WINDOW_QUERY("seq, ops, keys, captured_at, tags, tableoid, "
										   "CASE WHEN versions IS NOT NULL THEN ctid END") :
							  WINDOW_QUERY("seq, ops, keys"),
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

/*
 * The versions of a log row.  They are large, so they are read when it is their
 * turn: a held cursor would copy them.
 */
static IsVersion **
read_versions(Oid segment, Datum ctid, int nkeys)
{
	static IsQuery query = IS_QUERY(
		"SELECT versions FROM iterable.change "
		"WHERE tableoid OPERATOR(pg_catalog.=) $1 AND ctid OPERATOR(pg_catalog.=) $2",
		2, OIDOID, TIDOID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2] = {ObjectIdGetDatum(segment), ctid};
	IsVersion **versions;
	bool		isnull;
	Datum		packed;
	MemoryContext spi;
	int			n;

	SPI_connect();
	if (is_query_run(&query, values, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the change log has been emptied")));
	packed = is_query_value(0, 1, &isnull);
	spi = MemoryContextSwitchTo(context);
	versions = is_version_unpack(DatumGetByteaPP(packed), &n);
	MemoryContextSwitchTo(spi);
	SPI_finish();
	if (n != nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("stored versions in the change log are damaged")));
	return versions;
}

static void
take_versions(IsWindow *window, HeapTuple tuple)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, 5, window->desc, &isnull);
	int			n;

	window->captured_at =
		DatumGetTimestampTz(heap_getattr(tuple, 4, window->desc, &(bool) {false}));
	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
						  TYPALIGN_INT, &window->tags, NULL, &n);
	value = heap_getattr(tuple, 7, window->desc, &isnull);
	if (!isnull)
	{
		Datum		segment = heap_getattr(tuple, 6, window->desc, &isnull);

		window->versions = read_versions(DatumGetObjectId(segment), value,
										 window->nkeys);
	}
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
	window->tags = NULL;
	window->versions = NULL;
	if (window->desc->natts > 3)
		take_versions(window, tuple);
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
			change->tag = window->tags ? TextDatumGetCString(window->tags[i]) : NULL;
			change->version = window->versions ? window->versions[i] : NULL;

			/* The time keeps it apart from what a restored dump captures. */
			if (change->version)
				change->version->tag =
					psprintf(INT64_FORMAT "-" INT64_FORMAT "-%d",
							 window->captured_at, window->seq, i + 1);
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
			change->tag = NULL;
			change->version = NULL;
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
