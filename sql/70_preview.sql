/* ------------------------------------------------------------------------
 * Looking at a sync, and trying it.  These check by themselves that the
 * current role may see the sync.
 * ------------------------------------------------------------------------ */

CREATE FUNCTION iterable_preview(
	sync text,
	max_rows integer DEFAULT 10,
	keys text[] DEFAULT NULL)
RETURNS TABLE (key text, endpoint text, payload json, problem text)
LANGUAGE C COST 100000 ROWS 10
AS 'MODULE_PATHNAME', 'iterable_preview';
COMMENT ON FUNCTION iterable_preview(text, integer, text[]) IS
'Shows what a sync would send, and sends nothing.
sync: a sync of the current role, enabled or not. max_rows: how many rows of the source, from the first in the order of the unique field; rows that the filter keeps out do not count. keys: only these rows, whatever max_rows is; keys are written as iterable.delivery shows them. Sees what this transaction has changed, committed or not.
Returns a line a row: key; endpoint, the path of the API; payload, the very JSON, or null if it cannot be built; problem, null if the row is fit to be sent, else the class and the reason, which holds no data of the row. Of the rows in keys also those that are not there (vanished) or that the filter keeps out (filtered).
Raises 42704 if there is no such sync of the current role, 22004 for a null, 22023 if max_rows is not positive or the sync lacks an identifier or an event name, 42501 if the owner of the sync may not use the source, 42P01 if the source is gone, 42703, 42883, 42804 or 0A000 if a mapping does not fit the source any more.';

CREATE FUNCTION iterable_explain(
	sync text)
RETURNS TABLE (outcome text, reason text, rows bigint, requests bigint,
	bytes bigint, seconds numeric, example text)
LANGUAGE C COST 10000000 ROWS 10
AS 'MODULE_PATHNAME', 'iterable_explain';
COMMENT ON FUNCTION iterable_explain(text) IS
'Tells what a backfill of all rows would do now; of a view, materialized view or foreign table whose rows repeat a key, each of them counts. Makes no request and records nothing.
sync: a sync of the current role, enabled or not. Reads and renders every row of the source, so it takes its time where there are many; can be cancelled. Sees what this transaction has changed, committed or not.
Returns a line an outcome and reason: outcome, one of send; look up (mode update: Iterable is asked whether it knows the user, and then the row is sent); unchanged (Iterable has this payload); filtered (the filter is not true for the row); skipped (the mode does not send the row); refused (the row cannot be sent); reason, of refused rows the class of the failure, of others a word or null; rows, how many; requests and bytes of bodies, as batches would be filled, and seconds, how long the connection''s limits of requests make that last, null where nothing is sent; of look up, requests are the look-ups and the batches together, as if Iterable knew all the users; example, the key of one such row.
Raises what iterable_preview() raises.';

/*
 * Reaches the network, and may be called by everybody: besides the rights of
 * the current role on the sync, the owner of the sync needs USAGE on the
 * server, as in a run.
 */
CREATE FUNCTION iterable_send_row(
	sync text,
	key text,
	OUT request json,
	OUT status integer,
	OUT answer text,
	OUT verdict text)
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000000
AS 'MODULE_PATHNAME', 'iterable_send_row';
COMMENT ON FUNCTION iterable_send_row(text, text) IS
'Sends one row now, as it is committed, and shows what was said about it. To try a sync, or to see why a row fails.
sync: a sync of the current role, enabled or not. key: as iterable.delivery shows it. The row is sent whether or not Iterable has it already, and in the modes insert and update even if a run would not send it, since it was asked for; only that in mode update a user whom Iterable does not know is not created: Iterable is asked first, or told so by updateOnly.
Returns request, the body as it was sent, or would be in a dry run; status and answer, what Iterable answered, without the API key; verdict: accepted; rejected: class: reason; retry: reason, nothing was applied; unknown: reason, it may have been applied; skipped: Iterable does not know the user; not sent: vanished, filtered, dry run, or refused: class: reason. What became of the row is recorded as a run does it (iterable.delivery, iterable.failure); of an unknown outcome, that what Iterable has is not known. If Iterable refuses the key, the connection is stopped.
Until the transaction ends nothing else of the sync is sent, and its definition cannot be changed. If the transaction is rolled back, what was sent is not: then it is not known what Iterable has. So let it be a transaction of its own. Waits up to 10 s for a run of the sync that is under way, 5 s for the limit of requests, and request_timeout for the answer; a cancel while the answer is awaited ends it with the verdict unknown.
Raises 42704 if there is no such sync of the current role, 22004 for a null, 25001 if the transaction has written anything, has called this before, or has a fixed snapshot, 25006 in recovery or a read-only transaction, 55000 if the sync was enabled on another server or in another database, 55006 if it is being run, 42704 or 42501 for the connection of the sync''s owner, 08006 if the connection is stopped, 53400 if the limit of requests leaves no place or no background worker is free (one is needed for a moment where the row differs from what Iterable has), and what iterable_preview() raises.';
