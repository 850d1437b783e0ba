/*-------------------------------------------------------------------------
 *
 * utility.c
 *	  Statements that a worker, or open transactions that have captured, would
 *	  be in the way of.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "utility.h"

#include "access/htup_details.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "capture_mark.h"
#include "catalog.h"
#include "compat.h"
#include "iterable_sync.h"
#include "launcher.h"
#include "source.h"

static ProcessUtility_hook_type next_hook = NULL;

static DefElem *
find_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			return option;
	}
	return NULL;
}

static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * The database that a statement needs without sessions, or InvalidOid.  One
 * that the current role may not touch is left alone: the statement is going
 * to fail, and must not interrupt the worker before it does.
 */
static Oid
database_to_clear(Node *stmt)
{
	const char *name = NULL;
	bool		copy = false;
	Oid			database;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			name = ((DropdbStmt *) stmt)->dbname;
			break;

		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				name = ((RenameStmt *) stmt)->subname;
			break;

		case T_AlterDatabaseStmt:
			if (find_option(((AlterDatabaseStmt *) stmt)->options, "tablespace"))
				name = ((AlterDatabaseStmt *) stmt)->dbname;
			break;

		case T_CreatedbStmt:
			{
				DefElem    *template = find_option(((CreatedbStmt *) stmt)->options,
												   "template");

				/* DEFAULT is an option without a value */
				name = template && template->arg ?
					defGetString(template) : "template1";
				copy = true;
			}
			break;

		default:
			break;
	}

	if (name == NULL)
		return InvalidOid;
	database = get_database_oid(name, true);
	if (!OidIsValid(database))
		return InvalidOid;
	if (copy && !is_may_create_databases())
		return InvalidOid;
	if (!(copy && is_template(database)) &&
		!is_database_ownercheck(database, GetUserId()))
		return InvalidOid;
	return database;
}

/* Will this statement drop the extension with all its triggers? */
static bool
drops_extension(Node *stmt)
{
	DropStmt   *drop = (DropStmt *) stmt;
	ListCell   *lc;

	if (!IsA(stmt, DropStmt) || drop->removeType != OBJECT_EXTENSION ||
		drop->behavior != DROP_CASCADE)
		return false;
	foreach(lc, drop->objects)
		if (strcmp(strVal(lfirst(lc)), IS_EXTENSION) == 0)
			return OidIsValid(get_extension_oid(IS_EXTENSION, true)) &&
				has_privs_of_role(GetUserId(), is_catalog_owner());
	return false;
}

static void
process_utility(PlannedStmt *pstmt, const char *query_string,
				bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *query_env,
				DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		wake = false;
	Oid			database = database_to_clear(stmt);
	Oid			dropped = IsA(stmt, DropdbStmt) ? database : InvalidOid;

	if (OidIsValid(database))
		is_launcher_hold(database);
	if (drops_extension(stmt))
		is_source_lock_captured();

	/*
	 * Captured changes of a prepared transaction become visible here, in a
	 * session whose commit callbacks know nothing of them.  Look for the
	 * extension first: an error after the commit would tell a lie.
	 */
	if (IsA(stmt, TransactionStmt) &&
		((TransactionStmt *) stmt)->kind == TRANS_STMT_COMMIT_PREPARED)
		wake = OidIsValid(get_extension_oid(IS_EXTENSION, true));

	(next_hook ? next_hook : standard_ProcessUtility)
		(pstmt, query_string, read_only_tree, context, params, query_env, dest, qc);

	/* a ROLLBACK, say, may have freed the statement */
	if (wake)
		is_launcher_wake(MyDatabaseId);
	if (OidIsValid(dropped))
		is_capture_mark_forget(dropped);
}

void
is_utility_register(void)
{
	next_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
