/*-------------------------------------------------------------------------
 *
 * source_trigger_drop.c
 *	  Taking capture triggers off relations.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "source_trigger.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"

/*
 * Relations (as a list of OIDs) that bear a trigger of this source.  The
 * table may have been renamed since, and another have taken its name; clones
 * on partitions go with the original.
 */
static List *
relations_with_trigger(int32 source_id, int16 type)
{
	Relation	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	Oid			function = is_source_capture_function();
	char	   *name = is_source_trigger_name(source_id, type);
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

/*
 * DROP EXTENSION locks the change log, and then the tables from which it takes
 * triggers.  A transaction that has changed such a table needs the log before
 * it can end.  So that neither waits for the other, wait for it first.
 */
void
is_source_lock_captured(void)
{
	Relation	pg_trigger = table_open(TriggerRelationId, AccessShareLock);
	Oid			function = is_source_capture_function();
	SysScanDesc scan = systable_beginscan(pg_trigger, InvalidOid, false, NULL,
										  0, NULL);
	List	   *relids = NIL;
	HeapTuple	tuple;
	ListCell   *lc;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (form->tgfoid == function)
			relids = list_append_unique_oid(relids, form->tgrelid);
	}
	systable_endscan(scan);
	table_close(pg_trigger, AccessShareLock);

	list_sort(relids, list_oid_cmp);
	foreach(lc, relids)
		LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
}

/*
 * DROP TRIGGER by itself would lock the partitions of a table before the table,
 * while those who write lock the table first: a deadlock.
 */
static void
drop_trigger(Oid relid, const char *name)
{
	char	   *table = get_rel_name(relid);
	char	   *qualified_name =
		quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), table);

	is_source_run_ddl(table,
					  list_make2(psprintf("LOCK TABLE %s IN ACCESS EXCLUSIVE MODE",
										  qualified_name),
								 psprintf("DROP TRIGGER %s ON %s", name, qualified_name)));
}

void
is_source_drop_old_triggers(const IsSync *sync)
{
	static const int16 types[] = {ROW_TYPE, TRUNCATE_TYPE};
	List	   *current = find_all_inheritors(is_source_resolve(sync)->relid, NoLock, NULL);

	for (int i = 0; i < (int) lengthof(types); i++)
	{
		ListCell   *lc;

		foreach(lc, relations_with_trigger(sync->source.source_id, types[i]))
		{
			Oid			relid = lfirst_oid(lc);
			HeapTuple	tuple;
			Oid			owner;
			IsUserContext save;

			/* DROP TRIGGER would keep readers waiting behind it. */
			if (list_member_oid(current, relid) ||
				!ConditionalLockRelationOid(relid, AccessExclusiveLock))
				continue;
			tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
			if (!HeapTupleIsValid(tuple))
				continue;		/* dropped just now */
			owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
			ReleaseSysCache(tuple);
			if (!has_privs_of_role(sync->owner, owner))
				continue;
			is_catalog_become(&save, owner);
			drop_trigger(relid, is_source_trigger_name(sync->source.source_id, types[i]));
			is_catalog_restore_user(&save);
		}
	}
}

bool
is_source_drop_triggers(const IsSource *source)
{
	static const int16 types[] = {ROW_TYPE, TRUNCATE_TYPE};
	List	   *foreign = NIL;

	is_source_lock_triggers(source->source_id);
	if (is_source_syncs(source->source_id) != NIL)
		return false;

	for (int i = 0; i < (int) lengthof(types); i++)
	{
		ListCell   *lc;

		foreach(lc, relations_with_trigger(source->source_id, types[i]))
		{
			Oid			relid = lfirst_oid(lc);

			if (get_rel_name(relid) == NULL)
				continue;		/* dropped just now */
			if (!is_class_ownercheck(relid, GetUserId()))
			{
				foreign = list_append_unique_oid(foreign, relid);
				continue;
			}
			drop_trigger(relid, is_source_trigger_name(source->source_id, types[i]));
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
							 is_source_trigger_name(source->source_id, ROW_TYPE),
							 is_source_trigger_name(source->source_id, TRUNCATE_TYPE))));
	}
	return foreign == NIL;
}
