/*-------------------------------------------------------------------------
 *
 * capture_error.c
 *	  What becomes of an error while a change is captured.
 *
 * The mark is set when the transaction can be seen by others: a scan that was
 * asked for earlier could miss its changes.  If the server dies in between, the
 * shared memory goes too, and everything is compared.
 *
 * A subtransaction may be used in a pre-commit callback, too: it comes right
 * after the deferred triggers, which may have blocks with exceptions, and
 * before any of what these need is shut down.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "capture_error.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "capture_mark.h"
#include "launcher.h"
#include "reading.h"

int			is_on_capture_error = IS_CAPTURE_ERROR;

static const struct config_enum_entry options[] = {
	{"error", IS_CAPTURE_ERROR, false},
	{"compare", IS_CAPTURE_COMPARE, false},
	{NULL, 0, false}
};

/* Of the current transaction; sources whatever becomes of subtransactions. */
static List *failed = NIL;		/* source ids, in TopTransactionContext */

static bool
check_on_capture_error(int *newval, void **extra, GucSource source)
{
	if (*newval != IS_CAPTURE_COMPARE ||
		process_shared_preload_libraries_in_progress || is_launcher_available())
		return true;
	GUC_check_errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
	GUC_check_errmsg("\"iterable_sync.on_capture_error\" can be \"compare\" only if iterable_sync is preloaded");
	GUC_check_errhint("Add iterable_sync to \"shared_preload_libraries\" and restart the server.");
	return false;
}

void
is_capture_error_register(void)
{
	DefineCustomEnumVariable("iterable_sync.on_capture_error",
							 "What becomes of a transaction whose changes cannot be captured.",
							 "With \"error\" it fails; with \"compare\" it passes, and the source is compared with what was sent. In a database that begins when \"iterable.capture_memory\" says so.",
							 &is_on_capture_error,
							 IS_CAPTURE_ERROR,
							 options,
							 PGC_SIGHUP, 0, check_on_capture_error, NULL, NULL);
}

/* Is it ours, and not what the user's transaction would have met anyway? */
static bool
is_ours(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return category != ERRCODE_OPERATOR_INTERVENTION &&
		category != ERRCODE_TRANSACTION_ROLLBACK &&
		error->sqlerrcode != ERRCODE_OUT_OF_MEMORY;
}

bool
is_capture_error_has(int32 source_id)
{
	return list_member_int(failed, source_id);
}

bool
is_capture_error_try(int32 source_id, void (*body) (void *arg), void *arg)
{
	ErrorData  *error;
	MemoryContext old;

	if (is_on_capture_error != IS_CAPTURE_COMPARE || !is_launcher_available())
	{
		body(arg);
		return true;
	}

	error = is_reading_try(body, arg);
	if (error == NULL)
		return true;
	if (!is_ours(error) || !is_capture_mark_permitted())
		ReThrowError(error);

	if (failed == NIL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("iterable_sync could not capture changes, so it compares their source with what was sent"),
				 errdetail("Source %d: %s.", source_id, error->message)));
	old = MemoryContextSwitchTo(TopTransactionContext);
	failed = list_append_unique_int(failed, source_id);
	MemoryContextSwitchTo(old);
	FreeErrorData(error);
	return false;
}

static void
mark_failed(TransactionId prepared)
{
	ListCell   *lc;

	foreach(lc, failed)
		is_capture_mark_set(lfirst_int(lc), prepared);
}

void
is_capture_error_at_commit(void)
{
	mark_failed(InvalidTransactionId);
}

/* Nobody can finish the prepared transaction before we return. */
void
is_capture_error_at_prepare(void)
{
	mark_failed(GetTopTransactionIdIfAny());
}

void
is_capture_error_reset(void)
{
	failed = NIL;
}
