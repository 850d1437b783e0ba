/*
 * script.c
 *		Faults that a test has ordered, in turn.
 */
#include "script.h"

#include <stdlib.h>
#include <string.h>

#include "identifiers.h"

static Step *script;

static const char *const action_names[] = {
	[ACTION_APPLY] = "apply",
	[ACTION_ANSWER] = "answer",
	[ACTION_DROP] = "drop",
	[ACTION_APPLY_THEN_DROP] = "apply_then_drop",
	[ACTION_HANG] = "hang",
	[ACTION_APPLY_THEN_HANG] = "apply_then_hang",
	[ACTION_APPLY_THEN_ANSWER] = "apply_then_answer",
	[ACTION_TRUNCATE] = "truncate",
	[ACTION_GARBAGE] = "garbage",
	[ACTION_SLOW] = "slow",
	[ACTION_CLOSE] = "close",
};

const char *
action_name(Action action)
{
	return action_names[action];
}

bool
action_applies(Action action)
{
	return action != ACTION_ANSWER && action != ACTION_DROP &&
		action != ACTION_HANG;
}

static bool
parse_action(const cJSON *name, Action *action)
{
	if (!cJSON_IsString(name))
		return false;
	for (size_t i = 0; i < sizeof(action_names) / sizeof(action_names[0]); i++)
		if (strcmp(action_names[i], name->valuestring) == 0)
		{
			*action = (Action) i;
			return true;
		}
	return false;
}

static void
free_fail_rows(FailRows *rows)
{
	if (rows == NULL)
		return;
	set_clear(&rows->emails);
	set_clear(&rows->user_ids);
	free(rows->list);
	free(rows);
}

static const char *
parse_fail_rows(const cJSON *object, Step *step)
{
	const cJSON *list = json_member(object, "list");
	const cJSON *emails = json_member(object, "emails");
	const cJSON *user_ids = json_member(object, "userIds");

	if (!cJSON_IsString(list))
		return "failRows needs a list";
	step->fail_rows = xcalloc(1, sizeof(FailRows));
	step->fail_rows->list = xstrdup(list->valuestring);
	for (const cJSON *item = emails != NULL ? emails->child : NULL;
		 item != NULL; item = item->next)
		if (cJSON_IsString(item))
		{
			char	   *folded = email_fold(item->valuestring);

			set_add(&step->fail_rows->emails, folded);
			free(folded);
		}
	for (const cJSON *item = user_ids != NULL ? user_ids->child : NULL;
		 item != NULL; item = item->next)
		if (cJSON_IsString(item))
			set_add(&step->fail_rows->user_ids, item->valuestring);
	return NULL;
}

static const char *
parse_headers(const cJSON *object, Step *step)
{
	for (const cJSON *item = object->child; item != NULL; item = item->next)
	{
		if (item->string == NULL || !cJSON_IsString(item))
			return "headers must be an object of strings";
		step->headers = xrealloc(step->headers, (step->header_count + 1) *
								 sizeof(ScriptHeader));
		step->headers[step->header_count].name = xstrdup(item->string);
		step->headers[step->header_count].value = xstrdup(item->valuestring);
		step->header_count++;
	}
	return NULL;
}

static char *
parse_body(const Document *document, const cJSON *body)
{
	const char *raw;
	size_t		len;

	if (cJSON_IsString(body))
		return xstrdup(body->valuestring);
	raw = json_raw(document, body, &len);
	return xstrndup(raw, len);
}

static const char *
parse_member(const Document *document, const cJSON *member, Step *step,
			 bool *has_action)
{
	const char *name = member->string;

	if (strcmp(name, "path") == 0 && cJSON_IsString(member))
	{
		free(step->path);
		step->path = xstrdup(member->valuestring);
	}
	else if (strcmp(name, "times") == 0 && cJSON_IsNumber(member))
	{
		step->times = (int) json_integer(document, member);
		step->is_forever = step->times <= 0;
	}
	else if (strcmp(name, "status") == 0 && cJSON_IsNumber(member))
	{
		step->status = (int) json_integer(document, member);
		if (step->status < 200 || step->status > 599)
			return "status must be between 200 and 599";
	}
	else if (strcmp(name, "delayMs") == 0 && cJSON_IsNumber(member))
		step->delay_ms = (int) json_integer(document, member);
	else if (strcmp(name, "body") == 0)
	{
		free(step->body);
		step->body = parse_body(document, member);
	}
	else if (strcmp(name, "headers") == 0)
		return parse_headers(member, step);
	else if (strcmp(name, "failRows") == 0)
	{
		free_fail_rows(step->fail_rows);
		step->fail_rows = NULL;
		return parse_fail_rows(member, step);
	}
	else if (strcmp(name, "action") == 0)
	{
		*has_action = parse_action(member, &step->action);
		return *has_action ? NULL : "unknown action";
	}
	else
		return "unknown or ill-typed member in a step";
	return NULL;
}

static void
free_step(Step *step)
{
	for (size_t i = 0; i < step->header_count; i++)
	{
		free(step->headers[i].name);
		free(step->headers[i].value);
	}
	free(step->headers);
	free(step->path);
	free(step->body);
	free_fail_rows(step->fail_rows);
	free(step);
}

static const char *
add_step(const Document *document, const cJSON *object)
{
	Step	   *step = xcalloc(1, sizeof(Step));
	Step	  **last = &script;
	bool		has_action = false;
	const char *error = NULL;

	step->times = 1;
	step->users = 1;
	if (!cJSON_IsObject(object))
		error = "a step must be an object";
	else
		for (const cJSON *member = object->child;
			 member != NULL && error == NULL; member = member->next)
			error = parse_member(document, member, step, &has_action);
	if (error != NULL)
	{
		free_step(step);
		return error;
	}
	if (!has_action && (step->status != 0 || step->body != NULL))
		step->action = ACTION_ANSWER;
	while (*last != NULL)
		last = &(*last)->next;
	*last = step;
	return NULL;
}

const char *
script_add(const Document *document, const cJSON *steps)
{
	if (cJSON_IsObject(steps))
		return add_step(document, steps);
	if (!cJSON_IsArray(steps))
		return "a script is an array of steps";
	for (const cJSON *step = steps->child; step != NULL; step = step->next)
	{
		const char *error = add_step(document, step);

		if (error != NULL)
			return error;
	}
	return NULL;
}

void
step_release(Step *step)
{
	if (step != NULL && --step->users == 0)
		free_step(step);
}

Step *
script_take(const char *path)
{
	for (Step **place = &script; *place != NULL; place = &(*place)->next)
	{
		Step	   *step = *place;

		if (step->path != NULL &&
			strncmp(path, step->path, strlen(step->path)) != 0)
			continue;
		step->users++;
		if (!step->is_forever && --step->times == 0)
		{
			*place = step->next;
			step_release(step);
		}
		return step;
	}
	return NULL;
}

size_t
script_left(void)
{
	size_t		left = 0;

	for (Step *step = script; step != NULL; step = step->next)
		left += step->is_forever ? 1 : (size_t) step->times;
	return left;
}

void
script_reset(void)
{
	while (script != NULL)
	{
		Step	   *step = script;

		script = step->next;
		step_release(step);
	}
}
