/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  What is to be done with a row, by mode, filter and memory.
 *
 * Modes speak of the destination: the trigger's operation alone says little,
 * since reloads and partition moves all look like inserts.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "decide.h"

/* Was a payload of the row ever accepted? */
static bool
is_accepted(const IsMemory *memory)
{
	return memory->state == IS_DELIVERY_ACCEPTED ||
		((memory->state == IS_DELIVERY_VANISHED ||
		  memory->state == IS_DELIVERY_LEFT) && memory->identified);
}

/* Has the sync not had the row before?  To begin to match is to be new. */
static bool
is_new(const IsMemory *memory, bool updated)
{
	if (memory->failed)
		return false;
	if (memory->state == 0)
		return !updated;
	return memory->state != IS_DELIVERY_SEEN && memory->state != IS_DELIVERY_NOTED &&
		!is_accepted(memory);
}

static IsFate
fate_of_missing(const IsSync *sync, const IsRow *row, const IsMemory *memory,
				bool unsure)
{
	if (!row->left)
		return unsure ? IS_FATE_VANISHED_UNSURE : IS_FATE_VANISHED;

	/* An event that begins to match later must not pass for an old one. */
	if ((memory->state == 0 || memory->state == IS_DELIVERY_NOTED) &&
		sync->mode == IS_MODE_UPDATE && sync->object == IS_OBJECT_EVENT)
		return IS_FATE_UNMATCHED;
	return unsure ? IS_FATE_LEFT_UNSURE : IS_FATE_LEFT;
}

IsDecision
is_decide(const IsSync *sync, const IsRow *row, const IsMemory *memory,
		  const IsCircumstances *circumstances, IsFate *fate)
{
	bool		accepted = is_accepted(memory);
	IsMemory	unnoted;

	/*
	 * An event of its own is compared with what Iterable has accepted before,
	 * which is the same when a window is resumed: no version that was passed
	 * over then may become an event now.
	 */
	bool		own_event = row->capture == IS_CAPTURE_VERSIONS && row->version != NULL;

	/* A failed row may have been applied in part. */
	bool		unsure = memory->failed || circumstances->forced ||
		(circumstances->resumed && !own_event);

	/* A newer version has been accepted in the place of the one that failed. */
	if (row->retried && !memory->failed)
	{
		*fate = IS_FATE_SKIPPED;
		return IS_DECISION_NOTE;
	}

	/*
	 * What was captured is sent, unless it is known that the row was noted
	 * before and is now, deleted and inserted say, as it was then.
	 */
	if (memory->state == IS_DELIVERY_NOTED && !circumstances->compared &&
		!(circumstances->noted && !unsure && row->found && row->version == NULL &&
		  memory->hash_known && memory->hash == row->hash))
	{
		unnoted = *memory;
		unnoted.state = 0;
		unnoted.hash_known = false;
		memory = &unnoted;
	}

	if (!row->found)
	{
		*fate = fate_of_missing(sync, row, memory, unsure);
		return IS_DECISION_NOTE;
	}
	if (sync->mode == IS_MODE_INSERT &&
		(accepted || memory->state == IS_DELIVERY_NOTED))
	{
		*fate = IS_FATE_SKIPPED;	/* whatever has become of it */
		return IS_DECISION_NOTE;
	}
	if (row->problem)
	{
		/* not to be sent then, nor now */
		*fate = memory->state == IS_DELIVERY_NOTED && !memory->hash_known && !unsure ?
			IS_FATE_UNCHANGED : IS_FATE_REJECTED;
		return IS_DECISION_NOTE;
	}
	if (sync->mode == IS_MODE_UPDATE && sync->object == IS_OBJECT_EVENT &&
		is_new(memory, circumstances->updated))
	{
		*fate = IS_FATE_SEEN;
		return IS_DECISION_NOTE;
	}

	/* To come back is an event, too. */
	if (memory->state != 0 && memory->hash_known && memory->hash == row->hash &&
		!unsure &&
		!(own_event && (memory->state == IS_DELIVERY_VANISHED ||
						memory->state == IS_DELIVERY_LEFT)))
	{
		*fate = memory->state == IS_DELIVERY_VANISHED ||
			memory->state == IS_DELIVERY_LEFT ?
			IS_FATE_REAPPEARED : IS_FATE_UNCHANGED;
		return IS_DECISION_NOTE;
	}

	if (is_render_updates_users(sync) && !accepted && !circumstances->update_only)
		return IS_DECISION_SEND_IF_KNOWN;
	return IS_DECISION_SEND;
}
