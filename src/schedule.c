/*-------------------------------------------------------------------------
 *
 * schedule.c
 *	  When a sync is due.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "schedule.h"

#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "config.h"
#include "cron.h"
#include "time_zone.h"

PG_FUNCTION_INFO_V1(iterable_schedule_preview);
PG_FUNCTION_INFO_V1(iterable_next_run);

#define CONTINUOUS "continuous"
#define MANUAL "manual"

#define MAX_PREVIEW 1000

/* Between the epochs of Unix and PostgreSQL, in s */
#define EPOCHS_APART ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400))

/* ----------------------------------------------------------------
 * Intervals
 * ----------------------------------------------------------------
 */

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
		*error = "It is neither an interval nor a cron line, which has five fields.";
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

/* ----------------------------------------------------------------
 * Cron lines
 * ----------------------------------------------------------------
 */

/* An IsCronZone that asks PostgreSQL's time zones. */
static int64_t
zone_offset(const void *arg, int64_t time, int64_t *until)
{
	pg_time_t	t = time;
	pg_time_t	boundary;
	long		before;
	long		after;
	int			is_dst;

	switch (pg_next_dst_boundary(&t, &before, &is_dst, &boundary, &after, &is_dst,
								 (const pg_tz *) arg))
	{
		case 1:
			*until = boundary;
			return before;
		case 0:
			*until = IS_CRON_NEVER;
			return before;
		default:
			*until = IS_CRON_NEVER; /* out of its range */
			return 0;
	}
}

static TimestampTz
next_cron_time(const IsCron *cron, const pg_tz *zone, TimestampTz after)
{
	IsCronZone	cron_zone = {zone_offset, zone};
	int64		seconds;

	/* of a time between two seconds the former, also before the epoch */
	seconds = after / USECS_PER_SEC - (after % USECS_PER_SEC < 0);
	seconds = is_cron_next(cron, seconds + EPOCHS_APART, &cron_zone);
	if (seconds == IS_CRON_NEVER)
		return DT_NOEND;
	seconds -= EPOCHS_APART;
	if (seconds >= END_TIMESTAMP / USECS_PER_SEC)
		return DT_NOEND;
	return seconds * USECS_PER_SEC;
}

/* ----------------------------------------------------------------
 * Schedules
 * ----------------------------------------------------------------
 */

pg_noreturn static void
report_unrecognized(const char *schedule, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unrecognized schedule \"%s\"", schedule),
			 errdetail("%s", detail),
			 errhint("Valid schedules are \"continuous\", \"manual\", intervals such as \"15 minutes\", cron lines such as \"30 2 * * mon-fri\" or \"@daily\", and \"after\" with the name of another sync.")));
}

void
is_schedule_check(const char *schedule, const char *time_zone)
{
	const char *error;

	(void) is_time_zone_get(time_zone);
	if (is_schedule_continuous(schedule) || is_schedule_manual(schedule) ||
		is_schedule_after(schedule))
		return;
	if (is_cron_looks_like(schedule))
	{
		IsCron		cron;
		char		cron_error[IS_CRON_ERROR_SIZE];

		if (!is_cron_parse(schedule, &cron, cron_error))
			report_unrecognized(schedule, cron_error);
		return;
	}
	(void) parse_interval(schedule, &error);
	if (error)
		report_unrecognized(schedule, error);
}

bool
is_schedule_continuous(const char *schedule)
{
	return strcmp(schedule, CONTINUOUS) == 0;
}

bool
is_schedule_manual(const char *schedule)
{
	return strcmp(schedule, MANUAL) == 0;
}

const char *
is_schedule_after(const char *schedule)
{
	if (strncmp(schedule, IS_SCHEDULE_AFTER, strlen(IS_SCHEDULE_AFTER)) != 0)
		return NULL;
	return schedule + strlen(IS_SCHEDULE_AFTER);
}

bool
is_schedule_waits(const char *schedule)
{
	return is_schedule_after(schedule) || is_cron_looks_like(schedule);
}

TimestampTz
is_schedule_next(const char *schedule, const char *time_zone,
				 TimestampTz last_run)
{
	const char *error;
	int64		interval;
	TimestampTz result;

	if (is_schedule_continuous(schedule))
		return DT_NOBEGIN;
	if (is_schedule_manual(schedule) || is_schedule_after(schedule))
		return DT_NOEND;
	if (TIMESTAMP_NOT_FINITE(last_run))
		return DT_NOBEGIN;
	if (is_cron_looks_like(schedule))
	{
		IsCron		cron;
		char		cron_error[IS_CRON_ERROR_SIZE];
		pg_tz	   *zone = pg_tzset(time_zone);

		if (zone == NULL || !is_cron_parse(schedule, &cron, cron_error))
			return DT_NOBEGIN;
		return next_cron_time(&cron, zone, last_run);
	}
	interval = parse_interval(schedule, &error);
	if (error)
		return DT_NOBEGIN;
	return pg_add_s64_overflow(last_run, interval, &result) ? DT_NOEND : result;
}

/* ----------------------------------------------------------------
 * In SQL
 * ----------------------------------------------------------------
 */

typedef struct Preview
{
	char	   *schedule;
	char	   *time_zone;
	TimestampTz last;
} Preview;

static Preview *
begin_preview(FunctionCallInfo fcinfo, int *n)
{
	Preview    *preview = palloc(sizeof(Preview));

	preview->schedule = is_config_arg(fcinfo, 0, "schedule", true);
	preview->time_zone = is_config_arg(fcinfo, 1, "time_zone", true);
	if (PG_ARGISNULL(2) || PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null",
						PG_ARGISNULL(2) ? "n" : "since")));
	*n = PG_GETARG_INT32(2);
	preview->last = PG_GETARG_TIMESTAMPTZ(3);

	is_schedule_check(preview->schedule, preview->time_zone);
	if (is_schedule_continuous(preview->schedule) ||
		is_schedule_manual(preview->schedule) ||
		is_schedule_after(preview->schedule))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schedule \"%s\" has no times", preview->schedule),
				 errhint("Intervals such as \"15 minutes\" and cron lines such as \"30 2 * * mon-fri\" have.")));
	if (*n < 1 || *n > MAX_PREVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be between %d and %d", "n", 1, MAX_PREVIEW)));
	if (TIMESTAMP_NOT_FINITE(preview->last))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be finite", "since")));
	return preview;
}

/*
 * iterable_schedule_preview(schedule text, time_zone text, n integer,
 *		since timestamptz) returns setof timestamptz
 */
Datum
iterable_schedule_preview(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	Preview    *preview;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		int			n;

		context = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		context->user_fctx = begin_preview(fcinfo, &n);
		context->max_calls = n;
		MemoryContextSwitchTo(old);
	}

	context = SRF_PERCALL_SETUP();
	preview = context->user_fctx;
	if (context->call_cntr < context->max_calls)
	{
		preview->last = is_schedule_next(preview->schedule, preview->time_zone,
										 preview->last);
		if (IS_VALID_TIMESTAMP(preview->last))
			SRF_RETURN_NEXT(context, TimestampTzGetDatum(preview->last));
	}
	SRF_RETURN_DONE(context);
}

/*
 * iterable.next_run(schedule text, time_zone text, last_run timestamptz)
 *		returns timestamptz
 */
Datum
iterable_next_run(PG_FUNCTION_ARGS)
{
	TimestampTz next;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	next = is_schedule_next(text_to_cstring(PG_GETARG_TEXT_PP(0)),
							text_to_cstring(PG_GETARG_TEXT_PP(1)),
							PG_GETARG_TIMESTAMPTZ(2));
	if (!IS_VALID_TIMESTAMP(next))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(next);
}
