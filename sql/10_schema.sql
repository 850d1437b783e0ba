\echo Use "CREATE EXTENSION iterable_sync" to load this file. \quit

/*
 * User functions live in the schema that CREATE EXTENSION targets, tables
 * and views in "iterable".  Plain CREATE everywhere: a schema or object that
 * somebody has planted makes the installation fail instead of being adopted.
 */
CREATE SCHEMA iterable;
COMMENT ON SCHEMA iterable IS 'tables and views of the extension iterable_sync';
GRANT USAGE ON SCHEMA iterable TO PUBLIC;
