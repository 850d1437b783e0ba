/*-------------------------------------------------------------------------
 *
 * uncaptured.h
 *	  Comparing sources of which changes could not be captured.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_UNCAPTURED_H
#define IS_UNCAPTURED_H

#include "postgres.h"

/*
 * For the worker, at each of its looks: ask for scans of the sources of this database that are
 * marked, and of all if marks may have been lost.  Outside of a transaction of
 * the engine.  An error goes to the log, and it is tried again some seconds
 * later.  now: µs of a clock that only goes on.
 */
extern void is_uncaptured_compare(int64 now);

#endif							/* IS_UNCAPTURED_H */
