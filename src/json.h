/*-------------------------------------------------------------------------
 *
 * json.h
 *	  Values as JSON in UTF-8, whatever the database's encoding is.
 *
 * Only output functions run, never casts.  Call with session settings pinned
 * (is_render_pin_settings), as the owner of the source.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_JSON_H
#define IS_JSON_H

#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"

typedef enum IsJsonKind
{
	IS_JSON_INT2,
	IS_JSON_INT4,
	IS_JSON_INT8,
	IS_JSON_NUMERIC,
	IS_JSON_FLOAT4,
	IS_JSON_FLOAT8,
	IS_JSON_BOOL,
	IS_JSON_TEXT,				/* text, varchar */
	IS_JSON_BPCHAR,				/* char(n): blanks at the end do not count */
	IS_JSON_STRING,				/* by its output function */
	IS_JSON_DATE,
	IS_JSON_TIMESTAMP,
	IS_JSON_TIMESTAMPTZ,
	IS_JSON_JSON,
	IS_JSON_JSONB,
	IS_JSON_ARRAY
} IsJsonKind;

typedef struct IsJsonType
{
	Oid			type;
	IsJsonKind	kind;
	FmgrInfo	output;			/* of IS_JSON_STRING */
	struct IsJsonType *element; /* of IS_JSON_ARRAY, with its storage: */
	int16		element_len;
	bool		element_byval;
	char		element_align;
} IsJsonType;

/* The kind of a type, or false if it can't be written. */
extern bool is_json_kind(Oid type, IsJsonKind *kind);

/* Look up what writing needs, in CurrentMemoryContext; error 0A000. */
extern void is_json_init(IsJsonType *json_type, Oid type);

/*
 * Append a value.  Returns NULL, or the constant class of the problem:
 * "not_a_number", "bad_date", "bad_encoding", "bad_json", "too_large" (as it
 * stands it is larger than a request may be).  What was appended is then of
 * no use.
 */
extern const char *is_json_append(StringInfo buf, IsJsonType *json_type,
								  Datum value);

/* Is this JSON text a null? */
extern bool is_json_is_null(const char *json);

/* Can the kind be an identifier, or another field that must be a string? */
extern bool is_json_is_text(IsJsonKind kind);

/*
 * The text of a value of such a kind in UTF-8, palloc'ed; NULL with *problem
 * set to a class if it has none.
 */
extern char *is_json_text(IsJsonType *json_type, Datum value,
						  const char **problem);

/* A text of the database as UTF-8: itself or palloc'ed; NULL: it can't be. */
extern char *is_json_to_utf8(const char *text, int len, int *utf8_len);

/* Append a JSON string; text is UTF-8. */
extern void is_json_append_utf8(StringInfo buf, const char *text, int len);

#endif							/* IS_JSON_H */
