CREATE FUNCTION iterable_capture() RETURNS trigger
	LANGUAGE C STRICT
	AS 'MODULE_PATHNAME', 'iterable_capture';
COMMENT ON FUNCTION iterable_capture() IS 'Trigger that writes the keys of changed rows to the change log. iterable_enable_sync() puts it on the source; its arguments are the source, the key columns and the watched columns. Raises 39P01 when fired in any other way than AFTER, for each row or for TRUNCATE.';
