/*
 * reads.c
 *		Looking up and deleting users, their events, and the list of fields.
 */
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "api.h"
#include "identifiers.h"
#include "merge.h"
#include "project.h"

#define DEFAULT_EVENTS 30
#define MOST_EVENTS 200

static void
write_member(Buffer *out, const char *name, const char *value)
{
	buffer_printf(out, ",\"%s\":", name);
	buffer_json_string(out, value);
}

static void
write_date_member(Buffer *out, const char *name, int64_t ms)
{
	char		text[DATE_TEXT_SIZE];

	date_format(ms / 1000, text);
	write_member(out, name, text);
}

/* stored data with dates in the one form; begins with { and ends with } */
static void
write_stored(Buffer *out, const char *data, const Field *root)
{
	Document	stored;

	if (data == NULL)
	{
		buffer_text(out, "{}");
		return;
	}
	stored = json_open(data, strlen(data));
	write_data_with_dates(out, &stored, stored.root, root);
	/* freed with the document of the request */
}

static void
answer_user(const User *user, Answer *answer)
{
	Buffer	   *out = &answer->body;
	size_t		start;

	answer->status = 200;
	answer->content_type = "application/json";
	buffer_text(out, "{\"user\":{");
	start = out->len;
	if (user->email != NULL)
		write_member(out, "email", user->email);
	if (user->user_id != NULL)
		write_member(out, "userId", user->user_id);
	/* each member has a comma before it, the first one must not */
	out->data[start] = ' ';
	buffer_text(out, ",\"dataFields\":");
	write_stored(out, user->data, fields_profile_root());

	/* what Iterable adds goes in before the closing brace */
	out->len--;
	if (out->data[out->len - 1] == '{')
		buffer_text(out, "\"signupSource\":\"API\"");
	else
		buffer_text(out, ",\"signupSource\":\"API\"");
	if (user->email != NULL)
		write_member(out, "email", user->email);
	if (user->user_id != NULL)
		write_member(out, "userId", user->user_id);
	write_date_member(out, "signupDate", user->created_ms);
	write_date_member(out, "profileUpdatedAt", user->updated_ms);
	buffer_text(out, ",\"itblInternal\":{\"emailDomain\":");
	buffer_json_string(out, user->email != NULL ? strrchr(user->email, '@') + 1 : NULL);
	write_date_member(out, "documentCreatedAt", user->created_ms);
	write_date_member(out, "documentUpdatedAt", user->updated_ms);
	buffer_text(out, "}}}}");
}

/* NULL, and an answer, if the argument is missing or malformed */
static char *
email_argument(const ApiCall *call, Answer *answer)
{
	Buffer		msg = {0};

	if (call->argument != NULL && email_is_valid(call->argument))
		return email_fold(call->argument);
	buffer_printf(&msg, "Invalid email: %s",
				  call->argument != NULL ? call->argument : "");
	answer_envelope(answer, 400, "InvalidEmailAddressError", msg.data, NULL);
	buffer_free(&msg);
	return NULL;
}

static User *
visible_by_email(const char *folded)
{
	User	   *user = users_by_email(folded);

	while (user != NULL && !user_is_visible(user))
		user = users_next_by_email(user);
	return user;
}

static User *
visible_by_id(const char *user_id)
{
	User	   *user = user_id != NULL ? users_by_id(user_id) : NULL;

	while (user != NULL && !user_is_visible(user))
		user = users_next_by_id(user);
	return user;
}

void
handle_user_by_email(const ApiCall *call, const Document *document,
					 Answer *answer)
{
	char	   *email = email_argument(call, answer);
	User	   *user;

	(void) document;
	if (email == NULL)
		return;
	user = visible_by_email(email);
	if (user != NULL)
		answer_user(user, answer);
	else
		answer_text(answer, 200, "application/json", "{}");
	free(email);
}

void
handle_user_by_id(const ApiCall *call, const Document *document,
				  Answer *answer)
{
	User	   *user = visible_by_id(call->argument);

	(void) document;
	if (user != NULL)
		answer_user(user, answer);
	else
		answer_text(answer, 400, "text/plain; charset=utf-8",
					"No user with that id exists!");
}

void
handle_delete_by_email(const ApiCall *call, const Document *document,
					   Answer *answer)
{
	char	   *email;
	User	   *user;

	(void) document;
	if (settings.project_type == PROJECT_USER_ID)
	{
		answer_envelope(answer, 400, "BadParams",
						"Delete by email is not supported for this project", NULL);
		return;
	}
	email = email_argument(call, answer);
	if (email == NULL)
		return;
	/* the answer is the same whether there was such a user or not */
	user = users_by_email(email);
	if (user != NULL)
	{
		user_delete(user);
		answer->accepted = 1;
	}
	answer_success(answer);
	free(email);
}

void
handle_delete_by_id(const ApiCall *call, const Document *document,
					Answer *answer)
{
	Buffer		msg = {0};
	User	   *user;

	(void) document;
	for (user = users_by_id(call->argument); user != NULL;
		 user = users_by_id(call->argument))
	{
		user_delete(user);
		answer->accepted++;
	}
	if (answer->accepted > 0)
	{
		buffer_printf(&msg, "All users associated with %s were successfully "
					  "deleted", call->argument);
		answer_envelope(answer, 200, "Success", msg.data, NULL);
	}
	else
	{
		buffer_printf(&msg, "No users with userId %s exist", call->argument);
		answer_envelope(answer, 400, "BadParams", msg.data, NULL);
	}
	buffer_free(&msg);
}

static void
write_event(Buffer *out, const Event *event)
{
	buffer_text(out, "{\"_id\":");
	buffer_json_string(out, event->id);
	write_member(out, "eventType", "customEvent");
	write_member(out, "eventName", event->type->name);
	if (event->user->email != NULL)
		write_member(out, "email", event->user->email);
	if (event->user->user_id != NULL)
		write_member(out, "userId", event->user->user_id);
	write_date_member(out, "createdAt", event->created_at * 1000);
	if (event->campaign_id != 0)
		buffer_printf(out, ",\"campaignId\":%lld", (long long) event->campaign_id);
	if (event->template_id != 0)
		buffer_printf(out, ",\"templateId\":%lld", (long long) event->template_id);
	buffer_text(out, ",\"dataFields\":");
	write_stored(out, event->data, event->type);
	buffer_char(out, '}');
}

static void
answer_events(const ApiCall *call, const User *user, Answer *answer)
{
	Buffer	   *out = &answer->body;
	long		limit = call->limit != NULL ? strtol(call->limit, NULL, 10)
		: DEFAULT_EVENTS;
	long		written = 0;

	if (limit < 1 || limit > MOST_EVENTS)
	{
		answer_envelope(answer, 400, "BadParams",
						"limit must be between 1 and 200", NULL);
		return;
	}
	answer->status = 200;
	answer->content_type = "application/json";
	buffer_text(out, "{\"events\":[");
	for (const Event *event = user != NULL ? user->events : NULL;
		 event != NULL && written < limit; event = event->older)
	{
		if (written++ > 0)
			buffer_char(out, ',');
		write_event(out, event);
	}
	buffer_text(out, "]}");
}

void
handle_events_by_email(const ApiCall *call, const Document *document,
					   Answer *answer)
{
	char	   *email = email_argument(call, answer);

	(void) document;
	if (email == NULL)
		return;
	answer_events(call, visible_by_email(email), answer);
	free(email);
}

void
handle_events_by_id(const ApiCall *call, const Document *document,
					Answer *answer)
{
	(void) document;
	answer_events(call, visible_by_id(call->argument), answer);
}

void
handle_get_fields(const ApiCall *call, const Document *document,
				  Answer *answer)
{
	Buffer	   *out = &answer->body;
	bool		is_first = true;

	(void) call;
	(void) document;
	answer->status = 200;
	answer->content_type = "application/json";
	buffer_text(out, "{\"fields\":{");
	for (Field *field = fields_oldest(); field != NULL; field = field->newer)
	{
		if (field->is_event || field->type == FIELD_UNKNOWN)
			continue;
		buffer_text(out, is_first ? "\"" : ",\"");
		field_path(field, out);
		buffer_printf(out, "\":\"%s\"", field_type_name(field->type));
		is_first = false;
	}
	buffer_text(out, "}}");
}
