/*-------------------------------------------------------------------------
 *
 * mapping.c
 *	  SQL functions that add and drop mappings, and what they check.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "mapping.h"

#include "access/attnum.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
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
#include "source_watch.h"
#include "time_zone.h"

PG_FUNCTION_INFO_V1(iterable_add_mapping);
PG_FUNCTION_INFO_V1(iterable_drop_mapping);
PG_FUNCTION_INFO_V1(iterable_check_sync);

#define MAX_NAME 255			/* bytes of one name of a path */
#define MAX_DESTINATION 1024	/* bytes of a path: it is part of an index key */

/* ----------------------------------------------------------------
 * Checking
 * ----------------------------------------------------------------
 */

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

bool
is_mapping_parse_null_policy(const char *null_policy)
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

/* The type of what a mapping of a column or expression gives. */
static Oid
check_value(const IsSync *sync, IsMapping *mapping, Oid relid)
{
	IsExpression *expression;

	if (mapping->column_name)
	{
		AttrNumber	attno = is_source_column(relid, mapping->column_name);

		if (get_attgenerated(relid, attno) == ATTRIBUTE_GENERATED_VIRTUAL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("virtual generated column \"%s\" cannot be mapped",
							mapping->column_name),
					 errdetail("A change of it cannot be seen."),
					 errhint("Make it a stored generated column, or map the expression that generates it.")));
		return get_atttype(relid, attno);
	}

	expression = is_expression_check(mapping->expression, relid,
									 IS_EXPRESSION_MAPPING);
	if (expression->whole_row && sync->capture != IS_CAPTURE_KEY)
		is_expression_refuse_whole_row();
	mapping->expression = expression->text;
	return expression->type;
}

void
is_mapping_check(const IsSync *sync, IsMapping *mapping)
{
	List	   *mappings = NIL;
	Oid			type = InvalidOid;
	ListCell   *lc;

	if ((mapping->column_name != NULL) + (mapping->constant != NULL) +
		(mapping->expression != NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exactly one of column_name, constant and expression must be given"),
				 errdetail("The mapping is that to \"%s\".", mapping->destination),
				 errhint("Name the argument, as in column_name => 'plan'.")));
	check_destination(sync, mapping->destination);
	if (mapping->time_zone)
		(void) is_time_zone_get(mapping->time_zone);
	if (mapping->constant == NULL)
		type = check_value(sync, mapping, is_source_resolve(sync)->relid);

	/*
	 * Where a destination goes, which others it excludes and which values it
	 * takes, the layout of the payloads knows.  Of the other mappings it is
	 * told the places only: whether their columns still exist is not the
	 * matter of this one.
	 */
	foreach(lc, sync->mappings)
	{
		IsMapping  *other = palloc0_object(IsMapping);

		other->destination = ((IsMapping *) lfirst(lc))->destination;
		mappings = lappend(mappings, other);
	}
	(void) is_layout_build(sync, lappend(mappings, mapping), &type);
}

void
is_mapping_check_all(const IsSync *sync)
{
	Oid			relid = is_source_resolve(sync)->relid;
	Oid		   *types = palloc_array(Oid, list_length(sync->mappings) + 1);
	int			n = 0;
	ListCell   *lc;

	foreach(lc, sync->mappings)
		if (((IsMapping *) lfirst(lc))->constant == NULL)
			types[n++] = check_value(sync, lfirst(lc), relid);
	(void) is_layout_build(sync, sync->mappings, types);
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

void
is_mapping_insert(const IsSync *sync, const IsMapping *mapping)
{
	static IsQuery query =
		IS_QUERY("INSERT INTO iterable.mapping (sync_id, destination, column_name, "
				 "constant, expression, null_policy, time_zone) "
				 "VALUES ($1, $2, $3::pg_catalog.name, $4, $5, $6, $7)",
				 7, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID);
	Datum		values[7];
	char		nulls[7];

	values[0] = Int32GetDatum(sync->sync_id);
	nulls[0] = ' ';
	values[1] = text_or_null(mapping->destination, &nulls[1]);
	values[2] = text_or_null(mapping->column_name, &nulls[2]);
	values[3] = text_or_null(mapping->constant, &nulls[3]);
	values[4] = text_or_null(mapping->expression, &nulls[4]);
	values[5] = text_or_null(mapping->clear_null ? "clear" : "omit", &nulls[5]);
	values[6] = text_or_null(mapping->time_zone, &nulls[6]);
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

void
is_mapping_delete_all(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("DELETE FROM iterable.mapping "
				 "WHERE sync_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	Datum		arg = Int32GetDatum(sync->sync_id);

	is_config_write(&query, &arg, NULL);
}

void
is_mapping_begin_change(const IsSync *sync, IsApply apply)
{
	if (sync->has_state)
		is_config_require_apply(apply,
								"The sync was enabled before: rows may have been sent without this change.");
}

void
is_mapping_end_change(const IsSync *sync, IsApply apply, bool reads_more)
{
	bump_version(sync);
	if (is_config_enabled_here(sync))
	{
		IsSync	   *now = is_catalog_get_sync_by_id(sync->sync_id);

		is_config_hurry(now);
		if (reads_more)
			is_source_watch_put(now);
		if (apply == IS_APPLY_BACKFILL)
			is_config_start_backfill(now, NULL, false);
	}
	is_capture_wake_on_commit();
}

/* ----------------------------------------------------------------
 * SQL functions
 * ----------------------------------------------------------------
 */

/*
 * iterable_add_mapping(sync text, destination text, column_name text,
 *		constant text, expression text, null_policy text, time_zone text,
 *		apply text) returns void
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
		.clear_null = is_mapping_parse_null_policy(is_config_arg(fcinfo, 5, "null_policy", true)),
		.time_zone = is_config_arg(fcinfo, 6, "time_zone", false),
	};
	IsApply		apply = is_config_parse_apply(is_config_arg(fcinfo, 7, "apply", false));
	IsSync	   *sync = is_config_lock_sync(name, "iterable_add_mapping()");

	is_mapping_begin_change(sync, apply);
	is_mapping_check(sync, &mapping);
	is_mapping_insert(sync, &mapping);
	is_mapping_end_change(sync, apply, mapping.constant == NULL);
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

	is_mapping_begin_change(sync, apply);
	values[0] = Int32GetDatum(sync->sync_id);
	values[1] = CStringGetTextDatum(destination);
	if (is_config_write(&query, values, NULL) == 0)
		report_no_mapping(sync, destination);

	/* takes no lock, and works when the source has gone */
	is_mapping_end_change(sync, apply, false);
	PG_RETURN_VOID();
}

/* ----------------------------------------------------------------
 * At commit
 * ----------------------------------------------------------------
 */

/*
 * iterable.check_sync() returns trigger
 *
 * Changes of one transaction are one change: whether an enabled sync can do
 * with what it has now is looked at when all of them are made.
 */
Datum
iterable_check_sync(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		isnull;
	int32		sync_id;
	IsSync	   *sync;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != is_catalog_relation("sync"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be called by the trigger of iterable.sync",
						"iterable.check_sync")));

	sync_id = DatumGetInt32(heap_getattr(trigger->tg_newtuple, 1,
										 RelationGetDescr(trigger->tg_relation), &isnull));
	sync = is_catalog_get_sync_by_id(sync_id);
	if (sync != NULL && sync->enabled)
	{
		IsConnection *connection = is_connection_describe(sync->connection, sync->owner);

		(void) is_layout_mappings(sync, connection->project_type);
	}
	return PointerGetDatum(NULL);
}
