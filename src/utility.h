/*-------------------------------------------------------------------------
 *
 * utility.h
 *	  Statements that a worker would be in the way of.
 *
 * DROP DATABASE, ALTER DATABASE … RENAME or SET TABLESPACE and CREATE
 * DATABASE … TEMPLATE need a database without sessions: that database's
 * worker is stopped first and held off until the transaction has ended.
 * COMMIT PREPARED wakes the worker, since the captured changes become visible
 * in a session whose commit callbacks know nothing of them.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_UTILITY_H
#define IS_UTILITY_H

#include "postgres.h"

/* Called from _PG_init when preloaded: installs a ProcessUtility_hook. */
extern void is_utility_register(void);

#endif							/* IS_UTILITY_H */
