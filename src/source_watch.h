/*-------------------------------------------------------------------------
 *
 * source_watch.h
 *	  Noticing that the capture triggers of a source have been bypassed, or
 *	  that another table has taken its name.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SOURCE_WATCH_H
#define IS_SOURCE_WATCH_H

#include "postgres.h"

#include "catalog.h"

/*
 * Put the triggers of a sync's source where they belong, as the current role,
 * and remember what the source consists of now.  If it is not what it was, and
 * nobody had noticed, a scan of all its syncs is asked for.  In the caller's
 * transaction.  Errors: those of is_source_put_triggers().
 */
extern void is_source_watch_put(const IsSync *sync);

/*
 * Is the source of a sync what it was?  If not: put the triggers, as the owner
 * of the table, and ask for a scan of all its syncs.  Returns true if there may
 * be triggers of it where they do not belong any more: another relation has
 * taken the name, or a partition has left.  In a transaction of the engine, waits for locks
 * for 200 ms.  Errors: those of is_source_resolve(), and if there is anything
 * to do also those of is_source_check(); 55P03 the table is locked by others.
 */
extern bool is_source_watch_look(const IsSync *sync);

/*
 * After that: take the triggers off these, if that can be done at once.  In a
 * transaction of its own.
 */
extern void is_source_watch_tidy(const IsSync *sync);

/*
 * While this relation was remembered, rows of the source were read from another
 * one.  If it still is, the next look takes the source for replaced.
 */
extern void is_source_watch_doubt(int32 source_id, Oid relid);

#endif							/* IS_SOURCE_WATCH_H */
