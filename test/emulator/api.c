/*
 * api.c
 *		The endpoints, and what is checked before any of them looks.
 */
#include "api.h"

#include <string.h>

#include "answer.h"
#include "project.h"

const Route routes[ROUTE_COUNT] = {
	[ROUTE_BULK_UPDATE] = {"POST", "/api/users/bulkUpdate", NULL, handle_bulk_update, 5, true},
	[ROUTE_TRACK_BULK] = {"POST", "/api/events/trackBulk", NULL, handle_track_bulk, 10, true},
	[ROUTE_UPDATE] = {"POST", "/api/users/update", NULL, handle_update, 500, true},
	[ROUTE_TRACK] = {"POST", "/api/events/track", NULL, handle_track, 2000, true},
	[ROUTE_GET_FIELDS] = {"GET", "/api/users/getFields", NULL, handle_get_fields, 3, false},
	[ROUTE_GET_BY_EMAIL] = {"GET", "/api/users/getByEmail", "email", handle_user_by_email, 100, false},
	[ROUTE_GET_BY_ID] = {"GET", "/api/users/byUserId", "userId", handle_user_by_id, 100, false},
	[ROUTE_USER_BY_ID] = {"GET", "/api/users/byUserId/{userId}", NULL, handle_user_by_id, 100, false},
	[ROUTE_USER_BY_EMAIL] = {"GET", "/api/users/{email}", NULL, handle_user_by_email, 100, false},
	[ROUTE_DELETE_BY_ID] = {"DELETE", "/api/users/byUserId/{userId}", NULL, handle_delete_by_id, 100, false},
	[ROUTE_DELETE_BY_EMAIL] = {"DELETE", "/api/users/{email}", NULL, handle_delete_by_email, 100, false},
	[ROUTE_EVENTS_BY_ID] = {"GET", "/api/events/byUserId/{userId}", NULL, handle_events_by_id, 100, false},
	[ROUTE_EVENTS_BY_EMAIL] = {"GET", "/api/events/{email}", NULL, handle_events_by_email, 100, false},
	[ROUTE_NOT_FOUND] = {"", "(unknown)", NULL, NULL, 0, false},
};

static const char not_found_page[] =
"<!DOCTYPE html>\n"
"<html lang=\"en\">\n"
"    <head>\n"
"        <title>Action not found</title>\n"
"    </head>\n"
"    <body>\n"
"        <h1>Action not found</h1>\n"
"    </body>\n"
"</html>\n";

RouteId
route_find(const char *method, const char *path, const char **argument)
{
	*argument = NULL;
	for (int i = 0; i < ROUTE_NOT_FOUND; i++)
	{
		const char *pattern = routes[i].path;
		size_t		fixed = strcspn(pattern, "{");

		if (strcmp(routes[i].method, method) != 0 ||
			strncmp(path, pattern, fixed) != 0)
			continue;
		if (pattern[fixed] == '\0' ? path[fixed] == '\0' : path[fixed] != '\0')
		{
			if (pattern[fixed] != '\0')
				*argument = path + fixed;
			return (RouteId) i;
		}
	}
	return ROUTE_NOT_FOUND;
}

static void
answer_bad_key(const ApiCall *call, bool is_disabled, Answer *answer)
{
	Buffer		params = {0};

	buffer_text(&params, "{\"ip\":");
	buffer_json_string(&params, call->ip);
	buffer_text(&params, ",\"endpoint\":");
	buffer_json_string(&params, call->url);
	if (is_disabled)
		buffer_text(&params, ",\"apiKeyIdentifier\":\"emulated\","
					"\"apiKeyType\":\"Api\"");
	buffer_char(&params, '}');
	answer_envelope(answer, 401, "BadApiKey", is_disabled
					? "Disabled API key or insufficient privileges"
					: "Invalid API key", params.data);
	buffer_free(&params);
}

/* everything that does not depend on the body */
static bool
refuse_early(const ApiCall *call, Answer *answer)
{
	Buffer		msg = {0};

	if (call->route == ROUTE_NOT_FOUND)
		answer_text(answer, 404, "text/html; charset=utf-8", not_found_page);
	else if (call->api_key != NULL &&
			 set_has(&settings.disabled_keys, call->api_key))
		answer_bad_key(call, true, answer);
	else if (call->api_key == NULL || !set_has(&settings.api_keys, call->api_key))
		answer_bad_key(call, false, answer);
	else if (call->is_limited)
	{
		buffer_printf(&msg, "Exceeded rate limit for endpoint: %s, project: 1",
					  call->url);
		answer_envelope(answer, 429, "RateLimitExceeded", msg.data, "{}");
	}
	else if (call->is_too_large)
		answer_envelope(answer, 413, "BatchTooLarge",
						"Request body exceeds the limit of 4 MB", NULL);
	buffer_free(&msg);
	return answer->status != 0;
}

void
api_handle(const ApiCall *call, Answer *answer)
{
	Document	document = {0};
	bool		is_refused;

	pthread_mutex_lock(&project_lock);
	is_refused = refuse_early(call, answer);
	pthread_mutex_unlock(&project_lock);
	if (is_refused)
		return;

	/* parsing is half of the work and needs no lock */
	if (routes[call->route].has_body)
		document = json_open(call->body, call->body_len);
	pthread_mutex_lock(&project_lock);
	routes[call->route].handler(call, &document, answer);
	pthread_mutex_unlock(&project_lock);
	json_close();
}
