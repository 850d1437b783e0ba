/*-------------------------------------------------------------------------
 *
 * expression.h
 *	  Expressions that users write: of mappings, and filters.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_EXPRESSION_H
#define IS_EXPRESSION_H

#include "postgres.h"

#include "nodes/bitmapset.h"

#include "compat.h"

typedef enum IsExpressionUse
{
	IS_EXPRESSION_MAPPING,
	IS_EXPRESSION_FILTER		/* must be boolean */
} IsExpressionUse;

typedef struct IsExpression
{
	char	   *text;			/* deparsed: means the same under search_path
								 * pg_catalog, pg_temp */
	Oid			type;
	int32		typmod;
	bool		whole_row;		/* reads the row as a whole */
	Bitmapset  *columns;		/* attribute numbers that it reads */
} IsExpression;

/*
 * Parse and check an expression over the columns of a relation.  No row is
 * read; what is constant in it may be evaluated, as the owner of the relation.
 * Names are looked up with search_path pg_catalog, pg_temp and that owner's
 * rights.  The relation's lock is not kept.
 * Errors: 42601 it does not parse or is more than one expression; 42703,
 * 42883 … as PostgreSQL raises them; 0A000 sub-select, aggregate, window
 * function, set-returning or volatile function, parameter, system column,
 * virtual generated column; 42804 a filter is not boolean.
 */
extern IsExpression *is_expression_check(const char *text, Oid relid,
										 IsExpressionUse use);

/*
 * Raise the error of an expression that reads the row as a whole, of a sync that
 * sends rows as they were committed: of those, columns are stored.
 */
pg_noreturn extern void is_expression_refuse_whole_row(void);

#endif							/* IS_EXPRESSION_H */
