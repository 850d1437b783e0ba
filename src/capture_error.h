/*-------------------------------------------------------------------------
 *
 * capture_error.h
 *	  What becomes of an error of our own making while a change is captured.
 *
 * By default it is the user's transaction's.  With on_capture_error = compare
 * the transaction passes, and the source is marked to be compared with what
 * was sent when it commits.  Errors are caught in subtransactions, the price
 * of which is paid in that mode only.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#ifndef IS_CAPTURE_ERROR_H
#define IS_CAPTURE_ERROR_H

#include "postgres.h"

typedef enum IsOnCaptureError
{
	IS_CAPTURE_ERROR,
	IS_CAPTURE_COMPARE
} IsOnCaptureError;

/* Setting; int, since GUC takes that for enums. */
extern int	is_on_capture_error;

/* Defines the setting; called from _PG_init. */
extern void is_capture_error_register(void);

/*
 * Do a piece of capture.  Returns false if it has failed and the transaction
 * passes nevertheless: a WARNING has been raised, once a transaction, and
 * nothing more need be captured of the source in it.  Errors: those of body
 * that are not to be passed over, in any mode cancellation, lack of memory and
 * failures to serialize.
 */
extern bool is_capture_error_try(int32 source_id, void (*body) (void *arg),
								 void *arg);

/* Has this transaction failed to capture a change of the source? */
extern bool is_capture_error_has(int32 source_id);

/* For the transaction callbacks of capture.c. */
extern void is_capture_error_at_commit(void);
extern void is_capture_error_at_prepare(void);
extern void is_capture_error_reset(void);

#endif							/* IS_CAPTURE_ERROR_H */
