# Copyright (c) 2026, the iterable_sync developers

# Workers come when there is something to do, go when there is not, and are
# never in the way.  Nothing is sent here: the syncs are disabled, so that a
# captured change wakes the worker and gives it nothing to do.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use Time::HiRes qw(time usleep);

my $node = start_cluster(
	'launcher',
	extension => 0,
	conf => q{
restart_after_crash = on
max_prepared_transactions = 5
log_min_messages = debug1
iterable_sync.worker_idle_timeout = 2
iterable_sync.rescan_interval = 3600
});

# A database in which INSERT INTO t is captured.
sub create_captured
{
	my ($dbname) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	$node->safe_psql($dbname, q{
		CREATE EXTENSION iterable_sync;
		CREATE TABLE t (id int PRIMARY KEY, email text);
		SELECT iterable_create_connection('nowhere', 'us', 'email',
			api_key => 'canary', base_url => 'http://127.0.0.1:1');
		SELECT iterable_create_sync('idle', 'nowhere', 't', 'user', 'id', 'email');
		SELECT iterable_enable_sync('idle', 'updates_only');
		SELECT iterable_disable_sync('idle');
	});
	return;
}

sub capture
{
	my ($dbname) = @_;

	$node->safe_psql($dbname,
		'INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t');
	return;
}

sub worker_of
{
	my ($dbname) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'iterable_sync worker' AND datname = '$dbname'});
}

sub launcher
{
	return $node->safe_psql('postgres', q{
		SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'iterable_sync launcher' AND datname IS NULL});
}

sub comes
{
	my ($dbname, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until(sub { worker_of($dbname) ne '' }, $what, 15);
}

sub goes
{
	my ($dbname, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until(sub { worker_of($dbname) eq '' }, $what, 15);
}

# Have a worker that has its whole idle time before it.
sub bring_worker
{
	my ($dbname, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$node->poll_query_until('postgres', qq{
		SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'iterable_sync worker' AND datname = '$dbname'})
	  or die "the worker of $dbname does not go";
	capture($dbname);
	return comes($dbname, $what // 'there is a worker');
}

# Run a statement with a worker in the database that it wants for itself.
sub with_worker
{
	my ($dbname, $sql) = @_;
	my $started;
	my $took;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	bring_worker($dbname, "$sql: there is a worker");
	$started = time();
	$node->safe_psql('postgres', $sql);
	$took = time() - $started;
	cmp_ok($took, '<', 4, "$sql: does not wait for it");
	return;
}

# What the log says from now on.
my $log_offset = 0;

sub skip_log
{
	$log_offset = -s $node->logfile;
	return;
}

sub logged
{
	my ($regexp) = @_;

	return slurp_file($node->logfile, $log_offset) =~ $regexp;
}

sub oid_of
{
	my ($dbname) = @_;

	return $node->safe_psql('postgres',
		"SELECT oid FROM pg_database WHERE datname = '$dbname'");
}

sub looked_at
{
	my ($dbname) = @_;
	my $oid = oid_of($dbname);

	return logged(
		qr/starting background worker process "iterable_sync worker for database $oid"/
	);
}

### Coming and going

wait_until(sub { launcher() ne '' }, 'the launcher runs, in no database');
create_captured('one');
create_captured('two');
goes('one', 'a worker that has nothing to do goes');
goes('two', 'so does another');

capture('one');
comes('one', 'a commit brings the worker');
is(worker_of('two'), '', 'and none to another database');
capture('two');
comes('two', 'two databases have a worker each');
goes('one', 'they go again');
capture('one');
comes('one', 'and come again');
goes('one', 'and go again');

$node->safe_psql('one', 'BEGIN; INSERT INTO t VALUES (-1); ROLLBACK');
usleep(300_000);
is(worker_of('one'), '', 'a rollback brings no worker');

$node->safe_psql('one', q{
	BEGIN;
	INSERT INTO t VALUES (-1);
	PREPARE TRANSACTION 'prepared';
});
goes('one', 'nothing to see in a prepared transaction');
$node->safe_psql('one', q{COMMIT PREPARED 'prepared'});
comes('one', 'COMMIT PREPARED brings the worker');

$node->safe_psql('postgres', q{
	BEGIN;
	SELECT txid_current();
	PREPARE TRANSACTION 'prepared';
});
skip_log();
$node->safe_psql('postgres', q{COMMIT PREPARED 'prepared'});
usleep(300_000);
ok(!looked_at('postgres'), 'but not where the extension is not installed');

# Commit when the worker has made up its mind to go: it wants to write down that
# it does, and waits for a lock of the very transaction that gives it something
# to do.  It must stay, or another must come.
$node->safe_psql('one', q{
	CREATE TABLE empty (id int PRIMARY KEY, email text);
	SELECT iterable_create_sync('asked', 'nowhere', 'empty', 'user', 'id', 'email',
		schedule => 'manual');
	SELECT iterable_enable_sync('asked', 'updates_only');

	CREATE FUNCTION worker_waits() RETURNS boolean
	LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_stat_clear_snapshot();
		PERFORM FROM pg_stat_activity
		WHERE backend_type = 'iterable_sync worker'
			AND datname = current_database() AND wait_event_type = 'Lock';
		RETURN FOUND;
	END $$;

	CREATE PROCEDURE wait_for_run() LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1..5000 LOOP
			PERFORM FROM iterable.sync_state WHERE run_requested;
			IF NOT FOUND THEN
				RETURN;
			END IF;
			COMMIT;
			PERFORM pg_sleep(0.001);
		END LOOP;
		RAISE EXCEPTION 'the wake-up was lost';
	END $$;

	CREATE PROCEDURE wake_too_late() LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM iterable_run('asked');
		COMMIT;
		CALL wait_for_run();
		LOCK TABLE iterable.sync_state;
		FOR i IN 1..10000 LOOP
			EXIT WHEN worker_waits();
			PERFORM pg_sleep(0.001);
		END LOOP;
		IF NOT worker_waits() THEN
			RAISE EXCEPTION 'the worker does not go';
		END IF;
		PERFORM iterable_run('asked');
		COMMIT;
		CALL wait_for_run();
	END $$;
});
is(sql_error($node, 'CALL wake_too_late()', 'one'),
	'', 'a wake-up is not lost when the worker goes');
is(sql_error($node, 'CALL wake_too_late()', 'one'), '', 'nor is another');

### Statements that want a database for themselves

with_worker('two', 'CREATE DATABASE copy TEMPLATE two');
comes('two', 'the worker comes back to the template');
goes('two', 'and goes when it has nothing to do');
with_worker('copy', 'ALTER DATABASE copy RENAME TO renamed');
comes('renamed', 'the worker comes back to the renamed database');
my $tablespace = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$tablespace'");
with_worker('renamed', 'ALTER DATABASE renamed SET TABLESPACE elsewhere');
comes('renamed', 'the worker comes back to the moved database');
skip_log();
with_worker('renamed', 'DROP DATABASE renamed');
with_worker('two', 'CREATE DATABASE copy');
capture('two');
with_worker('one', 'DROP DATABASE copy');
usleep(500_000);
ok(!logged(qr/FATAL/), 'no worker was sent to a database that is gone');

# Not before a transaction block has ended.
bring_worker('two');
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe('ALTER DATABASE two RENAME TO three');
skip_log();
bring_worker('one', 'meanwhile a worker comes to another database');
ok(!looked_at('two'), 'but none to this one before the transaction ends');
$session->query_safe('ROLLBACK');
comes('two', 'and comes back then');
$session->query_safe('BEGIN');
$session->query_safe('ALTER DATABASE two RENAME TO three');
my $holder = $session->query_safe('SELECT pg_backend_pid()');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($holder, 5000)");
comes('two', 'and when the session that held it off has died');
eval { $session->quit };

$node->safe_psql('postgres', 'CREATE ROLE stranger');
bring_worker('two');
my $worker = worker_of('two');
like(
	sql_error($node, "SET ROLE stranger;\nDROP DATABASE two"),
	qr/^42501/, 'a stranger cannot drop the database');
like(
	sql_error($node, "SET ROLE stranger;\nCREATE DATABASE copy TEMPLATE two"),
	qr/^42501/, 'nor copy it');
is(worker_of('two'), $worker, 'nor make its worker go');

### Processes that die

my $launcher = launcher();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher, 5000)");
goes('two', 'workers go while there is no launcher');
capture('two');
is(launcher(), '', 'there is no launcher');
wait_until(sub { launcher() ne '' && launcher() ne $launcher },
	'the launcher comes back');
comes('two', 'and knows what was committed meanwhile');

$worker = worker_of('two');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker, 5000)");
comes('two', 'a worker that was terminated comes back');
isnt(worker_of('two'), $worker, 'as another process');

bring_worker('one');
skip_log();
kill('KILL', worker_of('one'));
wait_until(sub { logged(qr/database system is ready to accept connections/) },
	'the server starts over when a worker is killed');
wait_until(sub { looked_at('one') && looked_at('two') },
	'every database is looked at then');
capture('one');
comes('one', 'a commit brings a worker again');

### Rescan

skip_log();
$node->safe_psql('postgres', 'CREATE DATABASE closed ALLOW_CONNECTIONS false');
$node->append_conf('postgresql.conf', 'iterable_sync.rescan_interval = 1');
$node->reload;
wait_until(
	sub { looked_at('one') && looked_at('two') && looked_at('postgres') },
	'the rescan looks at every database');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE two');
wait_until(sub { looked_at('copy') }, 'and at one that is new');
ok(!looked_at('template1') && !looked_at('template0') && !looked_at('closed'),
	'but not at templates and what takes no connections');
$node->safe_psql('postgres', 'DROP DATABASE copy');

### Limits

# The launchers of logical replication and of ours, and two more.
$node->append_conf('postgresql.conf', q{
max_worker_processes = 4
iterable_sync.rescan_interval = 3600
iterable_sync.worker_idle_timeout = 5
});
$node->safe_psql('postgres', 'CREATE DATABASE three TEMPLATE two');
skip_log();
$node->restart;
$node->poll_query_until('postgres', q{
	SELECT count(*) = 0 FROM pg_stat_activity
	WHERE backend_type = 'iterable_sync worker'});

# Processes of others come and go, and nobody tells the launcher.
my $busy = $node->background_psql('postgres');
$busy->query_safe(q{
	CREATE TABLE many WITH (parallel_workers = 2)
		AS SELECT FROM generate_series(1, 10000)});
$busy->query_safe($_)
  foreach ('SET parallel_setup_cost = 0', 'SET min_parallel_table_scan_size = 0');
$busy->query_until(qr/started/, q{
	\echo started
	SELECT count(pg_sleep(0.0008)) FROM many;
});
$node->poll_query_until('postgres', q{
	SELECT count(*) = 2 FROM pg_stat_activity
	WHERE backend_type = 'parallel worker'});
capture('one');
wait_until(
	sub { logged(qr/could not start an iterable_sync worker for database \d+\n.*All 4 background worker processes/) },
	'the log says when no process is left');
is(worker_of('one'), '', 'there is no worker then');
comes('one', 'it comes when others have gone');
$busy->quit;

capture('one');
capture('two');
comes('one', 'one worker');
comes('two', 'two workers');
capture('three');
usleep(500_000);
is(worker_of('three'), '', 'there is no third worker');
usleep(2_500_000);
capture('three');
comes('three', 'it comes when another has gone');
my $complaints = () =
  slurp_file($node->logfile, $log_offset) =~
  /WARNING:.*could not start an iterable_sync worker/g;
is($complaints, 1, 'the log complained once');

$node->append_conf('postgresql.conf', q{
max_worker_processes = 8
iterable_sync.max_databases = 1
iterable_sync.rescan_interval = 1
iterable_sync.worker_idle_timeout = 1
});
$node->restart;
foreach my $dbname (qw(one two three))
{
	skip_log();
	capture($dbname);
	wait_until(sub { looked_at($dbname) },
		"with one slot, database $dbname has its turn");
}

### Stop

$node->append_conf('postgresql.conf', 'iterable_sync.max_databases = 64');
$node->restart;
bring_worker('one');
my $started = time();
$node->stop('fast');
cmp_ok(time() - $started, '<', 3, 'a fast stop is fast with a worker running');

$node->start;
capture('one');
comes('one', 'there is a worker after a start');
$started = time();
$node->stop('immediate');
cmp_ok(time() - $started, '<', 3, 'so is an immediate stop');

done_testing();
