/*-------------------------------------------------------------------------
 *
 * forget.h
 *	  Forgetting what Iterable has of a row, whatever becomes of the
 *	  transaction that is about to send it.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_FORGET_H
#define IS_FORGET_H

#include "postgres.h"

/*
 * Commit, in a background worker of a moment, that what Iterable has of this
 * row is not known.  Error 53400 if there is no place for a worker, 55000 if
 * it did not succeed.  No lock of the current transaction may be in its way.
 */
extern void is_forget_payload(int32 sync_id, const char *key);

extern PGDLLEXPORT void is_forget_main(Datum arg);

#endif							/* IS_FORGET_H */
