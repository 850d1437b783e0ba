/*-------------------------------------------------------------------------
 *
 * run_request.c
 *	  From batches to requests: lanes, pace, and look-ups.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock.h"
#include "gate.h"
#include "pacer_shmem.h"
#include "run_internal.h"
#include "turn.h"

/* Requests under way at once, and look-ups. */
#define MIN_LANES 2
#define MAX_LOOKUPS 10

/* How often a connection in trouble is read again, in µs. */
#define CONNECTION_LOOK_INTERVAL (2 * US_PER_S)

void
is_run_cancel_requests(IsRun *run)
{
	ListCell   *lc;

	foreach(lc, run->requests)
		is_http_cancel(run->http, lfirst(lc));
	run->requests = NIL;
	is_turn_step_back(run, true);
}

/*
 * Twice the lanes that the limit needs at this round trip: an answer's lane is
 * free only when its verdicts are recorded, and round trips vary.
 */
int
is_run_lanes(const IsRun *run)
{
	double		needed = 2 * run->connection->rate[run->endpoint] * run->rtt / US_PER_S;

	return Max(MIN_LANES, Min(IS_RUN_MAX_LANES, (int) needed + 1));
}

/* 0 if the sync and its connection are well, else µs to wait. */
static int64
ask_connection(IsRun *run)
{
	int64		now = is_clock_us();
	int64		wait = run->not_before > now ? run->not_before - now :
		is_gate_ask(run->connection, now);

	if (wait > 0)
		is_turn_step_back(run, false);
	return Min(wait, CONNECTION_LOOK_INTERVAL);
}

/* 0 if a request may leave, else µs to wait; counts it if so. */
static int64
ask_to_send(IsRun *run, IsEndpoint endpoint, int64 *counted)
{
	int64		wait = ask_connection(run);

	if (wait > 0)
		return wait;
	wait = is_pacer_ask(run->connection->rate_group, endpoint,
						run->connection->rate[endpoint], counted);
	if (wait == 0)
		is_gate_pass(run->connection, is_clock_us());
	return wait;
}

static void
on_left(void *owner, int64 at)
{
	IsRequest  *request = owner;

	is_pacer_report_left(request->rate_group, request->endpoint, request->counted, at);
	request->counted = at;
}

static void
start_request(IsRun *run, IsBatch *batch, int row, const char *path, int64 counted)
{
	IsHttpRequest http = {0};
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	IsRequest  *owner = palloc(sizeof(IsRequest));

	owner->run = run;
	owner->batch = batch;
	owner->row = row;
	owner->rate_group = run->connection->rate_group;
	owner->endpoint = row < 0 ? run->endpoint : IS_ENDPOINT_USER_LOOKUP;
	owner->counted = counted;
	http.url = psprintf("%s%s", run->connection->base_url, path);
	http.api_key = run->connection->api_key;
	http.connect_timeout_ms = run->connection->connect_timeout_ms;
	http.timeout_ms = run->connection->request_timeout_ms;
	http.allow_http = run->connection->allow_http;
	http.owner = owner;
	http.on_left = on_left;
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
		int64		counted;
		int64		wait;

		if (!row->to_send || !row->look_up || row->looking_up)
			continue;
		wait = ask_to_send(run, IS_ENDPOINT_USER_LOOKUP, &counted);
		if (wait > 0)
			return wait;
		start_request(run, batch, i,
					  is_api_user_path(row->row.email,
									   row->row.email ? NULL : row->row.user_id),
					  counted);
		row->looking_up = true;
		batch->lookups++;
	}
	return 0;
}

/*
 * Send what is complete, in order.  Returns 0, or µs until the first that had
 * to wait may leave.
 */
int64
is_run_dispatch(IsRun *run)
{
	ListCell   *lc;

	foreach(lc, run->batches)
	{
		IsBatch    *batch = lfirst(lc);
		int64		counted;
		int64		wait;

		if (batch->sending || batch->nsend == 0)
			continue;
		wait = look_up(run, batch);
		if (wait > 0)
			return wait;
		if (batch->lookups > 0 || run->sending >= is_run_lanes(run))
			continue;
		wait = ask_connection(run);
		if (wait > 0)
			return wait;
		if (!is_turn_ask(run->connection->rate_group, run, batch) ||
			!is_batch_build_request(batch))
			continue;
		wait = ask_to_send(run, run->endpoint, &counted);
		if (wait > 0)
			return wait;
		batch->sending = true;
		run->sending++;
		start_request(run, batch, -1, is_api_path(run->endpoint), counted);
	}
	return 0;
}
