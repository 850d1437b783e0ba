/*-------------------------------------------------------------------------
 *
 * send_row.h
 *	  What the files of iterable_send_row() share: send_row.c and
 *	  send_request.c.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SEND_ROW_H
#define IS_SEND_ROW_H

#include "postgres.h"

#include "batch.h"
#include "catalog.h"
#include "connection.h"
#include "http.h"

typedef struct IsSending
{
	IsSync	   *sync;
	IsConnection *connection;
	IsBatch    *batch;			/* of the one row */
	bool		differs;		/* from what Iterable is known to have */
	IsHttpRequest http;
	IsHttpAnswer *http_answer;	/* NULL: there is none */

	/* what the caller is told; NULL or 0: nothing */
	char	   *request;
	int			status;
	char	   *answer;
	char	   *verdict;
} IsSending;

/*
 * send_request.c: send the row of the batch, and settle it by the answer, or
 * set the verdict where nothing is to be recorded.  From the moment on at
 * which the request may have left, nothing raises an error that could be
 * helped: it would take back the record, but not the request.
 */
extern void is_send_request(IsSending *sending);

/* "outcome: class: message", what there is of it; palloc'ed. */
extern char *is_send_words(const char *outcome, const char *class,
						   const char *message);

/* The body of the request that was built last, as text of this database. */
extern char *is_send_body(const IsBatch *batch);

#endif							/* IS_SEND_ROW_H */
