/*
 * api.h
 *		One call of the emulated API, from the request to its answer.
 */
#ifndef EMULATOR_API_H
#define EMULATOR_API_H

#include "buffer.h"
#include "flights.h"
#include "json.h"
#include "table.h"

typedef struct ApiCall ApiCall;

typedef struct Answer
{
	int			status;
	const char *content_type;
	Buffer		body;
	size_t		rows;			/* users or events in the request */
	size_t		accepted;		/* of these, how many were applied */
} Answer;

typedef void (*ApiHandler) (const ApiCall *call, const Document *document,
							Answer *answer);

typedef enum RouteId
{
	ROUTE_BULK_UPDATE,
	ROUTE_TRACK_BULK,
	ROUTE_UPDATE,
	ROUTE_TRACK,
	ROUTE_GET_FIELDS,
	ROUTE_GET_BY_EMAIL,
	ROUTE_GET_BY_ID,
	ROUTE_USER_BY_ID,
	ROUTE_USER_BY_EMAIL,
	ROUTE_DELETE_BY_ID,
	ROUTE_DELETE_BY_EMAIL,
	ROUTE_EVENTS_BY_ID,
	ROUTE_EVENTS_BY_EMAIL,
	ROUTE_NOT_FOUND,
	ROUTE_COUNT
} RouteId;

typedef struct Route
{
	const char *method;
	const char *path;			/* ends in {…} when the rest is an argument */
	const char *query;			/* the query argument it takes instead */
	ApiHandler	handler;
	int			documented_rate;	/* requests a second; 0: none documented */
	bool		has_body;
} Route;

/* rows that a script wants to see refused in this one request */
typedef struct FailRows
{
	StringSet	emails;
	StringSet	user_ids;
	char	   *list;
} FailRows;

struct ApiCall
{
	RouteId		route;
	const char *url;			/* decoded path */
	const char *argument;		/* of the path or the query, or NULL */
	const char *limit;			/* query argument, or NULL */
	const char *api_key;
	const char *ip;
	const char *headers;		/* as a BadJsonBody echoes them, or NULL */
	const char *body;
	size_t		body_len;
	bool		is_limited;		/* over the rate limit when it arrived */
	bool		is_too_large;
	const FailRows *fail_rows;
	FlightSet  *flights;
};

/* the largest body of a bulk request: 4 MB, of which kind is undocumented */
#define LARGEST_BODY ((size_t) 4 * 1024 * 1024)

extern const Route routes[ROUTE_COUNT];
extern RouteId route_find(const char *method, const char *path,
						  const char **argument);

/* answers the call; takes the lock of the project itself */
extern void api_handle(const ApiCall *call, Answer *answer);

/* handlers, called with the lock held */
extern void handle_bulk_update(const ApiCall *call, const Document *document,
							   Answer *answer);
extern void handle_update(const ApiCall *call, const Document *document,
						  Answer *answer);
extern void handle_track_bulk(const ApiCall *call, const Document *document,
							  Answer *answer);
extern void handle_track(const ApiCall *call, const Document *document,
						 Answer *answer);
extern void handle_user_by_email(const ApiCall *call, const Document *document,
								 Answer *answer);
extern void handle_user_by_id(const ApiCall *call, const Document *document,
							  Answer *answer);
extern void handle_delete_by_email(const ApiCall *call,
								   const Document *document, Answer *answer);
extern void handle_delete_by_id(const ApiCall *call, const Document *document,
								Answer *answer);
extern void handle_events_by_email(const ApiCall *call,
								   const Document *document, Answer *answer);
extern void handle_events_by_id(const ApiCall *call, const Document *document,
								Answer *answer);
extern void handle_get_fields(const ApiCall *call, const Document *document,
							  Answer *answer);

#endif							/* EMULATOR_API_H */
