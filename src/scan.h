/*-------------------------------------------------------------------------
 *
 * scan.h
 *	  Comparing: finding, by a walk over a source, what Iterable does not have
 *	  as the source has it.
 *
 * A scan reads the rows chunk by chunk, in the order of the unique index, each
 * in a short transaction of its own, and compares them with the deliveries.
 * What differs it puts into the change log, for its sync alone: so that takes
 * the one way that everything takes, and shares its order and its safety.
 * Then it walks the deliveries for rows that are gone.
 *
 * A source that is not captured is read by one query, in one snapshot, in a
 * read-only transaction of its own that lasts as long as the query.  What it
 * has found is then staged, with the payloads that are to be sent, and fed
 * into the log from there: so nothing is open any more, and no row is read
 * again.  An error, be it of the query or in the expressions of a row, is one
 * of the whole pass, and nothing comes of it.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SCAN_H
#define IS_SCAN_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Scans of a sync go one after the other, those of the first kind first.  So
 * what is there is noted before anything is compared with the notes, and a
 * backfill of some rows stays one of these.
 */
typedef enum IsScanKind
{
	IS_SCAN_NOTE,				/* note what is there, and send nothing of it */
	IS_SCAN_COMPARE,			/* find what differs */
	IS_SCAN_BACKFILL			/* also what was noted, or has failed */
} IsScanKind;

/*
 * Ask for a scan of a sync that has state, in the caller's transaction as the
 * extension's owner.  One of that kind that is under way begins anew; if either
 * concerns all rows, or is forced, so is the new one.  condition: deparsed, over
 * the columns of a row, or NULL for all rows, as it must be but for backfills;
 * force: send them also if Iterable has them; reason: constant words for people.
 */
extern void is_scan_request(int32 sync_id, IsScanKind kind, const char *condition,
							bool force, const char *reason);

/*
 * Compare, but look only for deliveries whose rows are gone: nothing is sent
 * because of it.
 */
extern void is_scan_request_check(int32 sync_id, const char *reason);

/*
 * Compare all rows, but one comparing scan that is under way goes on to its end
 * first and is followed by another.  For reasons that may come faster than a
 * scan is done.
 */
extern void is_scan_request_again(int32 sync_id, const char *reason);

/* Are rows being noted, or to be?  Then *since is when that was asked for. */
extern bool is_scan_noting_since(int32 sync_id, TimestampTz *since);

/* Is one asked for, for this reason, that has not begun? */
extern bool is_scan_waits(int32 sync_id, const char *reason);

/*
 * Take back what a person may: a backfill, and, of a source that is not
 * captured, what is being compared, since the next run compares anew.  False if
 * there was nothing.  As above.
 */
extern bool is_scan_cancel(int32 sync_id, bool captured);

/*
 * A scan that has failed is put off: for longer each time, at most for so many
 * seconds.  Somebody has looked after the sync: do not wait any longer.
 */
extern void is_scan_put_off(int32 sync_id, int longest);
extern void is_scan_hurry(int32 sync_id);

typedef struct IsScan IsScan;

typedef enum IsScanStep
{
	IS_SCAN_MORE,				/* call again */
	IS_SCAN_WAIT,				/* call again when what it has found is sent */
	IS_SCAN_DONE				/* free it; there may be another one to do */
} IsScanStep;

/*
 * Take up the next scan of a sync: NULL if another session is at it.  Lives in a
 * context below CurrentMemoryContext.  Call all of these outside of a
 * transaction of the engine.  Errors pass through; what is recorded stays, and
 * another session can go on from there.
 */
extern IsScan *is_scan_create(int32 sync_id);
extern IsScanStep is_scan_step(IsScan *scan);
extern void is_scan_free(IsScan *scan);

#endif							/* IS_SCAN_H */
