/*-------------------------------------------------------------------------
 *
 * sync_sql.c
 *	  The SQL that makes a sync again, so that definitions can live in files.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "config.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(iterable_sync_sql);

static void
append_argument(StringInfo sql, const char *name, const char *value)
{
	appendStringInfo(sql, ",\n\t%s => %s", name, quote_literal_cstr(value));
}

/* The name of one column, or an array of several. */
static char *
unique_field(const List *names)
{
	StringInfoData array;
	ListCell   *lc;

	if (list_length(names) == 1 && ((char *) linitial(names))[0] != '{')
		return linitial(names);

	initStringInfo(&array);
	foreach(lc, names)
	{
		appendStringInfoString(&array, array.len == 0 ? "{\"" : ",\"");
		for (const char *p = lfirst(lc); *p != '\0'; p++)
		{
			if (*p == '"' || *p == '\\')
				appendStringInfoChar(&array, '\\');
			appendStringInfoChar(&array, *p);
		}
		appendStringInfoChar(&array, '"');
	}
	appendStringInfoChar(&array, '}');
	return array.data;
}

static void
append_sync(StringInfo sql, const IsSync *sync, const char *schema)
{
	appendStringInfo(sql, "SELECT %s(%s",
					 quote_qualified_identifier(schema, "iterable_create_sync"),
					 quote_literal_cstr(sync->name));
	append_argument(sql, "connection", sync->connection);
	append_argument(sql, "source",
					quote_qualified_identifier(sync->source.schema_name,
											   sync->source.table_name));
	append_argument(sql, "object", is_catalog_object_name(sync->object));
	append_argument(sql, "unique_field", unique_field(sync->source.key_columns));
	if (sync->match_field)
		append_argument(sql, "match_field", sync->match_field);
	append_argument(sql, "mode", is_catalog_mode_name(sync->mode));
	append_argument(sql, "schedule", sync->schedule);
	if (strcmp(sync->time_zone, "UTC") != 0)
		append_argument(sql, "time_zone", sync->time_zone);
	if (sync->filter)
		append_argument(sql, "filter", sync->filter);
	if (sync->prefer_user_id)
		appendStringInfoString(sql, ",\n\tprefer_user_id => true");
	if (sync->merge_nested_objects)
		appendStringInfoString(sql, ",\n\tmerge_nested_objects => true");
	if (sync->new_fields != IS_NEW_FIELDS_PROJECT)
		append_argument(sql, "create_new_fields",
						is_catalog_new_fields_name(sync->new_fields));
	if (sync->dry_run)
		appendStringInfoString(sql, ",\n\tdry_run => true");
	if (sync->capture != IS_CAPTURE_KEY)
		append_argument(sql, "capture", is_catalog_capture_name(sync->capture));
	if (sync->capture == IS_CAPTURE_VERSIONS)
		appendStringInfoString(sql, ",\n\tversions => true");
	if (!sync->track)
		appendStringInfoString(sql, ",\n\ttrack => false");
	appendStringInfoString(sql, ");\n");
}

static void
append_mapping(StringInfo sql, const IsSync *sync, const IsMapping *mapping,
			   const char *schema)
{
	appendStringInfo(sql, "SELECT %s(%s, %s",
					 quote_qualified_identifier(schema, "iterable_add_mapping"),
					 quote_literal_cstr(sync->name),
					 quote_literal_cstr(mapping->destination));
	if (mapping->column_name)
		appendStringInfo(sql, ", column_name => %s",
						 quote_literal_cstr(mapping->column_name));
	if (mapping->constant)
		appendStringInfo(sql, ", constant => %s", quote_literal_cstr(mapping->constant));
	if (mapping->expression)
		appendStringInfo(sql, ", expression => %s",
						 quote_literal_cstr(mapping->expression));
	if (mapping->clear_null)
		appendStringInfoString(sql, ", null_policy => 'clear'");
	if (mapping->time_zone)
		appendStringInfo(sql, ", time_zone => %s", quote_literal_cstr(mapping->time_zone));
	appendStringInfoString(sql, ");\n");
}

/*
 * iterable_sync_sql(sync text) returns text
 */
Datum
iterable_sync_sql(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsSync	   *sync = is_catalog_get_sync(name);
	const char *schema = get_namespace_name(is_catalog_function_schema());
	StringInfoData sql;
	ListCell   *lc;

	initStringInfo(&sql);
	append_sync(&sql, sync, schema);
	foreach(lc, sync->mappings)
		append_mapping(&sql, sync, lfirst(lc), schema);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(sql.data, sql.len));
}
