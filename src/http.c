/*-------------------------------------------------------------------------
 *
 * http.c
 *	  HTTP requests that never block a PostgreSQL process.
 *
 * libcurl tells through callbacks which sockets it wants watched and when it
 * wants to be called again; we watch them in a WaitEventSet together with the
 * latch and the postmaster.  Everything that a callback touches is malloc'ed,
 * because an error must never jump over libcurl's frames.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "http.h"

#include <pthread.h>
#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "clock.h"
#include "compat.h"
#include "http_transfer.h"

#define MAX_WAIT_MS 1000
#define MAX_IDLE_CONNECTIONS 16L
#define MAX_POOLED_HANDLES 16

typedef struct Socket
{
	curl_socket_t fd;
	uint32		events;
} Socket;

struct IsHttp
{
	CURLM	   *multi;			/* NULL when destroyed */
	MemoryContextCallback callback;

	dlist_head	active;			/* Transfers on their way */
	dlist_head	done;			/* finished, not yet taken */
	dlist_head	taken;			/* answers in the caller's hands */
	int			in_flight;		/* active + done */

	CURL	   *pool[MAX_POOLED_HANDLES];	/* idle handles, with their TLS
											 * sessions */
	int			npool;

	/* What libcurl's callbacks asked for. */
	Socket	   *sockets;
	int			nsockets;
	int			max_sockets;
	bool		no_memory;
	int64		timer_at;		/* us, -1 none */

	WaitEventSet *set;
	struct Latch *set_latch;	/* in the set; NULL when the sockets have
								 * changed since it was made */
};

/* Frees the answer of is_http_perform() with the caller's memory context. */
typedef struct AnswerKeeper
{
	MemoryContextCallback callback;
	IsTransfer *transfer;		/* NULL when freed before */
} AnswerKeeper;

/* The client of is_http_perform(), for as long as the transaction lasts. */
static IsHttp *statement_client = NULL;

/*
 * libcurl's resolver runs in a thread, which inherits the signal mask of the
 * caller.  With all signals blocked it can never run one of PostgreSQL's
 * handlers.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigdelset(&all, SIGABRT);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGSYS);
	sigdelset(&all, SIGTRAP);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

static void
init_libcurl(void)
{
	static bool initialized = false;
	sigset_t	saved;
	CURLcode	rc;

	/* Every child of a postmaster that did this would share its state. */
	Assert(IsUnderPostmaster || !IsPostmasterEnvironment);

	if (initialized)
		return;

	block_signals(&saved);
	rc = curl_global_init(CURL_GLOBAL_DEFAULT);
	restore_signals(&saved);
	if (rc != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not initialize libcurl"),
				 errdetail_internal("%s", curl_easy_strerror(rc))));
	initialized = true;
}

pg_noreturn static void
out_of_memory(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory"),
			 errdetail("Failed while preparing an HTTP request.")));
	pg_unreachable();
}

/* ----------------------------------------------------------------
 * Callbacks of libcurl: they neither palloc nor ereport
 * ----------------------------------------------------------------
 */

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	IsHttp	   *http = arg;
	uint32		events = 0;
	int			i;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;

	for (i = 0; i < http->nsockets; i++)
		if (http->sockets[i].fd == fd)
			break;

	/* Even if nothing seems to change: the descriptor may be a new one. */
	http->set_latch = NULL;

	if (what == CURL_POLL_REMOVE)
	{
		if (i < http->nsockets)
			http->sockets[i] = http->sockets[--http->nsockets];
		return 0;
	}

	if (i == http->nsockets)
	{
		if (i == http->max_sockets)
		{
			int			size = Max(8, 2 * http->max_sockets);
			Socket	   *larger = realloc(http->sockets, size * sizeof(Socket));

			if (larger == NULL)
			{
				http->no_memory = true;
				return 0;
			}
			http->sockets = larger;
			http->max_sockets = size;
		}
		http->sockets[i].fd = fd;
		http->nsockets++;
	}
	http->sockets[i].events = events;
	return 0;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	IsHttp	   *http = arg;

	http->timer_at = timeout_ms < 0 ? -1 : is_clock_us() + timeout_ms * INT64CONST(1000);
	return 0;
}

/* ----------------------------------------------------------------
 * Transfers
 * ----------------------------------------------------------------
 */

/* Keep a handle for the next request, or give it back. */
static void
pool_handle(IsHttp *http, CURL *easy)
{
	curl_easy_reset(easy);
	if (http->npool < MAX_POOLED_HANDLES)
		http->pool[http->npool++] = easy;
	else
		curl_easy_cleanup(easy);
}

/* Take a transfer from libcurl, which breaks it off if it has not ended. */
static void
detach(IsHttp *http, IsTransfer *t)
{
	sigset_t	saved;

	if (t->easy == NULL)
		return;

	block_signals(&saved);
	curl_multi_remove_handle(http->multi, t->easy);
	pool_handle(http, t->easy);
	restore_signals(&saved);
	t->easy = NULL;
}

static void
finish(IsHttp *http, IsTransfer *t, CURLcode rc)
{
	is_transfer_finish(t, rc);
	detach(http, t);
	dlist_delete(&t->node);
	dlist_push_tail(&http->done, &t->node);
}

/* Tell the owners of requests that have left. */
static void
tell_departures(IsHttp *http)
{
	dlist_iter	iter;

	dlist_foreach(iter, &http->active)
	{
		IsTransfer *t = dlist_container(IsTransfer, node, iter.cur);

		if (t->left_at == t->told_at)
			continue;
		t->told_at = t->left_at;
		if (t->on_left)
			t->on_left(t->answer.owner, t->left_at);
	}
}

/* Let libcurl work on a socket (or its timer), and collect what has ended. */
static void
drive(IsHttp *http, curl_socket_t fd, int events)
{
	sigset_t	saved;
	CURLMcode	rc;
	CURLMsg    *msg;
	int			n;

	if (fd == CURL_SOCKET_TIMEOUT)
		http->timer_at = -1;

	block_signals(&saved);
	rc = curl_multi_socket_action(http->multi, fd, events, &n);
	tell_departures(http);

	while ((msg = curl_multi_info_read(http->multi, &n)) != NULL)
	{
		IsTransfer *t = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **) &t);
		finish(http, t, msg->data.result);
	}

	/* A socket that is not watched would never wake us: give up on all. */
	if (rc != CURLM_OK || http->no_memory)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &http->active)
		{
			IsTransfer *t = dlist_container(IsTransfer, node, iter.cur);

			t->no_memory = http->no_memory;
			finish(http, t, CURLE_FAILED_INIT);
		}
		http->no_memory = false;
	}
	restore_signals(&saved);
}

/* ----------------------------------------------------------------
 * Client
 * ----------------------------------------------------------------
 */

static void
free_list(dlist_head *list)
{
	while (!dlist_is_empty(list))
		is_transfer_free(dlist_container(IsTransfer, node, dlist_pop_head_node(list)));
}

void
is_http_destroy(IsHttp *http)
{
	dlist_iter	iter;
	sigset_t	saved;

	if (http->multi == NULL)
		return;

	if (http == statement_client)
		statement_client = NULL;

	dlist_foreach(iter, &http->active)
		detach(http, dlist_container(IsTransfer, node, iter.cur));
	free_list(&http->active);
	free_list(&http->done);
	free_list(&http->taken);
	http->in_flight = 0;

	block_signals(&saved);
	while (http->npool > 0)
		curl_easy_cleanup(http->pool[--http->npool]);
	curl_multi_cleanup(http->multi);
	restore_signals(&saved);
	http->multi = NULL;

	free(http->sockets);
	http->sockets = NULL;
	http->nsockets = http->max_sockets = 0;

	if (http->set != NULL)
		FreeWaitEventSet(http->set);
	http->set = NULL;
}

static void
destroy_callback(void *arg)
{
	is_http_destroy(arg);
}

IsHttp *
is_http_create(void)
{
	IsHttp	   *http;
	sigset_t	saved;

	init_libcurl();

	http = palloc0(sizeof(IsHttp));
	dlist_init(&http->active);
	dlist_init(&http->done);
	dlist_init(&http->taken);
	http->timer_at = -1;

	/* Registered before there is anything to clean up, so nothing can leak. */
	http->callback.func = destroy_callback;
	http->callback.arg = http;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &http->callback);

	block_signals(&saved);
	http->multi = curl_multi_init();
	restore_signals(&saved);
	if (http->multi == NULL)
		out_of_memory();

	curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, MAX_IDLE_CONNECTIONS);

	/*
	 * One request at a time on a connection, also of HTTP/2: what breaks one
	 * leaves the others alone.
	 */
	curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	return http;
}

int
is_http_in_flight(IsHttp *http)
{
	return http->in_flight;
}

void
is_http_start(IsHttp *http, const IsHttpRequest *request)
{
	IsTransfer *t = NULL;
	CURL	   *easy;
	sigset_t	saved;

	is_transfer_check(request);

	block_signals(&saved);
	easy = http->npool > 0 ? http->pool[--http->npool] : curl_easy_init();
	if (easy != NULL)
		t = is_transfer_create(easy, request);
	if (t != NULL && curl_multi_add_handle(http->multi, easy) != CURLM_OK)
	{
		is_transfer_free(t);
		t = NULL;
	}
	if (t == NULL && easy != NULL)
		pool_handle(http, easy);
	restore_signals(&saved);
	if (t == NULL)
		out_of_memory();

	dlist_push_tail(&http->active, &t->node);
	http->in_flight++;

	/* Connect, or write to a kept connection, while the caller works on. */
	drive(http, CURL_SOCKET_TIMEOUT, 0);
}

/* The set of what is_http_wait() waits for. */
static WaitEventSet *
wait_set(IsHttp *http)
{
	if (http->set != NULL && http->set_latch == MyLatch)
		return http->set;

	if (http->set != NULL)
		FreeWaitEventSet(http->set);
	http->set = NULL;
	http->set_latch = NULL;

	http->set = is_create_wait_event_set(2 + http->nsockets);
	AddWaitEventToSet(http->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(http->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < http->nsockets; i++)
		if (http->sockets[i].events != 0)
			AddWaitEventToSet(http->set, http->sockets[i].events,
							  http->sockets[i].fd, NULL, NULL);
	http->set_latch = MyLatch;
	return http->set;
}

/* Milliseconds until a time, rounded up. */
static long
ms_until(int64 then, int64 now)
{
	if (then <= now)
		return 0;
	return (long) Min((then - now + 999) / 1000, MAX_WAIT_MS);
}

bool
is_http_wait(IsHttp *http, long timeout_ms, bool ignore_latch)
{
	static uint32 wait_event = 0;
	int64		deadline = PG_INT64_MAX;
	bool		latch_set = false;

	if (wait_event == 0)
		wait_event = is_wait_event("IterableRequest");
	if (timeout_ms >= 0)
		deadline = is_clock_us() + timeout_ms * INT64CONST(1000);

	do
	{
		WaitEventSet *set;
		WaitEvent	events[16];
		long		wait_ms;
		int64		now;
		int			n;

		CHECK_FOR_INTERRUPTS();

		now = is_clock_us();
		if (http->timer_at >= 0 && http->timer_at <= now)
			drive(http, CURL_SOCKET_TIMEOUT, 0);

		wait_ms = dlist_is_empty(&http->done) ? ms_until(deadline, now) : 0;
		if (http->timer_at >= 0)
			wait_ms = Min(wait_ms, ms_until(http->timer_at, now));

		set = wait_set(http);
		ModifyWaitEvent(set, 0, WL_LATCH_SET, ignore_latch ? NULL : MyLatch);
		n = WaitEventSetWait(set, wait_ms, events, lengthof(events), wait_event);
		for (int i = 0; i < n; i++)
		{
			int			ready = 0;

			if (events[i].events & WL_LATCH_SET)
			{
				ResetLatch(MyLatch);
				latch_set = true;
				continue;
			}
			if (events[i].events & WL_SOCKET_READABLE)
				ready |= CURL_CSELECT_IN;
			if (events[i].events & WL_SOCKET_WRITEABLE)
				ready |= CURL_CSELECT_OUT;
			/* libcurl ignores a socket that it has closed meanwhile */
			drive(http, events[i].fd, ready);
		}
	} while (!latch_set && dlist_is_empty(&http->done) && is_clock_us() < deadline);

	CHECK_FOR_INTERRUPTS();
	return latch_set;
}

IsHttpAnswer *
is_http_next_answer(IsHttp *http)
{
	IsTransfer *t;

	if (dlist_is_empty(&http->done))
		return NULL;

	t = dlist_container(IsTransfer, node, dlist_pop_head_node(&http->done));
	dlist_push_tail(&http->taken, &t->node);
	http->in_flight--;
	return &t->answer;
}

void
is_http_answer_free(IsHttpAnswer *answer)
{
	IsTransfer *t = (IsTransfer *) answer;

	if (t->keeper != NULL)
		((AnswerKeeper *) t->keeper)->transfer = NULL;
	else
		dlist_delete(&t->node);
	is_transfer_free(t);
}

static void
cancel_in(IsHttp *http, dlist_head *list, void *owner)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, list)
	{
		IsTransfer *t = dlist_container(IsTransfer, node, iter.cur);

		if (t->answer.owner != owner)
			continue;
		dlist_delete(&t->node);
		detach(http, t);
		is_transfer_free(t);
		http->in_flight--;
	}
}

void
is_http_cancel(IsHttp *http, void *owner)
{
	cancel_in(http, &http->active, owner);
	cancel_in(http, &http->done, owner);
}

static void
keeper_callback(void *arg)
{
	AnswerKeeper *keeper = arg;

	if (keeper->transfer != NULL)
		is_transfer_free(keeper->transfer);
}

/* Wait for the answer of this owner, the only one in flight. */
static IsHttpAnswer *
wait_for_answer(IsHttp *http, void *owner)
{
	volatile bool latch_set = false;
	IsHttpAnswer *answer;

	PG_TRY();
	{
		while (http->in_flight > 0 && dlist_is_empty(&http->done))
			if (is_http_wait(http, -1, false))
				latch_set = true;
	}
	PG_CATCH();
	{
		is_http_cancel(http, owner);
		if (latch_set)
			SetLatch(MyLatch);
		PG_RE_THROW();
	}
	PG_END_TRY();

	/* Whoever set the latch may have meant the caller's own wait. */
	if (latch_set)
		SetLatch(MyLatch);

	answer = is_http_next_answer(http);
	Assert(answer != NULL && answer->owner == owner);
	return answer;
}

IsHttpAnswer *
is_http_perform(const IsHttpRequest *request)
{
	IsHttpRequest mine = *request;
	AnswerKeeper *keeper = palloc0(sizeof(AnswerKeeper));
	IsHttp	   *http = statement_client;
	IsTransfer *t;

	keeper->callback.func = keeper_callback;
	keeper->callback.arg = keeper;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &keeper->callback);

	/* One client for all requests of a transaction, so that they connect once. */
	if (http == NULL)
	{
		MemoryContext old = CurrentMemoryContext;

		if (IsTransactionState())
			MemoryContextSwitchTo(TopTransactionContext);
		http = is_http_create();
		if (IsTransactionState())
			statement_client = http;
		MemoryContextSwitchTo(old);
	}

	mine.owner = &mine;
	is_http_start(http, &mine);
	t = (IsTransfer *) wait_for_answer(http, mine.owner);

	t->answer.owner = request->owner;
	dlist_delete(&t->node);
	t->keeper = keeper;
	keeper->transfer = t;

	if (http != statement_client)
		is_http_destroy(http);
	return &t->answer;
}
