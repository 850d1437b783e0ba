/* ------------------------------------------------------------------------
 * Preview.  Checks by itself that the current role may see the sync.
 * ------------------------------------------------------------------------ */

CREATE FUNCTION iterable_preview(
	sync text,
	max_rows integer DEFAULT 10)
RETURNS TABLE (key text, endpoint text, payload json, problem text)
LANGUAGE C COST 100000 ROWS 10
AS 'MODULE_PATHNAME', 'iterable_preview';
COMMENT ON FUNCTION iterable_preview(text, integer) IS
'Shows what a sync would send, and sends nothing.
sync: a sync of the current role, enabled or not. max_rows: how many rows of the source, from the first in the order of the unique field. Sees what this transaction has changed, committed or not.
Returns a line a row: key; endpoint, the path of the API; payload, the very JSON, or null if it cannot be built; problem, null if the row is fit to be sent, else the class and the reason, which holds no data of the row.
Raises 42704 if there is no such sync of the current role, 22023 if max_rows is not positive or the sync lacks an identifier or an event name, 42501 if the owner of the sync may not use the source, 42P01 if the source is gone, 42703, 42883, 42804 or 0A000 if a mapping does not fit the source any more.';
