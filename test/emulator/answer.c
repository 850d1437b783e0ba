/*
 * answer.c
 *		The envelope that most answers have, and the lists of failed rows.
 */
#include "answer.h"

#include <string.h>

static const char *const list_names[USER_LISTS] = {
	"invalidEmails", "invalidUserIds", "notFoundEmails", "notFoundUserIds",
	"forgottenEmails", "forgottenUserIds", "invalidDataEmails",
	"invalidDataUserIds", "conflictEmails", "conflictUserIds"
};

void
answer_envelope(Answer *answer, int status, const char *code, const char *msg,
				const char *params)
{
	Buffer	   *body = &answer->body;

	answer->status = status;
	answer->content_type = "application/json";
	buffer_clear(body);
	buffer_text(body, "{\"msg\":");
	buffer_json_string(body, msg);
	buffer_text(body, ",\"code\":");
	buffer_json_string(body, code);
	buffer_text(body, ",\"params\":");
	buffer_text(body, params != NULL ? params : "null");
	buffer_char(body, '}');
	json_repair_utf8(body->data, body->len);
}

void
answer_success(Answer *answer)
{
	answer_envelope(answer, 200, "Success", "", NULL);
}

void
answer_text(Answer *answer, int status, const char *content_type,
			const char *text)
{
	answer->status = status;
	answer->content_type = content_type;
	buffer_clear(&answer->body);
	buffer_text(&answer->body, text);
}

void
list_add(Buffer *list, const char *value)
{
	if (list->len > 0)
		buffer_char(list, ',');
	buffer_json_string(list, value);
}

FailureList
failure_list_by_name(const char *name)
{
	for (int i = 0; i < USER_LISTS; i++)
		if (strcmp(list_names[i], name) == 0)
			return (FailureList) i;
	return NO_FAILURE;
}

void
failures_add(Failures *failures, FailureList list, const char *value)
{
	failures->count++;
	if (list < USER_LISTS)
		list_add(&failures->lists[list], value);
}

static void
write_list(Buffer *out, const char *name, const Buffer *list)
{
	if (out->data[out->len - 1] != '{')
		buffer_char(out, ',');
	buffer_printf(out, "\"%s\":[", name);
	buffer_append(out, list->data, list->len);
	buffer_char(out, ']');
}

void
failures_write(const Failures *failures, int lists, Buffer *out)
{
	write_list(out, "invalidEmails", &failures->old_emails);
	write_list(out, "invalidUserIds", &failures->old_user_ids);
	buffer_text(out, ",\"failedUpdates\":{");
	for (int i = 0; i < lists; i++)
		write_list(out, list_names[i], &failures->lists[i]);
	buffer_char(out, '}');
}

void
failures_free(Failures *failures)
{
	for (int i = 0; i < USER_LISTS; i++)
		buffer_free(&failures->lists[i]);
	buffer_free(&failures->old_emails);
	buffer_free(&failures->old_user_ids);
}
