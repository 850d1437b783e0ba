/*-------------------------------------------------------------------------
 *
 * iterable_sync.c
 *	  Library start: settings, hooks, the launcher.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "iterable_sync.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "capture.h"
#include "capture_error.h"
#include "catalog.h"
#include "change_segment.h"
#include "compat.h"
#include "launcher.h"
#include "scan_worker.h"
#include "utility.h"

IS_MODULE_MAGIC;

bool		is_allow_insecure_base_url = false;
bool		is_keep_failed_payloads = false;
int			is_rescan_interval = 60;
int			is_worker_idle_timeout = 60;
int			is_max_databases = 64;
char	   *is_environment = NULL;

void		_PG_init(void);

void
_PG_init(void)
{
	DefineCustomBoolVariable("iterable_sync.allow_insecure_base_url",
							 "Permits connections whose base_url is not https under iterable.com.",
							 "Meant for tests against an emulator; the API key and the data travel in clear over http.",
							 &is_allow_insecure_base_url,
							 false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("iterable_sync.keep_failed_payloads",
							 "Keeps the payloads of failed rows, which iterable.failure shows.",
							 "They hold what the source holds; when it is turned off, the worker removes those that were kept.",
							 &is_keep_failed_payloads,
							 false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("iterable_sync.rescan_interval",
							"Time between two looks at each database for work that no commit announced.",
							NULL,
							&is_rescan_interval,
							60, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("iterable_sync.worker_idle_timeout",
							"Time after which the worker of a database that has nothing to do exits.",
							NULL,
							&is_worker_idle_timeout,
							60, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomIntVariable("iterable_sync.max_scan_workers",
							"Number of scans of sources that run at once in a database.",
							"Each is a background process of its own, of those that max_worker_processes permits.",
							&is_max_scan_workers,
							2, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("iterable_sync.max_change_log_size",
							"Size that the change log of a database may reach before syncs lose their places in it.",
							"Syncs that have not passed its oldest part go on from what is committed then, and compare their rows when they may run.",
							&is_max_change_log_size,
							1024, 4, 16 * 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);

	/* Fixes the size of shared memory, so it exists only with that. */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("iterable_sync.max_databases",
								"Number of databases that can have syncs.",
								NULL,
								&is_max_databases,
								64, 1, 10000,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("iterable_sync.environment",
							   "Name that tells this server from its copies.",
							   "Syncs run only in the environment in which they were enabled.",
							   &is_environment,
							   "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);

	is_capture_error_register();

	MarkGUCPrefixReserved("iterable_sync");

	/* During pg_upgrade nothing may be sent or captured by a process of ours. */
	if (IsBinaryUpgrade)
		return;

	is_catalog_register();
	is_capture_register();

	if (process_shared_preload_libraries_in_progress)
	{
		is_launcher_register();
		is_utility_register();
	}
}
