/*-------------------------------------------------------------------------
 *
 * pass.c
 *	  All rows of a source by one query, rendered in portions.
 *
 * For views: whose rows are dear to find by key, so that one query for all of
 * them is the cheapest that there is, and the only one that sees them as they
 * were together.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "render.h"

#include "catalog/pg_index.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "key.h"
#include "payload.h"
#include "reading.h"
#include "renderer.h"

/* Rows of a portion: at most, and as many as make about so many bytes. */
#define PORTION_ROWS 1000
#define PORTION_BYTES (8 * 1024 * 1024)

typedef struct Pass
{
	DestReceiver dest;			/* must be first */
	IsRenderer *renderer;
	bool		left;			/* the keys of the others, too */
	IsRenderSee see;
	void	   *arg;
	int64		nulls;

	const IsRelation *relation;
	Oid			key_types[INDEX_MAX_KEYS];
	IsPayloadWriter writer;
	StringInfoData key;
	MemoryContext row_context;
	MemoryContext portion_context;
	bool		leaving;		/* they come now */
	bool		stopped;

	int			n;
	Size		bytes;
	const char *keys[PORTION_ROWS];
	IsRow		rows[PORTION_ROWS];
} Pass;

static void
finish_portion(Pass *pass)
{
	MemoryContext old;

	if (pass->n == 0)
		return;
	old = MemoryContextSwitchTo(pass->portion_context);
	if (!pass->see(pass->arg, pass->keys, pass->n, pass->rows))
		pass->stopped = true;
	MemoryContextSwitchTo(old);
	MemoryContextReset(pass->portion_context);
	pass->n = 0;
	pass->bytes = 0;
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	Pass	   *pass = (Pass *) self;
	int			nkeys = pass->relation->nkeys;
	MemoryContext old;
	IsRow	   *row;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	for (int i = 0; i < nkeys; i++)
		if (slot->tts_isnull[i])
		{
			if (!pass->leaving)
				pass->nulls++;
			return true;
		}

	old = MemoryContextSwitchTo(pass->row_context);
	resetStringInfo(&pass->key);
	is_key_append(&pass->key, nkeys, pass->key_types, slot->tts_values);
	row = &pass->rows[pass->n];
	*row = (IsRow) {.found = !pass->leaving, .left = pass->leaving};
	row->key = MemoryContextStrdup(pass->portion_context, pass->key.data);
	pass->keys[pass->n++] = row->key;
	if (row->found)
		is_payload_write(&pass->writer, row, slot->tts_values + nkeys,
						 slot->tts_isnull + nkeys);
	pass->bytes += row->payload_len;
	MemoryContextSwitchTo(old);
	MemoryContextReset(pass->row_context);

	if (pass->n == PORTION_ROWS || pass->bytes >= PORTION_BYTES)
		finish_portion(pass);
	return !pass->stopped;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
receiver_end(DestReceiver *self)
{
}

/* The keys of rows for which the filter is not true. */
static char *
build_left_query(const IsRenderer *renderer, const IsRelation *relation)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < relation->nkeys; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(relation->keys[i].name));
	appendStringInfo(&sql, " FROM %s WHERE (%s) IS NOT TRUE",
					 relation->qualified_name, renderer->sync->filter);
	return sql.data;
}

static void
run_query(Pass *pass, Query *query, const char *sql)
{
	is_reading_execute(is_reading_plan(query, sql, NULL), sql, NULL, &pass->dest);
	finish_portion(pass);
}

static void
run_pass(const IsRelation *relation, void *arg)
{
	Pass	   *pass = arg;
	IsRenderer *renderer = pass->renderer;
	char	   *sql = is_renderer_query(renderer, relation, false);
	Query	   *query = is_renderer_analyze(renderer, relation, sql, NULL, 0);

	pass->relation = relation;
	for (int i = 0; i < relation->nkeys; i++)
		pass->key_types[i] = relation->keys[i].type;
	pass->portion_context = AllocSetContextCreate(CurrentMemoryContext,
												  "iterable_sync portion",
												  ALLOCSET_DEFAULT_SIZES);
	pass->row_context = AllocSetContextCreate(CurrentMemoryContext,
											  "iterable_sync row",
											  ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&pass->key);
	pass->writer.result_context = pass->portion_context;
	is_payload_begin(&pass->writer, renderer);
	run_query(pass, query, sql);
	is_payload_end(&pass->writer);

	if (pass->left && renderer->sync->filter && !pass->stopped)
	{
		pass->leaving = true;
		sql = build_left_query(renderer, relation);
		run_query(pass, is_reading_analyze(sql, relation, NULL, 0), sql);
	}
}

ErrorData *
is_render_try_pass(IsRenderer *renderer, bool left, IsRenderSee see, void *arg,
				   int64 *nulls)
{
	MemoryContext old;
	ErrorData  *error;
	Pass	   *pass;

	MemoryContextReset(renderer->work_context);
	old = MemoryContextSwitchTo(renderer->work_context);
	pass = palloc0_object(Pass);
	pass->dest = (DestReceiver) {receive_row, receiver_startup, receiver_end,
		receiver_end, DestNone
	};
	pass->renderer = renderer;
	pass->left = left;
	pass->see = see;
	pass->arg = arg;
	error = is_reading_try_run(renderer->sync, 0, run_pass, pass);
	*nulls = pass->nulls;
	MemoryContextSwitchTo(old);
	if (error == NULL)
		MemoryContextReset(renderer->work_context);
	return error;
}

void
is_render_pass(IsRenderer *renderer, bool left, IsRenderSee see, void *arg, int64 *nulls)
{
	ErrorData  *error = is_render_try_pass(renderer, left, see, arg, nulls);

	if (error)
		ReThrowError(error);
}
