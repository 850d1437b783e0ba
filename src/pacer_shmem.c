/*-------------------------------------------------------------------------
 *
 * pacer_shmem.c
 *	  The pacers of all rate groups, under one lock.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "pacer_shmem.h"

#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "clock.h"
#include "compat.h"
#include "pacer.h"

#define MAX_GROUPS 64
#define TRANCHE_NAME "IterablePacer"

typedef struct Group
{
	uint64		id;
	int64		used_at;		/* 0: free */
	IsPacer		pacers[IS_ENDPOINT_COUNT];
} Group;

typedef struct PacerShared
{
	LWLock		lock;

	/*
	 * No request that is not in a pacer left after this time: the start of
	 * this memory, or the last use of the last group that was replaced.
	 */
	int64		forgotten_at;
	Group		groups[MAX_GROUPS];
} PacerShared;

static PacerShared *shared = NULL;	/* in shared memory, if preloaded */
static PacerShared *local = NULL;	/* else here; has no lock */

Size
is_pacer_shmem_size(void)
{
	return MAXALIGN(sizeof(PacerShared));
}

void
is_pacer_shmem_init(void)
{
	bool		found;

	/* The caller holds AddinShmemInitLock. */
	shared = ShmemInitStruct("iterable_sync pacer", is_pacer_shmem_size(),
							 &found);
	if (!found)
	{
		memset(shared, 0, sizeof(*shared));
		shared->forgotten_at = is_clock_us();
		LWLockInitialize(&shared->lock, is_new_tranche(TRANCHE_NAME));
	}
	is_name_tranche(shared->lock.tranche, TRANCHE_NAME);
}

/*
 * The pacers of a group.  One that is not known (any more) starts as if it
 * had used its full rate when we last forgot a group; so the first request
 * of a new group need not wait.
 */
static Group *
find_group(PacerShared *p, uint64 id, int64 now)
{
	Group	   *victim = &p->groups[0];

	for (int i = 0; i < MAX_GROUPS; i++)
	{
		Group	   *group = &p->groups[i];

		if (group->used_at != 0 && group->id == id)
		{
			group->used_at = now;
			return group;
		}
		if (group->used_at < victim->used_at)
			victim = group;
	}

	p->forgotten_at = Max(p->forgotten_at, victim->used_at);
	victim->id = id;
	victim->used_at = now;
	for (int i = 0; i < IS_ENDPOINT_COUNT; i++)
		is_pacer_init(&victim->pacers[i], p->forgotten_at);
	return victim;
}

/* Lock all pacers; without shared memory make those of this process. */
static PacerShared *
lock_pacers(void)
{
	if (shared != NULL)
	{
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		return shared;
	}

	if (local == NULL)
	{
		local = calloc(1, sizeof(PacerShared));
		if (local == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
		local->forgotten_at = is_clock_us();
	}
	return local;
}

static void
unlock_pacers(void)
{
	if (shared != NULL)
		LWLockRelease(&shared->lock);
}

int64
is_pacer_ask(uint64 rate_group, IsEndpoint endpoint, double rate, int64 *counted)
{
	PacerShared *p = lock_pacers();
	IsPacer    *pacer;

	/* Read the clock under the lock, so that departures are in order. */
	int64		now = is_clock_us();
	int64		wait;

	pacer = &find_group(p, rate_group, now)->pacers[endpoint];
	wait = is_pacer_take(pacer, rate, now);
	if (wait == 0 && counted != NULL)
		*counted = pacer->sent[(pacer->next + IS_PACER_MAX_RATE - 1) % IS_PACER_MAX_RATE];
	unlock_pacers();
	return wait;
}

void
is_pacer_report_left(uint64 rate_group, IsEndpoint endpoint, int64 counted, int64 left)
{
	PacerShared *p = lock_pacers();

	is_pacer_left(&find_group(p, rate_group, left)->pacers[endpoint], counted, left);
	unlock_pacers();
}

void
is_pacer_report_429(uint64 rate_group, IsEndpoint endpoint, double rate)
{
	PacerShared *p = lock_pacers();
	int64		now = is_clock_us();

	is_pacer_slow_down(&find_group(p, rate_group, now)->pacers[endpoint], now);
	unlock_pacers();
}
