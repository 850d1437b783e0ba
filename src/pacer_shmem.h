/*-------------------------------------------------------------------------
 *
 * pacer_shmem.h
 *	  The pacers of all rate groups, in shared memory, for all databases,
 *	  syncs and sessions; local to the process when not preloaded.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_PACER_SHMEM_H
#define IS_PACER_SHMEM_H

#include "postgres.h"

#include "iterable_api.h"

/*
 * Bytes and initialization, called by the shared memory hooks; init with
 * AddinShmemInitLock held.
 */
extern Size is_pacer_shmem_size(void);
extern void is_pacer_shmem_init(void);

/*
 * Ask for one departure to an endpoint of a rate group (a digest).  Returns 0
 * if the request may leave now (it is counted, at a time that *counted gets if
 * not NULL), else microseconds to wait.
 */
extern int64 is_pacer_ask(uint64 rate_group, IsEndpoint endpoint, double rate,
						  int64 *counted);

/* A departure that was counted took place later.  Raises no error. */
extern void is_pacer_report_left(uint64 rate_group, IsEndpoint endpoint,
								 int64 counted, int64 left);

/* A 429 came back. */
extern void is_pacer_report_429(uint64 rate_group, IsEndpoint endpoint, double rate);

#endif							/* IS_PACER_SHMEM_H */
