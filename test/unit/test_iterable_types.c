/*-------------------------------------------------------------------------
 *
 * test_iterable_types.c
 *	  Which rows hold the value that Iterable refuses for its type.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "answers.h"

#include "iterable_json.h"

#define NOBODY IS_ANSWER_REJECTED, "UUUU"
#define FIELD(name, type, value) \
	"\"" name "\":{\"incomingTypes\":[\"x\"],\"expectedType\":\"" type "\",\"_type\":\"UnexpectedType\"," \
	"\"offendingValue\":" value ",\"category\":\"user\"}"

typedef struct Mismatch
{
	const char *what;
	IsEndpoint	endpoint;
	const char *values[NROWS];	/* dataFields.f of each row */
	const char *errors;			/* members of validationErrors */
	IsAnswerKind kind;
	const char *verdicts;
} Mismatch;

static const Mismatch mismatches[] = {
	{"a text that is no date", USERS, {"\"2024-01-02\"", "\"GGG\"", "\"GGG\"", "\"other\""},
		FIELD("f", "date", "\"GGG\""), IS_ANSWER_PER_ROW, "GRRR"},
	{"a text that looks like a date", USERS, {"\"2024-01-02\"", "\"2024-01-02T03:04:05Z\"", "\"2024-01-02\"", "null"},
		FIELD("f", "date", "\"2024-01-02T03:04:05Z\""), IS_ANSWER_PER_ROW, "GRGG"},
	{"a text for a number", USERS, {"1", "\"red\"", "\"12\"", "\"blue\""},
		FIELD("f", "long", "\"red\""), IS_ANSWER_PER_ROW, "GRGR"},
	{"a text that is a number", USERS, {"1", "\"red\"", "\"12\"", "\"13\""},
		FIELD("f", "double", "\"12\""), IS_ANSWER_PER_ROW, "GGRG"},
	{"a fraction for a long", USERS, {"1", "1.5", "2", "2.5"}, FIELD("f", "long", "2.5"), IS_ANSWER_PER_ROW, "GRGR"},
	{"10.0 for a long, and 10", USERS, {"10", "10.0", "2", "3"}, FIELD("f", "long", "10.0"), NOBODY},
	{"a number for a text", USERS, {"1", "\"x\"", "2", "true"}, FIELD("f", "string", "1"), IS_ANSWER_PER_ROW, "RGRG"},
	{"a number for a date", USERS, {"1", "\"2024-01-02\"", "2", "3"}, FIELD("f", "date", "1"), NOBODY},
	{"a boolean for a text", USERS, {"1", "\"x\"", "true", "false"}, FIELD("f", "keyword", "true"), IS_ANSWER_PER_ROW, "GGRR"},
	{"a text for a boolean", USERS, {"true", "\"x\"", "\"True\"", "1"}, FIELD("f", "boolean", "\"y\""), IS_ANSWER_PER_ROW, "GRGG"},
	{"an object for a text", USERS, {"{\"a\":1}", "\"x\"", "[{\"b\":2}]", "{}"},
		FIELD("f", "string", "{\"a\":1}"), IS_ANSWER_PER_ROW, "RGRR"},
	{"a text for an object", USERS, {"{\"a\":1}", "\"x\"", "[{\"b\":2}]", "{}"},
		FIELD("f", "object", "\"x\""), IS_ANSWER_PER_ROW, "GRGG"},
	{"an object for a place", USERS, {"{\"lat\":1}", "{\"lat\":1,\"lon\":2}", "{}", "null"},
		FIELD("f", "geo_location", "{\"lat\":1}"), NOBODY},
	{"in an array", USERS, {"[1,2]", "[1,\"red\"]", "[]", "[[\"blue\"]]"}, FIELD("f", "long", "\"red\""), IS_ANSWER_PER_ROW, "GRGR"},
	{"in an object", USERS, {"{\"a\":{\"b\":\"red\"}}", "{\"a\":{\"b\":1}}", "{\"a\":\"red\"}", "{\"b\":\"red\"}"},
		FIELD("f.a.b", "long", "\"red\""), IS_ANSWER_PER_ROW, "RGGG"},
	{"in the objects of an array", USERS, {"[{\"b\":1},{\"b\":\"red\"}]", "[{\"b\":1}]", "{\"b\":\"blue\"}", "[]"},
		FIELD("f.b", "long", "\"red\""), IS_ANSWER_PER_ROW, "RGRG"},
	{"a name with a dot", USERS, {"{\"a.b\":\"red\"}", "{\"a\":{\"b\":\"red\"}}", "{\"a.b.c\":\"red\"}", "{\"a.\":\"red\"}"},
		FIELD("f.a.b", "long", "\"red\""), IS_ANSWER_PER_ROW, "RRGG"},
	{"a prefix", USERS, {"\"red\"", "1", "1", "1"}, FIELD("my_project_etl:::f", "long", "\"red\""), IS_ANSWER_PER_ROW, "RGGG"},
	{"two fields", USERS, {"\"red\"", "1.5", "{\"a\":true}", "1"},
		FIELD("f", "long", "\"red\"") "," FIELD("f.a", "string", "true"), IS_ANSWER_PER_ROW, "RGRG"},
	{"nobody has it", USERS, {"1", "2", "3", "4"}, FIELD("f", "long", "\"red\""), NOBODY},
	{"another field", USERS, {"\"red\"", "2", "3", "4"}, FIELD("ff", "long", "\"red\""), NOBODY},
	{"a type that came later", USERS, {"\"red\"", "\"blue\"", "3", "4"}, FIELD("f", "color", "\"red\""), IS_ANSWER_PER_ROW, "RGGG"},
	{"no value", USERS, {"\"red\"", "2", "3", "4"}, "\"f\":{\"expectedType\":\"long\"}", NOBODY},
	{"null", USERS, {"null", "2", "3", "4"}, FIELD("f", "long", "null"), NOBODY},
	{"no type", USERS, {"\"red\"", "2", "3", "4"}, "\"f\":{\"offendingValue\":\"red\"}", NOBODY},
	{"no object", USERS, {"\"red\"", "2", "3", "4"}, "\"f\":\"red\"", NOBODY},
	{"no name", USERS, {"\"red\"", "2", "3", "4"}, FIELD("", "long", "\"red\""), NOBODY},
	{"events of one name", EVENTS, {"\"red\"", "1", "1", "1"}, FIELD("f", "long", "\"red\""), IS_ANSWER_PER_ROW, "RGGG"},
};

static char payloads[NROWS][500];

static void
mismatch(const Mismatch *m, const char *const *event_names)
{
	char		body[2000];

	snprintf(body, sizeof(body), "{\"code\":\"RequestFieldsTypesMismatched\",\"msg\":\"x\",\"params\":{\"validationErrors\":{%s}}}",
			 m->errors);
	for (int i = 0; i < NROWS; i++)
	{
		snprintf(payloads[i], sizeof(payloads[i]), "{\"email\":\"red\",\"f\":\"red\",\"dataFields\":{\"g\":\"red\",\"f\":%s}}", m->values[i]);
		rows[i] = (IsApiRow) {.email = "red", .payload = payloads[i], .payload_len = strlen(payloads[i])};
		if (m->endpoint == EVENTS)
			rows[i].event_name = event_names[i];
	}
	is_api_read_answer(m->endpoint, 400, body, strlen(body), rows, NROWS, &answer);
	assert_int_equal(allocated, 0);
}

static void
values(void **state)
{
	static const char *const names[] = {"buy", "buy", "buy", "buy"};
	int			wrong = 0;

	for (size_t i = 0; i < lengthof(mismatches); i++)
	{
		const Mismatch *m = &mismatches[i];
		char		got[NROWS + 1];

		mismatch(m, names);
		verdicts(NROWS, got);
		if (answer.kind != m->kind || strcmp(got, m->verdicts) != 0)
		{
			print_error("%s: kind %d not %d, verdicts %s not %s\n", m->what, answer.kind, m->kind, got, m->verdicts);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

/* The same field of another event may well have another type. */
static void
event_names(void **state)
{
	static const char *const names[] = {"buy", "look", "buy", "buy"};
	Mismatch	m = {"", EVENTS, {"\"red\"", "\"red\"", "1", "2"}, FIELD("f", "long", "\"red\""), NOBODY};

	mismatch(&m, names);
	assert_int_equal(answer.kind, IS_ANSWER_REJECTED);
	for (int i = 0; i < NROWS; i++)
		assert_int_equal(rows[i].verdict, IS_VERDICT_UNKNOWN);
}

/* Payloads that are no JSON, or not at hand, are nobody's fault. */
static void
odd_payloads(void **state)
{
	static const char body[] = "{\"code\":\"RequestFieldsTypesMismatched\",\"params\":{\"validationErrors\":{"
		FIELD("f", "long", "\"red\"") "}}}";

	for (int i = 0; i < NROWS; i++)
		rows[i] = (IsApiRow) {.email = "a@b.co"};
	rows[1].payload = "{\"dataFields\":{\"f\":\"red\"";
	rows[1].payload_len = strlen(rows[1].payload);
	rows[2].payload = "{\"dataFields\":[\"red\"]}";
	rows[2].payload_len = strlen(rows[2].payload);
	is_api_read_answer(USERS, 400, body, sizeof(body) - 1, rows, NROWS, &answer);
	assert_int_equal(answer.kind, IS_ANSWER_REJECTED);
	assert_string_equal(answer.message, "wrong type of f which is long");
	assert_int_equal(allocated, 0);
}

static void
names_are_shown(void **state)
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(event_names),
		cmocka_unit_test(odd_payloads),
		cmocka_unit_test(names_are_shown),
	};

	count_memory();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
