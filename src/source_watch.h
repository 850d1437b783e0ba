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
 * Remember what the source of a sync consists of now, with its triggers in
 * place.  In the caller's transaction; writes as the extension's owner.
 */
extern void is_source_watch_remember(const IsSync *sync);

/*
 * Is the source of a sync what it was?  If not: put the triggers where they
 * belong, as the owner of the table, and ask for a scan of all its syncs.
 * In the engine's transaction.  Errors: those of is_source_resolve(); 55P03
 * the table is locked by others.
 */
extern void is_source_watch_look(const IsSync *sync);

#endif							/* IS_SOURCE_WATCH_H */
