CREATE FUNCTION iterable_capture() RETURNS trigger
	LANGUAGE C STRICT
	AS 'MODULE_PATHNAME', 'iterable_capture';
COMMENT ON FUNCTION iterable_capture() IS 'Trigger that writes the keys of changed rows to the change log. iterable_enable_sync() puts it on the source; its arguments are the source, the key columns, the watched columns, and the stored columns where a sync sends rows as they were committed. Raises 39P01 when fired in any other way than AFTER, for each row or for TRUNCATE.';

/*
 * Changes that could not be captured are marked in shared memory, from where
 * the worker takes them.  See src/capture_mark.h and src/uncaptured.c.
 */
CREATE TABLE iterable.capture_memory (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	memory uuid NOT NULL,
	compares boolean NOT NULL
);
COMMENT ON TABLE iterable.capture_memory IS 'one row: the shared memory that keeps marks of changes that could not be captured; where it is another one than the server''s, marks may have been lost with the former';
COMMENT ON COLUMN iterable.capture_memory.compares IS 'was iterable_sync.on_capture_error "compare" while it was this one';
