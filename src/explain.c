/*-------------------------------------------------------------------------
 *
 * explain.c
 *	  iterable_explain(): what a backfill of all rows would do now.
 *
 * Rows take the way that they take in a run, up to the request: rendered,
 * compared with what is remembered of them, decided about, and put into
 * batches; only that nothing comes of the batches.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/tuplestore.h"

#include "batch.h"
#include "catalog.h"
#include "compat.h"
#include "config.h"
#include "connection.h"
#include "decide.h"
#include "preview.h"

PG_FUNCTION_INFO_V1(iterable_explain);

#define FIRST_CHUNK_ROWS 100

typedef enum Outcome
{
	SEND,
	LOOK_UP,
	UNCHANGED,
	FILTERED,
	SKIPPED,
	REFUSED
} Outcome;

static const char *const outcome_names[] = {
	"send", "look up", "unchanged", "filtered", "skipped", "refused"
};

/* A line of the result. */
typedef struct Line
{
	Outcome		outcome;
	const char *reason;			/* constant, or NULL */
	int64		rows;
	char	   *example;
	IsBatch    *batch;			/* that is being filled; NULL: nothing is sent */
	HTAB	   *claims;			/* of no batch: none waits for a verdict */
	int64		requests;		/* of batches that were full */
	int64		bytes;
} Line;

typedef struct Explanation
{
	const IsSync *sync;
	const IsRenderer *renderer;
	const IsConnection *connection;
	char	   *envelope;
	List	   *lines;			/* of Line * */
	MemoryContext context;		/* holds them */
} Explanation;

static bool
same_reason(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static Line *
find_line(Explanation *explanation, Outcome outcome, const char *reason)
{
	MemoryContext old;
	Line	   *line;
	ListCell   *lc;

	foreach(lc, explanation->lines)
	{
		line = lfirst(lc);
		if (line->outcome == outcome && same_reason(line->reason, reason))
			return line;
	}
	old = MemoryContextSwitchTo(explanation->context);
	line = palloc0(sizeof(Line));
	line->outcome = outcome;
	line->reason = reason;
	explanation->lines = lappend(explanation->lines, line);
	MemoryContextSwitchTo(old);
	return line;
}

/* Count what the batch would send, and drop it. */
static void
finish_batch(Line *line)
{
	if (line->batch == NULL)
		return;
	is_batch_pretend(line->batch);
	line->requests += line->batch->counts.requests;
	line->bytes += line->batch->counts.bytes;
	is_batch_free(line->batch);
	line->batch = NULL;
}

static void
begin_batch(const Explanation *explanation, Line *line)
{
	MemoryContext old = MemoryContextSwitchTo(explanation->context);

	line->batch = is_batch_create(is_render_endpoint(explanation->sync),
								  explanation->envelope,
								  explanation->sync->object == IS_OBJECT_USER,
								  (IsPlace) {0});
	if (line->claims == NULL)
		line->claims = is_batch_claims_create();
	MemoryContextSwitchTo(old);
}

static void
put_into_batch(const Explanation *explanation, Line *line, const IsRow *row)
{
	if (line->batch && is_batch_taken(line->batch, line->claims, row))
		finish_batch(line);
	if (line->batch && is_batch_add(line->batch, row, false, false))
		return;
	finish_batch(line);
	begin_batch(explanation, line);
	(void) is_batch_add(line->batch, row, false, false);
}

/* The outcome of a row about which nothing but its fate would be recorded. */
static Outcome
outcome_of_fate(IsFate fate, const IsRow *row, const char **reason)
{
	switch (fate)
	{
		case IS_FATE_UNCHANGED:
			return UNCHANGED;
		case IS_FATE_REAPPEARED:
			*reason = "reappeared";
			return UNCHANGED;
		case IS_FATE_SKIPPED:
			*reason = "accepted before";
			return SKIPPED;
		case IS_FATE_SEEN:
			*reason = "new";
			return SKIPPED;
		case IS_FATE_REJECTED:
			*reason = row->problem;
			return REFUSED;
		default:
			return FILTERED;
	}
}

static void
explain_row(Explanation *explanation, const IsRow *row, const IsMemory *memory)
{
	IsCircumstances circumstances = {
		.update_only = explanation->connection->update_only
	};
	IsFate		fate = IS_FATE_PENDING;
	IsDecision	decision;
	const char *reason = NULL;
	Outcome		outcome;
	Line	   *line;

	/* deleted since the walk came by */
	if (!row->found && !row->left)
		return;

	decision = is_decide(explanation->sync, row, memory, &circumstances, &fate);
	outcome = decision == IS_DECISION_SEND ? SEND :
		decision == IS_DECISION_SEND_IF_KNOWN ? LOOK_UP :
		outcome_of_fate(fate, row, &reason);
	line = find_line(explanation, outcome, reason);
	if (line->rows++ == 0)
		line->example = MemoryContextStrdup(explanation->context, row->key);
	if (decision != IS_DECISION_NOTE)
		put_into_batch(explanation, line, row);
}

static bool
explain_rows(void *arg, const char **keys, int n, IsRow *rows)
{
	Explanation *explanation = arg;
	bool		captured = is_render_is_captured(explanation->renderer);
	IsMemory   *memory = palloc_array(IsMemory, n + 1);
	IsUserContext save;

	is_catalog_become_owner(&save);
	is_delivery_recall(explanation->sync, keys, NULL, n, memory);
	is_catalog_restore_user(&save);

	/* what was noted and not sent is what a backfill is for */
	for (int i = 0; i < n; i++)
		if (!captured && memory[i].state == IS_DELIVERY_SEEN)
			memory[i] = (IsMemory) {0};
	for (int i = 0; i < n; i++)
		explain_row(explanation, &rows[i], &memory[i]);
	return true;
}

static int
compare_lines(const ListCell *a, const ListCell *b)
{
	const Line *x = lfirst(a);
	const Line *y = lfirst(b);

	if (x->outcome != y->outcome)
		return (int) x->outcome - (int) y->outcome;
	return strcmp(x->reason ? x->reason : "", y->reason ? y->reason : "");
}

static void
put_line(const Explanation *explanation, const Line *line, ReturnSetInfo *rsinfo)
{
	const IsConnection *connection = explanation->connection;
	int64		lookups = line->outcome == LOOK_UP ? line->rows : 0;
	double		seconds = line->requests / connection->rate[is_render_endpoint(explanation->sync)] +
		lookups / connection->rate[IS_ENDPOINT_USER_LOOKUP];
	Datum		values[7] = {0};
	bool		nulls[7] = {false};

	values[0] = CStringGetTextDatum(outcome_names[line->outcome]);
	if (line->reason)
		values[1] = CStringGetTextDatum(line->reason);
	else
		nulls[1] = true;
	values[2] = Int64GetDatum(line->rows);
	if (line->requests > 0)
	{
		values[3] = Int64GetDatum(line->requests + lookups);
		values[4] = Int64GetDatum(line->bytes);
		values[5] = DirectFunctionCall3(numeric_in,
										CStringGetDatum(psprintf("%.2f", seconds)),
										ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	else
		nulls[3] = nulls[4] = nulls[5] = true;
	values[6] = CStringGetTextDatum(line->example);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * iterable_explain(sync text)
 *		returns table(outcome text, reason text, rows bigint, requests bigint,
 *					  bytes bigint, seconds numeric, example text)
 */
Datum
iterable_explain(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	Explanation explanation = {.context = CurrentMemoryContext};
	IsSync	   *sync;
	IsRenderer *renderer;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	sync = is_catalog_get_sync(name);
	explanation.sync = sync;
	explanation.connection = is_connection_describe(sync->connection, sync->owner);
	explanation.envelope = is_api_envelope_open(is_render_endpoint(sync), sync->new_fields,
												is_render_updates_users(sync) &&
												explanation.connection->update_only);
	renderer = is_render_create(sync, explanation.connection->project_type);
	explanation.renderer = renderer;
	is_preview_all(renderer, FIRST_CHUNK_ROWS, explain_rows, &explanation);
	is_render_destroy(renderer);

	list_sort(explanation.lines, compare_lines);
	foreach(lc, explanation.lines)
	{
		finish_batch(lfirst(lc));
		put_line(&explanation, lfirst(lc), (ReturnSetInfo *) fcinfo->resultinfo);
	}
	return (Datum) 0;
}
