/*-------------------------------------------------------------------------
 *
 * pacer.c
 *	  How many requests a second may leave: a sliding window.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "pacer.h"

#include <string.h>

#define SECOND INT64_C(1000000)

/*
 * Two requests that leave a second apart may arrive a little closer.  This
 * much is added to the window; it costs 1.5 percent of the limit.
 */
#define JITTER_MARGIN INT64_C(15000)

/* After a 429: the least share of the rate, and the way back to all of it. */
#define LEAST_SHARE 0.125
#define RAISE_STEP 0.125
#define RAISE_EVERY (5 * SECOND)

/*
 * Answers to requests that were already on their way when the pace was
 * lowered say nothing about the new pace.
 */
#define SAME_INCIDENT SECOND

static double
clamp_rate(double rate)
{
	if (!(rate > 0.001))		/* also NaN */
		return 0.001;
	return rate < IS_PACER_MAX_RATE ? rate : IS_PACER_MAX_RATE;
}

void
is_pacer_init(IsPacer *pacer, int64_t now)
{
	memset(pacer, 0, sizeof(*pacer));
	pacer->share = 1.0;
	pacer->raised_at = now;
	pacer->started_at = now;
}

static void
raise_pace(IsPacer *pacer, int64_t now)
{
	int64_t		steps;

	if (pacer->share >= 1.0 || now <= pacer->raised_at)
		return;

	steps = (now - pacer->raised_at) / RAISE_EVERY;
	if (steps >= (int64_t) ((1.0 - LEAST_SHARE) / RAISE_STEP))
		pacer->share = 1.0;
	else
	{
		pacer->share += steps * RAISE_STEP;
		if (pacer->share > 1.0)
			pacer->share = 1.0;
	}
	pacer->raised_at += steps * RAISE_EVERY;
}

int64_t
is_pacer_take(IsPacer *pacer, double rate, int64_t now)
{
	double		pace;
	int			in_window;
	int64_t		window;
	int64_t		newest;
	int64_t		oldest;

	raise_pace(pacer, now);

	/* The epsilon keeps 5 * 0.6 from being 2. */
	pace = clamp_rate(rate) * pacer->share;
	if (pace >= 1.0)
	{
		in_window = (int) (pace + 1e-9);
		window = SECOND + JITTER_MARGIN;
	}
	else
	{
		in_window = 1;
		window = (int64_t) ((double) SECOND / pace) + JITTER_MARGIN;
	}

	/* Clocks of two processors may differ a little: never write backwards. */
	newest = pacer->sent[(pacer->next + IS_PACER_MAX_RATE - 1) % IS_PACER_MAX_RATE];
	if (now < newest)
		now = newest;
	if (now < pacer->started_at)
		now = pacer->started_at;

	oldest = pacer->sent[(pacer->next + IS_PACER_MAX_RATE - in_window) % IS_PACER_MAX_RATE];
	if (oldest == 0)
		oldest = pacer->started_at;

	if (now < oldest + window)
		return oldest + window - now;

	pacer->sent[pacer->next] = now != 0 ? now : 1;
	pacer->next = (pacer->next + 1) % IS_PACER_MAX_RATE;
	return 0;
}

void
is_pacer_left(IsPacer *pacer, int64_t counted, int64_t left)
{
	int			newest = (pacer->next + IS_PACER_MAX_RATE - 1) % IS_PACER_MAX_RATE;
	int			i = newest;

	for (int n = 0; pacer->sent[i] > counted; n++)
	{
		if (n == IS_PACER_MAX_RATE)
			return;
		i = (i + IS_PACER_MAX_RATE - 1) % IS_PACER_MAX_RATE;
	}
	if (pacer->sent[i] != counted || left <= counted)
		return;

	/* The ring stays in order of time. */
	while (i != newest)
	{
		int			after = (i + 1) % IS_PACER_MAX_RATE;

		if (pacer->sent[after] >= left)
			break;
		pacer->sent[i] = pacer->sent[after];
		i = after;
	}
	pacer->sent[i] = left;
}

void
is_pacer_slow_down(IsPacer *pacer, int64_t now)
{
	raise_pace(pacer, now);

	/* The quiet time starts anew with every 429, also within one incident. */
	pacer->raised_at = now;

	if (pacer->slowed_at != 0 && now - pacer->slowed_at < SAME_INCIDENT)
		return;

	pacer->share /= 2;
	if (pacer->share < LEAST_SHARE)
		pacer->share = LEAST_SHARE;
	pacer->slowed_at = now;
}
