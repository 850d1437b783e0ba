/*-------------------------------------------------------------------------
 *
 * log_limit.c
 *	  Keeping the change log within iterable_sync.max_change_log_size.
 *
 * A sync that does not run, or is hopelessly slow, keeps everything that was
 * captured since.  When the log has grown to its limit, such syncs give up
 * their places, those that keep the oldest segment first, until the others
 * keep so little that there is room for what comes.
 *
 * Only who is far behind can lose its place: who needs a segment that writers
 * left a while ago.  Nobody loses it for a segment that is in use, by pg_dump
 * or a transaction that is open or prepared, because that would not be emptied
 * anyway; then the log grows beyond its limit, and shrinks when it can.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "log_limit.h"

#include "change_log.h"
#include "change_segment.h"
#include "give_up.h"
#include "state.h"

void
is_log_limit_pass(void)
{
	char	   *newest = is_change_log_snapshot();
	ListCell   *lc;

	foreach(lc, is_state_load_all())
	{
		const IsSyncState *state = lfirst(lc);
		char	   *to;

		if (state->window_end != NULL)
			continue;
		to = is_change_log_pass(state->source_id, state->sync_id, state->position, newest);
		if (to != NULL)
			is_state_pass(state->sync_id, state->position, to);
	}
}

/* A segment that is kept by syncs that are far behind. */
typedef struct Kept
{
	int			segment;
	int64		size;
	List	   *syncs;			/* ids */
} Kept;

/*
 * Settled segments in order of age, then the others, each with those syncs
 * that some settled one needs to be passed by.
 */
static int
find_kept(Kept *kept)
{
	int			order[IS_SEGMENTS];
	int			nsettled = is_change_segment_settled(order);
	List	   *behind = NIL;

	for (int i = 0; i < IS_SEGMENTS; i++)
	{
		kept[i].segment = order[i];
		kept[i].size = is_change_segment_size(order[i]);
		kept[i].syncs = is_change_segment_needed_by(order[i]);
		if (i < nsettled)
			behind = list_union_int(behind, kept[i].syncs);
		else
			kept[i].syncs = list_intersection_int(kept[i].syncs, behind);
	}
	return nsettled;
}

/* Bytes of the segments that others than these keep. */
static int64
size_without(const Kept *kept, const List *losers)
{
	int64		size = 0;

	for (int i = 0; i < IS_SEGMENTS; i++)
		if (list_difference_int(kept[i].syncs, losers) != NIL)
			size += kept[i].size;
	return size;
}

void
is_log_limit_keep(void)
{
	int64		limit = (int64) is_max_change_log_size * 1024 * 1024;
	int64		room = limit / IS_SEGMENTS;	/* for what is captured next */
	int64		size = 0;
	Kept		kept[IS_SEGMENTS];
	int			nsettled;
	List	   *losers = NIL;
	ListCell   *lc;

	for (int i = 0; i < IS_SEGMENTS; i++)
		size += is_change_segment_size(i);
	if (size <= limit)
		return;

	nsettled = find_kept(kept);
	for (int i = 0; i < nsettled && size_without(kept, losers) > limit - room; i++)
		losers = list_union_int(losers, kept[i].syncs);

	foreach(lc, losers)
	{
		const IsSyncState *state = is_state_load(lfirst_int(lc), false);

		if (state != NULL && is_give_up_place(state->sync_id))
			ereport(LOG,
					(errmsg("sync \"%s\" has lost its place in the change log", state->name),
					 errdetail("The change log has " INT64_FORMAT " MB, \"iterable_sync.max_change_log_size\" is %d MB, and the sync has not passed the oldest part of it.",
							   size / (1024 * 1024), is_max_change_log_size),
					 errhint("Nothing is lost: when the sync may run, it compares its rows with what was sent. Enable it, drop it, or raise the setting.")));
	}
}
