/*-------------------------------------------------------------------------
 *
 * uncaptured.c
 *	  Comparing sources of which changes could not be captured.
 *
 * A mark is cleared when the requests that it stands for are on disk.  A
 * database remembers to which memory its marks belong; when that is another
 * one, all its sources are compared if changes may have gone uncaptured.  None
 * may before the database remembers that, so that the answer can be trusted.
 *
 * Changes of a prepared transaction can be compared only when it is finished.
 * All that were prepared before the newest of a mark are waited for, since the
 * mark may be theirs; so is, after the loss of the memory, every transaction
 * that is prepared then.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "uncaptured.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "capture.h"
#include "capture_error.h"
#include "capture_mark.h"
#include "catalog.h"
#include "compat.h"
#include "delivery.h"
#include "query.h"
#include "scan.h"
#include "source.h"
#include "state.h"
#include "txn.h"

#define US_PER_S INT64CONST(1000000)
#define RETRY_INTERVAL (5 * US_PER_S)

/* What iterable.capture_memory is known to say. */
static bool known = false;
static pg_uuid_t known_memory;
static bool known_compares;

static bool
is_known(const pg_uuid_t *memory, bool compares)
{
	return known && memcmp(memory, &known_memory, UUID_LEN) == 0 &&
		(known_compares || !compares);
}

/* Returns false if the database knows of no memory. */
static bool
recall(pg_uuid_t *memory, bool *compares)
{
	static IsQuery query =
		IS_QUERY("SELECT memory, compares FROM iterable.capture_memory", 0, InvalidOid);
	bool		found;

	SPI_connect();
	found = is_query_run(&query, NULL, NULL) == 1;
	if (found)
	{
		bool		isnull;

		*memory = *DatumGetUUIDP(is_query_value(0, 1, &isnull));
		*compares = DatumGetBool(is_query_value(0, 2, &isnull));
	}
	SPI_finish();
	return found;
}

static void
remember(const pg_uuid_t *memory, bool compares)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.capture_memory (memory, compares) VALUES ($1, $2) "
		"ON CONFLICT (only_row) DO UPDATE "
		"SET memory = EXCLUDED.memory, compares = EXCLUDED.compares",
		2, UUIDOID, BOOLOID
	);
	Datum		values[2] = {UUIDPGetDatum(memory), BoolGetDatum(compares)};

	SPI_connect();
	(void) is_query_run(&query, values, NULL);
	SPI_finish();
}

/* The newest of this database's prepared transactions up to this one, if any. */
static TransactionId
newest_prepared(TransactionId limit)
{
	static IsQuery query = IS_QUERY(
		"SELECT transaction FROM pg_catalog.pg_prepared_xacts "
		"WHERE database OPERATOR(pg_catalog.=) pg_catalog.current_database()",
		0, InvalidOid
	);
	TransactionId newest = InvalidTransactionId;
	uint64		n;

	SPI_connect();
	n = is_query_run(&query, NULL, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		TransactionId xid = DatumGetTransactionId(is_query_value(i, 1, &isnull));

		if ((!TransactionIdIsValid(limit) || TransactionIdPrecedesOrEquals(xid, limit)) &&
			(!TransactionIdIsValid(newest) || TransactionIdFollows(xid, newest)))
			newest = xid;
	}
	SPI_finish();
	return newest;
}

/*
 * A row that is noted after it was changed would pass for unchanged.  DT_NOEND:
 * nobody knows since when changes were not captured.  Marks do not last long,
 * so that was hardly before the rows that are being noted now.
 */
static void
forget_notes(int32 sync_id, TimestampTz since)
{
	if (since == DT_NOEND && !is_scan_noting_since(sync_id, &since))
		return;
	is_delivery_forget_notes(sync_id, since);
}

/*
 * Ask for scans of the captured syncs of a source, or of all, of which changes
 * were not captured since then.
 */
static void
request_scans(int32 source_id, TimestampTz since, const char *reason)
{
	static IsQuery query = IS_QUERY(
		"SELECT s.sync_id FROM iterable.sync s JOIN iterable.sync_state t "
		"ON t.sync_id OPERATOR(pg_catalog.=) s.sync_id "
		"WHERE t.identity OPERATOR(pg_catalog.=) $1 "
		"AND ($2 OPERATOR(pg_catalog.=) 0 OR s.source_id OPERATOR(pg_catalog.=) $2) "
		"ORDER BY s.sync_id", 2, TEXTOID, INT4OID
	);
	Datum		values[2] = {CStringGetTextDatum(is_state_identity()), Int32GetDatum(source_id)};
	ListCell   *lc;

	foreach(lc, is_catalog_read_ids(&query, values))
	{
		IsSync	   *sync = is_catalog_get_sync_by_id(lfirst_int(lc));

		if (sync == NULL || !is_source_may_be_captured(sync))
			continue;
		forget_notes(sync->sync_id, since);
		is_scan_request_again(sync->sync_id, reason);
		ereport(LOG,
				(errmsg("sync \"%s\" compares its source with what was sent: %s",
						sync->name, reason)));
	}
	is_capture_wake_on_commit();
}

static void
look_at_memory(const pg_uuid_t *memory, bool *compares)
{
	pg_uuid_t	former;
	bool		former_compares = false;
	bool		found = recall(&former, &former_compares);

	/* It will say so whether or not we can write. */
	if (found && former_compares && *compares)
		is_capture_mark_permit();
	if (found && memcmp(memory, &former, UUID_LEN) == 0)
		*compares |= former_compares;
	else if (found && (former_compares || *compares))
	{
		TransactionId prepared = newest_prepared(InvalidTransactionId);

		request_scans(IS_ALL_SOURCES, DT_NOEND,
					  "the server was not shut down cleanly, and changes may not have been captured");
		if (TransactionIdIsValid(prepared))
		{
			is_capture_mark_set(IS_ALL_SOURCES, prepared);
			*compares = true;	/* this mark may be lost as well */
		}
	}
	if (!found || *compares != former_compares || memcmp(memory, &former, UUID_LEN) != 0)
		remember(memory, *compares);
}

static void
compare(const pg_uuid_t *memory, bool compares, const IsCaptureMark *marks, int n)
{
	bool	   *done = palloc0_array(bool, n + 1);
	bool	   *finished = palloc0_array(bool, n + 1);

	is_txn_begin();
	if (!is_known(memory, compares))
		look_at_memory(memory, &compares);
	for (int i = 0; i < n; i++)
	{
		finished[i] = !TransactionIdIsValid(marks[i].prepared) ||
			!TransactionIdIsValid(newest_prepared(marks[i].prepared));
		done[i] = marks[i].committed || finished[i];
		if (done[i])
			request_scans(marks[i].source_id, marks[i].since,
						  "changes of the source could not be captured");
	}
	is_txn_commit();

	for (int i = 0; i < n; i++)
		if (done[i])
			is_capture_mark_clear(&marks[i], finished[i]);
	if (compares)
		is_capture_mark_permit();
	known = true;
	known_memory = *memory;
	known_compares = compares;
}

void
is_uncaptured_compare(int64 now)
{
	static int64 not_before = 0;
	MemoryContext context = CurrentMemoryContext;
	pg_uuid_t	memory = is_capture_mark_memory();
	bool		compares = is_on_capture_error == IS_CAPTURE_COMPARE;
	int			n;
	IsCaptureMark *marks = is_capture_mark_list(&n);

	if (now < not_before || (n == 0 && is_known(&memory, compares)))
		return;
	PG_TRY();
	{
		compare(&memory, compares, marks, n);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		is_txn_abort();
		MemoryContextSwitchTo(context);
		not_before = now + RETRY_INTERVAL;
	}
	PG_END_TRY();
}
