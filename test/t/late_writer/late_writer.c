/*-------------------------------------------------------------------------
 *
 * late_writer.c
 *	  Stands for another extension that writes to tables in its own callback
 *	  before commit: runs the setting late_writer.command there.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

static char *command = NULL;

void		_PG_init(void);

static void
write_late(XactEvent event, void *arg)
{
	if ((event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE) ||
		command == NULL || command[0] == '\0')
		return;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_execute(command, false, 0) < 0)
		elog(ERROR, "late_writer.command failed");
	PopActiveSnapshot();
	SPI_finish();
}

void
_PG_init(void)
{
	DefineCustomStringVariable("late_writer.command",
							   "What is run before each commit.",
							   NULL, &command, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	RegisterXactCallback(write_late, NULL);
}
