/*-------------------------------------------------------------------------
 *
 * preview.c
 *	  What a sync would send, without sending it.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "preview.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "catalog.h"
#include "compat.h"
#include "connection.h"

PG_FUNCTION_INFO_V1(iterable_preview);

/* Rows of a chunk: at most, and as many as make about so many bytes. */
#define CHUNK_ROWS 1000
#define CHUNK_BYTES (8 * 1024 * 1024)

void
is_preview_all(IsRenderer *renderer, int first, IsPreviewSee see, void *arg)
{
	int64		nulls;

	if (is_render_is_captured(renderer))
		is_preview_walk(renderer, first, see, arg);
	else
		is_render_pass(renderer, true, see, arg, &nulls);
}

void
is_preview_walk(IsRenderer *renderer, int first, IsPreviewSee see, void *arg)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "iterable_sync chunk",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	char	   *after = NULL;
	int			want = Min(first, CHUNK_ROWS);
	bool		more = true;

	while (more)
	{
		List	   *keys;
		int			n;
		const char **key_array;
		IsRow	   *rows;
		Size		bytes = 0;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(context);
		keys = is_render_walk_keys(renderer, after, want);
		n = list_length(keys);
		key_array = palloc_array(const char *, n + 1);
		rows = palloc_array(IsRow, n + 1);
		for (int i = 0; i < n; i++)
			key_array[i] = list_nth(keys, i);
		is_render_rows(renderer, key_array, n, rows);
		more = see(arg, key_array, n, rows) && n == want;
		MemoryContextSwitchTo(old);

		if (after)
			pfree(after);
		after = n > 0 ? pstrdup(key_array[n - 1]) : NULL;
		for (int i = 0; i < n; i++)
			bytes += rows[i].payload_len;
		if (n > 0)
			want = Max(1, Min(CHUNK_ROWS, (int) (CHUNK_BYTES / Max(1, bytes / n))));
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

/* ----------------------------------------------------------------
 * iterable_preview()
 * ----------------------------------------------------------------
 */

typedef struct Preview
{
	ReturnSetInfo *rsinfo;
	IsEndpoint	endpoint;
	int			left;			/* rows that may still be shown */
} Preview;

static void
put_row(const Preview *preview, const IsRow *row, const char *problem)
{
	Datum		values[4] = {0};
	bool		nulls[4] = {false};

	values[0] = CStringGetTextDatum(row->key);
	values[1] = CStringGetTextDatum(is_api_path(preview->endpoint));
	if (row->payload)
		values[2] = CStringGetTextDatum(pg_any_to_server(row->payload,
														 row->payload_len, PG_UTF8));
	else
		nulls[2] = true;
	if (problem)
		values[3] = CStringGetTextDatum(problem);
	else
		nulls[3] = true;
	tuplestore_putvalues(preview->rsinfo->setResult, preview->rsinfo->setDesc,
						 values, nulls);
}

static char *
problem_of(const IsRow *row)
{
	return row->problem ? psprintf("%s: %s", row->problem, row->problem_detail) : NULL;
}

static bool
show_rows(void *arg, const char **keys, int n, IsRow *rows)
{
	Preview    *preview = arg;

	for (int i = 0; i < n && preview->left > 0; i++)
	{
		/* else the filter keeps it out, or it was deleted in between */
		if (rows[i].found)
		{
			put_row(preview, &rows[i], problem_of(&rows[i]));
			preview->left--;
		}
	}
	return preview->left > 0;
}

static int
compare_keys(const void *a, const void *b)
{
	const char **x = *(const char ***) a;
	const char **y = *(const char ***) b;
	int			result = strcmp(*x, *y);

	return result != 0 ? result : (x > y) - (x < y);
}

/* The keys of an array in their order, each once. */
static const char **
distinct_keys(ArrayType *array, int *n)
{
	Datum	   *elems;
	bool	   *nulls;
	int			nelems;
	const char **keys;
	const char ***sorted;
	int			k = 0;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &nelems);
	keys = palloc_array(const char *, nelems + 1);
	sorted = palloc_array(const char **, nelems + 1);
	for (int i = 0; i < nelems; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("\"%s\" must not contain nulls", "keys")));
		keys[i] = TextDatumGetCString(elems[i]);
		sorted[i] = &keys[i];
	}

	qsort(sorted, nelems, sizeof(*sorted), compare_keys);
	for (int i = nelems - 1; i > 0; i--)
		if (strcmp(*sorted[i], *sorted[i - 1]) == 0)
			*sorted[i] = NULL;
	for (int i = 0; i < nelems; i++)
		if (keys[i] != NULL)
			keys[k++] = keys[i];
	*n = k;
	return keys;
}

static void
show_keys(const Preview *preview, IsRenderer *renderer, const char **keys, int n)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "iterable_sync chunk",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (int done = 0; done < n; done += CHUNK_ROWS)
	{
		int			count = Min(n - done, CHUNK_ROWS);
		IsRow	   *rows = palloc_array(IsRow, count);

		CHECK_FOR_INTERRUPTS();
		is_render_rows(renderer, keys + done, count, rows);
		for (int i = 0; i < count; i++)
			put_row(preview, &rows[i],
					rows[i].found ? problem_of(&rows[i]) :
					rows[i].left ? "filtered: the filter is not true for the row" :
					"vanished: no row has this key");
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * iterable_preview(sync text, max_rows integer, keys text[])
 *		returns table(key text, endpoint text, payload json, problem text)
 */
Datum
iterable_preview(PG_FUNCTION_ARGS)
{
	Preview		preview = {.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo};
	IsSync	   *sync;
	IsRenderer *renderer;
	const char **keys = NULL;
	int			nkeys = 0;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"%s\" must not be null", PG_ARGISNULL(0) ? "sync" : "max_rows")));
	preview.left = PG_GETARG_INT32(1);
	if (preview.left <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"max_rows\" must be greater than zero")));
	if (!PG_ARGISNULL(2))
		keys = distinct_keys(PG_GETARG_ARRAYTYPE_P(2), &nkeys);

	InitMaterializedSRF(fcinfo, 0);
	sync = is_catalog_get_sync(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	preview.endpoint = is_render_endpoint(sync);
	renderer = is_render_create(sync,
								is_connection_describe(sync->connection,
													   sync->owner)->project_type);
	if (keys != NULL)
		show_keys(&preview, renderer, keys, nkeys);
	else
		is_preview_walk(renderer, preview.left, show_rows, &preview);
	is_render_destroy(renderer);
	return (Datum) 0;
}
