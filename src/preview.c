/*-------------------------------------------------------------------------
 *
 * preview.c
 *	  What a sync would send, without sending it.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "catalog.h"
#include "compat.h"
#include "connection.h"
#include "render.h"

PG_FUNCTION_INFO_V1(iterable_preview);

#define PREVIEW_CHUNK 1000

static void
put_row(ReturnSetInfo *rsinfo, IsEndpoint endpoint, const IsRow *row)
{
	Datum		values[4] = {0};
	bool		nulls[4] = {false};

	values[0] = CStringGetTextDatum(row->key);
	values[1] = CStringGetTextDatum(is_api_path(endpoint));
	if (row->payload)
		values[2] = CStringGetTextDatum(pg_any_to_server(row->payload,
														 row->payload_len, PG_UTF8));
	else
		nulls[2] = true;
	if (row->problem)
		values[3] = CStringGetTextDatum(psprintf("%s: %s", row->problem,
												 row->problem_detail));
	else
		nulls[3] = true;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * iterable_preview(sync text, max_rows integer)
 *		returns table(key text, endpoint text, payload json, problem text)
 */
Datum
iterable_preview(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	IsSync	   *sync;
	IsRenderer *renderer;
	int			left;
	char	   *after = NULL;
	MemoryContext chunk_context;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"%s\" must not be null", PG_ARGISNULL(0) ? "sync" : "max_rows")));
	left = PG_GETARG_INT32(1);
	if (left <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"max_rows\" must be greater than zero")));

	InitMaterializedSRF(fcinfo, 0);
	sync = is_catalog_get_sync(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	renderer = is_render_create(sync,
								is_connection_describe(sync->connection,
													   sync->owner)->project_type);
	chunk_context = AllocSetContextCreate(CurrentMemoryContext, "iterable_sync chunk",
										  ALLOCSET_DEFAULT_SIZES);
	while (left > 0)
	{
		int			want = Min(left, PREVIEW_CHUNK);
		MemoryContext old = MemoryContextSwitchTo(chunk_context);
		List	   *keys = is_render_walk_keys(renderer, after, NULL, want);
		int			n = list_length(keys);
		const char **key_array = palloc_array(const char *, n + 1);
		IsRow	   *rows = palloc_array(IsRow, n + 1);

		for (int i = 0; i < n; i++)
			key_array[i] = list_nth(keys, i);
		is_render_rows(renderer, key_array, n, rows);
		for (int i = 0; i < n; i++)
			if (rows[i].found)	/* else it was deleted in between */
				put_row(rsinfo, is_render_endpoint(sync), &rows[i]);

		left -= n;
		MemoryContextSwitchTo(old);
		if (n < want)
			break;
		after = pstrdup(key_array[n - 1]);
		MemoryContextReset(chunk_context);
	}
	MemoryContextDelete(chunk_context);
	is_render_destroy(renderer);
	return (Datum) 0;
}
