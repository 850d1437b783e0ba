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

/* What every background process of a database sets for itself. */
extern void is_worker_pin_settings(void);

/*
 * Write an error down as trouble of a sync (in a transaction of its own), with
 * its hint.  Returns whether a person must mend it; *text is palloc'ed.
 */
extern bool is_worker_report_error(int32 sync_id, const ErrorData *error, char **text);

#endif							/* IS_WORKER_H */
