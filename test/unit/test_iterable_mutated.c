/*-------------------------------------------------------------------------
 *
 * test_iterable_mutated.c
 *	  Answers that were damaged on the way: whatever comes, no crash, no lost
 *	  memory, and no row passes for accepted that Iterable did not apply.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "answers.h"

#include "lib/stringinfo.h"

/* Damage at random, with nothing said of the outcome. */
static void
bytes(void **state)
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

/* ----------------------------------------------------------------
 * A request of random rows, what Iterable did with each, and one fault in
 * what it says of it
 * ----------------------------------------------------------------
 */

#define MAX_ROWS 12
#define MAX_LISTS 6

/* Identifiers of two rows differ in two bytes: one that is damaged is nobody's. */
static IsApiRow sent[MAX_ROWS];
static char emails[MAX_ROWS][32];
static char user_ids[MAX_ROWS][32];
static char names[MAX_ROWS][32];
static int	fates[MAX_ROWS];	/* list that names it, -1: applied */
static int	nsent;

/* By e-mail, by user id, and one by event name that need not be counted. */
static const char *const user_lists[MAX_LISTS] = {
	"invalidEmails", "conflictUserIds", "forgottenEmails", "notFoundUserIds",
	"invalidDataEmails", "invalidUserIds",
};
static const char *const event_lists[MAX_LISTS] = {
	"invalidEmails", "notFoundUserIds", "forgottenEmails", "forgottenUserIds",
	"notFoundEmails", "disallowedEventNames",
};

typedef enum Fault
{
	NO_FAULT,
	LOST_ENTRY,
	STRANGE_ENTRY,
	NO_TEXT,					/* for an entry */
	LOST_LIST,
	WRONG_COUNT,
	TRUNCATED,
	WRONG_BYTE,
	NFAULTS
} Fault;

static void
make_request(IsEndpoint endpoint)
{
	nsent = 1 + random() % MAX_ROWS;
	for (int i = 0; i < nsent; i++)
	{
		char		c = (char) ('a' + i);

		snprintf(emails[i], sizeof(emails[i]), "%c%c@x.com", pg_toupper(c), c);
		snprintf(user_ids[i], sizeof(user_ids[i]), "id-%c%c", c, c);
		snprintf(names[i], sizeof(names[i]), "name-%c%c", c, c);
		sent[i] = (IsApiRow) {.email = emails[i], .user_id = user_ids[i]};
		if (endpoint == EVENTS)
			sent[i].event_name = names[i];
		fates[i] = random() % 2 ? -1 : random() % MAX_LISTS;
	}
}

static bool
is_disallowed(IsEndpoint endpoint, int list)
{
	return endpoint == EVENTS && list == MAX_LISTS - 1;
}

/* What stands in a list for a row. */
static const char *
entry_of(IsEndpoint endpoint, int list, int row)
{
	if (is_disallowed(endpoint, list))
		return names[row];
	return strstr(list[endpoint == EVENTS ? event_lists : user_lists], "Emails") ?
		emails[row] : user_ids[row];
}

static void
append_list(StringInfo to, IsEndpoint endpoint, int list, int victim, Fault fault)
{
	bool		first = true;

	appendStringInfo(to, "\"%s\":[", list[endpoint == EVENTS ? event_lists : user_lists]);
	for (int i = 0; i < nsent; i++)
	{
		const char *entry;

		if (fates[i] != list || (i == victim && fault == LOST_ENTRY))
			continue;
		entry = entry_of(endpoint, list, i);
		appendStringInfoString(to, first ? "" : ",");
		first = false;
		if (i == victim && fault == STRANGE_ENTRY)
			appendStringInfoString(to, "\"somebody-else\"");
		else if (i == victim && fault == NO_TEXT)
			appendStringInfoString(to, random() % 2 ? "null" : "{\"email\":\"x\"}");
		else
			appendStringInfo(to, "\"%s\"", entry);
	}
	appendStringInfoChar(to, ']');
}

/* What Iterable says of the request; disallowed events count as failed or not at all. */
static void
make_answer(IsEndpoint endpoint, Fault fault, StringInfo body)
{
	bool		counts_disallowed = random() % 2;
	int			victim = -1;
	int			ok = 0;
	int			bad = 0;

	for (int i = 0; i < nsent; i++)
	{
		if (fates[i] < 0)
			ok++;
		else if (!is_disallowed(endpoint, fates[i]) || counts_disallowed)
			bad++;
		if (fates[i] >= 0 && (victim < 0 || random() % 2))
			victim = i;
	}
	if (fault == WRONG_COUNT)
		*(random() % 2 ? &ok : &bad) += random() % 2 ? 1 : -1;

	resetStringInfo(body);
	appendStringInfo(body, "{\"successCount\":%d,\"failCount\":%d,\"createdFields\":[\"plan\"]", ok, bad);
	if (endpoint == EVENTS && !(fault == LOST_LIST && victim >= 0 && is_disallowed(EVENTS, fates[victim])))
	{
		appendStringInfoChar(body, ',');
		append_list(body, EVENTS, MAX_LISTS - 1, victim, fault);
	}
	appendStringInfoString(body, ",\"failedUpdates\":{\"others\":[]");
	for (int list = 0; list < MAX_LISTS; list++)
	{
		if (is_disallowed(endpoint, list) ||
			(fault == LOST_LIST && victim >= 0 && fates[victim] == list))
			continue;
		appendStringInfoChar(body, ',');
		append_list(body, endpoint, list, victim, fault);
	}
	appendStringInfoString(body, "}}");

	if (fault == TRUNCATED)
		body->len = random() % body->len;
	else if (fault == WRONG_BYTE)
		body->data[random() % body->len] = (char) (1 + random() % 255);
}

static void
faults(void **state)
{
	StringInfoData body;
	int			accepted = 0;
	int			rejected = 0;

	initStringInfo(&body);
	srandom(2026);
	for (int round = 0; round < 100000; round++)
	{
		IsEndpoint	endpoint = round % 2 ? USERS : EVENTS;
		Fault		fault = round / 2 % NFAULTS;

		make_request(endpoint);
		make_answer(endpoint, fault, &body);
		is_api_read_answer(endpoint, 200, body.data, body.len, sent, nsent, &answer);
		assert_int_equal(allocated, 0);

		for (int i = 0; i < nsent; i++)
		{
			IsVerdict	verdict = sent[i].verdict;

			if (fates[i] >= 0 && verdict == IS_VERDICT_ACCEPTED)
				fail_msg("round %d, fault %d: row %d has failed and passes for accepted: %.*s",
						 round, fault, i, body.len, body.data);
			if (fates[i] < 0 && verdict != IS_VERDICT_ACCEPTED && verdict != IS_VERDICT_UNKNOWN)
				fail_msg("round %d, fault %d: row %d was applied and passes for failed: %.*s",
						 round, fault, i, body.len, body.data);
			if (fault == NO_FAULT && (verdict == IS_VERDICT_ACCEPTED) != (fates[i] < 0))
				fail_msg("round %d: row %d is not understood: %.*s", round, i, body.len, body.data);
			accepted += verdict == IS_VERDICT_ACCEPTED;
			rejected += verdict == IS_VERDICT_REJECTED;
		}
	}
	/* or nothing was tested */
	assert_true(accepted >= 50000);
	assert_true(rejected >= 50000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes),
		cmocka_unit_test(faults),
	};

	count_memory();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
