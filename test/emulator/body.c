/*
 * body.c
 *		Reading the members of a request's body.
 */
#include "body.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "project.h"

#define LONGEST_STRING 32768	/* "about 32 k characters" */
#define MOST_ERRORS 100

static const struct
{
	const char *code;
	const char *text;
	bool		was_recorded;	/* as a list; the others are known as text */
}			kinds[] = {
	[EXPECTED_STRING] = {"error.expected.jsstring", "String value expected", true},
	[EXPECTED_BOOLEAN] = {"error.expected.jsboolean", "Boolean value expected", false},
	[EXPECTED_NUMBER] = {"error.expected.jsnumber", "Number value expected", false},
	[EXPECTED_OBJECT] = {"error.expected.jsobject", "Object value expected", false},
	[EXPECTED_ARRAY] = {"error.expected.jsarray", "Array value expected", false},
	[MISSING] = {"error.path.missing", "Required value is missing", true},
};

void
body_error(BodyErrors *errors, BodyPlace place, const char *member,
		   BodyErrorKind kind)
{
	Buffer	   *out = &errors->params;
	bool		as_list = kinds[kind].was_recorded;

	if (++errors->count > MOST_ERRORS)
		return;
	if (settings.body_error_form != BODY_ERROR_EVIDENCE)
		as_list = settings.body_error_form == BODY_ERROR_LIST;

	buffer_text(out, out->len > 0 ? ",\"obj" : "\"obj");
	if (place.list != NULL)
		buffer_printf(out, ".%s[%zu]", place.list, place.index);
	if (member != NULL)
	{
		buffer_char(out, '.');
		buffer_json_escaped(out, member, strlen(member));
	}
	if (as_list)
		buffer_printf(out, "\":[{\"msg\":[\"%s\"],\"args\":[]}]",
					  kinds[kind].code);
	else
		buffer_printf(out, "\":\"%s\"", kinds[kind].text);
}

void
body_string(BodyErrors *errors, BodyPlace place, const cJSON *member,
			const char **value)
{
	if (json_is(member, cJSON_String))
		*value = member->valuestring;
	else if (json_is(member, cJSON_NULL))
		*value = NULL;
	else
		body_error(errors, place, member->string, EXPECTED_STRING);
}

void
body_boolean(BodyErrors *errors, BodyPlace place, const cJSON *member,
			 bool *value)
{
	if (cJSON_IsBool(member))
		*value = json_is(member, cJSON_True);
	else if (!json_is(member, cJSON_NULL))
		body_error(errors, place, member->string, EXPECTED_BOOLEAN);
}

void
body_object(BodyErrors *errors, BodyPlace place, const cJSON *member,
			const cJSON **value)
{
	if (json_is(member, cJSON_Object))
		*value = member;
	else if (json_is(member, cJSON_NULL))
		*value = NULL;
	else
		body_error(errors, place, member->string, EXPECTED_OBJECT);
}

void
body_integer(BodyErrors *errors, BodyPlace place, const Document *document,
			 const cJSON *member, bool *is_set, int64_t *value)
{
	if (json_is(member, cJSON_NULL))
		return;
	if (json_is_integer(document, member))
	{
		errno = 0;
		*value = json_integer(document, member);
		*is_set = true;
		if (errno == 0)
			return;
	}
	body_error(errors, place, member->string, EXPECTED_NUMBER);
}

const cJSON *
body_list(BodyErrors *errors, const Document *document, const char *name)
{
	BodyPlace	top = {0};
	const cJSON *list;

	if (!json_is(document->root, cJSON_Object))
	{
		/* there is no place to name when the text is not JSON at all */
		if (document->root != NULL)
			body_error(errors, top, NULL, EXPECTED_OBJECT);
		errors->count++;
		return NULL;
	}
	list = json_member(document->root, name);
	if (list == NULL)
		body_error(errors, top, name, MISSING);
	else if (!json_is(list, cJSON_Array))
	{
		body_error(errors, top, name, EXPECTED_ARRAY);
		list = NULL;
	}
	return list;
}

void
body_answer(const ApiCall *call, BodyErrors *errors, Answer *answer)
{
	Buffer		msg = {0};
	Buffer		params = {0};

	buffer_printf(&msg, "[%s] ", call->url);
	if (call->headers != NULL)
	{
		buffer_text(&msg, "body: ");
		buffer_append(&msg, call->body, call->body_len);
		buffer_printf(&msg, ", hdrs: List(%s)", call->headers);
	}
	else
		buffer_text(&msg, "Invalid JSON body");
	if (errors->params.len > 0)
		buffer_printf(&params, "{%s}", errors->params.data);
	answer_envelope(answer, 400, "BadJsonBody", msg.data, params.data);
	buffer_free(&params);
	buffer_free(&msg);
}

static bool
is_location(const Document *document, const cJSON *value)
{
	const char *const axes[] = {"lat", "lon"};
	const double limits[] = {90, 180};

	for (int i = 0; i < 2; i++)
	{
		const cJSON *axis = json_member(value, axes[i]);

		if (!json_is(axis, cJSON_Number) ||
			fabs(json_real(document, axis)) > limits[i])
			return false;
	}
	return true;
}

static bool
number_is_valid(const Document *document, const cJSON *value)
{
	errno = 0;
	if (json_is_integer(document, value))
	{
		json_integer(document, value);
		return errno == 0;
	}
	return isfinite(json_real(document, value));
}

static bool
is_geo_name(const char *name)
{
	static const char suffix[] = "_geo_location";
	size_t		len = strlen(name);

	return len >= sizeof(suffix) - 1 &&
		strcmp(name + len - (sizeof(suffix) - 1), suffix) == 0;
}

bool
body_data_is_valid(const Document *document, const cJSON *data)
{
	size_t		len;

	for (const cJSON *value = data->child; value != NULL; value = value->next)
	{
		if (value->string != NULL && is_geo_name(value->string) &&
			!json_is(value, cJSON_NULL) && !is_location(document, value))
			return false;
		if (json_is(value, cJSON_Number) && !number_is_valid(document, value))
			return false;
		if (json_is(value, cJSON_String))
		{
			json_raw(document, value, &len);
			/* the text in the request is never shorter than the value */
			if (len > LONGEST_STRING && strlen(value->valuestring) > LONGEST_STRING)
				return false;
		}
		if (value->child != NULL && !body_data_is_valid(document, value))
			return false;
	}
	return true;
}
