/*-------------------------------------------------------------------------
 *
 * iterable_rows.h
 *	  The rows of a bulk request, found by what Iterable's answer names.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_ITERABLE_ROWS_H
#define IS_ITERABLE_ROWS_H

#include "iterable_api.h"
#include "iterable_meaning.h"

typedef struct IsRowIndex IsRowIndex;

/* Forget what was answered: every row IS_VERDICT_UNKNOWN. */
extern void is_rows_reset(IsApiRow *rows, int nrows);

/* Make the index in CurrentMemoryContext; the rows must stay. */
extern IsRowIndex *is_rows_index(IsApiRow *rows, int nrows);

/*
 * Give every row that an entry of a list can mean the list's verdict.
 * Returns false if it fits none.
 */
extern bool is_rows_mark(IsRowIndex *index, const char *entry,
						 const IsMeaning *meaning);

/*
 * How many rows were marked by lists that failCount includes for certain, and
 * how many only by lists that it perhaps does not include.
 */
extern void is_rows_count(const IsRowIndex *index, int *counted, int *perhaps);

#endif							/* IS_ITERABLE_ROWS_H */
