/*
 * user_rows.c
 *		One user of users/update or users/bulkUpdate.
 */
#include "user_rows.h"

#include <stdlib.h>
#include <string.h>

#include "identifiers.h"
#include "merge.h"
#include "project.h"

#define PLACEHOLDER_DOMAIN "@placeholder.email"

/* like email_fold, in the memory of the document */
static const char *
fold_in_scratch(const char *email)
{
	size_t		len = strlen(email);
	char	   *folded = json_scratch(len + 1);

	for (size_t i = 0; i <= len; i++)
		folded[i] = email[i] >= 'A' && email[i] <= 'Z'
			? (char) (email[i] - 'A' + 'a') : email[i];
	return folded;
}

void
user_row_read(UserRow *row, const cJSON *object, BodyErrors *errors,
			  BodyPlace place)
{
	memset(row, 0, sizeof(*row));
	row->failure = NO_FAILURE;
	for (const cJSON *member = object->child; member != NULL; member = member->next)
	{
		const char *name = member->string;

		if (strcmp(name, "email") == 0)
			body_string(errors, place, member, &row->email);
		else if (strcmp(name, "userId") == 0)
			body_string(errors, place, member, &row->user_id);
		else if (strcmp(name, "dataFields") == 0)
			body_object(errors, place, member, &row->data);
		else if (strcmp(name, "preferUserId") == 0)
			body_boolean(errors, place, member, &row->prefer_user_id);
		else if (strcmp(name, "mergeNestedObjects") == 0)
			body_boolean(errors, place, member, &row->merge_nested);
	}
	if (row->email != NULL)
		row->folded_email = fold_in_scratch(row->email);
	if (row->data == NULL)
		return;
	for (const cJSON *member = row->data->child; member != NULL; member = member->next)
	{
		/* of any other type they contradict the type of the field */
		if (!json_is(member, cJSON_String))
			continue;
		if (strcmp(member->string, "email") == 0)
			row->new_email = member->valuestring;
		else if (strcmp(member->string, "userId") == 0)
			row->new_user_id = member->valuestring;
	}
	if (row->new_email != NULL)
		row->folded_new_email = fold_in_scratch(row->new_email);
}

bool
user_row_is_by_email(const UserRow *row)
{
	switch (settings.project_type)
	{
		case PROJECT_EMAIL:
			return row->email != NULL;
		case PROJECT_USER_ID:
			return row->user_id == NULL;
		default:
			return row->user_id == NULL && row->email != NULL;
	}
}

static void
fail(UserRow *row, FailureList list, const char *reported)
{
	row->failure = list;
	row->reported = reported;
}

void
user_row_fail_data(UserRow *row)
{
	if (user_row_is_by_email(row))
		fail(row, INVALID_DATA_EMAILS, row->folded_email);
	else
		fail(row, INVALID_DATA_USER_IDS, row->user_id);
}

static bool
is_forgotten_email(const char *folded)
{
	return folded != NULL && set_has(&settings.forgotten_emails, folded);
}

static bool
is_forgotten_id(const char *user_id)
{
	return user_id != NULL && set_has(&settings.forgotten_user_ids, user_id);
}

void
user_row_check(UserRow *row, const Document *document)
{
	if (row->email == NULL && row->user_id == NULL)
		fail(row, UNLISTED, NULL);
	else if (row->email != NULL && !email_is_valid(row->email))
		fail(row, INVALID_EMAILS, row->email);
	else if (row->user_id != NULL && !user_id_is_valid(row->user_id))
		fail(row, INVALID_USER_IDS, row->user_id);
	else if (row->new_email != NULL && !email_is_valid(row->new_email))
		fail(row, INVALID_EMAILS, row->new_email);
	else if (row->new_user_id != NULL && !user_id_is_valid(row->new_user_id))
		fail(row, INVALID_USER_IDS, row->new_user_id);
	else if (is_forgotten_id(row->user_id))
		fail(row, FORGOTTEN_USER_IDS, row->user_id);
	else if (is_forgotten_email(row->folded_email))
		fail(row, FORGOTTEN_EMAILS, row->folded_email);
	else if (is_forgotten_id(row->new_user_id))
		fail(row, FORGOTTEN_USER_IDS, row->new_user_id);
	else if (is_forgotten_email(row->folded_new_email))
		fail(row, FORGOTTEN_EMAILS, row->folded_new_email);
	else if (row->data != NULL && !body_data_is_valid(document, row->data))
		user_row_fail_data(row);
}

void
user_row_fail_by_script(UserRow *row, const FailRows *script)
{
	FailureList list;
	size_t		len;

	if (script == NULL ||
		!((row->folded_email != NULL &&
		   set_has(&script->emails, row->folded_email)) ||
		  (row->user_id != NULL && set_has(&script->user_ids, row->user_id))))
		return;
	list = failure_list_by_name(script->list);
	len = strlen(script->list);
	if (list == NO_FAILURE)
		fail(row, UNLISTED, NULL);
	else if (len >= 6 && strcmp(script->list + len - 6, "Emails") == 0)
		fail(row, list, row->folded_email != NULL ? row->folded_email : row->user_id);
	else
		fail(row, list, row->user_id != NULL ? row->user_id : row->folded_email);
}

static User *
create_with_placeholder(const char *user_id)
{
	Buffer		email = {0};
	char	   *folded;
	User	   *user;

	for (const char *c = user_id; *c != '\0'; c++)
		if ((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
			(*c >= 'A' && *c <= 'Z'))
			buffer_char(&email, *c);
	buffer_printf(&email, "+%08x" PLACEHOLDER_DOMAIN,
				  (unsigned) (table_hash_text(user_id) & 0xffffffff));
	folded = email_fold(email.data);
	user = user_create(folded, user_id);
	free(folded);
	buffer_free(&email);
	return user;
}

/* the e-mail is the identity, the user id an attribute that may repeat */
static User *
identify_by_email(UserRow *row)
{
	const char *user_id = row->new_user_id != NULL ? row->new_user_id : row->user_id;
	User	   *user;

	if (row->folded_email != NULL)
	{
		user = users_by_email(row->folded_email);
		if (user == NULL)
			user = user_create(row->folded_email, NULL);
	}
	else
	{
		user = users_by_id(row->user_id);
		if (user == NULL && !row->prefer_user_id)
		{
			fail(row, NOT_FOUND_USER_IDS, row->user_id);
			return NULL;
		}
		if (user == NULL)
			user = create_with_placeholder(row->user_id);
	}
	if (user_id != NULL)
		user_set_id(user, user_id);
	return user;
}

/* the user id is the identity, the e-mail an attribute that may repeat */
static User *
identify_by_id(UserRow *row)
{
	const char *email = row->folded_new_email != NULL
		? row->folded_new_email : row->folded_email;
	User	   *user;

	if (row->user_id == NULL)
	{
		fail(row, NOT_FOUND_EMAILS, row->folded_email);
		return NULL;
	}
	user = users_by_id(row->user_id);
	if (row->new_user_id != NULL && users_by_id(row->new_user_id) != user &&
		users_by_id(row->new_user_id) != NULL)
	{
		fail(row, CONFLICT_USER_IDS, row->new_user_id);
		return NULL;
	}
	if (user == NULL)
		user = user_create(NULL, row->user_id);
	if (row->new_user_id != NULL)
		user_set_id(user, row->new_user_id);
	if (email != NULL)
		user_set_email(user, email);
	return user;
}

/* both are identities, so neither may belong to somebody else */
static User *
identify_hybrid(UserRow *row)
{
	const char *email = row->folded_new_email != NULL
		? row->folded_new_email : row->folded_email;
	const char *user_id = row->new_user_id != NULL ? row->new_user_id : row->user_id;
	User	   *user = NULL;
	User	   *other;

	if (row->user_id != NULL)
		user = users_by_id(row->user_id);
	if (user == NULL && row->folded_email != NULL)
		user = users_by_email(row->folded_email);

	other = email != NULL ? users_by_email(email) : NULL;
	if (other != NULL && other != user)
	{
		fail(row, CONFLICT_EMAILS, email);
		return NULL;
	}
	other = user_id != NULL ? users_by_id(user_id) : NULL;
	if (other != NULL && other != user)
	{
		fail(row, CONFLICT_USER_IDS, user_id);
		return NULL;
	}
	if (user == NULL)
		user = user_create(email, user_id);
	if (email != NULL)
		user_set_email(user, email);
	if (user_id != NULL)
		user_set_id(user, user_id);
	return user;
}

static bool
user_exists(const UserRow *row)
{
	bool		by_id = row->user_id != NULL &&
		!(settings.project_type == PROJECT_EMAIL && row->email != NULL);
	bool		by_email = row->email != NULL &&
		settings.project_type != PROJECT_USER_ID;

	return (by_id && users_by_id(row->user_id) != NULL) ||
		(by_email && users_by_email(row->folded_email) != NULL);
}

void
user_row_apply(UserRow *row, const Document *document)
{
	User	   *user;
	char	   *data;

	if (row->update_only && !user_exists(row))
	{
		row->is_no_op = true;
		return;
	}
	switch (settings.project_type)
	{
		case PROJECT_EMAIL:
			user = identify_by_email(row);
			break;
		case PROJECT_USER_ID:
			user = identify_by_id(row);
			break;
		default:
			user = identify_hybrid(row);
	}
	if (user == NULL)
		return;
	if (row->data != NULL || user->data == NULL)
	{
		data = merge_data(user->data, document, row->data,
						  fields_profile_root(), row->merge_nested);
		free(user->data);
		user->data = data;
	}
	user->updated_ms = clock_ms();
	user->writes++;
}
