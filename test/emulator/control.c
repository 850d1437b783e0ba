/*
 * control.c
 *		The endpoints under /control/.
 */
#include "control.h"

#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "limits.h"
#include "project.h"
#include "records.h"
#include "settings.h"

typedef void (*ControlHandler) (Request *request, const Document *document);

static void
answer_ok(Request *request)
{
	answer_text(&request->answer, 200, "application/json", "{\"ok\":true}\n");
}

static void
answer_error(Request *request, int status, const char *error)
{
	Buffer	   *body = &request->answer.body;

	request->answer.status = status;
	request->answer.content_type = "application/json";
	buffer_clear(body);
	buffer_text(body, "{\"ok\":false,\"error\":");
	buffer_json_string(body, error);
	buffer_text(body, "}\n");
}

static void
answer_result(Request *request, const char *error)
{
	if (error == NULL)
		answer_ok(request);
	else
		answer_error(request, 400, error);
}

static void
control_reset(Request *request, const Document *document)
{
	const char *error = NULL;

	http_release_hanging();
	pthread_mutex_lock(&project_lock);
	project_reset();
	flights_forget_most();
	if (request->body.len > 0)
		error = settings_apply(document);
	pthread_mutex_unlock(&project_lock);
	script_reset();
	records_reset();
	limits_reset();
	answer_result(request, error);
}

static void
control_config(Request *request, const Document *document)
{
	const char *error;

	pthread_mutex_lock(&project_lock);
	error = settings_apply(document);
	pthread_mutex_unlock(&project_lock);
	answer_result(request, error);
}

static void
control_stats(Request *request, const Document *document)
{
	Buffer	   *body = &request->answer.body;

	(void) document;
	request->answer.status = 200;
	request->answer.content_type = "application/json";
	pthread_mutex_lock(&project_lock);
	buffer_printf(body, "{\"users\":%zu,\"events\":%zu,"
				  "\"maxInFlightSameUser\":%d,", users_count(), events_count(),
				  flights_most_same());
	pthread_mutex_unlock(&project_lock);
	records_write_stats(body);
	buffer_text(body, ",\"maxPerSecond\":{");
	for (int route = 0; route < ROUTE_NOT_FOUND; route++)
		buffer_printf(body, "%s\"%s%s\":%zu", route > 0 ? "," : "",
					  strcmp(routes[route].method, "DELETE") == 0 ? "DELETE " : "",
					  routes[route].path + strlen("/api/"),
					  limits_most((RouteId) route));
	buffer_printf(body, "},\"scriptLeft\":%zu}\n", script_left());
}

static void
control_users(Request *request, const Document *document)
{
	(void) document;
	request->response = dump_users();
}

static void
control_events(Request *request, const Document *document)
{
	(void) document;
	request->response = dump_events();
}

static void
control_requests(Request *request, const Document *document)
{
	const char *since = MHD_lookup_connection_value(request->connection,
													MHD_GET_ARGUMENT_KIND,
													"since");

	(void) document;
	request->answer.status = 200;
	request->answer.content_type = "application/x-ndjson";
	records_write(since != NULL ? strtoull(since, NULL, 10) : 0,
				  &request->answer.body);
}

static void
control_script(Request *request, const Document *document)
{
	if (document->root == NULL)
		answer_error(request, 400, "the body is not JSON");
	else
		answer_result(request, script_add(document, document->root));
}

static void
control_end_script(Request *request, const Document *document)
{
	(void) document;
	script_reset();
	answer_ok(request);
}

static void
control_release(Request *request, const Document *document)
{
	size_t		released = http_release_hanging();

	(void) document;
	request->answer.status = 200;
	request->answer.content_type = "application/json";
	buffer_printf(&request->answer.body, "{\"ok\":true,\"released\":%zu}\n",
				  released);
}

static void
control_seed(Request *request, const Document *document)
{
	const char *error;
	size_t		created = 0;

	if (document->root == NULL)
	{
		answer_error(request, 400, "the body is not JSON");
		return;
	}
	pthread_mutex_lock(&project_lock);
	error = seed(document, &created);
	pthread_mutex_unlock(&project_lock);
	if (error != NULL)
	{
		answer_error(request, 400, error);
		return;
	}
	request->answer.status = 200;
	request->answer.content_type = "application/json";
	buffer_printf(&request->answer.body, "{\"ok\":true,\"created\":%zu}\n",
				  created);
}

static const struct
{
	const char *method;
	const char *path;
	ControlHandler handler;
}			endpoints[] = {
	{"POST", "/control/reset", control_reset},
	{"POST", "/control/config", control_config},
	{"GET", "/control/stats", control_stats},
	{"GET", "/control/users", control_users},
	{"GET", "/control/events", control_events},
	{"GET", "/control/requests", control_requests},
	{"POST", "/control/script", control_script},
	{"DELETE", "/control/script", control_end_script},
	{"POST", "/control/release", control_release},
	{"POST", "/control/seed", control_seed},
};

void
control_handle(Request *request)
{
	ControlHandler handler = NULL;
	Document	document;

	for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++)
		if (strcmp(endpoints[i].path, request->url) == 0 &&
			strcmp(endpoints[i].method, request->method) == 0)
			handler = endpoints[i].handler;
	if (handler == NULL)
	{
		answer_error(request, 404, "there is no such control endpoint");
		return;
	}
	document = json_open(request->body.data, request->body.len);
	handler(request, &document);
	json_close();
}
