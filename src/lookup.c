/*-------------------------------------------------------------------------
 *
 * lookup.c
 *	  What Iterable knows of a user, and the user's events.
 *
 * Answers are read by PostgreSQL's own JSON parser, which keeps every digit
 * of a number.  No message repeats an identifier or what Iterable answered,
 * but for its redacted words about a refused key.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "lookup.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "iterable_api.h"
#include "pacer_shmem.h"

#define MAX_EVENTS 200

/* 200 events of 30 kB are not impossible. */
#define MAX_ANSWER ((Size) 32 * 1024 * 1024)

/* A number from here on is a time in milliseconds, not seconds. */
#define LEAST_MILLISECONDS 1e11

PG_FUNCTION_INFO_V1(iterable_lookup_user);
PG_FUNCTION_INFO_V1(iterable_lookup_events);

/* ----------------------------------------------------------------
 * Asking
 * ----------------------------------------------------------------
 */

void
is_lookup_pace(const IsConnection *connection, IsEndpoint endpoint,
			   int patience_ms, int64 *counted)
{
	static uint32 wait_event = 0;
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), patience_ms);
	int64		wait_us;

	if (wait_event == 0)
		wait_event = is_wait_event("IterablePacer");

	while ((wait_us = is_pacer_ask(connection->rate_group, endpoint,
								   connection->rate[endpoint], counted)) > 0)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (now + wait_us > deadline)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 endpoint == IS_ENDPOINT_USER_LOOKUP ?
					 errmsg("too many look-ups over connection \"%s\"",
							connection->name) :
					 errmsg("too many requests over connection \"%s\"",
							connection->name),
					 errhint("Try again later, or make fewer.")));

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min((wait_us + 999) / 1000, 1000), wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

IsHttpAnswer *
is_lookup_ask(const IsConnection *connection, const char *base_url,
			  const char *path)
{
	IsHttpRequest request = {0};
	IsHttpAnswer *answer;

	is_lookup_pace(connection, IS_ENDPOINT_USER_LOOKUP,
				   connection->request_timeout_ms, NULL);

	request.url = psprintf("%s%s", base_url, path);
	request.api_key = connection->api_key;
	request.connect_timeout_ms = connection->connect_timeout_ms;
	request.timeout_ms = connection->request_timeout_ms;
	request.allow_http = connection->allow_http;
	request.max_answer = MAX_ANSWER;
	answer = is_http_perform(&request);

	if (answer->status == 429)
		is_pacer_report_429(connection->rate_group, IS_ENDPOINT_USER_LOOKUP,
							connection->rate[IS_ENDPOINT_USER_LOOKUP]);
	return answer;
}

/*
 * Does Iterable know the user?  Raises an error if the answer does not tell.
 */
static bool
read_answer(const IsConnection *connection, const IsHttpAnswer *answer)
{
	IsApiAnswer api;
	int			known;

	if (answer->outcome == IS_HTTP_NOT_SENT)
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("could not reach Iterable over connection \"%s\"",
						connection->name),
				 errdetail_internal("%s", answer->error),
				 errhint("iterable_test_connection() tells more.")));
	if (answer->outcome == IS_HTTP_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("no answer from Iterable over connection \"%s\"",
						connection->name),
				 errdetail_internal("%s", answer->error)));

	known = is_api_read_user_answer(answer->status, answer->body,
									answer->body_len, &api);
	if (known >= 0)
		return known > 0;

	if (answer->status == 401 || answer->status == 403)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("Iterable refused the key of connection \"%s\"",
						connection->name),
				 errdetail("HTTP status %d: %s", answer->status, api.message),
				 errhint("iterable_test_connection() tells more.")));
	if (api.rate_limited)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("Iterable's limit of requests is reached"),
				 errhint("Try again later; other programs of the Iterable project count too.")));
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("Iterable did not answer the look-up"),
			 errdetail("HTTP status %d, code \"%s\", request id \"%s\".",
					   answer->status, api.code, answer->request_id),
			 api.kind == IS_ANSWER_STOP && api.hint ?
			 errhint("%s", api.hint) : 0));
}

/* The body of an answer, or an error that does not quote it. */
static Jsonb *
parse_body(const IsHttpAnswer *answer)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb	   *volatile result = NULL;

	PG_TRY();
	{
		char	   *text = pg_any_to_server(answer->body, answer->body_len,
											PG_UTF8);

		if (strlen(text) < answer->body_len && text == answer->body)
			ereport(ERROR,
					(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
					 errmsg_internal("null byte")));
		result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			category;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
		if (category != ERRCODE_DATA_EXCEPTION &&
			category != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			ReThrowError(error);
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not read Iterable's answer"),
				 errdetail("It is not JSON, or jsonb or the encoding of this database cannot hold it.")));
	}
	PG_END_TRY();

	return result;
}

/* ----------------------------------------------------------------
 * Members of an answer
 * ----------------------------------------------------------------
 */

static JsonbValue *
member(JsonbContainer *object, const char *name)
{
	if (object == NULL || !JsonContainerIsObject(object))
		return NULL;
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

static JsonbContainer *
container(JsonbValue *value)
{
	return value != NULL && value->type == jbvBinary ? value->val.binary.data : NULL;
}

/* Strings and numbers as text, all else is null. */
static Datum
text_member(JsonbContainer *object, const char *name, bool *isnull)
{
	JsonbValue *value = member(object, name);

	*isnull = false;
	if (value != NULL && value->type == jbvString)
		return PointerGetDatum(cstring_to_text_with_len(value->val.string.val,
														value->val.string.len));
	if (value != NULL && value->type == jbvNumeric)
		return CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(numeric_out,
																	   NumericGetDatum(value->val.numeric))));
	*isnull = true;
	return (Datum) 0;
}

static int
digits(const char *text, int from, int n)
{
	int			result = 0;

	for (int i = from; i < from + n; i++)
		result = result * 10 + (text[i] - '0');
	return result;
}

/*
 * Iterable writes times in one form.  What has another is null instead of an
 * error: the whole event is there to look at.
 */
static bool
parse_time(const char *text, int len, TimestampTz *result)
{
	static const char form[] = "9999-99-99 99:99:99 +99:99";
	struct pg_tm tm = {0};
	int			offset;

	if (len != (int) strlen(form))
		return false;
	for (int i = 0; i < len; i++)
		if (form[i] == '9' ? text[i] < '0' || text[i] > '9' :
			form[i] == '+' ? text[i] != '+' && text[i] != '-' :
			text[i] != form[i])
			return false;

	tm.tm_year = digits(text, 0, 4);
	tm.tm_mon = digits(text, 5, 2);
	tm.tm_mday = digits(text, 8, 2);
	tm.tm_hour = digits(text, 11, 2);
	tm.tm_min = digits(text, 14, 2);
	tm.tm_sec = digits(text, 17, 2);
	offset = (digits(text, 21, 2) * 60 + digits(text, 24, 2)) * 60;
	if (tm.tm_year < 1 || tm.tm_mon < 1 || tm.tm_mon > 12 ||
		tm.tm_mday < 1 || tm.tm_mday > day_tab[isleap(tm.tm_year)][tm.tm_mon - 1] ||
		tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
		return false;

	/* PostgreSQL counts time zones westwards. */
	if (text[20] == '+')
		offset = -offset;
	return tm2timestamp(&tm, 0, &offset, result) == 0;
}

static Datum
time_member(JsonbContainer *object, const char *name, bool *isnull)
{
	JsonbValue *value = member(object, name);
	TimestampTz result;

	*isnull = false;
	if (value != NULL && value->type == jbvString &&
		parse_time(value->val.string.val, value->val.string.len, &result))
		return TimestampTzGetDatum(result);
	if (value != NULL && value->type == jbvNumeric)
	{
		double		seconds =
			strtod(DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric))),
				   NULL);

		if (seconds >= LEAST_MILLISECONDS)
			seconds /= 1000;
		if (seconds >= 0 && seconds < LEAST_MILLISECONDS)
			return DirectFunctionCall1(float8_timestamptz,
									   Float8GetDatum(seconds));
	}
	*isnull = true;
	return (Datum) 0;
}

/* ----------------------------------------------------------------
 * Functions
 * ----------------------------------------------------------------
 */

/* Arguments connection, email and user_id; the identifiers as UTF-8. */
static IsConnection *
read_arguments(FunctionCallInfo fcinfo, char **email, char **user_id)
{
	const char *problem;

	*email = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	*user_id = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "connection")));
	if ((*email == NULL) == (*user_id == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exactly one of the arguments \"%s\" and \"%s\" must be given",
						"email", "user_id")));

	if (*email != NULL)
	{
		*email = pg_server_to_any(*email, strlen(*email), PG_UTF8);
		problem = is_api_check_email(*email);
	}
	else
	{
		*user_id = pg_server_to_any(*user_id, strlen(*user_id), PG_UTF8);
		problem = is_api_check_user_id(*user_id);
	}
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for argument \"%s\": %s",
						*email != NULL ? "email" : "user_id", problem)));

	return is_connection_get(text_to_cstring(PG_GETARG_TEXT_PP(0)),
							 GetUserId());
}

Datum
iterable_lookup_user(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	IsConnection *connection;
	IsHttpAnswer *answer;
	char	   *email;
	char	   *user_id;

	InitMaterializedSRF(fcinfo, 0);
	connection = read_arguments(fcinfo, &email, &user_id);
	answer = is_lookup_ask(connection, connection->base_url,
						   is_api_user_path(email, user_id));

	if (read_answer(connection, answer))
	{
		Jsonb	   *body = parse_body(answer);
		JsonbContainer *user = container(member(&body->root, "user"));
		JsonbValue *data = member(user, "dataFields");
		Datum		values[3] = {0};
		bool		nulls[3] = {0};

		values[0] = text_member(user, "email", &nulls[0]);
		values[1] = text_member(user, "userId", &nulls[1]);
		nulls[2] = data == NULL;
		if (data != NULL)
			values[2] = JsonbPGetDatum(JsonbValueToJsonb(data));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	is_http_answer_free(answer);
	return (Datum) 0;
}

Datum
iterable_lookup_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	IsConnection *connection;
	IsHttpAnswer *answer;
	JsonbContainer *events = NULL;
	char	   *email;
	char	   *user_id;
	int			max_events;

	InitMaterializedSRF(fcinfo, 0);
	max_events = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3);
	if (max_events < 1 || max_events > MAX_EVENTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be between %d and %d",
						"max_events", 1, MAX_EVENTS)));
	connection = read_arguments(fcinfo, &email, &user_id);
	answer = is_lookup_ask(connection, connection->base_url,
						   is_api_events_path(email, user_id, max_events));

	if (answer->outcome == IS_HTTP_ANSWERED && answer->status == 200)
	{
		Jsonb	   *body = parse_body(answer);

		events = container(member(&body->root, "events"));
		if (events == NULL || !JsonContainerIsArray(events))
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("could not read Iterable's answer"),
					 errdetail("It has no list of events.")));
	}
	else
		(void) read_answer(connection, answer);

	for (uint32 i = 0; events != NULL && i < JsonContainerSize(events); i++)
	{
		JsonbValue *event = getIthJsonbValueFromContainer(events, i);
		Datum		values[5] = {0};
		bool		nulls[5] = {0};

		values[0] = text_member(container(event), "eventName", &nulls[0]);
		values[1] = text_member(container(event), "eventType", &nulls[1]);
		values[2] = time_member(container(event), "createdAt", &nulls[2]);
		values[3] = text_member(container(event), "id", &nulls[3]);
		if (nulls[3])
			values[3] = text_member(container(event), "_id", &nulls[3]);
		values[4] = JsonbPGetDatum(JsonbValueToJsonb(event));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	is_http_answer_free(answer);
	return (Datum) 0;
}
