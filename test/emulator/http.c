/*
 * http.c
 *		Requests as libmicrohttpd brings them.
 *
 * One thread does all of the network: it takes requests in, hands them to the
 * workers, and sends the answers when they are due.  A request that waits for
 * anything is suspended, so any number of them can be under way.
 */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "control.h"
#include "limits.h"
#include "project.h"
#include "records.h"
#include "send.h"
#include "workers.h"

#define MOST_CONNECTIONS 4096
#define CONNECTION_MEMORY ((size_t) 1024 * 1024)
#define MOST_EVENTS 64

static struct MHD_Daemon *daemon_handle;
static int	epoll_fd = -1;
static Request *suspended;
static bool is_stopping;

static int
connection_socket(Request *request)
{
	return MHD_get_connection_info(request->connection,
								   MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

/* notices a client that goes away, which a suspended connection does not */
static void
watch(Request *request)
{
	struct epoll_event event = {.events = EPOLLRDHUP,.data.ptr = request};

	if (!request->is_watched &&
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection_socket(request), &event) == 0)
		request->is_watched = true;
}

static void
suspend(Request *request)
{
	request->is_suspended = true;
	request->previous = NULL;
	request->next = suspended;
	if (suspended != NULL)
		suspended->previous = request;
	suspended = request;
	MHD_suspend_connection(request->connection);
}

static void
resume(Request *request)
{
	if (request->is_watched)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, connection_socket(request), NULL);
	request->is_watched = false;
	if (request->previous != NULL)
		request->previous->next = request->next;
	else
		suspended = request->next;
	if (request->next != NULL)
		request->next->previous = request->previous;
	request->is_suspended = false;
	MHD_resume_connection(request->connection);
}

void
http_wait_until(Request *request, int64_t due)
{
	request->state = REQUEST_WAITING;
	request->due = due;
	watch(request);
	suspend(request);
}

/* the work, if any, is done: what becomes of the request now? */
static void
decide(Request *request)
{
	const Step *step = request->step;
	int64_t		delay = settings.latency_ms * NS_PER_MS;

	if (step != NULL && step->action != ACTION_SLOW)
		delay += step->delay_ms * NS_PER_MS;
	if (step != NULL && (step->action == ACTION_HANG ||
						 step->action == ACTION_APPLY_THEN_HANG))
		request->state = REQUEST_HANGING;
	else if (step != NULL && (step->action == ACTION_DROP ||
							  step->action == ACTION_APPLY_THEN_DROP))
		request->state = REQUEST_DROPPED;
	else
		request->state = REQUEST_READY;

	if (request->state == REQUEST_HANGING || delay > 0)
	{
		watch(request);
		if (request->state != REQUEST_HANGING)
		{
			request->state = REQUEST_WAITING;
			request->due = clock_ns() + delay;
		}
		if (!request->is_suspended)
			suspend(request);
	}
	else if (request->is_suspended)
		resume(request);
}

static void
fill_call(Request *request)
{
	ApiCall    *call = &request->call;
	const Route *route = &routes[call->route];

	call->url = request->url;
	call->ip = request->ip;
	call->body = request->body.data != NULL ? request->body.data : "";
	call->body_len = request->body.len;
	call->is_too_large = request->received > LARGEST_BODY;
	call->api_key = MHD_lookup_connection_value(request->connection,
												MHD_HEADER_KIND, "Api-Key");
	call->limit = MHD_lookup_connection_value(request->connection,
											  MHD_GET_ARGUMENT_KIND, "limit");
	if (route->query != NULL)
		call->argument = MHD_lookup_connection_value(request->connection,
													 MHD_GET_ARGUMENT_KIND,
													 route->query);
	call->headers = settings.echo_headers ? request->headers.data : NULL;
	if (call->route == ROUTE_BULK_UPDATE)
		call->flights = &request->flights;
	call->fail_rows = request->step != NULL ? request->step->fail_rows : NULL;
}

static enum MHD_Result
dispatch(Request *request)
{
	if (is_stopping)
		return MHD_NO;
	if (request->is_control)
	{
		control_handle(request);
		request->state = REQUEST_READY;
		return send_answer(request);
	}
	request->step = script_take(request->url);
	fill_call(request);
	if (request->step != NULL && !action_applies(request->step->action))
	{
		decide(request);
		if (request->state == REQUEST_READY)
			return send_answer(request);
		return request->state == REQUEST_DROPPED ? MHD_NO : MHD_YES;
	}
	request->state = REQUEST_WORKING;
	suspend(request);
	workers_submit(request);
	return MHD_YES;
}

static enum MHD_Result
echo_header(void *argument, enum MHD_ValueKind kind, const char *name,
			const char *value)
{
	Buffer	   *headers = argument;

	(void) kind;
	buffer_printf(headers, "%s(%s,%s)", headers->len > 0 ? ", " : "", name,
				  value != NULL ? value : "");
	return MHD_YES;
}

static char *
client_address(struct MHD_Connection *connection)
{
	char		host[64] = "";
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	if (info != NULL && info->client_addr->sa_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *) info->client_addr)->sin_addr,
				  host, sizeof(host));
	else if (info != NULL && info->client_addr->sa_family == AF_INET6)
		inet_ntop(AF_INET6,
				  &((struct sockaddr_in6 *) info->client_addr)->sin6_addr,
				  host, sizeof(host));
	return xstrdup(host);
}

/*
 * Many clients write the header and the body apart, and the body waits until
 * the header is acknowledged, which the kernel may take 40 ms over.
 */
static void
acknowledge(Request *request)
{
	int			on = 1;

	setsockopt(connection_socket(request), IPPROTO_TCP, TCP_QUICKACK, &on,
			   sizeof(on));
}

static Request *
begin_request(struct MHD_Connection *connection, const char *url,
			  const char *method)
{
	Request    *request = xcalloc(1, sizeof(Request));
	const char *content_type = MHD_lookup_connection_value(connection,
														   MHD_HEADER_KIND,
														   "Content-Type");
	const char *content_length = MHD_lookup_connection_value(connection,
															 MHD_HEADER_KIND,
															 "Content-Length");

	request->connection = connection;
	acknowledge(request);
	request->arrived = clock_ns();
	request->method = xstrdup(method);
	request->url = xstrdup(url);
	request->is_control = strncmp(url, "/control/", 9) == 0;
	if (request->is_control)
		return request;

	if (content_length != NULL)
	{
		unsigned long long len = strtoull(content_length, NULL, 10);

		/* in one piece, rather than doubled and copied again and again */
		buffer_reserve(&request->body, len < LARGEST_BODY ? len : LARGEST_BODY);
	}
	request->content_type = content_type != NULL ? xstrdup(content_type) : NULL;
	request->ip = client_address(connection);
	if (settings.echo_headers)
		MHD_get_connection_values(connection, MHD_HEADER_KIND, echo_header,
								  &request->headers);
	request->call.route = route_find(request->method, request->url,
									 &request->call.argument);
	request->call.is_limited = limits_arrive(request->call.route,
											 request->arrived);
	request->record = record_begin(request->call.route, method, url,
								   content_type);
	return request;
}

static enum MHD_Result
handle(void *argument, struct MHD_Connection *connection, const char *url,
	   const char *method, const char *version, const char *data,
	   size_t *data_len, void **context)
{
	Request    *request = *context;

	(void) argument;
	(void) version;
	if (request == NULL)
	{
		*context = begin_request(connection, url, method);
		return MHD_YES;
	}
	if (*data_len > 0)
	{
		request->received += *data_len;
		/* of a body that is too large, what is over is not worth keeping */
		if (request->is_control || request->received <= LARGEST_BODY)
			buffer_append(&request->body, data, *data_len);
		*data_len = 0;
		return MHD_YES;
	}
	switch (request->state)
	{
		case REQUEST_READING:
			return dispatch(request);
		case REQUEST_READY:
			return send_answer(request);
		default:
			return MHD_NO;
	}
}

static void
finish_request(void *argument, struct MHD_Connection *connection,
			   void **context, enum MHD_RequestTerminationCode code)
{
	Request    *request = *context;

	(void) argument;
	(void) connection;
	if (request == NULL)
		return;
	send_account(request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK
				 ? request->answer.status : 0);
	step_release(request->step);
	if (request->response != NULL)
		MHD_destroy_response(request->response);
	buffer_free(&request->headers);
	buffer_free(&request->body);
	buffer_free(&request->answer.body);
	free(request->method);
	free(request->url);
	free(request->content_type);
	free(request->ip);
	free(request);
	*context = NULL;
}

static void
no_log(void *argument, const char *format, va_list arguments)
{
	(void) argument;
	(void) format;
	(void) arguments;
}

bool
http_start(const HttpOptions *options)
{
	unsigned	flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME |
		MHD_USE_ERROR_LOG;
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM
	};
	struct addrinfo *address;
	char		port[16];
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *) (uintptr_t) options->tls_certificate},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *) (uintptr_t) options->tls_key},
		{MHD_OPTION_END, 0, NULL}
	};

	snprintf(port, sizeof(port), "%d", options->port);
	if (getaddrinfo(options->bind_address, port, &hints, &address) != 0)
	{
		fprintf(stderr, "iterable_emulator: not an address: %s\n",
				options->bind_address);
		return false;
	}
	if (address->ai_family == AF_INET6)
		flags |= MHD_USE_IPv6;
	if (options->tls_certificate != NULL)
		flags |= MHD_USE_TLS;
	else
		tls[0].option = MHD_OPTION_END;
	daemon_handle = MHD_start_daemon(flags, 0, NULL, NULL, handle, NULL,
									 MHD_OPTION_EXTERNAL_LOGGER, no_log, NULL,
									 MHD_OPTION_SOCK_ADDR, address->ai_addr,
									 MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u,
									 MHD_OPTION_CONNECTION_LIMIT, MOST_CONNECTIONS,
									 MHD_OPTION_CONNECTION_MEMORY_LIMIT,
									 CONNECTION_MEMORY,
									 MHD_OPTION_NOTIFY_COMPLETED, finish_request,
									 NULL, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
	freeaddrinfo(address);
	if (daemon_handle == NULL)
	{
		fprintf(stderr, "iterable_emulator: cannot listen on %s port %d: %s\n",
				options->bind_address, options->port, strerror(errno));
		return false;
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return epoll_fd >= 0;
}

int
http_port(void)
{
	return MHD_get_daemon_info(daemon_handle, MHD_DAEMON_INFO_BIND_PORT)->port;
}

size_t
http_release_hanging(void)
{
	Request    *next;
	size_t		released = 0;

	for (Request *request = suspended; request != NULL; request = next)
	{
		next = request->next;
		if (request->state != REQUEST_HANGING)
			continue;
		request->state = REQUEST_DROPPED;
		resume(request);
		released++;
	}
	return released;
}

static void
resume_due(void)
{
	int64_t		now = clock_ns();
	Request    *next;

	for (Request *request = suspended; request != NULL; request = next)
	{
		next = request->next;
		if (request->state != REQUEST_WAITING || request->due > now)
			continue;
		if (request->step != NULL &&
			(request->step->action == ACTION_DROP ||
			 request->step->action == ACTION_APPLY_THEN_DROP))
			request->state = REQUEST_DROPPED;
		else if (request->is_sending)
			request->state = REQUEST_SENDING;
		else
			request->state = REQUEST_READY;
		resume(request);
	}
}

/* how long libmicrohttpd and the waiting requests let us sleep; -1 is ever */
static int
sleep_ms(void)
{
	MHD_UNSIGNED_LONG_LONG mhd_timeout;
	int64_t		soonest = INT64_MAX;
	int64_t		left;

	if (MHD_get_timeout(daemon_handle, &mhd_timeout) == MHD_YES &&
		mhd_timeout == 0)
		return 0;
	for (Request *request = suspended; request != NULL; request = request->next)
		if (request->state == REQUEST_WAITING && request->due < soonest)
			soonest = request->due;
	if (soonest == INT64_MAX)
		return -1;
	left = soonest - clock_ns();
	return left <= 0 ? 0 : (int) ((left + NS_PER_MS - 1) / NS_PER_MS);
}

static void
take_finished(void)
{
	Request    *next;

	for (Request *request = workers_finished(); request != NULL; request = next)
	{
		next = request->next_job;
		decide(request);
	}
}

static void
add_to_epoll(int fd, void *tag)
{
	struct epoll_event event = {.events = EPOLLIN,.data.ptr = tag};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		abort();
}

void
http_serve(int signal_fd)
{
	static char mhd_tag;
	static char signal_tag;
	static char workers_tag;
	struct epoll_event events[MOST_EVENTS];

	add_to_epoll(MHD_get_daemon_info(daemon_handle,
									 MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, &mhd_tag);
	add_to_epoll(signal_fd, &signal_tag);
	add_to_epoll(workers_start(), &workers_tag);
	for (;;)
	{
		int			count;

		resume_due();
		MHD_run(daemon_handle);
		count = epoll_wait(epoll_fd, events, MOST_EVENTS, sleep_ms());
		for (int i = 0; i < count; i++)
		{
			void	   *tag = events[i].data.ptr;

			if (tag == &signal_tag)
				return;
			if (tag == &workers_tag)
				take_finished();
			else if (tag != &mhd_tag)
			{
				Request    *request = tag;

				/* the client has gone: nobody is left to answer */
				if (!request->is_watched)
					continue;
				request->state = REQUEST_DROPPED;
				resume(request);
			}
		}
	}
}

void
http_stop(void)
{
	is_stopping = true;
	workers_stop();
	take_finished();
	while (suspended != NULL)
	{
		suspended->state = REQUEST_DROPPED;
		resume(suspended);
	}
	MHD_run(daemon_handle);
	MHD_stop_daemon(daemon_handle);
	close(epoll_fd);
}
