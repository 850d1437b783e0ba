/*-------------------------------------------------------------------------
 *
 * turn.c
 *	  Which batch may leave first, where two syncs write the same user.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "turn.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

typedef struct Place
{
	uint64		rate_group;
	const void *run;
	const IsBatch *batch;
} Place;

static List *line = NIL;		/* of Place *, in order */

bool
is_turn_ask(uint64 rate_group, const void *run, const IsBatch *batch)
{
	MemoryContext old;
	Place	   *place;
	bool		may_leave = true;
	ListCell   *lc;

	if (!batch->claims_users)
		return true;
	foreach(lc, line)
	{
		place = lfirst(lc);
		if (place->batch == batch)
			return may_leave;
		if (may_leave && place->rate_group == rate_group && place->run != run)
			may_leave = !is_batch_shares_user(place->batch, batch);
	}

	old = MemoryContextSwitchTo(TopMemoryContext);
	place = palloc_object(Place);
	*place = (Place) {rate_group, run, batch};
	line = lappend(line, place);
	MemoryContextSwitchTo(old);
	return may_leave;
}

void
is_turn_end(const IsBatch *batch)
{
	ListCell   *lc;

	foreach(lc, line)
	{
		Place	   *place = lfirst(lc);

		if (place->batch != batch)
			continue;
		line = foreach_delete_current(line, lc);
		pfree(place);
	}
}

void
is_turn_step_back(const void *run, bool all)
{
	bool		moved = false;
	ListCell   *lc;

	foreach(lc, line)
	{
		Place	   *place = lfirst(lc);

		if (place->run != run || (place->batch->sending && !all))
			continue;
		line = foreach_delete_current(line, lc);
		pfree(place);
		moved = true;
	}

	/* no answer tells those behind that it is their turn */
	if (moved && line != NIL)
		SetLatch(MyLatch);
}
