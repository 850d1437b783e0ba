/*-------------------------------------------------------------------------
 *
 * iterable_api.h
 *	  What Iterable's API is: endpoints, limits, identifiers, and what its
 *	  answers mean for each row.  With iterable_json.h the only user of cJSON.
 *
 * Pure but for palloc: no catalog, no transaction, no network.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_ITERABLE_API_H
#define IS_ITERABLE_API_H

#include "postgres.h"

#include "lib/stringinfo.h"

typedef enum IsEndpoint
{
	IS_ENDPOINT_USERS_BULK_UPDATE,	/* POST, 5/s a project */
	IS_ENDPOINT_EVENTS_TRACK_BULK,	/* POST, 10/s a project */
	IS_ENDPOINT_USER_LOOKUP,	/* GET, 100/s */
	IS_ENDPOINT_COUNT
} IsEndpoint;

typedef enum IsProjectType
{
	IS_PROJECT_EMAIL,
	IS_PROJECT_USERID,
	IS_PROJECT_HYBRID
} IsProjectType;

/* Limits of one bulk request. */
#define IS_MAX_BATCH_ROWS 1000
#define IS_MAX_BATCH_BYTES 4000000	/* UTF-8, envelope included */

extern const char *is_api_path(IsEndpoint endpoint);	/* "/api/…" */

/* May Iterable create fields that it does not know? */
typedef enum IsNewFields
{
	IS_NEW_FIELDS_PROJECT,		/* as the project's setting says */
	IS_NEW_FIELDS_ALWAYS,
	IS_NEW_FIELDS_NEVER
} IsNewFields;

/*
 * What stands before and behind the payloads of a bulk request, palloc'ed.
 * createNewFields is of the request for users, and of each row for events;
 * updateOnly exists for users where the account has it.
 */
extern char *is_api_envelope_open(IsEndpoint endpoint, IsNewFields new_fields,
								  bool update_only);
extern const char *is_api_envelope_close(IsEndpoint endpoint);

/*
 * Paths of look-ups, percent-encoded.  Exactly one of email and user_id is
 * given; max_events 1..200.  palloc'ed.
 */
extern char *is_api_user_path(const char *email, const char *user_id);
extern char *is_api_events_path(const char *email, const char *user_id,
								int max_events);

/*
 * Is this text an identifier as Iterable takes it?  NULL if so, else a short
 * constant reason that does not repeat the value.  What passes may still be
 * refused by Iterable (it knows which top-level domains exist).
 */
extern const char *is_api_check_email(const char *email);
extern const char *is_api_check_user_id(const char *user_id);

/* The e-mail address as Iterable keeps it: in lower case; palloc'ed. */
extern char *is_api_fold_email(const char *email);

/* What an answer means for one row. */
typedef enum IsVerdict
{
	IS_VERDICT_ACCEPTED,
	IS_VERDICT_REJECTED,		/* final until a person or a newer change */
	IS_VERDICT_SKIPPED,			/* does not exist, and was not to be made */
	IS_VERDICT_LATER,			/* may succeed on a later try (user unknown) */
	IS_VERDICT_AGAIN,			/* not applied because of another row of the
								 * request: send again at once, without it */
	IS_VERDICT_UNKNOWN			/* the answer does not account for this row */
} IsVerdict;

/* One row of a request, and what its answer says of it. */
typedef struct IsApiRow
{
	/* given; NULL where the payload has none */
	const char *email;
	const char *user_id;
	const char *data_email;		/* dataFields.email */
	const char *data_user_id;	/* dataFields.userId */
	const char *event_name;
	const char *payload;		/* as it was sent; NULL: not at hand */
	int			payload_len;

	/* answered */
	IsVerdict	verdict;
	const char *class;			/* constant: the list's or code's name, e.g.
								 * "invalidEmails"; NULL when accepted */
	const char *message;		/* what is wrong, no data in it; constant,
								 * palloc'ed, or the answer's */
	const char *hint;			/* constant: what a person must mend, or NULL */
} IsApiRow;

/*
 * Copy the part of a text of Iterable's that cannot be a person's data or a
 * secret: ASCII, the first line, without what looks like a value, or is one of
 * the rows that were sent.
 */
extern void is_api_redact(const char *text, const IsApiRow *rows, int nrows,
						  char *to, Size to_size);

/* What an answer means for the request as a whole. */
typedef enum IsAnswerKind
{
	IS_ANSWER_PER_ROW,			/* look at the rows */
	IS_ANSWER_AGAIN,			/* nothing was applied: same batch again after
								 * a pause (429, 408, 5xx) */
	IS_ANSWER_UNKNOWN,			/* perhaps applied: same batch again, before
								 * anything newer */
	IS_ANSWER_STOP,				/* 401, 403, a redirect, a wrong base URL: the
								 * connection is stopped, its rows are kept */
	IS_ANSWER_SPLIT,			/* 413, BatchTooLarge: halve the batch */
	IS_ANSWER_REJECTED			/* any other 4xx: none was applied, the rows
								 * cannot be told apart */
} IsAnswerKind;

/* Names of fields: palloc'ed, UTF-8, no person's data. */
typedef struct IsApiFields
{
	int			n;
	char	  **names;
} IsApiFields;

typedef struct IsApiAnswer
{
	IsAnswerKind kind;
	bool		rate_limited;	/* it was a 429 */
	bool		internal_error; /* of Iterable's: an outage, or one row's fault */
	const char *class;			/* constant: the code's name, or ours for a
								 * status; NULL when the rows tell */
	const char *hint;			/* constant: what a person must mend, or NULL */
	char		code[64];		/* Iterable's code, "" without or if it is
								 * not of letters */
	char		message[256];	/* Iterable's msg, redacted (ASCII; no quoted
								 * value, no identifier, no key, no echo), or
								 * ours if it has none */
	int			success_count;
	int			fail_count;
	IsApiFields created_fields; /* that Iterable did not know before */
	IsApiFields filtered_fields;	/* that it did not take over */
} IsApiAnswer;

/*
 * Read the answer to a bulk request.  status and body as received (body need
 * not be JSON; NULL is allowed); rows in the order of the request get their
 * verdicts when kind is IS_ANSWER_PER_ROW; the only row of a request also when
 * it is IS_ANSWER_REJECTED.  e-mails are matched without case,
 * user ids exactly, through a hash (cJSON's look-up is linear).  One entry
 * that fits several rows marks them all; counts that do not add up leave the
 * rows that no list names IS_VERDICT_UNKNOWN.  Never raises an error but out
 * of memory.
 */
extern void is_api_read_answer(IsEndpoint endpoint, int status,
							   const char *body, Size body_len,
							   IsApiRow *rows, int nrows,
							   IsApiAnswer *answer);

/*
 * Read the answer to a user look-up: 1 the user exists, 0 unknown to
 * Iterable, -1 the answer says neither (then *answer says what).
 */
extern int	is_api_read_user_answer(int status, const char *body,
									Size body_len, IsApiAnswer *answer);

#endif							/* IS_ITERABLE_API_H */
