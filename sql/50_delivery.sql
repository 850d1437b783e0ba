/* ------------------------------------------------------------------------
 * What is known of rows at Iterable.  Plain tables, read through views.
 * Keys are compared by their bytes, as they are canonical: that is quick in
 * every locale, and no new version of a locale puts an index out of order.
 * ------------------------------------------------------------------------ */

CREATE TABLE iterable.sync_delivery (
	sync_id integer NOT NULL,
	key text COLLATE "C" NOT NULL,
	identifier text,
	payload_hash bigint,
	state "char" NOT NULL,
	at timestamptz NOT NULL,
	PRIMARY KEY (sync_id, key)
) WITH (fillfactor = 70);
COMMENT ON TABLE iterable.sync_delivery IS 'per row of a source: what Iterable has accepted last';
COMMENT ON COLUMN iterable.sync_delivery.payload_hash IS 'first 64 bits of the SHA-256 of the last accepted payload; null: what Iterable has is not known';
COMMENT ON COLUMN iterable.sync_delivery.state IS 'a accepted, v vanished from the source, l left: the filter is not true for the row, s seen but not sent (mode update, or Iterable did not know the user), n noted: it was there when the sync was enabled, and counts only where rows are compared';
COMMENT ON COLUMN iterable.sync_delivery.at IS 'when it was recorded; of a note, a time after its row was read';

CREATE TABLE iterable.sync_failure (
	sync_id integer NOT NULL,
	key text COLLATE "C" NOT NULL,
	tag text COLLATE "C" NOT NULL DEFAULT '',
	class text NOT NULL,
	code text,
	message text,
	payload_hash bigint,
	request_id text,
	payload text,
	first_at timestamptz NOT NULL,
	last_at timestamptz NOT NULL,
	attempts integer NOT NULL DEFAULT 1,
	next_at timestamptz,
	version bytea,
	PRIMARY KEY (sync_id, key, tag)
);
CREATE INDEX sync_failure_next ON iterable.sync_failure (sync_id, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX sync_failure_payload ON iterable.sync_failure (sync_id) WHERE payload IS NOT NULL;
COMMENT ON TABLE iterable.sync_failure IS 'rows that Iterable refused or that could not be rendered';
COMMENT ON COLUMN iterable.sync_failure.tag IS 'which version of the row has failed; empty: the row as it was when it was read';
COMMENT ON COLUMN iterable.sync_failure.version IS 'that version, in the form of src/row_version.h, kept until it is sent; nobody but the worker reads it';
COMMENT ON COLUMN iterable.sync_failure.payload_hash IS 'of the payload that failed; null: there was none';
COMMENT ON COLUMN iterable.sync_failure.payload IS 'the payload that failed, only where iterable_sync.keep_failed_payloads is on';
COMMENT ON COLUMN iterable.sync_failure.next_at IS 'when the row is tried again; null: it waits for a person or for a newer change of the row';

CREATE FUNCTION iterable.verdicts()
RETURNS TABLE (object text, found_in text, name text, status text, verdict text,
	class text, meaning text, what_to_do text)
LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 80
AS 'MODULE_PATHNAME', 'iterable_verdicts';
COMMENT ON FUNCTION iterable.verdicts() IS
'What Iterable''s answers mean for rows: the very table that the worker uses.
Returns a line a list, code and status, the first that fits counts: object, which syncs; found_in, where it stands in the answer: failedUpdates, list (at the top), deprecated list, code, status, or none, for what is found without an answer; name, of the list or code; status, of the answer; verdict, see the section Answers; class, as iterable.failure shows it; meaning; what_to_do, what a person must mend.';

CREATE FUNCTION iterable.what_to_do(
	class text,
	object text)
RETURNS text
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'iterable_what_to_do';
COMMENT ON FUNCTION iterable.what_to_do(text, text) IS
'What a person must mend about failures.
class: as iterable.failure shows it. object: of the sync, user or event.
Returns null for an unknown class.
Raises 22023 for an unknown object.';

CREATE TABLE iterable.sync_run (
	run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	sync_id integer NOT NULL,
	started_at timestamptz NOT NULL,
	finished_at timestamptz,
	keys_seen bigint NOT NULL DEFAULT 0,
	accepted bigint NOT NULL DEFAULT 0,
	rejected bigint NOT NULL DEFAULT 0,
	retried bigint NOT NULL DEFAULT 0,
	unchanged bigint NOT NULL DEFAULT 0,
	skipped bigint NOT NULL DEFAULT 0,
	vanished bigint NOT NULL DEFAULT 0,
	filtered bigint NOT NULL DEFAULT 0,
	would_send bigint NOT NULL DEFAULT 0,
	requests bigint NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	created_fields text[],
	filtered_fields text[]
) WITH (fillfactor = 50);
CREATE INDEX sync_run_sync ON iterable.sync_run (sync_id, run_id);
COMMENT ON TABLE iterable.sync_run IS 'executions of syncs; a continuous sync has at most one a minute';

CREATE TABLE iterable.connection_state (
	connection name PRIMARY KEY,
	stopped_at timestamptz NOT NULL,
	reason text NOT NULL,
	refused_key bigint NOT NULL
);
COMMENT ON COLUMN iterable.connection_state.refused_key IS 'digest of the key that was refused: another key is tried at once';
COMMENT ON TABLE iterable.connection_state IS 'connections that Iterable has refused; a connection without a row is open';
