/*-------------------------------------------------------------------------
 *
 * send_row.c
 *	  iterable_send_row(): one row, now, and all that was said about it.
 *
 * The row goes in the caller's transaction, which keeps the lock of the
 * sync's runs until it ends: nobody sends anything of the sync before the
 * record of this row is committed.  The row of the sync is locked as well, so
 * that it is the same sync that is sent for and that is recorded for.
 *
 * Copyright (c) 2026, the iterable_sync developers
 *-------------------------------------------------------------------------
 */
#include "send_row.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "capture.h"
#include "config.h"
#include "decide.h"
#include "gate.h"
#include "launcher.h"
#include "reading.h"
#include "render.h"
#include "state.h"
#include "txn.h"

PG_FUNCTION_INFO_V1(iterable_send_row);

#define FUNCTION "iterable_send_row()"

#define LOCK_PATIENCE_MS 10000

#define NO_SUCH_USER "Iterable does not know the user, and the mode update creates none"

/* ----------------------------------------------------------------
 * Before
 * ----------------------------------------------------------------
 */

static void
check_transaction(void)
{
	is_config_check_writable(FUNCTION);
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s must come before anything that its transaction writes", FUNCTION),
				 errdetail("What might still be rolled back is not sent."),
				 errhint("Commit first; one transaction sends one row.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s needs isolation level READ COMMITTED", FUNCTION),
				 errhint("A fixed snapshot does not show the row as it is now.")));
}

static void
await_run(void *arg)
{
	is_state_await_run(*(int32 *) arg);
}

/* Keep everybody else from sending anything of the sync. */
static void
lock_run(IsSync *sync)
{
	int			nest = NewGUCNestLevel();
	ErrorData  *error;

	if (LockTimeout == 0 || LockTimeout > LOCK_PATIENCE_MS)
		(void) set_config_option("lock_timeout", CppAsString2(LOCK_PATIENCE_MS),
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	is_state_want_run(sync->sync_id);
	is_launcher_wake(MyDatabaseId);
	error = is_reading_try(await_run, &sync->sync_id);
	AtEOXact_GUC(false, nest);

	if (error == NULL)
		return;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("sync \"%s\" is being run", sync->name),
			 errdetail("A row is sent by hand only while nothing else of its sync is on its way."),
			 errhint("Try again when less is pending: the view iterable.sync_status tells.")));
}

/* A copy of the database must not send what the original sends. */
static void
check_identity(const IsSync *sync, const IsSyncState *state)
{
	if (state == NULL ? sync->enabled :
		strcmp(state->identity, is_state_identity()) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sync \"%s\" was enabled on another server or in another database",
						sync->name),
				 errhint("Call iterable_enable_sync() if this database shall send.")));
}

/* The connection of the sync, if anything may be sent over it. */
static IsConnection *
get_connection(const IsSync *sync)
{
	IsConnection *connection = is_connection_get(sync->connection, sync->owner);
	IsUserContext save;
	char	   *reason;

	is_catalog_become_owner(&save);
	is_gate_load(connection);
	reason = is_gate_reason(connection);
	is_catalog_restore_user(&save);
	if (reason)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("connection \"%s\" is stopped", connection->name),
				 errdetail_internal("%s", reason),
				 errhint("Give the connection a key that Iterable accepts; iterable_test_connection() tells more.")));
	return connection;
}

/* The sync, its run locked, as nobody changes it until the end. */
static IsSync *
take_sync(const char *name)
{
	for (;;)
	{
		IsSync	   *sync = is_catalog_get_sync(name);
		int32		sync_id = sync->sync_id;

		/* whose run waits for its connection would be waited for in vain */
		if (!sync->dry_run)
			(void) get_connection(sync);
		lock_run(sync);
		sync = is_config_lock_sync(name, FUNCTION);
		if (sync->sync_id == sync_id)
			return sync;
	}
}

/*
 * Read the row and decide about it.  The mode has no say, since a person has:
 * but that users in mode update are not created.  Nor has what is remembered.
 */
static IsDecision
read_row(IsSending *sending, const char *key, bool resumed, IsRow *row, IsFate *fate)
{
	IsSync		as_asked = *sending->sync;
	IsRenderer *renderer = is_render_create(sending->sync,
											sending->connection->project_type);
	IsMemory	memory;
	IsCircumstances circumstances = {
		.update_only = sending->connection->update_only,
		.resumed = resumed,
	};
	IsUserContext save;

	is_render_rows(renderer, &key, 1, row);
	row->capture = sending->sync->capture;
	is_catalog_become_owner(&save);
	is_delivery_recall(sending->sync, &key, NULL, 1, &memory);
	is_catalog_restore_user(&save);

	if (!is_render_updates_users(sending->sync))
		as_asked.mode = IS_MODE_UPSERT;
	sending->differs = memory.hash_known && memory.hash != row->hash;
	memory.hash_known = false;
	return is_decide(&as_asked, row, &memory, &circumstances, fate);
}

/* ----------------------------------------------------------------
 * iterable_send_row()
 * ----------------------------------------------------------------
 */

static char *
verdict_of_fate(const IsBatchRow *row, bool asked)
{
	switch (row->fate)
	{
		case IS_FATE_ACCEPTED:
			return "accepted";
		case IS_FATE_SKIPPED:
			return is_send_words("skipped", NULL, NO_SUCH_USER);
		case IS_FATE_LATER:
			return is_send_words("retry", row->class, row->message);
		case IS_FATE_PRETENDED:
			return "not sent: dry run";
		case IS_FATE_REJECTED:
			return is_send_words(asked ? "rejected" : "not sent: refused", row->class, row->message);
		case IS_FATE_VANISHED:
		case IS_FATE_VANISHED_UNSURE:
			return "not sent: vanished";
		default:
			return "not sent: filtered";
	}
}

static void
send_key(IsSending *sending, const char *key, bool resumed)
{
	IsSync	   *sync = sending->sync;
	char	   *envelope = is_api_envelope_open(is_render_endpoint(sync), sync->new_fields,
												is_render_updates_users(sync) &&
												sending->connection->update_only);
	IsRow		row;
	IsFate		fate = IS_FATE_PENDING;
	IsDecision	decision = read_row(sending, key, resumed, &row, &fate);
	IsUserContext save;

	/* What was read may be visible before it is durable. */
	is_txn_flush_wal();

	sending->batch = is_batch_create(is_render_endpoint(sync), envelope,
									 sync->object == IS_OBJECT_USER, (IsPlace) {0});
	if (decision == IS_DECISION_NOTE)
		is_batch_note(sending->batch, &row, fate);
	else
		(void) is_batch_add(sending->batch, &row, decision == IS_DECISION_SEND_IF_KNOWN, false);

	if (decision != IS_DECISION_NOTE && sync->dry_run)
	{
		sending->batch->rows[0].look_up = false;
		(void) is_batch_build_request(sending->batch);
		sending->request = is_send_body(sending->batch);
		is_batch_pretend(sending->batch);
	}
	else if (decision != IS_DECISION_NOTE)
		is_send_request(sending);

	if (sending->verdict == NULL)
		sending->verdict = verdict_of_fate(&sending->batch->rows[0],
										   decision != IS_DECISION_NOTE);
	is_catalog_become_owner(&save);
	is_batch_record(sending->batch, sync);
	is_catalog_restore_user(&save);
}

/*
 * iterable_send_row(sync text, key text)
 *		returns (request json, status integer, answer text, verdict text)
 */
Datum
iterable_send_row(PG_FUNCTION_ARGS)
{
	char	   *name = is_config_arg(fcinfo, 0, "sync", true);
	char	   *key = is_config_arg(fcinfo, 1, "key", true);
	IsSending		sending = {0};
	IsSyncState *state;
	IsUserContext save;
	TupleDesc	desc;
	Datum		values[4] = {0};
	bool		nulls[4];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	check_transaction();
	sending.sync = take_sync(name);
	is_catalog_become_owner(&save);
	state = is_state_load(sending.sync->sync_id, false);
	is_catalog_restore_user(&save);
	check_identity(sending.sync, state);
	sending.connection = sending.sync->dry_run ?
		is_connection_describe(sending.sync->connection, sending.sync->owner) :
		get_connection(sending.sync);

	/* The record must be as durable as what Iterable has. */
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	is_capture_wake_on_commit();
	send_key(&sending, key, state != NULL && state->window_end != NULL);

	nulls[0] = sending.request == NULL;
	nulls[1] = sending.status == 0;
	nulls[2] = sending.answer == NULL;
	nulls[3] = false;
	if (!nulls[0])
		values[0] = CStringGetTextDatum(sending.request);
	values[1] = Int32GetDatum(sending.status);
	if (!nulls[2])
		values[2] = CStringGetTextDatum(sending.answer);
	values[3] = CStringGetTextDatum(sending.verdict);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
