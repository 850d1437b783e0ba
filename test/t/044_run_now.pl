# Copyright (c) 2026, the iterable_sync developers

# CALL iterable_run_now(): everything works without shared_preload_libraries,
# if something calls it; and with them it and the worker keep out of each
# other's way.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use Time::HiRes qw(time);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster('plain', preload => 0,
	conf => "log_statement = 'none'\nlog_min_error_statement = panic\n");

create_connection($node, 'prod', $emulator,
	users_rate => 100, events_rate => 100);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Statements in one session that goes on after errors: results, and errors as
# sql_error() has them.
sub session
{
	my ($sql) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', $sql,
		on_error_stop => 0, extra_params => [ '--set', 'VERBOSITY=verbose' ]);
	my @errors = $stderr =~ /ERROR:\s+(\S+: .*)/g;

	return ($stdout, @errors);
}

sub accepted
{
	my ($sync) = @_;

	return sql("SELECT coalesce(string_agg(key, ' ' ORDER BY key::int), '') FROM iterable.delivery WHERE sync = '$sync'");
}

sub pending
{
	my ($sync) = @_;

	return sql("SELECT pending FROM iterable.sync_status WHERE sync = '$sync'");
}

# A CALL in a session of its own that is not waited for.
sub background_call
{
	my ($sync) = @_;
	my $call = { stdout => '', stderr => '' };

	$call->{handle} = IPC::Run::start(
		[
			'psql', '-XAtq', '-d', $node->connstr('postgres'),
			'-v', 'VERBOSITY=verbose', '-c', "CALL iterable_run_now('$sync')"
		],
		'<', \undef,
		'>', \$call->{stdout},
		'2>', \$call->{stderr},
		IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default));
	return $call;
}

sub finished
{
	my ($call) = @_;

	$call->{handle}->finish;
	return $call->{stderr} =~ /ERROR:\s+(\S+: .*)/ ? $1 : '';
}

sub create_sync
{
	my ($name, %options) = @_;
	my $schedule = $options{schedule} // 'continuous';
	my $connection = $options{connection} // 'prod';
	my $apply = $options{apply} // 'updates_only';

	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, n int);
		SELECT iterable_create_sync('$name', '$connection', '$name', 'user', 'id', 'email', schedule => '$schedule');
		SELECT iterable_add_mapping('$name', 'n', column_name => 'n');
		SELECT iterable_enable_sync('$name', '$apply');
	});
	return;
}

sub insert
{
	my ($name, @numbers) = @_;

	sql("INSERT INTO $name VALUES " . join(', ', map { "($_, '$name$_\@example.com', $_)" } @numbers));
	return;
}

#
# Without the library in shared_preload_libraries
#
is(sql('SHOW shared_preload_libraries'), '', 'the library is not preloaded');
sql(q{
	CREATE TABLE people (id int PRIMARY KEY, email text, name text);
	INSERT INTO people SELECT i, 'user' || i || '@example.com', 'User ' || i FROM generate_series(1, 2500) i;
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('people', 'name', column_name => 'name');
});
is( sql(q{SELECT payload FROM iterable_preview('people', 1)}),
	'{"email":"user1@example.com","dataFields":{"name":"User 1"}}',
	'the preview works');
like(sql_error($node, q{CALL iterable_run_now('people')}), qr/^55000: sync "people" is not enabled/,
	'a sync must be enabled');
sql(q{SELECT iterable_enable_sync('people', 'backfill')});
is( sql(q{SELECT * FROM iterable_wait('people')}),
	'f|0|there is no worker, because the library is not in shared_preload_libraries',
	'nobody sends by himself');
is(scalar($emulator->requests), 0, 'nothing is sent');
sql(q{CALL iterable_run_now('people')});
is($emulator->stats->{users}, 2500, 'a call sends everything');
is( sql(q{SELECT count(*), min(accepted), min(requests), min(vanished), count(finished_at) FROM iterable.run WHERE sync = 'people'}),
	'1|2500|3|0|1',
	'that was a run');
is(sql(q{SELECT * FROM iterable_wait('people')}), 't|0|', 'there is nothing to wait for');

sql(q{
	UPDATE people SET name = 'Changed' WHERE id <= 3;
	DELETE FROM people WHERE id = 2500;
	INSERT INTO people VALUES (2501, 'nowhere', 'Bad'), (2502, 'new@example.com', 'New');
});
is(pending('people'), '6', 'changes are captured');
sql(q{CALL iterable_run_now('people')});
is( sql(q{SELECT accepted, rejected, vanished FROM iterable.run WHERE sync = 'people' ORDER BY run_id DESC LIMIT 1}),
	'4|1|1',
	'the next call sends them');
is(pending('people'), '0', 'nothing is pending');
sql(q{CALL iterable_run_now('people')});
is(sql(q{SELECT count(*) FROM iterable.run WHERE sync = 'people'}), '2', 'a call that finds nothing is no run');
sql(q{
	UPDATE people SET email = 'good@example.com' WHERE id = 2501;
	CALL iterable_run_now('people');
});
is(sql(q{SELECT count(*) FROM iterable.failure}), '0', 'a failure is mended');

# Whatever the session has set
sql(q{
	SET default_transaction_isolation = 'serializable';
	SET default_transaction_read_only = on;
	SET search_path = pg_temp, public;
	SET synchronous_commit = off;
	SET DateStyle = 'German';
	SET extra_float_digits = 0;
	BEGIN READ WRITE;
	UPDATE people SET name = 'Odd' WHERE id = 4;
	COMMIT;
	CALL iterable_run_now('people');
});
is(pending('people'), '0', 'settings of the session are in no way');

# Called by others
create_sync('second', schedule => '1 hour');
insert('second', 1);
sql(q{
	UPDATE people SET name = 'Nested' WHERE id = 5;
	CREATE PROCEDURE all_syncs() LANGUAGE plpgsql AS $$
	BEGIN
		CALL iterable_run_now('people');
		CALL iterable_run_now('second');
	END $$;
	CALL all_syncs();
});
is(pending('people') . pending('second'), '00', 'a procedure may call it');
insert('second', 2);
sql(q{DO $$BEGIN CALL iterable_run_now('second'); END$$});
is(accepted('second'), '1 2', 'and so may DO; the schedule does not matter');

#
# Errors
#
like(sql_error($node, q{BEGIN; CALL iterable_run_now('people')}), qr/^2D000: /, 'not in a transaction block');
like(
	sql_error($node, q{
		CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$BEGIN CALL iterable_run_now('people'); END$$;
		SELECT f();}),
	qr/^2D000: /,
	'nor in a function');
like(sql_error($node, q{CALL iterable_run_now('nosuch')}), qr/^42704: /, 'not a sync that is not there');
like(sql_error($node, q{CALL iterable_run_now(NULL)}), qr/^22004: /, 'nor null');
sql(q{SELECT iterable_disable_sync('second')});
insert('second', 3);
like(sql_error($node, q{CALL iterable_run_now('second')}), qr/^55000: sync "second" is not enabled/, 'nor a disabled one');
sql(q{SELECT iterable_enable_sync('second'); CALL iterable_run_now('second')});
is(accepted('second'), '1 2 3', 'until it is enabled again');

# Two at once
$emulator->script({ action => 'hang' });
insert('second', 4);
my $call = background_call('second');
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'a session waits for an answer');
like(sql_error($node, q{CALL iterable_run_now('second')}), qr/^55006: sync "second" is being run already/,
	'another cannot run the same sync');
sql(q{UPDATE people SET name = 'Meanwhile' WHERE id = 6; CALL iterable_run_now('people')});
is(pending('people'), '0', 'but another one');
is( sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()}),
	'0',
	'nothing is open while the first waits');
$emulator->release;
is(finished($call), '', 'the first ends well');
is(accepted('second'), '1 2 3 4', 'with what it sent');

# Cancelled, and killed: what is pending goes with the next run.
$emulator->script({ action => 'apply_then_hang' });
my $since = ($emulator->requests)[-1]{n};
insert('second', 5);
my ($result, @errors) = session(q{
	SET statement_timeout = '2500ms';
	CALL iterable_run_now('second');
	RESET statement_timeout;
	SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';
	CALL iterable_run_now('second');
});
like("@errors", qr/^57014: \S+ [^:]*$/, 'a call can be cancelled');
is($result, '0', 'then the sync is free');
is(accepted('second'), '1 2 3 4 5', 'and can be run by the same session');
my @bodies = map { $_->{body} } $emulator->requests($since);
is(scalar(@bodies), 2, 'the request whose answer was not waited for was made again');
is($bodies[0], $bodies[1], 'byte by byte');

$emulator->script({ action => 'hang' });
insert('second', 6);
$call = background_call('second');
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'a session waits for an answer');
sql(q{SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE 'CALL %' AND pid <> pg_backend_pid()});
finished($call);
sql(q{CALL iterable_run_now('second')});
is(accepted('second'), '1 2 3 4 5 6', 'the work of a session that was terminated is taken over');

# Iterable is away
my $away = start_emulator();
create_connection($node, 'away', $away, users_rate => 100, request_timeout => '1s');
create_sync('away', connection => 'away');
insert('away', 1, 2);
$away->stop;
my $started = time();
like(sql_error($node, q{CALL iterable_run_now('away')}),
	qr/^08006: the run could not be completed\nDETAIL:  no answer: .+\nHINT:  What was accepted is recorded/,
	'a server that cannot be reached is an error');
cmp_ok(time() - $started, '>', 1.9, 'after some patience');
cmp_ok(time() - $started, '<', 15, 'but not for ever');
is(pending('away'), '2', 'the rows are pending');
is(sql(q{SELECT count(*) FROM iterable.failure}), '0', 'none of them has failed');
$away->start;
sql(q{CALL iterable_run_now('away')});
is(accepted('away'), '1 2', 'the next call sends them');

$away->config({ disabledKeys => [ $away->key ] });
insert('away', 3);
$started = time();
like(sql_error($node, q{CALL iterable_run_now('away')}),
	qr/^08006: the run could not be completed\nDETAIL:  connection "away" is stopped: Iterable answered with status 401/,
	'a key that is refused is an error');
cmp_ok(time() - $started, '<', 10, 'at once');
is( sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'away'}),
	'paused', 'the status says so');
is(pending('away'), '1', 'the row is pending');
$away->config({ apiKeys => ['canary-new'], disabledKeys => [] });
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER away OPTIONS (SET api_key 'canary-new')});
sql(q{CALL iterable_run_now('away')});
is(accepted('away'), '1 2 3', 'a new key sends it');
is( sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'away'}),
	'enabled', 'the status says so');

# An error of Iterable's with rows that have failed before is no trouble of the
# run, however long the pacer makes the rest wait.
create_connection($node, 'slow', $emulator, users_rate => 0.4, rate_group => 'slow', request_timeout => '1s');
create_sync('slow', connection => 'slow');
$emulator->script({ failRows => { emails => [ map { "slow$_\@example.com" } 1, 2 ], list => 'invalidDataEmails' } });
insert('slow', 1, 2);
sql(q{CALL iterable_run_now('slow')});
is(sql(q{SELECT count(*) FROM iterable.failure WHERE sync = 'slow'}), '2', 'two rows have failed');
$emulator->script({ status => 500, body => 'oops' });
sql(q{SELECT iterable_retry_failures('slow')});
is(sql_error($node, q{CALL iterable_run_now('slow')}), '', 'a run goes on after an error with rows that are tried again');
is(sql(q{SELECT count(*) FROM iterable.failure WHERE sync = 'slow'}), '0', 'and they are accepted');

#
# As somebody else
#
sql(q{
	CREATE ROLE app;
	CREATE ROLE stranger;
	GRANT USAGE ON FOREIGN SERVER prod TO app;
	CREATE TABLE app_people (id int PRIMARY KEY, email text, n int);
	ALTER TABLE app_people OWNER TO app;
	SET ROLE app;
	SELECT iterable_create_sync('app', 'prod', 'app_people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('app', 'n', column_name => 'n');
	SELECT iterable_enable_sync('app', 'updates_only');
	INSERT INTO app_people VALUES (1, 'app1@example.com', 1);
	CALL iterable_run_now('app');
});
is(accepted('app'), '1', 'an owner who is no superuser can call it');
like(sql_error($node, qq{SET ROLE stranger;\nCALL iterable_run_now('app')}), qr/^42704: /, 'a stranger cannot');
is( (session(q{
	INSERT INTO app_people VALUES (2, 'app2@example.com', 2);
	SET ROLE app;
	CALL iterable_run_now('app');
	SELECT current_user, current_setting('is_superuser');
	SELECT count(*) FROM iterable.sync_delivery;}))[1] // '',
	'42501: permission denied for table sync_delivery',
	'the session stays who it was');
is(accepted('app'), '1 2', 'also when it has become the owner only then');
sql(q{REVOKE USAGE ON FOREIGN SERVER prod FROM app; INSERT INTO app_people VALUES (3, 'app3@example.com', 3)});
like(sql_error($node, qq{SET ROLE app;\nCALL iterable_run_now('app')}), qr/^42501: /, 'without USAGE on the connection it cannot any more');
is(pending('app'), '1', 'the row is pending');
sql(q{GRANT USAGE ON FOREIGN SERVER prod TO app; SET ROLE app; CALL iterable_run_now('app')});
is(accepted('app'), '1 2 3', 'until it may again');
$node->stop;

#
# With the worker
#
$node = start_cluster('preloaded',
	conf => "log_statement = 'none'\nlog_min_error_statement = panic\niterable_sync.worker_idle_timeout = 1\n");
create_connection($node, 'prod', $emulator, users_rate => 100);
create_sync('worked');
insert('worked', 1);
synced($node, 'worked', 'the worker sends');
$emulator->script({ action => 'hang' });
insert('worked', 2);
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'it waits for an answer');
like(sql_error($node, q{CALL iterable_run_now('worked')}), qr/^55006: sync "worked" is being run already/,
	'the worker holds the sync');
$emulator->release;
synced($node, 'worked', 'and goes on');

create_sync('asked', schedule => 'manual');
insert('asked', 1);
$emulator->script({ action => 'hang' });
$call = background_call('asked');
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'a session waits for an answer');
insert('asked', 2);
sql(q{SELECT iterable_run('asked')});
$emulator->release;
synced($node, 'asked', 'what it does not send is sent by the worker');
is(finished($call), '', 'both end well');
is(accepted('asked'), '1 2', 'and everything is sent');
insert('asked', 3);
sql(q{CALL iterable_run_now('asked')});
is(accepted('asked'), '1 2 3', 'a sync that the worker does not hold can be called');

wait_until(sub { sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker' AND datname = 'postgres'}) eq '0' },
	'the worker goes');
sql(q{CALL iterable_run_now('worked')});
pass('then any sync can be called');

unlike(log_of($node), qr/PANIC|terminated by signal|TRAP/, 'nothing has crashed');
done_testing();
