/*-------------------------------------------------------------------------
 *
 * http.h
 *	  HTTP requests that never block a PostgreSQL process: libcurl's multi
 *	  socket interface fed by a WaitEventSet.  The only user of libcurl.
 *
 * Rules kept here: https only unless the request allows http; no redirect is
 * followed, because libcurl would carry the Api-Key header to another host;
 * no proxy from the environment; answers and headers are capped; signals are
 * blocked around libcurl calls, so that its resolver thread never runs a
 * PostgreSQL handler; no callback allocates with palloc or raises an error.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_HTTP_H
#define IS_HTTP_H

#include "postgres.h"

/* Why a request has no status. */
typedef enum IsHttpOutcome
{
	IS_HTTP_ANSWERED,			/* status and body are valid */
	IS_HTTP_NOT_SENT,			/* surely nothing reached the server: resolve,
								 * connect or TLS failed */
	IS_HTTP_UNKNOWN				/* broken off after the request may have
								 * arrived: timeout, reset, truncated answer,
								 * answer over the cap */
} IsHttpOutcome;

/* What is to be asked.  All strings are copied or kept until done. */
typedef struct IsHttpRequest
{
	const char *url;
	const char *api_key;		/* sent as header Api-Key; never logged */
	const char *body;			/* NULL: GET; otherwise POST as JSON.  Must
								 * live until the request is done. */
	Size		body_len;
	int			connect_timeout_ms;
	int			timeout_ms;		/* whole request; it ends after a minute
								 * without a byte in any case */
	bool		allow_http;		/* plain http permitted (superuser setting) */
	Size		max_answer;		/* bytes; 0 means 8 MB */
	void	   *owner;			/* the caller's */

	/*
	 * If not NULL, called when the connection is there and the request begins
	 * to leave, with the time of that (µs of a monotonic clock); perhaps again
	 * if a kept connection turned out to be dead.  Must not raise an error.
	 */
	void		(*on_left) (void *owner, int64 at);
} IsHttpRequest;

/*
 * What came back.  Not in palloc'ed memory; valid until is_http_answer_free()
 * or the end of its client (from is_http_perform(): the end of the memory
 * context that was current).
 */
typedef struct IsHttpAnswer
{
	void	   *owner;			/* from the request */
	IsHttpOutcome outcome;
	int			status;			/* HTTP status, 0 without an answer */
	char	   *body;			/* NUL-terminated, may contain NULs before */
	Size		body_len;
	char		error[256];		/* libcurl's words when not answered; never
								 * holds a header, a body or a URL query */
	char		request_id[64]; /* Iterable-Request-Id, "" without */
	int			retry_after_ms; /* from Retry-After (seconds or HTTP date),
								 * -1 without one, capped to one hour */
	int64		elapsed_us;
} IsHttpAnswer;

typedef struct IsHttp IsHttp;

/*
 * Make a client.  Memory is malloc'ed by libcurl; the client registers a
 * reset callback on CurrentMemoryContext, so that it and everything in flight
 * is closed when that context goes, also after an error.
 */
extern IsHttp *is_http_create(void);
extern void is_http_destroy(IsHttp *http);

/*
 * Start a request; does not block.  ERROR (out of memory, bad URL:
 * ERRCODE_FDW_ERROR) only before anything was sent.
 */
extern void is_http_start(IsHttp *http, const IsHttpRequest *request);

/* Requests started and not yet taken as answers. */
extern int	is_http_in_flight(IsHttp *http);

/*
 * Wait until an answer is there, the process latch is set, or timeout_ms
 * (-1: no limit; the wait is cut into pieces of at most a second) has passed,
 * whatever comes first; drives the transfers.  Exits on postmaster death,
 * resets the latch, runs CHECK_FOR_INTERRUPTS().  Call it only outside of
 * critical work.  Returns true if the latch was set.
 *
 * With ignore_latch the latch is left as it is, and those who set it save
 * themselves the signal: for short waits only, since a request to end waits
 * as well.
 */
extern bool is_http_wait(IsHttp *http, long timeout_ms, bool ignore_latch);

/* The next finished request's answer, or NULL. */
extern IsHttpAnswer *is_http_next_answer(IsHttp *http);
extern void is_http_answer_free(IsHttpAnswer *answer);

/* Break off every request of this owner (their answers never come). */
extern void is_http_cancel(IsHttp *http, void *owner);

/*
 * One request, waiting in the caller's statement (look-ups, tests).  Those of
 * a transaction share their connections.  If the latch was set meanwhile, it
 * is set again at the end.
 */
extern IsHttpAnswer *is_http_perform(const IsHttpRequest *request);

#endif							/* IS_HTTP_H */
