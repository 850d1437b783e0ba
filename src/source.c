/*-------------------------------------------------------------------------
 *
 * source.c
 *	  From a sync's source to the relation that bears its name now, and what
 *	  a relation must be to become a source.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "source.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "hint.h"
#include "iterable_sync.h"
#include "key.h"
#include "schedule.h"

/* ----------------------------------------------------------------
 * Columns
 * ----------------------------------------------------------------
 */

/* Names of the columns that a relation has now. */
static const char **
column_names(Oid relid, int *n)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	int			natts = 0;
	const char **names;

	*n = 0;
	if (HeapTupleIsValid(tuple))
	{
		natts = ((Form_pg_class) GETSTRUCT(tuple))->relnatts;
		ReleaseSysCache(tuple);
	}
	names = palloc_array(const char *, natts);
	for (AttrNumber attno = 1; attno <= natts; attno++)
	{
		tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
								Int16GetDatum(attno));
		if (!HeapTupleIsValid(tuple))
			continue;
		if (!((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped)
			names[(*n)++] =
				pstrdup(NameStr(((Form_pg_attribute) GETSTRUCT(tuple))->attname));
		ReleaseSysCache(tuple);
	}
	return names;
}

AttrNumber
is_source_column(Oid relid, const char *name)
{
	AttrNumber	attno = get_attnum(relid, name);
	const char **names;
	const char *closest;
	int			n;

	if (attno > 0)
		return attno;

	names = column_names(relid, &n);
	closest = is_hint_closest(name, names, n);
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of relation \"%s.%s\" does not exist", name,
					get_namespace_name(get_rel_namespace(relid)),
					get_rel_name(relid)),
			 closest ? errhint("Perhaps you meant the column \"%s\".", closest) : 0));
}

/* ----------------------------------------------------------------
 * Resolving
 * ----------------------------------------------------------------
 */

/*
 * The sync's owner must have the rights of the relation's owner without a
 * SET ROLE, for the sync uses them without one.  So has_privs_of_role() and
 * not is_member_of_role(): a membership without INHERIT, or one that only
 * lets a role administer another, is not enough.
 */
static void
check_sync_owner(const IsSync *sync, Oid owner)
{
	char	   *sync_owner = GetUserNameFromId(sync->owner, true);

	if (has_privs_of_role(sync->owner, owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("owner of sync \"%s\" may not use source \"%s.%s\"",
					sync->name, sync->source.schema_name,
					sync->source.table_name),
			 sync_owner ?
			 errdetail("Role \"%s\" does not have the rights of role \"%s\", which owns the table.",
					   sync_owner, GetUserNameFromId(owner, true)) :
			 errdetail("The role does not exist any more."),
			 sync_owner ?
			 errhint("Make it a member that inherits: GRANT %s TO %s.",
					 quote_identifier(GetUserNameFromId(owner, false)),
					 quote_identifier(sync_owner)) :
			 errhint("Drop the sync and create it again.")));
}

static void
resolve_key_column(const IsSync *sync, Oid relid, char *name, IsKeyColumn *key)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, name);
	Form_pg_attribute att;

	if (!HeapTupleIsValid(tuple) ||
		((Form_pg_attribute) GETSTRUCT(tuple))->attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("key column \"%s\" of source \"%s.%s\" of sync \"%s\" does not exist",
						name, sync->source.schema_name,
						sync->source.table_name, sync->name),
				 errhint("Rename the column back, or create the sync again with another unique_field.")));

	att = (Form_pg_attribute) GETSTRUCT(tuple);
	key->attno = att->attnum;
	key->name = name;
	key->type = att->atttypid;
	key->typmod = att->atttypmod;
	key->collation = att->attcollation;
	ReleaseSysCache(tuple);

	if (!is_key_type_ok(key->type, key->collation))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("key column \"%s\" of source \"%s.%s\" of sync \"%s\" has no canonical text any more",
						name, sync->source.schema_name,
						sync->source.table_name, sync->name),
				 errdetail("Its type is %s now.",
						   format_type_with_typemod(key->type, key->typmod)),
				 errhint("Change the type back, or create the sync again with another unique_field.")));
}

/* Changes of these are captured by triggers … */
static bool
is_captured(char relkind)
{
	return relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE;
}

/* … and these have rows, but nothing tells when they change. */
static bool
is_compared(char relkind)
{
	return relkind == RELKIND_VIEW || relkind == RELKIND_MATVIEW ||
		relkind == RELKIND_FOREIGN_TABLE;
}

static bool
has_children(Oid relid)
{
	return has_subclass(relid) && find_inheritance_children(relid, NoLock) != NIL;
}

IsRelation *
is_source_resolve(const IsSync *sync)
{
	const IsSource *source = &sync->source;
	IsRelation *relation = palloc0_object(IsRelation);
	Oid			schema = get_namespace_oid(source->schema_name, true);
	Form_pg_class form;
	HeapTuple	tuple = NULL;
	char		relkind;
	char		persistence;
	ListCell   *lc;

	/*
	 * No right on the schema is asked for here: the role that reads, the
	 * relation's owner, needs it when the query is prepared.
	 */
	if (OidIsValid(schema))
		relation->relid = get_relname_relid(source->table_name, schema);
	if (OidIsValid(relation->relid))
		tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation->relid));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("source \"%s.%s\" of sync \"%s\" does not exist",
						source->schema_name, source->table_name, sync->name),
				 errhint("A sync follows its source by name. Create the table again or rename it back, or drop the sync.")));

	form = (Form_pg_class) GETSTRUCT(tuple);
	relation->owner = form->relowner;
	relkind = form->relkind;
	persistence = form->relpersistence;
	ReleaseSysCache(tuple);

	/* Ahead of all else: nothing is told about a relation of others. */
	check_sync_owner(sync, relation->owner);

	relation->captured = is_captured(relkind);
	if (!relation->captured && !is_compared(relkind))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("source \"%s.%s\" of sync \"%s\" is not a table any more",
						source->schema_name, source->table_name, sync->name),
				 errdetail_relkind_not_supported(relkind)));
	if (persistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("source \"%s.%s\" of sync \"%s\" is unlogged now",
						source->schema_name, source->table_name, sync->name),
				 errhint("Use ALTER TABLE ... SET LOGGED.")));
	if (relkind == RELKIND_RELATION && has_children(relation->relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("source \"%s.%s\" of sync \"%s\" has inheritance children now",
						source->schema_name, source->table_name, sync->name),
				 errdetail("Changes of their rows are not captured."),
				 errhint("Use ALTER TABLE ... NO INHERIT for each of them, or sync a view.")));

	relation->qualified_name =
		quote_qualified_identifier(source->schema_name, source->table_name);
	relation->keys = palloc0_array(IsKeyColumn, list_length(source->key_columns));
	foreach(lc, source->key_columns)
		resolve_key_column(sync, relation->relid, lfirst(lc),
						   &relation->keys[relation->nkeys++]);
	return relation;
}

int64
is_source_estimate(const IsSync *sync)
{
	HeapTuple	tuple = SearchSysCache1(RELOID,
										ObjectIdGetDatum(is_source_resolve(sync)->relid));
	double		rows = -1;

	if (HeapTupleIsValid(tuple))
	{
		if (((Form_pg_class) GETSTRUCT(tuple))->relkind != RELKIND_VIEW)
			rows = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return (int64) rows;
}

/* ----------------------------------------------------------------
 * Checking
 * ----------------------------------------------------------------
 */

static char *
display_name(Relation rel)
{
	return psprintf("%s.%s", get_namespace_name(RelationGetNamespace(rel)),
					RelationGetRelationName(rel));
}

static char *
quoted_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/*
 * An unlogged table is emptied by a crash, and nobody is told.  Its
 * partitions have a persistence of their own.
 */
static void
check_logged(Relation rel)
{
	List	   *relids;
	ListCell   *lc;

	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("temporary %s \"%s\" cannot be a source",
						rel->rd_rel->relkind == RELKIND_VIEW ? "view" : "table",
						RelationGetRelationName(rel)),
				 errdetail("Only the session that made it can read it.")));

	relids = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ?
		find_all_inheritors(RelationGetRelid(rel), NoLock, NULL) :
		list_make1_oid(RelationGetRelid(rel));
	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);

		if (get_rel_persistence(relid) == RELPERSISTENCE_UNLOGGED)
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("unlogged table \"%s.%s\" cannot be a source",
							get_namespace_name(get_rel_namespace(relid)),
							get_rel_name(relid)),
					 errdetail("A crash empties it, without a change that could be captured."),
					 errhint("Use ALTER TABLE ... SET LOGGED.")));
	}
}

static void
check_kind(Relation rel)
{
	char		relkind = rel->rd_rel->relkind;
	Oid			relid = RelationGetRelid(rel);

	if (!is_captured(relkind) && !is_compared(relkind))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" cannot be a source", display_name(rel)),
				 errdetail_relkind_not_supported(relkind)));

	/* The second test is for information_schema. */
	if (IsSystemRelation(rel) || relid < FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("system %s \"%s\" cannot be a source",
						relkind == RELKIND_VIEW ? "view" : "table",
						display_name(rel))));
	if (strcmp(get_namespace_name(RelationGetNamespace(rel)), IS_SCHEMA) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s \"%s\" of the extension %s cannot be a source",
						relkind == RELKIND_VIEW ? "view" : "table",
						display_name(rel), IS_EXTENSION)));

	check_logged(rel);

	if (relkind == RELKIND_RELATION && has_children(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" with inheritance children cannot be a source",
						display_name(rel)),
				 errdetail("Neither the triggers nor the unique index of a parent cover the rows of its children."),
				 errhint("Make it a partitioned table, sync a view of it, or sync the children.")));
}

/* The numbers of the key columns, each of which is fit to be one. */
static AttrNumber *
check_key(Relation rel, const List *key_columns)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		captured = is_captured(rel->rd_rel->relkind);
	AttrNumber *attnos = palloc_array(AttrNumber, list_length(key_columns));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, key_columns)
	{
		const char *name = lfirst(lc);
		AttrNumber	attno = is_source_column(RelationGetRelid(rel), name);
		Form_pg_attribute att = TupleDescAttr(desc, attno - 1);

		for (int i = 0; i < n; i++)
			if (attnos[i] == attno)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("column \"%s\" is named twice in the unique field",
								name)));
		attnos[n++] = attno;

		if (captured && att->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("virtual generated column \"%s\" cannot be a unique field",
							name),
					 errdetail("It has no value when a change is captured."),
					 errhint("Make it a stored generated column.")));
		if (!is_key_type_ok(att->atttypid, att->attcollation))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("column \"%s\" of type %s cannot be a unique field",
							name,
							format_type_with_typemod(att->atttypid, att->atttypmod)),
					 errdetail("Equal keys must have one text. Types that have one are smallint, integer, bigint, numeric, boolean, uuid, date, timestamp, timestamptz, enums, and text and varchar with a deterministic collation."),
					 errhint("Choose another column, or add a stored generated column of such a type.")));
		if (captured && !is_attribute_not_null(desc, attno - 1))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
					 errmsg("column \"%s\" of \"%s\" may be NULL and cannot be a unique field",
							name, display_name(rel)),
					 errhint("Use ALTER TABLE %s ALTER COLUMN %s SET NOT NULL.",
							 quoted_name(rel), quote_identifier(name))));
	}
	return attnos;
}

/* Are the key columns of a unique index exactly these, in any order? */
static bool
is_index_on(Relation index, const AttrNumber *attnos, int n)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || form->indnkeyatts != n)
		return false;

	/* an expression has the number 0, which is none of ours */
	for (int i = 0; i < n; i++)
	{
		bool		found = false;

		for (int j = 0; j < n && !found; j++)
			found = form->indkey.values[i] == attnos[j];
		if (!found)
			return false;
	}
	return true;
}

/* What keeps a unique index from vouching for a key at any time, or NULL. */
static const char *
index_flaw(Relation index)
{
	if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return "covers only a part of the rows";
	if (!index->rd_index->indisvalid || !index->rd_index->indisready)
		return "is not valid";
	if (!index->rd_index->indimmediate)
		return "is deferrable";
	return NULL;
}

static void
check_unique(Relation rel, const List *key_columns, const AttrNumber *attnos)
{
	List	   *indexes = RelationGetIndexList(rel);
	char	   *flawed = NULL;
	const char *flaw = NULL;
	StringInfoData columns;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = relation_open(lfirst_oid(lc), AccessShareLock);

		if (is_index_on(index, attnos, list_length(key_columns)))
		{
			flaw = index_flaw(index);
			if (flaw == NULL)
			{
				relation_close(index, AccessShareLock);
				return;
			}
			flawed = pstrdup(RelationGetRelationName(index));
		}
		relation_close(index, AccessShareLock);
	}

	initStringInfo(&columns);
	foreach(lc, key_columns)
		appendStringInfo(&columns, "%s%s", columns.len > 0 ? ", " : "",
						 quote_identifier(lfirst(lc)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
			 errmsg("\"%s\" has no unique index on exactly (%s)",
					display_name(rel), columns.data),
			 flawed ?
			 errdetail("The unique index \"%s\" %s.", flawed, flaw) : 0,
			 errhint("Use CREATE UNIQUE INDEX ON %s (%s).",
					 quoted_name(rel), columns.data)));
}

static void
check_compared(const IsSync *sync, const char *name)
{
	static const char detail[] =
		"Changes of views, materialized views and foreign tables cannot be captured: each run compares all rows with what was sent.";

	if (is_schedule_continuous(sync->schedule))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" cannot be synced continuously", name),
				 errdetail("%s", detail),
				 errhint("Use a schedule with times, such as '15 minutes' or '@daily', 'after' and the name of another sync, or 'manual'.")));
	if (!sync->track)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" cannot be synced with track => false", name),
				 errdetail("%s", detail)));
}

bool
is_source_may_be_captured(const IsSync *sync)
{
	Oid			schema = get_namespace_oid(sync->source.schema_name, true);

	return !OidIsValid(schema) ||
		!is_compared(get_rel_relkind(get_relname_relid(sync->source.table_name, schema)));
}

void
is_source_check_compared(const IsSync *sync)
{
	if (!is_source_may_be_captured(sync))
		check_compared(sync, psprintf("%s.%s", sync->source.schema_name,
									  sync->source.table_name));
}

void
is_source_check(Oid relid, const IsSync *sync)
{
	Relation	rel;
	AttrNumber *attnos;

	/* Before a lock is asked for: strangers must not queue for it. */
	if (!is_class_ownercheck(relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", get_rel_name(relid)),
				 errdetail("A sync reads its source with the rights of the table's owner.")));

	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	check_kind(rel);
	attnos = check_key(rel, sync->source.key_columns);
	if (is_captured(rel->rd_rel->relkind))
		check_unique(rel, sync->source.key_columns, attnos);
	else
		check_compared(sync, display_name(rel));

	/*
	 * Let go of the lock: to drop a trigger takes a stronger one, and two
	 * sessions that both hold this one could not get it.
	 */
	relation_close(rel, AccessShareLock);
}
