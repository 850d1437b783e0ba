/*-------------------------------------------------------------------------
 *
 * query.h
 *	  Queries on the extension's own tables, prepared once a process.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_QUERY_H
#define IS_QUERY_H

#include "postgres.h"

#include "executor/spi.h"

#define IS_QUERY_MAX_ARGS 20

typedef struct IsQuery
{
	const char *text;
	int			nargs;
	Oid			types[IS_QUERY_MAX_ARGS];
	SPIPlanPtr	plan;
} IsQuery;

/* Initializer of a static IsQuery: text, number of arguments, their types. */
#define IS_QUERY(text, nargs, ...) {text, nargs, {__VA_ARGS__}, NULL}

/*
 * Run a query; SPI must be connected.  nulls as in SPI_execute_plan (NULL:
 * none).  Returns the number of rows, which are in SPI_tuptable.
 */
extern uint64 is_query_run(IsQuery *query, Datum *values, const char *nulls);

/*
 * Plans are kept, and the tables grow from nothing to much within seconds, so
 * statistics mislead: an index is always right.  is_query_run() sees to it;
 * others undo it with AtEOXact_GUC(true, the result).
 */
extern int	is_query_prefer_index(void);

/* Values of a result column of row i; the second form copies to "context". */
extern Datum is_query_value(uint64 i, int column, bool *isnull);
extern char *is_query_text(uint64 i, int column, MemoryContext context);

/* A result column of n rows, copied to "context": a List of char *. */
extern List *is_query_texts(uint64 n, int column, MemoryContext context);

#endif							/* IS_QUERY_H */
