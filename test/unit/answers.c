/*-------------------------------------------------------------------------
 *
 * answers.c
 *	  What the tests of Iterable's answers share.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "answers.h"

#include <cjson/cJSON.h>

const IsApiRow user_rows[NROWS] = {
	{.email = "ann@x.com", .user_id = "A1"},
	{.email = "Bob@X.com", .data_email = "new@x.com"},
	{.user_id = "C3", .data_user_id = "C4"},
	{.email = "dan@x.com"},
};

const IsApiRow event_rows[NROWS] = {
	{.email = "ann@x.com", .event_name = "buy"},
	{.email = "Bob@X.com", .event_name = "look"},
	{.user_id = "C3", .event_name = "buy"},
	{.email = "ANN@x.com", .user_id = "A1", .event_name = "look"},
};

IsApiRow	rows[NROWS];

IsApiAnswer answer;

int			allocated = 0;

static void *
count_malloc(size_t size)
{
	allocated++;
	return malloc(size);
}

static void
count_free(void *p)
{
	if (p != NULL)
		allocated--;
	free(p);
}

void
count_memory(void)
{
	cJSON_Hooks hooks = {count_malloc, count_free};

	cJSON_InitHooks(&hooks);
}

void
read_answer(IsEndpoint endpoint, int nrows, int status, const char *body,
			size_t len)
{
	memcpy(rows, endpoint == USERS ? user_rows : event_rows, sizeof(rows));
	for (int i = 0; i < NROWS; i++)
	{
		/* what an earlier answer left must not shine through */
		rows[i].verdict = IS_VERDICT_ACCEPTED;
		rows[i].class = "left over";
	}
	memset(&answer, 0x7f, sizeof(answer));
	is_api_read_answer(endpoint, status, body, len, rows, nrows, &answer);
	assert_int_equal(allocated, 0);
	assert_true(strlen(answer.message) <= 255);
}

void
verdicts(int nrows, char *to)
{
	for (int i = 0; i < nrows; i++)
		*to++ = "ARSLGU"[rows[i].verdict];
	*to = '\0';
}

void
check_cases(const Case *cases, size_t n)
{
	int			wrong = 0;

	for (size_t i = 0; i < n; i++)
	{
		const Case *c = &cases[i];
		const char *class = NULL;
		int			nrows = strlen(c->verdicts);
		char		got[NROWS + 1];

		read_answer(c->endpoint, nrows, c->status, c->body,
					c->body != NULL ? strlen(c->body) : 0);
		verdicts(nrows, got);
		for (int row = nrows - 1; row >= 0; row--)
		{
			if (rows[row].class == NULL)
				continue;
			class = rows[row].class;
			/* a verdict with a class says what is wrong, and the other way */
			assert_non_null(rows[row].message);
			assert_int_not_equal(rows[row].verdict, IS_VERDICT_ACCEPTED);
		}
		if (class == NULL)
			class = answer.class;

		if (answer.kind != c->kind || strcmp(got, c->verdicts) != 0 ||
			(class == NULL) != (c->class == NULL) ||
			(class != NULL && strcmp(class, c->class) != 0))
		{
			print_error("%s: kind %d not %d, verdicts %s not %s, class %s not %s\n",
						c->what, answer.kind, c->kind, got, c->verdicts,
						class ? class : "-", c->class ? c->class : "-");
			wrong++;
		}
		if (answer.kind != IS_ANSWER_PER_ROW && answer.message[0] == '\0')
		{
			print_error("%s: no message\n", c->what);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}
