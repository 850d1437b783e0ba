/*-------------------------------------------------------------------------
 *
 * give_up.h
 *	  Giving up the place of a sync in the change log.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_GIVE_UP_H
#define IS_GIVE_UP_H

#include "postgres.h"

/*
 * Why the scan is asked for that finds what was given up; iterable.sync_status
 * knows the words.
 */
#define IS_GIVE_UP_REASON "the sync has lost its place in the change log"

/*
 * Let a sync go on from what is committed now, and compare when it may run: in
 * the caller's transaction as the extension's owner.  Returns false if it was
 * so already, and has not compared yet.
 */
extern bool is_give_up_place(int32 sync_id);

#endif							/* IS_GIVE_UP_H */
