/*-------------------------------------------------------------------------
 *
 * payload.h
 *	  Writes the payload of one row.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_PAYLOAD_H
#define IS_PAYLOAD_H

#include "postgres.h"

#include "common/cryptohash.h"
#include "lib/stringinfo.h"

#include "renderer.h"

typedef struct IsPayloadWriter
{
	MemoryContext result_context;	/* for what rows point to */
	const IsRenderer *renderer;
	pg_cryptohash_ctx *sha256;
	StringInfoData buf;
} IsPayloadWriter;

/*
 * Begin and end a chunk, in one context and subtransaction.  Set
 * result_context before.  Errors: is_layout_refresh()'s.
 */
extern void is_payload_begin(IsPayloadWriter *writer, const IsRenderer *renderer);
extern void is_payload_end(IsPayloadWriter *writer);

/*
 * Fill a row (but key and found) from the values of the mapped columns.
 * CurrentMemoryContext is for what is needed in between.
 */
extern void is_payload_write(IsPayloadWriter *writer, IsRow *row,
							 const Datum *values, const bool *nulls);

#endif							/* IS_PAYLOAD_H */
