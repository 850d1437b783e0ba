# Copyright (c) 2026, the iterable_sync developers

# A slow query on a source is broken off when nobody wants its result any more,
# and one that fails is tried again later and later.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use Time::HiRes qw(time);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster('main', conf => "max_worker_processes = 16\nautovacuum = off\n");
my $napping = q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'};

create_connection($node, 'prod', $emulator, users_rate => 200);

sub sql
{
	my ($sql, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres', $sql);
}

# A sync of a view that takes ten minutes to yield its only row, or less, and
# the query under way.
sub create_slow
{
	my ($name, $dbname) = @_;

	sql(qq{
		CREATE TABLE ${name}_nap (seconds float);
		INSERT INTO ${name}_nap VALUES (600);
		CREATE VIEW $name AS SELECT 1 AS id, '$name\@example.com' AS email, pg_sleep(seconds)::text AS nothing FROM ${name}_nap;
		SELECT iterable_create_sync('$name', 'prod', '$name', 'user', 'id', 'email', schedule => 'manual');
		SELECT iterable_enable_sync('$name', apply => 'backfill');
		SELECT iterable_run('$name')}, $dbname);
	return asleep(1, 'the view is being read');
}

sub asleep
{
	my ($n, $what, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until(sub { sql($napping) eq $n }, $what, $seconds);
}

create_slow('slow');
is(sql(q{SELECT iterable_cancel_backfill('slow')}), 't', 'a backfill is canceled');
asleep(0, 'its query ends', 2);
synced($node, 'slow', 'and the run');
is(sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'slow'}), 'enabled', 'which is no trouble');
unlike(log_of($node), qr/has failed/, 'nor told as one');

sql(q{SELECT iterable_run('slow')});
asleep(1, 'the next run reads it again');
is(sql(q{SELECT iterable_cancel_backfill('slow')}), 't', 'that is canceled, too');
asleep(0, 'and ends', 2);

# A cancel that is rolled back
sql(q{SELECT iterable_run('slow')});
asleep(1, 'the view is being read');
my $query = sql(q{SELECT xact_start FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
sql(q{BEGIN; SELECT iterable_cancel_backfill('slow'); ROLLBACK});
wait_until(sub { my $now = sql(q{SELECT xact_start FROM pg_stat_activity WHERE wait_event = 'PgSleep'}); $now ne '' && $now ne $query },
	'a cancel that is rolled back has it begin anew');

# Asked for anew
$query = sql(q{SELECT xact_start FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
sql(q{UPDATE slow_nap SET seconds = 0; SELECT iterable_backfill('slow'); SELECT iterable_backfill('slow')});
synced($node, 'slow', 'a backfill ends the query that is under way');
is($emulator->stats->{users}, 1, 'and reads the source as it is now');

# Dropped
create_slow('dropped');
my $start = time();
sql(q{SELECT iterable_drop_sync('dropped')});
asleep(0, 'the query of a sync that is dropped ends', 2);
cmp_ok(time() - $start, '<', 3, 'at once');

# The extension
sql('CREATE DATABASE other');
sql('CREATE EXTENSION iterable_sync', 'other');
create_connection($node, 'prod', $emulator, users_rate => 200, dbname => 'other');
create_slow('extension', 'other');
$start = time();
sql('DROP EXTENSION iterable_sync CASCADE', 'other');
cmp_ok(time() - $start, '<', 4, 'dropping the extension does not wait for the query');
asleep(0, 'which ends');

### Errors

sql(q{
	CREATE TABLE divided (id int PRIMARY KEY, email text, n int);
	INSERT INTO divided VALUES (1, 'divided@example.com', 0);
	CREATE VIEW division AS SELECT id, email, 10 / n AS quotient FROM divided;
	SELECT iterable_create_sync('division', 'prod', 'division', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('division', 'quotient', column_name => 'quotient');
	SELECT iterable_enable_sync('division', apply => 'backfill');
	SELECT iterable_run('division');
});
wait_until(sub { sql(q{SELECT state || ': ' || reason FROM iterable.sync_status WHERE sync = 'division' AND retry_at > now()}) eq 'failing: division by zero' },
	'a source that cannot be read is tried again later');
my @pauses;

# How long it is put off after so many errors.
sub pause
{
	return sql(qq{SELECT EXTRACT(epoch FROM a.retry_at - s.last_error_at) FROM iterable.sync_scan a JOIN iterable.sync_state s USING (sync_id) WHERE errors = $_[0]});
}
foreach my $time (1 .. 3)
{
	push @pauses, pause($time);
	sql(q{SELECT iterable_run('division')});
	wait_until(sub { sql(q{SELECT errors FROM iterable.sync_scan}) > $time }, 'iterable_run() does not wait for that', 2);
}
push @pauses, pause(4);
foreach my $i (0 .. 3)
{
	my $longest = 4 * 2**$i;

	cmp_ok($pauses[$i], '>', $longest / 2 - 0.1, "after error $i it is put off for longer");
	cmp_ok($pauses[$i], '<', $longest + 1, "but not for long");
}
sql(q{UPDATE iterable.sync_scan SET errors = 100, retry_at = now(); SELECT iterable_run('division')});
wait_until(sub { sql(q{SELECT EXTRACT(epoch FROM retry_at - now()) BETWEEN 145 AND 300 FROM iterable.sync_scan WHERE errors = 101}) eq 't' },
	'at last every five minutes');
sql(q{UPDATE divided SET n = 5; SELECT iterable_run('division')});
synced($node, 'division', 'mended, it goes on');
is(sql(q{SELECT state, retry_at FROM iterable.sync_status WHERE sync = 'division'}), 'enabled|', 'the status says so');

unlike(log_of($node), qr/PANIC|terminated by signal 1[01]|TRAP|deadlock/, 'nothing has crashed');
$node->stop;

### In the caller's session

$node = start_cluster('plain', preload => 0);
create_connection($node, 'prod', $emulator, users_rate => 200);
sql(q{
	CREATE VIEW napping AS SELECT 1 AS id, 'nap@example.com' AS email, pg_sleep(600)::text AS nothing;
	SELECT iterable_create_sync('napping', 'prod', 'napping', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_enable_sync('napping', apply => 'backfill')});
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_until(qr/calling/, "\\echo calling\nCALL iterable_run_now('napping');\n\\echo called\n");
asleep(1, 'iterable_run_now() reads the view');
is(sql(q{SELECT iterable_cancel_backfill('napping')}), 't', 'the backfill is canceled by somebody else');
asleep(0, 'the query ends', 2);
wait_until(sub { sql(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL iterable_run_now%' AND state = 'active'}) eq '0' }, 'and the call');
is($session->{stderr}, '', 'without an error');
$session->quit;

done_testing();
