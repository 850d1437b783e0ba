/*
 * user_update.c
 *		POST /api/users/bulkUpdate and POST /api/users/update.
 *
 * First everything that refuses the request as a whole is looked for (types
 * in the body, types of fields, the limit of fields), then row after row is
 * applied, so that a refused request leaves no trace.
 */
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "body.h"
#include "project.h"
#include "request_fields.h"
#include "user_rows.h"

/* the rows that survive so far, with the fields that they bring */
static bool
check_rows(const ApiCall *call, FieldCheck *check, UserRow *rows, size_t count,
		   bool create, Answer *answer)
{
	for (size_t i = 0; i < count; i++)
	{
		user_row_check(&rows[i], check->document);
		if (rows[i].failure == NO_FAILURE)
			user_row_fail_by_script(&rows[i], call->fail_rows);
		if (rows[i].failure != NO_FAILURE || rows[i].data == NULL)
			continue;
		if (!fields_check(check, fields_profile_root(), rows[i].data, create) &&
			settings.mismatch_per_row)
			user_row_fail_data(&rows[i]);
	}
	return !request_fields_refuse(check, settings.field_limit, answer);
}

static void
read_bulk(const Document *document, BodyErrors *errors, UserRow **rows,
		  size_t *count, bool *create)
{
	const cJSON *list = body_list(errors, document, "users");
	const cJSON *setting = json_member(document->root, "createNewFields");
	BodyPlace	place = {0};
	bool		update_only = false;

	if (setting != NULL)
		body_boolean(errors, place, setting, create);
	setting = json_member(document->root, "updateOnly");
	if (setting != NULL && settings.update_only)
		body_boolean(errors, place, setting, &update_only);
	if (list == NULL)
		return;
	*rows = json_scratch((size_t) cJSON_GetArraySize(list) * sizeof(UserRow));
	place.list = "users";
	for (const cJSON *item = list->child; item != NULL; item = item->next)
	{
		place.index = (*count)++;
		if (cJSON_IsObject(item))
		{
			user_row_read(&(*rows)[place.index], item, errors, place);
			(*rows)[place.index].update_only = update_only;
		}
		else
			body_error(errors, place, NULL, EXPECTED_OBJECT);
	}
}

static void
note_in_flight(const ApiCall *call, const UserRow *rows, size_t count)
{
	if (call->flights == NULL)
		return;
	flights_begin(call->flights, count * 2);
	for (size_t i = 0; i < count; i++)
	{
		if (rows[i].folded_email != NULL)
			flights_enter(call->flights, 'e', rows[i].folded_email);
		if (rows[i].user_id != NULL)
			flights_enter(call->flights, 'u', rows[i].user_id);
	}
}

static void
report(Failures *failures, const UserRow *row)
{
	failures_add(failures, row->failure, row->reported);
	/* the deprecated lists have the keys of all failed rows */
	if (user_row_is_by_email(row))
	{
		if (row->email != NULL)
			list_add(&failures->old_emails, row->email);
	}
	else if (row->user_id != NULL)
		list_add(&failures->old_user_ids, row->user_id);
}

/* users that updateOnly has left alone: neither updated nor failed */
static size_t
write_no_ops(const UserRow *rows, size_t count, Buffer *out)
{
	Buffer		emails = {0};
	Buffer		user_ids = {0};
	size_t		no_ops = 0;

	for (size_t i = 0; i < count; i++)
	{
		if (!rows[i].is_no_op)
			continue;
		no_ops++;
		if (user_row_is_by_email(&rows[i]))
			list_add(&emails, rows[i].folded_email);
		else
			list_add(&user_ids, rows[i].user_id);
	}
	if (settings.update_only)
		buffer_printf(out, "\"noOpEmails\":[%s],\"noOpUserIds\":[%s],",
					  emails.data != NULL ? emails.data : "",
					  user_ids.data != NULL ? user_ids.data : "");
	buffer_free(&emails);
	buffer_free(&user_ids);
	return no_ops;
}

void
handle_bulk_update(const ApiCall *call, const Document *document,
				   Answer *answer)
{
	FieldCheck	check = {.document = document};
	BodyErrors	errors = {0};
	Failures	failures = {0};
	UserRow    *rows = NULL;
	bool		create = settings.create_new_fields;

	read_bulk(document, &errors, &rows, &answer->rows, &create);
	if (errors.count > 0)
		body_answer(call, &errors, answer);
	else if (answer->rows == 0)
		answer_envelope(answer, 400, "InvalidEmailAddressError",
						"Emails invalid: ", NULL);
	else
	{
		note_in_flight(call, rows, answer->rows);
		if (check_rows(call, &check, rows, answer->rows, create, answer))
		{
			Buffer	   *body = &answer->body;
			Buffer		no_op_lists = {0};

			for (size_t i = 0; i < answer->rows; i++)
			{
				if (rows[i].failure == NO_FAILURE)
					user_row_apply(&rows[i], document);
				if (rows[i].failure != NO_FAILURE)
					report(&failures, &rows[i]);
			}
			answer->accepted = answer->rows - failures.count -
				write_no_ops(rows, answer->rows, &no_op_lists);
			answer->status = 200;
			answer->content_type = "application/json";
			buffer_printf(body, "{\"successCount\":%zu,\"failCount\":%zu,",
						  answer->accepted, failures.count);
			buffer_append(body, no_op_lists.data, no_op_lists.len);
			buffer_free(&no_op_lists);
			request_fields_write(&check, body);
			failures_write(&failures, USER_LISTS, body);
			buffer_char(body, '}');
		}
	}
	failures_free(&failures);
	fields_check_free(&check);
	buffer_free(&errors.params);
}

static void
answer_failure(const UserRow *row, Answer *answer)
{
	Buffer		msg = {0};
	const char *value = row->reported != NULL ? row->reported : "";

	switch (row->failure)
	{
		case INVALID_EMAILS:
			buffer_printf(&msg, "Invalid email: %s", value);
			answer_envelope(answer, 400, "InvalidEmailAddressError", msg.data, NULL);
			break;
		case INVALID_USER_IDS:
			buffer_printf(&msg, "Invalid userId: %s", value);
			answer_envelope(answer, 400, "InvalidUserIdError", msg.data, NULL);
			break;
		case NOT_FOUND_EMAILS:
		case NOT_FOUND_USER_IDS:
			buffer_printf(&msg, "User does not exist. Email: %s UserId: %s",
						  row->failure == NOT_FOUND_EMAILS ? value : "",
						  row->failure == NOT_FOUND_USER_IDS ? value : "");
			answer_envelope(answer, 400, "BadParams", msg.data, NULL);
			break;
		case FORGOTTEN_EMAILS:
		case FORGOTTEN_USER_IDS:
			answer_envelope(answer, 409, "ForgottenUserError",
							"Contact is GDPR forgotten", NULL);
			break;
		case CONFLICT_EMAILS:
			answer_envelope(answer, 409, "EmailAlreadyExists",
							"Email/userId conflict", NULL);
			break;
		case CONFLICT_USER_IDS:
			answer_envelope(answer, 409, "UserIdAlreadyExists",
							"Email/userId conflict", NULL);
			break;
		case UNLISTED:
			answer_envelope(answer, 400, "BadParams",
							"Either email or userId must be set: "
							"ApiUserUpdateRequest(None,None,None,None)", NULL);
			break;
		default:
			answer_envelope(answer, 400, "BadParams", "Invalid dataFields", NULL);
	}
	buffer_free(&msg);
}

void
handle_update(const ApiCall *call, const Document *document, Answer *answer)
{
	FieldCheck	check = {.document = document};
	BodyErrors	errors = {0};
	BodyPlace	place = {0};
	UserRow		row;
	bool		create = settings.create_new_fields;

	answer->rows = 1;
	if (!cJSON_IsObject(document->root))
		errors.count++;
	else
	{
		const cJSON *setting = json_member(document->root, "createNewFields");

		user_row_read(&row, document->root, &errors, place);
		if (setting != NULL)
			body_boolean(&errors, place, setting, &create);
	}
	if (errors.count > 0)
		body_answer(call, &errors, answer);
	else if (check_rows(call, &check, &row, 1, create, answer))
	{
		if (row.failure == NO_FAILURE)
			user_row_apply(&row, document);
		if (row.failure == NO_FAILURE)
		{
			answer->accepted = 1;
			answer_success(answer);
		}
		else
			answer_failure(&row, answer);
	}
	fields_check_free(&check);
	buffer_free(&errors.params);
}
