/*-------------------------------------------------------------------------
 *
 * connection_test.c
 *	  iterable_test_connection(): where does a connection break?
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/tuplestore.h"

#include "connection.h"
#include "connection_options.h"
#include "iterable_api.h"
#include "lookup.h"

/* A user that no project has; to ask for one needs a valid key. */
#define UNKNOWN_USER "iterable-sync-connection-test"

typedef enum Outcome
{
	FAILED,
	PASSED,
	NOT_TOLD
} Outcome;

PG_FUNCTION_INFO_V1(iterable_test_connection);

static void
put_row(FunctionCallInfo fcinfo, const char *check, Outcome result,
		const char *detail)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[3];
	bool		nulls[3] = {0};

	values[0] = CStringGetTextDatum(check);
	values[1] = BoolGetDatum(result == PASSED);
	nulls[1] = result == NOT_TOLD;
	values[2] = CStringGetTextDatum(detail);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * The connection with its key, or without it and why the key can't be had.
 * Other errors are raised.
 */
static IsConnection *
get_connection(const char *name, char **problem)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	IsConnection *volatile connection;

	/* What is wrong apart from the key. */
	connection = is_connection_describe(name, GetUserId());
	*problem = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		connection = is_connection_get(name, GetUserId());
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;

		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);
		*problem = error->hint == NULL ? error->message :
			psprintf("%s. %s", error->message, error->hint);
	}
	PG_END_TRY();

	return connection;
}

/*
 * libcurl tells only in words what kept a request from leaving; all of its
 * words about the time before TLS begin with one of these.
 */
static bool
is_unreachable(const char *error)
{
	static const char *const words[] = {
		"Could not resolve", "Couldn't resolve", "Resolving timed out",
		"Failed to connect", "Could not connect", "Couldn't connect",
		"Connection timed out", "Connection timeout",
	};

	for (Size i = 0; i < lengthof(words); i++)
		if (pg_strncasecmp(error, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

static Outcome
test_key(const IsHttpAnswer *answer, const char *problem, char **detail)
{
	IsApiAnswer api;

	if (problem != NULL)
	{
		*detail = pstrdup(problem);
		return FAILED;
	}
	if (answer->outcome != IS_HTTP_ANSWERED)
	{
		*detail = psprintf("no answer: %s", answer->error);
		return NOT_TOLD;
	}

	if (is_api_read_user_answer(answer->status, answer->body,
								answer->body_len, &api) >= 0 ||
		answer->status == 400)
	{
		*detail = pstrdup("Iterable accepts the key");
		return PASSED;
	}
	if (answer->status == 401 || answer->status == 403)
	{
		*detail = psprintf("Iterable refuses the key with HTTP status %d: %s",
						   answer->status, api.message);
		return FAILED;
	}
	if (api.rate_limited)
		*detail = pstrdup("Iterable's limit of requests is reached; try again later");
	else if (answer->status >= 500)
		*detail = psprintf("Iterable has an error (HTTP status %d); try again later",
						   answer->status);
	else
		*detail = psprintf("the answer (HTTP status %d) is not one of Iterable's API; check the option base_url",
						   answer->status);
	return NOT_TOLD;
}

/* A key belongs to one data center; the other one refuses it. */
static Outcome
test_data_center(IsConnection *connection, Outcome key, char **detail)
{
	static const char *const names[] = {"us", "eu"};
	IsDataCenter other;
	IsHttpAnswer *answer;
	char	   *unused;

	other = connection->data_center == IS_DATA_CENTER_US ?
		IS_DATA_CENTER_EU : IS_DATA_CENTER_US;

	if (strcmp(connection->base_url, is_options_official_url(other)) == 0)
	{
		*detail = psprintf("base_url is that of data center \"%s\", data_center is \"%s\"",
						   names[other], names[connection->data_center]);
		return FAILED;
	}
	if (strcmp(connection->base_url,
			   is_options_official_url(connection->data_center)) != 0)
	{
		*detail = pstrdup("base_url is not that of a data center");
		return NOT_TOLD;
	}
	if (key == PASSED)
	{
		*detail = psprintf("the project is in data center \"%s\"",
						   names[connection->data_center]);
		return PASSED;
	}
	if (key == NOT_TOLD || connection->api_key == NULL)
	{
		*detail = pstrdup("not checked");
		return NOT_TOLD;
	}

	answer = is_lookup_ask(connection, is_options_official_url(other),
						   is_api_user_path(NULL, UNKNOWN_USER));
	if (test_key(answer, NULL, &unused) != PASSED)
	{
		*detail = psprintf("data center \"%s\" does not accept the key either",
						   names[other]);
		return NOT_TOLD;
	}
	*detail = psprintf("the key belongs to data center \"%s\": ALTER SERVER %s OPTIONS (SET data_center '%s')",
					   names[other], quote_identifier(connection->name),
					   names[other]);
	return FAILED;
}

Datum
iterable_test_connection(PG_FUNCTION_ARGS)
{
	IsConnection *connection;
	IsHttpAnswer *answer;
	char	   *problem;
	char	   *detail;
	Outcome		key;
	Outcome		data_center;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "name")));
	connection = get_connection(text_to_cstring(PG_GETARG_TEXT_PP(0)), &problem);
	answer = is_lookup_ask(connection, connection->base_url,
						   is_api_user_path(NULL, UNKNOWN_USER));

	if (answer->outcome == IS_HTTP_NOT_SENT &&
		(connection->allow_http || is_unreachable(answer->error)))
	{
		put_row(fcinfo, "reachable", FAILED, answer->error);
		put_row(fcinfo, "TLS", NOT_TOLD, "not checked");
	}
	else
	{
		put_row(fcinfo, "reachable", PASSED, connection->base_url);
		if (answer->outcome == IS_HTTP_NOT_SENT)
			put_row(fcinfo, "TLS", FAILED, answer->error);
		else if (connection->allow_http)
			put_row(fcinfo, "TLS", PASSED,
					"none, as iterable_sync.allow_insecure_base_url permits: the key and the data travel in clear");
		else
			put_row(fcinfo, "TLS", PASSED, "the certificate is valid for the host");
	}

	if (answer->outcome == IS_HTTP_NOT_SENT && problem == NULL)
	{
		key = NOT_TOLD;
		detail = pstrdup("not checked");
	}
	else
		key = test_key(answer, problem, &detail);
	put_row(fcinfo, "key accepted", key, detail);

	data_center = test_data_center(connection, key, &detail);
	put_row(fcinfo, "data center", data_center, detail);

	is_http_answer_free(answer);
	return (Datum) 0;
}
