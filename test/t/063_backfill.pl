# Copyright (c) 2026, the iterable_sync developers

# Backfills: only what differs is sent, live changes overtake them, they can
# be narrowed, forced, canceled, and go on after a crash.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use Time::HiRes qw(usleep);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('main');

create_connection($node, 'prod', $emulator, users_rate => 100);
create_connection($node, 'slow', $emulator, users_rate => 2, rate_group => 'slow');

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub progress
{
	return sql(qq{SELECT $_[1] FROM iterable.progress WHERE sync = '$_[0]'});
}

# Rows in the bulk requests since one.
sub rows_since
{
	my ($since) = @_;
	my $rows = 0;

	$rows += $_->{rows} for grep { $_->{method} eq 'POST' } $emulator->requests($since);
	return $rows;
}

sub last_request
{
	my @requests = $emulator->requests;

	return @requests ? $requests[-1]{n} : 0;
}

sub plan_of
{
	my ($email) = @_;
	my ($user) = grep { $_->{email} eq $email } $emulator->users;

	return $user ? $user->{dataFields}{plan} : undef;
}

# Do Iterable's users equal the table, but for one e-mail?
sub equal
{
	my ($table, $what, $but) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %table = split /[|\n]/, sql("SELECT email, plan FROM $table");
	delete $table{$but} if defined $but;
	my %users = map { $_->{email} => $_->{dataFields}{plan} } grep { $_->{email} =~ /^$table\d+@/ } $emulator->users;

	return is_deeply(\%users, \%table, $what);
}

sub create_sync
{
	my ($name, $n, $connection) = @_;

	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, plan text, class int);
		INSERT INTO $name SELECT i, '$name' || i || '\@example.com', 'p' || i, i % 100 FROM generate_series(1, $n) i;
		ANALYZE $name;
		SELECT iterable_create_sync('$name', '$connection', '$name', 'user', 'id', 'email');
		SELECT iterable_add_mapping('$name', 'plan', column_name => 'plan')});
	return;
}

create_sync('b', 10000, 'prod');
sql(q{SELECT iterable_enable_sync('b', 'backfill')});
synced($node, 'b', 'a backfill comes to its end');
equal('b', 'and sends all rows');
is(sql(q{SELECT count(*) FROM iterable.progress}), '0', 'it leaves no trace of itself');

# A mapping that changes one row in a hundred
my $since = last_request();
sql(q{SELECT iterable_add_mapping('b', 'vip', expression => 'CASE WHEN class = 7 THEN true END', apply => 'backfill')});
synced($node, 'b', 'a mapping is added with a backfill');
is(rows_since($since), 100, 'only the rows that it changes are sent');

$since = last_request();
sql(q{SELECT iterable_backfill('b')});
synced($node, 'b', 'a backfill of what Iterable has');
is(rows_since($since), 0, 'sends nothing');

sql(q{SELECT iterable_backfill('b', condition => 'class = 3', force => true)});
synced($node, 'b', 'a forced backfill of some rows');
is(rows_since($since), 100, 'sends these');

# What is not known to be there
sql(q{DELETE FROM iterable.sync_delivery WHERE key IN ('14', '16')});
$since = last_request();
sql(q{SELECT iterable_backfill('b', condition => 'id > 14')});
synced($node, 'b', 'a backfill of a part');
is(rows_since($since), 1, 'finds what differs in it');
sql(q{SELECT iterable_backfill('b')});
synced($node, 'b', 'a backfill of all');
is(rows_since($since), 2, 'finds the rest');

# What no trigger has seen
sql(q{ALTER TABLE b DISABLE TRIGGER USER;
	DELETE FROM b WHERE id <= 10; UPDATE b SET plan = 'unseen' WHERE id BETWEEN 11 AND 15;
	INSERT INTO b VALUES (20001, 'b20001@example.com', 'unseen', 0)});
$since = last_request();
sql(q{SELECT iterable_enable_sync('b')});
synced($node, 'b', 'the triggers are enabled again');
is(rows_since($since), 6, 'then it is looked for what they have not seen');
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE state = 'vanished' AND key::int <= 10}), '10', 'and for what is gone');
is(sql(q{SELECT sum(vanished) FROM iterable.run}), '10', 'which is counted');

# Failures are tried again
sql(q{UPDATE b SET email = 'nowhere' WHERE id = 20});
synced($node, 'b', 'a row fails', 1);
$since = last_request();
sql(q{SELECT iterable_backfill('b')});
synced($node, 'b', 'it fails in a backfill too', 1);
is(sql(q{SELECT attempts FROM iterable.failure}), '1', 'which is known');
sql(q{ALTER TABLE b DISABLE TRIGGER USER; UPDATE b SET email = 'b20@example.com' WHERE id = 20; SELECT iterable_enable_sync('b');
	SELECT iterable_backfill('b')});
synced($node, 'b', 'or is mended');
is(rows_since($since), 1, 'and is sent alone');

# Keys of several columns, which the index has in another order, expressions
# that bear the names of keys, and a row whose expression fails
sql(q{
	CREATE TABLE k (day date NOT NULL, shop text NOT NULL, email text, visits int, plan text, UNIQUE (shop, day));
	INSERT INTO k SELECT date '2025-01-01' + i % 50, 'shop ' || i / 50, 'k' || i || '@example.com', i, 'p' || i FROM generate_series(1, 2500) i;
	ANALYZE k;
	SELECT iterable_create_sync('k', 'prod', 'k', 'user', '{day,shop}', 'email');
	SELECT iterable_add_mapping('k', 'plan', column_name => 'plan');
	SELECT iterable_add_mapping('k', 'day', expression => 'day::text');
	SELECT iterable_add_mapping('k', 'shop', expression => 'shop::varchar');
	SELECT iterable_add_mapping('k', 'share', expression => '10 / (visits - 1234)');
	SELECT iterable_enable_sync('k', 'backfill')});
synced($node, 'k', 'a backfill of a source with a key of two columns', 1);
is(sql(q{SELECT key, class FROM iterable.failure WHERE sync = 'k'}), '["2025-02-04", "shop 24"]|expression', 'a row fails in an expression');
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'k' AND state = 'accepted'}), '2499', 'alone');
$since = last_request();
sql(q{SELECT iterable_backfill('k')});
synced($node, 'k', 'all is compared again', 1);
is(rows_since($since), 0, 'and nothing sent');
sql(q{ALTER TABLE k DISABLE TRIGGER USER; UPDATE k SET plan = 'unseen' WHERE visits IN (1, 999, 1233, 2500);
	SELECT iterable_enable_sync('k')});
synced($node, 'k', 'no trigger has seen some changes', 1);
is(rows_since($since), 4, 'which are found before, beside and after the row that fails');
equal('k', 'so that Iterable has the rest', 'k1234@example.com');

# At the limit of requests a change that is made meanwhile overtakes it.
create_sync('s', 30000, 'slow');
sql(q{ALTER SERVER slow OPTIONS (SET users_rate '1')});
sql(q{SELECT iterable_enable_sync('s', 'backfill')});
wait_until(sub { progress('s', 'to_send') > 2000 }, 'a slow backfill is under way');
is(sql(q{SELECT backfilling FROM iterable.sync_status WHERE sync = 's'}), 't', 'which the status shows');
is(progress('s', 'phase, rows_estimated'), 'reading|30000', 'and iterable.progress');
sql(q{UPDATE s SET plan = 'live' WHERE id = 29999});
wait_until(sub { (plan_of('s29999@example.com') // '') eq 'live' }, 'a change made meanwhile is sent');
cmp_ok(scalar(grep { $_->{email} =~ /^s\d+@/ } $emulator->users), '<', 25000, 'before the backfill is at its end');

# It goes on where it was after a crash.
my $seen = progress('s', 'rows_seen');
$node->stop('immediate');
$node->start;
wait_until(sub { my $now = progress('s', 'rows_seen'); $now ne '' && $now > $seen }, 'it goes on after a crash');
cmp_ok(progress('s', 'rows_seen'), '>=', $seen, 'from where it was');
sql(q{ALTER SERVER slow OPTIONS (SET users_rate '2')});
synced($node, 's', 'and comes to its end', 0);
equal('s', 'with all rows');

# What iterable.progress says while one row in three is sent at the limit
sql(q{UPDATE s SET email = 'nowhere' WHERE id = 1});
synced($node, 's', 'a row fails', 1);
sql(q{ALTER TABLE s DISABLE TRIGGER USER; UPDATE s SET plan = 'unseen' WHERE id % 3 = 0; DELETE FROM s WHERE id = 2;
	SELECT iterable_enable_sync('s')});
wait_until(sub { (progress('s', 'to_send') || 0) >= 3000 }, 'a scan is held back by the limit');
is(progress('s', 'rows_seen = to_send + unchanged + failed, to_send * 3 BETWEEN rows_seen - 10 AND rows_seen, failed, skipped, vanished'),
	't|t|1|0|0', 'each row that was seen is counted as what it is');
is(progress('s', q{estimated_end - started_at BETWEEN (now() - started_at) AND (now() - started_at) * 4, rows_estimated - 30000 BETWEEN -100 AND 100}),
	't|t', 'the rest is thought to take as long as it has so far');
cmp_ok(progress('s', q{to_send}), '<', 10000, 'it has not come to its end');
synced($node, 's', 'then it does', 1);
is(sql(q{SELECT count(*) FILTER (WHERE state = 'vanished') FROM iterable.delivery WHERE sync = 's'}), '1', 'and has found what is gone');
sql(q{UPDATE s SET email = 's1@example.com' WHERE id = 1});
synced($node, 's', 'the row that failed is mended');

# The scan's process is killed alone: another one goes on.
sql(q{SELECT iterable_backfill('s', force => true)});
wait_until(sub { progress('s', 'rows_seen') > 0 }, 'a forced backfill is under way');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'iterable_sync scan'}), '1', 'in a process of its own');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'iterable_sync scan'});
$seen = progress('s', 'rows_seen');
wait_until(sub { my $now = progress('s', 'rows_seen'); $now eq '' || $now > $seen }, 'another one goes on when it is terminated');

# Canceling
is(sql(q{SELECT iterable_cancel_backfill('s')}), 't', 'a backfill can be canceled');
is(sql(q{SELECT iterable_cancel_backfill('s')}), 'f', 'once');
synced($node, 's', 'what it has found is sent');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'iterable_sync scan'}), '0', 'and no process is left');

# A sync that runs when it is asked to scans then.
create_sync('m', 3000, 'prod');
sql(q{SELECT iterable_update_sync('m', schedule => 'manual'); SELECT iterable_enable_sync('m', 'backfill')});
usleep(300_000);
is(progress('m', 'phase'), 'waiting', 'a manual sync waits for its run');
sql(q{SELECT iterable_run('m')});
synced($node, 'm', 'then it scans');
equal('m', 'and sends all rows');
is(sql(q{SELECT count(*), count(finished_at) FROM iterable.run WHERE sync = 'm'}), '1|1', 'in one run, which ends');

# In the caller's session
my $alone = start_cluster('alone', preload => 0);
create_connection($alone, 'prod', $emulator, users_rate => 100);
$alone->safe_psql('postgres', q{
	CREATE TABLE r (id int PRIMARY KEY, email text, plan text);
	INSERT INTO r SELECT i, 'r' || i || '@example.com', 'p' || i FROM generate_series(1, 2500) i;
	SELECT iterable_create_sync('r', 'prod', 'r', 'user', 'id', 'email');
	SELECT iterable_add_mapping('r', 'plan', column_name => 'plan');
	SELECT iterable_enable_sync('r', 'backfill')});
note('begin'); $alone->safe_psql('postgres', q{CALL iterable_run_now('r')}); note('end');
is(scalar(grep { $_->{email} =~ /^r\d+@/ } $emulator->users), 2500, 'without a worker the session scans itself');
is($alone->safe_psql('postgres', q{SELECT count(*) FROM iterable.progress}), '0', 'to the end');

# A scan does not keep its database from being dropped.
$node->safe_psql('postgres', 'CREATE DATABASE gone');
$node->safe_psql('gone', 'CREATE EXTENSION iterable_sync');
create_connection($node, 'slow', $emulator, users_rate => 5, rate_group => 'gone', dbname => 'gone');
$node->safe_psql('gone', q{
	CREATE TABLE g (id int PRIMARY KEY, email text);
	INSERT INTO g SELECT i, 'g' || i || '@example.com' FROM generate_series(1, 50000) i;
	SELECT iterable_create_sync('g', 'slow', 'g', 'user', 'id', 'email');
	SELECT iterable_enable_sync('g', 'backfill')});
wait_until(sub { $node->safe_psql('gone', q{SELECT max(rows_seen) FROM iterable.progress}) > 0 }, 'a scan in another database');
is(sql_error($node, 'DROP DATABASE gone'), '', 'does not keep it from being dropped');

# Bad input
like(sql_error($node, q{SELECT iterable_backfill('none')}), qr/^42704: /, 'an unknown sync');
like(sql_error($node, q{SELECT iterable_backfill('b', condition => 'plan')}), qr/^42804: argument of filter must be type boolean/, 'no condition');
like(sql_error($node, q{SELECT iterable_disable_sync('b'); SELECT iterable_backfill('b')}), qr/^55000: sync "b" is not enabled/, 'a disabled sync');

done_testing();
