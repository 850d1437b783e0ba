/*-------------------------------------------------------------------------
 *
 * source_trigger.c
 *	  The capture triggers on a source.
 *
 * A source has a row trigger, which is cloned to the partitions of a
 * partitioned table, also to those that come later, and a statement trigger
 * for TRUNCATE, which stands on the named table only: the TRUNCATE of a
 * partition by its own name is not seen here, comparing closes that gap.
 * What the row trigger looks at stands in its arguments.  To change them
 * takes a lock that waits for open writers, so none of them slips past a
 * mapping change with the old definition.
 *
 * Sessions that put triggers on one source or take them off go one after the
 * other: see lock_source().
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "source.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/value.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "compat.h"
#include "expression.h"
#include "query.h"

#define CAPTURE_FUNCTION "iterable_capture"
#define LOCK_TIMEOUT_MS 2000

#define ROW_TYPE \
	(TRIGGER_TYPE_ROW | TRIGGER_TYPE_AFTER | TRIGGER_TYPE_INSERT | \
	 TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)
#define TRUNCATE_TYPE \
	(TRIGGER_TYPE_STATEMENT | TRIGGER_TYPE_AFTER | TRIGGER_TYPE_TRUNCATE)

static char *
trigger_name(int32 source_id, int16 type)
{
	return psprintf("%s_%d",
					type == ROW_TYPE ? "iterable_capture" : "iterable_truncate",
					source_id);
}

/* OID of the function of all our triggers; InvalidOid if it is missing. */
static Oid
capture_function(void)
{
	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   CStringGetDatum(CAPTURE_FUNCTION),
						   PointerGetDatum(buildoidvector(NULL, 0)),
						   ObjectIdGetDatum(is_catalog_function_schema()));
}

/*
 * Keep other sessions from changing this source's triggers until we commit,
 * and see what those before us have done.  The update of a value to itself,
 * rather than a row lock, makes a session fail that waited for us with the
 * old snapshot of REPEATABLE READ: it would undo what it can't see.
 */
static void
lock_source(int32 source_id)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.source SET key_columns = key_columns "
				 "WHERE source_id OPERATOR(pg_catalog.=) $1", 1, INT4OID);
	Datum		arg = Int32GetDatum(source_id);
	IsUserContext save;

	is_catalog_become_owner(&save);
	SPI_connect();
	is_query_run(&query, &arg, NULL);
	SPI_finish();
	is_catalog_restore_user(&save);
}

List *
is_source_syncs(int32 source_id)
{
	static IsQuery query =
		IS_QUERY("SELECT s.sync_id FROM iterable.sync s "
				 "WHERE s.source_id OPERATOR(pg_catalog.=) $1 "
				 "AND EXISTS (SELECT FROM iterable.sync_state t "
				 "WHERE t.sync_id OPERATOR(pg_catalog.=) s.sync_id) "
				 "ORDER BY s.sync_id", 1, INT4OID);
	MemoryContext context = CurrentMemoryContext;
	Datum		arg = Int32GetDatum(source_id);
	List	   *result = NIL;
	uint64		n;
	IsUserContext save;

	is_catalog_become_owner(&save);
	SPI_connect();
	n = is_query_run(&query, &arg, NULL);
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int32		sync_id = DatumGetInt32(is_query_value(i, 1, &isnull));
		MemoryContext old = MemoryContextSwitchTo(context);

		result = lappend_int(result, sync_id);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	is_catalog_restore_user(&save);
	return result;
}

/* ----------------------------------------------------------------
 * DDL
 * ----------------------------------------------------------------
 */

static void
lock_hint(void *arg)
{
	if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
		errhint("Other transactions use the table \"%s\". Try again when they have finished, or end them.",
				(char *) arg);
}

/*
 * Run statements on a table as the current role.  A lock request that waits
 * makes all that come after it wait too, so it waits for two seconds only.
 */
static void
run_ddl(const char *table, List *statements)
{
	ErrorContextCallback callback;
	int			nest_level = NewGUCNestLevel();
	ListCell   *lc;

	if (LockTimeout == 0 || LockTimeout > LOCK_TIMEOUT_MS)
		(void) set_config_option("lock_timeout",
								 CppAsString2(LOCK_TIMEOUT_MS),
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("client_min_messages", "warning",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);

	callback.callback = lock_hint;
	callback.arg = unconstify(char *, table);
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	SPI_connect();
	foreach(lc, statements)
		if (SPI_execute(lfirst(lc), false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not execute \"%s\"", (char *) lfirst(lc));
	SPI_finish();

	error_context_stack = callback.previous;
	AtEOXact_GUC(true, nest_level);
}

/* ----------------------------------------------------------------
 * Watched columns
 * ----------------------------------------------------------------
 */

typedef struct Watched
{
	Bitmapset  *attnos;
	List	   *missing;		/* of String: mapped columns that are gone */
	bool		all;
} Watched;

/*
 * What an expression reads, or NULL if it does not fit the relation any more:
 * that is the trouble of its sync, not of the others on this source.
 */
static IsExpression *
read_expression(const char *text, Oid relid, IsExpressionUse use)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	IsExpression *volatile expression = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		expression = is_expression_check(text, relid, use);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			category;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
		if (category == ERRCODE_OPERATOR_INTERVENTION ||
			category == ERRCODE_INSUFFICIENT_RESOURCES)
			ReThrowError(error);
		FreeErrorData(error);
		expression = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return expression;
}

static void
watch_column(Watched *watched, Oid relid, char *name)
{
	AttrNumber	attno = get_attnum(relid, name);

	/*
	 * A column that is gone stays in the list: the trigger captures every
	 * change until it is back, and then watches it again by itself.
	 */
	if (attno > 0)
		watched->attnos = bms_add_member(watched->attnos, attno);
	else
		watched->missing = list_append_unique(watched->missing, makeString(name));
}

static void
watch_expression(Watched *watched, Oid relid, const char *text, IsExpressionUse use)
{
	IsExpression *expression = read_expression(text, relid, use);

	if (expression == NULL || expression->whole_row)
		watched->all = true;
	else
		watched->attnos = bms_add_members(watched->attnos, expression->columns);
}

static void
watch_sync(Watched *watched, Oid relid, const IsSync *sync)
{
	ListCell   *lc;

	if (sync->match_field)
		watch_column(watched, relid, sync->match_field);
	if (sync->filter)
		watch_expression(watched, relid, sync->filter, IS_EXPRESSION_FILTER);
	foreach(lc, sync->mappings)
	{
		IsMapping  *mapping = lfirst(lc);

		if (mapping->column_name)
			watch_column(watched, relid, mapping->column_name);
		else if (mapping->expression)
			watch_expression(watched, relid, mapping->expression,
							 IS_EXPRESSION_MAPPING);
	}
}

static char *
names_literal(const List *names)
{
	Datum	   *elems = palloc_array(Datum, list_length(names));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, names)
		elems[n++] = CStringGetTextDatum(lfirst(lc));
	return OidOutputFunctionCall(F_ARRAY_OUT,
								 PointerGetDatum(construct_array(elems, n, TEXTOID, -1,
																 false, TYPALIGN_INT)));
}

/* The third argument of the row trigger. */
static char *
watched_literal(const IsSync *sync, Oid relid)
{
	Watched		watched = {0};
	List	   *names = NIL;
	ListCell   *lc;
	int			attno = -1;

	watch_sync(&watched, relid, sync);
	foreach(lc, is_source_syncs(sync->source.source_id))
	{
		IsSync	   *other;

		if (lfirst_int(lc) == sync->sync_id)
			continue;
		other = is_catalog_get_sync_by_id(lfirst_int(lc));
		if (other)
			watch_sync(&watched, relid, other);
	}

	if (watched.all)
		return "*";
	while ((attno = bms_next_member(watched.attnos, attno)) >= 0)
		names = lappend(names, get_attname(relid, attno, false));
	foreach(lc, watched.missing)
		names = lappend(names, strVal(lfirst(lc)));
	return names_literal(names);
}

/* ----------------------------------------------------------------
 * Putting
 * ----------------------------------------------------------------
 */

/*
 * Does the relation have this trigger, with these arguments and ENABLE
 * ALWAYS?  Reads the catalog alone and takes no lock on the relation.
 */
static bool
is_trigger_right(Oid relid, const char *name, int16 type, Oid function,
				 const char *const *args, int nargs)
{
	Relation	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	NameData	tgname;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		right = false;

	namestrcpy(&tgname, name);
	ScanKeyInit(&key[0], Anum_pg_trigger_tgrelid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&key[1], Anum_pg_trigger_tgname, BTEqualStrategyNumber,
				F_NAMEEQ, NameGetDatum(&tgname));
	scan = systable_beginscan(pg_trigger, TriggerRelidNameIndexId, true,
							  NULL, 2, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		bool		isnull;
		bytea	   *tgargs =
			DatumGetByteaPP(fastgetattr(tuple, Anum_pg_trigger_tgargs,
										RelationGetDescr(pg_trigger), &isnull));
		StringInfoData expected;

		initStringInfo(&expected);
		for (int i = 0; i < nargs; i++)
			appendBinaryStringInfo(&expected, args[i], strlen(args[i]) + 1);

		right = form->tgfoid == function &&
			form->tgtype == type &&
			form->tgenabled == TRIGGER_FIRES_ALWAYS &&
			form->tgattr.dim1 == 0 &&
			heap_attisnull(tuple, Anum_pg_trigger_tgqual,
						   RelationGetDescr(pg_trigger)) &&
			form->tgnargs == nargs &&
			VARSIZE_ANY_EXHDR(tgargs) == (Size) expected.len &&
			memcmp(VARDATA_ANY(tgargs), expected.data, expected.len) == 0;
	}
	systable_endscan(scan);
	table_close(pg_trigger, AccessShareLock);
	return right;
}

/* The statements that a trigger needs; none if it is right already. */
static List *
trigger_statements(const IsSync *sync, const IsRelation *relation, int16 type,
				   const char *watched)
{
	int32		source_id = sync->source.source_id;
	char	   *name = trigger_name(source_id, type);
	const char *args[3];
	Oid			function = capture_function();

	args[0] = psprintf("%d", source_id);
	args[1] = names_literal(sync->source.key_columns);
	args[2] = watched;
	if (is_trigger_right(relation->relid, name, type, function, args, lengthof(args)))
		return NIL;

	return list_make2(psprintf("CREATE OR REPLACE TRIGGER %s AFTER %s ON %s "
							   "FOR EACH %s EXECUTE FUNCTION %s(%s, %s, %s)",
							   name,
							   type == ROW_TYPE ? "INSERT OR UPDATE OR DELETE" : "TRUNCATE",
							   relation->qualified_name,
							   type == ROW_TYPE ? "ROW" : "STATEMENT",
							   quote_qualified_identifier(get_namespace_name(is_catalog_function_schema()),
														  CAPTURE_FUNCTION),
							   quote_literal_cstr(args[0]),
							   quote_literal_cstr(args[1]),
							   quote_literal_cstr(args[2])),

	/*
	 * Logical replication and session_replication_role = replica change rows
	 * too.  OR REPLACE has just turned this off.
	 */
					  psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
							   relation->qualified_name, name));
}

/* What brings the triggers of a source to what they should be. */
static List *
all_statements(const IsSync *sync, const IsRelation *relation)
{
	/* A truncation concerns every row, whatever is watched. */
	return list_concat(trigger_statements(sync, relation, ROW_TYPE,
										  watched_literal(sync, relation->relid)),
					   trigger_statements(sync, relation, TRUNCATE_TYPE, "{}"));
}

bool
is_source_triggers_right(const IsSync *sync)
{
	return all_statements(sync, is_source_resolve(sync)) == NIL;
}

void
is_source_put_triggers(const IsSync *sync)
{
	IsRelation *relation;
	List	   *statements;

	lock_source(sync->source.source_id);
	relation = is_source_resolve(sync);
	if (!is_class_ownercheck(relation->relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, sync->source.table_name);

	statements = all_statements(sync, relation);
	if (statements != NIL)
		run_ddl(sync->source.table_name, statements);
}

/* ----------------------------------------------------------------
 * Dropping
 * ----------------------------------------------------------------
 */

/*
 * Relations (as a list of OIDs) that bear a trigger of this source.  The
 * table may have been renamed since, and another have taken its name; clones
 * on partitions go with the original.
 */
static List *
relations_with_trigger(int32 source_id, int16 type)
{
	Relation	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	Oid			function = capture_function();
	char	   *name = trigger_name(source_id, type);
	SysScanDesc scan = systable_beginscan(pg_trigger, InvalidOid, false, NULL,
										  0, NULL);
	List	   *result = NIL;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (form->tgfoid == function && !OidIsValid(form->tgparentid) &&
			strcmp(NameStr(form->tgname), name) == 0)
			result = lappend_oid(result, form->tgrelid);
	}
	systable_endscan(scan);
	table_close(pg_trigger, AccessShareLock);
	return result;
}

bool
is_source_drop_triggers(const IsSource *source)
{
	static const int16 types[] = {ROW_TYPE, TRUNCATE_TYPE};
	List	   *foreign = NIL;

	lock_source(source->source_id);
	if (is_source_syncs(source->source_id) != NIL)
		return false;

	for (int i = 0; i < (int) lengthof(types); i++)
	{
		ListCell   *lc;

		foreach(lc, relations_with_trigger(source->source_id, types[i]))
		{
			Oid			relid = lfirst_oid(lc);
			char	   *table = get_rel_name(relid);

			if (table == NULL)
				continue;		/* dropped just now */
			if (!is_class_ownercheck(relid, GetUserId()))
			{
				foreign = list_append_unique_oid(foreign, relid);
				continue;
			}
			run_ddl(table,
					list_make1(psprintf("DROP TRIGGER %s ON %s",
										trigger_name(source->source_id, types[i]),
										quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
																   table))));
		}
	}

	if (foreign != NIL)
	{
		ListCell   *lc;

		foreach(lc, foreign)
			ereport(NOTICE,
					(errmsg("capture triggers of table \"%s.%s\" were left in place",
							get_namespace_name(get_rel_namespace(lfirst_oid(lc))),
							get_rel_name(lfirst_oid(lc))),
					 errdetail("You do not own the table."),
					 errhint("Its owner can drop the triggers %s and %s.",
							 trigger_name(source->source_id, ROW_TYPE),
							 trigger_name(source->source_id, TRUNCATE_TYPE))));
	}
	return foreign == NIL;
}
