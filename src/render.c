/*-------------------------------------------------------------------------
 *
 * render.c
 *	  From keys to payloads.
 *
 * The rows of a chunk are read by one query and written as JSON straight from
 * the executor's slots: nothing is copied in between.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "render.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "nodes/nodeFuncs.h"
#include "port/pg_bitutils.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "expression.h"
#include "key.h"
#include "payload.h"
#include "reading.h"
#include "renderer.h"

#define READ_TIMEOUT_MS 10000

/* ----------------------------------------------------------------
 * Renderer
 * ----------------------------------------------------------------
 */

IsEndpoint
is_render_endpoint(const IsSync *sync)
{
	return sync->object == IS_OBJECT_EVENT ? IS_ENDPOINT_EVENTS_TRACK_BULK :
		IS_ENDPOINT_USERS_BULK_UPDATE;
}

bool
is_render_updates_users(const IsSync *sync)
{
	return sync->object == IS_OBJECT_USER && sync->mode == IS_MODE_UPDATE;
}

/* What Iterable wants in every row: of users how, of events whether. */
static const char *
payload_suffix(const IsSync *sync)
{
	if (sync->object == IS_OBJECT_USER)
		return psprintf("%s%s",
						sync->prefer_user_id ? ",\"preferUserId\":true" : "",
						sync->merge_nested_objects ? ",\"mergeNestedObjects\":true" : "");
	return sync->new_fields == IS_NEW_FIELDS_PROJECT ? "" :
		sync->new_fields == IS_NEW_FIELDS_ALWAYS ? ",\"createNewFields\":true" :
		",\"createNewFields\":false";
}

static void
append_keys(StringInfo sql, const IsRelation *relation)
{
	for (int i = 0; i < relation->nkeys; i++)
		appendStringInfo(sql, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(relation->keys[i].name));
}

/* The rows of some keys: parameters are one array a column. */
static void
append_by_key(StringInfo sql, const IsRelation *relation)
{
	appendStringInfoString(sql, " WHERE ");
	if (relation->nkeys == 1)
	{
		appendStringInfo(sql, "%s OPERATOR(pg_catalog.=) ANY ($1)",
						 quote_identifier(relation->keys[0].name));
		return;
	}

	/* A join would put names of its own next to those of the columns. */
	appendStringInfoString(sql, "ROW(");
	append_keys(sql, relation);
	appendStringInfoString(sql, ") OPERATOR(pg_catalog.=) ANY (SELECT * FROM ROWS FROM (");
	for (int i = 0; i < relation->nkeys; i++)
		appendStringInfo(sql, "%spg_catalog.unnest($%d)", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(sql, "))");
}

static void
check_column(const IsRelation *relation, const IsMapping *mapping)
{
	if (mapping->column_name == NULL ||
		get_attnum(relation->relid, mapping->column_name) > 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of relation \"%s.%s\" does not exist",
					mapping->column_name,
					get_namespace_name(get_rel_namespace(relation->relid)),
					get_rel_name(relation->relid)),
			 errdetail("It is mapped to \"%s\".", mapping->destination),
			 errhint("Rename the column back or add it again, or change the mapping with iterable_drop_mapping() and iterable_add_mapping().")));
}

void
is_renderer_append_mapped(StringInfo sql, const IsRenderer *renderer)
{
	ListCell   *lc;

	foreach(lc, renderer->mappings)
	{
		const IsMapping *mapping = lfirst(lc);

		if (mapping->column_name)
			appendStringInfo(sql, ", %s", quote_identifier(mapping->column_name));
		else if (mapping->expression)
			appendStringInfo(sql, ", (%s)", mapping->expression);
	}
}

/* Key columns, then what is mapped. */
char *
is_renderer_query(const IsRenderer *renderer, const IsRelation *relation, bool by_key)
{
	StringInfoData sql;
	ListCell   *lc;

	foreach(lc, renderer->mappings)
		check_column(relation, lfirst(lc));
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	append_keys(&sql, relation);
	is_renderer_append_mapped(&sql, renderer);
	appendStringInfo(&sql, " FROM %s", relation->qualified_name);
	if (by_key)
		append_by_key(&sql, relation);
	if (renderer->sync->filter)
		appendStringInfo(&sql, " %s (%s)", by_key ? "AND" : "WHERE",
						 renderer->sync->filter);
	return sql.data;
}

/* Which of the keys have a row (for which the filter is true). */
static char *
build_presence_query(const IsRelation *relation, const char *filter)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	append_keys(&sql, relation);
	appendStringInfo(&sql, " FROM %s", relation->qualified_name);
	append_by_key(&sql, relation);
	if (filter)
		appendStringInfo(&sql, " AND (%s)", filter);
	return sql.data;
}

void
is_renderer_note(IsRenderer *renderer, const IsRelation *relation)
{
	/* how long it may take, and who may wait for it, has changed */
	if (relation->captured != renderer->captured)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("source %s has been replaced", relation->qualified_name)));
	if (OidIsValid(renderer->relid) && renderer->relid != relation->relid)
		renderer->mixed = true;
	renderer->relid = relation->relid;
}

bool
is_render_kept_to(IsRenderer *renderer, Oid relid)
{
	bool		result = !renderer->mixed &&
		(!OidIsValid(renderer->relid) || renderer->relid == relid);

	renderer->relid = InvalidOid;
	renderer->mixed = false;
	return result;
}

/* There are no arrays of varchar's own that would be compared as such. */
Oid
is_renderer_key_type(const IsKeyColumn *key)
{
	return key->type == VARCHAROID ? TEXTOID : key->type;
}

static Oid *
array_types(const IsRelation *relation)
{
	Oid		   *types = palloc_array(Oid, relation->nkeys);

	for (int i = 0; i < relation->nkeys; i++)
		types[i] = get_array_type(is_renderer_key_type(&relation->keys[i]));
	return types;
}

/* Anew only if the types of the columns are not what they were. */
void
is_renderer_lay_out(IsRenderer *renderer, const Query *query, int others)
{
	Oid		   *types = palloc_array(Oid, list_length(query->targetList));
	int			n = 0;
	ListCell   *lc;
	MemoryContext old;

	foreach(lc, query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, lc);

		if (!target->resjunk && target->resno > others)
			types[n++] = exprType((Node *) target->expr);
	}
	if (renderer->layout && renderer->ntypes == n &&
		memcmp(renderer->types, types, n * sizeof(Oid)) == 0)
		return;

	renderer->layout = NULL;
	MemoryContextReset(renderer->layout_context);
	old = MemoryContextSwitchTo(renderer->layout_context);
	renderer->types = palloc_array(Oid, n + 1);
	memcpy(renderer->types, types, n * sizeof(Oid));
	renderer->ntypes = n;
	renderer->layout = is_layout_build(renderer->sync, renderer->mappings, types);
	MemoryContextSwitchTo(old);
}

Query *
is_renderer_analyze(IsRenderer *renderer, const IsRelation *relation, const char *sql,
					const Oid *types, int ntypes)
{
	Query	   *query = is_reading_analyze(sql, relation, types, ntypes);

	is_renderer_lay_out(renderer, query, relation->nkeys);
	return query;
}

IsRenderer *
is_render_create(const IsSync *sync, IsProjectType project_type)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "iterable_sync renderer",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IsRenderer *renderer = palloc0_object(IsRenderer);
	IsEndpoint	endpoint = is_render_endpoint(sync);

	renderer->context = context;
	renderer->sync = sync;
	renderer->project_type = project_type;
	renderer->suffix = payload_suffix(sync);
	renderer->max_payload = IS_MAX_BATCH_BYTES -
		strlen(is_api_envelope_open(endpoint, sync->new_fields, is_render_updates_users(sync))) -
		strlen(is_api_envelope_close(endpoint));
	renderer->mappings = is_layout_mappings(sync, project_type);
	renderer->layout_context = AllocSetContextCreate(context,
													 "iterable_sync layout",
													 ALLOCSET_SMALL_SIZES);
	renderer->work_context = AllocSetContextCreate(context,
												   "iterable_sync reading",
												   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(renderer->work_context);
	is_reading_run(sync, READ_TIMEOUT_MS, is_renderer_fit, renderer);
	MemoryContextSwitchTo(old);
	MemoryContextReset(renderer->work_context);
	return renderer;
}

void
is_render_destroy(IsRenderer *renderer)
{
	MemoryContextDelete(renderer->context);
}

bool
is_render_is_captured(const IsRenderer *renderer)
{
	return renderer->captured;
}

void
is_render_only_hashes(IsRenderer *renderer)
{
	renderer->only_hashes = true;
}

/* What is read chunk by chunk must be quick; a view may be what it is. */
static int
read_timeout(const IsRenderer *renderer)
{
	return renderer->captured ? READ_TIMEOUT_MS : 0;
}

/* ----------------------------------------------------------------
 * Reading rows
 * ----------------------------------------------------------------
 */

typedef struct Rendering
{
	DestReceiver dest;			/* must be first */
	IsRenderer *renderer;
	const IsRelation *relation;
	IsRow	   *rows;
	int			n;
	Oid			key_types[INDEX_MAX_KEYS];
	uint32		mask;			/* of the hash table below */
	int		   *slots;			/* numbers of rows, -1: empty */
	StringInfoData key;
	IsPayloadWriter *writer;

	const char *sql;
	PlannedStmt *plan;
	ParamListInfo params;
	IsTrial		trial;
	bool		binding;		/* their keys are being turned into values */
	bool	   *valueless;		/* by row: its key is no value of the type */
} Rendering;

static void
build_hash(Rendering *rendering)
{
	rendering->mask = pg_nextpower2_32(Max(rendering->n, 1) * 2) - 1;
	rendering->slots = palloc_array(int, rendering->mask + 1);
	memset(rendering->slots, -1, (rendering->mask + 1) * sizeof(int));
	for (int i = 0; i < rendering->n; i++)
	{
		const char *key = rendering->rows[i].key;
		uint32		slot = hash_bytes((const unsigned char *) key, strlen(key));

		while (rendering->slots[slot & rendering->mask] >= 0)
			slot++;
		rendering->slots[slot & rendering->mask] = i;
	}
}

/*
 * The row that is wanted now under this key, or NULL: a text that is not
 * canonical, such as 01, finds the row of another key.
 */
static IsRow *
find_row(const Rendering *rendering, const char *key, int len)
{
	uint32		slot = hash_bytes((const unsigned char *) key, len);
	int			i;

	while ((i = rendering->slots[slot & rendering->mask]) >= 0)
	{
		if (strcmp(rendering->rows[i].key, key) == 0)
			return i >= rendering->trial.first && i < rendering->trial.first + rendering->trial.count ?
				&rendering->rows[i] : NULL;
		slot++;
	}
	return NULL;
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	Rendering  *rendering = (Rendering *) self;
	int			nkeys = rendering->relation->nkeys;
	MemoryContext old = MemoryContextSwitchTo(rendering->trial.row_context);
	IsRow	   *row;

	slot_getallattrs(slot);
	resetStringInfo(&rendering->key);
	is_key_append(&rendering->key, nkeys, rendering->key_types, slot->tts_values);

	row = find_row(rendering, rendering->key.data, rendering->key.len);
	if (row != NULL && row->found)
	{
		row->payload = NULL;
		row->problem = "duplicate_key";
		row->problem_detail = "several rows have this key";
	}
	else if (row != NULL)
	{
		row->found = true;
		is_payload_write(rendering->writer, row, slot->tts_values + nkeys,
						 slot->tts_isnull + nkeys);
	}

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

/* Values of the parameters for these keys. */
static void
bind_keys(Rendering *rendering, const char *const *keys, int n)
{
	int			nkeys = rendering->relation->nkeys;
	Datum	   *values = palloc_array(Datum, nkeys * n);

	for (int i = 0; i < n; i++)
	{
		char	  **texts = is_key_split(keys[i], nkeys);

		for (int k = 0; k < nkeys; k++)
			values[k * n + i] =
				is_key_value(texts[k],
							 is_renderer_key_type(&rendering->relation->keys[k]));
	}
	for (int k = 0; k < nkeys; k++)
	{
		Oid			type = is_renderer_key_type(&rendering->relation->keys[k]);
		int16		len;
		bool		byval;
		char		align;

		get_typlenbyvalalign(type, &len, &byval, &align);
		rendering->params->params[k].value =
			PointerGetDatum(construct_array(values + k * n, n, type, len, byval,
											align));
	}
}

static void
try_rows(void *arg)
{
	Rendering  *rendering = arg;
	const char **keys = palloc_array(const char *, rendering->trial.count);

	for (int i = 0; i < rendering->trial.count; i++)
		keys[i] = rendering->rows[rendering->trial.first + i].key;
	rendering->binding = true;
	bind_keys(rendering, keys, rendering->trial.count);
	rendering->binding = false;
	is_reading_execute(rendering->plan, rendering->sql, rendering->params,
					   &rendering->dest);
}

static void
report_row(void *arg, IsRow *row, const ErrorData *error)
{
	Rendering  *rendering = arg;

	/* A text that is no value of the key's type is the key of no row. */
	if (rendering->binding &&
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_DATA_EXCEPTION)
		rendering->valueless[row - rendering->rows] = true;
	else
		is_renderer_report_row(row, error);
}

static bool
receive_presence(TupleTableSlot *slot, DestReceiver *self)
{
	Rendering  *rendering = (Rendering *) self;
	IsRow	   *row;

	slot_getallattrs(slot);
	resetStringInfo(&rendering->key);
	is_key_append(&rendering->key, rendering->relation->nkeys,
				  rendering->key_types, slot->tts_values);
	row = find_row(rendering, rendering->key.data, rendering->key.len);
	if (row != NULL && !row->found)
		row->left = true;
	return true;
}

/*
 * The filter stands in the query, so that what is mapped is evaluated only for
 * rows for which it is true.  Of those that are missing then, which are there?
 */
static void
find_left(Rendering *rendering)
{
	const char **keys = palloc_array(const char *, rendering->n);
	int			n = 0;
	char	   *sql;
	Query	   *query;

	for (int i = 0; i < rendering->n; i++)
		if (!rendering->rows[i].found && !rendering->valueless[i])
			keys[n++] = rendering->rows[i].key;
	if (n == 0)
		return;

	sql = build_presence_query(rendering->relation, NULL);
	query = is_reading_analyze(sql, rendering->relation,
							   array_types(rendering->relation),
							   rendering->relation->nkeys);
	rendering->dest.receiveSlot = receive_presence;
	rendering->trial.first = 0;
	rendering->trial.count = rendering->n;
	bind_keys(rendering, keys, n);
	is_reading_execute(is_reading_plan(query, sql, NULL), sql, rendering->params,
					   &rendering->dest);
}

static void
render_rows(const IsRelation *relation, void *arg)
{
	Rendering  *rendering = arg;
	IsRenderer *renderer = rendering->renderer;
	char	   *sql = is_renderer_query(renderer, relation, true);
	Query	   *query;

	is_renderer_note(renderer, relation);
	query = is_renderer_analyze(renderer, relation, sql, array_types(relation),
								relation->nkeys);
	rendering->relation = relation;
	rendering->sql = sql;
	rendering->plan = is_reading_plan(query, sql, NULL);
	rendering->params = is_reading_params(array_types(relation), relation->nkeys);
	for (int i = 0; i < relation->nkeys; i++)
		rendering->key_types[i] = relation->keys[i].type;
	rendering->valueless = palloc0_array(bool, rendering->n);
	initStringInfo(&rendering->key);
	build_hash(rendering);
	is_payload_begin(rendering->writer, renderer);

	rendering->trial.rows = rendering->rows;
	rendering->trial.try_rows = try_rows;
	rendering->trial.report_row = report_row;
	rendering->trial.arg = rendering;
	rendering->trial.result_context = rendering->writer->result_context;
	is_renderer_try(&rendering->trial, rendering->n);
	is_payload_end(rendering->writer);
	if (renderer->sync->filter)
		find_left(rendering);
}

void
is_render_rows(IsRenderer *renderer, const char **keys, int n, IsRow *rows)
{
	IsPayloadWriter writer = {.result_context = CurrentMemoryContext};
	Rendering	rendering = {
		.dest = {receive_row, receiver_startup, receiver_end, receiver_end, DestNone},
		.renderer = renderer,
		.rows = rows,
		.n = n,
		.writer = &writer,
	};
	MemoryContext old;

	for (int i = 0; i < n; i++)
		rows[i] = (IsRow) {.key = keys[i]};
	if (n == 0)
		return;

	/* an error may have left something there */
	MemoryContextReset(renderer->work_context);
	old = MemoryContextSwitchTo(renderer->work_context);
	is_reading_run(renderer->sync, read_timeout(renderer), render_rows, &rendering);
	MemoryContextSwitchTo(old);
	MemoryContextReset(renderer->work_context);
}

/* ----------------------------------------------------------------
 * Finding rows
 * ----------------------------------------------------------------
 */

static bool
receive_found(TupleTableSlot *slot, DestReceiver *self)
{
	Rendering  *rendering = (Rendering *) self;
	IsRow	   *row;

	slot_getallattrs(slot);
	resetStringInfo(&rendering->key);
	is_key_append(&rendering->key, rendering->relation->nkeys,
				  rendering->key_types, slot->tts_values);
	row = find_row(rendering, rendering->key.data, rendering->key.len);
	if (row != NULL)
		row->found = true;
	return true;
}

static void
find_rows(const IsRelation *relation, void *arg)
{
	Rendering  *rendering = arg;
	char	   *sql = build_presence_query(relation, rendering->renderer->sync->filter);
	Query	   *query;

	is_renderer_note(rendering->renderer, relation);
	query = is_reading_analyze(sql, relation, array_types(relation), relation->nkeys);
	rendering->relation = relation;
	rendering->sql = sql;
	rendering->plan = is_reading_plan(query, sql, NULL);
	rendering->params = is_reading_params(array_types(relation), relation->nkeys);
	for (int i = 0; i < relation->nkeys; i++)
		rendering->key_types[i] = relation->keys[i].type;
	initStringInfo(&rendering->key);
	build_hash(rendering);
	rendering->trial.first = 0;
	rendering->trial.count = rendering->n;
	try_rows(rendering);
}

/*
 * In one go; where a row or a key makes that fail, with the care that
 * rendering takes.
 */
void
is_render_find(IsRenderer *renderer, const char **keys, int n, bool *found)
{
	IsRow	   *rows = palloc0_array(IsRow, n);
	Rendering	rendering = {
		.dest = {receive_found, receiver_startup, receiver_end, receiver_end, DestNone},
		.renderer = renderer,
		.rows = rows,
		.n = n,
	};
	MemoryContext old;
	ErrorData  *error;

	for (int i = 0; i < n; i++)
		rows[i].key = keys[i];
	MemoryContextReset(renderer->work_context);
	old = MemoryContextSwitchTo(renderer->work_context);
	error = is_reading_try_run(renderer->sync, read_timeout(renderer), find_rows, &rendering);
	MemoryContextSwitchTo(old);
	if (error && is_renderer_blames_sync(error))
		ReThrowError(error);
	if (error)
		is_render_rows(renderer, keys, n, rows);
	for (int i = 0; i < n; i++)
		found[i] = rows[i].found;
}
