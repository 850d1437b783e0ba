/*-------------------------------------------------------------------------
 *
 * sync_run.c
 *	  The way of a sync's changes.
 *
 *	   change log --> window --> chunk --> batch --> request --> verdicts
 *						 held	  rendered	filled	 bulk		 recorded with
 *						 cursor	  rows		in order			 the position
 *
 * Rules that everything rests on:
 *
 * - A window is recorded before its first request.  A run that finds an open
 *	 one resumes it and sends its rows even if Iterable seems to have them:
 *	 what was sent without a recorded verdict is unknown.
 * - Nothing is decided about a row (not even that it is unchanged) while a
 *	 batch with the same key or user waits for its verdict.
 * - Only what is durable is sent: WAL is flushed between reading rows and
 *	 sending them.
 * - A batch whose outcome is unknown goes again, before anything newer of its
 *	 keys, until it has verdicts.
 * - Batches cover the window in order.  The recorded place moves over a batch
 *	 when it and all before it are done; batches done beyond are listed.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "sync_run.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "change_log.h"
#include "connection.h"
#include "delivery.h"
#include "gate.h"
#include "pacer_shmem.h"
#include "render.h"
#include "schedule.h"
#include "state.h"
#include "txn.h"

#define US_PER_S INT64CONST(1000000)

/* Backoff with full jitter, in µs. */
#define FIRST_BACKOFF US_PER_S
#define LAST_BACKOFF (300 * US_PER_S)

/* 200s that can't be read are repeated this often, then rows are parked. */
#define MAX_ODD_ANSWERS 5

/* Rows refused one by one in a row, before the rest is not asked for. */
#define MAX_REFUSED_ALONE 5

/* Requests under way at once, and look-ups. */
#define MIN_LANES 2
#define MAX_LANES 10
#define MAX_LOOKUPS 10

/* Rows of a chunk: begins small, then as many as make about this many bytes. */
#define FIRST_CHUNK_ROWS 100
#define CHUNK_BYTES (8 * 1024 * 1024)

/* A batch with nothing to send is recorded after this many keys. */
#define QUIET_BATCH_KEYS 20000

/* A run of a continuous sync lasts at most about this long, in ms. */
#define RUN_MS 60000

/* A stretch of the window, read and rendered, not yet in a batch. */
typedef struct Chunk
{
	MemoryContext context;
	int			n;
	int			next;			/* first row not taken into a batch yet */
	const char **keys;
	IsRow	   *rows;
	IsMemory   *memory;
	bool	   *updated;		/* the trigger saw an UPDATE */
	IsPlace    *before;			/* place just before the key's first change */
	IsPlace		end;			/* place of the last change read */
	bool		recall;			/* memory is outdated */
} Chunk;

struct IsRun
{
	MemoryContext context;
	IsHttp	   *http;
	int32		sync_id;
	IsSync	   *sync;
	MemoryContext sync_context; /* sync, renderer, connection */
	IsRenderer *renderer;
	IsConnection *connection;
	IsEndpoint	endpoint;

	IsSyncState *state;			/* as of the window's opening */
	MemoryContext state_context;
	IsWindow   *window;			/* NULL: none is open */
	bool		window_read;	/* to its end */
	bool		resumed;		/* an earlier run left it open */
	int64		run_id;
	TimestampTz run_started_at;
	Chunk	   *chunk;
	int			chunk_rows;
	IsBatch    *filling;
	List	   *batches;		/* complete ones in order; head not done yet */
	HTAB	   *claims;
	IsPlace		read_to;		/* end of the last complete batch */
	int			sending;
	List	   *requests;		/* Request *, under way */

	int64		not_before;		/* back off until */
	int			setbacks;		/* answers in a row that said "again" */
	bool		reported;		/* the trouble stands in the sync's state */
	double		rtt;			/* of requests, µs, smoothed */
	char		trouble[320];
};

/* Owner of a request: a batch's bulk request or the look-up of one row. */
typedef struct Request
{
	IsRun	   *run;
	IsBatch    *batch;
	int			row;			/* -1: bulk */
} Request;

static int64
now_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

static bool
place_after(IsPlace a, IsPlace b)
{
	return a.seq > b.seq || (a.seq == b.seq && a.offset > b.offset);
}

/* ----------------------------------------------------------------
 * Definitions
 * ----------------------------------------------------------------
 */

/* Load sync, connection and renderer as they are now (in a transaction). */
static void
load_definition(IsRun *run)
{
	MemoryContext old;

	if (run->renderer)
		is_render_destroy(run->renderer);
	run->renderer = NULL;
	MemoryContextReset(run->sync_context);
	run->connection = NULL;

	old = MemoryContextSwitchTo(run->sync_context);
	run->sync = is_catalog_get_sync_by_id(run->sync_id);
	if (run->sync == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the sync has been dropped")));
	run->connection = is_connection_get(run->sync->connection, run->sync->owner);
	run->endpoint = is_render_endpoint(run->sync);
	run->renderer = is_render_create(run->sync, run->connection->project_type);
	is_gate_load(run->connection);
	MemoryContextSwitchTo(old);
}

IsRun *
is_run_create(int32 sync_id, IsHttp *http)
{
	MemoryContext context;
	MemoryContext old;
	IsRun	   *run;
	bool		locked;

	is_txn_begin();
	locked = is_state_lock_run(sync_id);
	is_txn_commit();
	if (!locked)
		return NULL;

	context = AllocSetContextCreate(CurrentMemoryContext, "iterable_sync run",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	run = palloc0(sizeof(IsRun));
	run->context = context;
	run->http = http;
	run->sync_id = sync_id;
	run->sync_context = AllocSetContextCreate(context, "iterable_sync run definition",
											  ALLOCSET_DEFAULT_SIZES);
	run->state_context = AllocSetContextCreate(context, "iterable_sync run state",
											   ALLOCSET_DEFAULT_SIZES);
	run->claims = is_batch_claims_create();
	run->chunk_rows = FIRST_CHUNK_ROWS;
	run->rtt = 0.1 * US_PER_S;
	MemoryContextSwitchTo(old);
	return run;
}

const char *
is_run_trouble(const IsRun *run)
{
	return run->trouble[0] ? run->trouble : NULL;
}

static void
cancel_requests(IsRun *run)
{
	ListCell   *lc;

	foreach(lc, run->requests)
		is_http_cancel(run->http, lfirst(lc));
	run->requests = NIL;
}

void
is_run_abandon(IsRun *run)
{
	cancel_requests(run);
	is_state_unlock_run(run->sync_id);
}

void
is_run_free(IsRun *run)
{
	cancel_requests(run);
	is_txn_begin();
	if (run->window)
		is_change_log_close_window(run->window);
	if (run->renderer)
		is_render_destroy(run->renderer);
	is_state_unlock_run(run->sync_id);
	is_txn_commit();
	MemoryContextDelete(run->context);
}

/* ----------------------------------------------------------------
 * Window
 * ----------------------------------------------------------------
 */

/* Put keys into the change log for this sync alone. */
static void
feed_keys(IsRun *run, List *keys, char op)
{
	Datum	   *elems = palloc(list_length(keys) * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, keys)
	{
		elems[n++] = CStringGetTextDatum(lfirst(lc));
		if (n == IS_MAX_BATCH_ROWS || lnext(keys, lc) == NULL)
		{
			is_change_log_append(run->sync->source.source_id, run->sync_id, &op, 1,
								 construct_array(elems, n, TEXTOID, -1, false,
												 TYPALIGN_INT), n);
			n = 0;
		}
	}
}

/*
 * Rows that are to be sent without having changed become changes of this sync
 * in the log: so they take the one way that everything takes, and share its
 * order and its safety.  A backfill is fed in pieces of about a second's
 * requests, so that changes made meanwhile wait no longer than that.
 */
static void
feed(IsRun *run)
{
	IsSyncState *state = run->state;

	if (state->next_retry_at <= GetCurrentTimestamp())
		feed_keys(run, is_delivery_take_due_failures(run->sync_id, IS_MAX_BATCH_ROWS),
				  IS_OP_RETRY);

	if (state->backfilling)
	{
		int			piece = Max(1, Min(20, (int) run->connection->rate[run->endpoint])) *
			IS_MAX_BATCH_ROWS;
		List	   *keys = is_render_walk_keys(run->renderer, state->backfill_after,
											   state->backfill_until, piece);

		feed_keys(run, keys, IS_OP_BACKFILL);
		is_state_backfilled(run->sync_id,
							keys ? llast(keys) : state->backfill_after,
							list_length(keys) < piece);
	}
}

static void
reload_state(IsRun *run)
{
	MemoryContext old;

	MemoryContextReset(run->state_context);
	old = MemoryContextSwitchTo(run->state_context);
	run->state = is_state_load(run->sync_id, false);
	MemoryContextSwitchTo(old);
	if (run->state == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the sync has been dropped")));
}

/*
 * Resume the window that an earlier run left open, or open one if there is
 * anything to do.
 */
static bool
start_window(IsRun *run)
{
	IsSyncState *state;
	MemoryContext old;

	is_txn_begin();
	reload_state(run);
	state = run->state;
	if (run->sync == NULL || run->sync->version != state->version)
		load_definition(run);

	run->resumed = state->window_end != NULL;
	if (!run->resumed)
	{
		if (state->backfilling || state->next_retry_at <= GetCurrentTimestamp())
		{
			feed(run);
			is_txn_commit();
			is_txn_begin();
			reload_state(run);
			state = run->state;
		}

		old = MemoryContextSwitchTo(run->state_context);
		state->window_end = is_change_log_snapshot();
		MemoryContextSwitchTo(old);
		if (!is_change_log_has_changes(state->source_id, run->sync_id,
									   state->position, state->window_end))
		{
			is_txn_commit();
			return false;
		}
		is_state_open_window(run->sync_id, state->window_end);
	}

	run->run_id = state->run_id;
	run->run_started_at = state->run_started_at;
	if (run->run_id == 0)
	{
		run->run_id = is_state_begin_run(run->sync_id);
		run->run_started_at = GetCurrentTimestamp();
	}
	is_txn_commit();

	/* The window is on disk: from here on requests may leave. */
	is_txn_begin();
	old = MemoryContextSwitchTo(run->context);
	run->window = is_change_log_open_window(state->source_id, run->sync_id,
											state->position, state->window_end,
											state->done.seq, state->done.offset);
	MemoryContextSwitchTo(old);
	is_txn_commit();
	run->window_read = false;
	run->read_to = state->done;
	return true;
}

/* Everything of the window is done (in a transaction, with the last record). */
static void
finish_window(IsRun *run)
{
	is_state_close_window(run->sync_id);
	is_state_clear_trouble(run->sync_id);
	if (!is_schedule_continuous(run->state->schedule) ||
		TimestampDifferenceExceeds(run->run_started_at, GetCurrentTimestamp(), RUN_MS))
	{
		is_state_end_run(run->sync_id, run->run_id);
		run->run_id = 0;
	}
	is_change_log_close_window(run->window);
	run->window = NULL;
}

/* ----------------------------------------------------------------
 * Chunk
 * ----------------------------------------------------------------
 */

/* Was this place done by an earlier run, beyond those that it left undone? */
static bool
done_ahead(const IsRun *run, IsPlace place)
{
	for (int i = 0; i < run->state->nahead; i++)
		if (place_after(place, run->state->ahead[i].from) &&
			!place_after(place, run->state->ahead[i].to))
			return true;
	return false;
}

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

/*
 * Read the distinct keys of the next changes, at most max of them; repeated
 * changes of a key collapse into one.
 */
static void
read_keys(IsRun *run, Chunk *chunk, int max)
{
	HASHCTL		ctl = {0};
	HTAB	   *seen;
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
	chunk->updated = palloc0(max * sizeof(bool));
	chunk->before = palloc(max * sizeof(IsPlace));

	while (chunk->n < max)
	{
		IsPlace		place;

		if (!is_change_log_next(run->window, &change))
		{
			run->window_read = true;
			break;
		}
		place.seq = change.seq;
		place.offset = change.offset;

		if (change.op == IS_OP_LOST)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("changes were made while a key column of the source was missing"),
					 errhint("Restore the column and call iterable_enable_sync() with apply => 'backfill'.")));

		/* TRUNCATE removes rows only: there is nothing to send for it. */
		if (change.key != NULL && !done_ahead(run, place))
		{
			KeyEntry   *entry;
			bool		found;
			char	   *key = change.key;

			entry = hash_search(seen, &key, HASH_ENTER, &found);
			if (!found)
			{
				entry->key = pstrdup(key);
				entry->i = chunk->n++;
				chunk->keys[entry->i] = entry->key;
				chunk->before[entry->i] = previous;
			}
			if (change.op == IS_OP_UPDATE)
				chunk->updated[entry->i] = true;
		}
		previous = place;
	}
	chunk->end = previous;
}

/* Read, render and recall the next stretch of the window. */
static void
read_chunk(IsRun *run)
{
	MemoryContext context = AllocSetContextCreate(run->context, "iterable_sync chunk",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Chunk	   *chunk = palloc0(sizeof(Chunk));
	Size		bytes = 0;

	chunk->context = context;
	run->chunk = chunk;
	read_keys(run, chunk, run->chunk_rows);
	chunk->rows = palloc0(Max(chunk->n, 1) * sizeof(IsRow));
	chunk->memory = palloc0(Max(chunk->n, 1) * sizeof(IsMemory));
	if (chunk->n > 0)
	{
		is_render_rows(run->renderer, chunk->keys, chunk->n, chunk->rows);
		is_delivery_recall(run->sync_id, chunk->keys, chunk->n, chunk->memory);
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
	Chunk	   *chunk = run->chunk;

	is_delivery_recall(run->sync_id, chunk->keys + chunk->next,
					   chunk->n - chunk->next, chunk->memory + chunk->next);
	chunk->recall = false;
}

/* ----------------------------------------------------------------
 * Batch
 * ----------------------------------------------------------------
 */

typedef enum Decision
{
	SEND,
	SEND_IF_KNOWN,				/* to Iterable: look the user up first */
	NOTE
} Decision;

/*
 * What to do with a row, by mode and memory.  Modes speak of the destination:
 * the trigger's operation alone says little, since reloads and partition moves
 * all look like inserts.
 */
static Decision
decide(const IsRun *run, const IsRow *row, const IsMemory *memory, bool updated,
	   IsFate *fate)
{
	bool		accepted = memory->state == IS_DELIVERY_ACCEPTED ||
		memory->state == IS_DELIVERY_VANISHED;

	if (!row->found)
	{
		*fate = IS_FATE_VANISHED;
		return NOTE;
	}
	if (row->problem)
	{
		*fate = IS_FATE_REJECTED;
		return NOTE;
	}

	switch (run->sync->mode)
	{
		case IS_MODE_INSERT:
			if (accepted)
			{
				*fate = IS_FATE_SKIPPED;
				return NOTE;
			}
			break;
		case IS_MODE_UPDATE:
			if (run->sync->object == IS_OBJECT_EVENT &&
				memory->state == 0 && !memory->failed && !updated)
			{
				*fate = IS_FATE_SEEN;
				return NOTE;
			}
			break;
		case IS_MODE_UPSERT:
			break;
	}

	/*
	 * A failed row may have been applied in part; in a resumed window a
	 * request may have changed what we remember.
	 */
	if (memory->state != 0 && memory->hash == row->hash && !memory->failed &&
		!run->resumed)
	{
		*fate = memory->state == IS_DELIVERY_VANISHED ?
			IS_FATE_REAPPEARED : IS_FATE_UNCHANGED;
		return NOTE;
	}

	if (run->sync->mode == IS_MODE_UPDATE &&
		run->sync->object == IS_OBJECT_USER && !accepted)
		return SEND_IF_KNOWN;
	return SEND;
}

static void
complete_batch(IsRun *run, IsPlace to)
{
	IsBatch    *batch = run->filling;
	MemoryContext old = MemoryContextSwitchTo(run->context);

	batch->stretch.to = to;
	run->read_to = to;
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
	Chunk	   *chunk = run->chunk;
	IsBatch    *batch = run->filling;

	while (chunk->next < chunk->n)
	{
		int			i = chunk->next;
		IsRow	   *row = &chunk->rows[i];
		IsFate		fate = IS_FATE_PENDING;
		Decision	decision;
		bool		taken = is_batch_taken(batch, run->claims, row);

		if (!taken)
		{
			decision = decide(run, row, &chunk->memory[i], chunk->updated[i], &fate);
			if (decision == NOTE)
				is_batch_note(batch, row, fate);
			else if (!is_batch_add(batch, row, decision == SEND_IF_KNOWN))
			{
				complete_batch(run, chunk->before[i]);
				return true;
			}
			batch->counts.keys_seen++;
			chunk->next++;
			continue;
		}

		/* What is decided now would rest on an outdated memory. */
		chunk->recall = true;
		if (batch->nrows > 0)
			complete_batch(run, chunk->before[i]);
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
static bool
fill(IsRun *run)
{
	bool		progress = true;
	IsSyncState *now;

	is_txn_begin();
	XactReadOnly = true;
	now = is_state_load(run->sync_id, false);
	if (now == NULL || now->version != run->sync->version)
		load_definition(run);
	if (run->chunk == NULL && !run->window_read)
		read_chunk(run);
	if (run->chunk && run->chunk->recall)
		recall_again(run);
	if (run->filling == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(run->context);

		run->filling = is_batch_create(run->endpoint,
									   run->sync->object == IS_OBJECT_USER,
									   run->read_to);
		MemoryContextSwitchTo(old);
	}
	if (run->chunk)
		progress = fill_from_chunk(run);
	if (run->filling &&
		((run->window_read && run->chunk == NULL) ||
		 run->filling->nsend >= IS_MAX_BATCH_ROWS ||
		 (run->filling->nsend == 0 && run->filling->nrows >= QUIET_BATCH_KEYS)))
		complete_batch(run, run->read_to);
	is_txn_commit();

	/* What was read may be visible before it is durable. */
	is_txn_flush_wal();
	return progress;
}

/* ----------------------------------------------------------------
 * Verdicts
 * ----------------------------------------------------------------
 */

static bool
batch_done(const IsBatch *batch)
{
	return batch->nsend == 0 && !batch->sending && batch->lookups == 0;
}

/*
 * Record what was learnt of a batch, and how far the window is done now: one
 * short transaction, before anything newer of its keys may leave.
 */
static void
record(IsRun *run, IsBatch *batch)
{
	IsPlace		done = run->state->done;
	IsStretch  *ahead;
	int			nahead = 0;
	int			nfinished = 0;
	bool		in_order = true;
	bool		last;
	ListCell   *lc;

	is_txn_begin();

	/* What the rows of the chunk were compared with may change now. */
	if (run->chunk)
		run->chunk->recall = true;

	/* Dropped meanwhile: the verdicts are nobody's. */
	if (is_state_load(run->sync_id, true) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the sync has been dropped")));

	is_batch_record(batch, run->sync_id);
	is_state_count(run->run_id, &batch->counts);
	memset(&batch->counts, 0, sizeof(batch->counts));

	ahead = palloc((list_length(run->batches) + run->state->nahead + 1) * sizeof(IsStretch));
	foreach(lc, run->batches)
	{
		IsBatch    *other = lfirst(lc);

		if (!batch_done(other))
			in_order = false;
		else if (in_order)
		{
			done = other->stretch.to;
			nfinished++;
		}
		else
			ahead[nahead++] = other->stretch;
	}
	for (int i = 0; i < run->state->nahead; i++)
		if (place_after(run->state->ahead[i].to, done))
			ahead[nahead++] = run->state->ahead[i];

	last = run->window_read && run->chunk == NULL && run->filling == NULL &&
		nfinished == list_length(run->batches);
	if (last)
		finish_window(run);
	else if (batch_done(batch))
		is_state_advance(run->sync_id, done, ahead, nahead);
	if (run->setbacks == 0)
	{
		is_gate_open(run->connection);
		if (run->reported)
			is_state_clear_trouble(run->sync_id);
		run->reported = false;
	}
	is_txn_commit();

	run->state->done = done;
	if (batch_done(batch))
	{
		batch->closed = true;
		is_batch_release(batch, run->claims);
	}
	while (nfinished-- > 0)
	{
		is_batch_free(linitial(run->batches));
		run->batches = list_delete_first(run->batches);
	}
}

static void
set_trouble(IsRun *run, const char *format, ...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(run->trouble, sizeof(run->trouble), format, args);
	va_end(args);
}

/* The request may go again after a pause. */
static void
back_off(IsRun *run, int retry_after_ms)
{
	int64		longest = Min(LAST_BACKOFF, FIRST_BACKOFF << Min(run->setbacks, 10));
	int64		pause = (int64) (pg_prng_double(&pg_global_prng_state) * longest);

	/* Retry-After wins within bounds */
	if (retry_after_ms >= 0)
		pause = Min(LAST_BACKOFF, (int64) retry_after_ms * 1000);
	run->setbacks++;
	run->not_before = now_us() + pause;

	/* Say so once it is more than a passing fault. */
	if (run->setbacks == 3)
	{
		ereport(LOG,
				(errmsg("sync \"%s\" is failing: %s", run->sync->name, run->trouble)));
		is_txn_begin();
		is_state_report_trouble(run->sync_id, run->trouble, false);
		is_txn_commit();
		run->reported = true;
	}
}

static void
stop_connection(IsRun *run, const char *reason)
{
	set_trouble(run, "connection \"%s\" is stopped: %s", run->connection->name, reason);
	is_txn_begin();
	is_gate_stop(run->connection, reason, now_us());
	is_txn_commit();
	run->setbacks++;
}

static void
settle_sent(IsBatch *batch, IsFate fate, const char *class, const char *code,
			const char *message)
{
	for (int k = 0; k < batch->nsent; k++)
		if (batch->rows[batch->sent[k]].fate == IS_FATE_PENDING)
			is_batch_settle(batch, batch->sent[k], fate, class, code, message);
}

/* Give the rows of the request the verdicts of the answer. */
static void
settle_per_row(IsRun *run, IsBatch *batch, const IsApiRow *rows, const IsApiAnswer *api)
{
	bool		unknown = false;

	for (int k = 0; k < batch->nsent; k++)
	{
		switch (rows[k].verdict)
		{
			case IS_VERDICT_ACCEPTED:
				is_batch_settle(batch, batch->sent[k], IS_FATE_ACCEPTED, NULL, NULL, NULL);
				break;
			case IS_VERDICT_REJECTED:
				is_batch_settle(batch, batch->sent[k], IS_FATE_REJECTED,
								rows[k].class, api->code, rows[k].message);
				break;
			case IS_VERDICT_LATER:
				is_batch_settle(batch, batch->sent[k], IS_FATE_LATER,
								rows[k].class, api->code, rows[k].message);
				break;
			case IS_VERDICT_UNKNOWN:
				unknown = true;
				break;
			case IS_VERDICT_AGAIN:
				break;
		}
	}
	batch->send_max = Min(batch->send_limit, 2 * batch->nsent);
	batch->refused_alone = 0;
	if (!unknown)
	{
		run->setbacks = 0;
		run->trouble[0] = '\0';
		return;
	}
	set_trouble(run, "an answer does not account for every row of its request");
	if (++batch->odd_answers >= MAX_ODD_ANSWERS)
		settle_sent(batch, IS_FATE_REJECTED, "unknown_outcome", api->code,
					"the answers do not account for this row");
	else
		back_off(run, -1);
}

/*
 * None of the rows was applied, and the answer does not say because of which:
 * halve the request until the culprit stands alone.  Where one row after the
 * other is refused, it is not the rows: park the rest without asking.
 */
static void
take_refusal(IsRun *run, IsBatch *batch, const IsApiRow *row, const IsApiAnswer *api)
{
	run->setbacks = 0;
	if (batch->nsent > 1 && batch->refused_alone < MAX_REFUSED_ALONE)
	{
		batch->send_max = batch->nsent / 2;
		return;
	}
	settle_sent(batch, batch->nsent == 1 && row->verdict == IS_VERDICT_LATER ?
				IS_FATE_LATER : IS_FATE_REJECTED,
				api->class ? api->class : "refused", api->code,
				api->message[0] ? api->message : api->hint);
	batch->refused_alone++;
}

static IsApiRow *
api_rows(IsBatch *batch)
{
	IsApiRow   *rows = palloc0(Max(batch->nsent, 1) * sizeof(IsApiRow));

	for (int k = 0; k < batch->nsent; k++)
	{
		const IsRow *row = &batch->rows[batch->sent[k]].row;

		rows[k].email = row->email;
		rows[k].user_id = row->user_id;
		rows[k].data_email = row->data_email;
		rows[k].data_user_id = row->data_user_id;
		rows[k].event_name = row->event_name;
	}
	return rows;
}

static void
take_bulk_answer(IsRun *run, IsBatch *batch, IsHttpAnswer *answer)
{
	IsApiRow   *rows = api_rows(batch);
	IsApiAnswer api = {0};

	batch->sending = false;
	run->sending--;
	batch->counts.requests++;
	batch->counts.bytes += batch->body.len;

	if (answer->outcome == IS_HTTP_ANSWERED)
	{
		run->rtt = 0.8 * run->rtt + 0.2 * answer->elapsed_us;
		is_api_read_answer(run->endpoint, answer->status, answer->body,
						   answer->body_len, rows, batch->nsent, &api);
	}
	else
	{
		api.kind = answer->outcome == IS_HTTP_NOT_SENT ? IS_ANSWER_AGAIN : IS_ANSWER_UNKNOWN;
		strlcpy(api.message, answer->error, sizeof(api.message));
	}

	switch (api.kind)
	{
		case IS_ANSWER_PER_ROW:
			settle_per_row(run, batch, rows, &api);
			break;
		case IS_ANSWER_AGAIN:
		case IS_ANSWER_UNKNOWN:
			if (api.rate_limited)
				is_pacer_report_429(run->connection->rate_group, run->endpoint,
									run->connection->rate[run->endpoint]);
			if (answer->outcome == IS_HTTP_ANSWERED)
				set_trouble(run, "Iterable answered with status %d%s%s", answer->status,
							api.message[0] ? ": " : "", api.message);
			else
				set_trouble(run, "no answer: %s", api.message);
			if (answer->status == 200 && ++batch->odd_answers >= MAX_ODD_ANSWERS)
				settle_sent(batch, IS_FATE_REJECTED, "unknown_outcome", api.code,
							"the answers cannot be understood");
			else
				back_off(run, answer->retry_after_ms);
			break;
		case IS_ANSWER_STOP:
			stop_connection(run, psprintf("Iterable answered with status %d%s%s",
										  answer->status, api.message[0] ? ": " : "",
										  api.message));
			break;
		case IS_ANSWER_SPLIT:
			if (batch->nsent > 1)
				batch->send_max = batch->send_limit = batch->nsent / 2;
			else
				settle_sent(batch, IS_FATE_REJECTED, "too_large", api.code, api.message);
			break;
		case IS_ANSWER_REJECTED:
			take_refusal(run, batch, &rows[0], &api);
			break;
	}

	record(run, batch);
}

static void
take_lookup_answer(IsRun *run, IsBatch *batch, int i, IsHttpAnswer *answer)
{
	IsBatchRow *row = &batch->rows[i];
	IsApiAnswer api = {0};
	int			known = -1;

	batch->lookups--;
	row->looking_up = false;
	if (answer->outcome == IS_HTTP_ANSWERED)
		known = is_api_read_user_answer(answer->status, answer->body,
										answer->body_len, &api);
	else
		strlcpy(api.message, answer->error, sizeof(api.message));

	if (known == 1)
		row->look_up = false;
	else if (known == 0)
		is_batch_settle(batch, i, IS_FATE_SKIPPED, NULL, NULL, NULL);
	else if (api.kind == IS_ANSWER_STOP)
		stop_connection(run, psprintf("Iterable answered with status %d", answer->status));
	else if (api.kind == IS_ANSWER_REJECTED)
		is_batch_settle(batch, i, IS_FATE_REJECTED, "rejected", api.code, api.message);
	else
	{
		if (api.rate_limited)
			is_pacer_report_429(run->connection->rate_group, IS_ENDPOINT_USER_LOOKUP,
								run->connection->rate[IS_ENDPOINT_USER_LOOKUP]);
		set_trouble(run, "a user look-up failed: %s",
					api.message[0] ? api.message : "unexpected answer");
		back_off(run, answer->retry_after_ms);
	}
	if (known >= 0)
	{
		run->setbacks = 0;
		run->trouble[0] = '\0';
	}
	if (batch_done(batch))
		record(run, batch);
}

IsRun *
is_run_of_answer(const IsHttpAnswer *answer)
{
	return ((Request *) answer->owner)->run;
}

void
is_run_take_answer(IsHttpAnswer *answer)
{
	Request    *request = answer->owner;
	IsRun	   *run = request->run;
	IsBatch    *batch = request->batch;
	int			row = request->row;
	MemoryContext context = AllocSetContextCreate(run->context, "iterable_sync answer",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	run->requests = list_delete_ptr(run->requests, request);
	if (row < 0)
		take_bulk_answer(run, batch, answer);
	else
		take_lookup_answer(run, batch, row, answer);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* ----------------------------------------------------------------
 * Requests
 * ----------------------------------------------------------------
 */

/* As many lanes as the limit needs at this round trip, and one to spare. */
static int
lanes(const IsRun *run)
{
	double		needed = run->connection->rate[run->endpoint] * run->rtt / US_PER_S;

	return Max(MIN_LANES, Min(MAX_LANES, (int) needed + 2));
}

/* 0 if a request may leave, else µs to wait; counts it if so. */
static int64
ask_to_send(IsRun *run, IsEndpoint endpoint)
{
	int64		now = now_us();
	int64		wait;

	if (run->not_before > now)
		return run->not_before - now;
	wait = is_gate_ask(run->connection, now);
	if (wait > 0)
		return wait;
	return is_pacer_ask(run->connection->rate_group, endpoint,
						run->connection->rate[endpoint]);
}

static void
start_request(IsRun *run, IsBatch *batch, int row, const char *path)
{
	IsHttpRequest http = {0};
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	Request    *owner = palloc(sizeof(Request));

	owner->run = run;
	owner->batch = batch;
	owner->row = row;
	http.url = psprintf("%s%s", run->connection->base_url, path);
	http.api_key = run->connection->api_key;
	http.connect_timeout_ms = run->connection->connect_timeout_ms;
	http.timeout_ms = run->connection->request_timeout_ms;
	http.allow_http = run->connection->allow_http;
	http.owner = owner;
	if (row < 0)
	{
		http.body = batch->body.data;
		http.body_len = batch->body.len;
	}
	is_http_start(run->http, &http);
	MemoryContextSwitchTo(run->context);
	run->requests = lappend(run->requests, owner);
	MemoryContextSwitchTo(old);
}

/* Start look-ups of a batch; 0 or µs to wait. */
static int64
look_up(IsRun *run, IsBatch *batch)
{
	for (int i = 0; i < batch->nrows && batch->lookups < MAX_LOOKUPS; i++)
	{
		IsBatchRow *row = &batch->rows[i];
		int64		wait;

		if (!row->to_send || !row->look_up || row->looking_up)
			continue;
		wait = ask_to_send(run, IS_ENDPOINT_USER_LOOKUP);
		if (wait > 0)
			return wait;
		start_request(run, batch, i,
					  is_api_user_path(row->row.email,
									   row->row.email ? NULL : row->row.user_id));
		row->looking_up = true;
		batch->lookups++;
	}
	return 0;
}

/*
 * Send what is complete, in order.  Returns 0, or µs until the first that had
 * to wait may leave.
 */
static int64
dispatch(IsRun *run)
{
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		IsBatch    *batch = lfirst(lc);
		int64		wait;

		if (batch->sending || batch->nsend == 0)
			continue;
		wait = look_up(run, batch);
		if (wait > 0)
			return wait;
		if (batch->lookups > 0 || run->sending >= lanes(run))
			continue;
		if (!is_batch_build_request(batch))
			continue;
		wait = ask_to_send(run, run->endpoint);
		if (wait > 0)
			return wait;
		batch->sending = true;
		run->sending++;
		start_request(run, batch, -1, is_api_path(run->endpoint));
	}
	return 0;
}

/* Batches that need no request are done as soon as they are complete. */
static void
record_quiet_batches(IsRun *run)
{
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		IsBatch    *batch = lfirst(lc);

		if (batch_done(batch) && !batch->closed)
		{
			record(run, batch);
			return;				/* the list has changed */
		}
	}
}

int64
is_run_advance(IsRun *run, bool stop)
{
	int64		wait;
	bool		blocked = false;

	if (run->window == NULL)
	{
		if (stop)
			return IS_RUN_IDLE;
		if (!start_window(run))
			return IS_RUN_IDLE;
	}
	if (stop)
		return run->requests ? IS_RUN_ANSWER : IS_RUN_IDLE;

	/* A refused key is read again, it may have been replaced. */
	if (is_gate_stopped(run->connection) && run->sending == 0)
	{
		MemoryContext old = MemoryContextSwitchTo(run->sync_context);

		is_txn_begin();
		run->connection = is_connection_get(run->sync->connection, run->sync->owner);
		is_txn_commit();
		MemoryContextSwitchTo(old);
	}

	wait = dispatch(run);
	if ((!run->window_read || run->chunk) &&
		list_length(run->batches) <= lanes(run))
	{
		blocked = !fill(run);
		record_quiet_batches(run);
		if (run->window == NULL)
			return IS_RUN_AT_ONCE;
		if (!blocked)
			return IS_RUN_AT_ONCE;
		wait = dispatch(run);
	}

	/* An empty window (all of it was done ahead). */
	if (run->window_read && run->chunk == NULL && run->filling == NULL &&
		run->batches == NIL)
	{
		is_txn_begin();
		finish_window(run);
		is_txn_commit();
		return IS_RUN_AT_ONCE;
	}
	if (wait > 0)
		return wait;
	return IS_RUN_ANSWER;
}
