/*-------------------------------------------------------------------------
 *
 * turn.h
 *	  Which batch may leave first, where two syncs write the same user.
 *
 * Within a sync the claims of batches (batch.h) see to it that no user is in
 * two requests at once.  Between syncs there is no order of rows to keep, but
 * requests that arrive together may be applied in any order, or over each
 * other.  So a batch of users that is ready takes its place in a line, and
 * leaves when none before it, of another sync of the same project, has a user
 * in common with it.  Whoever has to wait for anything but the pacer loses its
 * place: nobody waits for longer than a request may take.
 *
 * The line is that of this process, which is that of all syncs of a database
 * but those that a session runs.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_TURN_H
#define IS_TURN_H

#include "batch.h"

/* May it leave now?  It takes its place if it has none. */
extern bool is_turn_ask(uint64 rate_group, const void *run, const IsBatch *batch);

/* Its request is over. */
extern void is_turn_end(const IsBatch *batch);

/* Those of a run whose requests have not left give up their places, or all. */
extern void is_turn_step_back(const void *run, bool all);

#endif							/* IS_TURN_H */
