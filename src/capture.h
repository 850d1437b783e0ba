/*-------------------------------------------------------------------------
 *
 * capture.h
 *	  The capture trigger and its buffer.  Runs in users' transactions.
 *
 * Trigger arguments: source id; the key columns as a text array literal; the
 * watched columns as a text array literal, or '*' for every column; and, where
 * a sync wants rows as they were committed, the stored columns likewise.  Newer
 * versions may append to them; a session that has an older library loaded
 * still, and does not know what they mean, logs IS_OP_LOST instead of keys.
 *
 * That the source is the relation's is not checked.  What is known for sure of
 * that stands in tables, which capture does not read, and it changes without
 * the trigger's relation hearing of it (ALTER SCHEMA RENAME, a root that is
 * renamed): a cached "no" could lose a change.  So whoever owns a table can put
 * a trigger on it that makes the syncs of any source look at rows of theirs
 * again.  What is sent is read from the source, and only if it differs; a stored
 * version counts only if the relation's owner is that of the source.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CAPTURE_H
#define IS_CAPTURE_H

#include "postgres.h"

/* Called from _PG_init. */
extern void is_capture_register(void);

/*
 * Wake this database's worker when the current transaction commits, as a
 * captured change would: for functions that give the worker something to do.
 */
extern void is_capture_wake_on_commit(void);

/* Has the current transaction captured anything? */
extern bool is_capture_pending(void);

#endif							/* IS_CAPTURE_H */
