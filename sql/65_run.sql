CREATE PROCEDURE iterable_run_now(sync text)
	LANGUAGE C
	AS 'MODULE_PATHNAME', 'iterable_run_now';
COMMENT ON PROCEDURE iterable_run_now(text) IS
'Sends everything pending of a sync in this session, committing between requests; for pg_cron or a server without the worker.
Raises 42704 for an unknown sync, 55000 if it is not enabled, 55006 if the worker or another session runs it, 2D000 in a transaction block, 25006 in recovery, 08006 if Iterable cannot be reached or refuses the key.';

CREATE FUNCTION iterable_wait(sync text, timeout interval DEFAULT '30 seconds',
		OUT done boolean, OUT failures bigint, OUT reason text)
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iterable_wait';
COMMENT ON FUNCTION iterable_wait(text, interval) IS
'Waits until everything that is committed now has been dealt with.
sync: a sync of the current role. timeout: how long.
Returns done, the number of failures that stand, and reason, why it is not done: at once when the sync cannot move, "timeout" otherwise.
Raises 42704 for an unknown sync and 55000 in a transaction that has itself changed a source or has a fixed snapshot.';

CREATE FUNCTION iterable.server_identity() RETURNS text
	LANGUAGE C STRICT STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iterable_server_identity';
COMMENT ON FUNCTION iterable.server_identity() IS 'System identifier, database and iterable_sync.environment: syncs run only where this is what it was when they were enabled.';
