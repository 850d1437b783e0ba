/*-------------------------------------------------------------------------
 *
 * capture_compare.h
 *	  What an UPDATE has changed.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CAPTURE_COMPARE_H
#define IS_CAPTURE_COMPARE_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/* What a column is to capture. */
#define IS_COLUMN_WATCHED	0x01
#define IS_COLUMN_KEY		0x02

/* The columns of a relation, up to the last one that matters. */
typedef struct IsCapturedColumns
{
	int			n;
	int			nkeys;			/* columns from here on are not in the key */
	uint8	   *roles;			/* IS_COLUMN_… */
} IsCapturedColumns;

/*
 * The roles of the columns that differ in their bytes, of which the watched
 * ones are not looked for any more when one is found.
 */
extern uint8 is_capture_compare(const IsCapturedColumns *columns, TupleDesc desc,
								HeapTuple old, HeapTuple new);

#endif							/* IS_CAPTURE_COMPARE_H */
