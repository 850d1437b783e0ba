/*-------------------------------------------------------------------------
 *
 * change_segment.c
 *	  The tables that the change log consists of.
 *
 * Changes are written to one of a few tables, the current segment.  Which one
 * that is stands in a sequence, because a writer in an old snapshot must see
 * the truth of now.  A writer that has read the sequence just before the
 * current segment moved on writes to the former one: nothing is lost by that,
 * since readers always read all segments and a segment is emptied only under
 * ACCESS EXCLUSIVE and after a look, taken under that lock, that no position
 * still needs a row of it.  Rows of open transactions are protected by the
 * writers' own locks, which last until they end (prepared ones included).
 * Nobody ever waits for such a lock.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "change_segment.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "iterable_sync.h"
#include "query.h"

PG_FUNCTION_INFO_V1(iterable_rotate_change_log);

/* The writers move on when the current segment has this many bytes … */
#define SEGMENT_BYTES (INT64CONST(4) * 1024 * 1024)
/* … or is this old and not empty. */
#define SEGMENT_SECONDS 60

/* A writer asks so often which segment is the current one. */
#define KNOWN_US (USECS_PER_SEC / 10)

int			is_max_change_log_size = 1024;

static const char *const segment_names[IS_SEGMENTS] = {
	"change_0", "change_1", "change_2", "change_3"
};

/* The current segment as last asked for, and when that was. */
static int	known;
static TimestampTz known_at = 0;

/* ----------------------------------------------------------------
 * One segment
 * ----------------------------------------------------------------
 */

int
is_change_segment_current(void)
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
	if (result < 0 || result >= IS_SEGMENTS)
		elog(ERROR, "the change log has no segment " INT64_FORMAT, result);
	return (int) result;
}

Oid
is_change_segment_relid(int segment)
{
	return is_catalog_relation(segment_names[segment]);
}

Relation
is_change_segment_open(TimestampTz now)
{
	/*
	 * A segment that the writers have left just now is as good, if it need not
	 * be waited for because it is being emptied.
	 */
	if (now >= known_at && now - known_at < KNOWN_US)
	{
		Oid			relid = is_change_segment_relid(known);

		if (ConditionalLockRelationOid(relid, RowExclusiveLock))
			return table_open(relid, NoLock);
	}
	known = is_change_segment_current();
	known_at = now;
	return table_open(is_change_segment_relid(known), RowExclusiveLock);
}

static bool
is_empty(int segment)
{
	Relation	rel = table_open(is_change_segment_relid(segment), AccessShareLock);
	bool		empty = RelationGetNumberOfBlocks(rel) == 0;

	table_close(rel, AccessShareLock);
	return empty;
}

int64
is_change_segment_size(int segment)
{
	return DatumGetInt64(DirectFunctionCall1(pg_total_relation_size,
											 ObjectIdGetDatum(is_change_segment_relid(segment))));
}

/* SELECT on the segment; its name takes the place of %s. */
static uint64
select_from(const char *format, int segment, int max)
{
	char	   *query = psprintf(format, segment_names[segment]);
	int			nest = is_query_prefer_index();

	if (SPI_execute(query, false, max) != SPI_OK_SELECT)
		elog(ERROR, "could not read the change log");
	AtEOXact_GUC(true, nest);
	pfree(query);
	return SPI_processed;
}

/*
 * The syncs that have not passed a segment.  A row of a source or sync that is
 * no more is needed by none.  LIMIT keeps the planner from joining in another
 * way than by looking for a row of each sync in the index.
 */
#define NEEDED_BY \
	"SELECT t.sync_id FROM iterable.sync_state t " \
	"JOIN iterable.sync s ON s.sync_id OPERATOR(pg_catalog.=) t.sync_id, " \
	"LATERAL (SELECT FROM iterable.%s c " \
	"WHERE c.xid OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmin(t.\"position\") " \
	"AND NOT pg_catalog.pg_visible_in_snapshot(c.xid, t.\"position\") " \
	"AND c.source_id OPERATOR(pg_catalog.=) s.source_id " \
	"AND (c.sync_id OPERATOR(pg_catalog.=) 0 OR c.sync_id OPERATOR(pg_catalog.=) s.sync_id) " \
	"LIMIT 1) c"

List *
is_change_segment_needed_by(int segment)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	uint64		n;

	SPI_connect();
	n = select_from(NEEDED_BY, segment, 0);
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

/* Does any sync need it?  Who needed it last, does so mostly still. */
static bool
segment_needed(int segment)
{
	static int32 needed_by[IS_SEGMENTS];
	bool		isnull;

	if (select_from(psprintf(NEEDED_BY " WHERE t.sync_id OPERATOR(pg_catalog.=) %d",
							 "%s", needed_by[segment]), segment, 1) > 0)
		return true;
	if (select_from(NEEDED_BY, segment, 1) == 0)
		return false;
	needed_by[segment] = DatumGetInt32(is_query_value(0, 1, &isnull));
	return true;
}

/* When was the last transaction captured that wrote to it?  0: it is empty. */
static TimestampTz
last_captured(int segment)
{
	TimestampTz result = 0;

	SPI_connect();
	if (select_from("SELECT captured_at FROM iterable.%s ORDER BY xid DESC", segment, 1) > 0)
	{
		bool		isnull;

		result = DatumGetTimestampTz(is_query_value(0, 1, &isnull));
	}
	SPI_finish();
	return result;
}

static bool
is_used(int segment)
{
	Oid			relid = is_change_segment_relid(segment);

	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return true;
	UnlockRelationOid(relid, AccessExclusiveLock);
	return false;
}

int
is_change_segment_settled(int *order)
{
	int			current = is_change_segment_current();
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz captured[IS_SEGMENTS];
	int			n = 0;
	int			rest = IS_SEGMENTS;

	for (int segment = 0; segment < IS_SEGMENTS; segment++)
	{
		int			i;

		captured[segment] = last_captured(segment);
		if (captured[segment] == 0 || segment == current || is_used(segment) ||
			!TimestampDifferenceExceeds(captured[segment], now, is_rescan_interval * 1000))
		{
			order[--rest] = segment;
			continue;
		}
		for (i = n++; i > 0 && captured[order[i - 1]] > captured[segment]; i--)
			order[i] = order[i - 1];
		order[i] = segment;
	}
	return n;
}

/* ----------------------------------------------------------------
 * All of them
 * ----------------------------------------------------------------
 */

/*
 * Is it time to leave the current segment?  The last one that is empty is kept
 * until what is written to is worth it: when syncs are far behind, segments
 * cannot be emptied for long, and who is then made to lose its place should
 * free a part of the log that counts.
 */
static bool
time_to_move(int64 size, int empty, TimestampTz moved_at)
{
	int64		share = (int64) is_max_change_log_size * 1024 * 1024 / IS_SEGMENTS;

	if (empty == 1)
		return size >= share;
	return size >= Min(share, SEGMENT_BYTES) ||
		TimestampDifferenceExceeds(moved_at, GetCurrentTimestamp(), SEGMENT_SECONDS * 1000);
}

/*
 * Move the writers on to a segment that is empty, if it is time or at_once is
 * set.  Returns the segment that is current now.
 */
static int
move_writers(bool at_once)
{
	static TimestampTz moved_at = 0;
	int			current = is_change_segment_current();
	int			empty = 0;
	int			next = -1;

	if (moved_at == 0)
		moved_at = GetCurrentTimestamp();
	for (int i = 1; i < IS_SEGMENTS; i++)
	{
		int			segment = (current + i) % IS_SEGMENTS;

		if (!is_empty(segment))
			continue;
		if (next < 0)
			next = segment;
		empty++;
	}
	if (is_empty(current) || empty == 0 ||
		!(at_once || time_to_move(is_change_segment_size(current), empty, moved_at)))
		return current;

	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(is_catalog_relation("change_segment")),
						Int64GetDatum((int64) next));
	known_at = 0;
	moved_at = GetCurrentTimestamp();
	return next;
}

static bool
rotate(bool at_once)
{
	int			current;
	bool		emptied = false;

	SPI_connect();

	/*
	 * Before anything is emptied: writers must not be sent to a segment that
	 * stays locked until we have committed, which may take a while.
	 */
	current = move_writers(at_once);

	for (int i = 0; i < IS_SEGMENTS && !emptied; i++)
	{
		Oid			relid = is_change_segment_relid(i);
		char	   *command;

		if (i == current || is_empty(i))
			continue;

		/*
		 * A look without the lock first, so that nobody is kept out while a
		 * segment is read that can't be emptied anyway.
		 */
		if (segment_needed(i) ||
			!ConditionalLockRelationOid(relid, AccessExclusiveLock))
			continue;
		if (segment_needed(i))
		{
			UnlockRelationOid(relid, AccessExclusiveLock);
			continue;
		}
		command = psprintf("TRUNCATE ONLY %s.%s", IS_SCHEMA, segment_names[i]);
		SPI_execute(command, false, 0);
		pfree(command);

		/* one at a time: the lock must not last while others are looked at */
		emptied = true;
	}
	SPI_finish();
	return emptied;
}

bool
is_change_segment_rotate(void)
{
	return rotate(false);
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
	(void) rotate(true);
	PG_RETURN_VOID();
}
