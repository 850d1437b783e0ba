/*
 * The change log: append-only, a ring of segments that are emptied whole.
 * Writers ask the sequence iterable.change_segment for the current segment,
 * because a sequence is read outside MVCC; readers always read all of them
 * through the parent.  See src/change_log.c.
 */
CREATE SEQUENCE iterable.change_seq AS bigint CACHE 1;
COMMENT ON SEQUENCE iterable.change_seq IS 'order of the change log; CACHE must stay 1, or two changes of one row could swap places';
CREATE SEQUENCE iterable.change_segment AS integer MINVALUE 0 MAXVALUE 3 START 0;
SELECT pg_catalog.setval('iterable.change_segment', 0);
COMMENT ON SEQUENCE iterable.change_segment IS 'number of the segment that new changes go to';

CREATE TABLE iterable.change (
	seq bigint NOT NULL,
	xid xid8 NOT NULL,
	source_id integer NOT NULL,
	sync_id integer NOT NULL,
	captured_at timestamptz NOT NULL,
	n integer NOT NULL,
	ops text NOT NULL,
	keys text[] NOT NULL,
	tags text[],
	versions bytea
);

/*
 * Where the server was built with it; tables below inherit it.  With pglz, a
 * third of what a bulk load pays for capture would be the compression of keys.
 */
DO $$
BEGIN
	ALTER TABLE iterable.change
		ALTER COLUMN ops SET COMPRESSION lz4,
		ALTER COLUMN keys SET COMPRESSION lz4,
		ALTER COLUMN tags SET COMPRESSION lz4,
		ALTER COLUMN versions SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
	NULL;
END
$$;

/* Segments are truncated, so there is nothing to vacuum but for wraparound; their queries need no statistics. */
CREATE TABLE iterable.change_0 () INHERITS (iterable.change) USING heap WITH (autovacuum_enabled = off);
CREATE TABLE iterable.change_1 () INHERITS (iterable.change) USING heap WITH (autovacuum_enabled = off);
CREATE TABLE iterable.change_2 () INHERITS (iterable.change) USING heap WITH (autovacuum_enabled = off);
CREATE TABLE iterable.change_3 () INHERITS (iterable.change) USING heap WITH (autovacuum_enabled = off);
CREATE INDEX change_xid ON iterable.change (xid);
CREATE INDEX change_0_xid ON iterable.change_0 (xid);
CREATE INDEX change_1_xid ON iterable.change_1 (xid);
CREATE INDEX change_2_xid ON iterable.change_2 (xid);
CREATE INDEX change_3_xid ON iterable.change_3 (xid);
COMMENT ON TABLE iterable.change IS 'the captured keys; one row holds many';
COMMENT ON COLUMN iterable.change.xid IS 'top-level transaction that captured the keys';
COMMENT ON COLUMN iterable.change.sync_id IS '0: for every sync of the source; otherwise for this one alone (backfill, retry)';
COMMENT ON COLUMN iterable.change.ops IS 'one letter a key, or a single letter for all: I insert, U update, D delete, T truncate (no key), B found by comparing, R to be tried again or backfilled, F the same and to be sent whatever Iterable has, L the key could not be told (no key)';
COMMENT ON COLUMN iterable.change.keys IS 'canonical texts of the keys, in the order of capture';
COMMENT ON COLUMN iterable.change.tags IS 'of failures that are tried again: which version of the row has failed, empty: the row as it is';
COMMENT ON COLUMN iterable.change.versions IS 'the rows as they were committed, where a sync of the source wants them, in the form of src/row_version.h; nobody but the worker reads it';

CREATE FUNCTION iterable.rotate_change_log() RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iterable_rotate_change_log';
REVOKE ALL ON FUNCTION iterable.rotate_change_log() FROM PUBLIC;
COMMENT ON FUNCTION iterable.rotate_change_log() IS 'Sends new changes to another segment of the change log, if one is empty, and empties one that every sync has passed, as the worker does every few seconds; never waits. Returns nothing. Raises 25001 unless the isolation level is READ COMMITTED.';
