/*-------------------------------------------------------------------------
 *
 * send_request.c
 *	  iterable_send_row(): the request, and what its answer means.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "send_row.h"

#include "mb/pg_wchar.h"

#include "clock.h"
#include "forget.h"
#include "gate.h"
#include "lookup.h"
#include "pacer_shmem.h"
#include "reading.h"
#include "run_internal.h"

#define PACE_PATIENCE_MS 5000

#define MAX_ANSWER ((Size) 1024 * 1024)

char *
is_send_body(const IsBatch *batch)
{
	char	   *text = pg_any_to_server(batch->body.data, batch->body.len, PG_UTF8);

	return text == batch->body.data ? pstrdup(text) : text;
}

/* Of the request that is under way; is_http_perform() has its own owners. */
static struct
{
	const IsConnection *connection;
	IsEndpoint	endpoint;
	int64		counted;
	bool		left;
}			departure;

static void
on_left(void *owner, int64 at)
{
	is_pacer_report_left(departure.connection->rate_group, departure.endpoint,
						 departure.counted, at);
	departure.counted = at;
	departure.left = true;
}

static void
perform(void *arg)
{
	IsSending  *sending = arg;

	sending->http_answer = is_http_perform(&sending->http);
}

typedef struct Conversion
{
	char	   *text;
	int			len;
} Conversion;

static void
convert(void *arg)
{
	Conversion *conversion = arg;

	conversion->text = pg_any_to_server(conversion->text, conversion->len, PG_UTF8);
}

/*
 * Iterable's words as text: without the key, which they may repeat, and with
 * question marks for what this database cannot hold.
 */
static char *
answer_text(const IsHttpAnswer *answer, const char *api_key)
{
	Size		key_len = strlen(api_key);
	Conversion	conversion = {.len = (int) answer->body_len};
	char	   *text = palloc(answer->body_len + 1);

	memcpy(text, answer->body, answer->body_len);
	text[answer->body_len] = '\0';
	for (char *p = text; p < text + answer->body_len; p++)
	{
		if (key_len > 0 && key_len <= (Size) (text + answer->body_len - p) &&
			memcmp(p, api_key, key_len) == 0)
			memset(p, '*', key_len);
		if (*p == '\0')
			*p = '?';
	}
	conversion.text = text;
	if (is_reading_try(convert, &conversion) == NULL)
		return conversion.text;

	for (char *p = text; *p != '\0'; p++)
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	return text;
}

static void
take_answer(IsSending *sending, const IsHttpAnswer *answer)
{
	if (answer->outcome != IS_HTTP_ANSWERED)
		return;
	sending->status = answer->status;
	if (answer->body != NULL)
		sending->answer = answer_text(answer, sending->connection->api_key);
}

char *
is_send_words(const char *outcome, const char *class, const char *message)
{
	return psprintf("%s%s%s%s%s", outcome, class ? ": " : "", class ? class : "",
					message && message[0] ? ": " : "", message ? message : "");
}

/* Iterable has refused the key, not the row. */
static void
stop_connection(IsSending *sending, const IsApiAnswer *api)
{
	char	   *reason = is_send_words(psprintf("Iterable answered with status %d", sending->status),
							   NULL, api->message);
	IsUserContext save;

	is_catalog_become_owner(&save);
	is_gate_stop(sending->connection, reason, is_clock_us());
	is_catalog_restore_user(&save);
	sending->verdict = is_send_words("retry", "the connection is stopped", reason);
}

static char *
no_answer(const IsSending *sending, const IsApiAnswer *api)
{
	if (sending->status != 0)
		return is_send_words(psprintf("Iterable answered with status %d", sending->status),
					 NULL, api->message);
	return is_send_words("no answer", NULL, api->message);
}

/* May the row go?  False if it has got a verdict instead. */
static bool
look_up(IsSending *sending)
{
	IsBatchRow *row = &sending->batch->rows[0];
	IsHttpAnswer *answer;
	IsApiAnswer api = {0};
	int			known = -1;

	answer = is_lookup_ask(sending->connection, sending->connection->base_url,
						   is_api_user_path(row->row.email,
											row->row.email ? NULL : row->row.user_id));
	take_answer(sending, answer);
	is_batch_note_answer(sending->batch, answer);
	if (answer->outcome == IS_HTTP_ANSWERED)
		known = is_api_read_user_answer(answer->status, answer->body,
										answer->body_len, &api);
	else
		strlcpy(api.message, answer->error, sizeof(api.message));

	if (known == 1)
	{
		row->look_up = false;
		return true;
	}
	if (known == 0)
		is_batch_settle(sending->batch, 0, IS_FATE_SKIPPED, NULL, NULL, NULL);
	else if (answer->outcome == IS_HTTP_ANSWERED && api.kind == IS_ANSWER_REJECTED)
		is_batch_settle(sending->batch, 0, IS_FATE_REJECTED, api.class, api.code,
						api.message);
	else if (answer->outcome == IS_HTTP_ANSWERED && api.kind == IS_ANSWER_STOP)
		stop_connection(sending, &api);
	else
		sending->verdict = is_send_words("retry", "the user look-up failed", no_answer(sending, &api));
	return false;
}

/* What the answer means for the row. */
static void
settle(IsSending *sending, const IsHttpAnswer *answer)
{
	IsBatch    *batch = sending->batch;
	IsConnection *connection = sending->connection;
	IsApiAnswer api;
	IsApiRow   *rows = is_batch_read_answer(batch, answer, &api);
	bool		known = true;
	IsUserContext save;

	take_answer(sending, answer);
	switch (api.kind)
	{
		case IS_ANSWER_PER_ROW:
			known = is_batch_settle_rows(batch, rows, &api);
			break;
		case IS_ANSWER_REJECTED:
			is_batch_settle_refused(batch, rows, &api);
			break;
		case IS_ANSWER_SPLIT:
			is_batch_settle_sent(batch, IS_FATE_REJECTED, "too_large", api.code, api.message);
			break;
		case IS_ANSWER_STOP:
			stop_connection(sending, &api);
			return;
		case IS_ANSWER_AGAIN:
			if (api.rate_limited)
				is_pacer_report_429(connection->rate_group, batch->endpoint,
									connection->rate[batch->endpoint]);
			sending->verdict = is_send_words("retry", NULL, no_answer(sending, &api));
			return;
		case IS_ANSWER_UNKNOWN:
			known = false;
			break;
	}

	if (!known)
	{
		is_batch_settle_sent(batch, IS_FATE_UNSURE, NULL, NULL, NULL);
		sending->verdict = is_send_words("unknown", NULL, no_answer(sending, &api));
		return;
	}
	is_catalog_become_owner(&save);
	is_gate_open(connection);
	is_catalog_restore_user(&save);
}

void
is_send_request(IsSending *sending)
{
	IsBatch    *batch = sending->batch;
	IsConnection *connection = sending->connection;
	ErrorData  *error;

	if (batch->rows[0].look_up && !look_up(sending))
		return;

	(void) is_batch_build_request(batch);
	sending->request = is_send_body(batch);
	sending->http = (IsHttpRequest) {
		.url = psprintf("%s%s", connection->base_url, is_api_path(batch->endpoint)),
		.api_key = connection->api_key,
		.body = batch->body.data,
		.body_len = batch->body.len,
		.connect_timeout_ms = connection->connect_timeout_ms,
		.timeout_ms = connection->request_timeout_ms,
		.allow_http = connection->allow_http,
		.max_answer = MAX_ANSWER,
		.on_left = on_left,
	};
	departure.connection = connection;
	departure.endpoint = batch->endpoint;
	departure.left = false;
	is_lookup_pace(connection, batch->endpoint, PACE_PATIENCE_MS, &departure.counted);

	/* It must be known if the record of this is rolled back. */
	if (sending->differs)
		is_forget_payload(sending->sync->sync_id, batch->rows[0].row.key);

	error = is_reading_try(perform, sending);
	if (error == NULL)
		settle(sending, sending->http_answer);
	else if (!departure.left)
		ReThrowError(error);
	else
	{
		/* most likely a cancel: Iterable may have the row all the same */
		is_batch_settle(batch, 0, IS_FATE_UNSURE, NULL, NULL, NULL);
		sending->verdict = is_send_words("unknown", NULL, error->message);
	}
}
