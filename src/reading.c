/*-------------------------------------------------------------------------
 *
 * reading.c
 *	  Queries on a source: as its owner, read-only, bounded in time.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "reading.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/analyze.h"
#include "parser/parse_node.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "compat.h"
#include "render.h"

/* ----------------------------------------------------------------
 * Settings
 * ----------------------------------------------------------------
 */

static void
set_setting(const char *name, const char *value)
{
	const char *current = GetConfigOption(name, false, false);

	/* Some are dear to set: timezone_abbreviations reads a file. */
	if (current != NULL && strcmp(current, value) == 0)
		return;

	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

int
is_render_pin_settings(void)
{
	static const char *const settings[][2] = {
		/* what names and literals mean */
		{"search_path", "pg_catalog, pg_temp"},
		{"standard_conforming_strings", "on"},
		{"transform_null_equals", "off"},
		{"array_nulls", "on"},
		{"xmloption", "content"},
		{"default_text_search_config", "pg_catalog.simple"},
		{"timezone_abbreviations", "Default"},
		/* how values are written */
		{"DateStyle", "ISO, MDY"},
		{"IntervalStyle", "postgres"},
		{"TimeZone", "UTC"},
		{"extra_float_digits", "1"},
		{"bytea_output", "hex"},
		{"xmlbinary", "base64"},
		{"quote_all_identifiers", "off"},
		{"lc_monetary", "C"},
		{"lc_numeric", "C"},
		{"lc_time", "C"},
		/* which rows are seen: policies filter and do not raise an error */
		{"row_security", "on"},
		/* compiling takes longer than a chunk */
		{"jit", "off"},
	};
	int			guc_level = NewGUCNestLevel();

	for (int i = 0; i < (int) lengthof(settings); i++)
		set_setting(settings[i][0], settings[i][1]);
	return guc_level;
}

/* ----------------------------------------------------------------
 * Running
 * ----------------------------------------------------------------
 */

ErrorData *
is_reading_try(void (*body) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		body(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/*
 * The relation must not change its name, place or owner between the check of
 * the owner and the end of the query, or the query would run another role's
 * code with the rights of this owner.
 */
static IsRelation *
resolve_and_lock(const IsSync *sync)
{
	for (;;)
	{
		IsRelation *relation = is_source_resolve(sync);
		IsRelation *again;

		LockRelationOid(relation->relid, AccessShareLock);
		again = is_source_resolve(sync);
		if (again->relid == relation->relid)
			return again;
		UnlockRelationOid(relation->relid, AccessShareLock);
	}
}

typedef struct Run
{
	const IsSync *sync;
	IsReadingBody body;
	void	   *arg;
} Run;

static void
run_body(void *arg)
{
	Run		   *run = arg;
	int			guc_level = is_render_pin_settings();
	IsRelation *relation;
	IsUserContext save;

	set_setting("lock_timeout", "200");
	relation = resolve_and_lock(run->sync);
	is_catalog_become(&save, relation->owner);

	/* ends with the subtransaction, as it does after SET LOCAL */
	XactReadOnly = true;
	PushActiveSnapshot(GetTransactionSnapshot());
	run->body(relation, run->arg);
	PopActiveSnapshot();

	/* false: what the owner's code has set goes, too */
	AtEOXact_GUC(false, guc_level);
	is_catalog_restore_user(&save);
}

ErrorData *
is_reading_try_run(const IsSync *sync, int timeout_ms, IsReadingBody body, void *arg)
{
	Run			run = {sync, body, arg};

	/* A statement of a client may have its own limit running. */
	bool		arm = timeout_ms > 0 && !get_timeout_active(STATEMENT_TIMEOUT);
	bool		fired = false;
	ErrorData  *error;

	if (arm)
		enable_timeout_after(STATEMENT_TIMEOUT, timeout_ms);
	error = is_reading_try(run_body, &run);
	if (arm)
	{
		disable_timeout(STATEMENT_TIMEOUT, true);
		fired = get_timeout_indicator(STATEMENT_TIMEOUT, error != NULL);
	}

	/* do not cancel what comes after the error */
	if (error && fired)
		QueryCancelPending = false;

	/* It may have struck too late to stop the body. */
	if (error == NULL && fired)
	{
		CHECK_FOR_INTERRUPTS();
		(void) get_timeout_indicator(STATEMENT_TIMEOUT, true);
	}
	return error;
}

void
is_reading_run(const IsSync *sync, int timeout_ms, IsReadingBody body, void *arg)
{
	ErrorData  *error = is_reading_try_run(sync, timeout_ms, body, arg);

	if (error)
		ReThrowError(error);
}

/* ----------------------------------------------------------------
 * Queries
 * ----------------------------------------------------------------
 */

static void
report_text(void *arg)
{
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery((const char *) arg);
	}
}

void
is_reading_push_text(ErrorContextCallback *callback, const char *text)
{
	callback->callback = report_text;
	callback->arg = unconstify(char *, text);
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

Query *
is_reading_analyze(const char *sql, const IsRelation *relation,
				   const Oid *param_types, int nparams)
{
	ErrorContextCallback callback;
	RawStmt    *raw;
	Query	   *query;
	Oid			relid;

	is_reading_push_text(&callback, sql);
	raw = linitial_node(RawStmt, pg_parse_query(sql));
	query = parse_analyze_fixedparams(raw, sql, param_types, nparams, NULL);

	/* before the rewriter puts its query in the place of a view */
	relid = linitial_node(RangeTblEntry, query->rtable)->relid;
	query = linitial_node(Query, pg_rewrite_query(query));
	error_context_stack = callback.previous;

	/* The lock does not keep the schema from being renamed. */
	if (relid != relation->relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source %s has been replaced", relation->qualified_name)));
	return query;
}

Query *
is_reading_analyze_given(const char *sql, QueryEnvironment *given)
{
	ErrorContextCallback callback;
	RawStmt    *raw;
	Query	   *query;

	is_reading_push_text(&callback, sql);
	raw = linitial_node(RawStmt, pg_parse_query(sql));
	query = parse_analyze_fixedparams(raw, sql, NULL, 0, given);
	query = linitial_node(Query, pg_rewrite_query(query));
	error_context_stack = callback.previous;
	return query;
}

PlannedStmt *
is_reading_plan(Query *query, const char *sql, ParamListInfo params)
{
	return is_plan_query(query, sql, params);
}

ParamListInfo
is_reading_params(const Oid *types, int n)
{
	ParamListInfo params = makeParamList(n);

	for (int i = 0; i < n; i++)
	{
		params->params[i].value = (Datum) 0;
		params->params[i].isnull = false;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = types[i];
	}
	return params;
}

static void
execute(PlannedStmt *plan, const char *sql, ParamListInfo params,
		QueryEnvironment *given, DestReceiver *dest)
{
	QueryDesc  *desc = CreateQueryDesc(plan, sql, GetActiveSnapshot(),
									   InvalidSnapshot, dest, params, given, 0);

	ExecutorStart(desc, 0);
	is_executor_run(desc);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
}

void
is_reading_execute(PlannedStmt *plan, const char *sql, ParamListInfo params,
				   DestReceiver *dest)
{
	execute(plan, sql, params, NULL, dest);
}

void
is_reading_execute_given(PlannedStmt *plan, const char *sql, QueryEnvironment *given,
						 DestReceiver *dest)
{
	execute(plan, sql, NULL, given, dest);
}
