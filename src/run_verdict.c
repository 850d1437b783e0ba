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

#include "clock.h"
#include "gate.h"
#include "pacer_shmem.h"
#include "run_internal.h"
#include "turn.h"
#include "txn.h"

/* Backoff with full jitter, in µs. */
#define FIRST_BACKOFF US_PER_S
#define LAST_BACKOFF (300 * US_PER_S)

/* Answers that can't be read are asked for this often, then rows are parked. */
#define MAX_ODD_ANSWERS 5

/*
 * Those that leave out rows, this often for the same rows; then in halves,
 * until so many rows in a row were given up alone: then it is not the rows.
 */
#define MAX_INCOMPLETE_ANSWERS 2
#define MAX_GIVEN_UP_ALONE 5

/*
 * A 5xx may be Iterable's outage, or one row's fault.  Halve the request after
 * so many; then a row that has them alone can wait for its own sake, if others
 * have had answers meanwhile, or after so many.
 */
#define MAX_SERVER_ERRORS 4
#define MAX_SERVER_ERRORS_ALONE 12

/* A user look-up that fails so often puts its row off. */
#define MAX_LOOKUP_ERRORS 6

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

	is_batch_record(batch, run->sync);
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
		if (is_state_place_after(run->state->ahead[i].to, done))
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
		if (run->known)
			is_batch_enter_known(batch, run->known);
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
	run->not_before = is_clock_us() + pause;

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
clear_trouble(IsRun *run)
{
	run->setbacks = 0;
	run->trouble[0] = '\0';
}

/* Iterable has answered: the key is good, whatever becomes of the rows. */
static void
clear_setbacks(IsRun *run)
{
	clear_trouble(run);
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
	is_gate_stop(run->connection, reason, is_clock_us());
	is_txn_commit();
	run->setbacks++;
}

/* Park rows of which nobody can say whether Iterable has them. */
static void
give_up(IsRun *run, IsBatch *batch, const char *code, const char *message)
{
	is_batch_settle_sent(batch, IS_FATE_REJECTED, "unknown_outcome", code, message);
	clear_trouble(run);
}

/*
 * The answer leaves out what became of some rows.  The rows that it does not
 * name may have been applied as well as not; whoever stands alone with such an
 * answer cannot be told apart.
 */
static void
take_incomplete(IsRun *run, IsBatch *batch, const IsApiAnswer *api)
{
	static const char message[] = "the answers do not account for this row";

	set_trouble(run, "an answer does not account for every row of its request");
	if (++batch->odd_answers < MAX_INCOMPLETE_ANSWERS)
		back_off(run, -1);
	else if (batch->nsent > 1)
		batch->send_max = batch->nsent / 2;
	else
	{
		give_up(run, batch, api->code, message);
		if (++batch->given_up_alone >= MAX_GIVEN_UP_ALONE)
			is_batch_settle_all(batch, IS_FATE_REJECTED, "unknown_outcome", api->code, message);
	}
}

/* Give the rows of the request the verdicts of the answer. */
static void
settle_per_row(IsRun *run, IsBatch *batch, const IsApiRow *rows, const IsApiAnswer *api)
{
	if (!is_batch_settle_rows(batch, rows, api))
	{
		take_incomplete(run, batch, api);
		return;
	}
	batch->suspects = Max(0, batch->suspects - batch->nsent);
	batch->send_max = Min(batch->send_limit, batch->suspects > 0 ?
						  (batch->suspects + 1) / 2 : 4 * batch->nsent);
	batch->given_up_alone = 0;
	clear_setbacks(run);
}

/*
 * None of the rows was applied, and the answer does not say because of which:
 * halve the request until the culprit stands alone.  Then go on with small
 * requests that grow.  So a culprit among many good rows costs less than twice
 * the logarithm of their number, and one that follows another a single request.
 */
static void
take_refusal(IsRun *run, IsBatch *batch, const IsApiRow *rows, const IsApiAnswer *api)
{
	clear_setbacks(run);
	if (batch->nsent > 1)
	{
		batch->suspects = batch->nsent;
		batch->send_max = batch->nsent / 2;
	}
	else
	{
		is_batch_settle_refused(batch, rows, api);
		batch->suspects = 0;
	}
}

/* "status 502: what Iterable says (request 3f2…)"; palloc'ed */
static char *
describe_answer(const IsHttpAnswer *answer, const IsApiAnswer *api)
{
	return psprintf("Iterable answered with status %d%s%s%s%s%s", answer->status,
					api->message[0] ? ": " : "", api->message,
					answer->request_id[0] ? " (request " : "", answer->request_id,
					answer->request_id[0] ? ")" : "");
}

/*
 * Rows that have failed before, and now by an error of Iterable's, wait for
 * their own sake, each until its time comes again: nothing waits with them.
 */
static void
put_off_again(IsBatch *batch, const IsApiAnswer *api)
{
	if (batch->nsent > 1)
	{
		batch->send_max = batch->nsent / 2;
		return;
	}
	is_batch_settle_sent(batch, IS_FATE_LATER, api->class, api->code, api->message);
	if (++batch->given_up_alone >= MAX_GIVEN_UP_ALONE)
		is_batch_settle_all(batch, IS_FATE_LATER, api->class, api->code, api->message);
}

/* Nothing was applied, or nobody knows: the same rows again after a pause. */
static void
take_failure(IsRun *run, IsBatch *batch, const IsHttpAnswer *answer, const IsApiAnswer *api)
{
	bool		answered = answer->outcome == IS_HTTP_ANSWERED;

	/* that is no trouble of the run */
	if (api->internal_error && batch->sent_again)
	{
		put_off_again(batch, api);
		return;
	}

	if (api->rate_limited)
		is_pacer_report_429(run->connection->rate_group, run->endpoint,
							run->connection->rate[run->endpoint]);
	if (answered)
		set_trouble(run, "%s", describe_answer(answer, api));
	else
		set_trouble(run, "no answer: %s", api->message);

	if (api->kind == IS_ANSWER_UNKNOWN && answered &&
		++batch->odd_answers >= MAX_ODD_ANSWERS)
	{
		give_up(run, batch, api->code, "the answers cannot be understood");
		return;
	}

	if (api->internal_error)
	{
		if (batch->server_errors++ == 0)
			batch->answered_before = run->answered;
		if (batch->server_errors >= MAX_SERVER_ERRORS && batch->nsent > 1)
			batch->send_max = batch->nsent / 2;
		else if (batch->server_errors >= MAX_SERVER_ERRORS_ALONE ||
				 (batch->server_errors >= MAX_SERVER_ERRORS &&
				  run->answered > batch->answered_before))
		{
			/* that others had answers before says nothing of the next one */
			is_batch_settle_sent(batch, IS_FATE_LATER, api->class, api->code, api->message);
			batch->server_errors = MAX_SERVER_ERRORS - 1;
			batch->answered_before = run->answered;
			clear_trouble(run);
			return;
		}
	}
	back_off(run, answer->retry_after_ms);
}

static void
take_bulk_answer(IsRun *run, IsBatch *batch, IsHttpAnswer *answer)
{
	IsApiAnswer api;
	IsApiRow   *rows = is_batch_read_answer(batch, answer, &api);

	batch->sending = false;
	run->sending--;
	is_turn_end(batch);
	batch->counts.requests++;
	batch->counts.bytes += batch->body.len;

	if (answer->outcome == IS_HTTP_ANSWERED)
		run->rtt = 0.8 * run->rtt + 0.2 * answer->elapsed_us;

	switch (api.kind)
	{
		case IS_ANSWER_PER_ROW:
			run->answered++;
			settle_per_row(run, batch, rows, &api);
			break;
		case IS_ANSWER_AGAIN:
		case IS_ANSWER_UNKNOWN:
			take_failure(run, batch, answer, &api);
			break;
		case IS_ANSWER_STOP:
			stop_connection(run, describe_answer(answer, &api));
			break;
		case IS_ANSWER_SPLIT:
			if (batch->nsent > 1)
				batch->send_max = batch->send_limit = batch->nsent / 2;
			else
				is_batch_settle_sent(batch, IS_FATE_REJECTED, "too_large", api.code, api.message);
			break;
		case IS_ANSWER_REJECTED:
			run->answered++;
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
	else if (answer->outcome == IS_HTTP_ANSWERED && !api.rate_limited &&
			 (row->failed_before || ++row->lookup_errors >= MAX_LOOKUP_ERRORS))
	{
		is_batch_settle(batch, i, IS_FATE_LATER,
						api.kind == IS_ANSWER_UNKNOWN ? "unknown_outcome" : api.class,
						api.code, api.message);
		clear_trouble(run);
	}
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
