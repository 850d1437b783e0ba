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
#include "json.h"

#include <math.h>

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/jsonfuncs.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "iterable_api.h"

static const char not_a_number[] = "not_a_number";
static const char bad_date[] = "bad_date";
static const char bad_encoding[] = "bad_encoding";
static const char bad_json[] = "bad_json";
static const char too_large[] = "too_large";

/* ----------------------------------------------------------------
 * Types
 * ----------------------------------------------------------------
 */

bool
is_json_kind(Oid type, IsJsonKind *kind)
{
	char		category;
	bool		preferred;

	type = getBaseType(type);
	switch (type)
	{
		case INT2OID:
			*kind = IS_JSON_INT2;
			return true;
		case INT4OID:
			*kind = IS_JSON_INT4;
			return true;
		case INT8OID:
			*kind = IS_JSON_INT8;
			return true;
		case NUMERICOID:
			*kind = IS_JSON_NUMERIC;
			return true;
		case FLOAT4OID:
			*kind = IS_JSON_FLOAT4;
			return true;
		case FLOAT8OID:
			*kind = IS_JSON_FLOAT8;
			return true;
		case BOOLOID:
			*kind = IS_JSON_BOOL;
			return true;
		case TEXTOID:
		case VARCHAROID:
			*kind = IS_JSON_TEXT;
			return true;
		case BPCHAROID:
			*kind = IS_JSON_BPCHAR;
			return true;
		case NAMEOID:
		case CHAROID:
		case UUIDOID:
			*kind = IS_JSON_STRING;
			return true;
		case DATEOID:
			*kind = IS_JSON_DATE;
			return true;
		case TIMESTAMPOID:
			*kind = IS_JSON_TIMESTAMP;
			return true;
		case TIMESTAMPTZOID:
			*kind = IS_JSON_TIMESTAMPTZ;
			return true;
		case JSONOID:
			*kind = IS_JSON_JSON;
			return true;
		case JSONBOID:
			*kind = IS_JSON_JSONB;
			return true;
	}

	if (OidIsValid(get_element_type(type)))
	{
		IsJsonKind	element;

		*kind = IS_JSON_ARRAY;
		return is_json_kind(get_element_type(type), &element) &&
			element != IS_JSON_ARRAY;
	}

	*kind = IS_JSON_STRING;
	if (get_typtype(type) == TYPTYPE_ENUM)
		return true;

	/* citext and its like; base types are made by superusers only */
	if (get_typtype(type) != TYPTYPE_BASE)
		return false;
	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_STRING;
}

void
is_json_init(IsJsonType *json_type, Oid type)
{
	Oid			base = getBaseType(type);
	Oid			output;
	bool		is_varlena;

	if (!is_json_kind(type, &json_type->kind))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("type %s cannot be written as JSON", format_type_be(type))));
	json_type->type = type;
	if (json_type->kind == IS_JSON_STRING)
	{
		getTypeOutputInfo(base, &output, &is_varlena);
		fmgr_info(output, &json_type->output);
	}
	else if (json_type->kind == IS_JSON_ARRAY)
	{
		Oid			element = get_element_type(base);

		json_type->element = palloc0_object(IsJsonType);
		is_json_init(json_type->element, element);
		get_typlenbyvalalign(element, &json_type->element_len,
							 &json_type->element_byval, &json_type->element_align);
	}
}

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

static const char *
append_string(StringInfo buf, const char *text, int len)
{
	int			utf8_len;
	char	   *utf8 = is_json_to_utf8(text, len, &utf8_len);

	if (utf8 == NULL)
		return bad_encoding;
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
		return bad_encoding;
	appendBinaryStringInfo(buf, utf8, utf8_len);
	return NULL;
}

/*
 * Would a toasted value burst every request?  It is not worth fetching then.
 * margin: how many stored bytes may become one byte of JSON.
 */
static bool
is_too_large(Datum value, int margin)
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
		return not_a_number;
	enlargeStringInfo(buf, DOUBLE_SHORTEST_DECIMAL_LEN);
	buf->len += double_to_shortest_decimal_bufn(number, buf->data + buf->len);
	return NULL;
}

static const char *
append_float4(StringInfo buf, float number)
{
	if (!isfinite(number))
		return not_a_number;
	enlargeStringInfo(buf, FLOAT_SHORTEST_DECIMAL_LEN);
	buf->len += float_to_shortest_decimal_bufn(number, buf->data + buf->len);
	return NULL;
}

static const char *
append_numeric(StringInfo buf, Datum value)
{
	Numeric		number = DatumGetNumeric(value);

	if (numeric_is_nan(number) || numeric_is_inf(number))
		return not_a_number;
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
 * Dates: the forms that Iterable knows for dates
 * ----------------------------------------------------------------
 */

static char *
put_date(char *out, const struct pg_tm *tm)
{
	out = pg_ultostr_zeropad(out, tm->tm_year, 4);
	*out++ = '-';
	out = pg_ultostr_zeropad(out, tm->tm_mon, 2);
	*out++ = '-';
	return pg_ultostr_zeropad(out, tm->tm_mday, 2);
}

/* Iterable's dates have four digits for the year, of our era. */
static bool
is_year_ok(int year)
{
	return year >= 1 && year <= 9999;
}

static const char *
append_date(StringInfo buf, DateADT date)
{
	struct pg_tm tm;
	char	   *out;

	if (DATE_NOT_FINITE(date))
		return bad_date;
	j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	if (!is_year_ok(tm.tm_year))
		return bad_date;
	enlargeStringInfo(buf, 16);
	out = buf->data + buf->len;
	*out++ = '"';
	out = put_date(out, &tm);
	*out++ = '"';
	*out = '\0';
	buf->len = out - buf->data;
	return NULL;
}

/* yyyy-MM-dd HH:mm:ss +00:00 in UTC; fractions are cut off */
static const char *
append_timestamp(StringInfo buf, Timestamp timestamp)
{
	static const char zone[] = " +00:00\"";
	struct pg_tm tm;
	fsec_t		fsec;
	char	   *out;

	if (TIMESTAMP_NOT_FINITE(timestamp) ||
		timestamp2tm(timestamp, NULL, &tm, &fsec, NULL, NULL) != 0 ||
		!is_year_ok(tm.tm_year))
		return bad_date;

	enlargeStringInfo(buf, 32);
	out = buf->data + buf->len;
	*out++ = '"';
	out = put_date(out, &tm);
	*out++ = ' ';
	out = pg_ultostr_zeropad(out, tm.tm_hour, 2);
	*out++ = ':';
	out = pg_ultostr_zeropad(out, tm.tm_min, 2);
	*out++ = ':';
	out = pg_ultostr_zeropad(out, tm.tm_sec, 2);
	memcpy(out, zone, sizeof(zone));
	buf->len = out + sizeof(zone) - 1 - buf->data;
	return NULL;
}

/* ----------------------------------------------------------------
 * json and jsonb
 * ----------------------------------------------------------------
 */

static const char *
append_json(StringInfo buf, Datum value)
{
	text	   *json;

	if (is_too_large(value, GetDatabaseEncoding() == PG_UTF8 ? 1 : 4))
		return too_large;
	json = DatumGetTextPP(value);

	/* One row of broken JSON would have its whole batch refused. */
	if (pg_parse_json(is_make_json_lexer(json), &nullSemAction) != JSON_SUCCESS)
		return bad_json;
	return append_raw(buf, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
}

static const char *
append_jsonb(StringInfo buf, Datum value)
{
	Jsonb	   *jsonb;
	StringInfoData text;

	/* a digit takes up to 16 bytes */
	if (is_too_large(value, 16))
		return too_large;
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
 * Arrays
 * ----------------------------------------------------------------
 */

typedef struct ArrayWalk
{
	IsJsonType *element;
	int			ndim;
	const int  *dims;
	const Datum *values;
	const bool *nulls;
	int			next;			/* element to be written */
} ArrayWalk;

static const char *
append_dimension(StringInfo buf, ArrayWalk *walk, int dim)
{
	appendStringInfoChar(buf, '[');
	for (int i = 0; i < walk->dims[dim]; i++)
	{
		const char *problem = NULL;

		if (i > 0)
			appendStringInfoChar(buf, ',');
		if (dim < walk->ndim - 1)
			problem = append_dimension(buf, walk, dim + 1);
		else
		{
			int			n = walk->next++;

			if (walk->nulls[n])
				appendStringInfoString(buf, "null");
			else
				problem = is_json_append(buf, walk->element, walk->values[n]);
		}
		if (problem == NULL && buf->len > IS_MAX_BATCH_BYTES)
			problem = too_large;
		if (problem)
			return problem;
	}
	appendStringInfoChar(buf, ']');
	return NULL;
}

static const char *
append_array(StringInfo buf, IsJsonType *json_type, Datum value)
{
	ArrayType  *array;
	ArrayWalk	walk;
	Datum	   *values;
	bool	   *nulls;
	int			n;

	if (is_too_large(value, 16))
		return too_large;
	array = DatumGetArrayTypeP(value);
	if (ARR_NDIM(array) == 0)
	{
		appendStringInfoString(buf, "[]");
		return NULL;
	}
	deconstruct_array(array, ARR_ELEMTYPE(array), json_type->element_len,
					  json_type->element_byval, json_type->element_align,
					  &values, &nulls, &n);
	walk.element = json_type->element;
	walk.ndim = ARR_NDIM(array);
	walk.dims = ARR_DIMS(array);
	walk.values = values;
	walk.nulls = nulls;
	walk.next = 0;
	return append_dimension(buf, &walk, 0);
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

	if (is_too_large(value, GetDatabaseEncoding() == PG_UTF8 ? 1 : 4))
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
					return too_large;
				return append_string(buf, string, len);
			}
		case IS_JSON_STRING:
			{
				char	   *string = OutputFunctionCall(&json_type->output, value);

				return append_string(buf, string, strlen(string));
			}
		case IS_JSON_DATE:
			return append_date(buf, DatumGetDateADT(value));
		case IS_JSON_TIMESTAMP:
			return append_timestamp(buf, DatumGetTimestamp(value));
		case IS_JSON_TIMESTAMPTZ:
			return append_timestamp(buf, DatumGetTimestampTz(value));
		case IS_JSON_JSON:
			return append_json(buf, value);
		case IS_JSON_JSONB:
			return append_jsonb(buf, value);
		case IS_JSON_ARRAY:
			return append_array(buf, json_type, value);
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
			*problem = too_large;
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
		*problem = bad_encoding;
	else if (utf8 == string)
		utf8 = pnstrdup(string, len);	/* for its end */
	return utf8;
}
