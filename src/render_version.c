/*-------------------------------------------------------------------------
 *
 * render_version.c
 *	  From versions of rows, as they were committed, to payloads.
 *
 * The versions are given to the executor as the rows of transition tables are
 * given to triggers, under the name of the source: the same expressions are
 * evaluated over them, as the same role, and written by the same writer.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "render.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "payload.h"
#include "reading.h"
#include "renderer.h"

#define READ_TIMEOUT_MS 10000

typedef struct Rendering
{
	DestReceiver dest;			/* must be first */
	IsRenderer *renderer;
	const IsRelation *relation;
	IsRow	   *rows;
	int			n;
	IsPayloadWriter writer;
	IsTrial		trial;

	/* of one shape */
	const IsShape *shape;
	TupleDesc	desc;			/* its columns, what it lacks, and a number */
	char	   *sql;
	PlannedStmt *plan;
	QueryEnvironment *given;
	EphemeralNamedRelation relation_given;
} Rendering;

/* ----------------------------------------------------------------
 * The query
 * ----------------------------------------------------------------
 */

/*
 * Names of the columns that the source has, and the shape has not.  Of one
 * that it has, but which can't be read, it is an error to ask.
 */
static List *
find_lacking(const Rendering *rendering, TupleDesc shape_desc)
{
	Relation	rel = table_open(rendering->relation->relid, NoLock);
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *lacking = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped &&
			!is_version_has_column(rendering->shape, shape_desc, NameStr(att->attname)))
		{
			Form_pg_attribute copy = palloc(ATTRIBUTE_FIXED_PART_SIZE);

			memcpy(copy, att, ATTRIBUTE_FIXED_PART_SIZE);
			lacking = lappend(lacking, copy);
		}
	}
	table_close(rel, NoLock);
	return lacking;
}

/* A name that none of the columns has. */
static char *
number_name(TupleDesc desc, int natts)
{
	char	   *name = pstrdup("n");

	for (int i = 0; i < natts; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
		{
			name = psprintf("%sn", name);
			i = -1;
		}
	return name;
}

static void
describe(Rendering *rendering)
{
	const IsShape *shape = rendering->shape;
	List	   *lacking = find_lacking(rendering, is_version_describe(shape, 0));
	int			natts = shape->ncolumns;
	ListCell   *lc;

	rendering->desc = is_version_describe(shape, list_length(lacking) + 1);
	foreach(lc, lacking)
	{
		Form_pg_attribute att = lfirst(lc);

		TupleDescInitEntry(rendering->desc, ++natts, NameStr(att->attname),
						   att->atttypid, att->atttypmod, 0);
		TupleDescInitEntryCollation(rendering->desc, natts, att->attcollation);
	}
	TupleDescInitEntry(rendering->desc, natts + 1,
					   number_name(rendering->desc, natts), INT4OID, -1, 0);
}

/* Does the filter read what was not stored? */
static bool
is_filter_blind(const Rendering *rendering, Query *query)
{
	Bitmapset  *attnos = NULL;
	int			attno = -1;

	pull_varattnos(query->jointree->quals, 1, &attnos);
	while ((attno = bms_next_member(attnos, attno)) >= 0)
		if (attno + FirstLowInvalidHeapAttributeNumber > (int) rendering->shape->ncolumns)
			return true;
	return false;
}

static void
prepare(void *arg)
{
	Rendering  *rendering = arg;
	IsRenderer *renderer = rendering->renderer;
	const char *name = renderer->sync->source.table_name;
	EphemeralNamedRelation given = palloc0(sizeof(*given));
	StringInfoData sql;
	Query	   *query;

	describe(rendering);
	given->md.name = pstrdup(name);
	given->md.tupdesc = rendering->desc;
	given->md.enrtype = ENR_NAMED_TUPLESTORE;
	given->md.enrtuples = rendering->n;
	rendering->given = create_queryEnv();
	rendering->relation_given = given;
	register_ENR(rendering->given, given);

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s",
					 quote_identifier(NameStr(TupleDescAttr(rendering->desc,
															rendering->desc->natts - 1)->attname)));
	is_renderer_append_mapped(&sql, renderer);
	appendStringInfo(&sql, " FROM %s", quote_identifier(name));
	if (renderer->sync->filter)
		appendStringInfo(&sql, " WHERE (%s)", renderer->sync->filter);
	rendering->sql = sql.data;

	query = is_reading_analyze_given(sql.data, rendering->given);
	if (is_filter_blind(rendering, query))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("the filter reads a column that was not stored")));
	is_renderer_lay_out(renderer, query, 1);
	rendering->plan = is_reading_plan(query, sql.data, NULL);
}

/* ----------------------------------------------------------------
 * The rows
 * ----------------------------------------------------------------
 */

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	Rendering  *rendering = (Rendering *) self;
	MemoryContext old = MemoryContextSwitchTo(rendering->trial.row_context);
	IsRow	   *row;

	slot_getallattrs(slot);
	row = &rendering->rows[DatumGetInt32(slot->tts_values[0])];
	row->found = true;
	row->left = false;
	is_payload_write(&rendering->writer, row, slot->tts_values + 1,
					 slot->tts_isnull + 1);
	MemoryContextSwitchTo(old);
	MemoryContextReset(rendering->trial.row_context);
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
try_rows(void *arg)
{
	Rendering  *rendering = arg;
	const IsTrial *trial = &rendering->trial;
	TupleDesc	desc = rendering->desc;
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	Datum	   *values = palloc_array(Datum, desc->natts);
	bool	   *nulls = palloc_array(bool, desc->natts);

	for (int i = trial->first; i < trial->first + trial->count; i++)
	{
		IsRow	   *row = &rendering->rows[trial->members[i]];
		MinimalTuple minimal = row->version->tuple;
		HeapTupleData tuple = {
			.t_len = minimal->t_len + MINIMAL_TUPLE_OFFSET,
			.t_data = (HeapTupleHeader) ((char *) minimal - MINIMAL_TUPLE_OFFSET),
		};

		/* what the version lacks is NULL */
		heap_deform_tuple(&tuple, desc, values, nulls);
		for (int k = 0; k < desc->natts; k++)
			if (TupleDescAttr(desc, k)->attisdropped)
				nulls[k] = true;
		values[desc->natts - 1] = Int32GetDatum(trial->members[i]);
		nulls[desc->natts - 1] = false;
		tuplestore_putvalues(store, desc, values, nulls);

		/* until it comes back through the filter */
		row->left = true;
	}
	rendering->relation_given->reldata = store;
	is_reading_execute_given(rendering->plan, rendering->sql, rendering->given,
							 &rendering->dest);
	tuplestore_end(store);
}

/* ----------------------------------------------------------------
 * Shapes
 * ----------------------------------------------------------------
 */

/* Do the definition of the sync and the columns of these versions exclude each other? */
static bool
is_about_shape(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION ||
		category == ERRCODE_FEATURE_NOT_SUPPORTED ||
		category == ERRCODE_DATA_EXCEPTION;
}

static void
render_shape(Rendering *rendering, int count)
{
	ErrorData  *error = is_reading_try(prepare, rendering);

	if (error == NULL)
	{
		is_payload_begin(&rendering->writer, rendering->renderer);
		is_renderer_try(&rendering->trial, count);
		is_payload_end(&rendering->writer);
		return;
	}

	/* What does not even fit the source as it is pauses the sync. */
	if (!is_about_shape(error))
		ReThrowError(error);
	is_renderer_fit(rendering->relation, rendering->renderer);
	for (int i = 0; i < count; i++)
	{
		IsRow	   *row = &rendering->rows[rendering->trial.members[i]];

		row->found = true;
		row->problem = "stored_columns";
		row->problem_detail = "the row was stored when its columns, or those that the sync reads, were others";
	}
}

static void
render_versions(const IsRelation *relation, void *arg)
{
	Rendering  *rendering = arg;
	bool	   *done = palloc0_array(bool, rendering->n);

	is_renderer_check_versions(relation);
	rendering->relation = relation;
	rendering->trial.members = palloc_array(int, rendering->n);
	rendering->trial.rows = rendering->rows;
	rendering->trial.try_rows = try_rows;
	rendering->trial.arg = rendering;
	rendering->trial.result_context = rendering->writer.result_context;
	for (int i = 0; i < rendering->n; i++)
	{
		const IsShape *shape = rendering->rows[i].version->shape;
		int			count = 0;

		if (done[i])
			continue;
		for (int k = i; k < rendering->n; k++)
		{
			const IsShape *other = rendering->rows[k].version->shape;

			if (done[k] || (other != shape && (other->size != shape->size ||
											   memcmp(other, shape, shape->size) != 0)))
				continue;
			done[k] = true;
			rendering->trial.members[count++] = k;
		}
		rendering->shape = shape;
		render_shape(rendering, count);
	}
}

void
is_render_versions(IsRenderer *renderer, IsRow *rows, int n)
{
	Rendering	rendering = {
		.dest = {receive_row, receiver_startup, receiver_end, receiver_end, DestNone},
		.renderer = renderer,
		.rows = rows,
		.n = n,
		.writer = {.result_context = CurrentMemoryContext},
	};
	MemoryContext old;

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		is_renderer_reset_row(&rows[i]);

	/* an error may have left something there */
	MemoryContextReset(renderer->work_context);
	old = MemoryContextSwitchTo(renderer->work_context);
	is_reading_run(renderer->sync, READ_TIMEOUT_MS, render_versions, &rendering);
	MemoryContextSwitchTo(old);
	MemoryContextReset(renderer->work_context);
}
