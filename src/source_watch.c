/*-------------------------------------------------------------------------
 *
 * source_watch.c
 *	  Noticing that the capture triggers of a source have been bypassed.
 *
 * A sync follows its source by name.  Tools that rebuild tables put a new one
 * under the name, without our triggers; loaders disable triggers, or attach
 * partitions that are full.  None of that can be captured, so it is looked
 * for: the OIDs of which the source consists, the storage of its partitions
 * (TRUNCATE of one fires no trigger of the whole), and whether all triggers
 * are there and enabled.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "source_watch.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "capture.h"
#include "compat.h"
#include "query.h"
#include "scan.h"
#include "source.h"

/* Which table is it, and of which partitions does it consist? */
static int64
fingerprint(Oid relid)
{
	uint64		hash = hash_bytes_uint32_extended(relid, 0);
	List	   *parts;
	ListCell   *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return (int64) hash;

	parts = find_all_inheritors(relid, NoLock, NULL);
	list_sort(parts, list_oid_cmp);
	foreach(lc, parts)
	{
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;			/* dropped just now */
		hash = hash_combine64(hash, hash_bytes_uint32_extended(lfirst_oid(lc), 0));
		hash = hash_combine64(hash,
							  hash_bytes_uint32_extended(((Form_pg_class) GETSTRUCT(tuple))->relfilenode, 0));
		ReleaseSysCache(tuple);
	}
	return (int64) hash;
}

static void
remember(int32 source_id, Oid relid, int64 print)
{
	static IsQuery query = IS_QUERY(
		"INSERT INTO iterable.source_state AS t (source_id, relid, fingerprint) "
		"VALUES ($1, $2, $3) ON CONFLICT (source_id) DO UPDATE "
		"SET relid = EXCLUDED.relid, fingerprint = EXCLUDED.fingerprint",
		3, INT4OID, OIDOID, INT8OID
	);
	Datum		values[3] = {
		Int32GetDatum(source_id), ObjectIdGetDatum(relid), Int64GetDatum(print)
	};

	SPI_connect();
	(void) is_query_run(&query, values, NULL);
	SPI_finish();
}

void
is_source_watch_remember(const IsSync *sync)
{
	Oid			relid = is_source_resolve(sync)->relid;
	int64		print = fingerprint(relid);
	IsUserContext save;

	is_catalog_become_owner(&save);
	remember(sync->source.source_id, relid, print);
	is_catalog_restore_user(&save);
}

/* What was remembered; false if nothing is known. */
static bool
recall(int32 source_id, Oid *relid, int64 *print)
{
	static IsQuery query = IS_QUERY(
		"SELECT relid, fingerprint FROM iterable.source_state "
		"WHERE source_id OPERATOR(pg_catalog.=) $1", 1, INT4OID
	);
	Datum		arg = Int32GetDatum(source_id);
	bool		known;
	bool		isnull;

	SPI_connect();
	known = is_query_run(&query, &arg, NULL) == 1;
	if (known)
	{
		*relid = DatumGetObjectId(is_query_value(0, 1, &isnull));
		*print = DatumGetInt64(is_query_value(0, 2, &isnull));
	}
	SPI_finish();
	return known;
}

void
is_source_watch_look(const IsSync *sync)
{
	int32		source_id = sync->source.source_id;
	IsRelation *relation = is_source_resolve(sync);
	int64		print = fingerprint(relation->relid);
	Oid			known_relid = InvalidOid;
	int64		known_print = 0;
	bool		known = recall(source_id, &known_relid, &known_print);
	bool		right = is_source_triggers_right(sync);
	const char *reason = NULL;
	ListCell   *lc;

	if (known && known_relid != relation->relid)
		reason = "another table has taken the name of the source";
	else if (!right)
		reason = "the capture triggers of the source were missing or disabled";
	else if (known && known_print != print)
		reason = "the partitions of the source have changed";

	if (!right)
	{
		IsUserContext save;

		/* its triggers are its owner's to put */
		is_catalog_become(&save, relation->owner);
		is_source_put_triggers(sync);
		is_catalog_restore_user(&save);
	}
	if (reason != NULL)
	{
		ereport(LOG,
				(errmsg("source \"%s.%s\" of sync \"%s\" is compared: %s",
						sync->source.schema_name, sync->source.table_name,
						sync->name, reason)));
		foreach(lc, is_source_syncs(source_id))
			is_scan_request(lfirst_int(lc), NULL, false, reason);
		is_capture_wake_on_commit();
	}
	if (reason != NULL || !known)
		remember(source_id, relation->relid, print);
}
