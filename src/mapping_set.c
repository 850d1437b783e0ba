/*-------------------------------------------------------------------------
 *
 * mapping_set.c
 *	  SQL functions that make many mappings at once.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "mapping.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "compat.h"
#include "layout.h"
#include "source.h"

PG_FUNCTION_INFO_V1(iterable_set_mappings);
PG_FUNCTION_INFO_V1(iterable_map_columns);

/* ----------------------------------------------------------------
 * From JSON
 * ----------------------------------------------------------------
 */

static void
report_bad_json(const char *destination, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 destination ?
			 errmsg("invalid mapping to \"%s\"", destination) :
			 errmsg("mappings are not a JSON object"),
			 detail ? errdetail("%s", detail) : 0,
			 errhint("Write an object such as {\"plan\": \"plan_code\", \"eventName\": {\"constant\": \"Subscribe\"}, \"address.city\": {\"expression\": \"initcap(city)\"}}.")));
}

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* A property of a mapping that is written as an object. */
static void
take_property(IsMapping *mapping, const char *name, const JsonbValue *value)
{
	char	   *text;

	if (value->type == jbvNull)
		return;
	if (value->type != jbvString)
		report_bad_json(mapping->destination,
						psprintf("The value of \"%s\" is not a string.", name));
	text = string_of(value);
	if (strcmp(name, "column_name") == 0 || strcmp(name, "column") == 0)
		mapping->column_name = text;
	else if (strcmp(name, "constant") == 0)
		mapping->constant = text;
	else if (strcmp(name, "expression") == 0)
		mapping->expression = text;
	else if (strcmp(name, "null_policy") == 0)
		mapping->clear_null = is_mapping_parse_null_policy(text);
	else if (strcmp(name, "time_zone") == 0)
		mapping->time_zone = text;
	else
		report_bad_json(mapping->destination,
						psprintf("There is no property \"%s\"; there are column_name, constant, expression, null_policy and time_zone.",
								 name));
}

/* A string is the name of a column. */
static IsMapping *
mapping_of_json(const char *destination, JsonbValue *value)
{
	IsMapping  *mapping = palloc0_object(IsMapping);
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	property;

	mapping->destination = pstrdup(destination);
	if (value->type == jbvString)
	{
		mapping->column_name = string_of(value);
		return mapping;
	}
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		report_bad_json(destination,
						"It is neither a string, which names a column, nor an object.");

	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
		if (token == WJB_KEY)
		{
			(void) JsonbIteratorNext(&it, &property, true);
			take_property(mapping, string_of(&name), &property);
		}
	return mapping;
}

static List *
mappings_of_json(Jsonb *json)
{
	List	   *mappings = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(json))
		report_bad_json(NULL, NULL);
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &name, true)) != WJB_DONE)
		if (token == WJB_KEY)
		{
			(void) JsonbIteratorNext(&it, &value, true);
			mappings = lappend(mappings, mapping_of_json(string_of(&name), &value));
		}
	return mappings;
}

/*
 * iterable_set_mappings(sync text, mappings jsonb, apply text) returns void
 */
Datum
iterable_set_mappings(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsApply		apply = is_config_parse_apply(is_config_arg(fcinfo, 2, "apply", false));
	List	   *mappings;
	IsSync	   *sync;
	ListCell   *lc;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", "mappings")));
	mappings = mappings_of_json(PG_GETARG_JSONB_P(1));
	sync = is_config_lock_sync(name, "iterable_set_mappings()");

	is_mapping_begin_change(sync, apply);
	is_mapping_delete_all(sync);
	sync->mappings = NIL;
	foreach(lc, mappings)
	{
		is_mapping_check(sync, lfirst(lc));
		is_mapping_insert(sync, lfirst(lc));
		sync->mappings = lappend(sync->mappings, lfirst(lc));
	}
	is_mapping_end_change(sync, apply, true);
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * All columns
 * ----------------------------------------------------------------
 */

typedef enum Style
{
	STYLE_AS_IS,
	STYLE_CAMEL,
	STYLE_SNAKE
} Style;

static Style
parse_style(const char *text)
{
	if (text == NULL)
		return STYLE_AS_IS;
	if (strcmp(text, "camel") == 0)
		return STYLE_CAMEL;
	if (strcmp(text, "snake") == 0)
		return STYLE_SNAKE;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized style \"%s\"", text),
			 errhint("Valid values are \"camel\" (planCode) and \"snake\" (plan_code); without one names stay as they are.")));
}

static bool
is_separator(char c)
{
	return c == '_' || c == ' ' || c == '-' || c == '.';
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

/* Only ASCII letters change.  A dot would nest the field. */
static char *
destination_name(const char *column, Style style)
{
	StringInfoData name;

	initStringInfo(&name);
	for (const char *p = column; *p != '\0'; p++)
	{
		bool		first = name.len == 0;
		bool		after_separator = p > column && is_separator(p[-1]);
		bool		begins_word = is_upper(*p) && p > column && !is_upper(p[-1]) &&
			!after_separator;

		if (style == STYLE_AS_IS)
			appendStringInfoChar(&name, *p == '.' ? '_' : *p);
		else if (style == STYLE_CAMEL && is_separator(*p))
			continue;
		else if (style == STYLE_CAMEL && first)
			appendStringInfoChar(&name, pg_ascii_tolower((unsigned char) *p));
		else if (style == STYLE_CAMEL)
			appendStringInfoChar(&name, after_separator ?
								 pg_ascii_toupper((unsigned char) *p) : *p);
		else
		{
			if (begins_word)
				appendStringInfoChar(&name, '_');
			appendStringInfoChar(&name, is_separator(*p) ? '_' :
								 pg_ascii_tolower((unsigned char) *p));
		}
	}
	return name.data;
}

/*
 * Names with a meaning at Iterable are given by people, not by chance: there
 * such a column becomes a field in dataFields, except the identifiers of a
 * user, which would give it another identity.
 */
static char *
destination_of(const IsSync *sync, const char *column, Style style)
{
	char	   *name = destination_name(column, style);

	if (!is_layout_has_meaning(sync->object, name))
		return name;
	if (sync->object == IS_OBJECT_USER)
		return NULL;
	return psprintf("dataFields.%s", name);
}

static bool
is_mapped(const IsSync *sync, const char *column, const char *destination)
{
	ListCell   *lc;

	foreach(lc, sync->mappings)
	{
		IsMapping  *mapping = lfirst(lc);

		if (strcmp(mapping->destination, destination) == 0 ||
			(mapping->column_name && strcmp(mapping->column_name, column) == 0))
			return true;
	}
	return false;
}

/* The names that are left out, each of which must be a column. */
static List *
excepted(FunctionCallInfo fcinfo, int i, Oid relid)
{
	List	   *result = NIL;
	Datum	   *names;
	int			n;

	if (PG_ARGISNULL(i))
		return NIL;
	if (array_contains_nulls(PG_GETARG_ARRAYTYPE_P(i)))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not contain nulls", "except_columns")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(i), TEXTOID, -1, false, TYPALIGN_INT,
					  &names, NULL, &n);
	for (int k = 0; k < n; k++)
		result = lappend_int(result,
							 is_source_column(relid, TextDatumGetCString(names[k])));
	return result;
}

/*
 * iterable_map_columns(sync text, except_columns text[], style text, apply text)
 *		returns table(destination text, column_name name)
 */
Datum
iterable_map_columns(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	Style		style = parse_style(is_config_arg(fcinfo, 2, "style", false));
	IsApply		apply = is_config_parse_apply(is_config_arg(fcinfo, 3, "apply", false));
	IsSync	   *sync = is_config_lock_sync(name, "iterable_map_columns()");
	Oid			relid = is_source_resolve(sync)->relid;
	List	   *except = excepted(fcinfo, 1, relid);
	Relation	rel;
	List	   *columns = NIL;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	is_mapping_begin_change(sync, apply);

	rel = relation_open(relid, AccessShareLock);
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (!att->attisdropped && !list_member_int(except, att->attnum) &&
			(sync->match_field == NULL ||
			 strcmp(sync->match_field, NameStr(att->attname)) != 0))
			columns = lappend(columns, pstrdup(NameStr(att->attname)));
	}
	relation_close(rel, AccessShareLock);

	foreach(lc, columns)
	{
		char	   *column = lfirst(lc);
		char	   *destination = destination_of(sync, column, style);
		IsMapping  *mapping;
		Datum		values[2];
		bool		nulls[2] = {false};

		if (destination == NULL)
		{
			ereport(NOTICE,
					(errmsg("column \"%s\" is not mapped", column),
					 errdetail("As a field of a user it would change who the user is."),
					 errhint("Map it by iterable_add_mapping() if it is the identifier.")));
			continue;
		}
		if (is_mapped(sync, column, destination))
			continue;

		mapping = palloc0_object(IsMapping);
		mapping->destination = destination;
		mapping->column_name = column;
		is_mapping_check(sync, mapping);
		is_mapping_insert(sync, mapping);
		sync->mappings = lappend(sync->mappings, mapping);

		values[0] = CStringGetTextDatum(destination);
		values[1] = DirectFunctionCall1(namein, CStringGetDatum(column));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	is_mapping_end_change(sync, apply, true);
	return (Datum) 0;
}
