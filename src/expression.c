/*-------------------------------------------------------------------------
 *
 * expression.c
 *	  Expressions that users write: of mappings, and filters.
 *
 * The text is parsed, analyzed and written anew, so that what is stored is
 * one expression and nothing else, with every name bound as it was here.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "expression.h"

#include "access/relation.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "catalog.h"
#include "compat.h"
#include "reading.h"
#include "render.h"

static void
report_not_single(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("not a single expression"),
			 errhint("Write one expression over the columns of the source, without SELECT, an alias, FROM, WHERE or ORDER BY.")));
}

static void
refuse(IsExpressionUse use, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 use == IS_EXPRESSION_FILTER ?
			 errmsg("a filter cannot contain %s", what) :
			 errmsg("an expression of a mapping cannot contain %s", what),
			 hint ? errhint("%s", hint) : 0));
}

/* PL/pgSQL's grammar takes everything that may follow SELECT. */
static Node *
parse(const char *text)
{
	RawStmt    *raw = linitial_node(RawStmt, raw_parser(text, RAW_PARSE_PLPGSQL_EXPR));
	SelectStmt *stmt = castNode(SelectStmt, raw->stmt);
	ResTarget  *target;
	List	   *fields = NIL;

	if (list_length(stmt->targetList) != 1 ||
		stmt->op != SETOP_NONE || stmt->valuesLists != NIL ||
		stmt->withClause != NULL || stmt->intoClause != NULL ||
		stmt->distinctClause != NIL || stmt->fromClause != NIL ||
		stmt->whereClause != NULL || stmt->groupClause != NIL ||
		stmt->havingClause != NULL || stmt->windowClause != NIL ||
		stmt->sortClause != NIL || stmt->limitOffset != NULL ||
		stmt->limitCount != NULL || stmt->lockingClause != NIL)
		report_not_single();

	target = linitial_node(ResTarget, stmt->targetList);
	if (target->name != NULL || target->indirection != NIL)
		report_not_single();

	/* A star is several expressions. */
	if (IsA(target->val, ColumnRef))
		fields = ((ColumnRef *) target->val)->fields;
	else if (IsA(target->val, A_Indirection))
		fields = ((A_Indirection *) target->val)->indirection;
	if (fields != NIL && IsA(llast(fields), A_Star))
		report_not_single();

	return target->val;
}

static Node *
refuse_parameter(ParseState *pstate, ParamRef *pref)
{
	refuse(*(IsExpressionUse *) pstate->p_ref_hook_state, "a parameter", NULL);
	return NULL;
}

/* What parse analysis lets pass in a SELECT list. */
static void
check_parse_state(const ParseState *pstate, IsExpressionUse use)
{
	if (pstate->p_hasSubLinks)
		refuse(use, "a sub-select",
			   "Look the value up in a trigger or a generated column of the source.");
	if (pstate->p_hasAggs)
		refuse(use, "an aggregate function", NULL);
	if (pstate->p_hasWindowFuncs)
		refuse(use, "a window function", NULL);
	if (pstate->p_hasTargetSRFs)
		refuse(use, "a set-returning function", NULL);
}

static void
check_columns(IsExpression *result, Node *expr, Oid relid, IsExpressionUse use)
{
	Bitmapset  *attnos = NULL;
	int			attno = -1;

	pull_varattnos(expr, 1, &attnos);
	while ((attno = bms_next_member(attnos, attno)) >= 0)
	{
		int			real = attno + FirstLowInvalidHeapAttributeNumber;

		if (real < 0)
			refuse(use, "a system column", NULL);
		if (real > 0 && get_attgenerated(relid, real) == ATTRIBUTE_GENERATED_VIRTUAL)
			refuse(use, "a virtual generated column",
				   "A change of it cannot be seen. Make it a stored generated column, or write what generates it.");
		if (real == 0)
			result->whole_row = true;
		else
			result->columns = bms_add_member(result->columns, real);
	}
}

static IsExpression *
check(const char *text, Relation rel, IsExpressionUse use)
{
	IsExpression *result = palloc0(sizeof(IsExpression));
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *nsitem;
	Node	   *expr;

	pstate->p_sourcetext = text;
	pstate->p_paramref_hook = refuse_parameter;
	pstate->p_ref_hook_state = &use;
	nsitem = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL,
										   false, true);
	addNSItemToQuery(pstate, nsitem, true, true, true);

	expr = transformExpr(pstate, parse(text), EXPR_KIND_SELECT_TARGET);
	if (use == IS_EXPRESSION_MAPPING && exprType(expr) == UNKNOWNOID)
		expr = coerce_type(pstate, expr, UNKNOWNOID, TEXTOID, -1,
						   COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
	if (use == IS_EXPRESSION_FILTER)
		expr = coerce_to_boolean(pstate, expr, "filter");
	assign_expr_collations(pstate, expr);
	check_parse_state(pstate, use);
	check_columns(result, expr, RelationGetRelid(rel), use);

	/* Default arguments come into sight only when the expression is planned. */
	if (contain_volatile_functions(expr) ||
		contain_volatile_functions((Node *) expression_planner(copyObject((Expr *) expr))))
		refuse(use, "a volatile function",
			   "The same row must give the same payload, whenever it is read.");

	result->type = exprType(expr);
	result->typmod = exprTypmod(expr);
	result->text = deparse_expression(expr,
									  deparse_context_for(RelationGetRelationName(rel),
														  RelationGetRelid(rel)),
									  false, false);
	free_parsestate(pstate);
	return result;
}

IsExpression *
is_expression_check(const char *text, Oid relid, IsExpressionUse use)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	ErrorContextCallback callback;
	IsExpression *result;
	IsUserContext save;
	int			guc_level;

	/*
	 * Constants go through input functions, and immutable functions of them
	 * are evaluated: as the role that the expression will run as.
	 */
	is_catalog_become(&save, rel->rd_rel->relowner);
	guc_level = is_render_pin_settings();
	is_reading_push_text(&callback, text);

	result = check(text, rel, use);

	error_context_stack = callback.previous;
	AtEOXact_GUC(false, guc_level);
	is_catalog_restore_user(&save);

	/* Whoever puts triggers on the relation next needs a stronger lock. */
	relation_close(rel, AccessShareLock);
	return result;
}

void
is_expression_refuse_whole_row(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the row as a whole cannot be read from rows as they were committed"),
			 errhint("Name the columns that the expression needs, or use capture => 'key'.")));
}
