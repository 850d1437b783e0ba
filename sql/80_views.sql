/*
 * What people look at.  Each view shows the syncs whose owner the current
 * role is, or whose owner's privileges it has; security barriers keep the
 * conditions of others' queries from seeing more.
 */

CREATE VIEW iterable.sync_status WITH (security_barrier) AS
SELECT s.name AS sync,
	s.connection,
	pg_catalog.format('%I.%I', c.schema_name, c.table_name) AS source,
	s.object,
	s.mode,
	CASE WHEN s.versions THEN 'versions' ELSE s.capture END AS capture,
	s.schedule,
	CASE
		WHEN NOT s.enabled THEN 'disabled'
		WHEN t.sync_id IS NULL OR t.identity <> iterable.server_identity() THEN 'paused'
		WHEN t.paused_reason IS NOT NULL OR x.reason IS NOT NULL THEN 'paused'
		WHEN t.failing_since IS NOT NULL THEN 'failing'
		ELSE 'enabled'
	END AS state,
	NULLIF(pg_catalog.concat_ws('; ', CASE
		WHEN NOT s.enabled THEN NULL
		WHEN t.sync_id IS NULL THEN 'it has not been enabled in this database'
		WHEN t.identity <> iterable.server_identity() THEN 'it was enabled on another server or in another database'
		WHEN t.paused_reason IS NOT NULL THEN t.paused_reason
		WHEN x.reason IS NOT NULL THEN 'connection is stopped: ' || x.reason
		WHEN t.failing_since IS NOT NULL THEN t.last_error
	END, CASE WHEN EXISTS (SELECT FROM iterable.sync_scan n WHERE n.sync_id = s.sync_id AND n.reason = 'the sync has lost its place in the change log')
		THEN 'it has lost its place in the change log, which had grown to its limit: its rows are compared with what was sent'
			|| CASE WHEN s.enabled THEN '' ELSE ' when it is enabled' END
	END), '') AS reason,
	COALESCE(p.pending, 0) AS pending,
	p.oldest_pending,
	EXISTS (SELECT FROM iterable.sync_scan a WHERE a.sync_id = s.sync_id AND a.kind <> 'n') AS backfilling,
	r.last_run_at,
	CASE WHEN s.enabled AND t.identity = iterable.server_identity()
		THEN iterable.next_run(s.schedule, s.time_zone, t.last_run_at) END AS next_run_at,
	COALESCE(r.accepted, 0) AS accepted,
	COALESCE(r.rejected, 0) AS rejected,
	COALESCE(r.vanished, 0) AS vanished,
	(SELECT pg_catalog.count(*) FROM iterable.sync_failure f WHERE f.sync_id = s.sync_id) AS failures,
	r.rate,
	t.last_error,
	t.last_error_at,
	a.retry_at,
	CASE WHEN d.fields IS NOT NULL
		THEN 'Iterable has dropped mapped fields in the last 24 hours: ' || pg_catalog.array_to_string(d.fields, ', ') END AS warning,
	CASE
		WHEN t.sync_id IS NULL AND NOT s.enabled THEN 'Look at iterable_preview(), then call iterable_enable_sync() with apply => ''updates_only'' or ''backfill''.'
		WHEN NOT s.enabled THEN 'Call iterable_enable_sync() to go on; changes are captured meanwhile.'
		WHEN t.identity <> iterable.server_identity() THEN 'Call iterable_adopt() if this database shall send from now on.'
		WHEN t.sync_id IS NULL THEN 'Call iterable_enable_sync() with apply => ''updates_only'' or ''backfill'' if this database shall send.'
		WHEN t.paused_reason IS NOT NULL THEN 'Mend the reason; the sync goes on by itself.'
		WHEN x.reason IS NOT NULL THEN 'Give the connection a key that Iterable accepts; it is tried once a minute, and at once when the key changes.'
		WHEN t.failing_since IS NOT NULL THEN 'It tries again by itself; rows are kept.'
		WHEN EXISTS (SELECT FROM iterable.sync_failure f WHERE f.sync_id = s.sync_id)
			THEN 'Look at iterable.failure; mend the rows, or call iterable_retry_failures().'
		WHEN d.fields IS NOT NULL THEN 'Create the fields in the project, set create_new_fields to always, or drop the mappings.'
	END AS what_to_do
FROM iterable.sync s
JOIN iterable.source c ON c.source_id = s.source_id
LEFT JOIN iterable.sync_state t ON t.sync_id = s.sync_id
LEFT JOIN LATERAL (
	SELECT n.retry_at FROM iterable.sync_scan n WHERE n.sync_id = s.sync_id ORDER BY n.kind DESC LIMIT 1
) a ON true
LEFT JOIN iterable.connection_state x ON x.connection = s.connection
LEFT JOIN LATERAL (
	SELECT pg_catalog.sum(g.n)::bigint AS pending, pg_catalog.min(g.captured_at) AS oldest_pending
	FROM iterable.change g
	WHERE g.source_id = s.source_id AND g.sync_id IN (0, s.sync_id)
		AND g.xid >= pg_catalog.pg_snapshot_xmin(t."position")
		AND NOT pg_catalog.pg_visible_in_snapshot(g.xid, t."position")
		AND (t.window_end IS NULL OR g.seq >= t.window_seq
			OR NOT pg_catalog.pg_visible_in_snapshot(g.xid, t.window_end))
) p ON t.sync_id IS NOT NULL
LEFT JOIN LATERAL (
	SELECT pg_catalog.max(q.started_at) AS last_run_at,
		pg_catalog.sum(q.accepted)::bigint AS accepted,
		pg_catalog.sum(q.rejected)::bigint AS rejected,
		pg_catalog.sum(q.vanished)::bigint AS vanished,
		pg_catalog.round((pg_catalog.array_agg(q.accepted / GREATEST(EXTRACT(epoch FROM
			COALESCE(q.finished_at, pg_catalog.now()) - q.started_at), 0.001) ORDER BY q.run_id DESC))[1], 1) AS rate
	FROM iterable.sync_run q
	WHERE q.sync_id = s.sync_id
) r ON true
LEFT JOIN LATERAL (
	SELECT pg_catalog.array_agg(DISTINCT m.destination ORDER BY m.destination) AS fields
	FROM iterable.sync_run q
	CROSS JOIN pg_catalog.unnest(q.filtered_fields) AS f (name)
	JOIN iterable.mapping m ON m.sync_id = s.sync_id AND (m.destination = f.name
		OR pg_catalog.starts_with(f.name, m.destination || '.')
		OR pg_catalog.starts_with(m.destination, f.name || '.'))
	WHERE q.sync_id = s.sync_id
		AND COALESCE(q.finished_at, pg_catalog.now()) > pg_catalog.now() - interval '24 hours'
) d ON true
WHERE pg_catalog.pg_has_role(s.owner, 'USAGE');
COMMENT ON VIEW iterable.sync_status IS 'one line a sync: its state, how much is pending, what was done in the last 30 days, and what to do';
COMMENT ON COLUMN iterable.sync_status.sync IS 'name of the sync';
COMMENT ON COLUMN iterable.sync_status.connection IS 'foreign server that it sends over';
COMMENT ON COLUMN iterable.sync_status.source IS 'relation whose rows it sends, followed by name';
COMMENT ON COLUMN iterable.sync_status.object IS 'user or event';
COMMENT ON COLUMN iterable.sync_status.mode IS 'insert, update or upsert, seen from Iterable';
COMMENT ON COLUMN iterable.sync_status.capture IS 'what is sent of a row that changed: key, the row as it is then; row, every version as it was committed; versions, each of them as an event of its own';
COMMENT ON COLUMN iterable.sync_status.schedule IS 'continuous, manual, an interval, a cron line, or after another sync';
COMMENT ON COLUMN iterable.sync_status.state IS 'disabled; enabled; paused: waits until the reason is mended; failing: tries again by itself';
COMMENT ON COLUMN iterable.sync_status.reason IS 'why it is paused or failing, or compares its rows because it has lost its place in the change log';
COMMENT ON COLUMN iterable.sync_status.pending IS 'captured keys that have not been dealt with; a key that changed twice may count twice';
COMMENT ON COLUMN iterable.sync_status.oldest_pending IS 'when the oldest of them was captured';
COMMENT ON COLUMN iterable.sync_status.backfilling IS 'a scan looks for rows that Iterable does not have as they are: see iterable.progress';
COMMENT ON COLUMN iterable.sync_status.last_run_at IS 'when its latest run began';
COMMENT ON COLUMN iterable.sync_status.next_run_at IS 'when it is due by its schedule, a time that has passed if it is due now; null for continuous, manual and after another sync, and before the first run of an interval';
COMMENT ON COLUMN iterable.sync_status.accepted IS 'rows that Iterable has accepted in the last 30 days';
COMMENT ON COLUMN iterable.sync_status.rejected IS 'rows that were refused, or could not be rendered, in the last 30 days';
COMMENT ON COLUMN iterable.sync_status.vanished IS 'rows that were gone before they could be sent, in the last 30 days';
COMMENT ON COLUMN iterable.sync_status.failures IS 'rows that stand in iterable.failure now';
COMMENT ON COLUMN iterable.sync_status.rate IS 'accepted rows per second of the latest run';
COMMENT ON COLUMN iterable.sync_status.last_error IS 'the last error of the sync as a whole, also if it has passed';
COMMENT ON COLUMN iterable.sync_status.last_error_at IS 'when that was';
COMMENT ON COLUMN iterable.sync_status.retry_at IS 'when reading its source, which has failed, is tried again; iterable_run() does not wait for it';
COMMENT ON COLUMN iterable.sync_status.warning IS 'what goes wrong although rows are accepted: fields that are mapped, but that Iterable drops';
COMMENT ON COLUMN iterable.sync_status.what_to_do IS 'null when there is nothing to do';

CREATE VIEW iterable.run WITH (security_barrier) AS
SELECT s.name AS sync, r.run_id, r.started_at, r.finished_at, r.keys_seen,
	r.accepted, r.rejected, r.retried, r.unchanged, r.skipped, r.filtered,
	r.vanished, r.would_send,
	r.requests, r.bytes, r.created_fields, r.filtered_fields
FROM iterable.sync_run r
JOIN iterable.sync s ON s.sync_id = r.sync_id
WHERE pg_catalog.pg_has_role(s.owner, 'USAGE');
COMMENT ON VIEW iterable.run IS 'executions of syncs, kept for 30 days; while a continuous sync is busy it has one a minute';
COMMENT ON COLUMN iterable.run.sync IS 'name of the sync';
COMMENT ON COLUMN iterable.run.run_id IS 'number of the run, in order of their beginning';
COMMENT ON COLUMN iterable.run.started_at IS 'when its first window was opened';
COMMENT ON COLUMN iterable.run.finished_at IS 'null while the run is open';
COMMENT ON COLUMN iterable.run.keys_seen IS 'captured keys that were read, repeated ones once a chunk';
COMMENT ON COLUMN iterable.run.accepted IS 'rows that Iterable has accepted';
COMMENT ON COLUMN iterable.run.rejected IS 'rows that became failures';
COMMENT ON COLUMN iterable.run.retried IS 'rows that failed and will be tried again by themselves';
COMMENT ON COLUMN iterable.run.unchanged IS 'rows whose payload is what Iterable has accepted last';
COMMENT ON COLUMN iterable.run.skipped IS 'rows that the mode keeps from being sent';
COMMENT ON COLUMN iterable.run.filtered IS 'rows for which the filter is not true';
COMMENT ON COLUMN iterable.run.would_send IS 'rows that a dry run would have sent; its requests and bytes are what they would have been';
COMMENT ON COLUMN iterable.run.vanished IS 'keys whose row is gone from the source';
COMMENT ON COLUMN iterable.run.requests IS 'bulk requests that were answered or broken off';
COMMENT ON COLUMN iterable.run.bytes IS 'bytes of request bodies';
COMMENT ON COLUMN iterable.run.created_fields IS 'fields that Iterable has created for it';
COMMENT ON COLUMN iterable.run.filtered_fields IS 'fields that Iterable has dropped, because the project, or create_new_fields, does not let it create them; the rows are accepted without them';

CREATE VIEW iterable.failure WITH (security_barrier) AS
SELECT s.name AS sync, f.key, NULLIF(f.tag, '') AS version, f.class, f.code, f.message,
	iterable.what_to_do(f.class, s.object) AS what_to_do, f.first_at, f.last_at,
	f.attempts, f.next_at, f.request_id, f.payload::json AS payload
FROM iterable.sync_failure f
JOIN iterable.sync s ON s.sync_id = f.sync_id
WHERE pg_catalog.pg_has_role(s.owner, 'USAGE');
COMMENT ON VIEW iterable.failure IS 'rows that Iterable refused or that could not be rendered; a newer change of the row tries it again and clears it on success';
COMMENT ON COLUMN iterable.failure.sync IS 'name of the sync';
COMMENT ON COLUMN iterable.failure.key IS 'canonical text of the unique field of the row';
COMMENT ON COLUMN iterable.failure.version IS 'which version of the row it is, where rows are sent as they were committed: it is kept and tried again as it was; null: the row as it is';
COMMENT ON COLUMN iterable.failure.class IS 'what is wrong, in one word';
COMMENT ON COLUMN iterable.failure.code IS 'code of Iterable''s answer, if it was Iterable that refused';
COMMENT ON COLUMN iterable.failure.message IS 'what is wrong, without data of the row';
COMMENT ON COLUMN iterable.failure.what_to_do IS 'what a person must mend, for failures of this class';
COMMENT ON COLUMN iterable.failure.first_at IS 'when the row failed first';
COMMENT ON COLUMN iterable.failure.last_at IS 'when it failed last';
COMMENT ON COLUMN iterable.failure.attempts IS 'how often it has failed since it has changed';
COMMENT ON COLUMN iterable.failure.next_at IS 'when it is tried again by itself; null: it waits for a change of the row or iterable_retry_failures()';

COMMENT ON COLUMN iterable.failure.request_id IS 'Iterable-Request-Id of the answer, for Iterable''s support; null if the row was not sent or the answer had none';
COMMENT ON COLUMN iterable.failure.payload IS 'what was sent; null unless iterable_sync.keep_failed_payloads was on, and is';

CREATE VIEW iterable.delivery WITH (security_barrier) AS
SELECT s.name AS sync, d.key, d.identifier, d.payload_hash,
	CASE d.state WHEN 'a' THEN 'accepted' WHEN 'v' THEN 'vanished' WHEN 'l' THEN 'left' WHEN 's' THEN 'seen' WHEN 'n' THEN 'noted' END AS state,
	d.at
FROM iterable.sync_delivery d
JOIN iterable.sync s ON s.sync_id = d.sync_id
WHERE pg_catalog.pg_has_role(s.owner, 'USAGE');
COMMENT ON VIEW iterable.delivery IS 'per row of a source: what Iterable has accepted last';
COMMENT ON COLUMN iterable.delivery.sync IS 'name of the sync';
COMMENT ON COLUMN iterable.delivery.key IS 'canonical text of the unique field of the row';
COMMENT ON COLUMN iterable.delivery.identifier IS 'e-mail or user id that was sent';
COMMENT ON COLUMN iterable.delivery.payload_hash IS 'first 64 bits of the SHA-256 of the payload';
COMMENT ON COLUMN iterable.delivery.state IS 'accepted; vanished: then gone from the source; left: the filter is not true for it any more; seen: was there, and is not sent until it changes; noted: was there when the sync was enabled, and where rows are compared is not sent unless it has changed since';
COMMENT ON COLUMN iterable.delivery.at IS 'when that was recorded';

CREATE VIEW iterable.progress WITH (security_barrier) AS
SELECT s.name AS sync, a.reason,
	CASE a.phase WHEN 'w' THEN 'waiting' WHEN 'r' THEN 'reading' WHEN 'f' THEN 'sending' WHEN 'c' THEN 'checking' WHEN 'd' THEN 'finishing' END AS phase,
	a.condition, a.force, a.requested_at, a.started_at, a.rows_seen,
	CASE WHEN a.rows_estimated >= 0 THEN GREATEST(a.rows_estimated, a.rows_seen) END AS rows_estimated,
	a.to_send, a.unchanged, a.skipped, a.failed, a.vanished, a.retry_at,
	CASE WHEN a.phase = 'r' AND a.rows_seen > 0 AND a.rows_estimated > a.rows_seen
		THEN pg_catalog.now() + (pg_catalog.now() - a.started_at)
			* ((a.rows_estimated - a.rows_seen)::double precision / a.rows_seen) END AS estimated_end
FROM iterable.sync_scan a
JOIN iterable.sync s ON s.sync_id = a.sync_id
WHERE pg_catalog.pg_has_role(s.owner, 'USAGE');
COMMENT ON VIEW iterable.progress IS 'scans of sources that are asked for or under way, one after the other: noting the rows that are there when a sync is enabled, comparing after a table was replaced and in the runs of syncs whose sources are not captured, backfills';
COMMENT ON COLUMN iterable.progress.sync IS 'name of the sync';
COMMENT ON COLUMN iterable.progress.reason IS 'what asked for it';
COMMENT ON COLUMN iterable.progress.phase IS 'waiting: for the verdicts of what was captured before, or for the sync to run; reading: the rows of the source; checking: whether rows that Iterable has are gone. Of views, materialized views and foreign tables also sending: what was found by reading, of which counts are known at its end; finishing: waiting for the last verdicts';
COMMENT ON COLUMN iterable.progress.condition IS 'of the rows that are looked at; null: all';
COMMENT ON COLUMN iterable.progress.force IS 'are rows sent that Iterable has as they are';
COMMENT ON COLUMN iterable.progress.requested_at IS 'when it was asked for';
COMMENT ON COLUMN iterable.progress.started_at IS 'when it has begun to read';
COMMENT ON COLUMN iterable.progress.rows_seen IS 'rows of the source that were read';
COMMENT ON COLUMN iterable.progress.rows_estimated IS 'rows that the planner thinks the source has';
COMMENT ON COLUMN iterable.progress.to_send IS 'rows that are new or differ, put into the change log';
COMMENT ON COLUMN iterable.progress.unchanged IS 'rows that Iterable has as they are';
COMMENT ON COLUMN iterable.progress.skipped IS 'rows that the mode or the filter keeps from being sent';
COMMENT ON COLUMN iterable.progress.failed IS 'rows that stand in iterable.failure and still cannot be rendered';
COMMENT ON COLUMN iterable.progress.vanished IS 'rows that Iterable has and the source no more';
COMMENT ON COLUMN iterable.progress.retry_at IS 'after an error: when it goes on';
COMMENT ON COLUMN iterable.progress.estimated_end IS 'when the rows will have been read, at the pace so far';

GRANT SELECT ON iterable.progress TO PUBLIC;
GRANT SELECT ON iterable.sync_status, iterable.run, iterable.failure, iterable.delivery TO PUBLIC;

/* Read by the capture trigger in every transaction; a number between 0 and 3. */
GRANT SELECT ON SEQUENCE iterable.change_segment TO PUBLIC;
