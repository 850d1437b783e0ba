/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  When a sync is due.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "schedule.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "time_zone.h"

#define CONTINUOUS "continuous"
#define MANUAL "manual"

/* Microseconds of an interval schedule; *error tells what is wrong with it. */
static int64
parse_interval(const char *schedule, const char **error)
{
	Interval   *interval;
	MemoryContext context = CurrentMemoryContext;

	*error = NULL;
	PG_TRY();
	{
		interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
														 CStringGetDatum(schedule),
														 ObjectIdGetDatum(InvalidOid),
														 Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		/* interval_in has no soft errors before 16; nothing else was done */
		MemoryContextSwitchTo(context);
		FlushErrorState();
		*error = "It is not an interval.";
		return 0;
	}
	PG_END_TRY();

	if (interval->month != 0)
		*error = "An interval of months has no fixed length.";
	else if (interval->day > 36500 || interval->day < 0)
		*error = "The interval is out of range.";
	else if (interval->time + interval->day * USECS_PER_DAY < USECS_PER_SEC)
		*error = "The interval is shorter than a second.";
	return *error ? 0 : interval->time + interval->day * USECS_PER_DAY;
}

void
is_schedule_check(const char *schedule, const char *time_zone)
{
	const char *error;

	(void) is_time_zone_get(time_zone);
	if (strcmp(schedule, CONTINUOUS) == 0 || strcmp(schedule, MANUAL) == 0)
		return;
	(void) parse_interval(schedule, &error);
	if (error)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unrecognized schedule \"%s\"", schedule),
				 errdetail("%s", error),
				 errhint("Valid schedules are \"continuous\", \"manual\" and intervals such as \"15 minutes\".")));
}

bool
is_schedule_continuous(const char *schedule)
{
	return strcmp(schedule, CONTINUOUS) == 0;
}

TimestampTz
is_schedule_next(const char *schedule, TimestampTz last_run)
{
	const char *error;
	int64		interval;

	if (is_schedule_continuous(schedule))
		return DT_NOBEGIN;
	if (strcmp(schedule, MANUAL) == 0)
		return DT_NOEND;
	interval = parse_interval(schedule, &error);
	if (error)
		return DT_NOEND;
	if (TIMESTAMP_IS_NOBEGIN(last_run))
		return DT_NOBEGIN;
	return last_run + interval;
}
