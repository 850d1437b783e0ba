/*-------------------------------------------------------------------------
 *
 * test_iterable_api.c
 *	  Requests, look-ups, and answers that are none.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "answers.h"

static void
envelopes(void **state)
{
	assert_string_equal(is_api_path(USERS), "/api/users/bulkUpdate");
	assert_string_equal(is_api_path(EVENTS), "/api/events/trackBulk");
	assert_string_equal(is_api_envelope_open(USERS, IS_NEW_FIELDS_PROJECT, false), "{\"users\":[");
	assert_string_equal(is_api_envelope_open(USERS, IS_NEW_FIELDS_ALWAYS, true),
						"{\"createNewFields\":true,\"updateOnly\":true,\"users\":[");
	assert_string_equal(is_api_envelope_open(USERS, IS_NEW_FIELDS_NEVER, false),
						"{\"createNewFields\":false,\"users\":[");
	assert_string_equal(is_api_envelope_open(EVENTS, IS_NEW_FIELDS_NEVER, false), "{\"events\":[");
	assert_string_equal(is_api_envelope_close(USERS), "]}");
	assert_string_equal(is_api_envelope_close(EVENTS), "]}");
}

static void
odd_bodies(void **state)
{
	static const Case cases[] = {
		{"nothing", USERS, 200, NULL, IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"empty", USERS, 200, "", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"blank", USERS, 200, " \n", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"204", USERS, 204, "", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"HTML", USERS, 200, "<!DOCTYPE html><html><body>Sign in</body></html>", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"text", EVENTS, 200, "OK", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"a string", EVENTS, 200, "\"OK\"", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"null", EVENTS, 200, "null", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"true", EVENTS, 200, "true", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"a number", EVENTS, 200, "4", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"an array", EVENTS, 200, "[" COUNTS(4, 0) END "]", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"an empty object", EVENTS, 200, "{}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"truncated", EVENTS, 200, COUNTS(4, 0), IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"truncated in a list", EVENTS, 200, COUNTS(3, 1) ",\"failedUpdates\":{\"invalidEmails\":[\"bo",
		IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"something behind it", EVENTS, 200, COUNTS(4, 0) END "{}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"blanks around it", EVENTS, 200, " \r\n" COUNTS(4, 0) END "\r\n ", IS_ANSWER_PER_ROW, "AAAA", NULL},
		{"code Success only", EVENTS, 200, "{\"msg\":\"\",\"code\":\"Success\",\"params\":null}",
		IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"another code", EVENTS, 200, "{\"msg\":\"x\",\"code\":\"BadParams\",\"params\":null}",
		IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"a list is an object", USERS, 200, COUNTS(3, 1) FAILED("\"invalidEmails\":{\"dan@x.com\":1}") END,
		IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"a list is a string", USERS, 200, COUNTS(3, 1) ",\"invalidEmails\":\"dan@x.com\"" END,
		IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"a good list and a bad one", USERS, 200,
			COUNTS(2, 2) FAILED("\"invalidEmails\":[\"dan@x.com\"],\"invalidUserIds\":true") END,
		IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"failedUpdates is an array", USERS, 200, COUNTS(3, 1) ",\"failedUpdates\":[\"dan@x.com\"]" END,
		IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"an impossible status", USERS, 199, "{}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"no status", USERS, 0, NULL, IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"a strange status", USERS, 999, NULL, IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
	};
	static const char with_nul[] = COUNTS(4, 0) END "\0{}";
	static const char nul_in_text[] = COUNTS(3, 1) FAILED("\"invalidEmails\":[\"dan\0@x.com\"]") END;
	size_t		size = 1000000;
	char	   *body = malloc(size);

	check_cases(cases, lengthof(cases));

	read_answer(USERS, NROWS, 200, with_nul, sizeof(with_nul) - 1);
	assert_int_equal(answer.kind, IS_ANSWER_UNKNOWN);
	read_answer(USERS, NROWS, 200, nul_in_text, sizeof(nul_in_text) - 1);
	assert_int_equal(answer.kind, IS_ANSWER_UNKNOWN);

	/* not terminated: nothing behind the length may be looked at */
	read_answer(USERS, NROWS, 200, COUNTS(4, 0) END "garbage", strlen(COUNTS(4, 0) END));
	assert_int_equal(answer.kind, IS_ANSWER_PER_ROW);

	/* nested ten thousand times, closed or not */
	memset(body, '[', 10000);
	read_answer(USERS, NROWS, 200, body, 10000);
	assert_int_equal(answer.kind, IS_ANSWER_UNKNOWN);
	memset(body + 10000, ']', 10000);
	read_answer(USERS, NROWS, 200, body, 20000);
	assert_int_equal(answer.kind, IS_ANSWER_UNKNOWN);

	/* a body that would take a hundred times its size */
	body[0] = '[';
	for (size_t i = 1; i < size; i++)
		body[i] = i % 2 ? '1' : ',';
	body[size - 1] = ']';
	read_answer(USERS, NROWS, 200, body, size);
	assert_int_equal(answer.kind, IS_ANSWER_UNKNOWN);
	free(body);
}

static void
user_look_up(void **state)
{
	static const struct
	{
		int			status;
		const char *body;
		int			result;
		IsAnswerKind kind;
	}			cases[] = {
		{200, "{\"user\":{\"email\":\"a@b.co\",\"dataFields\":{}}}", 1, 0},
		{200, "{\"user\":{\"userId\":\"7\"}}", 1, 0},
		{200, "{}", 0, 0},
		{200, "{\"user\":{}}", 0, 0},
		{200, "{\"user\":null}", 0, 0},
		{400, "No user with that id exists!", 0, 0},
		{400, "{\"msg\":\"x\",\"code\":\"error.users.noUserWithIdExists\"}", 0, 0},
		{404, "{\"msg\":\"x\",\"code\":\"error.users.noUserWithIdExists\"}", 0, 0},
		{400, "{\"msg\":\"x\",\"code\":\"UnknownEmailError\"}", 0, 0},
		{400, "{\"msg\":\"x\",\"code\":\"UnknownUserIdError\"}", 0, 0},
		{200, "", -1, IS_ANSWER_UNKNOWN},
		{200, NULL, -1, IS_ANSWER_UNKNOWN},
		{200, "<html>", -1, IS_ANSWER_UNKNOWN},
		{200, "[]", -1, IS_ANSWER_UNKNOWN},
		{200, "{\"user\":", -1, IS_ANSWER_UNKNOWN},
		{200, "{\"user\":\"x\"}", -1, IS_ANSWER_UNKNOWN},
		{200, "{\"msg\":\"\",\"code\":\"Success\"}", -1, IS_ANSWER_UNKNOWN},
		{302, NULL, -1, IS_ANSWER_STOP},
		{400, "{\"msg\":\"Invalid email: 000\",\"code\":\"InvalidEmailAddressError\",\"params\":null}", -1, IS_ANSWER_REJECTED},
		{401, "{\"msg\":\"Invalid API key\",\"code\":\"BadApiKey\"}", -1, IS_ANSWER_STOP},
		{404, "<html>Action not found</html>", -1, IS_ANSWER_STOP},
		{429, NULL, -1, IS_ANSWER_AGAIN},
		{500, NULL, -1, IS_ANSWER_AGAIN},
		{413, NULL, -1, IS_ANSWER_REJECTED},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		int			result = is_api_read_user_answer(cases[i].status, cases[i].body,
													 cases[i].body ? strlen(cases[i].body) : 0,
													 &answer);

		assert_int_equal(allocated, 0);
		if (result != cases[i].result ||
			(result < 0 && answer.kind != cases[i].kind))
			fail_msg("%d %s: %d, kind %d", cases[i].status,
					 cases[i].body ? cases[i].body : "-", result, answer.kind);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(envelopes),
		cmocka_unit_test(odd_bodies),
		cmocka_unit_test(user_look_up),
	};

	count_memory();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
