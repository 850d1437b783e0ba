/*-------------------------------------------------------------------------
 *
 * log_limit.h
 *	  Keeping the change log within iterable_sync.max_change_log_size.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_LOG_LIMIT_H
#define IS_LOG_LIMIT_H

/*
 * Move the positions of syncs on over what is not theirs, so that who has
 * nothing to do needs nothing of the log, and finds its next change at once.
 * In a transaction, as the extension's owner.
 */
extern void is_log_limit_pass(void);

/*
 * If the log is larger than it may be, let those syncs give up their places
 * that keep its oldest segments, no more of them than must.  As above.
 */
extern void is_log_limit_keep(void);

#endif							/* IS_LOG_LIMIT_H */
