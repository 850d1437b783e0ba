/*-------------------------------------------------------------------------
 *
 * staged.c
 *	  What one pass over a source that is not captured has found.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "staged.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "query.h"

#define STATE_FOUND 'f'
#define STATE_LEFT 'l'

/* Bytes of rows that go into the table at once, about. */
#define PIECE_BYTES (8 * 1024 * 1024)

/* ----------------------------------------------------------------
 * A row as bytes
 *
 * It is in UTF-8, whatever the encoding of the database is.
 * ----------------------------------------------------------------
 */

static void
put_string(StringInfo buf, const char *string, int len)
{
	pq_sendint32(buf, string ? len : -1);
	if (string)
		pq_sendbytes(buf, string, len);
}

static void
put_text(StringInfo buf, const char *string)
{
	put_string(buf, string, string ? (int) strlen(string) : 0);
}

static bytea *
pack_row(const IsRow *row)
{
	StringInfoData buf;

	pq_begintypsend(&buf);
	put_text(&buf, row->email);
	put_text(&buf, row->user_id);
	put_text(&buf, row->data_email);
	put_text(&buf, row->data_user_id);
	put_text(&buf, row->event_name);
	put_text(&buf, row->problem);
	put_text(&buf, row->problem_detail);
	put_string(&buf, row->payload, row->payload_len);
	return pq_endtypsend(&buf);
}

static char *
get_string(StringInfo buf, int *len)
{
	*len = (int) pq_getmsgint(buf, 4);
	return *len < 0 ? NULL : pnstrdup(pq_getmsgbytes(buf, *len), *len);
}

static char *
get_text(StringInfo buf)
{
	int			len;

	return get_string(buf, &len);
}

static void
unpack_row(bytea *bytes, IsRow *row)
{
	StringInfoData buf;

	buf.data = VARDATA_ANY(bytes);
	buf.len = buf.maxlen = VARSIZE_ANY_EXHDR(bytes);
	buf.cursor = 0;
	row->email = get_text(&buf);
	row->user_id = get_text(&buf);
	row->data_email = get_text(&buf);
	row->data_user_id = get_text(&buf);
	row->event_name = get_text(&buf);
	row->problem = get_text(&buf);
	row->problem_detail = get_text(&buf);
	row->payload = get_string(&buf, &row->payload_len);
	row->payload_len = Max(row->payload_len, 0);
}

/* ----------------------------------------------------------------
 * From the pass to the table
 * ----------------------------------------------------------------
 */

enum
{
	COLUMN_KEY,
	COLUMN_STATE,
	COLUMN_OP,
	COLUMN_HASH,
	COLUMN_KNOWN,
	COLUMN_ROW,
	COLUMNS
};

static const Oid column_types[COLUMNS] = {
	TEXTOID, CHAROID, CHAROID, INT8OID, INT8OID, BYTEAOID
};
TupleDesc
is_staged_desc(void)
{
	TupleDesc	desc = CreateTemplateTupleDesc(COLUMNS);

	for (int i = 0; i < COLUMNS; i++)
		TupleDescInitEntry(desc, i + 1, NULL, column_types[i], -1, 0);
	return desc;
}

void
is_staged_store(Tuplestorestate *store, TupleDesc desc, const IsRow *row, char op,
				const IsMemory *memory)
{
	Datum		values[COLUMNS] = {0};
	bool		nulls[COLUMNS] = {0};

	values[COLUMN_KEY] = CStringGetTextDatum(row->key);
	values[COLUMN_STATE] = CharGetDatum(row->found ? STATE_FOUND : STATE_LEFT);
	values[COLUMN_OP] = CharGetDatum(op);
	nulls[COLUMN_OP] = op == 0;
	values[COLUMN_HASH] = Int64GetDatum(row->hash);
	nulls[COLUMN_HASH] = !row->found || row->problem;
	nulls[COLUMN_KNOWN] = memory == NULL || !memory->hash_known;
	if (!nulls[COLUMN_KNOWN])
		values[COLUMN_KNOWN] = Int64GetDatum(memory->hash);
	if (op != 0 && row->found)
		values[COLUMN_ROW] = PointerGetDatum(pack_row(row));
	else
		nulls[COLUMN_ROW] = true;
	tuplestore_putvalues(store, desc, values, nulls);
}

/*
 * Repeated keys meet in one row, which says so and is not sent.  "left" rows
 * come last, and are nothing beside one of that key for which the filter is
 * true.
 */
static void
put_rows(int32 sync_id, Datum **values, bool **nulls, int n)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.sync_staged AS t "
		"(sync_id, key, state, op, hash, known_hash, \"row\", copies) "
		"SELECT DISTINCT ON (u.key) $1, u.key, u.state, u.op, u.hash, u.known, u.\"row\", "
		"pg_catalog.count(*) OVER (PARTITION BY u.key) "
		"FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), "
		"pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7)) "
		"AS u (key, state, op, hash, known, \"row\") ORDER BY u.key, u.state "
		"ON CONFLICT (sync_id, key) DO UPDATE "
		"SET copies = t.copies OPERATOR(pg_catalog.+) EXCLUDED.copies "
		"WHERE EXCLUDED.state OPERATOR(pg_catalog.=) 'f'",
		7, INT4OID, TEXTARRAYOID, CHARARRAYOID, CHARARRAYOID, INT8ARRAYOID,
			INT8ARRAYOID, BYTEAARRAYOID
	);
	Datum		args[1 + COLUMNS];
	int			one = 1;

	args[0] = Int32GetDatum(sync_id);
	for (int i = 0; i < COLUMNS; i++)
	{
		int16		len = column_types[i] == CHAROID ? 1 :
			column_types[i] == INT8OID ? (int16) sizeof(int64) : -1;

		args[1 + i] =
			PointerGetDatum(construct_md_array(values[i], nulls[i], 1, &n, &one,
											   column_types[i], len,
											   len == 1 || (len == 8 && FLOAT8PASSBYVAL),
											   len == 1 ? TYPALIGN_CHAR :
											   len == 8 ? TYPALIGN_DOUBLE : TYPALIGN_INT));
	}
	SPI_connect();
	(void) is_query_run(&query, args, NULL);
	SPI_finish();
}

/* The next rows of the store, at most max; returns how many. */
static int
read_store(Tuplestorestate *store, TupleDesc desc, int max, Datum **values, bool **nulls)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Size		bytes = 0;
	int			n = 0;

	for (int i = 0; i < COLUMNS; i++)
	{
		values[i] = palloc0_array(Datum, max);
		nulls[i] = palloc0_array(bool, max);
	}
	while (n < max && bytes < PIECE_BYTES &&
		   tuplestore_gettupleslot(store, true, false, slot))
	{
		slot_getallattrs(slot);
		for (int i = 0; i < COLUMNS; i++)
		{
			nulls[i][n] = slot->tts_isnull[i];
			if (nulls[i][n])
				continue;
			values[i][n] = slot->tts_values[i];
			if (column_types[i] == TEXTOID || column_types[i] == BYTEAOID)
			{
				values[i][n] = PointerGetDatum(PG_DETOAST_DATUM_COPY(slot->tts_values[i]));
				bytes += VARSIZE_ANY(DatumGetPointer(values[i][n]));
			}
		}
		n++;
	}
	ExecDropSingleTupleTableSlot(slot);
	return n;
}

bool
is_staged_put(int32 sync_id, Tuplestorestate *store, TupleDesc desc, int max)
{
	Datum	   *values[COLUMNS];
	bool	   *nulls[COLUMNS];
	int			n = read_store(store, desc, max, values, nulls);

	if (n > 0)
		put_rows(sync_id, values, nulls, n);
	return n > 0;
}

bool
is_staged_note(int32 sync_id, Tuplestorestate *store, TupleDesc desc, int max)
{
	Datum	   *values[COLUMNS];
	bool	   *nulls[COLUMNS];
	int			n = read_store(store, desc, max, values, nulls);

	if (n > 0)
		is_delivery_note(sync_id, values[COLUMN_KEY], values[COLUMN_HASH],
						 nulls[COLUMN_HASH], n);
	return n > 0;
}

/* ----------------------------------------------------------------
 * The staging as a whole
 * ----------------------------------------------------------------
 */

static uint64
run(IsQuery *query, Datum *values)
{
	uint64		n;

	SPI_connect();
	n = is_query_run(query, values, NULL);
	SPI_finish();
	return n;
}

void
is_staged_finish(int32 sync_id, int64 scan_id, int32 version)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.sync_staging (sync_id, scan_id, version) VALUES ($1, $2, $3) "
		"ON CONFLICT (sync_id) DO UPDATE "
		"SET scan_id = EXCLUDED.scan_id, version = EXCLUDED.version",
		3, INT4OID, INT8OID, INT4OID
	);
	Datum		values[3] = {
		Int32GetDatum(sync_id), Int64GetDatum(scan_id), Int32GetDatum(version)
	};

	(void) run(&query, values);
}

bool
is_staged_is_complete(int32 sync_id, int64 scan_id, int32 version)
{
	static IsQuery query = IS_QUERY(
		"SELECT FROM iterable.sync_staging WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND scan_id OPERATOR(pg_catalog.=) $2 AND version OPERATOR(pg_catalog.=) $3",
		3, INT4OID, INT8OID, INT4OID
	);
	Datum		values[3] = {
		Int32GetDatum(sync_id), Int64GetDatum(scan_id), Int32GetDatum(version)
	};

	return run(&query, values) == 1;
}

int
is_staged_forget(int32 sync_id, int max)
{
	static IsQuery incomplete = IS_QUERY(
		"DELETE FROM iterable.sync_staging WHERE sync_id OPERATOR(pg_catalog.=) $1",
		1, INT4OID
	);
	static IsQuery query = IS_QUERY(
		"DELETE FROM iterable.sync_staged WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
		"SELECT ctid FROM iterable.sync_staged "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 LIMIT $2))",
		2, INT4OID, INT8OID
	);
	Datum		values[2] = {Int32GetDatum(sync_id), Int64GetDatum((int64) max)};

	(void) run(&incomplete, values);
	return (int) run(&query, values);
}

void
is_staged_forget_all(int32 sync_id)
{
	while (is_staged_forget(sync_id, 10000) > 0)
		CHECK_FOR_INTERRUPTS();
}

/* ----------------------------------------------------------------
 * What follows from it
 * ----------------------------------------------------------------
 */

/*
 * A failure of a key that has several rows still stands while it has them.
 */
#define NEXT(op) \
	"SELECT s.key, s.op FROM iterable.sync_staged s " \
	"WHERE s.sync_id OPERATOR(pg_catalog.=) $1 AND s.key OPERATOR(pg_catalog." op ") $2 " \
	"AND s.state OPERATOR(pg_catalog.<>) 'g' " \
	"AND (s.copies OPERATOR(pg_catalog.=) 1 AND s.op IS NOT NULL " \
	"OR s.copies OPERATOR(pg_catalog.>) 1 AND s.state OPERATOR(pg_catalog.=) 'f' " \
	"AND NOT EXISTS (SELECT FROM iterable.sync_failure f " \
	"WHERE f.sync_id OPERATOR(pg_catalog.=) $1 AND f.key OPERATOR(pg_catalog.=) s.key " \
	"AND f.class OPERATOR(pg_catalog.=) 'duplicate_key')) ORDER BY s.key LIMIT $3"

List *
is_staged_next(int32 sync_id, const char *after, int max, char **ops)
{
	static IsQuery first = IS_QUERY(NEXT(">="), 3, INT4OID, TEXTOID, INT8OID);
	static IsQuery next = IS_QUERY(NEXT(">"), 3, INT4OID, TEXTOID, INT8OID);
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3] = {
		Int32GetDatum(sync_id), CStringGetTextDatum(after ? after : ""),
		Int64GetDatum((int64) max)
	};
	List	   *result = NIL;
	uint64		n;

	*ops = palloc0(max + 1);
	SPI_connect();
	n = is_query_run(after ? &next : &first, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		MemoryContext spi = MemoryContextSwitchTo(context);
		Datum		op = is_query_value(i, 2, &isnull);

		(*ops)[i] = isnull ? 'B' : DatumGetChar(op);
		result = lappend(result, is_query_text(i, 1, context));
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return result;
}

static Datum
key_array(const List *keys)
{
	Datum	   *elems = palloc_array(Datum, list_length(keys) + 1);
	int			n = 0;
	ListCell   *lc;

	foreach(lc, keys)
		elems[n++] = CStringGetTextDatum(lfirst(lc));
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

List *
is_staged_missing(int32 sync_id, const List *keys, TimestampTz since)
{
	static IsQuery forget = IS_QUERY(
		"DELETE FROM iterable.sync_delivery d "
		"WHERE d.sync_id OPERATOR(pg_catalog.=) $1 AND d.key OPERATOR(pg_catalog.=) ANY ($2) "
		"AND d.state OPERATOR(pg_catalog.=) ANY ('{s,n}'::pg_catalog.\"char\"[]) AND d.at OPERATOR(pg_catalog.<) $3 "
		"AND NOT EXISTS (SELECT FROM iterable.sync_staged s "
		"WHERE s.sync_id OPERATOR(pg_catalog.=) $1 AND s.key OPERATOR(pg_catalog.=) d.key) "
		"AND NOT EXISTS (SELECT FROM iterable.sync_failure f "
		"WHERE f.sync_id OPERATOR(pg_catalog.=) $1 AND f.key OPERATOR(pg_catalog.=) d.key)",
		3, INT4OID, TEXTARRAYOID, TIMESTAMPTZOID
	);
	static IsQuery stage = IS_QUERY(
		"INSERT INTO iterable.sync_staged (sync_id, key, state, op, known_hash) "
		"SELECT $1, k.key, 'g', 'B', d.hash FROM pg_catalog.unnest($2) AS k (key) "
		"LEFT JOIN LATERAL (SELECT t.payload_hash, t.at FROM iterable.sync_delivery t "
		"WHERE t.sync_id OPERATOR(pg_catalog.=) $1 AND t.key OPERATOR(pg_catalog.=) k.key LIMIT 1) "
		"AS d (hash, at) ON true "
		"LEFT JOIN LATERAL (SELECT t.last_at FROM iterable.sync_failure t "
		"WHERE t.sync_id OPERATOR(pg_catalog.=) $1 AND t.key OPERATOR(pg_catalog.=) k.key LIMIT 1) "
		"AS f (at) ON true "
		"WHERE (d.at IS NOT NULL OR f.at IS NOT NULL) "
		"AND (d.at IS NULL OR d.at OPERATOR(pg_catalog.<) $3) "
		"AND (f.at IS NULL OR f.at OPERATOR(pg_catalog.<) $3) "
		"ON CONFLICT (sync_id, key) DO NOTHING RETURNING key",
		3, INT4OID, TEXTARRAYOID, TIMESTAMPTZOID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3] = {
		Int32GetDatum(sync_id), key_array(keys), TimestampTzGetDatum(since)
	};
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	(void) is_query_run(&forget, values, NULL);
	n = is_query_run(&stage, values, NULL);
	result = is_query_texts(n, 1, context);
	SPI_finish();
	return result;
}

static void
take_row(uint64 i, IsRow *row)
{
	bool		isnull;
	char		state = DatumGetChar(is_query_value(i, 2, &isnull));
	int64		copies = DatumGetInt64(is_query_value(i, 3, &isnull));
	Datum		value;

	row->left = state == STATE_LEFT;
	if (state == STATE_FOUND && copies > 1)
	{
		row->found = true;
		row->problem = "duplicate_key";
		row->problem_detail = psprintf(INT64_FORMAT " rows have this key", copies);
		return;
	}
	row->hash = DatumGetInt64(is_query_value(i, 4, &isnull));
	value = is_query_value(i, 5, &isnull);

	/* a key that is there, and nothing was to be done about it */
	row->unread = state == STATE_FOUND && isnull;
	if (row->unread || state != STATE_FOUND)
		return;
	row->found = true;
	unpack_row(DatumGetByteaPP(value), row);
}

void
is_staged_take(int32 sync_id, int32 version, const char **keys, int n, IsRow *rows)
{
	static IsQuery query = IS_QUERY(
		"SELECT k.i, s.state, s.copies, s.hash, s.\"row\" "
		"FROM pg_catalog.unnest($2) WITH ORDINALITY AS k (key, i), "
		"LATERAL (SELECT t.state, t.copies, t.hash, t.known_hash, t.\"row\" "
		"FROM iterable.sync_staged t WHERE t.sync_id OPERATOR(pg_catalog.=) $1 "
		"AND t.key OPERATOR(pg_catalog.=) k.key LIMIT 1) AS s "
		"LEFT JOIN LATERAL (SELECT t.payload_hash FROM iterable.sync_delivery t "
		"WHERE t.sync_id OPERATOR(pg_catalog.=) $1 AND t.key OPERATOR(pg_catalog.=) k.key LIMIT 1) "
		"AS d (hash) ON true "
		"WHERE EXISTS (SELECT FROM iterable.sync_staging g "
		"WHERE g.sync_id OPERATOR(pg_catalog.=) $1 AND g.version OPERATOR(pg_catalog.=) $3) "
		"AND (d.hash OPERATOR(pg_catalog.=) s.known_hash "
		"OR d.hash OPERATOR(pg_catalog.=) s.hash "
		"OR d.hash IS NULL AND s.known_hash IS NULL)",
		3, INT4OID, TEXTARRAYOID, INT4OID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum	   *elems = palloc_array(Datum, Max(n, 1));
	Datum		values[3];
	uint64		found;

	for (int i = 0; i < n; i++)
	{
		rows[i] = (IsRow) {.key = keys[i], .unread = true};
		elems[i] = CStringGetTextDatum(keys[i]);
	}
	values[0] = Int32GetDatum(sync_id);
	values[1] = PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = Int32GetDatum(version);

	SPI_connect();
	found = is_query_run(&query, values, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		bool		isnull;
		int64		k = DatumGetInt64(is_query_value(i, 1, &isnull)) - 1;
		MemoryContext spi = MemoryContextSwitchTo(context);

		rows[k] = (IsRow) {.key = keys[k]};
		take_row(i, &rows[k]);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
}
