/*-------------------------------------------------------------------------
 *
 * iterable_json.h
 *	  Reading JSON with cJSON; private to iterable_api.c and
 *	  iterable_types.c, its only users.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_ITERABLE_JSON_H
#define IS_ITERABLE_JSON_H

#include "postgres.h"

#include <cjson/cJSON.h>

/* NULL if the text is not JSON, all of it, or has far too many values. */
extern cJSON *is_cjson_parse(const char *text, Size len);

/* The string of this name in an object, or NULL. */
extern const char *is_cjson_string(const cJSON *object, const char *name);

/* Append letters, digits and some signs of a text. */
extern void is_cjson_append_plain(char *to, Size to_size, const char *text);

#endif							/* IS_ITERABLE_JSON_H */
