/*-------------------------------------------------------------------------
 *
 * query.c
 *	  Queries on the extension's own tables.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "query.h"

#include "utils/guc.h"
#include "utils/memutils.h"

int
is_query_prefer_index(void)
{
	int			nest = NewGUCNestLevel();

	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	/* a table without a fitting index makes such a plan look expensive */
	(void) set_config_option("jit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest;
}

uint64
is_query_run(IsQuery *query, Datum *values, const char *nulls)
{
	int			rc;
	int			nest;

	if (query->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(query->text, query->nargs, query->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a query: %s",
				 SPI_result_code_string(SPI_result));
		query->plan = plan;
	}

	nest = is_query_prefer_index();
	rc = SPI_execute_plan(query->plan, values, nulls, false, 0);
	AtEOXact_GUC(true, nest);
	if (rc < 0)
		elog(ERROR, "could not run a query: %s", SPI_result_code_string(rc));
	return SPI_processed;
}

Datum
is_query_value(uint64 i, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, column,
						 isnull);
}

char *
is_query_text(uint64 i, int column, MemoryContext context)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[i],
									 SPI_tuptable->tupdesc, column);

	return value ? MemoryContextStrdup(context, value) : NULL;
}

List *
is_query_texts(uint64 n, int column, MemoryContext context)
{
	List	   *result = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		result = lappend(result, is_query_text(i, column, context));
		MemoryContextSwitchTo(spi);
	}
	return result;
}
