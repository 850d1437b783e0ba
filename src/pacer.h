/*-------------------------------------------------------------------------
 *
 * pacer.h
 *	  How many requests a second may leave: one sliding window per rate group
 *	  and endpoint.
 *
 * Pure: no clock, no lock, no allocation and no PostgreSQL call is made here;
 * the caller passes the time (microseconds of a monotonic clock) and keeps
 * the lock (see pacer_shmem.h).
 *
 * The receiver must see at most "rate" requests in ANY second, so a request
 * may leave when the one "rate" places before it is more than a second (plus
 * a small margin for jitter on the way) old.  Rates below one mean one
 * request in 1/rate seconds; fractions above one are rounded down.  A pacer
 * starts full, as if "rate" requests had left just before: what another
 * process or an earlier life of this one may have sent is never exceeded.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_PACER_H
#define IS_PACER_H

#include <stdbool.h>
#include <stdint.h>

#define IS_PACER_MAX_RATE 1000	/* requests a second */

typedef struct IsPacer
{
	double		share;			/* of the rate that is used now; 1 unless a 429
								 * came.  A share, so that callers with
								 * different rates can use one window. */
	int64_t		raised_at;		/* share grows when this is long ago */
	int64_t		slowed_at;		/* share was last halved, 0 = never */
	int64_t		started_at;		/* counts as the time of requests not in sent[] */
	int			next;			/* slot of sent[] that is written next */
	int64_t		sent[IS_PACER_MAX_RATE];	/* ring of departure times, 0 = none */
} IsPacer;

/* Make an empty pacer that behaves as if it had just sent all it may. */
extern void is_pacer_init(IsPacer *pacer, int64_t now);

/*
 * Ask for one departure at "now" under "rate" (requests/s, > 0, at most
 * IS_PACER_MAX_RATE).  Returns 0 and counts the departure if it may leave at
 * once, else the number of microseconds after which asking again makes sense
 * (nothing is counted).
 */
extern int64_t is_pacer_take(IsPacer *pacer, double rate, int64_t now);

/*
 * The departure that was counted at "counted" took place later, at "left":
 * a connection had to be made first.
 */
extern void is_pacer_left(IsPacer *pacer, int64_t counted, int64_t left);

/*
 * The server said 429: halve the share, not below 1/8.  It grows back by 1/8
 * for each five seconds without a 429.  Several 429s within a second are one.
 */
extern void is_pacer_slow_down(IsPacer *pacer, int64_t now);

#endif							/* IS_PACER_H */
