# Copyright (c) 2026, the iterable_sync developers

# Syncs that run at the times of a cron line, and syncs that run after others.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use Time::HiRes qw(time sleep);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);

# Nothing but commits and schedules may bring a worker, and it goes soon.
my $node = start_cluster('main', conf => q{
log_statement = 'none'
log_min_error_statement = panic
iterable_sync.rescan_interval = 3600
iterable_sync.worker_idle_timeout = 1
});

create_connection($node, 'prod', $emulator,
	users_rate => 100, events_rate => 100);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub create_sync
{
	my ($name, $schedule, $dbname) = @_;

	$node->safe_psql($dbname // 'postgres', qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text);
		SELECT iterable_create_sync('$name', 'prod', '$name', 'user', 'id', 'email', schedule => '$schedule');
		SELECT iterable_enable_sync('$name', 'updates_only');
	});
	return;
}

sub insert
{
	my ($name, @numbers) = @_;

	sql("INSERT INTO $name VALUES "
		  . join(', ', map { "($_, '$name$_\@example.com')" } @numbers));
	return;
}

# Numbers of the rows of a table that have arrived.
sub arrived
{
	my ($name) = @_;

	return join(' ',
		sort { $a <=> $b }
		  map { $_->{email} =~ /^$name(\d+)@/ ? $1 : () } $emulator->users);
}

sub arrives
{
	my ($name, $numbers, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until(sub { arrived($name) eq $numbers }, $what, 60)
	  || diag(arrived($name), sql('SELECT sync, schedule, state, reason, pending, last_run_at, next_run_at, last_error FROM iterable.sync_status'));
}

# Tables whose rows are in requests, in the order in which these came.
sub order_of_requests
{
	return join(' ', map { $_->{body} =~ /"([a-z]+)\d+@/ ? $1 : () } $emulator->requests);
}

sub runs
{
	my ($name) = @_;

	return sql("SELECT count(*), count(finished_at), sum(accepted) FROM iterable.run WHERE sync = '$name'");
}

sub worker
{
	return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker' AND datname = 'postgres'});
}

sub set_back
{
	my ($name, $interval) = @_;

	sql(qq{
		UPDATE iterable.sync_state t SET last_run_at = now() - interval '$interval'
		FROM iterable.sync s WHERE s.sync_id = t.sync_id AND s.name = '$name'});
	return;
}

# Not a time that comes while the test runs
my $far = ((gmtime(time() + 12 * 3600))[2]);

#
# After a continuous sync whose worker does not go, since another one runs
# every second; this takes a minute, and goes on in a database of its own while
# we look at others and the server is restarted
#
sql('CREATE DATABASE busy');
$node->safe_psql('busy', 'CREATE EXTENSION iterable_sync');
create_connection($node, 'prod', $emulator, dbname => 'busy');
create_sync('keeper', '1 second', 'busy');
create_sync('busy', 'continuous', 'busy');
create_sync('patient', 'after busy', 'busy');
$node->safe_psql('busy', q{
	INSERT INTO patient VALUES (1, 'patient1@example.com');
	INSERT INTO busy VALUES (1, 'busy1@example.com')});
arrives('busy', '1', 'after a busy one: that goes at once');

#
# After others
#
create_sync('first', 'manual');
create_sync('second', 'after first');
create_sync('third', 'after second');
insert('third', 1);
insert('second', 1);
insert('first', 1);
is(sql(q{SELECT * FROM iterable_wait('second', '1 s')}), 'f|0|timeout',
	'after: what has never run is waited for');
is(arrived('second') . arrived('third'), '', 'after: nothing goes before');
sql(q{SELECT iterable_run('first')});
arrives('third', '1', 'after: the last of a chain goes');
is(order_of_requests(), 'busy first second third', 'after: one after the other');
is(runs('second'), '1|1|1', 'after: with a run each');

# A run with nothing to do is one, too.
insert('third', 2);
sql(q{SELECT iterable_run('first')});
arrives('third', '1 2', 'after: also if those before have nothing to do');
is(runs('second'), '1|1|1', 'after: which leaves no run');

insert('second', 3);
sql(q{CALL iterable_run_now('first')});
arrives('second', '1 3', 'after: a run in a session is one, too');

# What was finished before it was enabled does not count.
create_sync('late', 'after first');
insert('late', 1);
insert('second', 4);
sleep(2);
is(arrived('late'), '', 'after: not for a run of before');
is(arrived('second'), '1 3', 'after: nor twice for one');
sql(q{SELECT iterable_rename_sync('first', 'primus'); SELECT iterable_run('primus')});
arrives('late', '1', 'after: but for the next, whatever the name is');
arrives('second', '1 3 4', 'after: all that are after it go');

# What has finished is remembered.
sql(q{SELECT iterable_disable_sync('second')});
insert('second', 5);
sql(q{SELECT iterable_run('primus')});
synced($node, 'primus');
wait_until(sub { worker() eq '' }, 'after: the worker goes');
sql(q{
	UPDATE iterable.sync SET enabled = true WHERE name = 'second'});
$node->restart;
arrives('second', '1 3 4 5', 'after: what was missed comes at the next start');

# A continuous sync ends its run when the worker goes, or after a minute.
create_sync('always', 'continuous');
create_sync('follower', 'after always');
insert('follower', 1);
insert('always', 1);
arrives('always', '1', 'after a continuous one: it goes at once');
arrives('follower', '1', 'after a continuous one: when its run ends');
is(sql(q{
	SELECT a.finished_at <= f.started_at FROM iterable.run a, iterable.run f
	WHERE a.sync = 'always' AND f.sync = 'follower'}),
	't', 'after a continuous one: not before');

#
# Missed times
#
create_sync('nightly', "7 $far * * *");
insert('nightly', 1);
is( sql(q{SELECT to_char(next_run_at AT TIME ZONE 'UTC', 'FMHH24:MI'), next_run_at > now() FROM iterable.sync_status WHERE sync = 'nightly'}),
	"$far:07|t", 'cron: the next time is told');
sleep(1);
is(arrived('nightly'), '', 'cron: being enabled is no reason to run');
wait_until(sub { worker() eq '' }, 'cron: the worker goes');
set_back('nightly', '3 days');
$node->restart;
arrives('nightly', '1', 'cron: what was missed comes at the next start');
wait_until(sub { runs('nightly') eq '1|1|1' }, 'cron: once');
is(sql(q{SELECT next_run_at > now() FROM iterable.sync_status WHERE sync = 'nightly'}), 't',
	'cron: then the next is the next');
insert('nightly', 2);
sleep(2);
is(arrived('nightly'), '1', 'cron: which it waits for');

# A run that could not begin is still due.
wait_until(sub { worker() eq '' }, 'cron: the worker goes again');
set_back('nightly', '1 day');
sql(q{ALTER TABLE nightly RENAME TO elsewhere});
$node->restart;
wait_until(sub { sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'nightly'}) eq 'paused' },
	'cron: a run fails before it has begun');
sql(q{ALTER TABLE elsewhere RENAME TO nightly; SELECT iterable_enable_sync('nightly')});
arrives('nightly', '1 2', 'cron: when that is mended it does not wait for the next time');
is(sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'nightly'}), 'enabled', 'cron: all is well then');

# Time zones may go with an upgrade.
wait_until(sub { worker() eq '' }, 'cron: the worker goes once more');
insert('nightly', 3);
sql(q{UPDATE iterable.sync SET time_zone = 'Europe/Nowhere' WHERE name = 'nightly'});
$node->restart;
wait_until(sub { sql(q{SELECT reason FROM iterable.sync_status WHERE sync = 'nightly'}) =~ /^time zone "Europe\/Nowhere" not recognized/ },
	'cron: a time zone that has gone pauses the sync');
is(arrived('nightly'), '1 2', 'cron: it does not run at any time');
sql(q{SELECT iterable_update_sync('nightly', time_zone => 'Europe/Berlin')});
sql(q{SELECT iterable_run('nightly')});
arrives('nightly', '1 2 3', 'cron: another one lets it go on');

#
# On the minute; the worker is not there before
#
create_sync('minutely', '* * * * *');
insert('minutely', 1);
wait_until(sub { worker() eq '' || time() - 60 * int(time() / 60) > 57 }, 'every minute: the worker goes in between');
is(arrived('minutely'), '', 'every minute: not at once')
  or diag('at ' . time());
arrives('minutely', '1', 'every minute: then it comes');
my $late = sql(q{SELECT extract(second FROM started_at) FROM iterable.run WHERE sync = 'minutely'});
cmp_ok($late, '<', 2, 'every minute: on time');
note("late by $late s");

#
# What has begun at the top
#
arrives('patient', '1', 'after a busy one: when its run ends');
is( $node->safe_psql('busy', q{
	SELECT b.finished_at - b.started_at > '59 s', p.started_at >= b.finished_at, p.started_at - b.finished_at < '2 s'
	FROM iterable.run b, iterable.run p WHERE b.sync = 'busy' AND p.sync = 'patient'}),
	't|t|t', 'after a busy one: which is after a minute');

unlike(log_of($node), qr/PANIC|terminated by signal|TRAP/, 'nothing has crashed');
done_testing();
