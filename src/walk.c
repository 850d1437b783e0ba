/*-------------------------------------------------------------------------
 *
 * walk.c
 *	  The keys or rows of a source in order, piece by piece.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "render.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_index.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "compat.h"
#include "key.h"
#include "payload.h"
#include "reading.h"
#include "renderer.h"

/* A piece may hold twenty chunks, or have to be sorted. */
#define WALK_TIMEOUT_MS 60000

typedef struct Walk
{
	DestReceiver dest;			/* must be first */
	IsRenderer *renderer;
	const char *after;
	int			max;

	const char *filter;			/* of a source that is not captured, or NULL */
	const IsRelation *relation;
	Oid			key_types[INDEX_MAX_KEYS];
	MemoryContext result_context;	/* of the keys and what rows point to */
	MemoryContext row_context;
	StringInfoData key;
	List	   *keys;			/* of char *, or … */
	IsRow	   *rows;			/* … if this is not NULL rows are wanted */
	int			n;
	IsPayloadWriter writer;
} Walk;

/*
 * The key columns as the unique index has them, as numbers into
 * relation->keys: in another order every piece would have to be sorted.
 */
static void
find_order(const IsRelation *relation, int *order)
{
	Relation	rel = table_open(relation->relid, NoLock);
	ListCell   *lc;

	for (int i = 0; i < relation->nkeys; i++)
		order[i] = i;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		int			found = 0;
		int			numbers[INDEX_MAX_KEYS];

		if (form->indisunique && form->indimmediate && form->indisvalid &&
			form->indnkeyatts == relation->nkeys &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
			for (int i = 0; i < relation->nkeys; i++)
				for (int k = 0; k < relation->nkeys; k++)
					if (form->indkey.values[i] == relation->keys[k].attno)
						numbers[found++] = k;
		index_close(index, AccessShareLock);
		if (found == relation->nkeys)
		{
			memcpy(order, numbers, found * sizeof(int));
			break;
		}
	}
	table_close(rel, NoLock);
}

static void
append_columns(StringInfo sql, const IsRelation *relation, const int *order)
{
	for (int i = 0; i < relation->nkeys; i++)
		appendStringInfo(sql, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(relation->keys[order[i]].name));
}

/* (columns) > (parameters) */
static void
append_bound(StringInfo sql, const IsRelation *relation, const int *order)
{
	appendStringInfoString(sql, "ROW(");
	append_columns(sql, relation, order);
	appendStringInfoString(sql, ") OPERATOR(pg_catalog.>) ROW(");
	for (int i = 0; i < relation->nkeys; i++)
		appendStringInfo(sql, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(sql, ')');
}

static char *
build_query(const Walk *walk, const IsRelation *relation, const int *order)
{
	StringInfoData sql;
	const char *joint = " WHERE ";

	initStringInfo(&sql);
	if (walk->rows)
		appendStringInfoString(&sql, is_renderer_query(walk->renderer, relation, false));
	else
	{
		/* What is not captured may have keys several times, or none. */
		appendStringInfoString(&sql, relation->captured ? "SELECT " : "SELECT DISTINCT ");
		for (int i = 0; i < relation->nkeys; i++)
			appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "",
							 quote_identifier(relation->keys[i].name));
		appendStringInfo(&sql, " FROM %s", relation->qualified_name);
	}
	if (walk->after)
	{
		appendStringInfoString(&sql, joint);
		append_bound(&sql, relation, order);
		joint = " AND ";
	}
	if (!relation->captured)
	{
		for (int i = 0; i < relation->nkeys; i++)
		{
			appendStringInfo(&sql, "%s%s IS NOT NULL", joint,
							 quote_identifier(relation->keys[i].name));
			joint = " AND ";
		}
		if (walk->filter)
			appendStringInfo(&sql, " AND (%s)", walk->filter);
	}

	/* by number: names of columns may be those of expressions, too */
	for (int i = 0; i < relation->nkeys; i++)
		appendStringInfo(&sql, "%s%d", i > 0 ? ", " : " ORDER BY ", order[i] + 1);
	appendStringInfo(&sql, " LIMIT %d", walk->max);
	return sql.data;
}

/* Values for the columns of the bound, in index order. */
static void
bind_bound(ParamListInfo params, const char *key, const IsRelation *relation,
		   const int *order)
{
	char	  **texts = is_key_split(key, relation->nkeys);

	for (int i = 0; i < relation->nkeys; i++)
		params->params[i].value =
			is_key_value(texts[order[i]],
						 is_renderer_key_type(&relation->keys[order[i]]));
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	Walk	   *walk = (Walk *) self;
	int			nkeys = walk->relation->nkeys;
	MemoryContext old;
	char	   *key;

	slot_getallattrs(slot);
	for (int i = 0; i < nkeys; i++)
		if (slot->tts_isnull[i])
			return true;

	old = MemoryContextSwitchTo(walk->row_context);
	resetStringInfo(&walk->key);
	is_key_append(&walk->key, nkeys, walk->key_types, slot->tts_values);
	key = MemoryContextStrdup(walk->result_context, walk->key.data);
	if (walk->rows)
	{
		IsRow	   *row = &walk->rows[walk->n++];

		*row = (IsRow) {.key = key, .found = true};
		is_payload_write(&walk->writer, row, slot->tts_values + nkeys,
						 slot->tts_isnull + nkeys);
	}
	else
	{
		MemoryContextSwitchTo(walk->result_context);
		walk->keys = lappend(walk->keys, key);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(walk->row_context);
	return true;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
receiver_end(DestReceiver *self)
{
}

static void
run_walk(const IsRelation *relation, void *arg)
{
	Walk	   *walk = arg;
	int			order[INDEX_MAX_KEYS];
	Oid			types[INDEX_MAX_KEYS];
	int			ntypes = 0;
	char	   *sql;
	ParamListInfo params;
	Query	   *query;

	/*
	 * Whatever the estimates say: a plan that reads and sorts all that is
	 * left, for every piece, must not win where an index gives the order.
	 */
	if (relation->captured)
		(void) set_config_option("enable_sort", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);

	is_renderer_note(walk->renderer, relation);
	walk->relation = relation;
	find_order(relation, order);
	for (int i = 0; i < relation->nkeys; i++)
		walk->key_types[i] = relation->keys[i].type;
	if (walk->after)
		for (int i = 0; i < relation->nkeys; i++)
			types[ntypes++] = is_renderer_key_type(&relation->keys[order[i]]);

	sql = build_query(walk, relation, order);
	query = walk->rows ?
		is_renderer_analyze(walk->renderer, relation, sql, types, ntypes) :
		is_reading_analyze(sql, relation, types, ntypes);
	params = is_reading_params(types, ntypes);
	if (walk->after)
		bind_bound(params, walk->after, relation, order);

	walk->row_context = AllocSetContextCreate(CurrentMemoryContext,
											  "iterable_sync row",
											  ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&walk->key);
	if (walk->rows)
		is_payload_begin(&walk->writer, walk->renderer);
	is_reading_execute(is_reading_plan(query, sql, params), sql, params,
					   &walk->dest);
	if (walk->rows)
		is_payload_end(&walk->writer);
}

/* As is_reading_try_run() */
static ErrorData *
try_walk(Walk *walk)
{
	IsRenderer *renderer = walk->renderer;
	MemoryContext old;
	ErrorData  *error;

	walk->dest = (DestReceiver) {receive, receiver_startup, receiver_end,
		receiver_end, DestNone
	};
	walk->filter = renderer->sync->filter;
	walk->result_context = CurrentMemoryContext;
	walk->writer.result_context = CurrentMemoryContext;
	MemoryContextReset(renderer->work_context);
	old = MemoryContextSwitchTo(renderer->work_context);
	error = is_reading_try_run(renderer->sync,
							   renderer->captured ? WALK_TIMEOUT_MS : 0, run_walk,
							   walk);
	MemoryContextSwitchTo(old);
	return error;
}

List *
is_render_walk_keys(IsRenderer *renderer, const char *after, int max)
{
	Walk		walk = {.renderer = renderer, .after = after, .max = max};
	ErrorData  *error = try_walk(&walk);

	if (error)
		ReThrowError(error);
	return walk.keys;
}

/*
 * With a filter the rows for which it is not true are wanted, too, and not the
 * values of what is mapped of them.  And an error of one row must not be one
 * of others.
 */
int
is_render_walk_rows(IsRenderer *renderer, const char *after, int max, IsRow *rows)
{
	const char **keys;
	int			n = 0;
	ListCell   *lc;

	if (renderer->captured && renderer->sync->filter == NULL)
	{
		Walk		walk = {.renderer = renderer, .after = after, .max = max, .rows = rows};
		ErrorData  *error = try_walk(&walk);

		if (error == NULL)
			return walk.n;
		if (is_renderer_blames_sync(error))
			ReThrowError(error);
	}

	keys = palloc_array(const char *, max);
	foreach(lc, is_render_walk_keys(renderer, after, max))
		keys[n++] = lfirst(lc);
	is_render_rows(renderer, keys, n, rows);
	return n;
}
