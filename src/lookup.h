/*-------------------------------------------------------------------------
 *
 * lookup.h
 *	  Questions to Iterable that are asked in the caller's statement.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_LOOKUP_H
#define IS_LOOKUP_H

#include "postgres.h"

#include "connection.h"
#include "http.h"

/*
 * GET a path of the API and wait for the answer, at most request_timeout; can
 * be cancelled.  Asks the pacer first, error 53400 if it has no place for the
 * request in that time.  The answer goes with CurrentMemoryContext.
 */
extern IsHttpAnswer *is_lookup_ask(const IsConnection *connection,
								   const char *base_url, const char *path);

/*
 * Wait until a request to an endpoint may leave, at most so long: error 53400.
 * It is counted, at a time that *counted gets if not NULL.
 */
extern void is_lookup_pace(const IsConnection *connection, IsEndpoint endpoint,
						   int patience_ms, int64 *counted);

#endif							/* IS_LOOKUP_H */
