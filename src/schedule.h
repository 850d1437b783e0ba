/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  When a sync is due: "continuous", "manual" or an interval.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SCHEDULE_H
#define IS_SCHEDULE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Error 22023 with a hint if the text is no schedule; an interval must be at
 * least a second and have no months; or if there is no such time zone.
 */
extern void is_schedule_check(const char *schedule, const char *time_zone);

extern bool is_schedule_continuous(const char *schedule);

/*
 * The next time after last_run (DT_NOBEGIN: never ran) at which a sync with
 * this schedule is due: DT_NOBEGIN for continuous, DT_NOEND for manual.
 */
extern TimestampTz is_schedule_next(const char *schedule, TimestampTz last_run);

#endif							/* IS_SCHEDULE_H */
