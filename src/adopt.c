/*-------------------------------------------------------------------------
 *
 * adopt.c
 *	  iterable_adopt(): a copy of a database becomes one that sends.
 *
 * The syncs go on with what the original knew when it was copied: they get a
 * place in the change log of their own, from now on, and compare, so that what
 * differs from what was accepted then is sent.  Of rows that the original had
 * under way nothing is known; these are sent whatever was accepted before.
 * What was captured and not sent yet is found by comparing, too: so no note may
 * hide it.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "capture.h"
#include "catalog.h"
#include "change_log.h"
#include "config.h"
#include "delivery.h"
#include "reading.h"
#include "scan.h"
#include "source.h"
#include "source_watch.h"
#include "state.h"

PG_FUNCTION_INFO_V1(iterable_adopt);

/* Keys of a row of the log. */
#define CHUNK_KEYS 1000

/* Ids of the syncs that belong to another server or database. */
static List *
find_foreign(void)
{
	static IsQuery query =
		IS_QUERY("SELECT sync_id FROM iterable.sync_state "
				 "WHERE identity OPERATOR(pg_catalog.<>) $1 ORDER BY sync_id", 1, TEXTOID);
	Datum		arg = CStringGetTextDatum(is_state_identity());

	return is_catalog_read_ids(&query, &arg);
}

static void
force(const IsSync *sync, List *keys)
{
	char		op = IS_OP_FORCE;

	is_change_log_append_keys(sync->source.source_id, sync->sync_id, &op, 1, keys);
	list_free_deep(keys);
}

/*
 * What was being sent when the copy was made: as the extension's owner, while
 * the state is still that of the original.
 */
static void
force_unknown(const IsSync *sync)
{
	IsSyncState *state = is_state_load(sync->sync_id, false);
	List	   *keys = NIL;
	IsWindow   *window;
	IsChange	change;

	if (state == NULL || state->window_end == NULL)
		return;
	window = is_change_log_open_window(state->source_id, state->sync_id, state->position,
									   state->window_end, state->done.seq,
									   state->done.offset, false);
	while (is_change_log_next(window, &change))
	{
		if (change.key == NULL)
			continue;			/* all rows are looked at anyway */
		keys = lappend(keys, pstrdup(change.key));
		if (list_length(keys) == CHUNK_KEYS)
		{
			force(sync, keys);
			keys = NIL;
		}
	}
	force(sync, keys);
	is_change_log_close_window(window);
}

/*
 * The sync loses its place in the log: forget what was noted after the oldest
 * change that it had not come to.  Returns whether rows are still to be noted.
 */
static bool
keep_notes(const IsSync *sync)
{
	IsSyncState *state = is_state_load(sync->sync_id, false);
	TimestampTz oldest;

	if (state == NULL)
		return false;
	if (!is_change_log_oldest(state->source_id, state->sync_id, state->position, &oldest))
		return state->noting;
	is_delivery_forget_notes(sync->sync_id, oldest);
	return false;
}

static void
put_triggers(void *arg)
{
	IsSync	   *sync = arg;

	is_source_check(is_source_resolve(sync)->relid, sync);
	is_source_watch_put(sync);
}

static void
adopt(IsSync *sync)
{
	ErrorData  *error = is_reading_try(put_triggers, sync);
	IsUserContext save;
	bool		noting;

	/* One that is in trouble waits for that to be mended, as it would later. */
	if (error && ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	if (error)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("sync \"%s\" is adopted, but its source cannot be captured yet: %s",
						sync->name, error->message),
				 error->detail ? errdetail("%s", error->detail) : 0,
				 error->hint ? errhint("%s", error->hint) : 0));

	is_catalog_become_owner(&save);
	noting = keep_notes(sync);
	force_unknown(sync);
	is_catalog_restore_user(&save);
	is_config_start_state(sync);
	if (noting)
		is_config_note_rows(sync);
	is_catalog_become_owner(&save);
	is_scan_request(sync->sync_id, IS_SCAN_COMPARE, NULL, false, "the database was adopted");
	is_catalog_restore_user(&save);
}

/*
 * iterable_adopt() returns integer
 */
Datum
iterable_adopt(PG_FUNCTION_ARGS)
{
	int			n = 0;
	ListCell   *lc;

	is_config_check_writable("iterable_adopt()");
	foreach(lc, find_foreign())
	{
		IsSync	   *sync = is_catalog_get_sync_by_id(lfirst_int(lc));

		if (sync == NULL || !has_privs_of_role(GetUserId(), sync->owner))
			continue;
		sync = is_config_lock_sync(sync->name, "iterable_adopt()");

		/* somebody may have been faster */
		if (!sync->has_state || is_config_enabled_here(sync))
			continue;
		adopt(sync);
		n++;
	}
	is_capture_wake_on_commit();
	PG_RETURN_INT32(n);
}
