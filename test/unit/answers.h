/*-------------------------------------------------------------------------
 *
 * answers.h
 *	  What the tests of Iterable's answers share.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "postgres.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "iterable_api.h"

#define USERS IS_ENDPOINT_USERS_BULK_UPDATE
#define EVENTS IS_ENDPOINT_EVENTS_TRACK_BULK

/* counts and lists as they come today */
#define COUNTS(ok, bad) "{\"successCount\":" #ok ",\"failCount\":" #bad
#define FAILED(lists) ",\"failedUpdates\":{" lists "}"
#define END "}"

#define CODE(code) "{\"msg\":\"something is wrong\",\"code\":\"" code "\",\"params\":null}"

#define NROWS 4

/* The requests to which the answers belong. */
extern const IsApiRow user_rows[NROWS];
extern const IsApiRow event_rows[NROWS];

/* What was read last. */
extern IsApiRow rows[NROWS];
extern IsApiAnswer answer;

/* libcjson's memory must be given back, whatever the answer is. */
extern int	allocated;
extern void count_memory(void);

/* Read an answer to the first rows of a request. */
extern void read_answer(IsEndpoint endpoint, int nrows, int status,
						const char *body, size_t len);

/* A letter a row: Accepted, Rejected, Skipped, Later, aGain, Unknown. */
extern void verdicts(int nrows, char *to);

typedef struct Case
{
	const char *what;
	IsEndpoint	endpoint;
	int			status;
	const char *body;
	IsAnswerKind kind;
	const char *verdicts;
	const char *class;			/* of the first row that is not accepted, or of
								 * the answer if no row has one */
} Case;

extern void check_cases(const Case *cases, size_t n);

#endif							/* ANSWERS_H */
