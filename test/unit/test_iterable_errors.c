/*-------------------------------------------------------------------------
 *
 * test_iterable_errors.c
 *	  What each status and code means for the rows of a request.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "answers.h"

static void
each_status(void **state)
{
	static const Case cases[] = {
		{"301", USERS, 301, "<html>moved</html>", IS_ANSWER_STOP, "UUUU", "Redirect"},
		{"302", EVENTS, 302, NULL, IS_ANSWER_STOP, "UUUU", "Redirect"},
		{"303", EVENTS, 303, "", IS_ANSWER_STOP, "UUUU", "Redirect"},
		{"307", EVENTS, 307, COUNTS(4, 0) END, IS_ANSWER_STOP, "UUUU", "Redirect"},
		{"308", EVENTS, 308, NULL, IS_ANSWER_STOP, "UUUU", "Redirect"},
		{"400 text", USERS, 400, "Bad Request", IS_ANSWER_REJECTED, "UUUU", "Rejected"},
		{"400 HTML", USERS, 400, "<html>", IS_ANSWER_REJECTED, "UUUU", "Rejected"},
		{"400 Success", USERS, 400, "{\"msg\":\"error.lists.invalidListId(9)\",\"code\":\"Success\",\"params\":{}}",
		IS_ANSWER_REJECTED, "UUUU", "Rejected"},
		{"400 of one row", USERS, 400, "Bad Request", IS_ANSWER_REJECTED, "R", "Rejected"},
		{"400 with counts", USERS, 400, COUNTS(4, 0) END, IS_ANSWER_REJECTED, "UUUU", "Rejected"},
		{"401 text", USERS, 401, "Unauthorized", IS_ANSWER_STOP, "UUUU", "Unauthorized"},
		{"401 code Success", USERS, 401, "{\"msg\":\"\",\"code\":\"Success\",\"params\":null}",
		IS_ANSWER_STOP, "UUUU", "Unauthorized"},
		{"403", EVENTS, 403, "{\"msg\":\"x\",\"code\":\"Forbidden\"}", IS_ANSWER_STOP, "UUUU", "Forbidden"},
		{"403 HTML", EVENTS, 403, "<html>", IS_ANSWER_STOP, "UUUU", "Forbidden"},
		{"404 HTML", EVENTS, 404, "<html><title>Action not found</title></html>", IS_ANSWER_STOP, "UUUU", "NotFound"},
		{"404 JSON", EVENTS, 404, "{\"error\":\"NotFound\",\"message\":\"Catalog not found: X\",\"code\":\"error.catalogs.notFound\"}",
		IS_ANSWER_STOP, "UUUU", "NotFound"},
		{"405", EVENTS, 405, NULL, IS_ANSWER_STOP, "UUUU", "NotFound"},
		{"407", EVENTS, 407, NULL, IS_ANSWER_STOP, "UUUU", "ProxyAuthenticationRequired"},
		{"408", EVENTS, 408, NULL, IS_ANSWER_AGAIN, "UUUU", "RequestTimeout"},
		{"409", USERS, 409, "{\"msg\":\"Contact is GDPR forgotten\"}", IS_ANSWER_REJECTED, "UUUU", "Conflict"},
		{"410", USERS, 410, NULL, IS_ANSWER_STOP, "UUUU", "Gone"},
		{"413", USERS, 413, "<html>", IS_ANSWER_SPLIT, "UUUU", "BatchTooLarge"},
		{"418", USERS, 418, NULL, IS_ANSWER_REJECTED, "UUUU", "Rejected"},
		{"421", USERS, 421, NULL, IS_ANSWER_STOP, "UUUU", "MisdirectedRequest"},
		{"425", USERS, 425, NULL, IS_ANSWER_AGAIN, "UUUU", "TooEarly"},
		{"429 text", USERS, 429, "Too Many Requests", IS_ANSWER_AGAIN, "UUUU", "RateLimitExceeded"},
		{"429", EVENTS, 429, "{\"msg\":\"Exceeded rate limit.\",\"code\":\"RateLimitExceeded\"}",
		IS_ANSWER_AGAIN, "UUUU", "RateLimitExceeded"},
		{"500", USERS, 500, "{\"msg\":\"x\",\"code\":\"GenericError\"}", IS_ANSWER_AGAIN, "UUUU", "ServerError"},
		{"500 with a code of the 4xx", USERS, 500, "{\"msg\":\"x\",\"code\":\"BadParams\"}",
		IS_ANSWER_AGAIN, "UUUU", "ServerError"},
		{"502", USERS, 502, "<html>", IS_ANSWER_AGAIN, "UUUU", "ServerError"},
		{"503", USERS, 503, "Request timeout. Try again later.", IS_ANSWER_AGAIN, "UUUU", "ServerError"},
		{"504", USERS, 504, NULL, IS_ANSWER_AGAIN, "UUUU", "ServerError"},
		{"one row of a 5xx", USERS, 500, NULL, IS_ANSWER_AGAIN, "U", "ServerError"},
	};

	check_cases(cases, lengthof(cases));

	read_answer(USERS, NROWS, 429, NULL, 0);
	assert_true(answer.rate_limited);
	assert_false(answer.internal_error);
	read_answer(USERS, NROWS, 408, NULL, 0);
	assert_false(answer.internal_error);
	read_answer(USERS, NROWS, 503, NULL, 0);
	assert_false(answer.rate_limited);
	assert_true(answer.internal_error);
	read_answer(USERS, NROWS, 302, NULL, 0);
	assert_string_equal(answer.message, "redirect refused");
	assert_non_null(strstr(answer.hint, "base_url"));
}

static void
each_code(void **state)
{
	static const Case cases[] = {
		{"RateLimitExceeded", USERS, 400, CODE("RateLimitExceeded"), IS_ANSWER_AGAIN, "UUUU", "RateLimitExceeded"},
		{"DatabaseError", USERS, 400, CODE("DatabaseError"), IS_ANSWER_AGAIN, "UUUU", "DatabaseError"},
		{"BadApiKey", USERS, 400, CODE("BadApiKey"), IS_ANSWER_STOP, "UUUU", "BadApiKey"},
		{"BadApiKey 401", USERS, 401, CODE("BadApiKey"), IS_ANSWER_STOP, "UUUU", "BadApiKey"},
		{"Unauthorized", USERS, 400, CODE("Unauthorized"), IS_ANSWER_STOP, "UUUU", "Unauthorized"},
		{"BadAuthorizationHeader", USERS, 401, CODE("BadAuthorizationHeader"), IS_ANSWER_STOP, "UUUU", "BadAuthorizationHeader"},
		{"InvalidJwtPayload", USERS, 401, CODE("InvalidJwtPayload"), IS_ANSWER_STOP, "UUUU", "InvalidJwtPayload"},
		{"JwtUserIdentifiersMismatched", USERS, 401, CODE("JwtUserIdentifiersMismatched"),
		IS_ANSWER_STOP, "UUUU", "JwtUserIdentifiersMismatched"},
		{"Forbidden", USERS, 400, CODE("Forbidden"), IS_ANSWER_STOP, "UUUU", "Forbidden"},
		{"BatchTooLarge", USERS, 400, CODE("BatchTooLarge"), IS_ANSWER_SPLIT, "UUUU", "BatchTooLarge"},
		{"BatchTooLarge 413", EVENTS, 413, CODE("BatchTooLarge"), IS_ANSWER_SPLIT, "UUUU", "BatchTooLarge"},
		{"RequestFieldsTypesMismatched", USERS, 400, CODE("RequestFieldsTypesMismatched"),
		IS_ANSWER_REJECTED, "UUUU", "RequestFieldsTypesMismatched"},
		{"RequestFieldsTypesMismatched 500", EVENTS, 500, CODE("RequestFieldsTypesMismatched"),
		IS_ANSWER_REJECTED, "UUUU", "RequestFieldsTypesMismatched"},
		{"RequestFieldsTypesMismatched of one", EVENTS, 500, CODE("RequestFieldsTypesMismatched"),
		IS_ANSWER_REJECTED, "R", "RequestFieldsTypesMismatched"},
		{"UniqueFieldsLimitExceeded", USERS, 400, CODE("UniqueFieldsLimitExceeded"),
		IS_ANSWER_REJECTED, "UUUU", "UniqueFieldsLimitExceeded"},
		{"BadJsonBody without index", USERS, 400, CODE("BadJsonBody"), IS_ANSWER_REJECTED, "UUUU", "BadJsonBody"},
		{"BadParams", EVENTS, 400, CODE("BadParams"), IS_ANSWER_REJECTED, "UUUU", "BadParams"},
		{"ForbiddenParamsError", EVENTS, 400, CODE("ForbiddenParamsError"), IS_ANSWER_REJECTED, "UUUU", "ForbiddenParamsError"},
		{"InvalidEmailAddressError", USERS, 400, CODE("InvalidEmailAddressError"),
		IS_ANSWER_REJECTED, "R", "InvalidEmailAddressError"},
		{"InvalidUserIdError", USERS, 400, CODE("InvalidUserIdError"), IS_ANSWER_REJECTED, "R", "InvalidUserIdError"},
		{"ForgottenUserError", USERS, 409, CODE("ForgottenUserError"), IS_ANSWER_REJECTED, "R", "ForgottenUserError"},
		{"EmailAlreadyExists", USERS, 409, CODE("EmailAlreadyExists"), IS_ANSWER_REJECTED, "R", "EmailAlreadyExists"},
		{"UserIdAlreadyExists", USERS, 409, CODE("UserIdAlreadyExists"), IS_ANSWER_REJECTED, "R", "UserIdAlreadyExists"},
		{"ExternalKeyConflict", USERS, 409, CODE("ExternalKeyConflict"), IS_ANSWER_REJECTED, "R", "ExternalKeyConflict"},
		{"UnknownEmailError of an event", EVENTS, 400, CODE("UnknownEmailError"), IS_ANSWER_REJECTED, "L", "UnknownEmailError"},
		{"UnknownUserIdError of an event", EVENTS, 400, CODE("UnknownUserIdError"), IS_ANSWER_REJECTED, "L", "UnknownUserIdError"},
		{"UnknownEmailError of a user", USERS, 400, CODE("UnknownEmailError"), IS_ANSWER_REJECTED, "R", "UnknownEmailError"},
		{"UnknownUserIdError of a user", USERS, 400, CODE("UnknownUserIdError"), IS_ANSWER_REJECTED, "R", "UnknownUserIdError"},
		{"GenericError", USERS, 400, CODE("GenericError"), IS_ANSWER_REJECTED, "UUUU", "Rejected"},
		{"QueueEmailError", USERS, 400, CODE("QueueEmailError"), IS_ANSWER_REJECTED, "UUUU", "Rejected"},
		{"a code that came later", USERS, 400, CODE("error.users.somethingNew"), IS_ANSWER_REJECTED, "UUUU", "Rejected"},
		{"code is a number", USERS, 400, "{\"code\":42,\"msg\":17}", IS_ANSWER_REJECTED, "UUUU", "Rejected"},
	};

	check_cases(cases, lengthof(cases));

	read_answer(USERS, NROWS, 400, CODE("RateLimitExceeded"), strlen(CODE("RateLimitExceeded")));
	assert_true(answer.rate_limited);
	assert_string_equal(answer.code, "RateLimitExceeded");
	assert_string_equal(answer.message, "something is wrong");
	assert_int_equal(answer.created_fields.n, 0);
	read_answer(USERS, NROWS, 400, CODE("a b\\n<c>\\u00e9d'e"), strlen(CODE("a b\\n<c>\\u00e9d'e")));
	assert_string_equal(answer.code, "");
	read_answer(USERS, NROWS, 400, CODE("0123456789abcdef0123456789abcdef"), strlen(CODE("0123456789abcdef0123456789abcdef")));
	assert_string_equal(answer.code, "");
	read_answer(USERS, NROWS, 400, CODE("error.users.some_thing"), strlen(CODE("error.users.some_thing")));
	assert_string_equal(answer.code, "error.users.some_thing");
}

#define BAD_BODY(params) "{\"msg\":\"[/api/x] Invalid JSON body\",\"code\":\"BadJsonBody\",\"params\":" params "}"

static void
bad_json_body(void **state)
{
	static const Case cases[] = {
		{"of 2024", USERS, 400, BAD_BODY("{\"obj.users[1].preferUserId\":\"Boolean value expected\"}"),
		IS_ANSWER_PER_ROW, "GRGG", "BadJsonBody"},
		{"of 2022", EVENTS, 400, BAD_BODY("{\"obj.events[0].eventName\":[{\"msg\":[\"error.expected.jsstring\"],\"args\":[]}]}"),
		IS_ANSWER_PER_ROW, "RGGG", "BadJsonBody"},
		{"two rows", EVENTS, 400, BAD_BODY("{\"obj.events[0].createdAt\":\"x\",\"obj.events[3].id\":\"x\",\"obj.events[3].x\":\"x\"}"),
		IS_ANSWER_PER_ROW, "RGGR", "BadJsonBody"},
		{"all rows", EVENTS, 400, BAD_BODY("{\"obj.events[0].id\":\"x\",\"obj.events[1].id\":\"x\"}"),
		IS_ANSWER_PER_ROW, "RR", "BadJsonBody"},
		{"the row itself", USERS, 400, BAD_BODY("{\"obj.users[2]\":\"x\"}"), IS_ANSWER_PER_ROW, "GGRG", "BadJsonBody"},
		{"one row and the request", USERS, 400, BAD_BODY("{\"obj.createNewFields\":\"x\",\"obj.users[2].x\":\"x\"}"),
		IS_ANSWER_PER_ROW, "GGRG", "BadJsonBody"},
		{"the only row", USERS, 400, BAD_BODY("{\"obj.users[0].email\":\"x\"}"), IS_ANSWER_PER_ROW, "R", "BadJsonBody"},
		{"the only row, no index", USERS, 400, BAD_BODY("{\"obj\":\"x\"}"), IS_ANSWER_REJECTED, "R", "BadJsonBody"},
		{"no row", USERS, 400, BAD_BODY("{\"obj.users\":[{\"msg\":\"error.path.missing\"}]}"),
		IS_ANSWER_REJECTED, "UUUU", "BadJsonBody"},
		{"not in the request", USERS, 400, BAD_BODY("{\"obj.users[4].email\":\"x\"}"), IS_ANSWER_REJECTED, "UUUU", "BadJsonBody"},
		{"negative", USERS, 400, BAD_BODY("{\"obj.users[-1].email\":\"x\"}"), IS_ANSWER_REJECTED, "UUUU", "BadJsonBody"},
		{"no number", USERS, 400, BAD_BODY("{\"obj.users[x].email\":\"x\",\"obj.users[].y\":1,\"obj.users[0\":1}"),
		IS_ANSWER_REJECTED, "UUUU", "BadJsonBody"},
		{"far too large", USERS, 400, BAD_BODY("{\"obj.users[4294967296].email\":\"x\",\"obj.users[99999999999999999999].e\":1}"),
		IS_ANSWER_REJECTED, "UUUU", "BadJsonBody"},
		{"params is a list", USERS, 400, BAD_BODY("[\"obj.users[0].email\"]"), IS_ANSWER_REJECTED, "UUUU", "BadJsonBody"},
		{"params is null", USERS, 400, BAD_BODY("null"), IS_ANSWER_REJECTED, "UUUU", "BadJsonBody"},
	};

	check_cases(cases, lengthof(cases));

	read_answer(USERS, NROWS, 400, cases[0].body, strlen(cases[0].body));
	assert_string_equal(answer.message, "wrong type or missing: preferUserId");
}

/* Nothing that belongs to a person, and no key, gets into a message. */
static void
nothing_leaks(void **state)
{
	static const char *const bodies[] = {
		"{\"msg\":\"Invalid email: canary\",\"code\":\"InvalidEmailAddressError\",\"params\":null}",
		"{\"msg\":\"No users with userId canary exist\",\"code\":\"BadParams\"}",
		"{\"msg\":\"[/api/users/bulkUpdate] Invalid JSON body: Request: POST Headers: Host -> x, Api-Key -> canary Body: canary\",\"code\":\"BadJsonBody\",\"params\":{}}",
		"{\"msg\":\"Invalid JSON\\nApi-Key: canary\",\"code\":\"BadJsonBody\"}",
		"{\"msg\":\"bad value 'canary'\",\"code\":\"BadParams\"}",
		"{\"msg\":\"bad value \\\"canary\\\"\",\"code\":\"BadParams\"}",
		"{\"msg\":\"canary@example.com is wrong\",\"code\":\"BadParams\"}",
		"{\"msg\":\"ApiUserUpdateRequest(Some(canary),None)\",\"code\":\"BadParams\"}",
		"{\"msg\":\"x\",\"code\":\"BadApiKey\",\"params\":{\"apiKeyIdentifier\":\"canary\",\"ip\":\"canary\"}}",
		"{\"error\":\"NotFound\",\"message\":\"User 'canary' not found\",\"code\":\"x\"}",
		"<html>canary</html>",
		"canary canary",
	};
	static const int statuses[] = {200, 302, 400, 401, 403, 404, 409, 413, 429, 500};

	for (size_t i = 0; i < lengthof(bodies); i++)
		for (size_t j = 0; j < lengthof(statuses); j++)
		{
			read_answer(USERS, NROWS, statuses[j], bodies[i], strlen(bodies[i]));
			if (strstr(answer.message, "canary") != NULL)
				fail_msg("%s became %s", bodies[i], answer.message);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_status),
		cmocka_unit_test(each_code),
		cmocka_unit_test(bad_json_body),
		cmocka_unit_test(nothing_leaks),
	};

	count_memory();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
