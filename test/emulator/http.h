/*
 * http.h
 *		Requests as libmicrohttpd brings them.  All of it, but for the call
 *		and the answer while a worker has them, belongs to the network thread.
 */
#ifndef EMULATOR_HTTP_H
#define EMULATOR_HTTP_H

#include <microhttpd.h>

#include "api.h"
#include "script.h"

typedef enum RequestState
{
	REQUEST_READING,
	REQUEST_WORKING,			/* a worker has it */
	REQUEST_WAITING,			/* until due */
	REQUEST_HANGING,			/* until released, or the client goes */
	REQUEST_READY,				/* has an answer to send */
	REQUEST_DROPPED,			/* gets none */
	REQUEST_SENDING
} RequestState;

typedef struct Request
{
	struct Request *next;		/* in the list of those that are suspended */
	struct Request *previous;
	struct Request *next_job;	/* in the queues of the workers */
	struct MHD_Connection *connection;
	RequestState state;
	bool		is_suspended;
	bool		is_watched;
	bool		is_sending;		/* a slow answer, between two bytes */
	bool		is_control;
	char	   *method;
	char	   *url;
	char	   *content_type;
	char	   *ip;
	Buffer		headers;
	Buffer		body;
	size_t		received;
	ApiCall		call;
	Answer		answer;
	FlightSet	flights;
	Step	   *step;
	uint64_t	record;
	int64_t		arrived;
	int64_t		due;
	struct MHD_Response *response;	/* made by control for itself */
} Request;

typedef struct HttpOptions
{
	const char *bind_address;
	int			port;
	const char *tls_certificate;	/* PEM text, or NULL */
	const char *tls_key;
} HttpOptions;

/* false after it has said why on stderr */
extern bool http_start(const HttpOptions *options);
extern int	http_port(void);
/* serves until a signal comes in */
extern void http_serve(int signal_fd);
extern void http_stop(void);
/* closes the connections of all hanging requests; how many there were */
extern size_t http_release_hanging(void);

#endif							/* EMULATOR_HTTP_H */
