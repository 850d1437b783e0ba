/*-------------------------------------------------------------------------
 *
 * fit.c
 *	  Does what a sync reads fit its source?
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "renderer.h"

#include "expression.h"
#include "reading.h"

typedef struct Fitting
{
	IsRenderer *renderer;
	const IsRelation *relation;
	const char *text;
	IsExpressionUse use;
} Fitting;

static void
fit_all(void *arg)
{
	Fitting    *fitting = arg;

	(void) is_renderer_analyze(fitting->renderer, fitting->relation,
							   is_renderer_query(fitting->renderer, fitting->relation, false),
							   NULL, 0);
}

static void
fit_one(void *arg)
{
	Fitting    *fitting = arg;

	(void) is_expression_check(fitting->text, fitting->relation->relid, fitting->use);
}

/* Raise the error of an expression, if it has one, with the place that it has. */
static void
check_fit(Fitting *fitting, const char *text, IsExpressionUse use, const char *place)
{
	ErrorData  *error;

	fitting->text = text;
	fitting->use = use;
	error = is_reading_try(fit_one, fitting);
	if (error && ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION)
		ereport(ERROR,
				(errcode(error->sqlerrcode),
				 errmsg("%s", error->message),
				 errdetail("%s", place),
				 errhint("Give the source what is missing, or change what reads it.")));
}

/* The query as a whole tells what is wrong, but not where. */
void
is_renderer_fit(const IsRelation *relation, void *arg)
{
	Fitting		fitting = {.renderer = arg, .relation = relation};
	const IsSync *sync = fitting.renderer->sync;
	ErrorData  *error = is_reading_try(fit_all, &fitting);
	ListCell   *lc;

	fitting.renderer->captured = relation->captured;
	if (error == NULL)
		return;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION && error->detail == NULL)
	{
		foreach(lc, fitting.renderer->mappings)
		{
			const IsMapping *mapping = lfirst(lc);

			if (mapping->expression)
				check_fit(&fitting, mapping->expression, IS_EXPRESSION_MAPPING,
						  psprintf("It is needed by the mapping to \"%s\".",
								   mapping->destination));
		}
		if (sync->filter)
			check_fit(&fitting, sync->filter, IS_EXPRESSION_FILTER,
					  "It is needed by the filter.");
	}
	ReThrowError(error);
}
