/*-------------------------------------------------------------------------
 *
 * cron.h
 *	  Cron lines: which minutes they name, and when the next one comes.
 *
 * Pure C: times are seconds since 1970-01-01 00:00 UTC, and the caller knows
 * the time zone.  A "wall" time is what a clock on the wall shows, as seconds
 * since 1970-01-01 00:00 on that clock.
 *
 * A line has five fields: minute, hour, day of the month, month, day of the
 * week; in each a list of numbers, ranges and steps (a range or * with a
 * step), and names of three letters for months and days.  7 is Sunday, too.
 * If both days are restricted (neither field begins with *), a date needs to
 * match one of them, otherwise it needs to match both.  @hourly, @daily,
 * @midnight, @weekly, @monthly, @yearly and @annually stand for lines.
 *
 * Where the clock changes:
 *
 * - A line for some hours of the day names wall times, and each comes once.
 *	 What the change skips comes once, right after it, however many times of
 *	 the line are skipped; what the change has come twice counts when it comes
 *	 first.
 * - A line for every hour goes on evenly: it matches whatever the clock shows,
 *	 also when that is shown again, and what is never shown is not made up for.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CRON_H
#define IS_CRON_H

#include <stdbool.h>
#include <stdint.h>

/* Sets of bits: bit n stands for the value n. */
typedef struct IsCron
{
	uint64_t	minutes;
	uint32_t	hours;
	uint32_t	days;			/* of the month, from 1 */
	uint32_t	months;			/* from 1 */
	uint32_t	weekdays;		/* Sunday is 0 */
	bool		either_day;		/* one of days and weekdays is enough */
} IsCron;

#define IS_CRON_ERROR_SIZE 160

/*
 * Is the text meant as a cron line?  It has five fields of which the second
 * is no word, or has a * somewhere, or begins with @ and a letter.  No
 * interval looks like that.
 */
extern bool is_cron_looks_like(const char *text);

/*
 * Parse a line.  If it is wrong, or names only dates that never come, returns
 * false, and error tells in a sentence which field and what (ASCII, whatever
 * the line has).
 */
extern bool is_cron_parse(const char *text, IsCron *cron,
						  char error[IS_CRON_ERROR_SIZE]);

/*
 * A time zone: the offset from UTC, in seconds to the east, at a time, and
 * until when it stays (later than the time, or IS_CRON_NEVER).
 */
typedef struct IsCronZone
{
	int64_t		(*offset) (const void *arg, int64_t time, int64_t *until);
	const void *arg;
} IsCronZone;

#define IS_CRON_NEVER INT64_MAX

/*
 * The first time of the line after a time; IS_CRON_NEVER if there is none
 * within 400 years, which a line that was parsed does not do.
 */
extern int64_t is_cron_next(const IsCron *cron, int64_t after,
							const IsCronZone *zone);

#endif							/* IS_CRON_H */
