/*-------------------------------------------------------------------------
 *
 * follow.c
 *	  Syncs that run after others.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "follow.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "config.h"
#include "query.h"
#include "schedule.h"

/* A sync that another one is after, as far as it matters. */
typedef struct Link
{
	Oid			owner;
	char	   *schedule;
} Link;

/*
 * Lock it and look what it is.  The lock keeps its name; two sessions that
 * would close a circle together wait for each other, and one fails.
 */
static bool
get_link(const char *name, Link *link)
{
	static IsQuery query =
		IS_QUERY("SELECT owner::pg_catalog.oid, schedule FROM iterable.sync "
				 "WHERE name OPERATOR(pg_catalog.=) $1 FOR SHARE", 1, TEXTOID);
	MemoryContext context = CurrentMemoryContext;
	Datum		arg = CStringGetTextDatum(name);
	IsUserContext save;
	bool		found;
	bool		isnull;

	is_catalog_become_owner(&save);
	SPI_connect();
	found = is_query_run(&query, &arg, NULL) == 1;
	if (found)
	{
		link->owner = DatumGetObjectId(is_query_value(0, 1, &isnull));
		link->schedule = is_query_text(0, 2, context);
	}
	SPI_finish();
	is_catalog_restore_user(&save);
	return found;
}

void
is_follow_check(const IsSync *sync)
{
	const char *first = is_schedule_after(sync->schedule);
	const char *name = first;
	Link		link;

	if (first == NULL)
		return;
	if (strcmp(first, sync->name) != 0 &&
		(!get_link(first, &link) || !has_privs_of_role(sync->owner, link.owner)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schedule \"%s\" names no sync", sync->schedule),
				 errdetail("There is no sync \"%s\" whose owner's privileges the owner of sync \"%s\" has.",
						   first, sync->name),
				 errhint("Write \"after\", one space and the name of a sync as in iterable.sync_status.")));

	for (; name != NULL && strcmp(name, sync->name) != 0;
		 name = is_schedule_after(link.schedule))
	{
		CHECK_FOR_INTERRUPTS();
		if (!get_link(name, &link))
			return;
	}
	if (name != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sync \"%s\" cannot run after itself", sync->name),
				 strcmp(first, sync->name) == 0 ?
				 errdetail("It is the sync that its schedule names.") :
				 errdetail("Sync \"%s\" runs after it, directly or through others.", first),
				 errhint("Give one of them a schedule of its own.")));
}

void
is_follow_rename(const IsSync *sync, const char *new_name)
{
	static IsQuery query =
		IS_QUERY("UPDATE iterable.sync "
				 "SET schedule = '" IS_SCHEDULE_AFTER "' OPERATOR(pg_catalog.||) $2, "
				 "version = version OPERATOR(pg_catalog.+) 1 "
				 "WHERE schedule OPERATOR(pg_catalog.=) "
				 "('" IS_SCHEDULE_AFTER "' OPERATOR(pg_catalog.||) $1)",
				 2, TEXTOID, TEXTOID);
	Datum		values[2];

	values[0] = CStringGetTextDatum(sync->name);
	values[1] = CStringGetTextDatum(new_name);
	is_config_write(&query, values, NULL);
}

void
is_follow_check_drop(const IsSync *sync)
{
	static IsQuery query =
		IS_QUERY("SELECT name, owner::pg_catalog.oid FROM iterable.sync "
				 "WHERE schedule OPERATOR(pg_catalog.=) "
				 "('" IS_SCHEDULE_AFTER "' OPERATOR(pg_catalog.||) $1) "
				 "ORDER BY name COLLATE \"C\"", 1, TEXTOID);
	MemoryContext context = CurrentMemoryContext;
	Datum		arg = CStringGetTextDatum(sync->name);
	IsUserContext save;
	uint64		n;
	bool		isnull;
	char	   *first = NULL;

	is_catalog_become_owner(&save);
	SPI_connect();
	n = is_query_run(&query, &arg, NULL);
	for (uint64 i = 0; i < n && first == NULL; i++)
		if (has_privs_of_role(save.userid,
							  DatumGetObjectId(is_query_value(i, 2, &isnull))))
			first = is_query_text(i, 1, context);
	SPI_finish();
	is_catalog_restore_user(&save);

	if (n > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop sync \"%s\" because other syncs run after it", sync->name),
				 first ? errdetail("Sync \"%s\" runs after it.", first) :
				 errdetail("A sync of another role runs after it."),
				 errhint("Give it another schedule with iterable_update_sync() first, or drop it.")));
}
