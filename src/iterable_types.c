/*-------------------------------------------------------------------------
 *
 * iterable_types.c
 *	  Which rows hold the value that Iterable refuses for its type?
 *
 * RequestFieldsTypesMismatched refuses a whole request and says of each field
 * the type that it has in the project and one value that contradicts it.  So
 * do all values of the same kind: where "red" is no long, "blue" is none.
 * What Iterable might take ("12" for a long, 3 for a double) is left alone:
 * a row that is not certain is found by halving the request.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "iterable_types.h"

#include <ctype.h>
#include <math.h>

/* What one member of validationErrors says. */
typedef struct Mismatch
{
	const char *path;			/* dotted, below dataFields */
	const char *expected;		/* type */
	const cJSON *offender;
} Mismatch;

static bool
is_word(const char *word, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(word, words[i]) == 0)
			return true;
	return false;
}

/* May Iterable take this value for a field of this type? */
static bool
may_fit(const cJSON *value, const char *type)
{
	static const char *const longs[] = {"long", "integer"};
	static const char *const doubles[] = {"double", "float"};
	static const char *const strings[] = {"string", "keyword", "text"};
	static const char *const objects[] = {"object", "nested", "geo_location", "geo_point"};
	bool		is_long = is_word(type, longs, lengthof(longs));
	bool		is_double = is_word(type, doubles, lengthof(doubles));
	bool		is_string = is_word(type, strings, lengthof(strings));
	bool		is_object = is_word(type, objects, lengthof(objects));
	bool		is_date = strcmp(type, "date") == 0;
	bool		is_boolean = strcmp(type, "boolean") == 0;

	if (!(is_long || is_double || is_string || is_object || is_date || is_boolean))
		return true;
	if (cJSON_IsBool(value))
		return is_boolean;
	if (cJSON_IsNumber(value))
		return is_double || is_date ||
			(is_long && value->valuedouble == rint(value->valuedouble));
	if (cJSON_IsObject(value))
		return is_object;
	if (cJSON_IsString(value))
	{
		const char *text = value->valuestring;

		if (is_boolean)
			return pg_strcasecmp(text, "true") == 0 || pg_strcasecmp(text, "false") == 0;
		if (is_date || is_long || is_double)
			return isdigit((unsigned char) text[0]) || strchr("+-.", text[0]) != NULL;
		return is_string;
	}
	return true;
}

static bool
of_one_kind(const cJSON *a, const cJSON *b)
{
	return (cJSON_IsBool(a) && cJSON_IsBool(b)) ||
		(cJSON_IsNumber(a) && cJSON_IsNumber(b)) ||
		(cJSON_IsString(a) && cJSON_IsString(b)) ||
		(cJSON_IsObject(a) && cJSON_IsObject(b));
}

/* Is the value what the answer complains about? */
static bool
contradicts(const cJSON *value, const Mismatch *mismatch)
{
	const cJSON *element;

	if (cJSON_IsArray(value))
	{
		cJSON_ArrayForEach(element, value)
			if (contradicts(element, mismatch))
				return true;
		return false;
	}
	if (!of_one_kind(value, mismatch->offender))
		return false;

	/* numbers have lost their digits, and need not be equal if they seem so */
	if (cJSON_IsString(value) &&
		strcmp(value->valuestring, mismatch->offender->valuestring) == 0)
		return true;
	return !may_fit(mismatch->offender, mismatch->expected) &&
		!may_fit(value, mismatch->expected);
}

/*
 * Does a value at this path contradict?  Names may contain dots themselves.
 */
static bool
holds_culprit(const cJSON *object, const char *path, const Mismatch *mismatch)
{
	const cJSON *item;

	if (cJSON_IsArray(object))
	{
		cJSON_ArrayForEach(item, object)
			if (holds_culprit(item, path, mismatch))
				return true;
		return false;
	}
	if (!cJSON_IsObject(object))
		return false;

	cJSON_ArrayForEach(item, object)
	{
		Size		len = strlen(item->string);

		if (strncmp(path, item->string, len) != 0)
			continue;
		if (path[len] == '\0' ? contradicts(item, mismatch) :
			path[len] == '.' && holds_culprit(item, path + len + 1, mismatch))
			return true;
	}
	return false;
}

/*
 * Fields of events have a type for each event name, of which the answer says
 * nothing.
 */
static bool
have_one_name(const IsApiRow *rows, int nrows)
{
	for (int i = 0; i < nrows; i++)
		if (rows[i].event_name == NULL ||
			strcmp(rows[i].event_name, rows[0].event_name) != 0)
			return false;
	return true;
}

/* What the member says; false if that is not enough. */
static bool
read_mismatch(const cJSON *error, Mismatch *mismatch)
{
	const char *prefix_end = strstr(error->string, ":::");

	/* some projects show fields with a prefix */
	mismatch->path = prefix_end ? prefix_end + 3 : error->string;
	mismatch->expected = is_cjson_string(error, "expectedType");
	mismatch->offender = cJSON_GetObjectItemCaseSensitive(error, "offendingValue");
	return mismatch->expected != NULL && mismatch->offender != NULL &&
		mismatch->path[0] != '\0';
}

/* The member that the row is refused for, or NULL. */
static const cJSON *
find_error(const IsApiRow *row, const cJSON *errors)
{
	cJSON	   *payload = is_cjson_parse(row->payload, row->payload_len);
	const cJSON *fields = cJSON_GetObjectItemCaseSensitive(payload, "dataFields");
	const cJSON *error;

	cJSON_ArrayForEach(error, errors)
	{
		Mismatch	mismatch;

		if (read_mismatch(error, &mismatch) &&
			holds_culprit(fields, mismatch.path, &mismatch))
			break;
	}
	cJSON_Delete(payload);
	return error;
}

int
is_types_find(IsEndpoint endpoint, const cJSON *errors, const IsApiRow *rows,
			  int nrows, const cJSON **culprits)
{
	int			n = 0;

	memset(culprits, 0, nrows * sizeof(cJSON *));
	if (!cJSON_IsObject(errors) ||
		(endpoint == IS_ENDPOINT_EVENTS_TRACK_BULK && !have_one_name(rows, nrows)))
		return 0;
	for (int i = 0; i < nrows; i++)
	{
		culprits[i] = find_error(&rows[i], errors);
		n += culprits[i] != NULL;
	}
	return n;
}
