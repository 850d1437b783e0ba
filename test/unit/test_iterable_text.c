/*-------------------------------------------------------------------------
 *
 * test_iterable_text.c
 *	  Identifiers, paths, and what of a message may be shown.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "iterable_api.h"

/* assert_in_range() has another name in newer versions of cmocka */
static void
assert_between(long value, long least, long most)
{
	assert_true(value >= least && value <= most);
}

#define A10 "aaaaaaaaaa"
#define A50 A10 A10 A10 A10 A10

static void
good_emails(void **state)
{
	static const char *const emails[] = {
		"a@b.co",
		"first.last+tag@sub.example.com",
		"o'neil@example.ie",
		"UPPER@EXAMPLE.COM",
		"!#$%&'*+-/=?^_`{|}~@example.org",
		"\"quoted\"@example.com",
		"\"with blank\"@example.com",
		"\"with @ sign\"@example.com",
		"\"quo\\\"te\"@example.com",
		"\"a\".b.\"c\"@example.com",
		"escaped\\@at@example.com",
		"1@1.de",
		"x@xn--bcher-kva.example",
		"x@b\xC3\xBC" "cher.de",
		"j\xC3\xBCrgen@example.de",
		"x@example.xn--p1ai",
		"x@\xD0\xBF\xD1\x80\xD0\xB8.\xD1\x80\xD1\x84",
		"x@a-b.c-d.museum",
		"x@[127.0.0.1]",
		"x@[IPv6:::1]",
		A50 A10 "aaaa@example.com",
		/* 40 characters of two bytes */
		"\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC"
		"\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC"
		"\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC"
		"\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC\xC3\xBC"
		"@example.com",
	};

	for (size_t i = 0; i < lengthof(emails); i++)
	{
		const char *reason = is_api_check_email(emails[i]);

		if (reason != NULL)
			fail_msg("\"%s\" was refused: %s", emails[i], reason);
	}
}

static void
bad_emails(void **state)
{
	static const char *const emails[] = {
		"",
		" ",
		"@",
		"a",
		"a@",
		"@b.co",
		"a@b",
		"a@.co",
		"a@b.",
		"a@b.co.",
		"a@b..co",
		"a@-b.co",
		"a@b-.co",
		"a@b_c.co",
		"a@b.c",
		"a@b.1co",
		"a@b.12",
		"a b@c.de",
		" a@b.co",
		"a@b.co ",
		"a@b .co",
		"a@b.co\n",
		"a\t@b.co",
		"a\x7f@b.co",
		"a\x01@b.co",
		".a@b.co",
		"a.@b.co",
		"a..b@b.co",
		"a@b@c.de",
		"a,b@c.de",
		"a;b@c.de",
		"a:b@c.de",
		"a(b)@c.de",
		"a<b>@c.de",
		"Name <a@b.co>",
		"a[b]@c.de",
		"\"open@c.de",
		"\"a\"b@c.de",
		"a\"b\"@c.de",
		"\"tab\t\"@c.de",
		"a\\@c.de",
		"x@[127.0.0.256]",
		"x@[127.0.0.1",
		"x@[]",
		"x@[example.com]",
		"a@b.co,c@d.co",
		"mailto:a@b.co",
		A50 A10 "aaaaa@example.com",
		"a@" A50 A10 "aaaa.com",
		"a@" A50 "." A50 "." A50 "." A50 "." A50 ".com",
	};

	for (size_t i = 0; i < lengthof(emails); i++)
	{
		const char *reason = is_api_check_email(emails[i]);

		if (reason == NULL)
			fail_msg("\"%s\" was taken", emails[i]);
		/* the reason must not repeat what was refused */
		if (strlen(emails[i]) > 4)
			assert_null(strstr(reason, emails[i]));
	}
}

/* Iterable keeps addresses in lower case. */
static void
folding(void **state)
{
	assert_string_equal(is_api_fold_email("J.Doe+X@Example.COM"), "j.doe+x@example.com");
	assert_string_equal(is_api_fold_email("J\xC3\x9CRGEN@Stra\xC3\x9F" "e.de"), "j\xC3\xBCrgen@stra\xC3\x9F" "e.de");
	assert_string_equal(is_api_fold_email("\xCE\x91\xD0\x94@X.gr"), "\xCE\xB1\xD0\xB4@x.gr");
	/* of another length: Kelvin sign, A with stroke */
	assert_string_equal(is_api_fold_email("\xE2\x84\xAA\xC8\xBA"), "k\xE2\xB1\xA5");
	/* not UTF-8, and cut off */
	assert_string_equal(is_api_fold_email("A\xFF" "B\xC3"), "a\xFF" "b\xC3");
	assert_string_equal(is_api_fold_email("\xF0\x9F\x98"), "\xF0\x9F\x98");
	assert_string_equal(is_api_fold_email(""), "");
}

static void
user_ids(void **state)
{
	assert_null(is_api_check_user_id("1"));
	assert_null(is_api_check_user_id("user/123 + x"));
	assert_null(is_api_check_user_id(" leading"));
	assert_null(is_api_check_user_id(A50 "12"));

	assert_non_null(is_api_check_user_id(""));
	assert_non_null(is_api_check_user_id(" "));
	assert_non_null(is_api_check_user_id("trailing "));
	assert_non_null(is_api_check_user_id("tab\tinside"));
	assert_non_null(is_api_check_user_id("line\n"));
	assert_non_null(is_api_check_user_id("del\x7f"));
	assert_non_null(is_api_check_user_id("j\xC3\xBCrgen"));
	assert_non_null(is_api_check_user_id(A50 "123"));
}

static void
paths(void **state)
{
	assert_string_equal(is_api_user_path("test+user@example.com", NULL),
						"/api/users/test%2Buser%40example.com");
	assert_string_equal(is_api_user_path(NULL, "user/123"),
						"/api/users/byUserId/user%2F123");
	assert_string_equal(is_api_user_path(NULL, ".."),
						"/api/users/byUserId/%2E%2E");
	assert_string_equal(is_api_user_path("a?b#c%d&e@x.de", NULL),
						"/api/users/a%3Fb%23c%25d%26e%40x.de");
	assert_string_equal(is_api_user_path("j\xC3\xBC@x.de", NULL),
						"/api/users/j%C3%BC%40x.de");
	assert_string_equal(is_api_events_path("a@b.co", NULL, 30),
						"/api/events/a%40b.co?limit=30");
	assert_string_equal(is_api_events_path(NULL, "U 1", 1000),
						"/api/events/byUserId/U%201?limit=200");
	assert_string_equal(is_api_events_path(NULL, "U", 0),
						"/api/events/byUserId/U?limit=1");
}

/* Messages of Iterable's, and what is left of them. */
static void
redaction(void **state)
{
	static const struct
	{
		const char *text;
		const char *shown;
	}			cases[] = {
		{"", ""},
		{"Invalid API key", "Invalid API key"},
		{"Disabled API key or insufficient privileges", "Disabled API key or insufficient privileges"},
		{"Either email or userId must be specified in a track call",
			"Either email or userId must be specified in a track call"},
		{"Exceeded rate limit for endpoint: /api/export/data.csv, project: 8575 ",
			"Exceeded rate limit for endpoint: /api/export/data.csv, project: 8575"},
		{"Project 9434: The request would increase the number of object fields to 19434 by adding [secret, jane], which exceeds the limit of 15000",
			"Project 9434: The request would increase the number of object fields to 19434 by adding ... which exceeds the limit of 15000"},
		{"[/api/users/bulkUpdate] Invalid JSON body", "... Invalid JSON body"},

		{"Invalid email: sayan", "Invalid email:"},
		{"Invalid email: jane doe", "Invalid email:"},
		{"Invalid email: foo@", "Invalid email:"},
		{"Invalid email:foo", "Invalid email:"},
		{"Invalid email=foo bar", "Invalid email="},
		{"Invalid email:\"jane doe smith\" here", "Invalid email:"},
		{"Invalid currentEmail sayan", "Invalid currentEmail ..."},
		{"No users with userId 42 exist", "No users with userId ... exist"},
		{"User does not exist. Email:  UserId: rudder2", "User does not exist. Email:"},
		{"user jane@example.com is gone", "user ... is gone"},
		{"gone: jane@example.com", "gone: ..."},
		{"gone: jane%40example.com", "gone: ..."},
		{"Emails invalid: ", "Emails invalid:"},
		{"Either email or userId must be set: ApiUserUpdateRequest(Some(jane),None)",
			"Either email or userId must be set: ApiUserUpdateRequest ..."},
		{"Field 'signupDate' already exists for type 'user' and is a 'date'",
			"Field ... already exists for type ... and is a ..."},
		{"the value \"Jane Doe\" isn't a date", "the value ... isn't a date"},
		{"the value 'Jane O'Neil' isn't a date", "the value ... isn't a date"},
		{"the value `x y` is bad", "the value ... is bad"},
		{"unclosed 'Jane Doe", "unclosed ..."},
		{"call 4915112345678 failed", "call ... failed"},
		{"key 0123456789abcdef0123456789abcdef is disabled", "key ... is disabled"},
		{"token a1b2c3d4e5f6a7b8 is bad", "token ... is bad"},
		{"user Jane Doe Smith is gone", "user ... is gone"},
		{"Herr J\xC3\xBCrgen fehlt", "Herr ... fehlt"},
		{"first line\nApi-Key: 123", "first line"},
		{"first line\r\nApi-Key: 123", "first line"},
		{"Invalid JSON body: {\"users\":[{\"email\":\"x\"}]}", "Invalid JSON"},
		{"Invalid JSON body Headers: Host,Api-Key -> abc", "Invalid JSON body"},
		{"failed, Api-Key,abcdefgh", "failed,"},
		{"failed with api_key abcdefgh", "failed with"},
		{"<html><body>x</body>", ""},
		{"\\x41", ""},
		{"a\x01" "b c", "... c"},
	};

	int			wrong = 0;

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		char		shown[256];

		is_api_redact(cases[i].text, NULL, 0, shown, sizeof(shown));
		if (strcmp(shown, cases[i].shown) != 0)
		{
			print_error("\"%s\" became \"%s\", not \"%s\"\n", cases[i].text, shown,
						cases[i].shown);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

/* Words of the rows that were sent are theirs, wherever they stand. */
static void
redaction_of_echoes(void **state)
{
	static const char *const payloads[] = {
		"{\"userId\":\"U-17\",\"dataFields\":{\"plan\":\"gold\",\"note\":\"so \\\"called\\\" Jane Doe\",\"age\":47}}",
		"{\"userId\":\"x\",\"dataFields\":{\"request\":null,\"list\":[\"one\",\"is\"]}}",
	};
	static const struct
	{
		const char *text;
		const char *shown;
	}			cases[] = {
		{"Contact U-17 is forgotten", "Contact ... is forgotten"},
		{"Jane is no date", "... is no date"},
		{"called and Doe", "... and ..."},
		{"Janet Do is 4 of 470", "Janet Do is 4 of 470"},
		{"plan must not be gold at 47", "plan must not be ... at ..."},
		{"the request has one note", "the request has ... note"},
	};
	IsApiRow	sent[3] = {{.email = NULL}};

	for (int i = 0; i < 2; i++)
	{
		sent[i].payload = payloads[i];
		sent[i].payload_len = strlen(payloads[i]);
	}
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		char		shown[256];

		is_api_redact(cases[i].text, sent, 3, shown, sizeof(shown));
		assert_string_equal(shown, cases[i].shown);
	}
}

static void
redaction_of_long_texts(void **state)
{
	char		text[10000];
	char		shown[256];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 5 == 4 ? ' ' : 'a';
	text[sizeof(text) - 1] = '\0';
	is_api_redact(text, NULL, 0, shown, sizeof(shown));
	assert_between(strlen(shown), 150, 200);

	for (size_t size = 1; size < 30; size++)
	{
		memset(shown, 'x', sizeof(shown));
		is_api_redact("a bc def ghij 'klmno' pq", NULL, 0, shown, size);
		assert_true(strlen(shown) < size);
		assert_true(shown[size] == 'x');
	}

	memset(text, 'a', sizeof(text) - 1);
	is_api_redact(text, NULL, 0, shown, sizeof(shown));
	assert_string_equal(shown, "...");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_emails),
		cmocka_unit_test(bad_emails),
		cmocka_unit_test(folding),
		cmocka_unit_test(user_ids),
		cmocka_unit_test(paths),
		cmocka_unit_test(redaction),
		cmocka_unit_test(redaction_of_echoes),
		cmocka_unit_test(redaction_of_long_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
