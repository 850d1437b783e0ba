/*-------------------------------------------------------------------------
 *
 * capture_row.h
 *	  The versions of rows in the buffer of the capture trigger.  Runs in
 *	  users' transactions.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CAPTURE_ROW_H
#define IS_CAPTURE_ROW_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/relcache.h"

#include "row_version.h"

/* The columns that a trigger stores, resolved against its relation. */
typedef struct IsStoredColumns
{
	int			n;
	AttrNumber *attnums;
	AttrNumber	last;			/* the highest of them */
	TupleDesc	desc;			/* of what is stored */
	IsShape    *shape;
	bool		composites;		/* is_version_has_composites() */
	Datum	   *values;
	bool	   *nulls;
} IsStoredColumns;

/*
 * Resolve these columns (all of them if n < 0, but those that have no value),
 * in CurrentMemoryContext.
 */
extern IsStoredColumns *is_capture_row_resolve(Relation rel,
											   const AttrNumber *attnums, int n);

/* Can it fail to store the columns of a row? */
extern bool is_capture_row_may_fail(IsStoredColumns *columns, TupleTableSlot *slot);

/* Versions, an IsStoredVersion a captured key, in TopTransactionContext. */
typedef struct IsVersionBuffer
{
	char	   *data;
	Size		size;
	Size		len;
	IsShape   **shapes;
	int			nshapes;
	int			shapes_size;
} IsVersionBuffer;

/*
 * Append the version of a row, or, without columns or of a row that is too
 * large, that there is none.
 */
extern void is_capture_row_append(IsVersionBuffer *buffer,
								  IsStoredColumns *columns, TupleTableSlot *slot);

/* The last n versions of the buffer, from this byte on, as the log keeps them. */
extern bytea *is_capture_row_pack(const IsVersionBuffer *buffer, Size from, int n);

#endif							/* IS_CAPTURE_ROW_H */
