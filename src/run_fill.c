/*-------------------------------------------------------------------------
 *
 * run_fill.c
 *	  From changes to batches: read, render, compare, decide.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "decide.h"
#include "run_internal.h"
#include "source.h"
#include "staged.h"
#include "txn.h"

/* A chunk has as many rows as make about this many bytes. */
#define CHUNK_BYTES (8 * 1024 * 1024)

/* ----------------------------------------------------------------
 * Chunk
 * ----------------------------------------------------------------
 */

typedef struct KeyEntry
{
	const char *key;
	int			i;
} KeyEntry;

static uint32
hash_key_entry(const void *key, Size size)
{
	const char *text = *(const char *const *) key;

	return hash_bytes((const unsigned char *) text, (int) strlen(text));
}

static int
match_key_entry(const void *a, const void *b, Size size)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* A row of its own in the chunk. */
static IsChunkChange *
add_change(IsChunk *chunk, const char *key, IsPlace before)
{
	int			i = chunk->n++;

	chunk->keys[i] = pstrdup(key);
	chunk->changes[i].before = before;
	return &chunk->changes[i];
}

static void
add_op(IsChunkChange *change, char op)
{
	if (op == IS_OP_UPDATE)
		change->updated = true;
	if (op == IS_OP_FORCE)
		change->forced = true;
	if (op != IS_OP_COMPARED)
		change->captured = true;
	if (op == IS_OP_RETRY)
		change->asked = true;
}

/*
 * Read the next changes, at most max of different keys; repeated changes of a
 * key collapse into one, unless there are versions of the row.
 */
static void
read_keys(IsRun *run, IsChunk *chunk, int max)
{
	HASHCTL		ctl = {0};
	HTAB	   *seen;
	Size		version_bytes = 0;
	IsPlace		previous = run->read_to;
	IsChange	change;

	ctl.keysize = sizeof(char *);
	ctl.entrysize = sizeof(KeyEntry);
	ctl.hash = hash_key_entry;
	ctl.match = match_key_entry;
	ctl.hcxt = chunk->context;
	seen = hash_create("iterable_sync chunk keys", max, &ctl,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	chunk->keys = palloc(max * sizeof(char *));
	chunk->changes = palloc0(max * sizeof(IsChunkChange));

	while (chunk->n < max && version_bytes < CHUNK_BYTES)
	{
		IsPlace		place;

		if (!is_change_log_next(run->window, &change))
		{
			run->window_read = true;
			break;
		}
		place.seq = change.seq;
		place.offset = change.offset;

		/* Which rows have changed was not to be told: look at all of them. */
		if (change.op == IS_OP_LOST)
			run->look_at_all = true;

		/* TRUNCATE removes rows only: nothing is sent for it. */
		if (change.op == IS_OP_TRUNCATE)
			run->truncated = true;
		if (change.key != NULL && !is_state_done_ahead(run->state, place))
		{
			if (is_run_is_version(run, &change))
			{
				IsChunkChange *new = add_change(chunk, change.key, previous);

				is_run_take_version(new, &change);
				add_op(new, change.op);
				version_bytes += new->version ? new->version->tuple->t_len : 0;
			}
			else
			{
				KeyEntry   *entry;
				bool		found;
				char	   *key = change.key;

				entry = hash_search(seen, &key, HASH_ENTER, &found);
				if (!found)
				{
					entry->i = chunk->n;
					(void) add_change(chunk, key, previous);
					entry->key = chunk->keys[entry->i];
				}
				add_op(&chunk->changes[entry->i], change.op);
			}
		}
		previous = place;
	}
	chunk->end = previous;
}

/* Read, render and recall the next stretch of the window. */
static void
read_chunk(IsRun *run, const IsSyncState *now)
{
	MemoryContext context = AllocSetContextCreate(run->context, "iterable_sync chunk",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	IsChunk    *chunk = palloc0(sizeof(IsChunk));
	Size		bytes = 0;

	chunk->context = context;
	run->chunk = chunk;
	if (run->sync->capture != IS_CAPTURE_KEY)
		run->source_owner = is_source_resolve(run->sync)->owner;
	read_keys(run, chunk, run->chunk_rows);
	chunk->rows = palloc0(Max(chunk->n, 1) * sizeof(IsRow));
	chunk->memory = palloc0(Max(chunk->n, 1) * sizeof(IsMemory));
	if (chunk->n > 0)
	{
		if (run->sync->capture != IS_CAPTURE_KEY)
			is_run_render_versions(run, chunk);
		else if (is_render_is_captured(run->renderer))
			is_render_rows(run->renderer, chunk->keys, chunk->n, chunk->rows);
		else
			is_staged_take(run->sync_id, run->sync->version, chunk->keys, chunk->n,
						   chunk->rows);
		is_delivery_recall(run->sync, chunk->keys, chunk->tags, chunk->n,
						   chunk->memory);

		/* as the one that is watched now, which may be another since */
		if (OidIsValid(now->source_relid) &&
			!is_render_kept_to(run->renderer, now->source_relid))
			run->astray_from = now->source_relid;
	}
	MemoryContextSwitchTo(old);

	for (int i = 0; i < chunk->n; i++)
		bytes += chunk->rows[i].payload_len;
	if (chunk->n > 0)
		run->chunk_rows = Max(1, Min(IS_MAX_BATCH_ROWS,
									 (int) (CHUNK_BYTES / Max(1, bytes / chunk->n))));
}

static void
recall_again(IsRun *run)
{
	IsChunk    *chunk = run->chunk;

	is_delivery_recall(run->sync, chunk->keys + chunk->next,
					   chunk->tags ? chunk->tags + chunk->next : NULL,
					   chunk->n - chunk->next, chunk->memory + chunk->next);
	chunk->recall = false;
}

/* ----------------------------------------------------------------
 * Batch
 * ----------------------------------------------------------------
 */

static void
complete_batch(IsRun *run, IsPlace to)
{
	IsBatch    *batch = run->filling;
	MemoryContext old = MemoryContextSwitchTo(run->context);

	batch->stretch.to = to;
	run->read_to = to;
	if (run->sync->dry_run)
		is_batch_pretend(batch);
	is_batch_claim(batch, run->claims);
	run->batches = lappend(run->batches, batch);
	run->filling = NULL;
	MemoryContextSwitchTo(old);
}

/*
 * Move rows of the chunk into the batch that is being filled.  Returns false
 * if the next row must wait for a verdict.
 */
static bool
fill_from_chunk(IsRun *run)
{
	IsChunk    *chunk = run->chunk;
	IsBatch    *batch = run->filling;

	while (chunk->next < chunk->n)
	{
		int			i = chunk->next;
		IsRow	   *row = &chunk->rows[i];
		IsFate		fate = IS_FATE_PENDING;
		IsDecision	decision;
		IsCircumstances circumstances = {
			.update_only = run->connection->update_only,
			.resumed = run->known && !is_batch_is_known(run->known, row),
			.updated = chunk->changes[i].updated,
			.forced = chunk->changes[i].forced,
			.compared = !chunk->changes[i].captured,
			.noted = run->state->noted && !chunk->changes[i].asked,
		};
		bool		taken = is_batch_taken(batch, run->claims, row);

		if (!taken)
		{
			if (row->unread)
			{
				/* a request of before may have sent it, and nobody knows */
				run->look_at_all = true;
				decision = IS_DECISION_NOTE;
				fate = IS_FATE_UNSURE;
			}
			else
				decision = is_decide(run->sync, row, &chunk->memory[i],
									 &circumstances, &fate);
			if (decision == IS_DECISION_NOTE)
				is_batch_note(batch, row, fate);
			else if (!is_batch_add(batch, row, decision == IS_DECISION_SEND_IF_KNOWN,
								   is_delivery_failed_as(&chunk->memory[i], row)))
			{
				complete_batch(run, chunk->changes[i].before);
				return true;
			}
			batch->counts.keys_seen++;
			chunk->next++;
			continue;
		}

		/* What is decided now would rest on an outdated memory. */
		chunk->recall = true;
		if (batch->nrows > 0)
			complete_batch(run, chunk->changes[i].before);
		return false;
	}

	batch->stretch.to = chunk->end;
	run->read_to = chunk->end;
	MemoryContextDelete(chunk->context);
	run->chunk = NULL;
	return true;
}

/*
 * Fill a batch (in a read-only transaction).  Returns false if nothing can be
 * done before a verdict comes.
 */
bool
is_run_fill(IsRun *run)
{
	bool		progress = true;
	IsSyncState *now;

	is_txn_begin();
	XactReadOnly = true;
	now = is_state_load(run->sync_id, false);
	is_run_check_state(run, now);
	if (now->version != run->sync->version)
		is_run_load_definition(run);
	if (run->chunk == NULL && !run->window_read)
		read_chunk(run, now);
	if (run->chunk && run->chunk->recall)
		recall_again(run);
	if (run->filling == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		run->filling = is_batch_create(run->endpoint, run->envelope,
									   run->sync->object == IS_OBJECT_USER,
									   run->read_to);
		MemoryContextSwitchTo(old);
	}
	if (run->chunk)
		progress = fill_from_chunk(run);
	if (run->filling &&
		((run->window_read && run->chunk == NULL) ||
		 run->filling->nsend >= IS_MAX_BATCH_ROWS ||
		 run->filling->nrows >= IS_RUN_BATCH_KEYS))
		complete_batch(run, run->read_to);
	is_txn_commit();

	/* What was read may be visible before it is durable. */
	is_txn_flush_wal();
	return progress;
}
