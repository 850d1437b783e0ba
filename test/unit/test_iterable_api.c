/*-------------------------------------------------------------------------
 *
 * test_iterable_api.c
 *	  What each answer of Iterable's means for the rows of a request.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "iterable_api.h"

#define USERS IS_ENDPOINT_USERS_BULK_UPDATE
#define EVENTS IS_ENDPOINT_EVENTS_TRACK_BULK

/* The requests to which the answers below belong. */
static const IsApiRow user_rows[] = {
	{.email = "ann@x.com", .user_id = "A1"},
	{.email = "Bob@X.com", .data_email = "new@x.com"},
	{.user_id = "C3", .data_user_id = "C4"},
	{.email = "dan@x.com"},
};

static const IsApiRow event_rows[] = {
	{.email = "ann@x.com", .event_name = "buy"},
	{.email = "Bob@X.com", .event_name = "look"},
	{.user_id = "C3", .event_name = "buy"},
	{.email = "ANN@x.com", .user_id = "A1", .event_name = "look"},
};

#define NROWS 4

static IsApiRow rows[NROWS];

static IsApiAnswer answer;

/* libcjson's memory must be given back, whatever the answer is. */
static int	allocated = 0;

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

static void
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

static void
verdicts(int nrows, char *to)
{
	for (int i = 0; i < nrows; i++)
		*to++ = "ARSLGU"[rows[i].verdict];
	*to = '\0';
}

typedef struct Case
{
	const char *what;
	IsEndpoint	endpoint;
	int			status;
	const char *body;
	IsAnswerKind kind;
	const char *verdicts;		/* Accepted, Rejected, Later, aGain, Unknown */
	const char *class;			/* of the first row that is not accepted, or of
								 * the answer if no row has one */
} Case;

static void
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

/* counts and lists as they come today */
#define COUNTS(ok, bad) "{\"successCount\":" #ok ",\"failCount\":" #bad
#define FAILED(lists) ",\"failedUpdates\":{" lists "}"
#define END "}"

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
	read_answer(USERS, NROWS, 503, NULL, 0);
	assert_false(answer.rate_limited);
	read_answer(USERS, NROWS, 302, NULL, 0);
	assert_string_equal(answer.message, "redirect refused");
	assert_non_null(strstr(answer.hint, "base_url"));
}

#define CODE(code) "{\"msg\":\"something is wrong\",\"code\":\"" code "\",\"params\":null}"

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
	assert_null(answer.created_fields);
	read_answer(USERS, NROWS, 400, CODE("a b\\n<c>\\u00e9d'e"), strlen(CODE("a b\\n<c>\\u00e9d'e")));
	assert_string_equal(answer.code, "abcde");
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

static void
wrong_types_are_named(void **state)
{
	static const char body[] =
		"{\"msg\":\"Project 10216: The request does not have the same data types as the data previously submitted. "
		"Field 'signupDate' already exists for type 'user' and has a data type of 'date' but possible types 'string, keyword' in the request.\","
		"\"code\":\"RequestFieldsTypesMismatched\","
		"\"params\":{\"validationErrors\":{\"signupDate\":{\"incomingTypes\":[\"string\",\"keyword\"],\"expectedType\":\"date\","
		"\"_type\":\"UnexpectedType\",\"offendingValue\":\"GGG\",\"category\":\"user\"},"
		"\"my_project_etl:::age\":{\"offendingValue\":\"jane@x.com\"}}}}";

	read_answer(USERS, NROWS, 400, body, sizeof(body) - 1);
	assert_int_equal(answer.kind, IS_ANSWER_REJECTED);
	assert_string_equal(answer.message,
						"wrong type of signupDate which is date, my_project_etl:::age");
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

static void
fields(void **state)
{
	static const char body[] = COUNTS(4, 0)
		",\"createdFields\":[\"plan\",\"gr\\u00f6\\u00dfe\"],\"filteredOutFields\":[\"x.y\",7,\"bad\xff\"]" END;

	read_answer(USERS, NROWS, 200, body, sizeof(body) - 1);
	assert_int_equal(answer.kind, IS_ANSWER_PER_ROW);
	assert_string_equal(answer.created_fields, "plan, gr\xC3\xB6\xC3\x9F" "e");
	assert_string_equal(answer.filtered_fields, "x.y");

	read_answer(USERS, NROWS, 200, COUNTS(4, 0) END, strlen(COUNTS(4, 0) END));
	assert_null(answer.created_fields);
	assert_null(answer.filtered_fields);
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

/* Whatever comes, no crash, no lost memory, and nothing is accepted wrongly. */
static void
mutated_answers(void **state)
{
	static const char good[] = COUNTS(2, 2)
		",\"invalidEmails\":[\"bob@x.com\"],\"createdFields\":[\"a\"]"
		FAILED("\"invalidEmails\":[\"bob@x.com\"],\"notFoundUserIds\":[\"C3\"]") END;
	char		body[sizeof(good)];

	srandom(2026);
	for (int i = 0; i < 50000; i++)
	{
		size_t		len = sizeof(good) - 1;

		memcpy(body, good, sizeof(good));
		for (int changes = random() % 4; changes >= 0; changes--)
			body[random() % len] = "\"[]{}:,0e\\x\xff"[random() % 12];
		if (random() % 3 == 0)
			len = random() % len;
		read_answer(i % 2 ? USERS : EVENTS, NROWS, 200, body, len);
		read_answer(i % 2 ? USERS : EVENTS, NROWS, 400, body, len);
	}
}

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_list),
		cmocka_unit_test(old_lists),
		cmocka_unit_test(matching),
		cmocka_unit_test(new_identifier_is_a_key),
		cmocka_unit_test(counts),
		cmocka_unit_test(odd_bodies),
		cmocka_unit_test(each_status),
		cmocka_unit_test(each_code),
		cmocka_unit_test(bad_json_body),
		cmocka_unit_test(wrong_types_are_named),
		cmocka_unit_test(nothing_leaks),
		cmocka_unit_test(fields),
		cmocka_unit_test(user_look_up),
		cmocka_unit_test(large_answer),
		cmocka_unit_test(mutated_answers),
		cmocka_unit_test(envelopes),
	};
	cJSON_Hooks hooks = {count_malloc, count_free};

	cJSON_InitHooks(&hooks);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
