/*-------------------------------------------------------------------------
 *
 * schedule.h
 *	  When a sync is due: "continuous", "manual", an interval, a cron line (see
 *	  cron.h) in the time zone of the sync, or "after" and the name of another
 *	  sync.
 *
 * A schedule counts from the last run, or from when the sync was enabled or
 * given the schedule if that is later: sync_state.last_run_at has it.  An
 * interval begins with a run at once, the others do not.  Times that were
 * missed, because there was no server or another run was under way, are one
 * run: what is due is due until a run begins.
 *
 * A sync after another is due when that has finished a run since then: when a
 * run has nothing left to do, also if it had nothing to do at all.  A
 * continuous sync finishes a run when it has nothing left to do and the run
 * is a minute old, or the worker goes.  See follow.h.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_SCHEDULE_H
#define IS_SCHEDULE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* What a schedule begins with that names another sync; the rest is the name. */
#define IS_SCHEDULE_AFTER "after "

/*
 * Error 22023 with detail and hint if the text is no schedule; an interval
 * must be at least a second and have no months, a cron line must name dates
 * that exist.  Does not look whether another sync that is named exists.
 */
extern void is_schedule_check(const char *schedule, const char *time_zone);

extern bool is_schedule_continuous(const char *schedule);
extern bool is_schedule_manual(const char *schedule);

/* The name of the sync that it is after, or NULL. */
extern const char *is_schedule_after(const char *schedule);

/* Does a sync that has never run wait for the next time of its schedule? */
extern bool is_schedule_waits(const char *schedule);

/*
 * The next time after last_run (DT_NOBEGIN: never ran) at which a sync with
 * this schedule is due: DT_NOBEGIN for continuous, DT_NOEND for manual and
 * after another.  A schedule that is_schedule_check() refuses (a time zone may
 * go with an upgrade) is due now, so that who runs it finds out.
 */
extern TimestampTz is_schedule_next(const char *schedule, const char *time_zone,
									TimestampTz last_run);

#endif							/* IS_SCHEDULE_H */
