/*-------------------------------------------------------------------------
 *
 * source.h
 *	  From a sync's source to the relation that bears its name now, with the
 *	  rights that reading it needs, and the capture triggers on it.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SOURCE_H
#define IS_SOURCE_H

#include "postgres.h"

#include "access/attnum.h"

#include "catalog.h"

typedef struct IsKeyColumn
{
	AttrNumber	attno;
	char	   *name;
	Oid			type;
	int32		typmod;
	Oid			collation;
} IsKeyColumn;

/* The relation behind a source, resolved in this transaction. */
typedef struct IsRelation
{
	Oid			relid;
	Oid			owner;			/* render runs as this role */
	bool		captured;		/* by triggers; else runs compare its rows */
	char	   *qualified_name; /* quoted schema.table */
	int			nkeys;
	IsKeyColumn *keys;
} IsRelation;

/*
 * Resolve the source of a sync.  Takes no lock and keeps none.  Errors, each
 * naming the sync's source: 42P01 no such relation; 42809 it has no rows, or
 * not for everybody or not for good; 42501 the sync's owner is not a member
 * of the relation's owner; 42703 a key column is gone; 42P17 a key column has
 * become a type without canonical text.
 */
extern IsRelation *is_source_resolve(const IsSync *sync);

/*
 * May this relation be a source with this key and schedule?  Errors: 42501
 * not the caller's; 42809 nothing that has rows, or temporary, unlogged,
 * system or inheritance parent; 0A000 a key column without canonical text;
 * 42701 a column named twice; 42703 unknown column (hint: the closest).  Of
 * what is captured: 42P10 no valid, non-partial unique index on exactly these
 * columns, or a column that may be NULL (hint: what to create).  Of what is
 * not, that is views, materialized views and foreign tables: 22023 the
 * schedule is continuous, or the sync remembers nothing.
 */
extern void is_source_check(Oid relid, const IsSync *sync);

/* Is the source of a sync captured, as it is now, or not there at all? */
extern bool is_source_may_be_captured(const IsSync *sync);

/*
 * The last two of these for the source as it is now, if it is there; what is
 * asked of a sync that changes, and of one that runs.
 */
extern void is_source_check_compared(const IsSync *sync);

/*
 * Number of a column of a relation; error 42703 (hint: the closest) if it has
 * none of that name.  System columns are none.  Takes no lock.
 */
extern AttrNumber is_source_column(Oid relid, const char *name);

/* How many rows the source of a sync has, as the planner thinks; -1: unknown. */
extern int64 is_source_estimate(const IsSync *sync);

/* Ids of the syncs of a source that have state, as a List of int in order. */
extern List *is_source_syncs(int32 source_id);

/*
 * Do the triggers of a sync's source, and their clones on partitions, capture
 * all that they should?
 */
extern bool is_source_triggers_right(const IsSync *sync);

/*
 * A number that is another one when the triggers on a relation were touched,
 * or when a column that they read is another one or of another type.  whole: no
 * such column is gone; else the triggers capture every change.
 */
extern int64 is_source_triggers_print(const IsSync *sync, Oid relid, bool *whole);

/*
 * Put the capture triggers of a sync's source on its relation, or bring their
 * arguments up to date: watched columns are those that this sync, as given,
 * and all others of the source that have state read.  Does nothing if they
 * are right already, or the source is not captured.  Runs DDL as the current
 * role, which must own the relation (42501), under lock_timeout 2 s; 55P03
 * with a hint when others keep it locked.  Errors of is_source_resolve().
 */
extern void is_source_put_triggers(const IsSync *sync);

/*
 * Of these, only the TRUNCATE triggers of leaf partitions that have none.
 * Leaves out those that the owner of the source does not own, and those that
 * cannot be locked at once.
 */
extern void is_source_put_leaf_triggers(const IsSync *sync);

/* Does a partition of a sync's source have a trigger that sees its TRUNCATE? */
extern bool is_source_truncate_seen(const IsSync *sync, Oid partition);

/*
 * Take the triggers of a sync's source off relations that bear its name no
 * more, and off partitions that it has no more, as their owners, where the
 * sync's owner has these rights and nobody uses the relation.
 */
extern void is_source_drop_old_triggers(const IsSync *sync);

/*
 * Take the triggers of a source off, wherever they stand, if no sync with
 * state uses it any more.  Returns false if any had to stay: because a sync
 * needs them, or with a NOTICE because the current role does not own the
 * table.  55P03 as above.
 */
extern bool is_source_drop_triggers(const IsSource *source);

/*
 * Lock all tables that have capture triggers, for who is going to drop the
 * extension; waits for open writers.
 */
extern void is_source_lock_captured(void);

#endif							/* IS_SOURCE_H */
