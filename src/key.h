/*-------------------------------------------------------------------------
 *
 * key.h
 *	  Canonical texts of keys: equal keys have one text, whatever DateStyle,
 *	  TimeZone or other session settings are.
 *
 * Types: int2, int4, int8, bool, uuid, text and varchar with a deterministic
 * collation, enums, numeric (normalized), date, timestamp, timestamptz (ISO,
 * UTC).  A key of several columns is a JSON array of their texts as strings.
 * Only output functions of base types run here, never casts: this code is
 * part of the user's own transaction.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_KEY_H
#define IS_KEY_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* Does a column of this type and collation have a canonical text? */
extern bool is_key_type_ok(Oid type, Oid collation);

/* Append the text of a key; values are not null. */
extern void is_key_append(StringInfo buf, int n, const Oid *types,
						  const Datum *values);

/*
 * The n column texts of a key, palloc'ed.  Error 22023 if a composite key's
 * text is not a JSON array of n strings.
 */
extern char **is_key_split(const char *key, int n);

/*
 * Give back the value that a column text stands for, in no type modifier: one
 * that rounds or cuts would make it the key of another row.  Call with session
 * settings pinned (is_render_pin_settings).
 */
extern Datum is_key_value(const char *text, Oid type);

#endif							/* IS_KEY_H */
