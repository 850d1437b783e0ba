/*
 * window.c
 *		Read what a sync has before it in the change log, as a run does, and tell
 *		what that takes.  Linked with the extension's objects.
 */
#include "postgres.h"

#include <sys/resource.h>

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/memutils.h"

#include "change_log.h"
#include "state.h"
#include "txn.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(read_windows);

Datum		read_windows(PG_FUNCTION_ARGS);

/* Keys of a chunk. */
#define CHUNK 1000

static double
cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* CALL read_windows(sync_id integer): keys and seconds of CPU in a NOTICE */
Datum
read_windows(PG_FUNCTION_ARGS)
{
	double		began = cpu_seconds();
	MemoryContext context;
	IsSyncState *state;
	const char *position;
	int64		n = 0;

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	context = AllocSetContextCreate(PortalContext, "windows", ALLOCSET_DEFAULT_SIZES);
	SPI_commit();
	is_txn_in_procedure(true);

	is_txn_begin();
	MemoryContextSwitchTo(context);
	state = is_state_load(PG_GETARG_INT32(0), false);
	is_txn_commit();
	MemoryContextSwitchTo(context);
	position = state->position;

	for (;;)
	{
		IsWindow   *window = NULL;
		IsChange	change;
		char	   *end;
		bool		more = true;

		is_txn_begin();
		MemoryContextSwitchTo(context);
		end = is_change_log_next_window(state->source_id, state->sync_id, position,
										is_change_log_snapshot(), false);
		if (end)
			window = is_change_log_open_window(state->source_id, state->sync_id,
											   position, end, 0, 0, false);
		is_txn_commit();
		if (end == NULL)
			break;

		while (more)
		{
			is_txn_begin();
			MemoryContextSwitchTo(context);
			for (int i = 0; i < CHUNK && (more = is_change_log_next(window, &change)); i++)
				n++;
			is_txn_commit();
		}
		is_txn_begin();
		is_change_log_close_window(window);
		is_txn_commit();
		position = end;
	}
	is_txn_in_procedure(false);
	ereport(NOTICE, (errmsg(INT64_FORMAT " %.4f", n, cpu_seconds() - began)));
	SPI_finish();
	PG_RETURN_VOID();
}
