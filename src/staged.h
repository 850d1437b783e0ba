/*-------------------------------------------------------------------------
 *
 * staged.h
 *	  What one pass over a source that is not captured has found: its keys,
 *	  and the rendered rows that are to be sent.
 *
 * The tables are unlogged.  After a crash they are empty; a staging that is
 * not complete, or of an older definition of the sync, counts for nothing.
 * Works in the caller's transaction as the extension's owner, like state.h.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_STAGED_H
#define IS_STAGED_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/tuplestore.h"

#include "delivery.h"
#include "render.h"

/*
 * On the way from the pass to the table, rows are in a tuplestore of this
 * form.  op 0: only that the key is there; memory: what the row was compared
 * with, or NULL.
 */
extern TupleDesc is_staged_desc(void);
extern void is_staged_store(Tuplestorestate *store, TupleDesc desc, const IsRow *row,
							char op, const IsMemory *memory);

/*
 * Put the next rows of the store into the table, at most so many.  False if
 * there are no more.
 */
extern bool is_staged_put(int32 sync_id, Tuplestorestate *store, TupleDesc desc,
						  int max);

/* The same, but note those that are found. */
extern bool is_staged_note(int32 sync_id, Tuplestorestate *store, TupleDesc desc,
						   int max);

/* All of them are there; is that so? */
extern void is_staged_finish(int32 sync_id, int64 scan_id, int32 version);
extern bool is_staged_is_complete(int32 sync_id, int64 scan_id, int32 version);

/* Forget at most so many rows; returns how many they were.  Or all. */
extern int	is_staged_forget(int32 sync_id, int max);
extern void is_staged_forget_all(int32 sync_id);

/*
 * The next keys with something to send after "after" (NULL: from the first),
 * at most max, as a List of char *, and their letters in *ops.
 */
extern List *is_staged_next(int32 sync_id, const char *after, int max, char **ops);

/*
 * Which of these keys, of deliveries and failures, were not found?  They are
 * staged as gone and returned; of rows that were only seen or noted nothing is
 * known any more.  What was sent since "since" is left alone: it is newer than what
 * was found.
 */
extern List *is_staged_missing(int32 sync_id, const List *keys, TimestampTz since);

/*
 * The rows of these keys as they were found, in CurrentMemoryContext.  A row
 * that is not staged, or of which something else has been sent since, is
 * "unread".
 */
extern void is_staged_take(int32 sync_id, int32 version, const char **keys, int n,
						   IsRow *rows);

#endif							/* IS_STAGED_H */
