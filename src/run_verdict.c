/*-------------------------------------------------------------------------
 *
 * run_verdict.c
 *	  From answers to records: what Iterable's words mean for the rows of a
 *	  batch, and how far the window is done.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"

#include "gate.h"
#include "pacer_shmem.h"
#include "run_internal.h"
#include "txn.h"

/* Backoff with full jitter, in µs. */
#define FIRST_BACKOFF US_PER_S
#define LAST_BACKOFF (300 * US_PER_S)

/* 200s that can't be read are repeated this often, then rows are parked. */
#define MAX_ODD_ANSWERS 5

/* Rows refused one by one in a row, before the rest is not asked for. */
#define MAX_REFUSED_ALONE 5

bool
is_run_batch_done(const IsBatch *batch)
{
	return batch->nsend == 0 && !batch->sending && batch->lookups == 0;
}

/*
 * Record what was learnt of a batch, and how far the window is done now: one
 * short transaction, before anything newer of its keys may leave.
 */
void
is_run_record(IsRun *run, IsBatch *batch)
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
	is_run_check_state(run, is_state_load(run->sync_id, true));

	is_batch_record(batch, run->sync_id);
	is_state_count(run->run_id, &batch->counts);
	memset(&batch->counts, 0, sizeof(batch->counts));

	ahead = palloc((list_length(run->batches) + run->state->nahead + 1) * sizeof(IsStretch));
	foreach(lc, run->batches)
	{
		IsBatch    *other = lfirst(lc);

		if (!is_run_batch_done(other))
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
		if (is_run_place_after(run->state->ahead[i].to, done))
			ahead[nahead++] = run->state->ahead[i];

	last = run->window_read && run->chunk == NULL && run->filling == NULL &&
		nfinished == list_length(run->batches);
	if (last)
		is_run_finish_window(run);
	else if (is_run_batch_done(batch))
	{
		is_run_ask_for_scan(run);
		is_state_advance(run->sync_id, done, ahead, nahead);
	}
	if (run->setbacks == 0 && run->reported)
	{
		is_state_clear_trouble(run->sync_id);
		run->reported = false;
	}
	is_txn_commit();

	run->state->done = done;
	if (is_run_batch_done(batch))
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

static void set_trouble(IsRun *run, const char *format,...) pg_attribute_printf(2, 3);

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
	run->not_before = is_run_now_us() + pause;

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

/* Iterable has answered: the key is good, whatever becomes of the rows. */
static void
clear_setbacks(IsRun *run)
{
	run->setbacks = 0;
	run->trouble[0] = '\0';
	if (is_gate_stopped(run->connection))
	{
		is_txn_begin();
		is_gate_open(run->connection);
		is_txn_commit();
	}
}

static void
stop_connection(IsRun *run, const char *reason)
{
	set_trouble(run, "connection \"%s\" is stopped: %s", run->connection->name, reason);
	is_txn_begin();
	is_gate_stop(run->connection, reason, is_run_now_us());
	is_txn_commit();
	run->setbacks++;
}

/* Park rows of which nobody can say whether Iterable has them. */
static void
give_up(IsRun *run, IsBatch *batch, const char *code, const char *message)
{
	is_batch_settle_sent(batch, IS_FATE_REJECTED, "unknown_outcome", code, message);
	run->setbacks = 0;
	run->trouble[0] = '\0';
}

/* Give the rows of the request the verdicts of the answer. */
static void
settle_per_row(IsRun *run, IsBatch *batch, const IsApiRow *rows, const IsApiAnswer *api)
{
	bool		known = is_batch_settle_rows(batch, rows, api);

	batch->send_max = Min(batch->send_limit, 2 * batch->nsent);
	batch->refused_alone = 0;
	if (known)
	{
		clear_setbacks(run);
		return;
	}
	set_trouble(run, "an answer does not account for every row of its request");
	if (++batch->odd_answers >= MAX_ODD_ANSWERS)
		give_up(run, batch, api->code, "the answers do not account for this row");
	else
		back_off(run, -1);
}

/*
 * None of the rows was applied, and the answer does not say because of which:
 * halve the request until the culprit stands alone.  Where one row after the
 * other is refused, it is not the rows: park the rest without asking.
 */
static void
take_refusal(IsRun *run, IsBatch *batch, const IsApiRow *rows, const IsApiAnswer *api)
{
	clear_setbacks(run);
	if (batch->nsent > 1 && batch->refused_alone < MAX_REFUSED_ALONE)
	{
		batch->send_max = batch->nsent / 2;
		return;
	}
	is_batch_settle_refused(batch, rows, api);
	batch->refused_alone++;
}

static void
take_bulk_answer(IsRun *run, IsBatch *batch, IsHttpAnswer *answer)
{
	IsApiAnswer api;
	IsApiRow   *rows = is_batch_read_answer(batch, answer, &api);

	batch->sending = false;
	run->sending--;
	batch->counts.requests++;
	batch->counts.bytes += batch->body.len;

	if (answer->outcome == IS_HTTP_ANSWERED)
		run->rtt = 0.8 * run->rtt + 0.2 * answer->elapsed_us;

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
				give_up(run, batch, api.code, "the answers cannot be understood");
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
				is_batch_settle_sent(batch, IS_FATE_REJECTED, "too_large", api.code, api.message);
			break;
		case IS_ANSWER_REJECTED:
			take_refusal(run, batch, rows, &api);
			break;
	}

	is_run_record(run, batch);
}

static void
take_lookup_answer(IsRun *run, IsBatch *batch, int i, IsHttpAnswer *answer)
{
	IsBatchRow *row = &batch->rows[i];
	IsApiAnswer api = {0};
	int			known = -1;

	batch->lookups--;
	row->looking_up = false;
	is_batch_note_answer(batch, answer);
	if (answer->outcome == IS_HTTP_ANSWERED)
		known = is_api_read_user_answer(answer->status, answer->body,
										answer->body_len, &api);
	else
		strlcpy(api.message, answer->error, sizeof(api.message));

	if (known == 1)
		row->look_up = false;
	else if (known == 0)
		/* where every run looks at all rows, do not ask for it at each again */
		is_batch_settle(batch, i,
						is_render_is_captured(run->renderer) ? IS_FATE_SKIPPED : IS_FATE_SEEN,
						NULL, NULL, NULL);
	else if (api.kind == IS_ANSWER_STOP)
		stop_connection(run, psprintf("Iterable answered with status %d", answer->status));
	else if (api.kind == IS_ANSWER_REJECTED)
		is_batch_settle(batch, i, IS_FATE_REJECTED, api.class, api.code, api.message);
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
		clear_setbacks(run);
	if (is_run_batch_done(batch))
		is_run_record(run, batch);
}

IsRun *
is_run_of_answer(const IsHttpAnswer *answer)
{
	return ((IsRequest *) answer->owner)->run;
}

void
is_run_take_answer(IsHttpAnswer *answer)
{
	IsRequest  *request = answer->owner;
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
