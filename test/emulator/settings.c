/*
 * settings.c
 *		Changing the settings of the project.
 */
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "identifiers.h"

#define MOST_KEYS 64

static Settings remembered;		/* but for its sets */
static const char *keys[MOST_KEYS];
static size_t key_count;

void
settings_defaults(void)
{
	settings.project_type = PROJECT_EMAIL;
	settings.users_rate = 5;
	settings.events_rate = 10;
	settings.other_rates = true;
	settings.create_new_fields = true;
	settings.field_limit = 1000;
	settings.event_field_limit = 8000;
}

void
settings_add_key(const char *key)
{
	if (key_count < MOST_KEYS)
		keys[key_count++] = key;
}

void
settings_remember(void)
{
	if (key_count == 0)
		settings_add_key("test-key");
	remembered = settings;
	settings_restore();
}

void
settings_restore(void)
{
	set_clear(&settings.api_keys);
	set_clear(&settings.disabled_keys);
	set_clear(&settings.disallowed_event_names);
	set_clear(&settings.forgotten_emails);
	set_clear(&settings.forgotten_user_ids);
	settings = remembered;
	for (size_t i = 0; i < key_count; i++)
		set_add(&settings.api_keys, keys[i]);
}

bool
settings_project_type(const char *name, ProjectType *type)
{
	if (strcasecmp(name, "email") == 0)
		*type = PROJECT_EMAIL;
	else if (strcasecmp(name, "userid") == 0)
		*type = PROJECT_USER_ID;
	else if (strcasecmp(name, "hybrid") == 0)
		*type = PROJECT_HYBRID;
	else
		return false;
	return true;
}

static const char *
set_strings(StringSet *set, const cJSON *list, bool fold)
{
	if (!cJSON_IsArray(list))
		return "expected an array of strings";
	for (const cJSON *item = list->child; item != NULL; item = item->next)
		if (!cJSON_IsString(item))
			return "expected an array of strings";
	set_clear(set);
	for (const cJSON *item = list->child; item != NULL; item = item->next)
	{
		char	   *text = fold ? email_fold(item->valuestring)
			: xstrdup(item->valuestring);

		set_add(set, text);
		free(text);
	}
	return NULL;
}

static const char *
set_number(int *number, const Document *document, const cJSON *value)
{
	if (!json_is_integer(document, value) || json_integer(document, value) < 0)
		return "expected a whole number, not below zero";
	*number = (int) json_integer(document, value);
	return NULL;
}

static const char *
set_boolean(bool *boolean, const cJSON *value)
{
	if (!cJSON_IsBool(value))
		return "expected true or false";
	*boolean = cJSON_IsTrue(value);
	return NULL;
}

static const char *
set_error_form(const cJSON *value)
{
	const char *name = cJSON_IsString(value) ? value->valuestring : "";

	if (strcmp(name, "evidence") == 0)
		settings.body_error_form = BODY_ERROR_EVIDENCE;
	else if (strcmp(name, "text") == 0)
		settings.body_error_form = BODY_ERROR_TEXT;
	else if (strcmp(name, "list") == 0)
		settings.body_error_form = BODY_ERROR_LIST;
	else
		return "expected evidence, text or list";
	return NULL;
}

static const char *
apply_member(const Document *document, const cJSON *value)
{
	const struct
	{
		const char *name;
		int		   *number;
	}			numbers[] = {
		{"usersRate", &settings.users_rate},
		{"eventsRate", &settings.events_rate},
		{"fieldLimit", &settings.field_limit},
		{"eventFieldLimit", &settings.event_field_limit},
		{"latencyMs", &settings.latency_ms},
		{"visibleAfterMs", &settings.visible_after_ms},
	};
	const struct
	{
		const char *name;
		bool	   *boolean;
	}			booleans[] = {
		{"otherRates", &settings.other_rates},
		{"createNewFields", &settings.create_new_fields},
		{"recordBodies", &settings.record_bodies},
		{"echoHeaders", &settings.echo_headers},
		{"mismatchPerRow", &settings.mismatch_per_row},
		{"updateOnly", &settings.update_only},
	};
	const struct
	{
		const char *name;
		StringSet  *set;
		bool		fold;
	}			sets[] = {
		{"apiKeys", &settings.api_keys, false},
		{"disabledKeys", &settings.disabled_keys, false},
		{"disallowedEventNames", &settings.disallowed_event_names, false},
		{"forgottenEmails", &settings.forgotten_emails, true},
		{"forgottenUserIds", &settings.forgotten_user_ids, false},
	};
	const char *name = value->string;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (strcmp(name, numbers[i].name) == 0)
			return set_number(numbers[i].number, document, value);
	for (size_t i = 0; i < sizeof(booleans) / sizeof(booleans[0]); i++)
		if (strcmp(name, booleans[i].name) == 0)
			return set_boolean(booleans[i].boolean, value);
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		if (strcmp(name, sets[i].name) == 0)
			return set_strings(sets[i].set, value, sets[i].fold);
	if (strcmp(name, "bodyErrorForm") == 0)
		return set_error_form(value);
	if (strcmp(name, "projectType") == 0)
		return cJSON_IsString(value) &&
			settings_project_type(value->valuestring, &settings.project_type)
			? NULL : "expected email, userid or hybrid";
	return "there is no such setting";
}

const char *
settings_apply(const Document *document)
{
	if (document->root == NULL)
		return "the body is not JSON";
	if (!cJSON_IsObject(document->root))
		return "expected an object";
	if (cJSON_IsTrue(json_member(document->root, "defaults")))
		settings_restore();
	for (const cJSON *value = document->root->child; value != NULL; value = value->next)
	{
		static char message[200];
		const char *error;

		if (strcmp(value->string, "defaults") == 0)
			continue;
		error = apply_member(document, value);

		if (error != NULL)
		{
			snprintf(message, sizeof(message), "%.100s: %s", value->string, error);
			return message;
		}
	}
	return NULL;
}
