/*-------------------------------------------------------------------------
 *
 * run_version.c
 *	  Chunks of a sync that sends rows as they were committed.
 *
 * A change that has a version of its row is a row of the chunk by itself, and
 * so is a DELETE, of which nothing is read: what comes after it has versions
 * of its own.  A version that has failed comes from the failures, where it is
 * kept.  All other changes, such as those that a scan has found, stand for the
 * row as it is now.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "run_internal.h"

bool
is_run_is_version(const IsRun *run, const IsChange *change)
{
	/*
	 * Anybody can put a capture trigger of this source on a table of theirs.
	 * Such a change does as one without a version.
	 */
	if (change->version != NULL && change->version->shape->owner != run->source_owner)
		return false;
	return run->sync->capture != IS_CAPTURE_KEY &&
		(change->version != NULL || change->op == IS_OP_DELETE ||
		 (change->tag != NULL && change->tag[0] != '\0'));
}

void
is_run_take_version(IsChunkChange *into, const IsChange *change)
{
	into->deleted = change->version == NULL;
	if (change->version)
		into->version = is_version_copy(change->version);
	into->tag = change->tag ? pstrdup(change->tag) : NULL;
}

/* Versions that have failed and are to be tried again. */
static void
fetch_failed(IsRun *run, IsChunk *chunk)
{
	const char **keys = palloc_array(const char *, chunk->n);
	const char **tags = palloc_array(const char *, chunk->n);
	int		   *places = palloc_array(int, chunk->n);
	int			n = 0;
	IsVersion **versions;

	for (int i = 0; i < chunk->n; i++)
		if (chunk->changes[i].tag != NULL && chunk->changes[i].tag[0] != '\0')
		{
			keys[n] = chunk->keys[i];
			tags[n] = chunk->changes[i].tag;
			places[n++] = i;
		}
	if (n == 0)
		return;
	versions = is_delivery_failed_versions(run->sync_id, keys, tags, n);
	for (int k = 0; k < n; k++)
	{
		IsChunkChange *change = &chunk->changes[places[k]];

		change->version = versions[k];
		change->deleted = versions[k] == NULL;
		chunk->rows[places[k]].retried = true;
	}
}

/* The rows as they are now, for the changes that stand for these. */
static void
render_current(IsRun *run, IsChunk *chunk)
{
	const char **keys = palloc_array(const char *, chunk->n);
	int		   *places = palloc_array(int, chunk->n);
	int			n = 0;
	IsRow	   *rows;

	for (int i = 0; i < chunk->n; i++)
		if (chunk->changes[i].version == NULL && !chunk->changes[i].deleted)
		{
			keys[n] = chunk->keys[i];
			places[n++] = i;
		}
	rows = palloc0_array(IsRow, n + 1);
	is_render_rows(run->renderer, keys, n, rows);
	for (int k = 0; k < n; k++)
		chunk->rows[places[k]] = rows[k];
}

static void
render_stored(IsRun *run, IsChunk *chunk)
{
	IsRow	   *rows = palloc0_array(IsRow, chunk->n);
	int		   *places = palloc_array(int, chunk->n);
	int			n = 0;

	for (int i = 0; i < chunk->n; i++)
		if (chunk->changes[i].version != NULL)
		{
			rows[n] = chunk->rows[i];
			rows[n].key = chunk->keys[i];
			rows[n].version = chunk->changes[i].version;
			rows[n].capture = run->sync->capture;
			places[n++] = i;
		}
	is_render_versions(run->renderer, rows, n);
	for (int k = 0; k < n; k++)
		chunk->rows[places[k]] = rows[k];
}

void
is_run_render_versions(IsRun *run, IsChunk *chunk)
{
	fetch_failed(run, chunk);
	render_current(run, chunk);
	render_stored(run, chunk);

	chunk->tags = palloc_array(const char *, chunk->n);
	for (int i = 0; i < chunk->n; i++)
	{
		IsRow	   *row = &chunk->rows[i];

		row->key = chunk->keys[i];
		row->capture = run->sync->capture;

		/* where the last version wins, it is the one failure that there is */
		chunk->tags[i] = row->version ? row->version->tag :
			row->retried ? chunk->changes[i].tag : "";
		if (run->sync->capture == IS_CAPTURE_ROW && !row->retried)
			chunk->tags[i] = NULL;
	}
}
