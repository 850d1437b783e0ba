/*-------------------------------------------------------------------------
 *
 * test_pacer.c
 *	  No second in which more than the limit leaves, and hardly less.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pacer.h"

/* assert_in_range() has another name in newer versions of cmocka */
static void
assert_between(long value, long least, long most)
{
	assert_true(value >= least && value <= most);
}

#define SECOND INT64_C(1000000)
#define START INT64_C(987654321)

static IsPacer pacer;

/* The departures of a test. */
static int64_t times[200000];
static int	ntimes;

static int
start(void **state)
{
	is_pacer_init(&pacer, START);
	ntimes = 0;
	return 0;
}

static int64_t
take(double rate, int64_t now)
{
	int64_t		wait = is_pacer_take(&pacer, rate, now);

	if (wait == 0)
		times[ntimes++] = now;
	return wait;
}

/* In any window of this length, at most n departures. */
static void
check_window(int n, int64_t window)
{
	for (int i = 0; i + n < ntimes; i++)
		assert_true(times[i + n] - times[i] > window);
}

static int
limit_of(double rate)
{
	return rate < 1 ? 1 : (int) rate;
}

static int64_t
window_of(double rate)
{
	return rate < 1 ? (int64_t) (SECOND / rate) : SECOND;
}

/* How many leave in this many seconds if there is always something to send. */
static int
busy(double rate, int64_t from, int seconds)
{
	int			before = ntimes;
	int64_t		now = from;

	while (now < from + seconds * SECOND)
		now += take(rate, now);
	return ntimes - before;
}

static void
starts_full(void **state)
{
	int64_t		wait;

	for (int64_t t = 0; t < SECOND; t += 1000)
		assert_true(take(5, START + t) > 0);
	wait = take(5, START);
	assert_true(wait >= SECOND);
	for (int i = 0; i < 5; i++)
		assert_int_equal(take(5, START + wait), 0);
	assert_true(take(5, START + wait) >= SECOND);
}

static void
told_wait_is_exact(void **state)
{
	int64_t		now = START;

	for (int i = 0; i < 1000; i++)
	{
		int64_t		wait = take(7, now);

		if (wait == 0)
			continue;
		assert_true(is_pacer_take(&pacer, 7, now + wait - 1) == 1);
		now += wait;
		assert_int_equal(take(7, now), 0);
	}
}

static void
never_more_than_the_limit(void **state)
{
	static const double rates[] = {0.1, 0.5, 0.99, 1, 1.5, 2, 3.7, 5, 10, 33.3, 100, 500, 1000};

	srandom(4711);
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
	{
		double		rate = rates[i];

		/* asked on average twenty times, five times, about and half as often */
		static const double demand[] = {20, 5, 1.2, 0.5};

		for (int round = 0; round < 4; round++)
		{
			int64_t		step = (int64_t) (2 * SECOND / rate / demand[round]);
			int64_t		now = START;

			start(NULL);
			while (now < START + 60 * window_of(rate))
			{
				now += random() % (step + 1);
				take(rate, now);
			}
			assert_true(ntimes > 10);
			check_window(limit_of(rate), window_of(rate));
		}
	}
}

static void
bursts_after_silence(void **state)
{
	int64_t		now = START;

	srandom(42);
	for (int burst = 0; burst < 500; burst++)
	{
		now += random() % (3 * SECOND);
		for (int i = 0; i < 30; i++)
			take(10, now + i * 100);
		now += 3000;
	}
	check_window(10, SECOND);
}

static void
uses_the_limit(void **state)
{
	static const double rates[] = {0.5, 1, 5, 10, 100, 1000};

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
	{
		double		rate = rates[i];
		int			n;

		start(NULL);
		n = busy(rate, START + 20 * SECOND, 100);
		check_window(limit_of(rate), window_of(rate));
		assert_true(n <= rate * 101);
		assert_true(n >= rate * 98);
	}
}

static void
fractions_are_rounded_down(void **state)
{
	int			n = busy(2.9, START + SECOND, 100);

	check_window(2, SECOND);
	assert_between(n, 196, 202);
}

static void
rates_out_of_range(void **state)
{
	/* nonsense must neither crash nor open the gate */
	assert_true(take(0, START + 2 * SECOND) > 0);
	assert_true(take(-5, START + 2 * SECOND) > 0);
	assert_true(take(0.0 / 0.0, START + 2 * SECOND) > 0);
	assert_true(busy(1e9, START + 2 * SECOND, 10) <= 11 * IS_PACER_MAX_RATE);
	check_window(IS_PACER_MAX_RATE, SECOND);
}

static void
two_rates_share_a_window(void **state)
{
	int64_t		now = START + 2 * SECOND;

	for (int i = 0; i < 10; i++)
		assert_int_equal(take(10, now), 0);
	assert_true(take(5, now + SECOND / 2) > 0);
	assert_true(take(10, now + SECOND / 2) > 0);
	assert_true(take(5, now + SECOND + 20000) == 0);
}

static void
clock_steps_back(void **state)
{
	int64_t		now = START + 2 * SECOND;

	for (int i = 0; i < 4; i++)
		assert_int_equal(take(5, now), 0);
	/* another processor's clock is behind: counted as not earlier */
	assert_int_equal(is_pacer_take(&pacer, 5, now - 500), 0);
	assert_true(is_pacer_take(&pacer, 5, now + SECOND) > 0);
	assert_true(is_pacer_take(&pacer, 5, START - SECOND) > 0);
}

static void
slows_down_after_429(void **state)
{
	int64_t		now = START + 10 * SECOND;

	busy(8, now, 10);
	now += 10 * SECOND;
	is_pacer_slow_down(&pacer, now);
	assert_between(busy(8, now, 4), 12, 20);

	/* the other answers of the same incident do not count again */
	now += 4 * SECOND;
	is_pacer_slow_down(&pacer, now);
	is_pacer_slow_down(&pacer, now + 1000);
	is_pacer_slow_down(&pacer, now + 900000);
	assert_true(pacer.share == 0.25);

	/* never slower than an eighth */
	for (int i = 0; i < 20; i++)
	{
		now += 2 * SECOND;
		is_pacer_slow_down(&pacer, now);
	}
	assert_true(pacer.share == 0.125);
	assert_between(busy(8, now, 4), 3, 5);
	check_window(8, SECOND);
}

static void
recovers_when_quiet(void **state)
{
	int64_t		now = START + 10 * SECOND;
	double		last;

	is_pacer_slow_down(&pacer, now);
	is_pacer_slow_down(&pacer, now + 2 * SECOND);
	is_pacer_slow_down(&pacer, now + 4 * SECOND);
	now += 4 * SECOND;
	last = pacer.share;
	assert_true(last == 0.125);

	/* nothing for five seconds, then step by step */
	busy(8, now, 4);
	assert_true(pacer.share == last);
	for (int i = 0; i < 10; i++)
	{
		now += 5 * SECOND;
		take(8, now);
		assert_true(pacer.share >= last);
		last = pacer.share;
	}
	assert_true(pacer.share == 1.0);
	assert_true(busy(8, now, 100) >= 784);
	check_window(8, SECOND);

	/* one long silence does the same at once */
	is_pacer_slow_down(&pacer, now + 101 * SECOND);
	take(8, now + 200 * SECOND);
	assert_true(pacer.share == 1.0);
}

static void
recovery_keeps_the_limit(void **state)
{
	int64_t		now = START;

	srandom(99);
	for (int i = 0; i < 100000; i++)
	{
		now += random() % 30000;
		take(10, now);
		if (random() % 500 == 0)
			is_pacer_slow_down(&pacer, now);
	}
	check_window(10, SECOND);
}

static int
compare_times(const void *a, const void *b)
{
	int64_t		left = *(const int64_t *) a;
	int64_t		right = *(const int64_t *) b;

	return left < right ? -1 : left > right;
}

/* A connection had to be made first: what counts is when they leave. */
static void
late_departures_count_when_they_leave(void **state)
{
	int64_t		counted[10];
	int64_t		leaves[10];
	int			npending = 0;
	int64_t		now = START;

	srandom(7);
	for (int i = 0; i < 100000; i++)
	{
		now += random() % 20000;
		for (int k = 0; k < npending; k++)
			if (leaves[k] <= now)
			{
				is_pacer_left(&pacer, counted[k], leaves[k]);
				times[ntimes++] = leaves[k];
				npending--;
				counted[k] = counted[npending];
				leaves[k] = leaves[npending];
				k--;
			}
		if (npending < 10 && is_pacer_take(&pacer, 5, now) == 0)
		{
			counted[npending] = now;
			leaves[npending++] = now + random() % (SECOND / 2);
		}
	}
	assert_true(ntimes > 1000);
	qsort(times, ntimes, sizeof(times[0]), compare_times);
	check_window(5, SECOND);

	/* one that nobody knows changes nothing */
	is_pacer_left(&pacer, START - 1, now + SECOND);
	assert_int_equal(is_pacer_take(&pacer, 5, now + 2 * SECOND), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(starts_full, start),
		cmocka_unit_test_setup(told_wait_is_exact, start),
		cmocka_unit_test_setup(never_more_than_the_limit, start),
		cmocka_unit_test_setup(bursts_after_silence, start),
		cmocka_unit_test_setup(uses_the_limit, start),
		cmocka_unit_test_setup(fractions_are_rounded_down, start),
		cmocka_unit_test_setup(rates_out_of_range, start),
		cmocka_unit_test_setup(two_rates_share_a_window, start),
		cmocka_unit_test_setup(clock_steps_back, start),
		cmocka_unit_test_setup(slows_down_after_429, start),
		cmocka_unit_test_setup(recovers_when_quiet, start),
		cmocka_unit_test_setup(recovery_keeps_the_limit, start),
		cmocka_unit_test_setup(late_departures_count_when_they_leave, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
