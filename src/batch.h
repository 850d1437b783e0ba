/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  The rows of one request: their payloads, what became of each, and which
 *	  keys and users they claim while the request is under way.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_BATCH_H
#define IS_BATCH_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/hsearch.h"

#include "delivery.h"
#include "http.h"
#include "state.h"

/* A row of a batch. */
typedef struct IsBatchRow
{
	IsRow		row;			/* payload is kept in the batch's text */
	Size		payload_at;		/* where it starts there */
	bool		to_send;		/* false: only recorded */
	bool		look_up;		/* to be sent only if Iterable knows the user */
	bool		failed_before;	/* as it is now */
	bool		looking_up;		/* that request is under way */
	int			lookup_errors;	/* times that it failed */
	bool		recorded;
	IsFate		fate;
	const char *class;
	char	   *code;
	const char *message;
	const char *request_id;		/* of the answer that settled it, or NULL */
} IsBatchRow;

typedef struct IsBatch
{
	MemoryContext context;		/* holds everything here */
	IsEndpoint	endpoint;
	char	   *envelope;		/* what a request begins with */
	bool		claims_users;	/* user syncs: one row a user */
	IsStretch	stretch;		/* part of the window that it covers */

	IsBatchRow *rows;
	int			nrows;
	int			rows_size;
	int			nsend;			/* rows still to be sent */
	StringInfoData payloads;
	HTAB	   *claimed;		/* claims of its own rows */

	bool		holds_claims;	/* they are entered in the sync's table */
	bool		closed;			/* all is recorded */
	bool		sending;		/* a request is under way */
	int			send_max;		/* rows in the next request */
	int			send_limit;		/* at most (halved after a 413) */
	int			suspects;		/* so many of the first rows to be sent were
								 * refused together */
	int			odd_answers;	/* that left it unknown what became of rows */
	int			given_up_alone; /* rows that were one by one, in a row */
	int			server_errors;	/* 5xx; since the first of them … */
	int64		answered_before;	/* … the run has had answers if more than this */
	int			lookups;		/* look-ups under way */
	int		   *sent;			/* indexes of the rows in the request */
	int			nsent;
	bool		sent_again;		/* these are rows that have failed before */
	StringInfoData body;		/* of the request */
	char	   *request_id;		/* of the answer that was read last, or NULL */
	IsRunCounts counts;			/* not recorded yet */
} IsBatch;

/* envelope: is_api_envelope_open() */
extern IsBatch *is_batch_create(IsEndpoint endpoint, const char *envelope,
								bool claims_users, IsPlace from);
extern void is_batch_free(IsBatch *batch);

/*
 * Add a row that is to be sent (a copy is kept).  False, and nothing is
 * added, if the batch has no room for it: then it is complete.
 */
extern bool is_batch_add(IsBatch *batch, const IsRow *row, bool look_up,
						 bool failed_before);

/* Add a row that is only recorded. */
extern void is_batch_note(IsBatch *batch, const IsRow *row, IsFate fate);

/*
 * Rows that are settled from now on are so because of this answer, to the
 * request of the batch or to a look-up.
 */
extern void is_batch_note_answer(IsBatch *batch, const IsHttpAnswer *answer);

/* Give a row that was to be sent its fate; class is constant. */
extern void is_batch_settle(IsBatch *batch, int i, IsFate fate, const char *class,
							const char *code, const char *message);

/*
 * Build the next request from the rows still to be sent.  False if there is
 * none, or look-ups must come first.  What has failed before may do so again:
 * it goes last, and with nothing else in one request.
 */
extern bool is_batch_build_request(IsBatch *batch);

/*
 * Of a batch that was completed in a dry run: build its requests, and settle
 * its rows as if they had been sent.
 */
extern void is_batch_pretend(IsBatch *batch);

/*
 * Read what came back of the request that was built last.  The verdicts of
 * its rows are in the order of "sent".
 */
extern IsApiRow *is_batch_read_answer(IsBatch *batch,
									  const IsHttpAnswer *answer,
									  IsApiAnswer *api);

/*
 * Give the rows of that request their fates: row by row (false if the answer
 * leaves any unknown), as it was refused as a whole, or all the same.
 */
extern bool is_batch_settle_rows(IsBatch *batch, const IsApiRow *rows,
								 const IsApiAnswer *api);
extern void is_batch_settle_refused(IsBatch *batch, const IsApiRow *rows,
									const IsApiAnswer *api);
extern void is_batch_settle_sent(IsBatch *batch, IsFate fate, const char *class,
								 const char *code, const char *message);

/* All rows that are still to be sent, in that request or not. */
extern void is_batch_settle_all(IsBatch *batch, IsFate fate, const char *class,
								const char *code, const char *message);

/* Write down the fates that are not recorded yet. */
extern void is_batch_record(IsBatch *batch, const IsSync *sync);

/*
 * Claims of a sync: keys and users of complete batches whose verdicts are not
 * in yet.  Nothing may be decided about a row while one of its claims is
 * taken there, or by the batch that is being filled: what Iterable has is not
 * known until then.
 */
extern HTAB *is_batch_claims_create(void);
extern bool is_batch_taken(const IsBatch *filling, HTAB *claims,
						   const IsRow *row);
extern void is_batch_claim(IsBatch *batch, HTAB *claims);
extern void is_batch_release(IsBatch *batch, HTAB *claims);

/* Do two batches, of whatever syncs, claim the same user? */
extern bool is_batch_shares_user(const IsBatch *a, const IsBatch *b);

/*
 * Of a resumed window: keys whose fate has been recorded since, so that what
 * Iterable has of them is known again.  There is a bound; beyond it keys stay
 * unknown, and are sent once more if they come again.
 */
extern HTAB *is_batch_known_create(void);
extern void is_batch_enter_known(const IsBatch *batch, HTAB *known);
extern bool is_batch_is_known(HTAB *known, const IsRow *row);

#endif							/* IS_BATCH_H */
