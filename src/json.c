/*-------------------------------------------------------------------------
 *
 * json.c
 *	  Values as JSON in UTF-8.
 *
 * PostgreSQL's to_json() looks for casts to json, which run code of whoever
 * made them, and writes timestamps that Iterable takes for strings.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "json_internal.h"

#include <math.h>

#include "access/detoast.h"
#include "common/base64.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/geo_decls.h"
#include "utils/jsonb.h"
#include "utils/jsonfuncs.h"
#include "utils/numeric.h"

#include "compat.h"
#include "iterable_api.h"

/* ----------------------------------------------------------------
 * Strings
 * ----------------------------------------------------------------
 */

char *
is_json_to_utf8(const char *text, int len, int *utf8_len)
{
	int			encoding = GetDatabaseEncoding();
	char	   *utf8 = unconstify(char *, text);

	*utf8_len = len;
	if (encoding == PG_UTF8)
		return utf8;
	if (encoding == PG_SQL_ASCII)
		return pg_verify_mbstr(PG_UTF8, text, len, true) ? utf8 : NULL;

	utf8 = pg_server_to_any(text, len, PG_UTF8);
	if (utf8 != text)
		*utf8_len = strlen(utf8);
	return utf8;
}

void
is_json_append_utf8(StringInfo buf, const char *text, int len)
{
	static const char hex[] = "0123456789abcdef";
	const char *end = text + len;
	const char *span = text;

	enlargeStringInfo(buf, len + 2);
	appendStringInfoCharMacro(buf, '"');
	for (const char *p = text; p < end; p++)
	{
		unsigned char c = *p;
		char		escape[6] = {'\\', 'u', '0', '0'};
		int			escape_len = 2;

		if (likely(c >= ' ' && c != '"' && c != '\\'))
			continue;
		switch (c)
		{
			case '"':
			case '\\':
				escape[1] = c;
				break;
			case '\b':
				escape[1] = 'b';
				break;
			case '\f':
				escape[1] = 'f';
				break;
			case '\n':
				escape[1] = 'n';
				break;
			case '\r':
				escape[1] = 'r';
				break;
			case '\t':
				escape[1] = 't';
				break;
			default:
				escape[4] = hex[c >> 4];
				escape[5] = hex[c & 15];
				escape_len = 6;
		}
		appendBinaryStringInfo(buf, span, p - span);
		appendBinaryStringInfo(buf, escape, escape_len);
		span = p + 1;
	}
	appendBinaryStringInfo(buf, span, end - span);
	appendStringInfoCharMacro(buf, '"');
}

const char *
is_json_append_text(StringInfo buf, const char *text, int len)
{
	int			utf8_len;
	char	   *utf8 = is_json_to_utf8(text, len, &utf8_len);

	if (utf8 == NULL)
		return PROBLEM_ENCODING;
	is_json_append_utf8(buf, utf8, utf8_len);
	return NULL;
}

/* JSON text as it is, but in UTF-8. */
static const char *
append_raw(StringInfo buf, const char *text, int len)
{
	int			utf8_len;
	char	   *utf8 = is_json_to_utf8(text, len, &utf8_len);

	if (utf8 == NULL)
		return PROBLEM_ENCODING;
	appendBinaryStringInfo(buf, utf8, utf8_len);
	return NULL;
}

bool
is_json_is_too_large(Datum value, int margin)
{
	return toast_raw_datum_size(value) > (Size) IS_MAX_BATCH_BYTES * margin;
}

/* ----------------------------------------------------------------
 * Numbers
 * ----------------------------------------------------------------
 */

static const char *
append_float8(StringInfo buf, double number)
{
	if (!isfinite(number))
		return PROBLEM_NUMBER;
	enlargeStringInfo(buf, DOUBLE_SHORTEST_DECIMAL_LEN);
	buf->len += double_to_shortest_decimal_bufn(number, buf->data + buf->len);
	return NULL;
}

static const char *
append_float4(StringInfo buf, float number)
{
	if (!isfinite(number))
		return PROBLEM_NUMBER;
	enlargeStringInfo(buf, FLOAT_SHORTEST_DECIMAL_LEN);
	buf->len += float_to_shortest_decimal_bufn(number, buf->data + buf->len);
	return NULL;
}

static const char *
append_numeric(StringInfo buf, Datum value)
{
	Numeric		number = DatumGetNumeric(value);

	if (numeric_is_nan(number) || numeric_is_inf(number))
		return PROBLEM_NUMBER;
	appendStringInfoString(buf,
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   NumericGetDatum(number))));
	return NULL;
}

static void
append_int(StringInfo buf, int32 number)
{
	enlargeStringInfo(buf, MAXINT8LEN + 1);
	buf->len += pg_ltoa(number, buf->data + buf->len);
}

/* ----------------------------------------------------------------
 * json and jsonb
 * ----------------------------------------------------------------
 */

static const char *
append_json(StringInfo buf, Datum value)
{
	text	   *json;

	if (is_json_is_too_large(value, GetDatabaseEncoding() == PG_UTF8 ? 1 : 4))
		return PROBLEM_SIZE;
	json = DatumGetTextPP(value);

	/* One row of broken JSON would have its whole batch refused. */
	if (pg_parse_json(is_make_json_lexer(json), &nullSemAction) != JSON_SUCCESS)
		return PROBLEM_JSON;
	return append_raw(buf, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
}

static const char *
append_jsonb(StringInfo buf, Datum value)
{
	Jsonb	   *jsonb;
	StringInfoData text;

	/* a digit takes up to 16 bytes */
	if (is_json_is_too_large(value, 16))
		return PROBLEM_SIZE;
	jsonb = DatumGetJsonbP(value);
	if (GetDatabaseEncoding() == PG_UTF8)
	{
		(void) JsonbToCString(buf, &jsonb->root, VARSIZE(jsonb));
		return NULL;
	}
	initStringInfo(&text);
	(void) JsonbToCString(&text, &jsonb->root, VARSIZE(jsonb));
	return append_raw(buf, text.data, text.len);
}

bool
is_json_is_null(const char *json)
{
	/* nothing else begins with this letter */
	return json[strspn(json, " \t\n\r")] == 'n';
}

/* ----------------------------------------------------------------
 * Bytes and places
 * ----------------------------------------------------------------
 */

/* base64 */
static const char *
append_bytea(StringInfo buf, Datum value)
{
	bytea	   *bytes;
	int			len;
	int			size;

	if (is_json_is_too_large(value, 1))
		return PROBLEM_SIZE;
	bytes = DatumGetByteaPP(value);
	size = pg_b64_enc_len(VARSIZE_ANY_EXHDR(bytes));
	appendStringInfoChar(buf, '"');
	enlargeStringInfo(buf, size + 1);
	len = pg_b64_encode((const void *) VARDATA_ANY(bytes),
						VARSIZE_ANY_EXHDR(bytes), buf->data + buf->len, size);
	if (len < 0)
		elog(ERROR, "could not encode bytes");
	buf->len += len;
	appendStringInfoChar(buf, '"');
	return NULL;
}

/* Longitude goes east, latitude goes north; NaN is in no bounds. */
static const char *
append_point(StringInfo buf, const Point *point)
{
	if (!(fabs(point->y) <= 90 && fabs(point->x) <= 180))
		return PROBLEM_PLACE;
	appendStringInfoString(buf, "{\"lat\":");
	(void) append_float8(buf, point->y);
	appendStringInfoString(buf, ",\"lon\":");
	(void) append_float8(buf, point->x);
	appendStringInfoChar(buf, '}');
	return NULL;
}

/* ----------------------------------------------------------------
 * Values
 * ----------------------------------------------------------------
 */

/* The bytes of a text, in the database's encoding; false: too large. */
static bool
get_varlena(IsJsonKind kind, Datum value, char **string, int *len)
{
	text	   *data;

	if (is_json_is_too_large(value, GetDatabaseEncoding() == PG_UTF8 ? 1 : 4))
		return false;
	data = DatumGetTextPP(value);
	*string = VARDATA_ANY(data);
	*len = VARSIZE_ANY_EXHDR(data);
	if (kind == IS_JSON_BPCHAR)
		*len = bpchartruelen(*string, *len);
	return true;
}

const char *
is_json_append(StringInfo buf, IsJsonType *json_type, Datum value)
{
	switch (json_type->kind)
	{
		case IS_JSON_INT2:
			append_int(buf, DatumGetInt16(value));
			return NULL;
		case IS_JSON_INT4:
			append_int(buf, DatumGetInt32(value));
			return NULL;
		case IS_JSON_INT8:
			enlargeStringInfo(buf, MAXINT8LEN + 1);
			buf->len += pg_lltoa(DatumGetInt64(value), buf->data + buf->len);
			return NULL;
		case IS_JSON_NUMERIC:
			return append_numeric(buf, value);
		case IS_JSON_FLOAT4:
			return append_float4(buf, DatumGetFloat4(value));
		case IS_JSON_FLOAT8:
			return append_float8(buf, DatumGetFloat8(value));
		case IS_JSON_BOOL:
			appendStringInfoString(buf, DatumGetBool(value) ? "true" : "false");
			return NULL;
		case IS_JSON_TEXT:
		case IS_JSON_BPCHAR:
			{
				char	   *string;
				int			len;

				if (!get_varlena(json_type->kind, value, &string, &len))
					return PROBLEM_SIZE;
				return is_json_append_text(buf, string, len);
			}
		case IS_JSON_STRING:
		case IS_JSON_WORD:
			{
				char	   *string;

				if (json_type->is_varlena && is_json_is_too_large(value, 4))
					return PROBLEM_SIZE;
				string = OutputFunctionCall(&json_type->output, value);
				return is_json_append_text(buf, string, strlen(string));
			}
		case IS_JSON_DATE:
			return is_json_append_date(buf, DatumGetDateADT(value));
		case IS_JSON_TIMESTAMP:
			return is_json_append_timestamp(buf, DatumGetTimestamp(value),
											json_type->zone);
		case IS_JSON_TIMESTAMPTZ:
			return is_json_append_timestamp(buf, DatumGetTimestampTz(value), NULL);
		case IS_JSON_INTERVAL:
			return is_json_append_interval(buf, DatumGetIntervalP(value));
		case IS_JSON_JSON:
			return append_json(buf, value);
		case IS_JSON_JSONB:
			return append_jsonb(buf, value);
		case IS_JSON_BYTEA:
			return append_bytea(buf, value);
		case IS_JSON_POINT:
			return append_point(buf, DatumGetPointP(value));
		case IS_JSON_HSTORE:
			return is_json_append_hstore(buf, json_type, value);
		case IS_JSON_ARRAY:
			return is_json_append_array(buf, json_type, value);
		case IS_JSON_RANGE:
			return is_json_append_range(buf, json_type, value);
		case IS_JSON_MULTIRANGE:
			return is_json_append_multirange(buf, json_type, value);
		case IS_JSON_ROW:
			return is_json_append_row(buf, json_type, value);
	}
	pg_unreachable();
}

bool
is_json_is_text(IsJsonKind kind)
{
	switch (kind)
	{
		case IS_JSON_INT2:
		case IS_JSON_INT4:
		case IS_JSON_INT8:
		case IS_JSON_NUMERIC:
		case IS_JSON_TEXT:
		case IS_JSON_BPCHAR:
		case IS_JSON_STRING:
			return true;
		default:
			return false;
	}
}

char *
is_json_text(IsJsonType *json_type, Datum value, const char **problem)
{
	char	   *string;
	int			len;
	char	   *utf8;
	int			utf8_len;

	Assert(is_json_is_text(json_type->kind));
	*problem = NULL;
	if (json_type->kind == IS_JSON_TEXT || json_type->kind == IS_JSON_BPCHAR)
	{
		if (!get_varlena(json_type->kind, value, &string, &len))
		{
			*problem = PROBLEM_SIZE;
			return NULL;
		}
	}
	else if (json_type->kind == IS_JSON_STRING)
	{
		string = OutputFunctionCall(&json_type->output, value);
		len = strlen(string);
	}
	else
	{
		StringInfoData number;

		initStringInfo(&number);
		*problem = is_json_append(&number, json_type, value);
		return *problem ? NULL : number.data;
	}

	utf8 = is_json_to_utf8(string, len, &utf8_len);
	if (utf8 == NULL)
		*problem = PROBLEM_ENCODING;
	else if (utf8 == string)
		utf8 = pnstrdup(string, len);	/* for its end */
	return utf8;
}
