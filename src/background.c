/*-------------------------------------------------------------------------
 *
 * background.c
 *	  What the background processes of a database share.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "background.h"

#include "utils/guc.h"

#include "change_segment.h"
#include "delivery.h"
#include "iterable_sync.h"
#include "log_limit.h"
#include "state.h"
#include "txn.h"

#define US_PER_S INT64CONST(1000000)

#define ROTATE_INTERVAL (2 * US_PER_S)
#define FORGET_INTERVAL (3600 * US_PER_S)

/*
 * What is set for everybody in postgresql.conf must not reach in here: a
 * timeout would cut recording short, a default could make it impossible.
 */
void
is_background_pin_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		{"lock_timeout", "1s"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},	/* since 17 */
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"jit", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"temp_file_limit", "-1"},
		{"work_mem", "4MB"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Can the reason be mended by a person only?  Definitions, rights and files;
 * the rest passes by itself.
 */
static bool
needs_person(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
		case ERRCODE_FDW_ERROR:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
		case ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION:
		case ERRCODE_SYSTEM_ERROR:
			return true;
		default:
			return sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE ||
				sqlerrcode == ERRCODE_CONFIG_FILE_ERROR;
	}
}

bool
is_background_report_error(int32 sync_id, const ErrorData *error, char **text)
{
	bool		person = needs_person(error->sqlerrcode);

	/* Details of definitions are facts of these; others may hold data of rows. */
	*text = psprintf("%s%s%s%s%s", error->message,
					 error->hint || (person && error->detail) ? "." : "",
					 person && error->detail ? " " : "",
					 person && error->detail ? error->detail : "",
					 error->hint ? psprintf(" %s", error->hint) : "");
	is_txn_begin();
	is_state_report_trouble(sync_id, *text, person);
	is_txn_commit();
	return person;
}

void
is_background_tidy(void)
{
	bool		emptied;

	is_txn_begin();
	is_log_limit_pass();
	is_txn_commit();

	do
	{
		is_txn_begin();
		emptied = is_change_segment_rotate();
		is_txn_commit();
	} while (emptied);

	is_txn_begin();
	is_log_limit_keep();
	is_txn_commit();

	if (!is_keep_failed_payloads)
	{
		is_txn_begin();
		is_delivery_drop_payloads();
		is_txn_commit();
	}
}

/* Errors wait for next time. */
void
is_background_keep_house(int64 now)
{
	static int64 rotate_at = 0;
	static int64 forget_at = 0;
	MemoryContext context = CurrentMemoryContext;

	if (now < rotate_at)
		return;
	rotate_at = now + ROTATE_INTERVAL;
	PG_TRY();
	{
		is_background_tidy();
		if (now >= forget_at)
		{
			is_txn_begin();
			is_state_forget_runs();
			is_txn_commit();
			forget_at = now + FORGET_INTERVAL;
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		EmitErrorReport();
		FlushErrorState();
		is_txn_abort();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
}
