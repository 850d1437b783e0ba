# Copyright (c) 2026, the iterable_sync developers

# Several databases: they share the limits of one project, and come and go, as
# the extension and the workers do, while requests are under way.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use JSON::PP ();
use List::Util qw(min);
use Time::HiRes qw(time usleep);

my $users_path = '/api/users/bulkUpdate';
my $events_path = '/api/events/trackBulk';

sub create_syncs
{
	my ($node, $dbname, $emulator, %options) = @_;

	create_connection($node, 'prod', $emulator, dbname => $dbname, %options);
	$node->safe_psql($dbname, q{
		CREATE TABLE IF NOT EXISTS people (id int PRIMARY KEY, email text, n int NOT NULL DEFAULT 0);
		CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, email text);
		SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
		SELECT iterable_add_mapping('people', 'n', column_name => 'n');
		SELECT iterable_create_sync('orders', 'prod', 'orders', 'event', 'id', 'email');
		SELECT iterable_add_mapping('orders', 'eventName', constant => 'Order placed');
		SELECT iterable_enable_sync('people', 'updates_only');
		SELECT iterable_enable_sync('orders', 'updates_only');
	});
	return;
}

### Idle workers, in the background: a commit while the worker is going

my $idle_emulator = start_emulator(usersRate => 0);
my $idle = start_cluster('idle', conf => q{
log_statement = none
iterable_sync.worker_idle_timeout = 1
iterable_sync.rescan_interval = 3600
});
create_syncs($idle, 'postgres', $idle_emulator, users_rate => 1000);
$idle->safe_psql('postgres', q{
	CREATE PROCEDURE race(rounds int) LANGUAGE plpgsql AS $$
	DECLARE
		started timestamptz;
		linger interval;
	BEGIN
		FOR i IN 1..rounds LOOP
			INSERT INTO people VALUES (i, 'p' || i || '@example.com');
			started := clock_timestamp();
			COMMIT;
			WHILE NOT EXISTS (SELECT FROM iterable.delivery WHERE key = i::text) LOOP
				IF clock_timestamp() > started + interval '15 s' THEN
					RAISE EXCEPTION 'commit % was not noticed', i;
				END IF;
				PERFORM pg_sleep(0.002);
			END LOOP;
			IF linger IS NULL THEN
				LOOP
					PERFORM pg_stat_clear_snapshot();
					EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity
						WHERE backend_type = 'iterable_sync worker');
					PERFORM pg_sleep(0.001);
				END LOOP;
				linger := clock_timestamp() - started;
			ELSE
				started := started + linger + (random() - 0.7) * interval '20 ms';
				PERFORM pg_sleep(greatest(0, extract(epoch FROM started - clock_timestamp())));
			END IF;
		END LOOP;
	END $$;
});
my $race = $idle->background_psql('postgres');
$race->query_until(qr/started/, "\\echo started\nCALL race(16);\n");

### Limits of a project are shared, whatever happens

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, recordBodies => JSON::PP::false);
my $node = start_cluster('main', conf => q{
log_statement = none
restart_after_crash = on
autovacuum = off
});
$emulator->seed({ pgbench => { from => 1, to => 100, emailFormat => 'user%d@example.com' } });
foreach my $dbname ('a', 'b')
{
	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	$node->safe_psql($dbname, 'CREATE EXTENSION iterable_sync');
	create_syncs($node, $dbname, $emulator);
}

sub worker_of
{
	my ($dbname) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'iterable_sync worker' AND datname = '$dbname'});
}

sub arrives
{
	my ($dbname, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is(
		$node->safe_psql($dbname,
			q{SELECT * FROM iterable_wait('people'); SELECT * FROM iterable_wait('orders')}),
		"t|0|\nt|0|", $what);
}

# Seconds that each n requests in a row took, from the first to the one behind
# the last.
sub stretches
{
	my ($path, $n) = @_;
	my @at = map { $_->{at} } grep { $_->{path} eq $path } $emulator->requests;

	return map { $at[$_] - $at[ $_ - $n ] } $n .. $#at;
}

foreach my $dbname ('a', 'b')
{
	$node->safe_psql($dbname, qq{
		INSERT INTO people SELECT i, '$dbname' || i || '\@example.com' FROM generate_series(1, 22000) i;
		INSERT INTO orders SELECT i, 'user' || i % 100 + 1 || '\@example.com' FROM generate_series(1, 42000) i;
	});
}
wait_until(
	sub {
		my $requests = $emulator->stats->{requests};
		return ($requests->{$users_path}{count} // 0) > 32
		  && ($requests->{$events_path}{count} // 0) > 62;
	},
	'two databases send');
my $worker = worker_of('a');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker, 5000)");
$worker = worker_of('b');
my $log_offset = -s $node->logfile;
kill('KILL', $worker);
$node->wait_for_log(qr/database system is ready to accept connections/, $log_offset);
arrives('a', 'after the end of a worker and a crash everything of one database arrives');
arrives('b', 'and of the other');
my $stats = $emulator->stats;
is($stats->{users}, 44_100, 'Iterable has all users');
is($stats->{events}, 84_000, 'and all events');
is(join(' ', keys %{ $stats->{requests}{$users_path}{status} }, keys %{ $stats->{requests}{$events_path}{status} }),
	'200 200', 'every request was answered');

# Arrivals of what left in time may come a little closer when the processors
# are busy.
note("most in a second: $stats->{maxPerSecond}{'users/bulkUpdate'} and $stats->{maxPerSecond}{'events/trackBulk'}");
cmp_ok(min(stretches($users_path, 5)), '>', 0.96,
	'never more than five requests of users in a second, over the end of a worker and of the server');
cmp_ok(min(stretches($events_path, 10)), '>', 0.96, 'and never more than ten of events');
cmp_ok(min(stretches($users_path, 25)), '<=', 5 / 0.95, 'at least 95 % of the limit of users is used');
cmp_ok(min(stretches($events_path, 50)), '<=', 5 / 0.95, 'and of the limit of events');

### Copies

$node->safe_psql('postgres', q{
	CREATE DATABASE copy TEMPLATE a;
	ALTER DATABASE b RENAME TO c;
});
$node->safe_psql('copy', q{UPDATE people SET n = 1 WHERE id <= 10});
is($node->safe_psql('copy', q{SELECT * FROM iterable_wait('people')}),
	'f|0|the sync was enabled on another server or in another database',
	'iterable_wait() says why a copy sends nothing');
is($node->safe_psql('copy', q{SELECT sync, state, reason, pending, what_to_do FROM iterable.sync_status WHERE sync = 'people'}),
	q{people|paused|it was enabled on another server or in another database|10|}
	  . q{Call iterable_adopt() if this database shall send from now on.},
	'so does the view');
$node->safe_psql('a', q{UPDATE people SET n = 2 WHERE id <= 10});
$node->safe_psql('c', q{UPDATE people SET n = 3 WHERE id <= 10});
arrives('a', 'the original goes on');
arrives('c', 'a renamed database goes on');
usleep(1_000_000);
is(join(' ', map { $_->{dataFields}{n} } grep { $_->{email} =~ /^[ab]10\@/ } sort { $a->{email} cmp $b->{email} } $emulator->users),
	'2 3', 'what they have is at Iterable');
my @requests = $emulator->requests;
$node->safe_psql('copy', q{SELECT iterable_enable_sync('people', 'updates_only')});
$node->safe_psql('copy', q{UPDATE people SET n = 4 WHERE id = 11});
is($node->safe_psql('copy', q{SELECT * FROM iterable_wait('people')}), 't|0|', 'a copy that is told to sends');
is(join(' ', map { $_->{rows} } $emulator->requests($requests[-1]{n})), '1', 'what was changed since');

### DROP DATABASE with a request under way

sub hangs
{
	my ($dbname, $path, $sql) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$emulator->script({ path => $path, action => 'hang' });
	$node->safe_psql($dbname, $sql);
	return wait_until(sub { $emulator->stats->{inFlight} == 1 }, "a request of $dbname hangs");
}

hangs('copy', $users_path, q{UPDATE people SET n = 5 WHERE id = 12});
my $started = time();
$node->safe_psql('postgres', 'DROP DATABASE copy');
cmp_ok(time() - $started, '<', 3, 'DROP DATABASE does not wait for it');
wait_until(sub { $emulator->stats->{inFlight} == 0 }, 'the request is gone');

### DROP EXTENSION with a request under way

hangs('c', $users_path, q{UPDATE people SET n = 6 WHERE id = 12});
$log_offset = -s $node->logfile;
$started = time();
$node->safe_psql('c', 'DROP EXTENSION iterable_sync CASCADE');
cmp_ok(time() - $started, '<', 3, 'DROP EXTENSION does not wait for it');
$node->safe_psql('c', q{UPDATE people SET n = 7 WHERE id = 12});
$emulator->release;
wait_until(sub { worker_of('c') eq '' }, 'the worker goes');
usleep(2_500_000);
is(worker_of('c'), '', 'and stays away');
my @complaints = grep { /(ERROR|FATAL|WARNING|PANIC):/ } split /\n/, slurp_file($node->logfile, $log_offset);
cmp_ok(scalar(@complaints), '<=', 2, 'the log has hardly anything to say about it');
note(@complaints);

# What the old worker still had under way is nobody's in the new extension,
# although the numbers of its syncs are the same.
$node->safe_psql('c', 'CREATE EXTENSION iterable_sync');
create_syncs($node, 'c', $emulator);
hangs('c', $users_path, q{INSERT INTO people VALUES (50001, 'old@example.com', 8)});
$node->safe_psql('c', 'DROP EXTENSION iterable_sync CASCADE; CREATE EXTENSION iterable_sync');
create_syncs($node, 'c', $emulator);
$node->safe_psql('c', q{INSERT INTO people VALUES (50002, 'new@example.com', 9)});
$emulator->release;
arrives('c', 'the extension can be created again');
is($node->safe_psql('c', q{SELECT key FROM iterable.delivery WHERE sync = 'people' AND state = 'accepted' ORDER BY 1}),
	'50002', 'and knows nothing of what was under way before');
is(join(' ', grep { /^(old|new)/ } map { $_->{email} } $emulator->users), 'new@example.com',
	'which is not sent any more either');

### CREATE EXTENSION in the template of new databases

$node->safe_psql('template1', 'CREATE EXTENSION iterable_sync');
$started = time();
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
cmp_ok(time() - $started, '<', 3, 'CREATE DATABASE is not held up by the extension in template1');
create_syncs($node, 'fresh', $emulator);
$node->safe_psql('fresh', q{INSERT INTO people VALUES (1, 'fresh@example.com')});
arrives('fresh', 'the new database has the extension, and it works');
is(worker_of('template1'), '', 'the template has no worker');

### The race of the beginning

my ($out, $failed) = $race->query('SELECT count(*) FROM people');
is($out, '16', '16 commits at the very time at which the worker goes are noticed');
is($idle_emulator->stats->{users}, 16, 'and sent');
eval { $race->quit };

done_testing();
