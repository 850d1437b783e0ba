/*-------------------------------------------------------------------------
 *
 * iterable_json.c
 *	  Reading JSON with cJSON.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "iterable_json.h"

#include <ctype.h>

/* An honest answer has a few thousand values; cJSON takes 64 bytes for each. */
#define MAX_JSON_VALUES 100000

cJSON *
is_cjson_parse(const char *text, Size len)
{
	const char *end = NULL;
	Size		values = 0;
	cJSON	   *json;

	if (text == NULL || len == 0 || memchr(text, '\0', len) != NULL)
		return NULL;
	for (Size i = 0; i < len; i++)
		if ((text[i] == ',' || text[i] == '[' || text[i] == '{') &&
			++values > MAX_JSON_VALUES)
			return NULL;

	json = cJSON_ParseWithLengthOpts(text, len, &end, false);
	if (json == NULL)
		return NULL;
	for (; end < text + len; end++)
		if (!isspace((unsigned char) *end))
		{
			cJSON_Delete(json);
			return NULL;
		}
	return json;
}

const char *
is_cjson_string(const cJSON *object, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

void
is_cjson_append_plain(char *to, Size to_size, const char *text)
{
	Size		used = strlen(to);

	for (const char *p = text; *p != '\0' && used + 1 < to_size; p++)
		if (!IS_HIGHBIT_SET(*p) &&
			(isalnum((unsigned char) *p) || strchr("._-:$", *p) != NULL))
			to[used++] = *p;
	to[used] = '\0';
}
