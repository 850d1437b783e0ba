/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  What people do with failures: try them again, or discard them.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "capture.h"
#include "config.h"
#include "hint.h"
#include "iterable_meaning.h"
#include "state.h"

PG_FUNCTION_INFO_V1(iterable_retry_failures);
PG_FUNCTION_INFO_V1(iterable_discard_failures);

/* The failures of the sync $1 that the other arguments choose. */
#define CHOSEN \
	"WHERE sync_id OPERATOR(pg_catalog.=) $1 " \
	"AND ($2 IS NULL OR key OPERATOR(pg_catalog.=) ANY ($2)) " \
	"AND ($3 IS NULL OR class OPERATOR(pg_catalog.=) $3) " \
	"AND ($4 IS NULL OR code OPERATOR(pg_catalog.=) $4) " \
	"AND ($5 IS NULL OR last_at OPERATOR(pg_catalog.<) " \
	"(pg_catalog.now() OPERATOR(pg_catalog.-) $5)) "

static void
check_keys(ArrayType *keys)
{
	if (array_contains_nulls(keys))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not contain nulls", "keys")));
}

/* A mistyped class would choose nothing. */
static void
check_class(const char *class)
{
	int			n;
	const char *const *classes = is_meaning_classes(&n);
	const char *closest;

	for (int i = 0; i < n; i++)
		if (strcmp(classes[i], class) == 0)
			return;

	closest = is_hint_closest(class, classes, n);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no class \"%s\" of failures", class),
			 closest ? errhint("Perhaps you meant \"%s\".", closest) :
			 errhint("iterable.verdicts() tells all classes.")));
}

static void
check_age(Interval *older_than)
{
	Interval	zero = {0};

	if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(older_than),
										 IntervalPGetDatum(&zero))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative", "older_than")));
}

/*
 * The worker records verdicts with the state of the sync locked: rows of
 * deliveries and failures in one order, which is not that of a query here.
 */
static void
lock_records(int32 sync_id)
{
	IsUserContext save;

	is_catalog_become_owner(&save);
	(void) is_state_load(sync_id, true);
	is_catalog_restore_user(&save);
}

/* Run a query on the failures that the arguments of the function choose. */
static uint64
run_on_chosen(FunctionCallInfo fcinfo, IsQuery *query, const char *function)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	Datum		values[5] = {0};
	char		nulls[6] = "     ";
	int32		sync_id;

	is_config_check_writable(function);
	if (!PG_ARGISNULL(1))
		check_keys(PG_GETARG_ARRAYTYPE_P(1));
	if (!PG_ARGISNULL(2))
		check_class(is_config_arg(fcinfo, 2, "class", true));
	if (!PG_ARGISNULL(4))
		check_age(PG_GETARG_INTERVAL_P(4));

	sync_id = is_catalog_get_sync(name)->sync_id;
	lock_records(sync_id);
	values[0] = Int32GetDatum(sync_id);
	for (int i = 1; i < 5; i++)
	{
		if (PG_ARGISNULL(i))
			nulls[i] = 'n';
		else
			values[i] = PG_GETARG_DATUM(i);
	}
	return is_config_write(query, values, nulls);
}

/*
 * iterable_retry_failures(sync text, keys text[], class text, code text,
 *		older_than interval) returns bigint
 */
Datum
iterable_retry_failures(PG_FUNCTION_ARGS)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync_failure SET next_at = pg_catalog.now() " CHOSEN
				 "AND (next_at IS NULL "
				 "OR next_at OPERATOR(pg_catalog.>) pg_catalog.now())",
				 5, INT4OID, TEXTARRAYOID, TEXTOID, TEXTOID, INTERVALOID);
	uint64		n = run_on_chosen(fcinfo, &query, "iterable_retry_failures()");

	is_capture_wake_on_commit();
	PG_RETURN_INT64((int64) n);
}

/*
 * iterable_discard_failures(sync text, keys text[], class text, code text,
 *		older_than interval) returns bigint
 *
 * Of a failed row Iterable may have a part, or all: without the failure that
 * must not be forgotten, or a row that goes back to what was accepted before
 * it would pass for unchanged.
 */
Datum
iterable_discard_failures(PG_FUNCTION_ARGS)
{
	static IsQuery query =
		IS_QUERY("WITH gone AS (DELETE FROM iterable.sync_failure " CHOSEN "RETURNING key), "
				 "unsure AS (UPDATE iterable.sync_delivery d SET payload_hash = NULL FROM gone "
				 "WHERE d.sync_id OPERATOR(pg_catalog.=) $1 "
				 "AND d.key OPERATOR(pg_catalog.=) gone.key) "
				 "SELECT FROM gone",
				 5, INT4OID, TEXTARRAYOID, TEXTOID, TEXTOID, INTERVALOID);

	PG_RETURN_INT64((int64) run_on_chosen(fcinfo, &query, "iterable_discard_failures()"));
}
