/*-------------------------------------------------------------------------
 *
 * source_watch.c
 *	  Noticing that the capture triggers of a source have been bypassed.
 *
 * A sync follows its source by name.  Tools that rebuild tables put a new one
 * under the name, without our triggers; loaders disable triggers, or attach
 * partitions that are full.  None of that can be captured, so it is looked
 * for: which table it is, of which partitions it consists, and whether all
 * triggers are there, enabled, and have not been touched since.
 *
 * Why nothing gets lost between the birth of a table and its triggers: CREATE
 * TRIGGER waits for all who have written without one to end, and whoever
 * writes after the commit of the trigger is captured.  The scan that the same
 * transaction asks for takes its snapshots after that commit, so it sees what
 * the first ones have written, and the log has the rest.
 *
 * Nor may the scan take a row for unchanged while a request is under way that
 * was made of the old table.  Such a request belongs to changes that the fence
 * of the scan covers: it is a snapshot that is taken when the name is known to
 * belong to the new table, hence after the commit of the change of names, which
 * in turn had to wait for whoever was reading the old table under this name.
 * The scan begins when all that the fence shows has its verdicts.
 *
 * A run may have read rows from a table that bore the name only between two
 * looks.  It compares the OID with the one that is remembered here, and if that
 * differs forgets it; the next look takes that for a replaced table.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "source_watch.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "capture.h"
#include "compat.h"
#include "query.h"
#include "scan.h"
#include "source.h"

/* Users of a table may have to queue behind us for so long. */
#define LOCK_TIMEOUT "200ms"

/* What is remembered of a source, or what it is now. */
typedef struct Picture
{
	Oid			relid;
	int64		print;			/* of the triggers and what they read */
	bool		whole;			/* what they read is there */
	int			nparts;
	Oid		   *parts;			/* partitions, in order of their OIDs */
	Oid		   *files;			/* and their storage, which TRUNCATE renews */
	bool	   *bare;			/* does no trigger see the TRUNCATE of one? */
} Picture;

static void
take_files(Picture *picture)
{
	for (int i = 0; i < picture->nparts; i++)
	{
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(picture->parts[i]));

		if (!HeapTupleIsValid(tuple))
			continue;			/* dropped just now */
		picture->files[i] = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
		ReleaseSysCache(tuple);
	}
}

/* What has no storage cannot be truncated by itself. */
static void
take_bare(const IsSync *sync, Picture *picture)
{
	for (int i = 0; i < picture->nparts; i++)
		picture->bare[i] = OidIsValid(picture->files[i]) &&
			!is_source_truncate_seen(sync, picture->parts[i]);
}

static Picture *
take_picture(const IsSync *sync, Oid relid)
{
	Picture    *picture = palloc0_object(Picture);
	List	   *parts;
	ListCell   *lc;

	picture->relid = relid;
	picture->print = is_source_triggers_print(sync, relid, &picture->whole);
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return picture;

	parts = find_all_inheritors(relid, NoLock, NULL);
	list_sort(parts, list_oid_cmp);
	picture->parts = palloc_array(Oid, list_length(parts));
	picture->files = palloc0_array(Oid, list_length(parts));
	picture->bare = palloc0_array(bool, list_length(parts));
	foreach(lc, parts)
		if (lfirst_oid(lc) != relid)
			picture->parts[picture->nparts++] = lfirst_oid(lc);
	take_files(picture);
	take_bare(sync, picture);
	return picture;
}

static Datum
oid_array(const Oid *oids, int n)
{
	Datum	   *elems = palloc_array(Datum, n + 1);

	for (int i = 0; i < n; i++)
		elems[i] = ObjectIdGetDatum(oids[i]);
	return PointerGetDatum(construct_array(elems, n, OIDOID, sizeof(Oid), true,
										   TYPALIGN_INT));
}

/* Storage matters where no trigger sees TRUNCATE; 0 where one does. */
static Datum
files_array(const Picture *picture)
{
	Oid		   *files = palloc0_array(Oid, picture->nparts + 1);

	for (int i = 0; i < picture->nparts; i++)
		if (picture->bare[i])
			files[i] = picture->files[i];
	return oid_array(files, picture->nparts);
}

static Oid *
read_oids(int column, MemoryContext context, int *n)
{
	bool		isnull;
	Datum	   *elems;
	Oid		   *result;

	deconstruct_array(DatumGetArrayTypeP(is_query_value(0, column, &isnull)), OIDOID,
					  sizeof(Oid), true, TYPALIGN_INT, &elems, NULL, n);
	result = MemoryContextAlloc(context, (*n + 1) * sizeof(Oid));
	for (int i = 0; i < *n; i++)
		result[i] = DatumGetObjectId(elems[i]);
	return result;
}

/* These three run as the extension's owner. */

static void
remember(int32 source_id, const Picture *picture)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.source_state AS t (source_id, relid, fingerprint, parts, files) "
		"VALUES ($1, $2, $3, $4, $5) ON CONFLICT (source_id) DO UPDATE "
		"SET relid = EXCLUDED.relid, fingerprint = EXCLUDED.fingerprint, "
		"parts = EXCLUDED.parts, files = EXCLUDED.files",
		5, INT4OID, OIDOID, INT8OID, OIDARRAYOID, OIDARRAYOID
	);
	Datum		values[5] = {
		Int32GetDatum(source_id), ObjectIdGetDatum(picture->relid),
		Int64GetDatum(picture->print), oid_array(picture->parts, picture->nparts),
		files_array(picture)
	};

	SPI_connect();
	(void) is_query_run(&query, values, NULL);
	SPI_finish();
}

/* What was remembered, or NULL. */
static Picture *
recall(int32 source_id)
{
	static IsQuery query = IS_QUERY(
		"SELECT relid, fingerprint, parts, files FROM iterable.source_state "
		"WHERE source_id OPERATOR(pg_catalog.=) $1", 1, INT4OID
	);
	MemoryContext context = CurrentMemoryContext;
	Datum		arg = Int32GetDatum(source_id);
	Picture    *picture = NULL;

	SPI_connect();
	if (is_query_run(&query, &arg, NULL) == 1)
	{
		bool		isnull;

		picture = MemoryContextAllocZero(context, sizeof(Picture));
		picture->relid = DatumGetObjectId(is_query_value(0, 1, &isnull));
		picture->print = DatumGetInt64(is_query_value(0, 2, &isnull));
		picture->parts = read_oids(3, context, &picture->nparts);
		picture->files = read_oids(4, context, &picture->nparts);
		picture->bare = MemoryContextAlloc(context, picture->nparts + 1);
		for (int i = 0; i < picture->nparts; i++)
			picture->bare[i] = OidIsValid(picture->files[i]);
	}
	SPI_finish();
	return picture;
}

void
is_source_watch_doubt(int32 source_id, Oid relid)
{
	static IsQuery query = IS_QUERY(
		"UPDATE iterable.source_state SET relid = 0 "
		"WHERE source_id OPERATOR(pg_catalog.=) $1 AND relid OPERATOR(pg_catalog.=) $2",
		2, INT4OID, OIDOID
	);
	Datum		values[2] = {Int32GetDatum(source_id), ObjectIdGetDatum(relid)};

	SPI_connect();
	(void) is_query_run(&query, values, NULL);
	SPI_finish();
}

/* ----------------------------------------------------------------
 * Comparing
 * ----------------------------------------------------------------
 */

static int
find_part(const Picture *picture, Oid part)
{
	Oid		   *found = bsearch(&part, picture->parts, picture->nparts, sizeof(Oid),
								oid_cmp);

	return found ? found - picture->parts : -1;
}

/*
 * May a partition that is new have rows that were not captured?  Most are made
 * ahead of time, and empty.
 */
static bool
may_have_rows(Oid part)
{
	Datum		size;
	LOCAL_FCINFO(fcinfo, 2);

	if (get_rel_relkind(part) == RELKIND_PARTITIONED_TABLE)
		return false;
	if (get_rel_relkind(part) != RELKIND_RELATION)
		return true;
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(part);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = CStringGetTextDatum("main");
	fcinfo->args[1].isnull = false;
	size = pg_relation_size(fcinfo);
	return !fcinfo->isnull && DatumGetInt64(size) > 0;
}

static bool
has_lost_parts(const Picture *was, const Picture *is)
{
	for (int i = 0; i < was->nparts; i++)
		if (find_part(is, was->parts[i]) < 0)
			return true;
	return false;
}

/*
 * What has happened that no trigger has seen, in words, or NULL.  only_gone:
 * rows can only have vanished by it.
 */
static const char *
find_difference(const Picture *was, const Picture *is, bool *only_gone)
{
	const char *gone = NULL;

	*only_gone = false;
	if (was->relid != is->relid)
		return "another table had the name of the source";
	if (was->print != is->print && is->whole)
		return "the capture triggers of the source, or what they read, were changed";

	for (int i = 0; i < is->nparts; i++)
	{
		int			k = find_part(was, is->parts[i]);

		if (k < 0 && may_have_rows(is->parts[i]))
			return "a partition with rows was attached to the source";

		/* The first storage of a table has the number of the table. */
		if (k < 0 ? OidIsValid(is->files[i]) && is->files[i] != is->parts[i] :
			was->bare[k] && is->files[i] != was->files[k])
			gone = "a partition of the source was truncated";
		if (k >= 0 && is->bare[i] && !was->bare[k])
			gone = "a trigger of a partition of the source was missing or disabled";
	}
	if (has_lost_parts(was, is))
		gone = "a partition of the source was detached or dropped";
	*only_gone = gone != NULL;
	return gone;
}

/* As the extension's owner. */
static void
request_scans(const IsSync *sync, const char *reason, bool only_gone)
{
	ListCell   *lc;

	ereport(LOG,
			(errmsg("source \"%s.%s\" is compared with what was sent: %s",
					sync->source.schema_name, sync->source.table_name, reason)));
	foreach(lc, is_source_syncs(sync->source.source_id))
	{
		if (only_gone)
			is_scan_request_check(lfirst_int(lc), reason);
		else
			is_scan_request(lfirst_int(lc), IS_SCAN_COMPARE, NULL, false, reason);
	}
	is_capture_wake_on_commit();
}

void
is_source_watch_put(const IsSync *sync)
{
	int32		source_id = sync->source.source_id;
	Oid			relid = is_source_resolve(sync)->relid;
	const char *reason;
	bool		only_gone;
	Picture    *was;
	Picture    *is = take_picture(sync, relid);
	IsUserContext save;

	is_source_put_triggers(sync);
	take_files(is);

	is_catalog_become_owner(&save);
	was = recall(source_id);
	reason = was ? find_difference(was, is, &only_gone) : NULL;
	if (reason)
		request_scans(sync, reason, only_gone);
	is->print = is_source_triggers_print(sync, relid, &is->whole);
	take_bare(sync, is);
	remember(source_id, is);
	is_catalog_restore_user(&save);
}

/* The table is another one, or was changed: may it be a source? */
static void
put_as_owner(const IsSync *sync, const IsRelation *relation)
{
	IsUserContext save;

	is_catalog_become(&save, relation->owner);
	is_source_check(relation->relid, sync);
	is_source_put_triggers(sync);
	is_catalog_restore_user(&save);
}

/*
 * Partitions that are new get their TRUNCATE triggers.  What was truncated
 * until then is in their storage, which is looked at under the lock.
 */
static void
put_on_leaves(const IsSync *sync, const IsRelation *relation, Picture *is)
{
	IsUserContext save;

	is_catalog_become(&save, relation->owner);
	is_source_put_leaf_triggers(sync);
	is_catalog_restore_user(&save);
	take_files(is);
}

/* Is there anything about partitions that was not remembered? */
static bool
has_new_parts(const Picture *was, const Picture *is)
{
	for (int i = 0; i < is->nparts; i++)
	{
		int			k = find_part(was, is->parts[i]);

		if (k < 0 || is->bare[i] != was->bare[k])
			return true;
	}
	return false;
}

bool
is_source_watch_look(const IsSync *sync)
{
	int32		source_id = sync->source.source_id;
	int			nest_level;
	IsRelation *relation = is_source_resolve(sync);
	Picture    *was = recall(source_id);
	Picture    *is;
	bool		right;
	bool		replaced;
	bool		stale;
	bool		only_gone = false;
	const char *reason;

	/*
	 * There is nothing to put right.  It is remembered, so that a table that
	 * takes the name back is another one, and compared.
	 */
	if (!relation->captured)
	{
		is_source_check_compared(sync);
		is = take_picture(sync, relation->relid);
		replaced = was && was->relid != is->relid;
		if (was == NULL || replaced)
			remember(source_id, is);
		return replaced;
	}

	nest_level = NewGUCNestLevel();
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	is = take_picture(sync, relation->relid);
	right = is_source_triggers_right(sync);
	replaced = was && was->relid != is->relid;
	stale = replaced || (was && has_lost_parts(was, is));
	if (right)
		put_on_leaves(sync, relation, is);
	reason = was ? find_difference(was, is, &only_gone) : NULL;
	if (!right && (reason == NULL || only_gone))
	{
		/* of a clone, or nothing was known */
		reason = "the capture triggers of the source were missing or disabled";
		only_gone = false;
	}

	if (reason != NULL && !only_gone)
	{
		put_as_owner(sync, relation);
		is = take_picture(sync, relation->relid);
	}
	if (reason != NULL)
		request_scans(sync, reason, only_gone);
	if (!is->whole && was && !replaced)
		is->print = was->print; /* what it is to be when the column is back */
	take_bare(sync, is);
	if (reason != NULL || was == NULL || has_new_parts(was, is))
		remember(source_id, is);
	AtEOXact_GUC(true, nest_level);
	return stale;
}

void
is_source_watch_tidy(const IsSync *sync)
{
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	is_source_drop_old_triggers(sync);
	AtEOXact_GUC(true, nest_level);
}
