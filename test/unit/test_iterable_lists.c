/*-------------------------------------------------------------------------
 *
 * test_iterable_lists.c
 *	  What the lists and counts of an answer mean for the rows of a request.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "answers.h"

static void
each_list(void **state)
{
	static const Case cases[] = {
		{"all users accepted", USERS, 200,
			COUNTS(4, 0) ",\"createdFields\":[],\"filteredOutFields\":[],\"invalidEmails\":[],\"invalidUserIds\":[]"
			FAILED("\"invalidEmails\":[],\"notFoundEmails\":[]") END,
		IS_ANSWER_PER_ROW, "AAAA", NULL},
		{"all events accepted", EVENTS, 200, COUNTS(4, 0) END, IS_ANSWER_PER_ROW, "AAAA", NULL},
		{"202 as well", EVENTS, 202, COUNTS(4, 0) END, IS_ANSWER_PER_ROW, "AAAA", NULL},
		{"no rows at all", EVENTS, 200, COUNTS(0, 0) END, IS_ANSWER_PER_ROW, "", NULL},

		{"u invalidEmails", USERS, 200, COUNTS(3, 1) FAILED("\"invalidEmails\":[\"bob@x.com\"]") END,
		IS_ANSWER_PER_ROW, "ARAA", "invalidEmails"},
		{"u invalidEmails in dataFields", USERS, 200, COUNTS(3, 1) FAILED("\"invalidEmails\":[\"NEW@x.com\"]") END,
		IS_ANSWER_PER_ROW, "ARAA", "invalidEmails"},
		{"u invalidUserIds", USERS, 200, COUNTS(3, 1) FAILED("\"invalidUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "AARA", "invalidUserIds"},
		{"u invalidUserIds in dataFields", USERS, 200, COUNTS(3, 1) FAILED("\"invalidUserIds\":[\"C4\"]") END,
		IS_ANSWER_PER_ROW, "AARA", "invalidUserIds"},
		{"u notFoundEmails", USERS, 200, COUNTS(3, 1) FAILED("\"notFoundEmails\":[\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "AAAR", "notFoundEmails"},
		{"u notFoundUserIds", USERS, 200, COUNTS(3, 1) FAILED("\"notFoundUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "AARA", "notFoundUserIds"},
		{"u forgottenEmails", USERS, 200, COUNTS(3, 1) FAILED("\"forgottenEmails\":[\"ann@x.com\"]") END,
		IS_ANSWER_PER_ROW, "RAAA", "forgottenEmails"},
		{"u forgottenUserIds", USERS, 200, COUNTS(3, 1) FAILED("\"forgottenUserIds\":[\"A1\"]") END,
		IS_ANSWER_PER_ROW, "RAAA", "forgottenUserIds"},
		{"u invalidDataEmails", USERS, 200, COUNTS(3, 1) FAILED("\"invalidDataEmails\":[\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "AAAR", "invalidDataEmails"},
		{"u invalidDataUserIds", USERS, 200, COUNTS(3, 1) FAILED("\"invalidDataUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "AARA", "invalidDataUserIds"},
		{"u conflictEmails names the new one", USERS, 200, COUNTS(3, 1) FAILED("\"conflictEmails\":[\"new@x.com\"]") END,
		IS_ANSWER_PER_ROW, "ARAA", "conflictEmails"},
		{"u conflictEmails names the key", USERS, 200, COUNTS(3, 1) FAILED("\"conflictEmails\":[\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "AAAR", "conflictEmails"},
		{"u conflictUserIds", USERS, 200, COUNTS(3, 1) FAILED("\"conflictUserIds\":[\"C4\"]") END,
		IS_ANSWER_PER_ROW, "AARA", "conflictUserIds"},
		{"u noOpEmails counted as failed", USERS, 200, COUNTS(3, 1) FAILED("\"noOpEmails\":[\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "AAAS", "noOpEmails"},
		{"u noOpUserIds at the top, not counted", USERS, 200, COUNTS(3, 0) ",\"noOpUserIds\":[\"C3\"]" END,
		IS_ANSWER_PER_ROW, "AASA", "noOpUserIds"},
		{"u noOpEmails counted as success", USERS, 200, COUNTS(4, 0) ",\"noOpEmails\":[\"dan@x.com\"]" END,
		IS_ANSWER_PER_ROW, "AAAS", "noOpEmails"},

		{"e invalidEmails", EVENTS, 200, COUNTS(3, 1) FAILED("\"invalidEmails\":[\"bob@x.com\"]") END,
		IS_ANSWER_PER_ROW, "ARAA", "invalidEmails"},
		{"e invalidUserIds", EVENTS, 200, COUNTS(3, 1) FAILED("\"invalidUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "AARA", "invalidUserIds"},
		{"e notFoundEmails", EVENTS, 200, COUNTS(3, 1) FAILED("\"notFoundEmails\":[\"bob@x.com\"]") END,
		IS_ANSWER_PER_ROW, "ALAA", "notFoundEmails"},
		{"e notFoundUserIds", EVENTS, 200, COUNTS(3, 1) FAILED("\"notFoundUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "AALA", "notFoundUserIds"},
		{"e forgottenEmails", EVENTS, 200, COUNTS(3, 1) FAILED("\"forgottenEmails\":[\"bob@x.com\"]") END,
		IS_ANSWER_PER_ROW, "ARAA", "forgottenEmails"},
		{"e forgottenUserIds", EVENTS, 200, COUNTS(3, 1) FAILED("\"forgottenUserIds\":[\"A1\"]") END,
		IS_ANSWER_PER_ROW, "AAAR", "forgottenUserIds"},
		{"e disallowedEventNames counted", EVENTS, 200, COUNTS(2, 2) ",\"disallowedEventNames\":[\"look\"]" END,
		IS_ANSWER_PER_ROW, "ARAR", "disallowedEventNames"},
		{"e disallowedEventNames not counted", EVENTS, 200, COUNTS(2, 0) ",\"disallowedEventNames\":[\"look\"]" END,
		IS_ANSWER_PER_ROW, "ARAR", "disallowedEventNames"},
		{"e disallowedEventNames as success", EVENTS, 200, COUNTS(4, 0) ",\"disallowedEventNames\":[\"look\"]" END,
		IS_ANSWER_PER_ROW, "ARAR", "disallowedEventNames"},
		{"e disallowed, and another failure", EVENTS, 200,
			COUNTS(1, 1) ",\"disallowedEventNames\":[\"look\"]" FAILED("\"notFoundUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "ARLR", "disallowedEventNames"},
		{"e event names are exact", EVENTS, 200, COUNTS(2, 2) ",\"disallowedEventNames\":[\"Look\"]" END,
		IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},

		{"a list that came later, by e-mail", USERS, 200, COUNTS(3, 1) FAILED("\"bouncedEmails\":[\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "AAAR", "failedUpdates"},
		{"a list that came later, by user id", EVENTS, 200, COUNTS(3, 1) FAILED("\"blockedUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "AARA", "failedUpdates"},
		{"a list that came later, of something else", EVENTS, 200, COUNTS(3, 1) FAILED("\"blockedThings\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"an empty list of something else", EVENTS, 200, COUNTS(4, 0) FAILED("\"blockedThings\":[]") END,
		IS_ANSWER_PER_ROW, "AAAA", NULL},
		{"a new key at the top is no failure", EVENTS, 200, COUNTS(4, 0) ",\"tips\":[\"x\"],\"more\":{\"a\":1}" END,
		IS_ANSWER_PER_ROW, "AAAA", NULL},
	};

	check_cases(cases, lengthof(cases));
}

static void
old_lists(void **state)
{
	static const Case cases[] = {
		{"u old lists repeat new ones", USERS, 200,
			COUNTS(2, 2) ",\"invalidEmails\":[\"bob@x.com\"],\"invalidUserIds\":[\"C3\"]"
			FAILED("\"invalidDataEmails\":[\"bob@x.com\"],\"conflictUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "ARRA", "invalidDataEmails"},
		{"u old lists before new ones, other identifier", USERS, 200,
			"{\"invalidEmails\":[\"ann@x.com\"],\"invalidUserIds\":[],\"successCount\":3,\"failCount\":1,"
			"\"failedUpdates\":{\"forgottenUserIds\":[\"A1\"]}}",
		IS_ANSWER_PER_ROW, "RAAA", "forgottenUserIds"},
		{"u of 2017", USERS, 200, COUNTS(3, 1) ",\"invalidEmails\":[\"dan@x.com\"]" END,
		IS_ANSWER_PER_ROW, "AAAR", "invalidEmails"},
		{"u old user ids", USERS, 200, COUNTS(3, 1) ",\"invalidUserIds\":[\"C3\"]" END,
		IS_ANSWER_PER_ROW, "AARA", "invalidUserIds"},
		{"e of 2017", EVENTS, 200,
			COUNTS(3, 1) ",\"invalidEmails\":[\"bob@x.com\"],\"invalidUserIds\":[],\"disallowedEventNames\":[]" END,
		IS_ANSWER_PER_ROW, "ARAA", "invalidEmails"},
		{"e old user ids were not found", EVENTS, 200, COUNTS(3, 1) ",\"invalidUserIds\":[\"C3\"]" END,
		IS_ANSWER_PER_ROW, "AALA", "notFoundUserIds"},
		{"e old and new user ids", EVENTS, 200,
			COUNTS(3, 1) ",\"invalidUserIds\":[\"C3\"]" FAILED("\"invalidUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "AARA", "invalidUserIds"},
		{"e old repeats not found", EVENTS, 200,
			COUNTS(3, 1) ",\"invalidUserIds\":[\"C3\"]" FAILED("\"notFoundUserIds\":[\"C3\"]") END,
		IS_ANSWER_PER_ROW, "AALA", "notFoundUserIds"},
		{"e old list must not make a later one final", EVENTS, 200,
			COUNTS(3, 1) ",\"invalidEmails\":[\"bob@x.com\"]" FAILED("\"notFoundEmails\":[\"bob@x.com\"]") END,
		IS_ANSWER_PER_ROW, "ALAA", "notFoundEmails"},
		{"old list names one more", USERS, 200,
			COUNTS(2, 2) ",\"invalidEmails\":[\"bob@x.com\",\"dan@x.com\"]" FAILED("\"invalidEmails\":[\"bob@x.com\"]") END,
		IS_ANSWER_PER_ROW, "ARAR", "invalidEmails"},
		{"null lists", USERS, 200,
			COUNTS(4, 0) ",\"invalidEmails\":null,\"failedUpdates\":null" END,
		IS_ANSWER_PER_ROW, "AAAA", NULL},
	};

	check_cases(cases, lengthof(cases));
}

static void
matching(void **state)
{
	static const Case cases[] = {
		{"e-mail of two rows", EVENTS, 200, COUNTS(2, 2) FAILED("\"notFoundEmails\":[\"ann@x.com\"]") END,
		IS_ANSWER_PER_ROW, "LAAL", "notFoundEmails"},
		{"e-mail of two rows, listed twice", EVENTS, 200,
			COUNTS(2, 2) FAILED("\"notFoundEmails\":[\"ann@x.com\",\"Ann@X.com\"]") END,
		IS_ANSWER_PER_ROW, "LAAL", "notFoundEmails"},
		{"e-mail of two rows, one failed", EVENTS, 200, COUNTS(3, 1) FAILED("\"notFoundEmails\":[\"ann@x.com\"]") END,
		IS_ANSWER_PER_ROW, "LUUL", "notFoundEmails"},
		{"user ids are exact", USERS, 200, COUNTS(3, 1) FAILED("\"invalidUserIds\":[\"c3\"]") END,
		IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"an e-mail is no user id", USERS, 200, COUNTS(3, 1) FAILED("\"invalidUserIds\":[\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"e-mail that is not in the request", USERS, 200, COUNTS(3, 1) FAILED("\"invalidEmails\":[\"zoe@x.com\"]") END,
		IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"one is, one is not", USERS, 200,
			COUNTS(2, 2) FAILED("\"invalidEmails\":[\"zoe@x.com\",\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "UUUR", "unaccounted"},
		{"stranger although the counts fit", USERS, 200,
			COUNTS(3, 1) FAILED("\"invalidEmails\":[\"zoe@x.com\",\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "UUUR", "unaccounted"},
		{"a number, an object, a null in a list", USERS, 200,
			COUNTS(3, 1) FAILED("\"invalidEmails\":[\"dan@x.com\"],\"invalidUserIds\":[3,{\"id\":1},null]") END,
		IS_ANSWER_PER_ROW, "UUUR", "unaccounted"},
		{"rejected outweighs later", EVENTS, 200,
			COUNTS(2, 2) FAILED("\"notFoundEmails\":[\"ann@x.com\"],\"forgottenUserIds\":[\"A1\"]") END,
		IS_ANSWER_PER_ROW, "LAAR", "notFoundEmails"},
		{"and in the other order", EVENTS, 200,
			COUNTS(2, 2) FAILED("\"forgottenUserIds\":[\"A1\"],\"notFoundEmails\":[\"ann@x.com\"]") END,
		IS_ANSWER_PER_ROW, "LAAR", "notFoundEmails"},
		{"the same list twice in the JSON", USERS, 200,
			COUNTS(2, 2) FAILED("\"invalidEmails\":[\"dan@x.com\"],\"invalidEmails\":[\"ann@x.com\"]") END,
		IS_ANSWER_PER_ROW, "RAAR", "invalidEmails"},
		{"escaped", USERS, 200, COUNTS(3, 1) FAILED("\"invalidEmails\":[\"\\u0064an\\u0040x.com\"]") END,
		IS_ANSWER_PER_ROW, "AAAR", "invalidEmails"},
		{"keys are exact", USERS, 200, COUNTS(4, 0) ",\"InvalidEmails\":[\"dan@x.com\"]" END,
		IS_ANSWER_PER_ROW, "AAAA", NULL},
	};

	check_cases(cases, lengthof(cases));
}

/* Letters beyond ASCII come back in lower case as well; user ids do not change. */
static void
other_letters(void **state)
{
	static const char body[] = COUNTS(1, 2)
		FAILED("\"invalidEmails\":[\"j\xC3\xBCrgen@x.com\"],\"forgottenUserIds\":[\"c3\",\"C3\"]") END;
	IsApiRow	three[] = {
		{.email = "J\xC3\x9CRGEN@X.com"},
		{.email = "J\xC3\x9CRG@X.com"},
		{.user_id = "C3"},
	};

	is_api_read_answer(USERS, 200, body, sizeof(body) - 1, three, 3, &answer);
	assert_int_equal(three[0].verdict, IS_VERDICT_REJECTED);
	assert_int_equal(three[1].verdict, IS_VERDICT_UNKNOWN);
	assert_int_equal(three[2].verdict, IS_VERDICT_REJECTED);
}

/*
 * One user takes the address of another one of the same request: a conflict is
 * the first one's, other failures are the second one's.
 */
static void
new_identifier_is_a_key(void **state)
{
	static const char conflict[] = COUNTS(1, 1) FAILED("\"conflictEmails\":[\"b@x.com\"]") END;
	static const char bad_data[] = COUNTS(1, 1) FAILED("\"invalidDataEmails\":[\"b@x.com\"]") END;
	IsApiRow	two[] = {
		{.email = "a@x.com", .data_email = "b@x.com"},
		{.email = "b@x.com"},
	};

	is_api_read_answer(USERS, 200, conflict, sizeof(conflict) - 1, two, 2, &answer);
	assert_int_equal(two[0].verdict, IS_VERDICT_REJECTED);
	assert_int_equal(two[1].verdict, IS_VERDICT_ACCEPTED);

	is_api_read_answer(USERS, 200, bad_data, sizeof(bad_data) - 1, two, 2, &answer);
	assert_int_equal(two[0].verdict, IS_VERDICT_ACCEPTED);
	assert_int_equal(two[1].verdict, IS_VERDICT_REJECTED);
}

static void
counts(void **state)
{
	static const Case cases[] = {
		{"failures without a list", USERS, 200, COUNTS(3, 1) END, IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"all failed without a list", USERS, 200, COUNTS(0, 4) END, IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"too few counted", USERS, 200, COUNTS(3, 0) END, IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"too many counted", USERS, 200, COUNTS(5, 0) END, IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"none counted", USERS, 200, COUNTS(0, 0) END, IS_ANSWER_PER_ROW, "UUUU", "unaccounted"},
		{"more failed than named", USERS, 200, COUNTS(2, 2) FAILED("\"invalidEmails\":[\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "UUUR", "unaccounted"},
		{"named but not counted", USERS, 200, COUNTS(4, 0) FAILED("\"invalidEmails\":[\"dan@x.com\"]") END,
		IS_ANSWER_PER_ROW, "UUUR", "unaccounted"},
		{"the only row failed", USERS, 200, COUNTS(0, 1) END, IS_ANSWER_PER_ROW, "R", "failedUpdates"},
		{"the only row failed, as somebody else", USERS, 200,
			COUNTS(0, 1) FAILED("\"invalidEmails\":[\"zoe@x.com\"]") END,
		IS_ANSWER_PER_ROW, "R", "failedUpdates"},
		{"the only row is counted twice", USERS, 200, COUNTS(1, 1) END, IS_ANSWER_PER_ROW, "U", "unaccounted"},
		{"counts as doubles", USERS, 200, "{\"successCount\":4.0,\"failCount\":0e0}", IS_ANSWER_PER_ROW, "AAAA", NULL},

		{"no successCount", USERS, 200, "{\"failCount\":0}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"no failCount", USERS, 200, "{\"successCount\":4}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"count is text", USERS, 200, "{\"successCount\":\"4\",\"failCount\":0}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"count is null", USERS, 200, "{\"successCount\":4,\"failCount\":null}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"count is negative", USERS, 200, "{\"successCount\":4,\"failCount\":-0.5}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"count is no integer", USERS, 200, "{\"successCount\":3.5,\"failCount\":0.5}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
		{"count is huge", USERS, 200, "{\"successCount\":1e400,\"failCount\":0}", IS_ANSWER_UNKNOWN, "UUUU", "UnknownAnswer"},
	};

	check_cases(cases, lengthof(cases));

	read_answer(USERS, NROWS, 200, COUNTS(2, 2) END, strlen(COUNTS(2, 2) END));
	assert_int_equal(answer.success_count, 2);
	assert_int_equal(answer.fail_count, 2);
	assert_non_null(strstr(answer.message, "does not account for all rows"));
}

static void
fields(void **state)
{
	static const char body[] = COUNTS(4, 0)
		",\"createdFields\":[\"plan\",\"gr\\u00f6\\u00dfe\"],\"filteredOutFields\":[\"x.y\",7,\"bad\xff\"]" END;

	read_answer(USERS, NROWS, 200, body, sizeof(body) - 1);
	assert_int_equal(answer.kind, IS_ANSWER_PER_ROW);
	assert_int_equal(answer.created_fields.n, 2);
	assert_string_equal(answer.created_fields.names[0], "plan");
	assert_string_equal(answer.created_fields.names[1], "gr\xC3\xB6\xC3\x9F" "e");
	assert_int_equal(answer.filtered_fields.n, 1);
	assert_string_equal(answer.filtered_fields.names[0], "x.y");

	read_answer(USERS, NROWS, 200, COUNTS(4, 0) END, strlen(COUNTS(4, 0) END));
	assert_int_equal(answer.created_fields.n, 0);
	assert_int_equal(answer.filtered_fields.n, 0);
}

/* A thousand rows, all of them named in both forms: no quadratic search. */
static void
large_answer(void **state)
{
	enum
	{
		n = IS_MAX_BATCH_ROWS
	};
	static IsApiRow many[n];
	static char emails[n][40];
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"successCount\":0,\"failCount\":%d,\"invalidEmails\":[", n);
	for (int i = 0; i < n; i++)
	{
		snprintf(emails[i], sizeof(emails[i]), "User%d@Example.com", i);
		many[i].email = emails[i];
		appendStringInfo(&body, "%s\"user%d@example.com\"", i > 0 ? "," : "", i);
	}
	appendStringInfoString(&body, "],\"failedUpdates\":{\"invalidDataEmails\":[");
	for (int i = 0; i < n; i++)
		appendStringInfo(&body, "%s\"user%d@example.com\"", i > 0 ? "," : "", i);
	appendStringInfoString(&body, "]}}");

	for (int round = 0; round < 20; round++)
	{
		is_api_read_answer(USERS, 200, body.data, body.len, many, n, &answer);
		assert_int_equal(answer.kind, IS_ANSWER_PER_ROW);
		for (int i = 0; i < n; i++)
			assert_string_equal(many[i].class, "invalidDataEmails");
	}
	assert_int_equal(allocated, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_list),
		cmocka_unit_test(old_lists),
		cmocka_unit_test(matching),
		cmocka_unit_test(other_letters),
		cmocka_unit_test(new_identifier_is_a_key),
		cmocka_unit_test(counts),
		cmocka_unit_test(fields),
		cmocka_unit_test(large_answer),
	};

	count_memory();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
