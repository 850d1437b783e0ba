/*-------------------------------------------------------------------------
 *
 * background.h
 *	  What the background processes of a database share.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_BACKGROUND_H
#define IS_BACKGROUND_H

#include "postgres.h"

/* Set what must not depend on postgresql.conf. */
extern void is_background_pin_settings(void);

/*
 * Write an error down as trouble of a sync (in a transaction of its own), with
 * its hint.  Returns whether a person must mend it; *text is palloc'ed.
 */
extern bool is_background_report_error(int32 sync_id, const ErrorData *error,
									   char **text);

/*
 * Keep the change log small: move positions on, empty segments, see to the
 * limit; and no payload that the settings do not want kept.  In transactions
 * of its own; errors pass through.
 */
extern void is_background_tidy(void);

/*
 * That now and then, and forget old runs; errors are logged.  now: µs of a
 * clock that only goes on.
 */
extern void is_background_keep_house(int64 now);

#endif							/* IS_BACKGROUND_H */
