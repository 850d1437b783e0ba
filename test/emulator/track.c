/*
 * track.c
 *		POST /api/events/trackBulk and POST /api/events/track.
 *
 * Events do not create users.  An event whose id is known, anywhere in the
 * project, replaces that event.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "answer.h"
#include "body.h"
#include "identifiers.h"
#include "merge.h"
#include "project.h"
#include "request_fields.h"

#define LONGEST_EVENT_ID 512
#define GENERATED_ID_SIZE 33

typedef struct EventRow
{
	const char *event_name;
	const char *email;
	const char *folded_email;
	const char *user_id;
	const char *id;
	char		generated_id[GENERATED_ID_SIZE];
	const cJSON *data;
	int64_t		created_at;
	int64_t		campaign_id;
	int64_t		template_id;
	bool		has_created_at;
	bool		create_new_fields;
	bool		is_disallowed;
	FailureList failure;
	const char *reported;
} EventRow;

static void
read_row(EventRow *row, const Document *document, const cJSON *object,
		 BodyErrors *errors, BodyPlace place)
{
	bool		has_name = false;
	bool		is_set;

	memset(row, 0, sizeof(*row));
	row->failure = NO_FAILURE;
	row->create_new_fields = settings.create_new_fields;
	for (const cJSON *member = object->child; member != NULL; member = member->next)
	{
		const char *name = member->string;

		if (strcmp(name, "eventName") == 0)
		{
			has_name = true;
			/* unlike elsewhere, null is no string here */
			if (json_is(member, cJSON_String))
				row->event_name = member->valuestring;
			else
				body_error(errors, place, name, EXPECTED_STRING);
		}
		else if (strcmp(name, "email") == 0)
			body_string(errors, place, member, &row->email);
		else if (strcmp(name, "userId") == 0)
			body_string(errors, place, member, &row->user_id);
		else if (strcmp(name, "id") == 0)
			body_string(errors, place, member, &row->id);
		else if (strcmp(name, "createdAt") == 0)
			body_integer(errors, place, document, member, &row->has_created_at,
						 &row->created_at);
		else if (strcmp(name, "dataFields") == 0)
			body_object(errors, place, member, &row->data);
		else if (strcmp(name, "campaignId") == 0)
			body_integer(errors, place, document, member, &is_set, &row->campaign_id);
		else if (strcmp(name, "templateId") == 0)
			body_integer(errors, place, document, member, &is_set, &row->template_id);
		else if (strcmp(name, "createNewFields") == 0)
			body_boolean(errors, place, member, &row->create_new_fields);
	}
	if (!has_name)
		body_error(errors, place, "eventName", MISSING);
	if (row->email != NULL)
	{
		char	   *folded = email_fold(row->email);
		size_t		size = strlen(folded) + 1;

		row->folded_email = memcpy(json_scratch(size), folded, size);
		free(folded);
	}
}

static void
fail(EventRow *row, FailureList list, const char *reported)
{
	row->failure = list;
	row->reported = reported;
}

/* the project type says which of two identifiers counts */
static bool
is_by_email(const EventRow *row)
{
	if (settings.project_type == PROJECT_EMAIL)
		return row->email != NULL;
	return row->user_id == NULL;
}

static void
check_row(EventRow *row, const Document *document, const FailRows *script)
{
	bool		by_email = is_by_email(row);

	if (set_has(&settings.disallowed_event_names, row->event_name))
	{
		row->is_disallowed = true;
		fail(row, UNLISTED, NULL);
	}
	else if (row->email == NULL && row->user_id == NULL)
		fail(row, UNLISTED, NULL);
	else if (row->email != NULL && !email_is_valid(row->email))
		fail(row, INVALID_EMAILS, row->email);
	else if (row->user_id != NULL && !user_id_is_valid(row->user_id))
		fail(row, INVALID_USER_IDS, row->user_id);
	else if (row->email != NULL &&
			 set_has(&settings.forgotten_emails, row->folded_email))
		fail(row, FORGOTTEN_EMAILS, row->folded_email);
	else if (row->user_id != NULL &&
			 set_has(&settings.forgotten_user_ids, row->user_id))
		fail(row, FORGOTTEN_USER_IDS, row->user_id);
	else if (row->data != NULL && !body_data_is_valid(document, row->data))
		fail(row, UNLISTED, NULL);
	else if (script != NULL &&
			 set_has(by_email ? &script->emails : &script->user_ids,
					 by_email ? row->folded_email : row->user_id))
		fail(row, failure_list_by_name(script->list) < EVENT_LISTS
			 ? failure_list_by_name(script->list) : UNLISTED,
			 by_email ? row->folded_email : row->user_id);
}

static User *
find_user(const EventRow *row)
{
	User	   *user;

	if (is_by_email(row))
	{
		/* a project that identifies by user id does not know e-mails */
		if (settings.project_type == PROJECT_USER_ID)
			return NULL;
		user = users_by_email(row->folded_email);
	}
	else
		user = users_by_id(row->user_id);
	return user != NULL && user_is_visible(user) ? user : NULL;
}

static void
generate_id(EventRow *row)
{
	unsigned char bytes[(GENERATED_ID_SIZE - 1) / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t) sizeof(bytes))
		abort();
	for (size_t i = 0; i < sizeof(bytes); i++)
	{
		static const char digits[] = "0123456789abcdef";

		row->generated_id[2 * i] = digits[bytes[i] >> 4];
		row->generated_id[2 * i + 1] = digits[bytes[i] & 15];
	}
	row->id = row->generated_id;
}

static void
apply_row(EventRow *row, const Document *document)
{
	User	   *user = find_user(row);
	Field	   *type;
	Event	   *event;

	if (user == NULL)
	{
		if (is_by_email(row))
			fail(row, NOT_FOUND_EMAILS, row->folded_email);
		else
			fail(row, NOT_FOUND_USER_IDS, row->user_id);
		return;
	}
	if (row->id == NULL || row->id[0] == '\0')
		generate_id(row);
	type = fields_event_root(row->event_name);
	event = event_by_id(row->id);
	if (event == NULL)
		event = event_create(row->id, user, type);
	event_set_user(event, user);
	event->type = type;
	event->created_at = row->has_created_at
		? row->created_at : clock_ms() / 1000;
	event->campaign_id = row->campaign_id;
	event->template_id = row->template_id;
	free(event->data);
	event->data = merge_data(NULL, document, row->data, type, false);
	event->writes++;
}

/* what refuses the request as a whole, then what refuses single events */
static bool
check_rows(const ApiCall *call, FieldCheck *check, EventRow *rows,
		   size_t count, Answer *answer)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].id != NULL && strlen(rows[i].id) > LONGEST_EVENT_ID)
		{
			answer_envelope(answer, 400, "BadParams",
							"Event id cannot be longer than 512 bytes", NULL);
			return false;
		}
	for (size_t i = 0; i < count; i++)
	{
		check_row(&rows[i], check->document, call->fail_rows);
		if (rows[i].failure == NO_FAILURE && rows[i].data != NULL)
			fields_check(check, fields_event_root(rows[i].event_name),
						 rows[i].data, rows[i].create_new_fields);
	}
	return !request_fields_refuse(check, settings.event_field_limit, answer);
}

static void
read_bulk(const Document *document, BodyErrors *errors, EventRow **rows,
		  size_t *count)
{
	const cJSON *list = body_list(errors, document, "events");
	BodyPlace	place = {.list = "events"};

	if (list == NULL)
		return;
	*rows = json_scratch((size_t) cJSON_GetArraySize(list) * sizeof(EventRow));
	for (const cJSON *item = list->child; item != NULL; item = item->next)
	{
		place.index = (*count)++;
		if (json_is(item, cJSON_Object))
			read_row(&(*rows)[place.index], document, item, errors, place);
		else
			body_error(errors, place, NULL, EXPECTED_OBJECT);
	}
}

static void
report(Failures *failures, StringSet *names, Buffer *name_list,
	   const EventRow *row)
{
	failures_add(failures, row->failure, row->reported);
	if (row->is_disallowed && !set_has(names, row->event_name))
	{
		set_add(names, row->event_name);
		list_add(name_list, row->event_name);
	}
	/* the deprecated lists: malformed e-mails, but unknown user ids */
	if (row->failure == INVALID_EMAILS)
		list_add(&failures->old_emails, row->reported);
	else if (row->failure == NOT_FOUND_USER_IDS)
		list_add(&failures->old_user_ids, row->reported);
}

void
handle_track_bulk(const ApiCall *call, const Document *document,
				  Answer *answer)
{
	FieldCheck	check = {.document = document,.is_event = true};
	BodyErrors	errors = {0};
	Failures	failures = {0};
	StringSet	names = {0};
	Buffer		name_list = {0};
	EventRow   *rows = NULL;

	read_bulk(document, &errors, &rows, &answer->rows);
	if (errors.count > 0)
		body_answer(call, &errors, answer);
	else if (check_rows(call, &check, rows, answer->rows, answer))
	{
		Buffer	   *body = &answer->body;

		for (size_t i = 0; i < answer->rows; i++)
		{
			if (rows[i].failure == NO_FAILURE)
				apply_row(&rows[i], document);
			if (rows[i].failure != NO_FAILURE)
				report(&failures, &names, &name_list, &rows[i]);
		}
		answer->accepted = answer->rows - failures.count;
		answer->status = 200;
		answer->content_type = "application/json";
		buffer_printf(body, "{\"successCount\":%zu,\"failCount\":%zu,"
					  "\"disallowedEventNames\":[", answer->accepted,
					  failures.count);
		buffer_append(body, name_list.data, name_list.len);
		buffer_text(body, "],");
		request_fields_write(&check, body);
		failures_write(&failures, EVENT_LISTS, body);
		buffer_char(body, '}');
	}
	set_clear(&names);
	buffer_free(&name_list);
	failures_free(&failures);
	fields_check_free(&check);
	buffer_free(&errors.params);
}

static void
answer_single(const EventRow *row, Answer *answer)
{
	Buffer		msg = {0};
	Buffer		params = {0};
	const char *value = row->reported != NULL ? row->reported : "";

	if (row->is_disallowed)
	{
		/* a refusal that looks like a success */
		buffer_printf(&msg, "%s is disallowed from tracking", row->event_name);
		answer_envelope(answer, 200, "Success", msg.data, NULL);
	}
	else
		switch (row->failure)
		{
			case NO_FAILURE:
				buffer_printf(&msg, "Event with id: %s tracked.", row->id);
				buffer_text(&params, "{\"id\":");
				buffer_json_string(&params, row->id);
				buffer_char(&params, '}');
				answer_envelope(answer, 200, "Success", msg.data, params.data);
				break;
			case INVALID_EMAILS:
				buffer_printf(&msg, "Invalid email: %s", value);
				answer_envelope(answer, 400, "InvalidEmailAddressError",
								msg.data, NULL);
				break;
			case INVALID_USER_IDS:
				buffer_printf(&msg, "Invalid userId: %s", value);
				answer_envelope(answer, 400, "InvalidUserIdError", msg.data, NULL);
				break;
			case NOT_FOUND_EMAILS:
			case NOT_FOUND_USER_IDS:
				answer_envelope(answer, 400, "GenericError",
								"user does not exist", NULL);
				break;
			case FORGOTTEN_EMAILS:
			case FORGOTTEN_USER_IDS:
				answer_envelope(answer, 400, "ForgottenUserError",
								"Contact is GDPR forgotten", NULL);
				break;
			default:
				answer_envelope(answer, 400, "BadParams",
								row->email == NULL && row->user_id == NULL
								? "Either email or userId must be specified in "
								"a track call" : "Invalid dataFields", NULL);
		}
	buffer_free(&params);
	buffer_free(&msg);
}

void
handle_track(const ApiCall *call, const Document *document, Answer *answer)
{
	FieldCheck	check = {.document = document,.is_event = true};
	BodyErrors	errors = {0};
	BodyPlace	place = {0};
	EventRow	row;

	answer->rows = 1;
	if (json_is(document->root, cJSON_Object))
		read_row(&row, document, document->root, &errors, place);
	else
		errors.count++;
	if (errors.count > 0)
		body_answer(call, &errors, answer);
	else if (check_rows(call, &check, &row, 1, answer))
	{
		if (row.failure == NO_FAILURE)
			apply_row(&row, document);
		answer->accepted = row.failure == NO_FAILURE;
		answer_single(&row, answer);
	}
	fields_check_free(&check);
	buffer_free(&errors.params);
}
