/* ------------------------------------------------------------------------
 * Schedules.  Pure functions of their arguments: everybody may call them.
 * ------------------------------------------------------------------------ */

CREATE FUNCTION iterable_schedule_preview(
	schedule text,
	time_zone text DEFAULT 'UTC',
	n integer DEFAULT 5,
	since timestamptz DEFAULT pg_catalog.now())
RETURNS SETOF timestamptz
LANGUAGE C STABLE PARALLEL SAFE ROWS 5
AS 'MODULE_PATHNAME', 'iterable_schedule_preview';
COMMENT ON FUNCTION iterable_schedule_preview(text, text, integer, timestamptz) IS
'Shows when a schedule is due.
schedule, time_zone: as for iterable_create_sync(); an interval or a cron line. n: how many times, at most 1000. since: the times after this; an interval counts from it.
A cron line has the fields minute, hour, day of month, month and day of week, in each a list of numbers, ranges and steps, and names of months and days; if both days are restricted, one of them is enough. @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually stand for lines. When the clock is put forward, what it skips is one time, right after it; when it is put back, what comes twice counts when it comes first. A line for every hour goes on evenly instead.
Returns the next times, in order.
Raises 22004 for a null, 22023 for a schedule that is not understood or names only dates that never come, for one without times (continuous, manual, after another sync), for an unknown time zone and for an n out of range.';

CREATE FUNCTION iterable.next_run(
	schedule text,
	time_zone text,
	last_run timestamptz)
RETURNS timestamptz
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'iterable_next_run';
COMMENT ON FUNCTION iterable.next_run(text, text, timestamptz) IS
'Returns when a sync of this schedule and time_zone is due that ran last at last_run; null if it has no times, or never ran. Raises nothing.';
