/*-------------------------------------------------------------------------
 *
 * fit.c
 *	  Does what a sync reads fit its source?
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "renderer.h"

#include "access/sysattr.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#include "compat.h"
#include "expression.h"
#include "reading.h"

typedef struct Fitting
{
	IsRenderer *renderer;
	const IsRelation *relation;
	const char *text;
	IsExpressionUse use;
} Fitting;

void
is_renderer_check_versions(const IsRelation *relation)
{
	if (!relation->captured)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("changes of source %s cannot be captured", relation->qualified_name),
				 errdetail("The sync sends rows as they were committed, and only tables can tell that."),
				 errhint("Use iterable_update_sync() with capture => 'key'.")));

	/* What policies hide was not asked for when the row was stored. */
	if (check_enable_rls(relation->relid, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("row security of source %s is forced on its owner",
						relation->qualified_name),
				 errdetail("The sync sends rows as they were committed, and policies are not applied to those."),
				 errhint("Use iterable_update_sync() with capture => 'key', or ALTER TABLE ... NO FORCE ROW LEVEL SECURITY.")));
}

/* What a version can't have: the row as a whole, and values that it never had. */
static void
check_columns(const IsRelation *relation, Query *query)
{
	Bitmapset  *attnos = NULL;
	int			attno = -1;

	pull_varattnos((Node *) query->targetList, 1, &attnos);
	pull_varattnos((Node *) query->jointree, 1, &attnos);
	while ((attno = bms_next_member(attnos, attno)) >= 0)
	{
		AttrNumber	attnum = attno + FirstLowInvalidHeapAttributeNumber;

		if (attnum == InvalidAttrNumber)
			is_expression_refuse_whole_row();
		if (attnum > 0 &&
			get_attgenerated(relation->relid, attnum) == ATTRIBUTE_GENERATED_VIRTUAL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("virtual generated column \"%s\" has no value when a change is captured",
							get_attname(relation->relid, attnum, false)),
					 errhint("Make it a stored generated column, or use capture => 'key'.")));
	}
}

static void
fit_all(void *arg)
{
	Fitting    *fitting = arg;
	bool		versions = fitting->renderer->sync->capture != IS_CAPTURE_KEY;
	Query	   *query;

	if (versions)
		is_renderer_check_versions(fitting->relation);
	query = is_renderer_analyze(fitting->renderer, fitting->relation,
								is_renderer_query(fitting->renderer, fitting->relation, false),
								NULL, 0);
	if (versions)
		check_columns(fitting->relation, query);
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
