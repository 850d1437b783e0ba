/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Canonical texts of keys.
 *
 * The text of a column is what a cast to text gives in a session with
 * DateStyle ISO, TimeZone UTC, and numbers without trailing zeros.  A key of
 * several columns reads like json_build_array(a::text, b::text)::text, so
 * that keys can be joined to their rows in SQL.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "key.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"

bool
is_key_type_ok(Oid type, Oid collation)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case BOOLOID:
		case UUIDOID:
		case NUMERICOID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return true;
		case TEXTOID:
		case VARCHAROID:
			/* equal strings of other collations may differ in their bytes */
			return OidIsValid(collation) &&
				get_collation_isdeterministic(collation);
		default:
			return get_typtype(type) == TYPTYPE_ENUM;
	}
}

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

/* Equal numerics may have different scales: 1.0 and 1.00. */
static void
append_numeric(StringInfo buf, Datum value)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, value));
	int			len = strlen(text);

	if (strchr(text, '.') != NULL)
	{
		while (text[len - 1] == '0')
			len--;
		if (text[len - 1] == '.')
			len--;
	}
	appendBinaryStringInfo(buf, text, len);
	pfree(text);
}

static void
append_date(StringInfo buf, DateADT date)
{
	char		text[MAXDATELEN + 1];
	struct pg_tm tm;

	if (DATE_NOT_FINITE(date))
		EncodeSpecialDate(date, text);
	else
	{
		j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
		EncodeDateOnly(&tm, USE_ISO_DATES, text);
	}
	appendStringInfoString(buf, text);
}

static void
append_timestamp(StringInfo buf, Timestamp timestamp, bool with_zone)
{
	char		text[MAXDATELEN + 1];
	struct pg_tm tm;
	fsec_t		fsec;

	if (TIMESTAMP_NOT_FINITE(timestamp))
		EncodeSpecialTimestamp(timestamp, text);
	else
	{
		/* Without a zone to rotate into, it stays in UTC. */
		if (timestamp2tm(timestamp, NULL, &tm, &fsec, NULL, NULL) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
					 errmsg("timestamp out of range")));
		tm.tm_isdst = 0;
		EncodeDateTime(&tm, fsec, with_zone, 0, NULL, USE_ISO_DATES, text);
	}
	appendStringInfoString(buf, text);
}

/* Types whose text never needs escapes in JSON. */
static void
append_plain(StringInfo buf, Oid type, Datum value)
{
	char		digits[MAXINT8LEN + 1];
	char	   *text;

	switch (type)
	{
		case INT2OID:
			pg_ltoa(DatumGetInt16(value), digits);
			appendStringInfoString(buf, digits);
			break;
		case INT4OID:
			pg_ltoa(DatumGetInt32(value), digits);
			appendStringInfoString(buf, digits);
			break;
		case INT8OID:
			pg_lltoa(DatumGetInt64(value), digits);
			appendStringInfoString(buf, digits);
			break;
		case BOOLOID:
			appendStringInfoString(buf, DatumGetBool(value) ? "true" : "false");
			break;
		case UUIDOID:
			text = DatumGetCString(DirectFunctionCall1(uuid_out, value));
			appendStringInfoString(buf, text);
			pfree(text);
			break;
		case NUMERICOID:
			append_numeric(buf, value);
			break;
		case DATEOID:
			append_date(buf, DatumGetDateADT(value));
			break;
		case TIMESTAMPOID:
			append_timestamp(buf, DatumGetTimestamp(value), false);
			break;
		case TIMESTAMPTZOID:
			append_timestamp(buf, DatumGetTimestampTz(value), true);
			break;
		default:
			elog(ERROR, "type %u cannot be a key", type);
	}
}

/* Else a string: text, varchar, or an enum, whose OID is a user's. */
static bool
is_plain(Oid type)
{
	return type != TEXTOID && type != VARCHAROID && type < FirstNormalObjectId;
}

static char *
string_of(Oid type, Datum value)
{
	if (type == TEXTOID || type == VARCHAROID)
		return TextDatumGetCString(value);
	return DatumGetCString(DirectFunctionCall1(enum_out, value));
}

void
is_key_append(StringInfo buf, int n, const Oid *types, const Datum *values)
{
	if (n == 1 && is_plain(types[0]))
		append_plain(buf, types[0], values[0]);
	else if (n == 1)
	{
		char	   *text = string_of(types[0], values[0]);

		appendStringInfoString(buf, text);
		pfree(text);
	}
	else
	{
		for (int i = 0; i < n; i++)
		{
			appendStringInfoString(buf, i == 0 ? "[" : ", ");
			if (is_plain(types[i]))
			{
				appendStringInfoChar(buf, '"');
				append_plain(buf, types[i], values[i]);
				appendStringInfoChar(buf, '"');
			}
			else
			{
				char	   *text = string_of(types[i], values[i]);

				escape_json(buf, text);
				pfree(text);
			}
		}
		appendStringInfoChar(buf, ']');
	}
}

/* ----------------------------------------------------------------
 * Reading
 * ----------------------------------------------------------------
 */

static const char *
skip_space(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
		p++;
	return p;
}

/* Four hexadecimal digits, or -1. */
static int
parse_hex4(const char *p)
{
	int			code = 0;

	for (int i = 0; i < 4; i++)
	{
		char		c = p[i];

		if (c >= '0' && c <= '9')
			code = code * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			code = code * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			code = code * 16 + (c - 'A' + 10);
		else
			return -1;			/* also at the terminating NUL */
	}
	return code;
}

/*
 * An escape sequence, of which p is the character behind the backslash.
 * Returns what follows it, or NULL.
 */
static const char *
parse_escape(const char *p, StringInfo out)
{
	static const char escapes[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	unsigned char server[MAX_UNICODE_EQUIVALENT_STRING + 1];
	const char *escape;
	int			code;

	if (*p != 'u')
	{
		if (*p == '\0' || (escape = strchr(escapes, *p)) == NULL)
			return NULL;
		appendStringInfoChar(out, meanings[escape - escapes]);
		return p + 1;
	}

	code = parse_hex4(p + 1);
	p += 5;
	if (code <= 0)
		return NULL;
	if (is_utf16_surrogate_first(code))
	{
		int			second = p[0] == '\\' && p[1] == 'u' ? parse_hex4(p + 2) : -1;

		if (second < 0 || !is_utf16_surrogate_second(second))
			return NULL;
		code = surrogate_pair_to_codepoint(code, second);
		p += 6;
	}
	else if (is_utf16_surrogate_second(code))
		return NULL;
	pg_unicode_to_server(code, server);
	appendStringInfoString(out, (char *) server);
	return p;
}

/* A JSON string; returns what follows it, or NULL. */
static const char *
parse_string(const char *p, StringInfo out)
{
	if (*p++ != '"')
		return NULL;
	while (*p != '"')
	{
		if ((unsigned char) *p < ' ')
			return NULL;
		if (*p == '\\')
		{
			if ((p = parse_escape(p + 1, out)) == NULL)
				return NULL;
		}
		else
			appendStringInfoChar(out, *p++);
	}
	return p + 1;
}

static bool
parse_strings(const char *p, int n, char **texts)
{
	p = skip_space(p);
	for (int i = 0; i < n; i++)
	{
		StringInfoData out;

		if (*p != (i == 0 ? '[' : ','))
			return false;
		initStringInfo(&out);
		p = parse_string(skip_space(p + 1), &out);
		if (p == NULL)
			return false;
		texts[i] = out.data;
		p = skip_space(p);
	}
	return *p == ']' && *skip_space(p + 1) == '\0';
}

char **
is_key_split(const char *key, int n)
{
	char	  **texts = palloc_array(char *, n);

	if (n == 1)
		texts[0] = pstrdup(key);
	else if (!parse_strings(key, n, texts))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key is not a JSON array of %d strings", n)));
	return texts;
}

Datum
is_key_value(const char *text, Oid type)
{
	Oid			input;
	Oid			param;

	switch (type)
	{
		case INT8OID:
			return DirectFunctionCall1(int8in, CStringGetDatum(text));
		case INT4OID:
			return DirectFunctionCall1(int4in, CStringGetDatum(text));
		case TEXTOID:
		case VARCHAROID:
			return CStringGetTextDatum(text);
		default:
			getTypeInputInfo(type, &input, &param);
			return OidInputFunctionCall(input, unconstify(char *, text), param, -1);
	}
}
