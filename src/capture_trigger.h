/*-------------------------------------------------------------------------
 *
 * capture_trigger.h
 *	  What the capture trigger must know of itself: its arguments, resolved
 *	  against its relation and kept while nothing changes.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CAPTURE_TRIGGER_H
#define IS_CAPTURE_TRIGGER_H

#include "postgres.h"

#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "capture_compare.h"
#include "capture_row.h"

/* A trigger's arguments, resolved against its relation. */
typedef struct IsCaptureTrigger
{
	Oid			tgoid;			/* hash key */
	Oid			relid;
	bool		valid;			/* false: fill again before use */
	MemoryContext context;		/* holds the arrays below */
	int32		source_id;
	bool		lost;			/* a key column is gone: no key can be told */
	int			nkeys;
	AttrNumber *key_attnos;
	Oid		   *key_types;
	IsCapturedColumns columns;
	IsStoredColumns *stored;	/* NULL: keys only */
	bool		composites;		/* it depends on composite types */
} IsCaptureTrigger;

/* Called from _PG_init. */
extern void is_capture_trigger_register(void);

/*
 * The definition of a trigger on a relation, good until the relation cache is
 * told of a change.  Errors: 39P01 too many or too few key columns, 22P02
 * arguments that are no lists.
 */
extern IsCaptureTrigger *is_capture_trigger_get(Relation rel, Trigger *trigger);

#endif							/* IS_CAPTURE_TRIGGER_H */
