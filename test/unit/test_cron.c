/*-------------------------------------------------------------------------
 *
 * test_cron.c
 *	  Cron lines: what is one, and that the next time is what looking at a
 *	  clock every minute finds.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cron.h"

#define MINUTE 60
#define DAY 86400

/* ----------------------------------------------------------------
 * Clocks: how far one is from UTC, for each minute of three years
 * ----------------------------------------------------------------
 */

#define CLOCK_START INT64_C(1672531200) /* 2023-01-01 00:00 UTC */
#define CLOCK_MINUTES (3 * 366 * 24 * 60)
#define CLOCK_END (CLOCK_START + CLOCK_MINUTES * INT64_C(60))

/* In the form of POSIX, for which no data of time zones are needed. */
static const char *const zone_names[] = {
	"UTC0",
	"CET-1CEST,M3.5.0,M10.5.0/3",	/* Berlin */
	"EST5EDT,M3.2.0,M11.1.0",	/* New York */
	"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", /* Lord Howe: half an hour */
	"NZST-12NZDT,M9.5.0,M4.1.0/3",	/* Auckland */
	"IST-5:30",					/* Kolkata */
	"<-01>1<+00>,M3.5.0/0,M10.5.0/1",	/* Azores: at midnight */
};
#define ZONES ((int) (sizeof(zone_names) / sizeof(zone_names[0])))

typedef struct Clock
{
	int			offsets[CLOCK_MINUTES];
	int64_t		changes[16];
	int			nchanges;
} Clock;

static Clock *clocks[ZONES];

static int
offset_at(const Clock *clock, int64_t time)
{
	int64_t		minute = (time - CLOCK_START) / MINUTE;

	if (minute < 0)
		minute = 0;
	if (minute >= CLOCK_MINUTES)
		minute = CLOCK_MINUTES - 1;
	return clock->offsets[minute];
}

static int
make_clocks(void **state)
{
	for (int z = 0; z < ZONES; z++)
	{
		Clock	   *clock = calloc(1, sizeof(Clock));

		setenv("TZ", zone_names[z], 1);
		tzset();
		for (int i = 0; i < CLOCK_MINUTES; i++)
		{
			time_t		time = CLOCK_START + (int64_t) i * MINUTE;
			struct tm	tm;

			localtime_r(&time, &tm);
			clock->offsets[i] = (int) tm.tm_gmtoff;
			if (i > 0 && clock->offsets[i] != clock->offsets[i - 1])
				clock->changes[clock->nchanges++] = time;
		}
		clocks[z] = clock;
	}
	return 0;
}

static int
free_clocks(void **state)
{
	for (int z = 0; z < ZONES; z++)
		free(clocks[z]);
	return 0;
}

static int64_t
clock_offset(const void *arg, int64_t time, int64_t *until)
{
	const Clock *clock = arg;

	*until = IS_CRON_NEVER;
	for (int i = clock->nchanges - 1; i >= 0; i--)
		if (clock->changes[i] > time)
			*until = clock->changes[i];
	return offset_at(clock, time);
}

static IsCronZone
zone_of(const char *name)
{
	for (int z = 0; z < ZONES; z++)
		if (strcmp(zone_names[z], name) == 0)
			return (IsCronZone) {clock_offset, clocks[z]};
	fail();
	return (IsCronZone) {NULL, NULL};
}

/* ----------------------------------------------------------------
 * Lines with known times
 * ----------------------------------------------------------------
 */

static void
parse(const char *line, IsCron *cron)
{
	char		error[IS_CRON_ERROR_SIZE];

	if (!is_cron_parse(line, cron, error))
		fail_msg("%s: %s", line, error);
}

/* Seconds of "2024-02-29 12:34" in UTC */
static int64_t
at(const char *text)
{
	struct tm	tm = {0};

	assert_non_null(strptime(text, "%Y-%m-%d %H:%M", &tm));
	return timegm(&tm);
}

static void
check_times(const char *line, const char *zone_name, const char *since,
			const char *expected)
{
	IsCronZone	zone = zone_of(zone_name);
	IsCron		cron;
	int64_t		time = at(since);
	char		times[400] = "";

	parse(line, &cron);
	for (size_t n = 0; n < strlen(expected); n = strlen(times))
	{
		time_t		t;
		struct tm	tm;

		time = is_cron_next(&cron, time, &zone);
		assert_true(time != IS_CRON_NEVER);
		t = time;
		gmtime_r(&t, &tm);
		strftime(times + n, sizeof(times) - n, n == 0 ? "%Y-%m-%d %H:%M" : ", %Y-%m-%d %H:%M", &tm);
	}
	assert_string_equal(times, expected);
}

static void
plain_times(void **state)
{
	check_times("30 2 * * *", "UTC0", "2024-02-28 02:30",
				"2024-02-29 02:30, 2024-03-01 02:30");
	check_times("*/20 9-10 * * mon-fri", "UTC0", "2024-06-07 10:20",
				"2024-06-07 10:40, 2024-06-10 09:00, 2024-06-10 09:20");
	check_times("@hourly", "UTC0", "2024-06-07 10:20", "2024-06-07 11:00, 2024-06-07 12:00");
	check_times("@DAILY", "UTC0", "2024-06-07 10:20", "2024-06-08 00:00");
	check_times("@midnight ", "UTC0", "2024-06-07 10:20", "2024-06-08 00:00");
	check_times(" @weekly", "UTC0", "2024-06-07 10:20", "2024-06-09 00:00, 2024-06-16 00:00");
	check_times("@monthly", "UTC0", "2024-06-07 10:20", "2024-07-01 00:00");
	check_times("@yearly", "UTC0", "2024-06-07 10:20", "2025-01-01 00:00");
	check_times("@annually", "UTC0", "2024-06-07 10:20", "2025-01-01 00:00");
	check_times("0 0 * * 7", "UTC0", "2024-06-07 10:20", "2024-06-09 00:00, 2024-06-16 00:00");
	check_times("0\t0 * jul SUN", "UTC0", "2024-06-07 10:20", "2024-07-07 00:00");
	check_times("0 0 * * fri-sun", "UTC0", "2024-06-07 10:20",
				"2024-06-08 00:00, 2024-06-09 00:00, 2024-06-14 00:00");
	check_times("0 0 * * 5-7/2", "UTC0", "2024-06-07 10:20", "2024-06-09 00:00, 2024-06-14 00:00");
	check_times("0 0 * * */7", "UTC0", "2024-06-07 10:20", "2024-06-09 00:00, 2024-06-16 00:00");

	/* one of the days is enough if both are restricted */
	check_times("0 0 13 * fri", "UTC0", "2024-06-07 00:00",
				"2024-06-13 00:00, 2024-06-14 00:00, 2024-06-21 00:00");
	check_times("0 0 31 2 1", "UTC0", "2024-02-20 00:00", "2024-02-26 00:00, 2025-02-03 00:00");
	/* not if one begins with a star */
	check_times("0 0 13 * */5", "UTC0", "2024-06-07 00:00", "2024-09-13 00:00, 2024-10-13 00:00");

	/* rare dates: 2100 is no leap year; the 29th was a Sunday in 2004 */
	check_times("0 0 29 2 *", "UTC0", "2095-01-01 00:00", "2096-02-29 00:00, 2104-02-29 00:00");
	check_times("0 0 29 2 */7", "UTC0", "2004-03-01 00:00", "2032-02-29 00:00, 2060-02-29 00:00");
	check_times("0 0 1 1 *", "UTC0", "1900-06-01 00:00", "1901-01-01 00:00");
	check_times("59 23 31 12 *", "UTC0", "1969-12-31 23:59", "1970-12-31 23:59");
}

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define NEW_YORK "EST5EDT,M3.2.0,M11.1.0"
#define LORD_HOWE "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"

/* The times are those of UTC. */
static void
clock_changes(void **state)
{
	/* 2024-03-31: 02:00 becomes 03:00 at 01:00 UTC */
	check_times("30 2 * * *", BERLIN, "2024-03-30 00:00",
				"2024-03-30 01:30, 2024-03-31 01:00, 2024-04-01 00:30");
	check_times("0,10,50 2 * * *", BERLIN, "2024-03-31 00:00",
				"2024-03-31 01:00, 2024-04-01 00:00");
	check_times("0 3 * * *", BERLIN, "2024-03-31 00:00",
				"2024-03-31 01:00, 2024-04-01 01:00");
	check_times("30 2,3 * * *", BERLIN, "2024-03-31 00:00",
				"2024-03-31 01:00, 2024-03-31 01:30, 2024-04-01 00:30");
	check_times("30 2 * * *", BERLIN, "2024-03-31 01:00", "2024-04-01 00:30");
	check_times("*/30 * * * *", BERLIN, "2024-03-31 00:00",
				"2024-03-31 00:30, 2024-03-31 01:00, 2024-03-31 01:30, 2024-03-31 02:00");
	check_times("10 * * * *", BERLIN, "2024-03-30 23:30",
				"2024-03-31 00:10, 2024-03-31 01:10, 2024-03-31 02:10");
	check_times("30 2 31 3 *", BERLIN, "2024-01-01 00:00",
				"2024-03-31 01:00, 2025-03-31 00:30");

	/* 2024-10-27: 03:00 becomes 02:00 at 01:00 UTC */
	check_times("30 2 * * *", BERLIN, "2024-10-26 12:00",
				"2024-10-27 00:30, 2024-10-28 01:30");
	check_times("30 2 * * *", BERLIN, "2024-10-27 01:10", "2024-10-28 01:30");
	check_times("0 2 * * *", BERLIN, "2024-10-26 12:00",
				"2024-10-27 00:00, 2024-10-28 01:00");
	check_times("0 3 * * *", BERLIN, "2024-10-26 12:00",
				"2024-10-27 02:00, 2024-10-28 02:00");
	check_times("*/15 2 * * *", BERLIN, "2024-10-27 00:20",
				"2024-10-27 00:30, 2024-10-27 00:45, 2024-10-28 01:00");
	check_times("*/30 * * * *", BERLIN, "2024-10-26 23:30",
				"2024-10-27 00:00, 2024-10-27 00:30, 2024-10-27 01:00, 2024-10-27 01:30, 2024-10-27 02:00");
	check_times("45 0-23 * * *", BERLIN, "2024-10-26 23:50",
				"2024-10-27 00:45, 2024-10-27 01:45, 2024-10-27 02:45");

	/* 2024-03-10 07:00 UTC and 2024-11-03 06:00 UTC */
	check_times("30 2 * * *", NEW_YORK, "2024-03-09 12:00",
				"2024-03-10 07:00, 2024-03-11 06:30");
	check_times("30 1 * * *", NEW_YORK, "2024-11-02 12:00",
				"2024-11-03 05:30, 2024-11-04 06:30");

	/* 2024-04-06 15:00 UTC: 02:00 becomes 01:30; 2024-10-05 15:30 UTC: 02:00 becomes 02:30 */
	check_times("45 1 * * *", LORD_HOWE, "2024-04-06 00:00",
				"2024-04-06 14:45, 2024-04-07 15:15");
	check_times("15 2 * * *", LORD_HOWE, "2024-10-05 00:00",
				"2024-10-05 15:30, 2024-10-06 15:15");
	check_times("30 2 * * *", LORD_HOWE, "2024-10-05 00:00",
				"2024-10-05 15:30, 2024-10-06 15:30");
	check_times("*/15 * * * *", LORD_HOWE, "2024-04-06 14:30",
				"2024-04-06 14:45, 2024-04-06 15:00, 2024-04-06 15:15, 2024-04-06 15:30");
}

/* ----------------------------------------------------------------
 * What is no line
 * ----------------------------------------------------------------
 */

static void
check_error(const char *line, const char *expected)
{
	IsCron		cron;
	char		error[IS_CRON_ERROR_SIZE];

	if (is_cron_parse(line, &cron, error))
		fail_msg("\"%s\" is taken for a cron line", line);
	assert_string_equal(error, expected);
}

#define COUNT_ERROR(n) \
	"A cron line has five fields: minute, hour, day of month, month, day of week; this has " n "."
#define NAME_ERROR \
	"The names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually."

static void
errors(void **state)
{
	check_error("* * * *", COUNT_ERROR("4"));
	check_error("* * * * * *", COUNT_ERROR("6"));
	check_error("", COUNT_ERROR("0"));
	check_error("60 * * * *", "In the field \"minute\": 60 is not between 0 and 59.");
	check_error("* 24 * * *", "In the field \"hour\": 24 is not between 0 and 23.");
	check_error("* * 0 * *", "In the field \"day of month\": 0 is not between 1 and 31.");
	check_error("* * * 13 *", "In the field \"month\": 13 is not between 1 and 12.");
	check_error("* * * * 8", "In the field \"day of week\": 8 is not between 0 and 7.");
	check_error("99999999999999999999 * * * *",
				"In the field \"minute\": 99999 is not between 0 and 59.");
	check_error("* * * foo *",
				"In the field \"month\": \"foo\" is no name; names have three letters, such as \"jan\".");
	check_error("* * * * monday",
				"In the field \"day of week\": \"monday\" is no name; names have three letters, such as \"sun\".");
	check_error("mon * * * *", "In the field \"minute\": \"mon\" is no number.");
	check_error("30-10 * * * *", "In the field \"minute\": the range 30-10 runs backwards.");
	check_error("* * * * 5-0", "In the field \"day of week\": the range 5-0 runs backwards.");
	check_error("*/0 * * * *", "In the field \"minute\": the step 0 is not between 1 and 59.");
	check_error("*/90 * * * *", "In the field \"minute\": the step 90 is not between 1 and 59.");
	check_error("5/15 * * * *",
				"In the field \"minute\": a step needs a range or *, such as 5-59/2.");
	check_error("*/ * * * *", "In the field \"minute\": it ends where a number is expected.");
	check_error("1, * * * *", "In the field \"minute\": it ends where a number is expected.");
	check_error(",1 * * * *",
				"In the field \"minute\": there is something else where a number is expected.");
	check_error("1- * * * *", "In the field \"minute\": it ends where a number is expected.");
	check_error("* * L * *", "In the field \"day of month\": \"L\" is no number.");
	check_error("* * ? * *",
				"In the field \"day of month\": there is something else where a number is expected.");
	check_error("* * * * 5#3", "In the field \"day of week\": something follows that is no part of it.");
	check_error("** * * * *", "In the field \"minute\": something follows that is no part of it.");
	check_error("*\n* * * *", COUNT_ERROR("4"));
	check_error("*\n * * * *", "In the field \"minute\": something follows that is no part of it.");

	check_error("0 0 31 2 *", "In the field \"day of month\": no month that the line names has such a day.");
	check_error("0 0 30-31 feb *", "In the field \"day of month\": no month that the line names has such a day.");
	check_error("0 0 31 4,6,9,11 */2", "In the field \"day of month\": no month that the line names has such a day.");

	check_error("@reboot", NAME_ERROR);
	check_error("@dail", NAME_ERROR);
	check_error("@dailyy", NAME_ERROR);
	check_error("@daily x", NAME_ERROR);
	check_error("@", NAME_ERROR);
}

/* What is taken for a line, so that its errors are told, and what is not. */
static void
looks(void **state)
{
	assert_true(is_cron_looks_like("0 0 1 1 1"));
	assert_true(is_cron_looks_like(" 0 0 1 jan mon "));
	assert_true(is_cron_looks_like("*/5 * * *"));
	assert_true(is_cron_looks_like("@daily"));
	assert_true(is_cron_looks_like("@reboot"));
	assert_false(is_cron_looks_like("@ 15 minutes"));
	assert_false(is_cron_looks_like("@15 minutes"));
	assert_false(is_cron_looks_like("15 minutes"));
	assert_false(is_cron_looks_like("1 02:03:04"));
	assert_false(is_cron_looks_like("1 day 2 hours 30"));
	assert_false(is_cron_looks_like("1 day 2 hours 30 min 5"));
	assert_false(is_cron_looks_like(""));
	assert_false(is_cron_looks_like("@"));
	assert_false(is_cron_looks_like("PT15M"));
}

/* ----------------------------------------------------------------
 * Random lines
 * ----------------------------------------------------------------
 */

static int
upto(int n)
{
	return (int) (random() % (n + 1));
}

/* A random line as text, and what it means, found independently. */
typedef struct Line
{
	char		text[400];
	bool		minutes[60];
	bool		hours[24];
	bool		days[32];
	bool		months[13];
	bool		weekdays[8];
	bool		either;
	bool		evenly;
} Line;

/*
 * Append a random field.  "density" is the number of items at most; 0 gives
 * a star.  Returns true if it begins with a star.
 */
static bool
random_field(char *text, bool *set, int min, int max, int density)
{
	int			items = density == 0 ? 1 : 1 + upto(density - 1);
	bool		star = false;

	for (int i = 0; i < items; i++)
	{
		int			from = min + upto(max - min);
		int			to = from + upto(max - from);
		int			step = 1 + upto(max - 1);
		int			kind = density == 0 ? 0 : upto(5);
		char		item[40];

		switch (kind)
		{
			case 0:				/* star, with a step unless it shall be all */
				from = min;
				to = max == 7 ? 6 : max;
				if (density == 0)
					step = 1;
				if (step == 1)
					strcpy(item, "*");
				else
					sprintf(item, "*/%d", step);
				star |= i == 0;
				break;
			case 1:
				sprintf(item, "%d-%d/%d", from, to, step);
				break;
			case 2:
				step = 1;
				sprintf(item, "%02d-%d", from, to);
				break;
			default:
				to = from;
				sprintf(item, "%d", from);
				break;
		}
		for (int value = from; value <= to; value += step)
			set[value] = true;
		if (i > 0)
			strcat(text, ",");
		strcat(text, item);
	}
	strcat(text, " ");
	return star;
}

static void
random_line(Line *line)
{
	bool		day_star;
	bool		weekday_star;

	memset(line, 0, sizeof(Line));
	random_field(line->text, line->minutes, 0, 59, upto(3));
	random_field(line->text, line->hours, 0, 23, upto(3));
	day_star = random_field(line->text, line->days, 1, 31, upto(2));
	random_field(line->text, line->months, 1, 12, upto(1) * upto(3));
	weekday_star = random_field(line->text, line->weekdays, 0, 7, upto(2));
	line->weekdays[0] |= line->weekdays[7];
	line->either = !day_star && !weekday_star;
	line->evenly = true;
	for (int hour = 0; hour < 24; hour++)
		line->evenly &= line->hours[hour];
}

/* Does a clock that shows this (as seconds) show a time of the line? */
static bool
matches(const Line *line, int64_t wall)
{
	static int64_t day = -1;
	static struct tm tm;

	if (wall / DAY != day)
	{
		time_t		t = wall;

		day = wall / DAY;
		gmtime_r(&t, &tm);
	}
	return line->minutes[wall / MINUTE % 60] && line->hours[wall / 3600 % 24] &&
		line->months[tm.tm_mon + 1] &&
		(line->either ? line->days[tm.tm_mday] || line->weekdays[tm.tm_wday] :
		 line->days[tm.tm_mday] && line->weekdays[tm.tm_wday]);
}

/* Was it shown already, in the days before? */
static bool
shown_before(const Clock *clock, int64_t time)
{
	int64_t		wall = time + offset_at(clock, time);

	for (int i = 0; i < clock->nchanges; i++)
	{
		int64_t		before = wall - offset_at(clock, clock->changes[i] - MINUTE);

		if (clock->changes[i] <= time && clock->changes[i] > time - DAY &&
			before < clock->changes[i])
			return true;
	}
	return false;
}

/* Look at the clock every minute. */
static bool
is_due(const Line *line, const Clock *clock, int64_t time)
{
	int64_t		wall = time + offset_at(clock, time);

	if (line->evenly)
		return matches(line, wall);
	for (int64_t skipped = time - MINUTE + offset_at(clock, time - MINUTE) + MINUTE;
		 skipped < wall; skipped += MINUTE)
		if (matches(line, skipped))
			return true;
	return matches(line, wall) && !shown_before(clock, time);
}

static void
random_lines(void **state)
{
	int			found = 0;
	int			near = 0;

	srandom(4711);
	for (int round = 0; round < 6000; round++)
	{
		int			z = upto(ZONES - 1);
		const Clock *clock = clocks[z];
		IsCronZone	zone = {clock_offset, clock};
		int64_t		after = CLOCK_START + 2 * DAY + (int64_t) upto(CLOCK_MINUTES / 3 * 2) * MINUTE + upto(59);
		int64_t		expected;
		int64_t		next;
		Line		line;
		IsCron		cron;
		char		error[IS_CRON_ERROR_SIZE];
		bool		dates = false;

		if (clock->nchanges > 0 && upto(2) > 0)
		{
			after = clock->changes[upto(clock->nchanges - 2)] + upto(6 * 3600) - 3 * 3600;
			near++;
		}
		random_line(&line);

		if (!is_cron_parse(line.text, &cron, error))
		{
			/* right if it has no dates in four years */
			for (int64_t day = 0; day < 4 * 366 && !dates; day++)
			{
				line.minutes[0] = line.hours[0] = true;
				dates = matches(&line, CLOCK_START + day * DAY);
			}
			if (dates)
				fail_msg("%s: %s", line.text, error);
			continue;
		}

		expected = after - after % MINUTE + MINUTE;
		while (expected < CLOCK_END - 2 * DAY && !is_due(&line, clock, expected))
			expected += MINUTE;
		next = is_cron_next(&cron, after, &zone);
		if (expected < CLOCK_END - 2 * DAY)
		{
			if (next != expected)
				fail_msg("\"%s\" in %s after %lld: %lld, not %lld", line.text, zone_names[z],
						 (long long) after, (long long) next, (long long) expected);
			found++;
		}
		else
			assert_true(next >= expected && next != IS_CRON_NEVER);
	}
	/* or the test tells nothing */
	assert_true(found > 3000 && near > 2000);
}

/* What follows one another comes in order, wherever one asks in between. */
static void
consistent(void **state)
{
	srandom(42);
	for (int round = 0; round < 300; round++)
	{
		int			z = upto(ZONES - 1);
		IsCronZone	zone = {clock_offset, clocks[z]};
		int64_t		time = CLOCK_START + 5 * DAY + (int64_t) upto(CLOCK_MINUTES / 2) * MINUTE;
		Line		line;
		IsCron		cron;
		char		error[IS_CRON_ERROR_SIZE];

		random_line(&line);
		if (!is_cron_parse(line.text, &cron, error))
			continue;
		for (int i = 0; i < 50; i++)
		{
			int64_t		next = is_cron_next(&cron, time, &zone);

			assert_true(next > time && next != IS_CRON_NEVER);
			for (int k = 0; k < 5; k++)
				assert_true(is_cron_next(&cron, time + random() % (next - time), &zone) == next);
			time = next;
		}
	}
}

/* ----------------------------------------------------------------
 * Garbage
 * ----------------------------------------------------------------
 */

static void
check_any(const char *text)
{
	IsCronZone	zone = {clock_offset, clocks[upto(ZONES - 1)]};
	IsCron		cron;
	char		error[IS_CRON_ERROR_SIZE];

	(void) is_cron_looks_like(text);
	memset(error, 'x', sizeof(error));
	if (is_cron_parse(text, &cron, error))
	{
		int64_t		after = CLOCK_START + random() % (CLOCK_END - CLOCK_START);
		int64_t		next = is_cron_next(&cron, after, &zone);

		assert_true(is_cron_looks_like(text));
		assert_true(next > after && next < after + INT64_C(45) * 366 * DAY);
		return;
	}
	assert_true(memchr(error, '\0', sizeof(error)) != NULL);
	assert_true(strlen(error) > 10 && error[strlen(error) - 1] == '.');
	for (const char *p = error; *p != '\0'; p++)
		assert_true(*p >= ' ' && *p <= '~');
}

static void
garbage(void **state)
{
	static const char alphabet[] =
		"0123456789012345678901234567890123456789*****//,,--@   \t\njanfebdecMONsunwed?#LW.\x80\xc3\xa4\xff";
	int			taken = 0;

	srandom(815);
	for (int round = 0; round < 300000; round++)
	{
		char		text[64];
		int			length = upto(40);

		for (int i = 0; i < length; i++)
			text[i] = round % 4 == 0 ? (char) (1 + upto(254)) : alphabet[upto(sizeof(alphabet) - 2)];
		text[length] = '\0';
		check_any(text);
	}

	/* lines with a few bytes changed, left out or twice */
	for (int round = 0; round < 100000; round++)
	{
		Line		line;
		IsCron		cron;
		char		error[IS_CRON_ERROR_SIZE];
		int			length;

		random_line(&line);
		length = (int) strlen(line.text);
		for (int n = upto(2); n >= 0; n--)
		{
			int			place = upto(length - 1);

			switch (upto(2))
			{
				case 0:
					line.text[place] = alphabet[upto(sizeof(alphabet) - 2)];
					break;
				case 1:
					memmove(&line.text[place], &line.text[place + 1], length - place);
					length--;
					break;
				default:
					memmove(&line.text[place + 1], &line.text[place], length - place + 1);
					length++;
					break;
			}
		}
		check_any(line.text);
		taken += is_cron_parse(line.text, &cron, error);
	}
	assert_true(taken > 10000 && taken < 90000);

	/* long ones */
	for (int c = 0; c < (int) sizeof(alphabet) - 1; c++)
	{
		char	   *text = malloc(100001);

		memset(text, alphabet[c], 100000);
		text[100000] = '\0';
		check_any(text);
		memcpy(text, "* * * * ", 8);
		check_any(text);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_times),
		cmocka_unit_test(clock_changes),
		cmocka_unit_test(errors),
		cmocka_unit_test(looks),
		cmocka_unit_test(random_lines),
		cmocka_unit_test(consistent),
		cmocka_unit_test(garbage),
	};

	return cmocka_run_group_tests(tests, make_clocks, free_clocks);
}
