/*
 * seed.c
 *		Users to begin with, without going through the API.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "identifiers.h"
#include "merge.h"
#include "project.h"

static const char *
text_member(const cJSON *object, const char *name)
{
	const cJSON *member = json_member(object, name);

	return cJSON_IsString(member) ? member->valuestring : NULL;
}

static const char *
seed_user(const Document *document, const cJSON *object)
{
	FieldCheck	check = {.document = document};
	const char *email = text_member(object, "email");
	const char *user_id = text_member(object, "userId");
	const cJSON *data = json_member(object, "dataFields");
	char	   *folded = email != NULL ? email_fold(email) : NULL;
	User	   *user;
	bool		fits = true;

	if (email == NULL && user_id == NULL)
		return "a user needs an email or a userId";
	if (cJSON_IsObject(data))
		fits = fields_check(&check, fields_profile_root(), data, true);
	fields_check_free(&check);
	if (fits)
	{
		user = user_create(folded, user_id);
		user->data = merge_data(NULL, document, cJSON_IsObject(data) ? data : NULL,
								fields_profile_root(), false);
	}
	free(folded);
	return fits ? NULL : "a value contradicts the type of its field";
}

/* format with its %d, if there is one, replaced by the number */
static void
format_number(Buffer *out, const char *format, int64_t number)
{
	const char *place = strstr(format, "%d");

	buffer_clear(out);
	if (place == NULL)
	{
		buffer_text(out, format);
		return;
	}
	buffer_append(out, format, (size_t) (place - format));
	buffer_printf(out, "%lld", (long long) number);
	buffer_text(out, place + 2);
}

static const char *
seed_numbered(const Document *document, const cJSON *object, size_t *created)
{
	const cJSON *from = json_member(object, "from");
	const cJSON *to = json_member(object, "to");
	const char *email_format = text_member(object, "emailFormat");
	const char *id_format = text_member(object, "userIdFormat");
	Buffer		email = {0};
	Buffer		user_id = {0};

	if (from == NULL || to == NULL || !json_is_integer(document, from) ||
		!json_is_integer(document, to))
		return "pgbench needs whole numbers from and to";
	if (email_format == NULL && id_format == NULL)
		email_format = "user%d@example.com";
	for (int64_t i = json_integer(document, from);
		 i <= json_integer(document, to); i++)
	{
		char	   *folded = NULL;
		User	   *user;

		if (email_format != NULL)
		{
			format_number(&email, email_format, i);
			folded = email_fold(email.data);
		}
		if (id_format != NULL)
			format_number(&user_id, id_format, i);
		user = user_create(folded, id_format != NULL ? user_id.data : NULL);
		user->data = xstrdup("{}");
		free(folded);
		(*created)++;
	}
	buffer_free(&email);
	buffer_free(&user_id);
	return NULL;
}

const char *
seed(const Document *document, size_t *created)
{
	const cJSON *users = json_member(document->root, "users");
	const cJSON *numbered = json_member(document->root, "pgbench");

	if (users == NULL && numbered == NULL)
		return "expected users or pgbench";
	for (const cJSON *user = users != NULL ? users->child : NULL;
		 user != NULL; user = user->next)
	{
		const char *error = seed_user(document, user);

		if (error != NULL)
			return error;
		(*created)++;
	}
	return numbered != NULL ? seed_numbered(document, numbered, created) : NULL;
}
