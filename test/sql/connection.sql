--
-- Connections: options, who may make and use them, where the key shows
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

-- SQLSTATE, message, detail and hint of a statement that fails
CREATE FUNCTION pg_temp.failure(statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n', state || ': ' || message, nullif(detail, ''), nullif(hint, ''));
END
$$;
CREATE FUNCTION pg_temp.server_failure(options text) RETURNS text
LANGUAGE sql AS $$
	SELECT pg_temp.failure(format('CREATE SERVER con_bad FOREIGN DATA WRAPPER iterable OPTIONS (%s)', options))
$$;
CREATE FUNCTION pg_temp.mapping_failure(options text) RETURNS text
LANGUAGE sql AS $$
	SELECT pg_temp.failure(format('CREATE USER MAPPING FOR PUBLIC SERVER con_ddl OPTIONS (%s)', options))
$$;
-- makes a server with these options besides the required ones, and drops it
CREATE FUNCTION pg_temp.server_ok(options text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE SERVER con_ok FOREIGN DATA WRAPPER iterable OPTIONS (data_center ''us'', project_type ''email'', %s)', options);
	DROP SERVER con_ok;
	RETURN true;
END
$$;

-- The function does what plain DDL does
SELECT iterable_create_connection('con_function', data_center => 'us',
	project_type => 'hybrid', api_key => 'canary', base_url => 'http://127.0.0.1:9',
	users_rate => 2.5, events_rate => 20, rate_group => 'shared',
	request_timeout => '20s', connect_timeout => '500ms');
CREATE SERVER con_ddl FOREIGN DATA WRAPPER iterable
	OPTIONS (data_center 'us', project_type 'hybrid', base_url 'http://127.0.0.1:9',
	users_rate '2.5', events_rate '20', rate_group 'shared',
	request_timeout '20s', connect_timeout '500ms');
CREATE USER MAPPING FOR PUBLIC SERVER con_ddl OPTIONS (api_key 'canary');
SELECT srvname, srvowner = current_user::regrole AS mine, srvoptions, umuser, umoptions
FROM pg_foreign_server s JOIN pg_user_mapping m ON m.umserver = s.oid
WHERE srvname IN ('con_function', 'con_ddl') ORDER BY srvname;
DROP USER MAPPING FOR PUBLIC SERVER con_ddl;

-- What is not given is not stored
SELECT iterable_create_connection('con_small', 'eu', 'userid', api_key_file => '/nowhere/key');
SELECT srvoptions, umoptions
FROM pg_foreign_server s JOIN pg_user_mapping m ON m.umserver = s.oid
WHERE srvname = 'con_small';

-- Names
SELECT pg_temp.failure($$SELECT iterable_create_connection('con_function', 'us', 'email', 'canary')$$);
SELECT pg_temp.failure($$SELECT iterable_create_connection(NULL, 'us', 'email', 'canary')$$);
SELECT pg_temp.failure($$SELECT iterable_create_connection('', 'us', 'email', 'canary')$$);
SELECT pg_temp.failure($$SELECT iterable_create_connection(repeat('x', 64), 'us', 'email', 'canary')$$);
SELECT iterable_create_connection(repeat('x', 63), 'us', 'email', 'canary');
SET client_min_messages = warning;
DO $$BEGIN EXECUTE format('DROP SERVER %I CASCADE', repeat('x', 63)); END$$;
RESET client_min_messages;

-- Required options
SELECT pg_temp.failure($$SELECT iterable_create_connection('con_bad', NULL, 'email', 'canary')$$);
SELECT pg_temp.failure($$SELECT iterable_create_connection('con_bad', 'us', NULL, 'canary')$$);
SELECT pg_temp.failure($$SELECT iterable_create_connection('con_bad', 'us', 'email')$$);
SELECT pg_temp.failure($$SELECT iterable_create_connection('con_bad', 'us', 'email', api_key => 'canary', api_key_file => '/nowhere/key')$$);
SELECT pg_temp.failure($$CREATE SERVER con_bad FOREIGN DATA WRAPPER iterable$$);
SELECT pg_temp.failure($$ALTER SERVER con_ddl OPTIONS (DROP project_type)$$);
SELECT pg_temp.failure($$CREATE USER MAPPING FOR PUBLIC SERVER con_ddl$$);
-- whatever failed left nothing behind
SELECT count(*) FROM pg_foreign_server WHERE srvname = 'con_bad';

-- Options that do not exist, or not there
SELECT pg_temp.server_failure($$data_centre 'us'$$);
SELECT pg_temp.server_failure($$user_rate '5'$$);
SELECT pg_temp.server_failure($$DATA_CENTER 'us', "DATA_CENTER" 'us'$$);
SELECT pg_temp.server_failure($$colour 'red'$$);
SELECT pg_temp.server_failure($$api_key 'canary'$$);
SELECT pg_temp.server_failure($$api_kee 'canary'$$);
SELECT pg_temp.mapping_failure($$api_keyfile '/nowhere/key'$$);
SELECT pg_temp.mapping_failure($$data_center 'us'$$);
SELECT pg_temp.failure($$ALTER FOREIGN DATA WRAPPER iterable OPTIONS (ADD data_center 'us')$$);
SELECT pg_temp.failure($$CREATE FOREIGN TABLE con_table (a integer) SERVER con_ddl$$);

-- Words
SELECT pg_temp.server_failure($$data_center 'usa', project_type 'email'$$);
SELECT pg_temp.server_failure($$data_center 'US', project_type 'email'$$);
SELECT pg_temp.server_failure($$data_center 'antarctica', project_type 'email'$$);
SELECT pg_temp.server_failure($$data_center 'us', project_type 'user_id'$$);
SELECT pg_temp.server_failure($$data_center 'us', project_type ''$$);
SELECT pg_temp.server_failure($$data_center 'eu', project_type 'email'$$);
SELECT pg_temp.failure($$ALTER SERVER con_small OPTIONS (SET project_type 'email')$$);
SELECT pg_temp.server_failure($$data_center 'us', project_type 'email', rate_group ''$$);

-- Numbers
SELECT rate, pg_temp.failure(format('ALTER SERVER con_ddl OPTIONS (SET users_rate %L)', rate))
FROM (VALUES ('0'), ('-1'), ('1000.5'), ('NaN'), ('Infinity'), ('five'), (''), ('5s'), ('0.0001')) v (rate);
SELECT rate, pg_temp.server_ok(format('users_rate %L, events_rate %L', rate, rate))
FROM (VALUES ('5'), ('0.001'), ('1000'), ('7.25')) v (rate);
SELECT pg_temp.failure($$SELECT iterable_create_connection('con_bad', 'us', 'email', 'canary', users_rate => 'NaN')$$);
SELECT timeout, pg_temp.failure(format('ALTER SERVER con_ddl OPTIONS (SET request_timeout %L)', timeout))
FROM (VALUES ('0'), ('-1'), ('99ms'), ('11min'), ('30 parsecs'), (''), ('inf')) v (timeout);
SELECT pg_temp.failure($$ALTER SERVER con_ddl OPTIONS (SET connect_timeout '61s')$$);
SELECT timeout, pg_temp.server_ok(format('request_timeout %L, connect_timeout %L', timeout, timeout))
FROM (VALUES ('30'), ('30s'), ('500ms'), ('1min'), ('0.1'), ('100ms'), ('1.5 s')) v (timeout);

-- Addresses (others than Iterable's are permitted here by the setting)
SELECT url, pg_temp.failure(format('ALTER SERVER con_ddl OPTIONS (SET base_url %L)', url))
FROM (VALUES
	('api.iterable.com'), (''), ('ftp://api.iterable.com'), ('https://'), ('https:///'), ('https://.iterable.com'),
	('https://api.iterable.com/api'), ('https://api.iterable.com//'), ('https://api.iterable.com?a'),
	('https://api.iterable.com#a'), ('https://canary:canary@api.iterable.com'), ('https://evil.example\@api.iterable.com'),
	('https://api.iterable.com:0'), ('https://api.iterable.com:65536'), ('https://api.iterable.com:'),
	('https://api.iterable.com:44a'), ('https://api.iterable.com '), (' https://api.iterable.com'),
	(E'https://api.iterable.com\n'), (E'https://api.iterable.com\r\nX-Header:a'), ('https://[::1'), ('https://[]'),
	('https://api.iterable.com%2eexample')) v (url);
SELECT pg_temp.failure(E'ALTER SERVER con_ddl OPTIONS (SET base_url \'https://api\xc3\xa9.iterable.com\')');
SELECT url, pg_temp.server_ok(format('base_url %L', url))
FROM (VALUES
	('https://api.iterable.com'), ('https://api.iterable.com/'), ('HTTPS://API.Iterable.com:443'), ('https://iterable.com'),
	('http://127.0.0.1:8080'), ('http://[::1]:8080/'), ('https://proxy_1.example')) v (url);

-- Keys
SELECT pg_temp.mapping_failure($$api_key ''$$);
SELECT pg_temp.mapping_failure($$api_key 'canary canary'$$);
SELECT pg_temp.mapping_failure($$api_key E'canary\r\nX-Header: 1'$$);
SELECT pg_temp.mapping_failure($$api_key E'canary\xc3\xa9'$$);
SELECT pg_temp.mapping_failure(format($$api_key %L$$, repeat('canary', 43)));
SELECT pg_temp.mapping_failure($$api_key 'canary', api_key_file '/nowhere/key'$$);
SELECT pg_temp.mapping_failure($$api_key_file 'nowhere/key'$$);
SELECT pg_temp.mapping_failure($$api_key_file ''$$);
CREATE USER MAPPING FOR PUBLIC SERVER con_ddl OPTIONS (api_key 'canary');
ALTER USER MAPPING FOR PUBLIC SERVER con_ddl OPTIONS (DROP api_key, ADD api_key_file '/nowhere/key');
SELECT pg_temp.failure($$ALTER USER MAPPING FOR PUBLIC SERVER con_ddl OPTIONS (ADD api_key 'canary')$$);
ALTER USER MAPPING FOR PUBLIC SERVER con_ddl OPTIONS (DROP api_key_file, ADD api_key 'canary');

-- The validator itself takes what it gets
SELECT iterable_connection_validator('{}', NULL);
SELECT iterable_connection_validator('{data_center=us,project_type=email}', 'pg_foreign_server'::regclass);
SELECT pg_temp.failure($$SELECT iterable_connection_validator('{api_key}', 'pg_user_mapping'::regclass)$$);

-- Event triggers see the statements; they are refused where statements are
CREATE TABLE con_event (n integer GENERATED ALWAYS AS IDENTITY, tag text);
CREATE FUNCTION con_note() RETURNS event_trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO con_event (tag) VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER con_trigger ON ddl_command_end EXECUTE FUNCTION con_note();
SELECT iterable_create_connection('con_event', 'us', 'email', 'canary');
SELECT tag FROM con_event ORDER BY n;
DROP EVENT TRIGGER con_trigger;
DROP FUNCTION con_note();
DROP TABLE con_event;
BEGIN READ ONLY;
SELECT iterable_create_connection('con_bad', 'us', 'email', 'canary');
ROLLBACK;

--
-- Rights
--
CREATE ROLE regress_con_maker;
CREATE ROLE regress_con_user;
GRANT EXECUTE ON FUNCTION iterable_create_connection TO regress_con_maker;

-- making one needs USAGE on the wrapper, and the function
SET ROLE regress_con_user;
SELECT iterable_create_connection('con_bad', 'us', 'email', 'canary');
SET ROLE regress_con_maker;
SELECT iterable_create_connection('con_made', 'us', 'email', 'canary');
RESET ROLE;
GRANT USAGE ON FOREIGN DATA WRAPPER iterable TO regress_con_maker;
SET ROLE regress_con_maker;
SELECT iterable_create_connection('con_made', 'us', 'email', 'canary', base_url => 'http://127.0.0.1:9');
SELECT srvowner::regrole FROM pg_foreign_server WHERE srvname = 'con_made';

-- a file is read with the server's rights: superusers only
SELECT iterable_create_connection('con_bad', 'us', 'email', api_key_file => '/nowhere/key');
ALTER USER MAPPING FOR PUBLIC SERVER con_made OPTIONS (DROP api_key, ADD api_key_file '/nowhere/key');
RESET ROLE;
GRANT pg_read_server_files TO regress_con_maker;
SET ROLE regress_con_maker;
ALTER USER MAPPING FOR PUBLIC SERVER con_made OPTIONS (DROP api_key, ADD api_key_file '/nowhere/key');
RESET ROLE;
ALTER USER MAPPING FOR PUBLIC SERVER con_made OPTIONS (DROP api_key, ADD api_key_file '/nowhere/key');
SET ROLE regress_con_maker;
ALTER USER MAPPING FOR PUBLIC SERVER con_made OPTIONS (SET api_key_file '/etc/passwd');
ALTER USER MAPPING FOR PUBLIC SERVER con_made OPTIONS (DROP api_key_file, ADD api_key 'canary');

-- using one needs USAGE on the server
SET ROLE regress_con_user;
SELECT * FROM iterable_test_connection('con_made');
SELECT * FROM iterable_lookup_user('con_made', email => 'ann@example.com');
SELECT * FROM iterable_lookup_events('con_made', email => 'ann@example.com');
SET ROLE regress_con_maker;
GRANT USAGE ON FOREIGN SERVER con_made TO regress_con_user;
SET ROLE regress_con_user;
SELECT check_name, ok FROM iterable_test_connection('con_made');

-- ... and does not show the key; nor does anything that its owner may not see
SELECT usename, umoptions FROM pg_user_mappings WHERE srvname LIKE 'con\_%' ORDER BY srvname;
SELECT authorization_identifier, option_name, option_value
FROM information_schema.user_mapping_options WHERE foreign_server_name = 'con_made';
SELECT umoptions FROM pg_user_mapping;
SET ROLE regress_con_maker;
SELECT srvname, umoptions FROM pg_user_mappings WHERE srvname IN ('con_made', 'con_ddl') ORDER BY srvname;
RESET ROLE;

-- a key of one's own goes before that of PUBLIC
CREATE USER MAPPING FOR regress_con_user SERVER con_made OPTIONS (api_key_file '/nowhere/key');
SET ROLE regress_con_user;
SELECT check_name, ok, CASE WHEN check_name = 'key accepted' THEN detail END AS detail
FROM iterable_test_connection('con_made');
SELECT * FROM iterable_lookup_user('con_made', email => 'ann@example.com');
RESET ROLE;
DROP USER MAPPING FOR regress_con_user SERVER con_made;

-- what is missing or is no connection
DROP USER MAPPING FOR PUBLIC SERVER con_made;
SET ROLE regress_con_user;
SELECT check_name, ok, CASE WHEN check_name = 'key accepted' THEN detail END AS detail
FROM iterable_test_connection('con_made');
SELECT * FROM iterable_lookup_user('con_made', email => 'ann@example.com');
RESET ROLE;
SELECT * FROM iterable_test_connection('con_none');
SELECT * FROM iterable_test_connection(NULL);
CREATE FOREIGN DATA WRAPPER con_wrapper;
CREATE SERVER con_foreign FOREIGN DATA WRAPPER con_wrapper;
SELECT * FROM iterable_test_connection('con_foreign');
DROP FOREIGN DATA WRAPPER con_wrapper CASCADE;

-- arguments of look-ups are checked before anything is asked
SELECT pg_temp.failure($$SELECT * FROM iterable_lookup_user(NULL, email => 'ann@example.com')$$);
SELECT pg_temp.failure($$SELECT * FROM iterable_lookup_user('con_ddl')$$);
SELECT pg_temp.failure($$SELECT * FROM iterable_lookup_user('con_ddl', 'ann@example.com', 'ann')$$);
SELECT pg_temp.failure($$SELECT * FROM iterable_lookup_user('con_ddl', email => 'canary')$$);
SELECT pg_temp.failure($$SELECT * FROM iterable_lookup_user('con_ddl', user_id => E'canary\r\nX')$$);
SELECT pg_temp.failure($$SELECT * FROM iterable_lookup_events('con_ddl', user_id => 'ann', max_events => 0)$$);
SELECT pg_temp.failure($$SELECT * FROM iterable_lookup_events('con_ddl', user_id => 'ann', max_events => 201)$$);
SELECT pg_temp.failure($$SELECT * FROM iterable_lookup_events('con_ddl', user_id => 'ann', max_events => NULL)$$);

-- Everything can be renamed, handed over and dropped
ALTER SERVER con_made RENAME TO con_renamed;
ALTER SERVER con_renamed OWNER TO regress_con_maker;
DROP SERVER con_renamed;
SET client_min_messages = warning;
DROP SERVER con_function CASCADE;
DROP SERVER con_ddl CASCADE;
DROP SERVER con_small CASCADE;
DROP SERVER con_event CASCADE;
RESET client_min_messages;
REVOKE USAGE ON FOREIGN DATA WRAPPER iterable FROM regress_con_maker;
REVOKE EXECUTE ON FUNCTION iterable_create_connection FROM regress_con_maker;
DROP ROLE regress_con_maker, regress_con_user;
