/*-------------------------------------------------------------------------
 *
 * http_transfer.h
 *	  One HTTP request and its answer; private to http.c.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_HTTP_TRANSFER_H
#define IS_HTTP_TRANSFER_H

#include "http.h"

#include <curl/curl.h>
#include <time.h>

#include "lib/ilist.h"

/* From is_http_start() until the answer is freed.  malloc'ed. */
typedef struct IsTransfer
{
	IsHttpAnswer answer;		/* must be first: callers hold its address */
	dlist_node	node;			/* in one of the client's lists, or in none */
	void	   *keeper;			/* http.c's, of an answer in no list */

	CURL	   *easy;			/* NULL when it has ended */
	struct curl_slist *headers;
	char		error[CURL_ERROR_SIZE];
	Size		max_answer;
	Size		body_size;		/* allocated */
	Size		header_bytes;
	time_t		date;			/* the server's clock, -1 unknown */
	time_t		retry_at;		/* Retry-After as a date, -1 without */

	bool		begun;			/* connected; the request may have left */
	int64		left_at;		/* when; 0: not yet */
	int64		told_at;		/* what on_left was told */
	void		(*on_left) (void *owner, int64 at);
	bool		too_large;
	bool		no_memory;
} IsTransfer;

/* ERROR if the request must not be made. */
extern void is_transfer_check(const IsHttpRequest *request);

/*
 * Make a transfer on an easy handle, ready to be added to a multi handle.
 * NULL without memory; raises no error.  The handle stays the caller's.
 */
extern IsTransfer *is_transfer_create(CURL *easy, const IsHttpRequest *request);

/* It has ended: fill in the answer.  The handle is not needed any more. */
extern void is_transfer_finish(IsTransfer *t, CURLcode rc);

extern void is_transfer_free(IsTransfer *t);

#endif							/* IS_HTTP_TRANSFER_H */
