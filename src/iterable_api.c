/*-------------------------------------------------------------------------
 *
 * iterable_api.c
 *	  What Iterable's answers mean for each row.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "iterable_api.h"

#include <ctype.h>
#include <limits.h>

#include "mb/pg_wchar.h"

#include "iterable_json.h"
#include "iterable_meaning.h"
#include "iterable_rows.h"
#include "iterable_types.h"

/* Names that are longer than this are not recorded. */
#define MAX_FIELD_NAME 500

const char *
is_api_path(IsEndpoint endpoint)
{
	switch (endpoint)
	{
		case IS_ENDPOINT_USERS_BULK_UPDATE:
			return "/api/users/bulkUpdate";
		case IS_ENDPOINT_EVENTS_TRACK_BULK:
			return "/api/events/trackBulk";
		default:
			return "/api/users/";
	}
}

char *
is_api_envelope_open(IsEndpoint endpoint, IsNewFields new_fields, bool update_only)
{
	if (endpoint == IS_ENDPOINT_EVENTS_TRACK_BULK)
		return pstrdup("{\"events\":[");
	return psprintf("{%s%s\"users\":[",
					new_fields == IS_NEW_FIELDS_PROJECT ? "" :
					new_fields == IS_NEW_FIELDS_ALWAYS ? "\"createNewFields\":true," :
					"\"createNewFields\":false,",
					update_only ? "\"updateOnly\":true," : "");
}

const char *
is_api_envelope_close(IsEndpoint endpoint)
{
	return "]}";
}

/* ----------------------------------------------------------------
 * Reading a 2xx
 * ----------------------------------------------------------------
 */

/*
 * Mark the rows that a list names; note if an entry fits none.  Returns false
 * if this is no list at all.
 */
static bool
read_list(IsRowIndex *index, const cJSON *list, const IsMeaning *meaning,
		  bool *unmatched)
{
	const cJSON *item;

	if (cJSON_IsNull(list))
		return true;
	if (!cJSON_IsArray(list))
		return false;

	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsString(item) ||
			!is_rows_mark(index, item->valuestring, meaning))
			*unmatched = true;
	}
	return true;
}

/* Read the lists of one place. */
static bool
read_lists(IsRowIndex *index, IsEndpoint endpoint, const cJSON *object,
		   IsWhere where, bool *unmatched)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, object)
	{
		const IsMeaning *meaning = is_meaning_of_list(where, endpoint,
													  item->string);

		if (meaning != NULL)
		{
			if (!read_list(index, item, meaning, unmatched))
				return false;
		}
		else if (where == IS_IN_FAILED && cJSON_GetArraySize(item) > 0)
			*unmatched = true;
	}
	return true;
}

static bool
read_count(const cJSON *object, const char *name, int *count)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	if (!cJSON_IsNumber(item) || item->valuedouble < 0 ||
		item->valuedouble > 1e9 || item->valuedouble != (int) item->valuedouble)
		return false;
	*count = (int) item->valuedouble;
	return true;
}

static void
read_field_names(const cJSON *object, const char *name, IsApiFields *fields)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, name);
	const cJSON *item;

	if (!cJSON_IsArray(list))
		return;
	fields->names = palloc((cJSON_GetArraySize(list) + 1) * sizeof(char *));
	cJSON_ArrayForEach(item, list)
	{
		int			len;

		if (!cJSON_IsString(item))
			continue;
		len = strlen(item->valuestring);
		if (len <= MAX_FIELD_NAME &&
			pg_encoding_verifymbstr(PG_UTF8, item->valuestring, len) == len)
			fields->names[fields->n++] = pstrdup(item->valuestring);
	}
}

/* This row is refused, for the reason "message". */
static void
refuse_row(IsApiRow *row, const IsMeaning *meaning, const char *message)
{
	row->verdict = meaning->verdict;
	row->class = meaning->class;
	row->message = message;
	row->hint = meaning->hint;
}

static void
not_a_bulk_answer(IsApiAnswer *answer, const char *message)
{
	answer->kind = IS_ANSWER_UNKNOWN;
	answer->class = "UnknownAnswer";
	answer->hint = "Iterable's answer does not tell what was applied; check that the option base_url of the connection names Iterable's API.";
	strlcpy(answer->message, message, sizeof(answer->message));
}

static void
read_bulk_answer(IsEndpoint endpoint, const cJSON *json, IsApiRow *rows,
				 int nrows, IsApiAnswer *answer)
{
	const cJSON *failed;
	IsRowIndex *index;
	bool		unmatched = false;
	int			counted;
	int			perhaps;
	int			ok;
	int			bad;
	bool		complete;

	if (!cJSON_IsObject(json))
	{
		not_a_bulk_answer(answer, "the answer is not a JSON object");
		return;
	}
	if (!read_count(json, "successCount", &answer->success_count) ||
		!read_count(json, "failCount", &answer->fail_count))
	{
		not_a_bulk_answer(answer, "the answer has no successCount or no failCount");
		return;
	}
	failed = cJSON_GetObjectItemCaseSensitive(json, "failedUpdates");
	if (failed != NULL && !cJSON_IsNull(failed) && !cJSON_IsObject(failed))
	{
		not_a_bulk_answer(answer, "failedUpdates is not an object");
		return;
	}

	index = is_rows_index(rows, nrows);
	if (!read_lists(index, endpoint, failed, IS_IN_FAILED, &unmatched) ||
		!read_lists(index, endpoint, json, IS_AT_TOP, &unmatched) ||
		!read_lists(index, endpoint, json, IS_DEPRECATED, &unmatched))
	{
		is_rows_reset(rows, nrows);
		not_a_bulk_answer(answer, "a list of the answer is not a list");
		return;
	}

	answer->kind = IS_ANSWER_PER_ROW;
	read_field_names(json, "createdFields", &answer->created_fields);
	read_field_names(json, "filteredOutFields", &answer->filtered_fields);

	/*
	 * The rows that no list names are accepted only if the counts say so.
	 * Whether a disallowed event counts as failed, as successful or not at
	 * all is not documented.
	 */
	is_rows_count(index, &counted, &perhaps);
	ok = answer->success_count;
	bad = answer->fail_count;
	complete = !unmatched &&
		((bad == counted + perhaps && ok == nrows - bad) ||
		 (bad == counted && (ok == nrows - bad || ok == nrows - bad - perhaps)));

	/* of a single row the counts tell all */
	if (nrows == 1 && ok == 0 && bad == 1 && rows[0].class == NULL)
	{
		refuse_row(&rows[0], is_meaning_of_other_failures(),
				   is_meaning_of_other_failures()->message);
		return;
	}

	for (int i = 0; i < nrows; i++)
	{
		if (rows[i].class != NULL)
			continue;
		if (complete)
			rows[i].verdict = IS_VERDICT_ACCEPTED;
		else
		{
			rows[i].verdict = IS_VERDICT_UNKNOWN;
			rows[i].class = "unaccounted";
			rows[i].message = "Iterable's answer reports failures that it does not assign to rows";
		}
	}
	if (!complete)
		snprintf(answer->message, sizeof(answer->message),
				 "the answer does not account for all rows: %d sent, %d successful, %d failed, %d named",
				 nrows, ok, bad, counted + perhaps);
}

/* ----------------------------------------------------------------
 * Reading everything else
 * ----------------------------------------------------------------
 */

/*
 * If the key names a row of the request ("obj.users[3].email"), return its
 * index and where the field begins.
 */
static int
row_of_path(const char *key, const char **field)
{
	const char *p;
	char	   *end;
	long		row;

	if (strncmp(key, "obj.users[", 10) == 0)
		p = key + 10;
	else if (strncmp(key, "obj.events[", 11) == 0)
		p = key + 11;
	else
		return -1;

	if (!isdigit((unsigned char) *p))
		return -1;
	row = strtol(p, &end, 10);
	if (*end != ']' || row > INT_MAX)
		return -1;
	*field = end[1] == '.' ? end + 2 : end + 1;
	return (int) row;
}

/* Some rows are refused; the others were not applied only because of them. */
static void
refuse_no_others(IsApiRow *rows, int nrows, IsApiAnswer *answer)
{
	answer->kind = IS_ANSWER_PER_ROW;
	for (int i = 0; i < nrows; i++)
		if (rows[i].class == NULL)
			rows[i].verdict = IS_VERDICT_AGAIN;
}

/* BadJsonBody: the rows that it names, if any, are the only bad ones. */
static void
read_paths(const cJSON *params, IsApiRow *rows, int nrows,
		   const IsMeaning *meaning, IsApiAnswer *answer)
{
	const cJSON *item;
	bool		found = false;

	if (!cJSON_IsObject(params))
		return;

	cJSON_ArrayForEach(item, params)
	{
		const char *field = "";
		int			row = row_of_path(item->string, &field);
		char		message[sizeof(answer->message)] = "wrong type or missing: ";

		if (row < 0 || row >= nrows || rows[row].class != NULL)
			continue;
		is_cjson_append_plain(message, sizeof(message), field);
		refuse_row(&rows[row], meaning,
				   field[0] != '\0' ? pstrdup(message) : meaning->message);
		if (!found && field[0] != '\0')
			strlcpy(answer->message, message, sizeof(answer->message));
		found = true;
	}
	if (found)
		refuse_no_others(rows, nrows, answer);
}

/* Append which field has which type, from a member of validationErrors. */
static void
append_field_type(char *to, Size to_size, const cJSON *error)
{
	const char *expected = is_cjson_string(error, "expectedType");

	strlcpy(to + strlen(to), to[0] == '\0' ? "wrong type of " : ", ",
			to_size - strlen(to));
	is_cjson_append_plain(to, to_size, error->string);
	if (expected != NULL)
	{
		strlcpy(to + strlen(to), " which is ", to_size - strlen(to));
		is_cjson_append_plain(to, to_size, expected);
	}
}

/*
 * RequestFieldsTypesMismatched: name the fields, which the redaction hid, and
 * the rows that hold the wrong values.
 */
static void
read_fields(IsEndpoint endpoint, const cJSON *params, IsApiRow *rows, int nrows,
			const IsMeaning *meaning, IsApiAnswer *answer)
{
	const cJSON *errors = cJSON_GetObjectItemCaseSensitive(params, "validationErrors");
	const cJSON *item;
	const cJSON **culprits;
	int			n = 0;

	if (!cJSON_IsObject(errors))
		return;

	cJSON_ArrayForEach(item, errors)
		if (n++ < 3)
			append_field_type(answer->message, sizeof(answer->message), item);

	culprits = palloc(Max(nrows, 1) * sizeof(cJSON *));
	if (is_types_find(endpoint, errors, rows, nrows, culprits) == 0)
		return;
	for (int i = 0; i < nrows; i++)
	{
		char		message[sizeof(answer->message)] = "";

		if (culprits[i] == NULL)
			continue;
		append_field_type(message, sizeof(message), culprits[i]);
		refuse_row(&rows[i], meaning, pstrdup(message));
	}
	refuse_no_others(rows, nrows, answer);
}

/* An answer that is not 2xx. */
static void
read_error(IsEndpoint endpoint, int status, const cJSON *json,
		   IsApiRow *rows, int nrows, IsApiAnswer *answer)
{
	const IsMeaning *meaning = is_meaning_of_answer(endpoint, status, answer->code);
	const cJSON *params = cJSON_GetObjectItemCaseSensitive(json, "params");

	if (meaning == NULL)
	{
		not_a_bulk_answer(answer, "the answer has an unknown HTTP status");
		return;
	}

	answer->kind = meaning->kind;
	answer->class = meaning->class;
	answer->hint = meaning->hint;
	answer->rate_limited = strcmp(meaning->class, "RateLimitExceeded") == 0;
	answer->internal_error = meaning->kind == IS_ANSWER_AGAIN &&
		meaning->verdict == IS_VERDICT_LATER;

	answer->message[0] = '\0';
	if (strcmp(meaning->class, "RequestFieldsTypesMismatched") == 0)
		read_fields(endpoint, params, rows, nrows, meaning, answer);
	else if (strcmp(meaning->class, "BadJsonBody") == 0)
		read_paths(params, rows, nrows, meaning, answer);

	if (answer->message[0] == '\0')
	{
		const char *msg = is_cjson_string(json, "msg");

		if (msg == NULL)
			msg = is_cjson_string(json, "message");
		if (msg != NULL)
			is_api_redact(msg, rows, nrows, answer->message, sizeof(answer->message));
		if (strpbrk(answer->message, "abcdefghijklmnopqrstuvwxyz") == NULL)
			strlcpy(answer->message, meaning->message, sizeof(answer->message));
	}

	/* A single row need not be told apart. */
	if (nrows == 1 && answer->kind == IS_ANSWER_REJECTED)
		refuse_row(&rows[0], meaning, answer->message);
}

static void
start_answer(const cJSON *json, IsApiAnswer *answer)
{
	const char *code = is_cjson_string(json, "code");

	memset(answer, 0, sizeof(*answer));

	/* what is no word of theirs may be an echo of a key */
	if (code != NULL && strlen(code) < sizeof(answer->code) &&
		strspn(code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._") == strlen(code))
		strlcpy(answer->code, code, sizeof(answer->code));
}

void
is_api_read_answer(IsEndpoint endpoint, int status,
				   const char *body, Size body_len,
				   IsApiRow *rows, int nrows, IsApiAnswer *answer)
{
	cJSON	   *json = is_cjson_parse(body, body_len);

	is_rows_reset(rows, nrows);
	start_answer(json, answer);

	PG_TRY();
	{
		if (status >= 200 && status <= 299)
			read_bulk_answer(endpoint, json, rows, nrows, answer);
		else
			read_error(endpoint, status, json, rows, nrows, answer);
	}
	PG_FINALLY();
	{
		cJSON_Delete(json);
	}
	PG_END_TRY();
}

/* What is not JSON, and what is said in different ways. */
static bool
says_unknown_user(const char *code, const char *body, Size len)
{
	static const char text[] = "No user with that id exists";

	return strcmp(code, "error.users.noUserWithIdExists") == 0 ||
		strcmp(code, "UnknownEmailError") == 0 ||
		strcmp(code, "UnknownUserIdError") == 0 ||
		(body != NULL && len >= sizeof(text) - 1 &&
		 pg_strncasecmp(body, text, sizeof(text) - 1) == 0);
}

int
is_api_read_user_answer(int status, const char *body, Size body_len,
						IsApiAnswer *answer)
{
	cJSON	   *json = is_cjson_parse(body, body_len);
	const cJSON *user = cJSON_GetObjectItemCaseSensitive(json, "user");
	int			result = -1;

	start_answer(json, answer);
	if (says_unknown_user(answer->code, body, body_len) && status >= 200)
		result = 0;
	else if (status != 200)
		read_error(IS_ENDPOINT_USER_LOOKUP, status, json, NULL, 0, answer);
	else if (cJSON_IsObject(user) && cJSON_GetArraySize(user) > 0)
		result = 1;
	else if (cJSON_IsObject(json) &&
			 (cJSON_GetArraySize(json) == 0 ||
			  (user != NULL && (cJSON_IsNull(user) || cJSON_IsObject(user)))))
		result = 0;
	else
		not_a_bulk_answer(answer, "the answer is not that of a user look-up");

	cJSON_Delete(json);
	return result;
}
