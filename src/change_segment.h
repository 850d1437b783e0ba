/*-------------------------------------------------------------------------
 *
 * change_segment.h
 *	  The tables that the change log consists of: which one is written to,
 *	  which ones are needed, and emptying the others.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CHANGE_SEGMENT_H
#define IS_CHANGE_SEGMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

#define IS_SEGMENTS 4

/* Setting: MB that the log may take, with all that belongs to it. */
extern int	is_max_change_log_size;

/* The segment that new changes go to, as it is now; needs no rights. */
extern int	is_change_segment_current(void);

/*
 * The same, opened and locked for a writer, up to 100 ms late.  Close it with
 * NoLock: the lock protects what was written from is_change_segment_rotate().
 */
extern Relation is_change_segment_open(TimestampTz now);

extern Oid	is_change_segment_relid(int segment);

/* Bytes of a segment, with its index and what is stored out of line. */
extern int64 is_change_segment_size(int segment);

/*
 * Ids of the syncs that have not passed this segment, as a List of int: those
 * whose position has changes in it yet to come.
 */
extern List *is_change_segment_needed_by(int segment);

/*
 * All segments into order[]: first those that the writers left at least
 * rescan_interval ago and that nobody is using, so that who still needs one of
 * them is far behind, from the oldest on.  Returns how many of them there are.
 */
extern int	is_change_segment_settled(int *order);

/*
 * Empty a segment that every position has passed, and move the writers to
 * another one when the current one has grown.  Never waits for a lock.  Runs
 * in a transaction of its own.  Returns whether a segment was emptied: there
 * may be more.
 */
extern bool is_change_segment_rotate(void);

#endif							/* IS_CHANGE_SEGMENT_H */
