/*
 * emulator_units.c
 *		Tests of the parts that need no server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "identifiers.h"
#include "limits.h"
#include "merge.h"
#include "project.h"
#include "settings.h"

static void
emails_are_told_apart(void **state)
{
	static const char *const good[] = {
		"a@example.com", "A.B+c@sub.example.co.uk", "o'k@example.com",
		"x@xn--bcher-kva.example.com", "1@1.com", "a@b.email", "ü@example.com"
	};
	static const char *const bad[] = {
		"", "@", "a@", "@example.com", "a", "a@localhost", "a@example",
		"a b@example.com", " a@example.com", "a@example.com ", "a..b@example.com",
		".a@example.com", "a.@example.com", "a@-example.com", "a@example.c",
		"a@example.test", "a@x.invalid", "a@exa_mple.com", "a,b@example.com",
		"a@example.com.", "a@b@example.com",
		"12345678901234567890123456789012345678901234567890123456789012345@example.com"
	};

	(void) state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!email_is_valid(good[i]))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (email_is_valid(bad[i]))
			fail_msg("taken: %s", bad[i]);
}

static void
user_ids_are_told_apart(void **state)
{
	char		longest[54];

	(void) state;
	memset(longest, 'x', sizeof(longest));
	longest[52] = '\0';
	assert_true(user_id_is_valid("a"));
	assert_true(user_id_is_valid(" a~"));
	assert_true(user_id_is_valid(longest));
	longest[52] = 'x';
	longest[53] = '\0';
	assert_false(user_id_is_valid(longest));
	assert_false(user_id_is_valid(""));
	assert_false(user_id_is_valid("a "));
	assert_false(user_id_is_valid("a\tb"));
	assert_false(user_id_is_valid("\xc3\xbc"));
}

static void
dates_are_read(void **state)
{
	static const struct
	{
		const char *text;
		const char *moment;		/* NULL: not a date */
	}			cases[] = {
		{"2020-04-13", "2020-04-13 00:00:00 +00:00"},
		{"2020-02-29 23:59:59", "2020-02-29 23:59:59 +00:00"},
		{"2020-04-13 13:37:19 -04:00", "2020-04-13 17:37:19 +00:00"},
		{"2020-04-13 13:37:19 -00:00", "2020-04-13 13:37:19 +00:00"},
		{"2020-04-13T13:37:19.039+05:30", "2020-04-13 08:07:19 +00:00"},
		{"2020-04-13T13:37:19.039Z", "2020-04-13 13:37:19 +00:00"},
		{"1969-12-31 23:59:59", "1969-12-31 23:59:59 +00:00"},
		{"2024-11-25T13:37:19.039", NULL},
		{"2024-11-25T13:37:19.039 00:00", NULL},
		{"2024-11-25T13:37:19Z", NULL},
		{"2024-11-25T13:37:19+00:00", NULL},
		{"2024/11/25", NULL},
		{"2024-11-25 13:37:19.039Z", NULL},
		{"2020-04-13 13:37:19.039", NULL},
		{"2020-04-13 13:37:19 00:00", NULL},
		{"2020-04-13 13:37:19+00:00", NULL},
		{"2020-04-13 13:37", NULL},
		{"2021-02-29", NULL},
		{"2020-13-01", NULL},
		{"2020-04-13 24:00:00", NULL},
		{"2020-04-13 ", NULL},
		{"20200413", NULL},
		{"", NULL},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char		text[DATE_TEXT_SIZE];
		int64_t		seconds;
		bool		is_date = date_parse(cases[i].text, strlen(cases[i].text),
										 &seconds);

		if (is_date != (cases[i].moment != NULL))
			fail_msg("wrong about %s", cases[i].text);
		if (!is_date)
			continue;
		date_format(seconds, text);
		assert_string_equal(text, cases[i].moment);
	}
}

static void
json_is_read_strictly(void **state)
{
	static const char *const good[] = {
		"{}", " [ 1 , -0.5e+3 ,\n\"\\u00e9\\\"\" , null ] ", "\"\xc3\xa9\"",
		"0", "{\"a\":{\"a\":[]}}", "\"\xf0\x9f\x98\x80\""
	};
	static const char *const bad[] = {
		"", "{", "{}x", "[1,]", "[01]", "[1.]", "[.5]", "[+1]", "[1e]", "NaN",
		"[Infinity]", "{a:1}", "\"\t\"", "\"\\x\"", "\"\\u00g0\"", "\"\xff\"",
		"\"\xc0\x80\"", "\"\xed\xa0\x80\"", "{\"a\" 1}", "'a'", "tru", "[1\v]",
		"[1]\f", "\xef\xbb\xbf{}"
	};

	(void) state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		if (json_open(good[i], strlen(good[i])).root == NULL)
			fail_msg("refused: %s", good[i]);
		json_close();
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		if (json_open(bad[i], strlen(bad[i])).root != NULL)
			fail_msg("taken: %s", bad[i]);
		json_close();
	}
}

static void
values_have_their_text(void **state)
{
	const char *text = "{ \"n\" : 9007199254740993 , \"s\":\"\\u0041\",\"d\":1.50}";
	Document	document = json_open(text, strlen(text));
	const cJSON *n = json_member(document.root, "n");
	const char *raw;
	size_t		len;

	(void) state;
	assert_true(json_is_integer(&document, n));
	assert_true(json_integer(&document, n) == INT64_C(9007199254740993));
	raw = json_raw(&document, json_member(document.root, "s"), &len);
	assert_int_equal(len, 8);
	assert_memory_equal(raw, "\"\\u0041\"", len);
	assert_false(json_is_integer(&document, json_member(document.root, "d")));
	json_close();
}

/* merges both texts, of which the second comes in by a request */
static void
check_merge(const char *existing, const char *incoming, bool merge_nested,
			const char *expected)
{
	Document	document;
	FieldCheck	check = {.document = &document};
	char	   *first;
	char	   *second;

	fields_reset();
	document = json_open(existing, strlen(existing));
	assert_true(fields_check(&check, fields_profile_root(), document.root, true));
	first = merge_data(NULL, &document, document.root, fields_profile_root(), false);
	json_close();
	document = json_open(incoming, strlen(incoming));
	assert_true(fields_check(&check, fields_profile_root(), document.root, true));
	second = merge_data(first, &document, document.root, fields_profile_root(),
						merge_nested);
	json_close();
	assert_string_equal(second, expected);
	free(first);
	free(second);
	fields_check_free(&check);
}

static void
data_is_merged(void **state)
{
	(void) state;
	check_merge("{}", "{}", false, "{}");
	check_merge("{\"a\":1}", "{\"b\":2}", false, "{\"a\":1,\"b\":2}");
	check_merge("{\"a\":1,\"b\":2}", "{\"a\":null}", false, "{\"b\":2}");
	check_merge("{\"a\":1}", "{\"a\":null}", false, "{}");
	check_merge("{\"a\":1}", "{\"a\":2,\"a\":3}", false, "{\"a\":3}");
	check_merge("{\"a\":1,\"b\":2,\"c\":3}", "{\"c\":9,\"a\":8}", false,
				"{\"a\":8,\"b\":2,\"c\":9}");
	check_merge("{\"q\\\"}\":\"]\\\\\",\"b\":[\"}\",\"{\"]}", "{\"q\\\"}\":\"\\\"\"}",
				false, "{\"q\\\"}\":\"\\\"\",\"b\":[\"}\",\"{\"]}");
	check_merge("{\"o\":{\"a\":1,\"b\":2}}", "{\"o\":{\"b\":3}}", false,
				"{\"o\":{\"b\":3}}");
	check_merge("{\"z\":0,\"o\":{\"a\":1,\"b\":{\"x\":1,\"y\":2}},\"l\":[1,2]}",
				"{\"o\":{\"a\":null,\"b\":{\"x\":3},\"c\":4},\"l\":[3]}", true,
				"{\"z\":0,\"o\":{\"b\":{\"x\":3},\"c\":4},\"l\":[3]}");
	check_merge("{\"o\":{\"a\":1}}", "{\"o\":{\"a\":null}}", true, "{\"o\":{}}");
	check_merge("{\"n\":1.50}", "{\"m\": 9007199254740993 , \"email\":\"x\"}", false,
				"{\"n\":1.50,\"m\":9007199254740993}");
	check_merge("{\"p_geo_location\":{\"lat\": 1, \"lon\":2}}", "{}", false,
				"{\"p_geo_location\":{\"lat\":1,\"lon\":2}}");
}

static void
windows_slide(void **state)
{
	int64_t		now = NS_PER_SECOND;

	(void) state;
	settings.users_rate = 2;
	assert_false(limits_arrive(ROUTE_BULK_UPDATE, now));
	assert_false(limits_arrive(ROUTE_BULK_UPDATE, now + 400 * NS_PER_MS));
	assert_true(limits_arrive(ROUTE_BULK_UPDATE, now + 999 * NS_PER_MS));
	/* the first is out of the window exactly one second later */
	assert_false(limits_arrive(ROUTE_BULK_UPDATE, now + 1000 * NS_PER_MS));
	assert_true(limits_arrive(ROUTE_BULK_UPDATE, now + 1399 * NS_PER_MS));
	assert_false(limits_arrive(ROUTE_BULK_UPDATE, now + 1400 * NS_PER_MS));
	assert_int_equal(limits_most(ROUTE_BULK_UPDATE), 4);
	settings.users_rate = 0;
	for (int i = 0; i < 1000; i++)
		assert_false(limits_arrive(ROUTE_TRACK_BULK + 2, now));
	limits_reset();
	assert_int_equal(limits_most(ROUTE_BULK_UPDATE), 0);
}

static void
users_are_found(void **state)
{
	User	   *one;
	User	   *two;

	(void) state;
	project_reset();
	one = user_create("a@example.com", "same");
	two = user_create("b@example.com", "same");
	assert_ptr_equal(users_by_email("a@example.com"), one);
	assert_null(users_by_email("A@example.com"));
	assert_non_null(users_by_id("same"));
	assert_non_null(users_next_by_id(users_by_id("same")));
	user_set_id(one, "other");
	assert_ptr_equal(users_by_id("same"), two);
	assert_null(users_next_by_id(two));
	event_create("e1", one, fields_event_root("e"));
	event_set_user(event_by_id("e1"), two);
	assert_null(one->events);
	user_delete(two);
	assert_null(event_by_id("e1"));
	assert_int_equal(users_count(), 1);
	for (int i = 0; i < 10000; i++)
	{
		char		email[32];

		snprintf(email, sizeof(email), "u%d@example.com", i);
		user_create(email, NULL);
	}
	assert_int_equal(users_count(), 10001);
	assert_non_null(users_by_email("u9999@example.com"));
	project_reset();
	assert_int_equal(users_count(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(emails_are_told_apart),
		cmocka_unit_test(user_ids_are_told_apart),
		cmocka_unit_test(dates_are_read),
		cmocka_unit_test(json_is_read_strictly),
		cmocka_unit_test(values_have_their_text),
		cmocka_unit_test(data_is_merged),
		cmocka_unit_test(windows_slide),
		cmocka_unit_test(users_are_found),
	};
	int			failed;

	json_setup();
	settings_defaults();
	project_reset();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	project_reset();
	json_thread_end();
	return failed;
}
