/*-------------------------------------------------------------------------
 *
 * json_internal.h
 *	  For the files that write JSON: json.c, json_type.c, json_time.c,
 *	  json_compound.c.
 *
 * Functions that append return NULL or the class of a problem, as
 * is_json_append() does.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_JSON_INTERNAL_H
#define IS_JSON_INTERNAL_H

#include "json.h"

#include "utils/date.h"
#include "utils/timestamp.h"

#define PROBLEM_NUMBER "not_a_number"
#define PROBLEM_DATE "bad_date"
#define PROBLEM_ENCODING "bad_encoding"
#define PROBLEM_JSON "bad_json"
#define PROBLEM_PLACE "bad_geo_location"
#define PROBLEM_SIZE "too_large"

/* json.c */

/*
 * Would a toasted value burst every request?  It is not worth fetching then.
 * margin: how many stored bytes may become one byte of JSON.
 */
extern bool is_json_is_too_large(Datum value, int margin);

/* A text of the database as a JSON string. */
extern const char *is_json_append_text(StringInfo buf, const char *text, int len);

/*
 * json_type.c: as is_json_refresh(), but of a composite alone, not of what is
 * in it.
 */
extern void is_json_refresh_row(IsJsonType *json_type);

/* json_time.c; zone is NULL for what is UTC already. */
extern const char *is_json_append_date(StringInfo buf, DateADT date);
extern const char *is_json_append_timestamp(StringInfo buf, Timestamp timestamp,
											pg_tz *zone);
extern const char *is_json_append_interval(StringInfo buf, const Interval *interval);

/* json_compound.c */
extern const char *is_json_append_array(StringInfo buf, IsJsonType *json_type,
										Datum value);
extern const char *is_json_append_range(StringInfo buf, IsJsonType *json_type,
										Datum value);
extern const char *is_json_append_multirange(StringInfo buf,
											 IsJsonType *json_type, Datum value);
extern const char *is_json_append_row(StringInfo buf, IsJsonType *json_type,
									  Datum value);
extern const char *is_json_append_hstore(StringInfo buf, IsJsonType *json_type,
										 Datum value);

#endif							/* IS_JSON_INTERNAL_H */
