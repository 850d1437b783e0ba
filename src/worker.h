/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The background worker of one database.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_WORKER_H
#define IS_WORKER_H

#include "postgres.h"

/* Entry point; arg is the slot number (launcher.h). */
extern PGDLLEXPORT void is_worker_main(Datum arg);

#endif							/* IS_WORKER_H */
