/*-------------------------------------------------------------------------
 *
 * source_trigger.c
 *	  The capture triggers on a source.
 *
 * A source has a row trigger, which is cloned to the partitions of a
 * partitioned table, also to those that come later, and a statement trigger
 * for TRUNCATE, which is not: so each leaf gets one of its own, because it can
 * be truncated by its own name.  source_watch.c puts them on those that come
 * later, and looks at what was truncated without one.  What the row trigger
 * looks at stands in its arguments.  To change them takes a lock that waits
 * for open writers, so none of them slips past a mapping change with the old
 * definition.
 *
 * Sessions that put triggers on one source or take them off go one after the
 * other: see lock_source().
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "source_trigger.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "nodes/value.h"
#include "storage/lmgr.h"
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

#define LOCK_TIMEOUT_MS 2000

char *
is_source_trigger_name(int32 source_id, int16 type)
{
	return psprintf("%s_%d",
					type == ROW_TYPE ? "iterable_capture" : "iterable_truncate",
					source_id);
}

/* OID of the function of all our triggers; InvalidOid if it is missing. */
Oid
is_source_capture_function(void)
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
void
is_source_lock_triggers(int32 source_id)
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
	Datum		arg = Int32GetDatum(source_id);

	return is_catalog_read_ids(&query, &arg);
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
void
is_source_run_ddl(const char *table, List *statements)
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

/* What is looked at for a change, or stored. */
typedef struct Watched
{
	Bitmapset  *attnos;
	List	   *missing;		/* of String: mapped columns that are gone */
	bool		all;
} Watched;

/* The last arguments of the row trigger. */
typedef struct Arguments
{
	const char *watched;
	const char *stored;			/* NULL: nothing is */
} Arguments;

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

static char *
watched_literal(const Watched *watched, Oid relid)
{
	List	   *names = NIL;
	ListCell   *lc;
	int			attno = -1;

	if (watched->all)
		return "*";
	while ((attno = bms_next_member(watched->attnos, attno)) >= 0)
		names = lappend(names, get_attname(relid, attno, false));
	foreach(lc, watched->missing)
		names = lappend(names, strVal(lfirst(lc)));
	return names_literal(names);
}

/* What the syncs of a source need, this one as it is given. */
static Arguments
row_arguments(const IsSync *sync, Oid relid)
{
	Watched		watched = {0};
	Watched		stored = {0};
	bool		storing = false;
	List	   *syncs = list_make1(unconstify(IsSync *, sync));
	Arguments	arguments;
	ListCell   *lc;

	foreach(lc, is_source_syncs(sync->source.source_id))
	{
		IsSync	   *other = lfirst_int(lc) == sync->sync_id ? NULL :
			is_catalog_get_sync_by_id(lfirst_int(lc));

		if (other)
			syncs = lappend(syncs, other);
	}
	foreach(lc, syncs)
	{
		const IsSync *one = lfirst(lc);

		watch_sync(&watched, relid, one);
		if (one->capture != IS_CAPTURE_KEY)
		{
			storing = true;
			watch_sync(&stored, relid, one);
		}
	}
	arguments.watched = watched_literal(&watched, relid);
	arguments.stored = storing ? watched_literal(&stored, relid) : NULL;
	return arguments;
}

/* ----------------------------------------------------------------
 * Putting
 * ----------------------------------------------------------------
 */

typedef struct FoundTrigger
{
	Oid			oid;
	TransactionId xmin;			/* of its row: another one when it was touched */
	bool		plain;			/* ours, of this type, for all columns and rows */
	bool		always;
	char	   *args[4];		/* NULL where it has none */
} FoundTrigger;

static void
take_arguments(FoundTrigger *found, bytea *tgargs)
{
	const char *next = VARDATA_ANY(tgargs);
	const char *end = next + VARSIZE_ANY_EXHDR(tgargs);

	for (int i = 0; i < (int) lengthof(found->args) && next < end; i++)
	{
		found->args[i] = pstrdup(next);
		next += strlen(next) + 1;
	}
	if (next != end)
		found->plain = false;
}

/*
 * Our trigger on a relation, or NULL.  Reads the catalog alone and takes no
 * lock on the relation.
 */
static FoundTrigger *
find_trigger(Oid relid, int32 source_id, int16 type, Oid function)
{
	Relation	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	NameData	tgname;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	FoundTrigger *found = NULL;

	namestrcpy(&tgname, is_source_trigger_name(source_id, type));
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

		found = palloc0_object(FoundTrigger);
		found->oid = form->oid;
		found->xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
		found->plain = form->tgfoid == function &&
			form->tgtype == type &&
			form->tgattr.dim1 == 0 &&
			heap_attisnull(tuple, Anum_pg_trigger_tgqual,
						   RelationGetDescr(pg_trigger));
		found->always = form->tgenabled == TRIGGER_FIRES_ALWAYS;
		take_arguments(found,
					   DatumGetByteaPP(fastgetattr(tuple, Anum_pg_trigger_tgargs,
												   RelationGetDescr(pg_trigger), &isnull)));
	}
	systable_endscan(scan);
	table_close(pg_trigger, AccessShareLock);
	return found;
}

static List *
parse_names(const char *literal)
{
	ArrayType  *array =
		DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN, pstrdup(literal),
												TEXTOID, -1));
	Datum	   *elems;
	int			n;
	List	   *names = NIL;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
	for (int i = 0; i < n; i++)
		names = lappend(names, makeString(TextDatumGetCString(elems[i])));
	return names;
}

/*
 * Does a trigger that watches these columns capture all that one would that
 * watches those?  If a column of its is gone it captures everything, and goes
 * back to what it did when the column does: so nothing needs to be done about
 * a column that is renamed.
 */
static bool
is_covered(Oid relid, const char *watched, const char *needed)
{
	List	   *names;
	ListCell   *lc;

	if (strcmp(watched, "*") == 0)
		return true;
	names = parse_names(watched);
	foreach(lc, names)
		if (get_attnum(relid, strVal(lfirst(lc))) <= 0)
			return true;
	return strcmp(needed, "*") != 0 &&
		list_difference(parse_names(needed), names) == NIL;
}

/*
 * A partition has a clone of the row trigger, which ALTER TABLE of the
 * partition alone can disable.
 */
static bool
are_clones_right(Oid relid, int32 source_id, Oid function)
{
	ListCell   *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return true;
	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		FoundTrigger *clone;

		if (lfirst_oid(lc) == relid)
			continue;
		clone = find_trigger(lfirst_oid(lc), source_id, ROW_TYPE, function);
		if (clone == NULL || !clone->plain || !clone->always)
			return false;
	}
	return true;
}

/* A list of columns; exact: not even one that need not be there. */
static bool
is_argument_right(Oid relid, const char *found, const char *needed, bool exact)
{
	if (found == NULL || needed == NULL)
		return needed == NULL && (found == NULL || !exact);
	return exact ? strcmp(found, needed) == 0 : is_covered(relid, found, needed);
}

/*
 * Is there nothing to be done about a trigger?  exact: not even that it
 * watches columns that it need not.
 */
static bool
is_trigger_right(const IsSync *sync, const IsRelation *relation, int16 type,
				 Arguments arguments, bool exact)
{
	int32		source_id = sync->source.source_id;
	Oid			function = is_source_capture_function();
	FoundTrigger *found = find_trigger(relation->relid, source_id, type, function);

	if (found == NULL || !found->plain || !found->always || found->args[2] == NULL)
		return false;
	if (strcmp(found->args[0], psprintf("%d", source_id)) != 0 ||
		strcmp(found->args[1], names_literal(sync->source.key_columns)) != 0)
		return false;
	if (!is_argument_right(relation->relid, found->args[2], arguments.watched, exact) ||
		!is_argument_right(relation->relid, found->args[3], arguments.stored, exact))
		return false;
	return type != ROW_TYPE || are_clones_right(relation->relid, source_id, function);
}

/* The statements that put a trigger on a relation, or replace it. */
static List *
put_statements(const IsSync *sync, const char *qualified_name, int16 type,
			   Arguments arguments)
{
	int32		source_id = sync->source.source_id;
	char	   *name = is_source_trigger_name(source_id, type);

	return list_make2(psprintf("CREATE OR REPLACE TRIGGER %s AFTER %s ON %s "
							   "FOR EACH %s EXECUTE FUNCTION %s('%d', %s, %s%s%s)",
							   name,
							   type == ROW_TYPE ? "INSERT OR UPDATE OR DELETE" : "TRUNCATE",
							   qualified_name,
							   type == ROW_TYPE ? "ROW" : "STATEMENT",
							   quote_qualified_identifier(get_namespace_name(is_catalog_function_schema()),
														  CAPTURE_FUNCTION),
							   source_id,
							   quote_literal_cstr(names_literal(sync->source.key_columns)),
							   quote_literal_cstr(arguments.watched),
							   arguments.stored ? ", " : "",
							   arguments.stored ? quote_literal_cstr(arguments.stored) : ""),

	/*
	 * Logical replication and session_replication_role = replica change rows
	 * too.  OR REPLACE has just turned this off.
	 */
					  psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
							   qualified_name, name));
}

/* The statements that a trigger of the source needs; none if it is right already. */
static List *
trigger_statements(const IsSync *sync, const IsRelation *relation, int16 type,
				   Arguments arguments)
{
	if (is_trigger_right(sync, relation, type, arguments, true))
		return NIL;
	return put_statements(sync, relation->qualified_name, type, arguments);
}

/* A truncation concerns every row, whatever is watched. */
static const Arguments truncate_arguments = {.watched = "{}"};

/* What brings the triggers of a source to what they should be. */
static List *
all_statements(const IsSync *sync, const IsRelation *relation)
{
	return list_concat(trigger_statements(sync, relation, ROW_TYPE,
										  row_arguments(sync, relation->relid)),
					   trigger_statements(sync, relation, TRUNCATE_TYPE,
										  truncate_arguments));
}

bool
is_source_triggers_right(const IsSync *sync)
{
	IsRelation *relation = is_source_resolve(sync);

	return !relation->captured ||
		(is_trigger_right(sync, relation, ROW_TYPE,
						  row_arguments(sync, relation->relid), false) &&
		 is_trigger_right(sync, relation, TRUNCATE_TYPE, truncate_arguments, false));
}

static uint64
combine(uint64 hash, uint32 value)
{
	return hash_combine64(hash, hash_bytes_uint32_extended(value, 0));
}

static uint64
combine_column(uint64 hash, Oid relid, const char *name, bool *whole)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, name);
	Form_pg_attribute att;

	hash = hash_combine64(hash, hash_bytes_extended((const unsigned char *) name,
													strlen(name), 0));
	if (!HeapTupleIsValid(tuple))
	{
		*whole = false;
		return hash;
	}
	att = (Form_pg_attribute) GETSTRUCT(tuple);
	hash = combine(hash, att->attnum);
	hash = combine(hash, att->atttypid);
	hash = combine(hash, att->atttypmod);
	ReleaseSysCache(tuple);
	return hash;
}

int64
is_source_triggers_print(const IsSync *sync, Oid relid, bool *whole)
{
	static const int16 types[] = {ROW_TYPE, TRUNCATE_TYPE};
	uint64		hash = 0;
	ListCell   *lc;

	*whole = true;
	foreach(lc, sync->source.key_columns)
		hash = combine_column(hash, relid, lfirst(lc), whole);
	for (int i = 0; i < (int) lengthof(types); i++)
	{
		FoundTrigger *found = find_trigger(relid, sync->source.source_id, types[i],
										   InvalidOid);

		if (found == NULL)
			continue;
		hash = combine(combine(hash, found->oid), found->xmin);
		if (found->args[2] == NULL || strcmp(found->args[2], "*") == 0)
			continue;
		foreach(lc, parse_names(found->args[2]))
			hash = combine_column(hash, relid, strVal(lfirst(lc)), whole);
	}
	return (int64) hash;
}

bool
is_source_truncate_seen(const IsSync *sync, Oid partition)
{
	FoundTrigger *found = find_trigger(partition, sync->source.source_id,
									   TRUNCATE_TYPE, is_source_capture_function());

	return found != NULL && found->plain && found->always;
}

/*
 * Leaves whose TRUNCATE no trigger sees, of those on which the owner of the
 * source may put one.
 */
static List *
unseen_leaves(const IsSync *sync, const IsRelation *relation)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (get_rel_relkind(relation->relid) != RELKIND_PARTITIONED_TABLE)
		return NIL;
	foreach(lc, find_all_inheritors(relation->relid, NoLock, NULL))
	{
		Oid			leaf = lfirst_oid(lc);

		if (get_rel_relkind(leaf) == RELKIND_RELATION &&
			is_class_ownercheck(leaf, relation->owner) &&
			!is_source_truncate_seen(sync, leaf))
			result = lappend_oid(result, leaf);
	}
	return result;
}

void
is_source_put_leaf_triggers(const IsSync *sync)
{
	IsRelation *relation = is_source_resolve(sync);
	List	   *leaves = unseen_leaves(sync, relation);
	ListCell   *lc;

	if (leaves == NIL)
		return;
	is_source_lock_triggers(sync->source.source_id);
	foreach(lc, leaves)
	{
		Oid			leaf = lfirst_oid(lc);

		/* What CREATE TRIGGER takes.  Detached or dropped just now? */
		if (!ConditionalLockRelationOid(leaf, ShareRowExclusiveLock) ||
			!get_rel_relispartition(leaf))
			continue;
		is_source_run_ddl(get_rel_name(leaf),
						  put_statements(sync,
										 quote_qualified_identifier(get_namespace_name(get_rel_namespace(leaf)),
																	get_rel_name(leaf)),
										 TRUNCATE_TYPE, truncate_arguments));
	}
}

void
is_source_put_triggers(const IsSync *sync)
{
	IsRelation *relation;
	List	   *statements;

	is_source_lock_triggers(sync->source.source_id);
	relation = is_source_resolve(sync);
	if (!relation->captured)
		return;
	if (!is_class_ownercheck(relation->relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, sync->source.table_name);

	statements = all_statements(sync, relation);
	if (statements != NIL)
		is_source_run_ddl(sync->source.table_name, statements);
	is_source_put_leaf_triggers(sync);
}
