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

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "pgtime.h"

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
	IS_JSON_WORD,				/* the same, but no identifier: inet, bit, ... */
	IS_JSON_DATE,
	IS_JSON_TIMESTAMP,
	IS_JSON_TIMESTAMPTZ,
	IS_JSON_INTERVAL,
	IS_JSON_JSON,
	IS_JSON_JSONB,
	IS_JSON_BYTEA,
	IS_JSON_POINT,				/* as a place on earth; not inside others */
	IS_JSON_HSTORE,
	IS_JSON_ARRAY,
	IS_JSON_RANGE,
	IS_JSON_MULTIRANGE,
	IS_JSON_ROW					/* composite */
} IsJsonKind;

typedef struct IsJsonType
{
	Oid			type;
	IsJsonKind	kind;
	bool		has_local_time; /* is or contains a timestamp without zone */
	bool		is_varlena;		/* with the output function: */
	FmgrInfo	output;			/* of IS_JSON_STRING, _WORD, _HSTORE */
	pg_tz	   *zone;			/* of timestamps that have none; NULL: UTC */

	struct IsJsonType *element; /* of an array, (multi)range; of arrays: */
	int16		element_len;
	bool		element_byval;
	char		element_align;
	struct TypeCacheEntry *range;	/* of a range, or of those of a multirange */
	struct IsJsonRow *row;		/* of IS_JSON_ROW */
} IsJsonType;

/* The attributes of a composite type as they were when it was looked up. */
typedef struct IsJsonRow
{
	Oid			type;			/* no domain */
	uint64		identifier;		/* another one: it has been altered */
	TupleDesc	desc;
	struct IsJsonAttribute *attributes; /* of desc->natts */
} IsJsonRow;

typedef struct IsJsonAttribute
{
	char	   *label;			/* "name": as JSON in UTF-8; NULL: dropped */
	int			label_len;
	IsJsonType	type;
} IsJsonAttribute;

/*
 * Look up what writing values of a type needs, in CurrentMemoryContext.  zone
 * is that of timestamps without one, at any depth, or NULL.  Returns
 * InvalidOid, or the type that can't be written: this one, or one inside it.
 * A point is for the caller to refuse.
 */
extern Oid	is_json_init(IsJsonType *json_type, Oid type, pg_tz *zone);

/*
 * Composite types can be altered: look those up anew that were since
 * is_json_init() or the last call.  Error 0A000 if they can't be written now.
 */
extern void is_json_refresh(IsJsonType *json_type);

/*
 * Append a value.  Returns NULL, or the constant class of the problem:
 * "not_a_number", "bad_date", "bad_encoding", "bad_json", "bad_geo_location",
 * "too_large" (as it stands it is larger than a request may be).  What was
 * appended is then of no use.
 */
extern const char *is_json_append(StringInfo buf, IsJsonType *json_type,
								  Datum value);

/*
 * A local time as UTC, as AT TIME ZONE has it; false if that is out of what a
 * timestamp can hold.  local must be finite.
 */
extern bool is_json_local_to_utc(Timestamp local, pg_tz *zone, Timestamp *utc);

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
