/*-------------------------------------------------------------------------
 *
 * reading.h
 *	  Queries on a source: as its owner, read-only, bounded in time, and on
 *	  the very relation whose owner was checked.
 *
 * A query is analyzed and planned anew each time.  That costs a fraction of
 * what reading a chunk costs, and there is no plan that could outlive the
 * role, the relation or the types that it was made for.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_READING_H
#define IS_READING_H

#include "postgres.h"

#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "tcop/dest.h"
#include "utils/queryenvironment.h"

#include "catalog.h"
#include "source.h"

/*
 * Resolve the source of a sync, lock it ACCESS SHARE, and call body with the
 * relation in a subtransaction: current role is its owner, security-restricted,
 * settings are pinned, a snapshot is active, lock_timeout is 200 ms, and the
 * whole must end within timeout_ms (0: takes its time).  Errors: is_source_resolve()'s and body's.
 */
typedef void (*IsReadingBody) (const IsRelation *relation, void *arg);
extern void is_reading_run(const IsSync *sync, int timeout_ms,
						   IsReadingBody body, void *arg);

/* The same, but an error is returned (NULL: none), after a rollback. */
extern ErrorData *is_reading_try_run(const IsSync *sync, int timeout_ms,
									 IsReadingBody body, void *arg);

/*
 * Analyze a SELECT whose first FROM item is the relation; error 55000 if the
 * name means another relation by now.
 */
extern Query *is_reading_analyze(const char *sql, const IsRelation *relation,
								 const Oid *param_types, int nparams);

/*
 * The same for a SELECT from rows that are given: its FROM item is a name in
 * the environment.
 */
extern Query *is_reading_analyze_given(const char *sql, QueryEnvironment *given);

/*
 * Plan what is_reading_analyze() made (query is used up).  With params it is
 * the plan for these values, without it is one for any values.
 */
extern PlannedStmt *is_reading_plan(Query *query, const char *sql,
									ParamListInfo params);

/* Parameters as a list for the above and below; values may be set later. */
extern ParamListInfo is_reading_params(const Oid *types, int n);

/* Run a plan; rows go to dest. */
extern void is_reading_execute(PlannedStmt *plan, const char *sql,
							   ParamListInfo params, DestReceiver *dest);
extern void is_reading_execute_given(PlannedStmt *plan, const char *sql,
									 QueryEnvironment *given, DestReceiver *dest);

/*
 * Run body in a subtransaction of its own.  Returns NULL if it succeeded,
 * else the error, after a rollback.
 */
extern ErrorData *is_reading_try(void (*body) (void *arg), void *arg);

/*
 * While this is on error_context_stack, positions of syntax errors refer to
 * the text, and not to the statement of the client.
 */
extern void is_reading_push_text(ErrorContextCallback *callback,
								 const char *text);

#endif							/* IS_READING_H */
