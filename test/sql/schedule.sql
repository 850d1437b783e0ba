--
-- Schedules: what is one, when it is due, and syncs that run after others
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS iterable_sync;
RESET client_min_messages;

SELECT iterable_create_connection('schedule', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');

CREATE SCHEMA plan;
CREATE TABLE plan.customer (id bigint PRIMARY KEY, email text);

-- Runs a statement that must fail; the state, message, detail and hint.
CREATE FUNCTION plan.fails(statement text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN NEXT 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN NEXT state || ': ' || message;
	IF detail <> '' THEN RETURN NEXT 'detail: ' || detail; END IF;
	IF hint <> '' THEN RETURN NEXT 'hint: ' || hint; END IF;
END
$$;

-- The next times as a clock there shows them, with its offset from UTC.
CREATE FUNCTION plan.times(schedule text, zone text, since timestamptz, n int DEFAULT 4) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('timezone', zone, true);
	RETURN QUERY SELECT to_char(t, 'Dy YYYY-MM-DD HH24:MI:SS TZH:TZM')
	FROM iterable_schedule_preview(schedule, zone, n, since) AS t;
END
$$;

CREATE FUNCTION plan.create_sync(name text, schedule text, zone text DEFAULT 'UTC') RETURNS void
LANGUAGE sql AS $$
	SELECT iterable_create_sync(name, 'schedule', 'plan.customer', 'user', 'id', 'email', schedule => schedule, time_zone => zone)
$$;

\pset format unaligned
\pset tuples_only on

--
-- Previews
--
SELECT * FROM plan.times('30 2 * * mon-fri', 'UTC', '2024-02-28 12:00+00');
SELECT * FROM plan.times('*/15 9-17 * * *', 'Asia/Kolkata', '2024-02-28 12:00+00');
SELECT * FROM plan.times('0 12 29 feb *', 'Europe/Berlin', '2024-02-28 12:00+00', 2);
SELECT * FROM plan.times('0 0 13 * fri', 'UTC', '2024-06-07 12:00+00');
SELECT * FROM plan.times('@weekly', 'Asia/Tokyo', '2024-06-07 12:00+00', 2);
SELECT * FROM plan.times('@hourly', 'Asia/Kathmandu', '2024-06-07 12:00+00', 2);

-- An interval counts from the beginning.
SELECT * FROM plan.times('1 day 30 minutes', 'UTC', '2024-06-07 12:00+00', 3);
SELECT * FROM plan.times('@ 90 seconds', 'UTC', '2024-06-07 12:00:00.5+00', 2);

-- What the clock skips is one time, right after it.
SELECT * FROM plan.times('30 2 * * *', 'Europe/Berlin', '2024-03-30 00:00+00', 3);
SELECT * FROM plan.times('0,20,40 2 * * *', 'Europe/Berlin', '2024-03-30 12:00+00', 2);
SELECT * FROM plan.times('30 2 * * *', 'America/New_York', '2024-03-09 12:00+00', 2);
SELECT * FROM plan.times('15 2 * * *', 'Australia/Lord_Howe', '2024-10-05 00:00+00', 2);
-- What it shows twice counts once, the first time.
SELECT * FROM plan.times('30 2 * * *', 'Europe/Berlin', '2024-10-26 12:00+00', 2);
SELECT * FROM plan.times('30 1 * * *', 'America/New_York', '2024-11-02 12:00+00', 2);
SELECT * FROM plan.times('45 1 * * *', 'Australia/Lord_Howe', '2024-04-06 00:00+00', 2);
-- A line for every hour goes on evenly.
SELECT * FROM plan.times('*/30 * * * *', 'Europe/Berlin', '2024-03-31 00:00+00', 4);
SELECT * FROM plan.times('*/30 * * * *', 'Europe/Berlin', '2024-10-26 23:30+00', 6);
SELECT * FROM plan.times('*/15 * * * *', 'Australia/Lord_Howe', '2024-04-06 14:15+00', 5);
-- A whole day was skipped once: 30 December 2011.
SELECT * FROM plan.times('0 9 * * *', 'Pacific/Apia', '2011-12-29 00:00+00', 3);
-- Zones without such changes, of which one once had them
SELECT * FROM plan.times('30 2 * * *', 'Asia/Tokyo', '2024-03-30 00:00+00', 2);
SELECT * FROM plan.times('30 2 * * *', 'Europe/Moscow', '2024-03-30 12:00+00', 2);
-- Beyond what tables of time zones list
SELECT * FROM plan.times('30 2 * * *', 'Europe/Berlin', '2399-03-27 00:00+00', 3);
SELECT * FROM plan.times('0 0 1 1 *', 'UTC', '294276-06-01 00:00+00', 3);
SELECT * FROM plan.times('1 day', 'UTC', '294276-12-31 00:00+00', 3);
SELECT * FROM plan.times('0 0 1 1 *', 'UTC', '4713-12-01 00:00+00 BC', 1);

-- By default from now on, in UTC, five.
SELECT count(*), bool_and(t > now()), max(t) <= now() + '5 minutes' FROM iterable_schedule_preview('* * * * *') AS t;
SELECT count(*), bool_and(t AT TIME ZONE 'Europe/Berlin' = date_trunc('day', t AT TIME ZONE 'Europe/Berlin'))
FROM iterable_schedule_preview('@daily', 'Europe/Berlin', 1000) AS t;
SELECT count(*) FROM (SELECT iterable_schedule_preview('@daily', n => 3)) AS t;

--
-- What is no schedule
--
SELECT plan.fails($$SELECT plan.create_sync('n', '61 * * * *')$$);
SELECT plan.fails($$SELECT plan.create_sync('n', '0 2 * * *', 'Europe/Nowhere')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('0 0 31 2 *')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('*/5 * * *')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('@reboot')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('0 25 1 1 *')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('0 0 * * funday')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('* * * * ä')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('1 month')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('continuous')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('manual')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('after x')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('@daily', 'Europe/Nowhere')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('@daily', n => 0)$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('@daily', n => 1001)$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('@daily', since => 'infinity')$$);
SELECT plan.fails($$SELECT iterable_schedule_preview(NULL)$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('@daily', NULL)$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('@daily', n => NULL)$$);
SELECT plan.fails($$SELECT iterable_schedule_preview('@daily', since => NULL)$$);

--
-- When a sync is due
--
SET timezone = 'UTC';
SELECT iterable.next_run('0 3 * * *', 'Europe/Berlin', '2024-06-07 12:00+00');
SELECT iterable.next_run('15 minutes', 'UTC', '2024-06-07 12:00+00');
SELECT s, iterable.next_run(s, 'UTC', '2024-06-07 12:00+00') IS NULL
FROM unnest('{continuous,manual,after x,nonsense,0 0 31 2 *}'::text[]) AS s;
SELECT iterable.next_run('0 3 * * *', 'Europe/Nowhere', '2024-06-07 12:00+00') IS NULL,
	iterable.next_run('0 3 * * *', 'UTC', NULL) IS NULL,
	iterable.next_run('0 3 * * *', 'UTC', '-infinity') IS NULL;
RESET timezone;

SELECT plan.create_sync('nightly', '30 2 * * *', 'Europe/Berlin');
SELECT plan.create_sync('often', '15 minutes');
SELECT plan.create_sync('asked', 'manual');
SELECT schedule, next_run_at IS NULL FROM iterable.sync_status WHERE source = 'plan.customer' ORDER BY sync;
SELECT iterable_add_mapping(sync, 'address', column_name => 'email') FROM iterable.sync_status WHERE source = 'plan.customer';
SELECT iterable_disable_sync(sync) FROM iterable.sync_status WHERE source = 'plan.customer';
BEGIN;
SELECT iterable_enable_sync(sync, 'updates_only') FROM iterable.sync_status WHERE source = 'plan.customer';
SELECT sync, last_run_at, next_run_at - clock_timestamp() BETWEEN '0 h' AND '25 h',
	to_char(next_run_at AT TIME ZONE 'Europe/Berlin', 'HH24:MI') IN ('02:30', '03:00') AS half_past_two
FROM iterable.sync_status WHERE source = 'plan.customer' ORDER BY sync;

-- A schedule counts from when it is given, an interval from the last run.
UPDATE iterable.sync_state SET last_run_at = '2024-06-07 12:00+00';
SELECT sync, next_run_at < now() FROM iterable.sync_status WHERE source = 'plan.customer' ORDER BY sync;
SELECT iterable_update_sync('nightly', schedule => '31 2 * * *');
SELECT iterable_update_sync('often', schedule => '16 minutes');
SELECT sync, next_run_at < now() FROM iterable.sync_status WHERE source = 'plan.customer' ORDER BY sync;
UPDATE iterable.sync_state SET last_run_at = '2024-06-07 12:00+00';
SELECT iterable_update_sync('nightly', time_zone => 'UTC');
SELECT next_run_at < now() FROM iterable.sync_status WHERE sync = 'nightly';
-- Being enabled again is no reason to run.
UPDATE iterable.sync_state SET last_run_at = '2024-06-07 12:00+00';
SELECT iterable_enable_sync('nightly');
SELECT next_run_at < now() FROM iterable.sync_status WHERE sync = 'nightly';
SELECT iterable_disable_sync('nightly');
SELECT next_run_at IS NULL FROM iterable.sync_status WHERE sync = 'nightly';
SELECT iterable_enable_sync('nightly');
SELECT next_run_at < now() FROM iterable.sync_status WHERE sync = 'nightly';
ROLLBACK;

--
-- After others
--
SELECT plan.create_sync('first', 'manual');
SELECT plan.create_sync('second', 'after first');
SELECT plan.create_sync('a third', 'after second');
SELECT plan.create_sync('fourth', 'after a third');
SELECT plan.fails($$SELECT plan.create_sync('n', 'after nobody')$$);
SELECT plan.fails($$SELECT plan.create_sync('n', 'after  first')$$);
SELECT plan.fails($$SELECT plan.create_sync('n', 'after n')$$);
SELECT plan.fails($$SELECT iterable_update_sync('first', schedule => 'after first')$$);
SELECT plan.fails($$SELECT iterable_update_sync('first', schedule => 'after second')$$);
SELECT plan.fails($$SELECT iterable_update_sync('first', schedule => 'after fourth')$$);
SELECT plan.fails($$SELECT iterable_update_sync('second', schedule => 'after fourth')$$);

SELECT iterable_rename_sync('a third', 'it''s third');
SELECT iterable_rename_sync('first', 'zeroth');
SELECT sync, schedule FROM iterable.sync_status WHERE source = 'plan.customer' ORDER BY sync;
SELECT plan.fails($$SELECT iterable_update_sync('zeroth', schedule => 'after it''s third')$$);
SELECT iterable_copy_sync('second', 'copy');
SELECT split_part(iterable_sync_sql('copy'), 'schedule => ', 2) ~ '^''after zeroth''';

SELECT plan.fails($$SELECT iterable_drop_sync('zeroth')$$);
SELECT plan.fails($$SELECT iterable_drop_sync('it''s third')$$);
SELECT iterable_drop_sync('fourth');
SELECT iterable_drop_sync('it''s third');
SELECT iterable_update_sync('second', schedule => 'manual');
SELECT plan.fails($$SELECT iterable_drop_sync('zeroth')$$);
SELECT iterable_drop_sync('copy');
SELECT iterable_drop_sync('zeroth');

-- Of a role whose privileges the sync's owner has
CREATE ROLE regress_iterable_upper;
CREATE ROLE regress_iterable_lower;
GRANT regress_iterable_lower TO regress_iterable_upper;
GRANT USAGE ON FOREIGN SERVER schedule TO regress_iterable_upper, regress_iterable_lower;
GRANT USAGE, CREATE ON SCHEMA plan TO regress_iterable_upper, regress_iterable_lower;
SET ROLE regress_iterable_lower;
CREATE TABLE plan.lower (id int PRIMARY KEY, email text);
SELECT iterable_create_sync('lower', 'schedule', 'plan.lower', 'user', 'id', 'email');
SELECT plan.fails($$SELECT iterable_update_sync('lower', schedule => 'after second')$$);
SET ROLE regress_iterable_upper;
CREATE TABLE plan.upper (id int PRIMARY KEY, email text);
SELECT iterable_create_sync('upper', 'schedule', 'plan.upper', 'user', 'id', 'email', schedule => 'after lower');
SET ROLE regress_iterable_lower;
SELECT plan.fails($$SELECT iterable_update_sync('lower', schedule => 'after upper')$$);
SELECT plan.fails($$SELECT iterable_drop_sync('lower')$$);
SELECT iterable_rename_sync('lower', 'lowest');
SET ROLE regress_iterable_upper;
SELECT sync, schedule FROM iterable.sync_status ORDER BY sync;
SELECT iterable_drop_sync('upper');
SELECT iterable_drop_sync('lowest');
RESET ROLE;

SET client_min_messages = warning;
SELECT iterable_drop_sync(sync) FROM iterable.sync_status WHERE source = 'plan.customer';
DROP SCHEMA plan CASCADE;
DROP SERVER schedule CASCADE;
DROP ROLE regress_iterable_upper, regress_iterable_lower;
