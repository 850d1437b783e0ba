/*-------------------------------------------------------------------------
 *
 * json_compound.c
 *	  Values that are made of others, as JSON: arrays, ranges, composites,
 *	  hstore.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "json_internal.h"

#include "access/htup_details.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/multirangetypes.h"
#include "utils/rangetypes.h"
#include "utils/typcache.h"

#include "compat.h"
#include "iterable_api.h"

/* A value inside another: what would burst every request need not go on. */
static const char *
append_inside(StringInfo buf, IsJsonType *json_type, Datum value, bool isnull)
{
	const char *problem = NULL;

	if (isnull)
		appendStringInfoString(buf, "null");
	else
		problem = is_json_append(buf, json_type, value);
	if (problem == NULL && buf->len > IS_MAX_BATCH_BYTES)
		problem = PROBLEM_SIZE;
	return problem;
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
		const char *problem;

		if (i > 0)
			appendStringInfoChar(buf, ',');
		if (dim < walk->ndim - 1)
			problem = append_dimension(buf, walk, dim + 1);
		else
		{
			int			n = walk->next++;

			problem = append_inside(buf, walk->element, walk->values[n],
									walk->nulls[n]);
		}
		if (problem)
			return problem;
	}
	appendStringInfoChar(buf, ']');
	return NULL;
}

const char *
is_json_append_array(StringInfo buf, IsJsonType *json_type, Datum value)
{
	ArrayType  *array;
	ArrayWalk	walk;
	Datum	   *values;
	bool	   *nulls;
	int			n;

	if (is_json_is_too_large(value, 16))
		return PROBLEM_SIZE;
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
 * Ranges
 * ----------------------------------------------------------------
 */

static const char *
append_range(StringInfo buf, IsJsonType *json_type, RangeType *range)
{
	RangeBound	lower;
	RangeBound	upper;
	bool		empty;
	const char *problem;

	range_deserialize(json_type->range, range, &lower, &upper, &empty);
	if (empty)
	{
		appendStringInfoString(buf, "{\"empty\":true}");
		return NULL;
	}
	appendStringInfoString(buf, "{\"lower\":");
	problem = append_inside(buf, json_type->element, lower.val, lower.infinite);
	if (problem)
		return problem;
	appendStringInfoString(buf, ",\"upper\":");
	problem = append_inside(buf, json_type->element, upper.val, upper.infinite);
	if (problem)
		return problem;
	appendStringInfo(buf, ",\"lower_inclusive\":%s,\"upper_inclusive\":%s}",
					 lower.inclusive ? "true" : "false",
					 upper.inclusive ? "true" : "false");
	return NULL;
}

const char *
is_json_append_range(StringInfo buf, IsJsonType *json_type, Datum value)
{
	if (is_json_is_too_large(value, 16))
		return PROBLEM_SIZE;
	return append_range(buf, json_type, DatumGetRangeTypeP(value));
}

const char *
is_json_append_multirange(StringInfo buf, IsJsonType *json_type, Datum value)
{
	int32		n;
	RangeType **ranges;

	if (is_json_is_too_large(value, 16))
		return PROBLEM_SIZE;
	multirange_deserialize(json_type->range, DatumGetMultirangeTypeP(value), &n,
						   &ranges);
	appendStringInfoChar(buf, '[');
	for (int i = 0; i < n; i++)
	{
		const char *problem;

		if (i > 0)
			appendStringInfoChar(buf, ',');
		problem = append_range(buf, json_type, ranges[i]);
		if (problem)
			return problem;
	}
	appendStringInfoChar(buf, ']');
	return NULL;
}

/* ----------------------------------------------------------------
 * Composites
 * ----------------------------------------------------------------
 */

const char *
is_json_append_row(StringInfo buf, IsJsonType *json_type, Datum value)
{
	HeapTupleHeader header;
	HeapTupleData tuple;
	IsJsonRow  *row;
	Datum	   *values;
	bool	   *nulls;
	bool		first = true;

	if (is_json_is_too_large(value, 16))
		return PROBLEM_SIZE;
	header = DatumGetHeapTupleHeader(value);

	/* The type may have been altered just now: it is not locked by its use. */
	is_json_refresh_row(json_type);
	row = json_type->row;
	if (HeapTupleHeaderGetTypeId(header) != row->type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("a value of type %s was expected", format_type_be(row->type)),
				 errdetail("There is one of type %s.",
						   format_type_be(HeapTupleHeaderGetTypeId(header)))));

	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	values = palloc_array(Datum, row->desc->natts + 1);
	nulls = palloc_array(bool, row->desc->natts + 1);
	heap_deform_tuple(&tuple, row->desc, values, nulls);

	appendStringInfoChar(buf, '{');
	for (int i = 0; i < row->desc->natts; i++)
	{
		IsJsonAttribute *attribute = &row->attributes[i];
		const char *problem;

		if (attribute->label == NULL)
			continue;
		if (!first)
			appendStringInfoChar(buf, ',');
		first = false;
		appendBinaryStringInfo(buf, attribute->label, attribute->label_len);
		problem = append_inside(buf, &attribute->type, values[i], nulls[i]);
		if (problem)
			return problem;
	}
	appendStringInfoChar(buf, '}');
	return NULL;
}

/* ----------------------------------------------------------------
 * hstore
 * ----------------------------------------------------------------
 */

/* A string of hstore's output, from behind its first quote to behind its last. */
static const char *
append_quoted(StringInfo buf, char **text)
{
	char	   *from = *text;
	char	   *start = from;
	char	   *to = from;

	while (*from != '"')
	{
		if (*from == '\\')
			from++;
		if (*from == '\0')
			elog(ERROR, "hstore has an end inside a string");
		*to++ = *from++;
	}
	*text = from + 1;
	return is_json_append_text(buf, start, to - start);
}

/*
 * From its output, "key"=>"value", "key"=>NULL: there is no header of hstore's
 * to rely on, and its functions and casts are in whatever schema.
 */
const char *
is_json_append_hstore(StringInfo buf, IsJsonType *json_type, Datum value)
{
	char	   *text;
	bool		first = true;

	if (is_json_is_too_large(value, 2))
		return PROBLEM_SIZE;
	text = OutputFunctionCall(&json_type->output, value);
	appendStringInfoChar(buf, '{');
	while (*text != '\0')
	{
		const char *problem;

		if (!first)
		{
			if (strncmp(text, ", ", 2) != 0)
				elog(ERROR, "hstore has no comma between its pairs");
			text += 2;
			appendStringInfoChar(buf, ',');
		}
		first = false;
		if (*text++ != '"')
			elog(ERROR, "hstore has a key without a quote");
		problem = append_quoted(buf, &text);
		if (problem)
			return problem;
		appendStringInfoChar(buf, ':');
		if (strncmp(text, "=>NULL", 6) == 0)
		{
			text += 6;
			appendStringInfoString(buf, "null");
			continue;
		}
		if (strncmp(text, "=>\"", 3) != 0)
			elog(ERROR, "hstore has a value without a quote");
		text += 3;
		problem = append_quoted(buf, &text);
		if (problem)
			return problem;
	}
	appendStringInfoChar(buf, '}');
	return NULL;
}
