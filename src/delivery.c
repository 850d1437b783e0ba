/*-------------------------------------------------------------------------
 *
 * delivery.c
 *	  What is known of each row at Iterable.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "delivery.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "iterable_sync.h"
#include "query.h"

/* A row that may succeed later is tried after 30 s, 1 min, 2 min … 6 h … */
#define FIRST_RETRY_SECONDS 30
#define LAST_RETRY_SECONDS (6 * 3600)
/* … and waits for a person after this many attempts. */
#define MAX_ATTEMPTS 12

static Datum
text_array(Datum *elems, bool *nulls, int n)
{
	int			dims[1] = {n};
	int			lbs[1] = {1};

	if (n == 0)
		return PointerGetDatum(construct_empty_array(TEXTOID));
	return PointerGetDatum(construct_md_array(elems, nulls, 1, dims, lbs, TEXTOID,
											  -1, false, TYPALIGN_INT));
}

/* texts may be NULL, and have NULLs in it. */
static Datum
optional_text_array(const char **texts, int n)
{
	Datum	   *elems = palloc0_array(Datum, n + 1);
	bool	   *nulls = palloc0_array(bool, n + 1);

	for (int i = 0; i < n; i++)
	{
		nulls[i] = texts == NULL || texts[i] == NULL;
		if (!nulls[i])
			elems[i] = CStringGetTextDatum(texts[i]);
	}
	return text_array(elems, nulls, texts ? n : 0);
}

/* of at least one */
static Datum
int8_array(Datum *elems, bool *nulls, int n)
{
	int			one = 1;

	return PointerGetDatum(construct_md_array(elems, nulls, 1, &n, &one, INT8OID,
											  sizeof(int64), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
}

/*
 * The row of one key.  LIMIT keeps the planner from joining in another way,
 * and "= ANY" from being a filter over all rows of the sync: plans are kept,
 * and were made when the tables may have been empty.
 */
#define BY_KEY(table, key_expression) \
	"FROM iterable." table " WHERE sync_id OPERATOR(pg_catalog.=) $1 " \
	"AND key OPERATOR(pg_catalog.=) " key_expression " LIMIT 1"

/*
 * A scan notes rows while a run records others, or the same: in one order, so
 * that they never wait for each other in a circle.
 */
#define IN_ORDER "ORDER BY u.key COLLATE pg_catalog.\"C\" "

/* The rows of the keys in the array $2, for UPDATE and DELETE. */
#define OF_KEYS(table) \
	"WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT t.at " \
	"FROM pg_catalog.unnest($2) AS k (key), " \
	"LATERAL (SELECT ctid " BY_KEY(table, "k.key") ") AS t (at)))"

/* ----------------------------------------------------------------
 * Recall
 * ----------------------------------------------------------------
 */

static bool
has_failures(int32 sync_id)
{
	static IsQuery query = IS_QUERY(
		"SELECT FROM iterable.sync_failure WHERE sync_id OPERATOR(pg_catalog.=) $1 LIMIT 1",
		1, INT4OID
	);
	Datum		arg = Int32GetDatum(sync_id);

	return is_query_run(&query, &arg, NULL) > 0;
}

/*
 * WITH ORDINALITY gives the place of the key back, so that nothing has to be
 * matched here.
 */
#define BY_KEYS(columns, table, key_expression) \
	"SELECT k.i, m.* FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) " \
	"WITH ORDINALITY AS k (key, tag, i), " \
	"LATERAL (SELECT " columns " " BY_KEY(table, key_expression) ") AS m"

void
is_delivery_recall(const IsSync *sync, const char **keys, const char **tags, int n,
				   IsMemory *memory)
{
	static IsQuery deliveries = IS_QUERY(
		BY_KEYS("state, payload_hash, identifier IS NOT NULL", "sync_delivery", "k.key"),
		3, INT4OID, TEXTARRAYOID, TEXTARRAYOID
	);
	static IsQuery failures = IS_QUERY(
		BY_KEYS("payload_hash, COALESCE(next_at OPERATOR(pg_catalog.<=) pg_catalog.now(), false)",
				"sync_failure", "k.key AND tag OPERATOR(pg_catalog.=) COALESCE(k.tag, tag)"),
		3, INT4OID, TEXTARRAYOID, TEXTARRAYOID
	);
	Datum	   *elems = palloc(Max(n, 1) * sizeof(Datum));
	Datum		values[3];
	uint64		found;
	bool		isnull;

	memset(memory, 0, n * sizeof(IsMemory));
	for (int i = 0; i < n; i++)
		elems[i] = CStringGetTextDatum(keys[i]);
	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = text_array(elems, NULL, n);
	values[2] = optional_text_array(tags, n);

	SPI_connect();
	found = sync->track ? is_query_run(&deliveries, values, NULL) : 0;
	for (uint64 row = 0; row < found; row++)
	{
		IsMemory   *m = &memory[DatumGetInt64(is_query_value(row, 1, &isnull)) - 1];

		m->state = DatumGetChar(is_query_value(row, 2, &isnull));
		m->hash = DatumGetInt64(is_query_value(row, 3, &isnull));
		m->hash_known = !isnull;
		m->identified = DatumGetBool(is_query_value(row, 4, &isnull));
	}
	found = has_failures(sync->sync_id) ? is_query_run(&failures, values, NULL) : 0;
	for (uint64 row = 0; row < found; row++)
	{
		IsMemory   *m = &memory[DatumGetInt64(is_query_value(row, 1, &isnull)) - 1];

		m->failed = true;
		m->failed_hash = DatumGetInt64(is_query_value(row, 2, &isnull));
		m->failed_hash_known = !isnull;
		m->retry_due = DatumGetBool(is_query_value(row, 3, &isnull));
	}
	SPI_finish();
}

IsVersion **
is_delivery_failed_versions(int32 sync_id, const char **keys, const char **tags, int n)
{
	static IsQuery query = IS_QUERY(
		BY_KEYS("version", "sync_failure", "k.key AND tag OPERATOR(pg_catalog.=) k.tag"),
		3, INT4OID, TEXTARRAYOID, TEXTARRAYOID
	);
	MemoryContext context = CurrentMemoryContext;
	IsVersion **versions = palloc0_array(IsVersion *, n + 1);
	Datum		values[3] = {
		Int32GetDatum(sync_id), optional_text_array(keys, n), optional_text_array(tags, n)
	};
	uint64		found;

	SPI_connect();
	found = is_query_run(&query, values, NULL);
	for (uint64 row = 0; row < found; row++)
	{
		bool		isnull;
		int			i = (int) DatumGetInt64(is_query_value(row, 1, &isnull)) - 1;
		Datum		packed = is_query_value(row, 2, &isnull);
		MemoryContext spi = MemoryContextSwitchTo(context);
		int			count;
		IsVersion **one = isnull ? NULL : is_version_unpack(DatumGetByteaPP(packed), &count);

		if (one && count == 1 && one[0] != NULL)
		{
			versions[i] = one[0];
			versions[i]->tag = pstrdup(tags[i]);
		}
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return versions;
}

/* ----------------------------------------------------------------
 * Record
 * ----------------------------------------------------------------
 */

static const char *
tag_of(const IsRow *row)
{
	return row->version ? row->version->tag : "";
}

/* Events of their own stand for themselves, whatever comes before or after. */
static bool
is_own_event(const IsRow *row)
{
	return row->capture == IS_CAPTURE_VERSIONS && row->version != NULL;
}

/* The state in which a row is remembered anew, or 0. */
static char
state_to_remember(IsFate fate)
{
	switch (fate)
	{
		case IS_FATE_ACCEPTED:
		case IS_FATE_REAPPEARED:
			return IS_DELIVERY_ACCEPTED;
		case IS_FATE_SEEN:
			return IS_DELIVERY_SEEN;
		case IS_FATE_UNMATCHED:
			return IS_DELIVERY_LEFT;
		default:
			return 0;
	}
}

static void
remember(int32 sync_id, const IsResult *results, int n)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.sync_delivery AS d (sync_id, key, identifier, payload_hash, state, at) "
		"SELECT $1, u.key, u.identifier, u.hash, u.state, pg_catalog.clock_timestamp() "
		"FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), "
		"pg_catalog.unnest($4), pg_catalog.unnest($5)) AS u (key, identifier, hash, state) "
		IN_ORDER "ON CONFLICT (sync_id, key) DO UPDATE SET identifier = EXCLUDED.identifier, "
		"payload_hash = EXCLUDED.payload_hash, state = EXCLUDED.state, at = EXCLUDED.at",
		5, INT4OID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, CHARARRAYOID
	);
	Datum	   *keys = palloc(n * sizeof(Datum));
	Datum	   *identifiers = palloc(n * sizeof(Datum));
	bool	   *no_identifier = palloc0(n * sizeof(bool));
	Datum	   *hashes = palloc(n * sizeof(Datum));
	bool	   *no_hash = palloc0(n * sizeof(bool));
	Datum	   *states = palloc(n * sizeof(Datum));
	int			k = 0;
	Datum		values[5];

	for (int i = 0; i < n; i++)
	{
		const IsRow *row = results[i].row;
		const char *identifier = row->email ? row->email : row->user_id;

		char		state = state_to_remember(results[i].fate);

		if (state == 0 || (row->retried && is_own_event(row)))
			continue;
		keys[k] = CStringGetTextDatum(row->key);
		no_identifier[k] = identifier == NULL;
		/* rendered rows are UTF-8 */
		identifiers[k] = identifier ?
			CStringGetTextDatum(pg_any_to_server(identifier, strlen(identifier), PG_UTF8)) :
			(Datum) 0;
		no_hash[k] = !row->found;
		hashes[k] = Int64GetDatum(row->hash);
		states[k] = CharGetDatum(state);
		k++;
	}
	if (k == 0)
		return;

	values[0] = Int32GetDatum(sync_id);
	values[1] = text_array(keys, NULL, k);
	values[2] = text_array(identifiers, no_identifier, k);
	values[3] = int8_array(hashes, no_hash, k);
	values[4] = PointerGetDatum(construct_array(states, k, CHAROID, 1, true,
												TYPALIGN_CHAR));
	(void) is_query_run(&query, values, NULL);
}

/*
 * An event of its own was accepted after it had failed.  Newer ones may have
 * been accepted since: what the next is to be compared with stays what it is.
 */
static void
remember_late(int32 sync_id, const IsRow *row)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.sync_delivery (sync_id, key, identifier, state, at) "
		"VALUES ($1, $2, $3, 'a', pg_catalog.clock_timestamp()) ON CONFLICT (sync_id, key) DO NOTHING",
		3, INT4OID, TEXTOID, TEXTOID
	);
	const char *identifier = row->email ? row->email : row->user_id;
	Datum		values[3] = {Int32GetDatum(sync_id), CStringGetTextDatum(row->key)};

	if (identifier)
		values[2] =
			CStringGetTextDatum(pg_any_to_server(identifier, strlen(identifier), PG_UTF8));
	(void) is_query_run(&query, values, identifier ? NULL : "  n");
}

/*
 * The rows are gone, from the source or from what the filter lets through.  Of
 * what was only noted nothing is known then.
 */
static void
mark_gone(int32 sync_id, Datum keys, char state)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_delivery SET state = $3, at = pg_catalog.clock_timestamp() "
		OF_KEYS("sync_delivery") " AND state OPERATOR(pg_catalog.<>) $3 "
		"AND state OPERATOR(pg_catalog.<>) ALL ('{s,n}'::pg_catalog.\"char\"[])",
		3, INT4OID, TEXTARRAYOID, CHAROID
	);
	static IsQuery forget = IS_QUERY(
		"DELETE FROM iterable.sync_delivery "
		OF_KEYS("sync_delivery") " AND state OPERATOR(pg_catalog.=) 'n'",
		2, INT4OID, TEXTARRAYOID
	);
	Datum		values[3] = {Int32GetDatum(sync_id), keys, CharGetDatum(state)};

	(void) is_query_run(&query, values, NULL);
	(void) is_query_run(&forget, values, NULL);
}

/*
 * A request whose outcome nobody knows may have changed what Iterable has.  Of
 * rows that are only seen or noted, no request is under way unless somebody
 * asks for it.
 */
static void
forget_payloads(int32 sync_id, Datum keys, bool seen)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_delivery SET payload_hash = NULL "
		OF_KEYS("sync_delivery")
		" AND (state OPERATOR(pg_catalog.<>) ALL ('{s,n}'::pg_catalog.\"char\"[]) OR $3)",
		3, INT4OID, TEXTARRAYOID, BOOLOID
	);
	Datum		values[3] = {Int32GetDatum(sync_id), keys, BoolGetDatum(seen)};

	(void) is_query_run(&query, values, NULL);
}

/* tags: of the versions; NULL: all failures of the keys. */
static void
clear_failures(int32 sync_id, Datum keys, Datum tags)
{
	static IsQuery query = IS_QUERY(
		"DELETE FROM iterable.sync_failure WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
		"SELECT t.at FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS k (key, tag), "
		"LATERAL (SELECT ctid FROM iterable.sync_failure "
		"WHERE sync_id OPERATOR(pg_catalog.=) $1 AND key OPERATOR(pg_catalog.=) k.key "
		"AND tag OPERATOR(pg_catalog.=) COALESCE(k.tag, tag) OFFSET 0) AS t (at)))",
		3, INT4OID, TEXTARRAYOID, TEXTARRAYOID
	);
	Datum		values[3] = {Int32GetDatum(sync_id), keys, tags};

	if (has_failures(sync_id))
		(void) is_query_run(&query, values, NULL);
}

/*
 * Does this fate settle all that has failed of the row, or only this version of
 * it?  Of rows that are sent as they were committed the last version wins.
 */
static bool
is_settled(const IsResult *result)
{
	return result->row->capture == IS_CAPTURE_KEY ||
		(result->row->capture == IS_CAPTURE_ROW &&
		 (result->fate == IS_FATE_ACCEPTED || result->fate == IS_FATE_UNCHANGED ||
		  result->fate == IS_FATE_REAPPEARED || result->fate == IS_FATE_PRETENDED));
}

/* A version has failed in the place of those that failed before. */
static void
drop_older_failures(int32 sync_id, const IsRow *row)
{
	static IsQuery query = IS_QUERY(
		"DELETE FROM iterable.sync_failure WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND key OPERATOR(pg_catalog.=) $2 AND tag OPERATOR(pg_catalog.<>) $3",
		3, INT4OID, TEXTOID, TEXTOID
	);
	Datum		values[3] = {
		Int32GetDatum(sync_id), CStringGetTextDatum(row->key),
		CStringGetTextDatum(tag_of(row))
	};

	(void) is_query_run(&query, values, NULL);
}

/* A text that may be missing, as argument i. */
static void
set_text(Datum *values, char *nulls, int i, const char *text)
{
	if (text && text[0])
		values[i] = CStringGetTextDatum(text);
	else
		nulls[i] = 'n';
}

static char *
payload_text(const IsResult *result)
{
	char	   *copy = pnstrdup(result->payload, result->payload_len);

	return pg_any_to_server(copy, result->payload_len, PG_UTF8);
}

/*
 * How often a row was tried is counted from its latest change on: what has
 * changed may succeed where the row before it did not.
 */
#define ATTEMPTS \
	"CASE WHEN f.payload_hash OPERATOR(pg_catalog.=) EXCLUDED.payload_hash " \
	"OR (f.payload_hash IS NULL AND EXCLUDED.payload_hash IS NULL) " \
	"THEN f.attempts ELSE 0 END"

static void
add_failure(int32 sync_id, const IsResult *result)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.sync_failure AS f (sync_id, key, class, code, message, "
		"payload_hash, request_id, payload, tag, version, first_at, last_at, next_at) "
		"VALUES ($1, $2, $3, $4, $5, $10, $11, $12, $13, $14, pg_catalog.now(), pg_catalog.now(), "
		"CASE WHEN $6 THEN pg_catalog.now() OPERATOR(pg_catalog.+) "
		"pg_catalog.make_interval(secs => $7) END) "
		"ON CONFLICT (sync_id, key, tag) DO UPDATE SET class = EXCLUDED.class, "
		"code = EXCLUDED.code, message = EXCLUDED.message, "
		"payload_hash = EXCLUDED.payload_hash, request_id = EXCLUDED.request_id, "
		"payload = EXCLUDED.payload, last_at = EXCLUDED.last_at, "
		"attempts = " ATTEMPTS " OPERATOR(pg_catalog.+) 1, "
		"next_at = CASE WHEN $6 AND (" ATTEMPTS " OPERATOR(pg_catalog.+) 1) OPERATOR(pg_catalog.<) $9 "
		"THEN pg_catalog.now() OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => "
		"LEAST($7 OPERATOR(pg_catalog.*) pg_catalog.power(2, " ATTEMPTS "), $8)) END",
		14, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, FLOAT8OID,
			FLOAT8OID, INT4OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, BYTEAOID
	);
	char		nulls[14];
	Datum		values[14];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int32GetDatum(sync_id);
	values[1] = CStringGetTextDatum(result->row->key);
	values[2] = CStringGetTextDatum(result->class);
	set_text(values, nulls, 3, result->code);
	set_text(values, nulls, 4, result->message);
	values[5] = BoolGetDatum(result->fate == IS_FATE_LATER);
	values[6] = Float8GetDatum((double) FIRST_RETRY_SECONDS);
	values[7] = Float8GetDatum((double) LAST_RETRY_SECONDS);
	values[8] = Int32GetDatum(MAX_ATTEMPTS);
	if (result->row->found && !result->row->problem)
		values[9] = Int64GetDatum(result->row->hash);
	else
		nulls[9] = 'n';
	set_text(values, nulls, 10, result->request_id);
	set_text(values, nulls, 11,
			 is_keep_failed_payloads && result->payload ? payload_text(result) : NULL);
	values[12] = CStringGetTextDatum(tag_of(result->row));
	if (result->row->version)
		values[13] = PointerGetDatum(is_version_pack_one(result->row->version));
	else
		nulls[13] = 'n';
	(void) is_query_run(&query, values, nulls);
	if (result->row->capture == IS_CAPTURE_ROW)
		drop_older_failures(sync_id, result->row);
}

/* Keys that are written down in one go, and tags of versions where these count. */
typedef struct Keys
{
	const char **keys;
	const char **tags;
	int			n;
} Keys;

static Keys
no_keys(int max)
{
	return (Keys) {palloc_array(const char *, max + 1), palloc_array(const char *, max + 1), 0};
}

static void
add_key(Keys *keys, const char *key, const char *tag)
{
	keys->keys[keys->n] = key;
	keys->tags[keys->n++] = tag;
}

static Datum
keys_datum(const Keys *keys)
{
	return optional_text_array(keys->keys, keys->n);
}

void
is_delivery_record(const IsSync *sync, const IsResult *results, int n)
{
	int32		sync_id = sync->sync_id;
	Keys		vanished = no_keys(n);
	Keys		left = no_keys(n);
	Keys		cleared = no_keys(n);
	Keys		unsure = no_keys(n);
	Keys		asked = no_keys(n);

	SPI_connect();
	if (sync->track)
		remember(sync_id, results, n);
	for (int i = 0; i < n; i++)
	{
		const IsRow *row = results[i].row;

		switch (results[i].fate)
		{
			case IS_FATE_ACCEPTED:
				if (sync->track && row->retried && is_own_event(row))
					remember_late(sync_id, row);
				break;
			case IS_FATE_UNCHANGED:
			case IS_FATE_REAPPEARED:
			case IS_FATE_SEEN:
			case IS_FATE_SKIPPED:
			case IS_FATE_UNMATCHED:
			case IS_FATE_PRETENDED:
				break;
			case IS_FATE_VANISHED_UNSURE:
				add_key(&unsure, row->key, NULL);
				pg_fallthrough;
			case IS_FATE_VANISHED:
				add_key(&vanished, row->key, NULL);
				break;
			case IS_FATE_LEFT_UNSURE:
				add_key(&unsure, row->key, NULL);
				pg_fallthrough;
			case IS_FATE_LEFT:
				add_key(&left, row->key, NULL);
				break;
			case IS_FATE_UNSURE:
				add_key(&asked, row->key, NULL);
				continue;
			case IS_FATE_REJECTED:
			case IS_FATE_LATER:
				add_failure(sync_id, &results[i]);

				/* the next one is compared with this, which is not known there */
				if (is_own_event(row))
					add_key(&asked, row->key, NULL);
				continue;
			case IS_FATE_PENDING:
				continue;
		}
		add_key(&cleared, row->key, is_settled(&results[i]) ? NULL : tag_of(row));
	}
	if (sync->track && vanished.n > 0)
		mark_gone(sync_id, keys_datum(&vanished), IS_DELIVERY_VANISHED);
	if (sync->track && left.n > 0)
		mark_gone(sync_id, keys_datum(&left), IS_DELIVERY_LEFT);
	if (sync->track && unsure.n > 0)
		forget_payloads(sync_id, keys_datum(&unsure), false);
	if (sync->track && asked.n > 0)
		forget_payloads(sync_id, keys_datum(&asked), true);
	if (cleared.n > 0)
		clear_failures(sync_id, keys_datum(&cleared),
					   optional_text_array(cleared.tags, cleared.n));
	SPI_finish();
}

void
is_delivery_forget_payloads(int32 sync_id, const List *keys)
{
	Datum	   *elems = palloc_array(Datum, list_length(keys) + 1);
	int			n = 0;
	ListCell   *lc;

	if (keys == NIL)
		return;
	foreach(lc, keys)
		elems[n++] = CStringGetTextDatum(lfirst(lc));
	SPI_connect();
	forget_payloads(sync_id, text_array(elems, NULL, n), true);
	SPI_finish();
}

void
is_delivery_note(int32 sync_id, Datum *keys, Datum *hashes, bool *no_hash, int n)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.sync_delivery (sync_id, key, payload_hash, state, at) "
		"SELECT $1, u.key, u.hash, 'n', pg_catalog.clock_timestamp() "
		"FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (key, hash) "
		IN_ORDER "ON CONFLICT (sync_id, key) DO NOTHING",
		3, INT4OID, TEXTARRAYOID, INT8ARRAYOID
	);
	Datum		values[3] = {
		Int32GetDatum(sync_id), text_array(keys, NULL, n), int8_array(hashes, no_hash, n)
	};

	SPI_connect();
	(void) is_query_run(&query, values, NULL);
	SPI_finish();
}

void
is_delivery_forget_notes(int32 sync_id, TimestampTz since)
{
	static IsQuery forget = IS_QUERY(
		"DELETE FROM iterable.sync_delivery WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND state OPERATOR(pg_catalog.=) 'n' AND at OPERATOR(pg_catalog.>=) $2",
		2, INT4OID, TIMESTAMPTZOID
	);
	static IsQuery stop = IS_QUERY(
		"DELETE FROM iterable.sync_scan WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND kind OPERATOR(pg_catalog.=) 'n'",
		1, INT4OID
	);
	Datum		values[2] = {Int32GetDatum(sync_id), TimestampTzGetDatum(since)};

	SPI_connect();
	/* waits for who is writing notes */
	(void) is_query_run(&stop, values, NULL);
	(void) is_query_run(&forget, values, NULL);
	SPI_finish();
}

List *
is_delivery_take_due_failures(int32 sync_id, int max, List **tags)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_failure SET next_at = NULL "
		"WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
		"SELECT ctid FROM iterable.sync_failure WHERE sync_id OPERATOR(pg_catalog.=) $1 "
		"AND next_at OPERATOR(pg_catalog.<=) pg_catalog.now() ORDER BY next_at LIMIT $2)) "
		"RETURNING key, tag",
		2, INT4OID, INT8OID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2] = {Int32GetDatum(sync_id), Int64GetDatum((int64) max)};
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = is_query_run(&query, values, NULL);
	result = is_query_texts(n, 1, context);
	*tags = is_query_texts(n, 2, context);
	SPI_finish();
	return result;
}

void
is_delivery_drop_payloads(void)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.sync_failure SET payload = NULL "
		"WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
		"SELECT ctid FROM iterable.sync_failure WHERE payload IS NOT NULL "
		"LIMIT 10000 FOR UPDATE SKIP LOCKED))",
		0, 0
	);

	SPI_connect();
	(void) is_query_run(&query, NULL, NULL);
	SPI_finish();
}

/* The next keys of a table, in order. */
#define NEXT_KEYS(table, op, condition) \
	"(SELECT key FROM iterable." table " WHERE sync_id OPERATOR(pg_catalog.=) $1 " \
	"AND key OPERATOR(pg_catalog." op ") $2 AND " condition " ORDER BY key LIMIT $3)"
#define NEXT_DELIVERIES(op) \
	NEXT_KEYS("sync_delivery", op, "(state OPERATOR(pg_catalog.=) ANY ('{a,n}'::pg_catalog.\"char\"[]) " \
			  "OR (state OPERATOR(pg_catalog.=) 's' AND $4))")
#define NEXT_FAILURES(op) \
	NEXT_KEYS("sync_failure", op, "class OPERATOR(pg_catalog.<>) '" IS_CLASS_NULL_KEY "'")
#define NEXT_OF_BOTH(op) \
	NEXT_DELIVERIES(op) " UNION " NEXT_FAILURES(op) " ORDER BY key LIMIT $3"

List *
is_delivery_walk_keys(int32 sync_id, const char *after, int max, bool seen)
{
	static IsQuery queries[2][2] = {
		{
			IS_QUERY(NEXT_DELIVERIES(">="), 4, INT4OID, TEXTOID, INT8OID, BOOLOID),
			IS_QUERY(NEXT_DELIVERIES(">"), 4, INT4OID, TEXTOID, INT8OID, BOOLOID)
		},
		{
			IS_QUERY(NEXT_OF_BOTH(">="), 4, INT4OID, TEXTOID, INT8OID, BOOLOID),
			IS_QUERY(NEXT_OF_BOTH(">"), 4, INT4OID, TEXTOID, INT8OID, BOOLOID)
		}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[4] = {
		Int32GetDatum(sync_id), CStringGetTextDatum(after ? after : ""),
		Int64GetDatum((int64) max), BoolGetDatum(seen)
	};
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = is_query_run(&queries[has_failures(sync_id)][after != NULL], values, NULL);
	result = is_query_texts(n, 1, context);
	SPI_finish();
	return result;
}
