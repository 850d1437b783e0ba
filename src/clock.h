/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  A clock that nobody sets.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CLOCK_H
#define IS_CLOCK_H

#include "postgres.h"

#include "portability/instr_time.h"

/* Microseconds since some moment; only differences mean something. */
static inline int64
is_clock_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

#endif							/* IS_CLOCK_H */
