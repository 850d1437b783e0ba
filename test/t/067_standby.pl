# Copyright (c) 2026, the iterable_sync developers

# A standby has all that is known and sends nothing; promoted, it goes on where
# the primary was, whatever was under way there.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use Time::HiRes qw(usleep);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $primary = start_cluster('primary', conf => "iterable_sync.rescan_interval = 1s\nwal_level = replica\nmax_wal_senders = 5\n");
my $standby = PostgreSQL::Test::Cluster->new('standby');
my $copy = PostgreSQL::Test::Cluster->new('copy');

create_connection($primary, 'prod', $emulator, users_rate => 100, events_rate => 100);
create_connection($primary, 'slow', $emulator, users_rate => 2, rate_group => 'slow');

sub sql
{
	my ($node, $sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

sub n_of
{
	my ($email) = @_;
	my ($user) = grep { $_->{email} eq $email } $emulator->users;

	return $user->{dataFields}{n};
}

sub last_request
{
	my @requests = $emulator->requests;

	return @requests ? $requests[-1]{n} : 0;
}

my $processes = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'iterable\_sync%'};
my $views = q{
	SELECT sync, state, reason, pending, accepted, failures, what_to_do FROM iterable.sync_status ORDER BY sync;
	SELECT sync, key, class FROM iterable.failure ORDER BY 1, 2;
	SELECT sync, key, identifier, state, at FROM iterable.delivery ORDER BY 1, 2;
	SELECT sync, run_id, accepted FROM iterable.run ORDER BY run_id;
	SELECT sync, phase FROM iterable.progress ORDER BY 1;
	SELECT key, payload, problem FROM iterable_preview('people', 100) ORDER BY key};

sql($primary, q{
	CREATE TABLE people (id int PRIMARY KEY, email text, n int);
	INSERT INTO people SELECT i, 'p' || i || '@example.com', 0 FROM generate_series(1, 20) i;
	INSERT INTO people VALUES (21, 'no address', 0);
	CREATE VIEW visits AS SELECT id, email, n FROM people WHERE id <= 10;
	CREATE TABLE many (id int PRIMARY KEY, email text);
	INSERT INTO many SELECT i, 'm' || i || '@example.com' FROM generate_series(1, 8000) i;
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('people', 'n', column_name => 'n');
	SELECT iterable_create_sync('visits', 'prod', 'visits', 'event', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('visits', 'eventName', constant => 'Visit');
	SELECT iterable_add_mapping('visits', 'n', column_name => 'n');
	SELECT iterable_create_sync('many', 'slow', 'many', 'user', 'id', 'email');
	SELECT iterable_enable_sync('people', 'backfill')});
synced($primary, 'people', 'the primary sends', 1);
sql($primary, q{SELECT iterable_enable_sync('visits', 'backfill'); SELECT iterable_run('visits')});
synced($primary, 'visits', 'also what it has found in a view');

# Copies are made while a request is under way.
$emulator->script({ action => 'hang', path => '/api/users/' });
sql($primary, q{UPDATE people SET n = 1 WHERE id = 3});
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'a request is under way');
$primary->backup('backup');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is(sql($standby, $processes), '0', 'on a standby nothing runs');
is(sql($standby, $views), sql($primary, $views), 'all that is known can be read there');
$emulator->release;
synced($primary, 'people', 'the primary goes on', 1);
unlike(log_of($standby), qr/(WARNING|ERROR|FATAL|PANIC):/, 'the standby has nothing to complain about');

# What would write says that it cannot.
foreach my $call (q{SELECT iterable_enable_sync('people')}, q{CALL iterable_run_now('people')},
	q{SELECT iterable_backfill('people')}, q{SELECT iterable_run('people')}, q{SELECT iterable_adopt()},
	q{SELECT iterable_send_row('people', '3')}, q{SELECT iterable_retry_failures('people')})
{
	like(sql_error($standby, $call), qr/^25006: /, "not during recovery: $call");
}

# A backup that is started as a server of another environment
$copy->init_from_backup($primary, 'backup');
$copy->append_conf('postgresql.conf', "iterable_sync.environment = 'staging'\n");
$copy->start;
sql($copy, q{UPDATE people SET n = 50 WHERE id = 5});
my $since = last_request();
usleep(2_500_000);
is(last_request(), $since, 'it sends nothing');
is(sql($copy, q{SELECT DISTINCT state FROM iterable.sync_status WHERE sync <> 'many'}), 'paused', 'its syncs are paused');
sql($copy, q{SELECT iterable_adopt()});
synced($copy, 'people', 'until they are adopted', 1);
is(n_of('p5@example.com'), 50, 'then they go on');
$copy->stop('fast');
sql($primary, q{UPDATE people SET n = 5 WHERE id = 5});

# The primary dies with a request, a scan and changes under way.
sql($primary, q{SELECT iterable_enable_sync('many', 'backfill')});
wait_until(sub { sql($primary, q{SELECT to_send FROM iterable.progress WHERE sync = 'many'}) > 0 }, 'a slow backfill is under way');
synced($primary, 'people', 'the primary has sent all else', 1);
$emulator->script({ action => 'hang', path => '/api/users/', times => 0 });
sql($primary, q{UPDATE people SET n = 2 WHERE id = 4});
wait_until(sub { grep { ($_->{body} // '') =~ /p4\@example\.com","dataFields":\{"n":2/ } $emulator->requests }, 'so is a request');
sql($primary, q{UPDATE people SET n = 3 WHERE id IN (3, 4); DELETE FROM people WHERE id = 5; UPDATE people SET email = 'p21@example.com' WHERE id = 21});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$primary->stop('immediate');
$emulator->end_script;
$emulator->release;
usleep(300_000);
$since = last_request();
usleep(2_500_000);
is(last_request(), $since, 'a standby whose primary is gone sends nothing');
is(sql($standby, $processes), '0', 'nor does anything run');

my $log_end = length(log_of($standby));
$standby->promote;
synced($standby, 'people', 'promoted, it sends');
is(join(' ', map { n_of("p$_\@example.com") } 3, 4, 21), '3 3 0', 'what was pending');
is(sql($standby, q{SELECT state FROM iterable.delivery WHERE sync = 'people' AND key = '5'}), 'vanished', 'and sees what is gone');
sql($standby, q{UPDATE people SET n = 4 WHERE id = 6});
synced($standby, 'people', 'new changes');
is(n_of('p6@example.com'), 4, 'are captured');
sql($standby, q{SELECT iterable_run('visits')});
synced($standby, 'visits', 'a view is compared');
is(join(' ', sort { $a <=> $b } map { $_->{dataFields}{n} } $emulator->events), '0 0 0 0 0 0 0 3 3 4', 'and what differs is sent');
synced($standby, 'many', 'the backfill comes to its end');
is(scalar(grep { $_->{email} =~ /^m\d/ } $emulator->users), 8000, 'with all rows');
is(sql($standby, q{SELECT DISTINCT state, reason FROM iterable.sync_status}), 'enabled|', 'nothing had to be adopted');
unlike(substr(log_of($standby), $log_end), qr/(WARNING|ERROR|PANIC):/, 'nor is there anything to complain about');

$standby->stop('fast');
done_testing();
