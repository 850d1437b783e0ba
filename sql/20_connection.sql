/* ------------------------------------------------------------------------
 * Connections: foreign servers of this wrapper, with the key in a user
 * mapping.  As for any wrapper, only those who were granted USAGE on it may
 * make one, and GRANT USAGE ON FOREIGN SERVER decides who may use one.
 * ------------------------------------------------------------------------ */

CREATE FUNCTION iterable_connection_validator(options text[], catalog oid)
RETURNS void
LANGUAGE C STRICT
AS 'MODULE_PATHNAME', 'iterable_connection_validator';
COMMENT ON FUNCTION iterable_connection_validator(text[], oid) IS
'Checks the options of connections; PostgreSQL calls it in CREATE and ALTER SERVER and USER MAPPING.
options: name=value, all that the object would have. catalog: the catalog that it is kept in.
Returns nothing.
Raises HV00D for an unknown option, HV002 if a required one is missing, 22023 for a bad value, 42501 if api_key_file is set by a role that is not superuser.';

CREATE FOREIGN DATA WRAPPER iterable
	NO HANDLER
	VALIDATOR @extschema@.iterable_connection_validator;
COMMENT ON FOREIGN DATA WRAPPER iterable IS
'Connections of iterable_sync: a server is an Iterable project.
Options of a server: data_center (us or eu) and project_type (email, userid or hybrid), both required; base_url (default: that of the data center); users_rate and events_rate (requests per second, default 5 and 10); rate_group (connections with the same one share these rates; default: those with the same address and key); request_timeout and connect_timeout (default 30s and 5s); update_only (true if Iterable has enabled the flag updateOnly for the account).
Options of a user mapping: api_key_file (a file on the server that holds the key; superusers only) or api_key (kept in the catalog, and so part of a dump).';

CREATE FUNCTION iterable_create_connection(
	name text,
	data_center text,
	project_type text,
	api_key text DEFAULT NULL,
	api_key_file text DEFAULT NULL,
	base_url text DEFAULT NULL,
	users_rate numeric DEFAULT NULL,
	events_rate numeric DEFAULT NULL,
	rate_group text DEFAULT NULL,
	request_timeout text DEFAULT NULL,
	connect_timeout text DEFAULT NULL,
	update_only boolean DEFAULT NULL)
RETURNS void
LANGUAGE C
AS 'MODULE_PATHNAME', 'iterable_create_connection';
REVOKE ALL ON FUNCTION iterable_create_connection(text, text, text, text, text, text, numeric, numeric, text, text, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION iterable_create_connection(text, text, text, text, text, text, numeric, numeric, text, text, text, boolean) IS
'Makes a connection: a server of the wrapper iterable, owned by the current role, and a user mapping for PUBLIC with the key. Does what CREATE SERVER and CREATE USER MAPPING do, and needs the same rights; ALTER SERVER, ALTER USER MAPPING, DROP SERVER ... CASCADE and GRANT USAGE ON FOREIGN SERVER are for what comes after.
name: at most 63 bytes. data_center: us or eu. project_type: email, userid or hybrid, whichever the project is. Exactly one of api_key_file and api_key: prefer the file, since a key in an SQL statement may be logged by it and a key in the catalog is part of every dump; the file is read again for every use, so a key can be replaced by replacing it. base_url: default that of the data center; must be https and under iterable.com. users_rate, events_rate: requests per second, 0.001 to 1000, default 5 and 10. rate_group: connections of one server with the same rate_group share these rates; default: those with the same address and key do. request_timeout, connect_timeout: such as 30s or 500ms; default 30s and 5s. update_only: whether Iterable has enabled the flag updateOnly for the account, default false; then syncs of users in mode update use it instead of look-ups.
Returns nothing.
Raises 42501 without USAGE on the wrapper, or if a role that is not superuser gives api_key_file; 42710 if there is a server of that name; HV002 if a required argument is missing; 22023 for a bad value.';

/*
 * The functions below reach the network and may be called by everybody: they
 * check that the current role has USAGE on the server.
 */

CREATE FUNCTION iterable_test_connection(
	name text,
	OUT check_name text,
	OUT ok boolean,
	OUT detail text)
RETURNS SETOF record
LANGUAGE C COST 1000000 ROWS 4
AS 'MODULE_PATHNAME', 'iterable_test_connection';
COMMENT ON FUNCTION iterable_test_connection(text) IS
'Tries a connection by one harmless request, and says where it breaks.
name: a connection that the current role may use.
Returns a row per check, in this order: reachable, TLS, key accepted, data center. ok is null where a check says nothing, because an earlier one failed or by its nature; detail says what was found or what to do. If an official address refuses the key, the other data center is asked too.
Raises 42704 if there is no such connection, 42501 without USAGE on it, 22023 if its base_url is not permitted any more. What else is wrong is told by the rows. Waits at most request_timeout for an answer; can be cancelled.';

CREATE FUNCTION iterable_lookup_user(
	connection text,
	email text DEFAULT NULL,
	user_id text DEFAULT NULL,
	OUT email text,
	OUT user_id text,
	OUT data_fields jsonb)
RETURNS SETOF record
LANGUAGE C COST 1000000 ROWS 1
AS 'MODULE_PATHNAME', 'iterable_lookup_user';
COMMENT ON FUNCTION iterable_lookup_user(text, text, text) IS
'Asks Iterable for a user.
connection: a connection that the current role may use. Exactly one of email and user_id.
Returns the user with all fields that Iterable shows, numbers exact; no row if Iterable does not know the user (yet: it shows new users after some seconds).
Raises 42704 or 42501 for the connection, 22023 for a wrong argument, 08001 if Iterable can''t be reached, 08006 if it does not answer in request_timeout, 28000 if it refuses the key, 53400 if its limit of requests is reached, 38000 for any other answer. Can be cancelled; holds the snapshot of the calling statement meanwhile.';

CREATE FUNCTION iterable_lookup_events(
	connection text,
	email text DEFAULT NULL,
	user_id text DEFAULT NULL,
	max_events integer DEFAULT 30,
	OUT event_name text,
	OUT event_type text,
	OUT created_at timestamptz,
	OUT id text,
	OUT data jsonb)
RETURNS SETOF record
LANGUAGE C COST 1000000 ROWS 30
AS 'MODULE_PATHNAME', 'iterable_lookup_events';
COMMENT ON FUNCTION iterable_lookup_events(text, text, text, integer) IS
'Asks Iterable for the events of a user.
connection: a connection that the current role may use. Exactly one of email and user_id. max_events: 1 to 200.
Returns a row per event, in the order in which Iterable lists them; no row if the user is unknown. event_name is null for events of Iterable''s own, whose kind event_type tells; created_at is null if Iterable writes it in a form that is not known; data is the whole event.
Raises what iterable_lookup_user() raises.';
