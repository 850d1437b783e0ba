/*-------------------------------------------------------------------------
 *
 * config.h
 *	  What the configuration functions share.
 *
 * They check the rights of the current role themselves and write as the
 * extension's owner.  Whatever changes a sync locks its row first, so that
 * sessions go one after the other.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CONFIG_H
#define IS_CONFIG_H

#include "postgres.h"

#include "fmgr.h"

#include "catalog.h"
#include "iterable_api.h"
#include "query.h"

/* What happens to rows that are there already. */
typedef enum IsApply
{
	IS_APPLY_NOT_GIVEN,
	IS_APPLY_UPDATES_ONLY,
	IS_APPLY_BACKFILL
} IsApply;

/*
 * Argument i of a function as C string.  If it is null: error 22004 for a
 * required one, else NULL.
 */
extern char *is_config_arg(FunctionCallInfo fcinfo, int i, const char *name,
						   bool required);

/* The word for apply (NULL: not given); error 22023 with a hint. */
extern IsApply is_config_parse_apply(const char *text);

/* Error 22023: apply must be given, because "because". */
extern void is_config_require_apply(IsApply apply, const char *because);

/*
 * The sync as it is now, its row locked until the transaction ends.  Errors
 * of is_catalog_get_sync(); 25006 in recovery or a read-only transaction
 * ("function" is the caller's name).
 */
extern IsSync *is_config_lock_sync(const char *name, const char *function);

/* Error 25006 in recovery or a read-only transaction. */
extern void is_config_check_writable(const char *function);

/* Was the sync enabled before, here and not in another copy of the database? */
extern bool is_config_enabled_here(const IsSync *sync);

/*
 * Give the sync a place in the change log, from now on, instead of the one
 * that it has.  Its triggers must stand already, or what is committed in
 * between would be in neither.  Or take its place away.
 */
extern void is_config_start_state(const IsSync *sync);
extern void is_config_forget_state(const IsSync *sync);

/* Somebody has looked after the sync: what has failed is tried at once. */
extern void is_config_hurry(const IsSync *sync);

/* The times of its schedule count from now on, if it is one that waits for them. */
extern void is_config_start_schedule(const IsSync *sync);

/*
 * A sync is about to leave its source: nobody may begin to use the source
 * while we find out whether anybody does.  Then it has left: the capture
 * triggers and the source go if it was the last.
 */
extern void is_config_lock_source(const IsSource *source);
extern void is_config_release_source(const IsSource *source);

/* Run a query on the extension's tables as their owner; number of rows. */
extern uint64 is_config_write(IsQuery *query, Datum *values, const char *nulls);

/*
 * Begin to compare the rows of the source (for which condition is true) with
 * what Iterable has, or, with force, to send them all.
 */
extern void is_config_start_backfill(const IsSync *sync, const char *condition,
									 bool force);

/* Rows that are there now are not to be sent: begin to note them. */
extern void is_config_note_rows(const IsSync *sync);

#endif							/* IS_CONFIG_H */
