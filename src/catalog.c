/*-------------------------------------------------------------------------
 *
 * catalog.c
 *	  Sync, mapping and source rows as C structs.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "catalog.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "iterable_sync.h"

static const char *const object_names[] = {"user", "event"};
static const char *const mode_names[] = {"insert", "update", "upsert"};
static const char *const capture_names[] = {"key", "row"};
static const char *const new_fields_names[] = {"project", "always", "never"};

/* So many of the extension's relations are asked for by name. */
#define RELATIONS 16

#define SYNC_COLUMNS \
	"s.sync_id, s.sync_uuid, s.name, s.owner::pg_catalog.oid, s.connection, " \
	"s.source_id, c.schema_name, c.table_name, c.key_columns, s.object, " \
	"s.mode, s.schedule, s.time_zone, s.match_field, s.filter, " \
	"s.prefer_user_id, s.merge_nested_objects, s.create_new_fields, s.dry_run, " \
	"s.capture, s.versions, s.track, s.enabled, s.version, " \
	"EXISTS (SELECT FROM iterable.sync_state t " \
	"WHERE t.sync_id OPERATOR(pg_catalog.=) s.sync_id) " \
	"FROM iterable.sync s JOIN iterable.source c " \
	"ON c.source_id OPERATOR(pg_catalog.=) s.source_id "

static int
parse_word(const char *text, const char *const *words, int n,
		   const char *what)
{
	StringInfoData valid;

	for (int i = 0; i < n; i++)
		if (strcmp(text, words[i]) == 0)
			return i;

	initStringInfo(&valid);
	for (int i = 0; i < n; i++)
		appendStringInfo(&valid, "%s\"%s\"", i == 0 ? "" : ", ", words[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized %s \"%s\"", what, text),
			 errhint("Valid values are: %s.", valid.data)));
}

const char *
is_catalog_object_name(IsObject object)
{
	return object_names[object];
}

IsObject
is_catalog_parse_object(const char *text)
{
	return (IsObject) parse_word(text, object_names, lengthof(object_names),
								 "object type");
}

const char *
is_catalog_mode_name(IsMode mode)
{
	return mode_names[mode];
}

IsMode
is_catalog_parse_mode(const char *text)
{
	return (IsMode) parse_word(text, mode_names, lengthof(mode_names),
							   "mode");
}

const char *
is_catalog_capture_name(IsCapture capture)
{
	return capture_names[Min(capture, IS_CAPTURE_ROW)];
}

IsCapture
is_catalog_parse_capture(const char *text)
{
	return (IsCapture) parse_word(text, capture_names, lengthof(capture_names),
								  "value for capture");
}

const char *
is_catalog_new_fields_name(IsNewFields new_fields)
{
	return new_fields_names[new_fields];
}

IsNewFields
is_catalog_parse_new_fields(const char *text)
{
	return (IsNewFields) parse_word(text, new_fields_names, lengthof(new_fields_names),
									"value for create_new_fields");
}

/* A column of the current SPI tuple as text in "context", NULL for null. */
static char *
get_text(HeapTuple tuple, TupleDesc desc, int column, MemoryContext context)
{
	char	   *value = SPI_getvalue(tuple, desc, column);

	return value ? MemoryContextStrdup(context, value) : NULL;
}

static List *
get_names(Datum array, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Datum	   *elems;
	int			n;
	List	   *result = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), NAMEOID, NAMEDATALEN, false,
					  TYPALIGN_CHAR, &elems, NULL, &n);
	for (int i = 0; i < n; i++)
		result = lappend(result, pstrdup(NameStr(*DatumGetName(elems[i]))));
	MemoryContextSwitchTo(old);
	return result;
}

static List *
load_mappings(int32 sync_id, MemoryContext context)
{
	Datum		arg = Int32GetDatum(sync_id);
	Oid			type = INT4OID;
	List	   *result = NIL;

	if (SPI_execute_with_args("SELECT destination, column_name, constant, expression, "
							  "null_policy OPERATOR(pg_catalog.=) 'clear', time_zone "
							  "FROM iterable.mapping WHERE sync_id OPERATOR(pg_catalog.=) $1 "
							  "ORDER BY destination COLLATE \"C\"",
							  1, &type, &arg, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read iterable.mapping");

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		MemoryContext old = MemoryContextSwitchTo(context);
		IsMapping  *mapping = palloc0(sizeof(IsMapping));

		mapping->destination = get_text(tuple, desc, 1, context);
		mapping->column_name = get_text(tuple, desc, 2, context);
		mapping->constant = get_text(tuple, desc, 3, context);
		mapping->expression = get_text(tuple, desc, 4, context);
		mapping->clear_null =
			DatumGetBool(SPI_getbinval(tuple, desc, 5, &isnull));
		mapping->time_zone = get_text(tuple, desc, 6, context);
		result = lappend(result, mapping);
		MemoryContextSwitchTo(old);
	}
	return result;
}

static IsSync *
load_sync(const char *condition, Oid type, Datum arg)
{
	MemoryContext context = CurrentMemoryContext;
	IsUserContext save;
	IsSync	   *sync = NULL;
	char	   *query = psprintf("SELECT " SYNC_COLUMNS "WHERE %s", condition);

	is_catalog_become_owner(&save);
	SPI_connect();
	if (SPI_execute_with_args(query, 1, &type, &arg, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read iterable.sync");

	if (SPI_processed == 1)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		sync = MemoryContextAllocZero(context, sizeof(IsSync));
		sync->sync_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		sync->uuid = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 2, &isnull));
		sync->name = get_text(tuple, desc, 3, context);
		sync->owner = DatumGetObjectId(SPI_getbinval(tuple, desc, 4, &isnull));
		sync->connection = get_text(tuple, desc, 5, context);
		sync->source.source_id = DatumGetInt32(SPI_getbinval(tuple, desc, 6, &isnull));
		sync->source.schema_name = get_text(tuple, desc, 7, context);
		sync->source.table_name = get_text(tuple, desc, 8, context);
		sync->source.key_columns =
			get_names(SPI_getbinval(tuple, desc, 9, &isnull), context);
		sync->object = is_catalog_parse_object(SPI_getvalue(tuple, desc, 10));
		sync->mode = is_catalog_parse_mode(SPI_getvalue(tuple, desc, 11));
		sync->schedule = get_text(tuple, desc, 12, context);
		sync->time_zone = get_text(tuple, desc, 13, context);
		sync->match_field = get_text(tuple, desc, 14, context);
		sync->filter = get_text(tuple, desc, 15, context);
		sync->prefer_user_id = DatumGetBool(SPI_getbinval(tuple, desc, 16, &isnull));
		sync->merge_nested_objects = DatumGetBool(SPI_getbinval(tuple, desc, 17, &isnull));
		sync->new_fields = is_catalog_parse_new_fields(SPI_getvalue(tuple, desc, 18));
		sync->dry_run = DatumGetBool(SPI_getbinval(tuple, desc, 19, &isnull));
		sync->capture = is_catalog_parse_capture(SPI_getvalue(tuple, desc, 20));
		if (DatumGetBool(SPI_getbinval(tuple, desc, 21, &isnull)))
			sync->capture = IS_CAPTURE_VERSIONS;
		sync->track = DatumGetBool(SPI_getbinval(tuple, desc, 22, &isnull));
		sync->enabled = DatumGetBool(SPI_getbinval(tuple, desc, 23, &isnull));
		sync->version = DatumGetInt32(SPI_getbinval(tuple, desc, 24, &isnull));
		sync->has_state = DatumGetBool(SPI_getbinval(tuple, desc, 25, &isnull));
		sync->mappings = load_mappings(sync->sync_id, context);
	}
	SPI_finish();
	is_catalog_restore_user(&save);
	pfree(query);
	return sync;
}

IsSync *
is_catalog_get_sync(const char *name)
{
	IsSync	   *sync = load_sync("s.name OPERATOR(pg_catalog.=) $1", TEXTOID,
								 CStringGetTextDatum(name));

	if (sync == NULL || !has_privs_of_role(GetUserId(), sync->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sync \"%s\" does not exist", name),
				 errhint("The view iterable.sync_status lists your syncs.")));
	return sync;
}

IsSync *
is_catalog_get_sync_by_id(int32 sync_id)
{
	return load_sync("s.sync_id OPERATOR(pg_catalog.=) $1", INT4OID,
					 Int32GetDatum(sync_id));
}

List *
is_catalog_read_ids(IsQuery *query, Datum *values)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	uint64		n;
	IsUserContext save;

	is_catalog_become_owner(&save);
	SPI_connect();
	n = is_query_run(query, values, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int32		id = DatumGetInt32(is_query_value(i, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(context);

		result = lappend_int(result, id);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	is_catalog_restore_user(&save);
	return result;
}

/* What is_catalog_find_relation() has found, until a name changes. */
static struct
{
	const char *name;
	Oid			relid;
}			relations[RELATIONS];
static int	nrelations = 0;

static void
forget_relations(Datum arg, int cacheid, uint32 hashvalue)
{
	nrelations = 0;
}

void
is_catalog_register(void)
{
	CacheRegisterSyscacheCallback(RELNAMENSP, forget_relations, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACENAME, forget_relations, (Datum) 0);
}

Oid
is_catalog_find_relation(const char *name)
{
	Oid			schema;
	Oid			relid;

	for (int i = 0; i < nrelations; i++)
		if (strcmp(relations[i].name, name) == 0)
			return relations[i].relid;

	schema = get_namespace_oid(IS_SCHEMA, true);
	relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
	if (OidIsValid(relid) && nrelations < RELATIONS)
	{
		relations[nrelations].name = name;
		relations[nrelations++].relid = relid;
	}
	return relid;
}

Oid
is_catalog_relation(const char *name)
{
	Oid			relid = is_catalog_find_relation(name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s.%s\" does not exist", IS_SCHEMA, name),
				 errhint("Create the extension iterable_sync in this database.")));
	return relid;
}

Oid
is_catalog_owner(void)
{
	Relation	rel = table_open(is_catalog_relation("sync"), AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	table_close(rel, AccessShareLock);
	return owner;
}

Oid
is_catalog_function_schema(void)
{
	Oid			schema = InvalidOid;
	bool		isnull;

	SPI_connect();
	if (SPI_execute("SELECT extnamespace FROM pg_catalog.pg_extension "
					"WHERE extname OPERATOR(pg_catalog.=) '" IS_EXTENSION "'",
					true, 1) == SPI_OK_SELECT &&
		SPI_processed == 1)
		schema = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
												SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	if (!OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" does not exist", IS_EXTENSION)));
	return schema;
}

/*
 * The schema alone proves nothing: somebody may have made one of that name.
 */
bool
is_catalog_installed(void)
{
	return OidIsValid(get_extension_oid(IS_EXTENSION, true));
}

static void
become(IsUserContext *save, Oid role, int flags)
{
	GetUserIdAndSecContext(&save->userid, &save->sec_context);
	SetUserIdAndSecContext(role, save->sec_context | flags);
}

void
is_catalog_become_owner(IsUserContext *save)
{
	become(save, is_catalog_owner(), SECURITY_LOCAL_USERID_CHANGE);
}

void
is_catalog_become(IsUserContext *save, Oid role)
{
	become(save, role,
		   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

void
is_catalog_restore_user(const IsUserContext *save)
{
	SetUserIdAndSecContext(save->userid, save->sec_context);
}
