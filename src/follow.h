/*-------------------------------------------------------------------------
 *
 * follow.h
 *	  Syncs that run after others.
 *
 * The schedule of one names the other.  Names are kept right here: a sync
 * that others are after can be renamed, and cannot be dropped.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_FOLLOW_H
#define IS_FOLLOW_H

#include "postgres.h"

#include "catalog.h"

/*
 * If the schedule names another sync: error 22023 with a detail if there is
 * none whose owner's privileges the sync's owner has, or if the sync would
 * wait for itself, directly or through others.  Locks the rows of those it
 * waits for, so that it stays so.
 */
extern void is_follow_check(const IsSync *sync);

/* The sync has another name now: tell those that are after it. */
extern void is_follow_rename(const IsSync *sync, const char *new_name);

/* Error 2BP01 with a hint if others are after the sync, which is locked. */
extern void is_follow_check_drop(const IsSync *sync);

#endif							/* IS_FOLLOW_H */
