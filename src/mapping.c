/*-------------------------------------------------------------------------
 *
 * mapping.c
 *	  SQL functions that add and drop the mappings of a sync.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "config.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "capture.h"
#include "compat.h"
#include "connection.h"
#include "expression.h"
#include "hint.h"
#include "layout.h"
#include "source.h"

PG_FUNCTION_INFO_V1(iterable_add_mapping);
PG_FUNCTION_INFO_V1(iterable_drop_mapping);

#define MAX_NAME 255			/* bytes of one name of a path */
#define MAX_DESTINATION 1024	/* bytes of a path: it is part of an index key */

/* ----------------------------------------------------------------
 * Checking
 * ----------------------------------------------------------------
 */

/*
 * Where a destination goes, which others it excludes and which values it
 * takes, the layout of the payloads knows.  The other mappings are laid out
 * as constants here: whether their columns still exist is not the matter of
 * this one.  type is that of a column or expression.
 */
static void
check_layout(const IsSync *sync, IsMapping *mapping, Oid type)
{
	List	   *mappings = NIL;
	ListCell   *lc;

	foreach(lc, sync->mappings)
	{
		IsMapping  *other = palloc0_object(IsMapping);

		other->destination = ((IsMapping *) lfirst(lc))->destination;
		other->constant = "0";	/* fits any */
		mappings = lappend(mappings, other);
	}
	(void) is_layout_build(sync, lappend(mappings, mapping), &type);
}

static void
check_destination(const IsSync *sync, const char *destination)
{
	ListCell   *lc;

	for (const char *name = destination;; name++)
	{
		Size		len = strcspn(name, ".");

		if (len > MAX_NAME)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid destination \"%s\"", destination),
					 errdetail("A name in it is longer than %d bytes.", MAX_NAME)));
		name += len;
		if (*name == '\0')
			break;
	}
	if (strlen(destination) > MAX_DESTINATION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("destination is longer than %d bytes", MAX_DESTINATION)));

	foreach(lc, sync->mappings)
		if (strcmp(destination, ((IsMapping *) lfirst(lc))->destination) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("sync \"%s\" has a mapping to \"%s\" already",
							sync->name, destination),
					 errhint("Drop it first with iterable_drop_mapping().")));
}

static bool
parse_null_policy(const char *null_policy)
{
	if (strcmp(null_policy, "omit") == 0)
		return false;
	if (strcmp(null_policy, "clear") == 0)
		return true;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized null policy \"%s\"", null_policy),
			 errhint("Valid values are \"omit\", which leaves the field untouched, and \"clear\", which deletes it.")));
}

/* ----------------------------------------------------------------
 * Writing
 * ----------------------------------------------------------------
 */

static Datum
text_or_null(const char *value, char *null)
{
	*null = value ? ' ' : 'n';
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

static void
insert_mapping(const IsSync *sync, const IsMapping *mapping)
{
	static IsQuery query =
		IS_QUERY("INSERT INTO iterable.mapping (sync_id, destination, column_name, "
				 "constant, expression, null_policy) "
				 "VALUES ($1, $2, $3::pg_catalog.name, $4, $5, $6)",
				 6, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID);
	Datum		values[6];
	char		nulls[6];

	values[0] = Int32GetDatum(sync->sync_id);
	nulls[0] = ' ';
	values[1] = text_or_null(mapping->destination, &nulls[1]);
	values[2] = text_or_null(mapping->column_name, &nulls[2]);
	values[3] = text_or_null(mapping->constant, &nulls[3]);
	values[4] = text_or_null(mapping->expression, &nulls[4]);
	values[5] = text_or_null(mapping->clear_null ? "clear" : "omit", &nulls[5]);
	is_config_write(&query, values, nulls);
}

static void
bump_version(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync SET version = version OPERATOR(pg_catalog.+) 1 "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	Datum		arg = Int32GetDatum(sync->sync_id);

	is_config_write(&query, &arg, NULL);
}

/*
 * A mapping changes: "apply" must say what happens to the rows that were sent
 * with the old ones, if there can be any.
 */
static void
check_apply(const IsSync *sync, IsApply apply)
{
	if (sync->has_state)
		is_config_require_apply(apply,
								"The sync was enabled before: rows may have been sent without this change.");
}

/* What follows from a change of mappings that is written. */
static void
finish_change(const IsSync *sync, IsApply apply)
{
	bump_version(sync);
	if (sync->has_state && apply == IS_APPLY_BACKFILL)
	{
		IsConnection *connection = is_connection_describe(sync->connection, sync->owner);

		is_config_start_backfill(is_catalog_get_sync_by_id(sync->sync_id),
								 connection->project_type);
	}
	is_capture_wake_on_commit();
}

/* ----------------------------------------------------------------
 * SQL functions
 * ----------------------------------------------------------------
 */

/*
 * iterable_add_mapping(sync text, destination text, column_name text,
 *		constant text, expression text, null_policy text, apply text)
 *		returns void
 */
Datum
iterable_add_mapping(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	IsMapping	mapping = {
		.destination = is_config_arg(fcinfo, 1, "destination", true),
		.column_name = is_config_arg(fcinfo, 2, "column_name", false),
		.constant = is_config_arg(fcinfo, 3, "constant", false),
		.expression = is_config_arg(fcinfo, 4, "expression", false),
		.clear_null = parse_null_policy(is_config_arg(fcinfo, 5, "null_policy", true)),
	};
	IsApply		apply = is_config_parse_apply(is_config_arg(fcinfo, 6, "apply", false));
	IsSync	   *sync;
	Oid			type = InvalidOid;

	if ((mapping.column_name != NULL) + (mapping.constant != NULL) +
		(mapping.expression != NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exactly one of column_name, constant and expression must be given"),
				 errhint("Name the argument, as in column_name => 'plan'.")));

	sync = is_config_lock_sync(name, "iterable_add_mapping()");
	check_apply(sync, apply);
	check_destination(sync, mapping.destination);
	if (mapping.constant == NULL)
	{
		Oid			relid = is_source_resolve(sync)->relid;

		if (mapping.column_name)
			type = get_atttype(relid,
							   is_source_column(relid, mapping.column_name));
		else
		{
			IsExpression *expression = is_expression_check(mapping.expression, relid);

			mapping.expression = expression->text;
			type = expression->type;
		}
	}
	check_layout(sync, &mapping, type);

	insert_mapping(sync, &mapping);
	if (sync->has_state && mapping.constant == NULL)
		is_source_put_triggers(is_catalog_get_sync_by_id(sync->sync_id));
	finish_change(sync, apply);
	PG_RETURN_VOID();
}

/* Error 42704: the sync has no such mapping. */
static void
report_no_mapping(const IsSync *sync, const char *destination)
{
	const char **destinations = palloc_array(const char *,
											 list_length(sync->mappings));
	const char *closest;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, sync->mappings)
		destinations[n++] = ((IsMapping *) lfirst(lc))->destination;
	closest = is_hint_closest(destination, destinations, n);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("sync \"%s\" has no mapping to \"%s\"", sync->name, destination),
			 closest ? errhint("Perhaps you meant the mapping to \"%s\".", closest) : 0));
}

/*
 * iterable_drop_mapping(sync text, destination text, apply text)
 *		returns void
 */
Datum
iterable_drop_mapping(PG_FUNCTION_ARGS)
{
	static IsQuery query =
		IS_QUERY("DELETE FROM iterable.mapping "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1 "
				 "AND destination OPERATOR(pg_catalog.=) $2", 2, INT4OID, TEXTOID);
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	char	   *destination = is_config_arg(fcinfo, 1, "destination", true);
	IsApply		apply = is_config_parse_apply(is_config_arg(fcinfo, 2, "apply", false));
	IsSync	   *sync = is_config_lock_sync(name, "iterable_drop_mapping()");
	Datum		values[2];

	check_apply(sync, apply);
	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = CStringGetTextDatum(destination);
	if (is_config_write(&query, values, NULL) == 0)
		report_no_mapping(sync, destination);

	if (sync->enabled)
	{
		IsConnection *connection = is_connection_describe(sync->connection, sync->owner);

		(void) is_layout_mappings(is_catalog_get_sync_by_id(sync->sync_id),
								  connection->project_type);
	}

	/*
	 * The triggers go on watching what this mapping read, until they are next
	 * put: that captures a bit more than needed, but takes no lock, and works
	 * when the source has gone.
	 */
	finish_change(sync, apply);
	PG_RETURN_VOID();
}
