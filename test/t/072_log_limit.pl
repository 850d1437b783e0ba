# Copyright (c) 2026, the iterable_sync developers

# The change log does not grow beyond its limit: syncs that keep its oldest part
# lose their places, and nothing else; they compare when they may run.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use JSON::PP ();
use PostgreSQL::Test::BackgroundPsql;

my $limit = 4;
my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('limit', conf => "iterable_sync.rescan_interval = 1s\niterable_sync.max_change_log_size = ${limit}MB\n");

create_connection($node, 'prod', $emulator, users_rate => 1000, events_rate => 1000);
create_connection($node, 'hasty', $emulator, users_rate => 1000, request_timeout => '1s');
create_connection($node, 'slow', $emulator, users_rate => 1000, rate_group => 'slow');

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub megabytes
{
	return sql('SELECT log_size()');
}

# What Iterable has of the rows of a table, as "id=n".
sub at_iterable
{
	my ($table) = @_;
	my %n = map { $_->{email} =~ /^${table}(\d+)@/ ? ($1 => $_->{dataFields}{n}) : () } $emulator->users;

	return join(' ', map { "$_=$n{$_}" } sort { $a <=> $b } keys %n);
}

# How often the rows of a table were sent since a request, as "id=times".
sub sent
{
	my ($table, $since) = @_;
	my %times;

	foreach my $request ($emulator->requests($since))
	{
		next if !defined $request->{body};
		my $body = ref $request->{body} ? $request->{body} : JSON::PP->new->decode($request->{body});
		$_->{email} =~ /^${table}(\d+)@/ and $times{$1}++ foreach @{ $body->{users} };
	}
	return \%times;
}

sub last_request
{
	my @requests = $emulator->requests;

	return @requests ? $requests[-1]{n} : 0;
}

sub create_sync
{
	my ($name, $connection, $rows, %options) = @_;
	my $mode = $options{mode} // 'upsert';

	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, n int);
		INSERT INTO $name SELECT i, '$name' || i || '\@example.com', 0 FROM generate_series(1, $rows) i;
		SELECT iterable_create_sync('$name', '$connection', '$name', 'user', 'id', 'email', mode => '$mode');
		SELECT iterable_add_mapping('$name', 'n', column_name => 'n');
		SELECT iterable_enable_sync('$name', 'backfill')});
	synced($node, $name);
	return;
}

# This one is never far behind: it only notes what is there.
sql(q{
	CREATE TABLE busy (id text COLLATE "C" PRIMARY KEY DEFAULT md5(random()::text) || md5(random()::text) || md5(random()::text) || md5(random()::text),
		email text DEFAULT 'ann@example.com');
	SELECT iterable_create_sync('busy', 'prod', 'busy', 'event', 'id', 'email', mode => 'update');
	SELECT iterable_add_mapping('busy', 'eventName', constant => 'e');
	SELECT iterable_add_mapping('busy', 'id', expression => 'md5(id)');
	SELECT iterable_enable_sync('busy', 'updates_only');
	CREATE FUNCTION log_size() RETURNS numeric LANGUAGE sql AS $$
		SELECT sum(pg_total_relation_size('iterable.change_' || i)) / 1048576 FROM generate_series(0, 3) i $$;
	CREATE PROCEDURE fill(much numeric) LANGUAGE plpgsql AS $$
	DECLARE
		until numeric := log_size() + much;
	BEGIN
		WHILE log_size() < until LOOP
			INSERT INTO busy SELECT FROM generate_series(1, 1000);
			UPDATE state SET n = n + 1 WHERE id = 8;
			COMMIT;
		END LOOP;
		UPDATE state SET n = 7 WHERE id = 8;
	END $$});

# Write so many MB to the log; the sync "state" needs all of it.
sub fill
{
	my ($much) = @_;

	sql("CALL fill($much)");
	return;
}

create_sync('state', 'hasty', 10);
create_sync('slow', 'prod', 10);
create_sync('forced', 'slow', 1500);
create_sync('adding', 'prod', 10, mode => 'insert');
create_sync('recent', 'prod', 10);

# ----------------------------------------------------------------
# Syncs stop in all sorts of ways
# ----------------------------------------------------------------

# with rows of which nobody knows what Iterable has
$emulator->script({ path => '/api/users/', action => 'apply_then_hang' });
sql(q{UPDATE state SET n = 7 WHERE id = 3});
wait_until(sub { at_iterable('state') =~ /\b3=7\b/ }, 'Iterable has a row, and its answer is lost');
sql(q{SELECT iterable_disable_sync('state');
	UPDATE state SET n = 0 WHERE id = 3;
	UPDATE state SET n = 5 WHERE id = 4; UPDATE state SET n = 0 WHERE id = 4;
	UPDATE state SET n = 6 WHERE id = 5;
	DELETE FROM state WHERE id = 6;
	INSERT INTO state VALUES (11, 'state11@example.com', 8)});
wait_until(sub { $emulator->stats->{inFlight} == 0 }, 'the request is given up');

# with a part of a forced backfill in the log, beyond the window that is open
my $before_forced;
my $outside;
sql(q{ALTER SERVER slow OPTIONS (SET users_rate '1')});
foreach my $try (1 .. 10)
{
	$before_forced = last_request();
	$emulator->script({ path => '/api/users/', action => 'hang' });
	sql(q{SELECT iterable_backfill('forced', force => true)});
	wait_until(sub { sql(q{SELECT count(*) FROM iterable.progress WHERE sync = 'forced'}) eq '0' }, 'a forced backfill is all in the log');
	sql(q{SELECT iterable_disable_sync('forced')});
	$emulator->release;
	wait_until(sub { $emulator->stats->{inFlight} == 0 }, 'and its request is broken off');
	$outside = sql(q{SELECT coalesce(sum(n), 0) FROM iterable.change g, iterable.sync s JOIN iterable.sync_state t USING (sync_id)
		WHERE s.name = 'forced' AND g.sync_id = s.sync_id AND NOT pg_visible_in_snapshot(g.xid, t.window_end)});
	last if $outside > 100;

	# the worker came late, and took all of it into its window: again
	sql(q{SELECT iterable_enable_sync('forced')});
	synced($node, 'forced', 'a forced backfill is sent');
}
cmp_ok($outside, '>', 100, 'a part of it is in no window yet');

sql(q{SELECT iterable_disable_sync('adding');
	UPDATE adding SET n = 1 WHERE id = 1; INSERT INTO adding VALUES (11, 'adding11@example.com', 0)});

# while it runs
$emulator->script({ path => '/api/users/', action => 'hang' });
sql(q{UPDATE slow SET n = 1 WHERE id = 1});
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'a sync waits for an answer');
sql(q{UPDATE slow SET n = 2 WHERE id = 2});

# ----------------------------------------------------------------
# The log grows
# ----------------------------------------------------------------

my $state_id = q{SELECT state_id FROM iterable.sync JOIN iterable.sync_state USING (sync_id) WHERE name = 'recent'};
my $kept = sql($state_id);

sub lost
{
	my @lost = sort(log_of($node) =~ /LOG:  sync "(\w+)" has lost its place in the change log\n/g);

	return "@lost";
}

fill(3.3);
sql('SELECT iterable.rotate_change_log()');
sql(q{SELECT iterable_disable_sync('recent'); UPDATE recent SET n = 1 WHERE id = 1});
fill(0.2);
sql('SELECT iterable.rotate_change_log()');
cmp_ok(megabytes(), '<', $limit, 'it is below its limit');
is(lost(), '', 'and all syncs have their places');
fill($limit - megabytes() + 0.3);
wait_until(sub { lost() ne '' }, 'syncs lose their places');
wait_until(sub { megabytes() < $limit - 1 }, 'and the log shrinks');

is(lost(), 'adding forced slow state', 'those that kept the oldest part');
is(sql($state_id), $kept, 'and no others');
my $what = 'it has lost its place in the change log, which had grown to its limit: its rows are compared with what was sent';
is(sql(q{SELECT state, reason FROM iterable.sync_status WHERE sync = 'state'}), "disabled|$what when it is enabled", 'the status says so');
like(log_of($node), qr/DETAIL:  The change log has 4 MB, "iterable_sync.max_change_log_size" is 4 MB, /, 'and why');
is(sql(q{SELECT done FROM iterable_wait('state', '100 ms')}), 'f', 'what is to be compared is waited for');

# ----------------------------------------------------------------
# The syncs go on
# ----------------------------------------------------------------

my $since = last_request();
$emulator->release;
synced($node, 'slow', 'the one that runs goes on by itself');
is(at_iterable('slow'), '1=1 2=2 3=0 4=0 5=0 6=0 7=0 8=0 9=0 10=0', 'with what the table has');
is(join(' ', sort keys %{ sent('slow', $before_forced) }), '1 2', 'and sends nothing else');

sql(q{SELECT iterable_enable_sync('recent')});
synced($node, 'recent', 'the one that kept its place');
is_deeply(sent('recent', $since), { 1 => 1 }, 'sends what has changed');

# They lose them again as long as they do not run.
sql(q{DELETE FROM state WHERE id = 7});
fill(2.8);
sql('SELECT iterable.rotate_change_log()');
fill($limit - megabytes() + 0.3);
wait_until(sub { megabytes() < $limit }, 'the log stays within its limit');
is(lost(), 'adding forced slow state', 'which is not logged again');

sql(q{SELECT iterable_enable_sync('state')});
synced($node, 'state', 'a disabled one compares when it is enabled');
is(at_iterable('state'), '1=0 2=0 3=0 4=0 5=6 6=0 7=0 8=7 9=0 10=0 11=8', 'Iterable has what the table has');
is_deeply(sent('state', $since), { 3 => 1, 5 => 1, 8 => 1, 11 => 1 }, 'what differs is sent, and what Iterable may have otherwise, each once');
is(sql(q{SELECT string_agg(key, ' ' ORDER BY key) FROM iterable.delivery WHERE sync = 'state' AND state = 'vanished'}), '6 7', 'rows that are gone have vanished');
is(sql(q{SELECT state, reason FROM iterable.sync_status WHERE sync = 'state'}), 'enabled|', 'the status is clear again');

sql(q{ALTER SERVER slow OPTIONS (SET users_rate '1000'); SELECT iterable_enable_sync('forced')});
synced($node, 'forced', 'the forced backfill goes on');
is(scalar(keys %{ sent('forced', $since) }), 1500, 'all of it is sent');

sql(q{SELECT iterable_enable_sync('adding')});
synced($node, 'adding', 'mode insert');
is_deeply(sent('adding', $since), { 11 => 1 }, 'sends what is new');

wait_until(sub { sql('SELECT iterable.rotate_change_log()'); sql('SELECT count(*) FROM iterable.change') eq '0' }, 'in the end the log is empty');

# ----------------------------------------------------------------
# Somebody holds all segments but one
# ----------------------------------------------------------------

my $lost = lost();
my $holder = $node->background_psql('postgres', on_error_stop => 1);
$holder->query_safe(q{DO $$
	BEGIN
		FOR i IN 0..3 LOOP
			IF i <> (SELECT last_value FROM iterable.change_segment) THEN
				EXECUTE format('LOCK TABLE iterable.change_%s IN ACCESS SHARE MODE', i);
			END IF;
		END LOOP;
	END $$} =~ s/^/BEGIN; /r);
fill(1) for 1 .. 3;
sql('SELECT iterable.rotate_change_log()') for 1 .. 3;
fill(1) for 1 .. 3;
synced($node, 'busy', 'with all segments but one in use, the worker goes on');
sql(q{UPDATE recent SET n = 2 WHERE id = 2});
synced($node, 'recent', 'and so do others');
$holder->query_safe('COMMIT; BEGIN');
$holder->query_safe("LOCK TABLE iterable.change_$_ IN ACCESS SHARE MODE") foreach 0 .. 3;
fill($limit + 1 - megabytes()) if megabytes() < $limit + 1;
synced($node, 'busy', 'as with all of them');
cmp_ok(megabytes(), '>', $limit, 'the log is beyond its limit');
$holder->query_safe('COMMIT');
$holder->quit;
wait_until(sub { megabytes() < $limit }, 'it shrinks when they are let go');
is(lost(), $lost, 'nobody has lost its place for it');

like(sql_error($node, q{ALTER SYSTEM SET iterable_sync.max_change_log_size = '1MB'}), qr/^22023: .*is outside the valid range/, 'the limit has a lower limit');

# ----------------------------------------------------------------
# Without a worker it is for who runs a sync
# ----------------------------------------------------------------

my $alone = start_cluster('alone', preload => 0, conf => "iterable_sync.rescan_interval = 1h\niterable_sync.max_change_log_size = ${limit}MB\n");
create_connection($alone, 'prod', $emulator, users_rate => 1000);
$alone->safe_psql('postgres', q{
	CREATE TABLE a (id int PRIMARY KEY, email text, n int);
	CREATE TABLE b (id text COLLATE "C" PRIMARY KEY DEFAULT md5(random()::text) || md5(random()::text) || md5(random()::text) || md5(random()::text), email text);
	SELECT iterable_create_sync('a', 'prod', 'a', 'user', 'id', 'email');
	SELECT iterable_add_mapping('a', 'n', column_name => 'n');
	SELECT iterable_create_sync('b', 'prod', 'b', 'user', 'id', 'email', filter => 'email IS NOT NULL');
	SELECT iterable_enable_sync(s, 'updates_only') FROM unnest('{a,b}'::text[]) s;
	INSERT INTO a VALUES (1, 'lone1@example.com', 0);
	INSERT INTO b SELECT FROM generate_series(1, 40000);
	INSERT INTO a VALUES (2, 'lone2@example.com', 0);
	SELECT iterable.rotate_change_log();
	INSERT INTO b VALUES ('x');
	SELECT pg_sleep(1)});

my $lost_alone = qr/sync "a" has lost its place/;
my $keep = q{CALL iterable_run_now('b')};
$alone->safe_psql('postgres', $keep);
unlike(log_of($alone), $lost_alone, 'nobody loses its place for a segment that was left less than rescan_interval ago');
$alone->append_conf('postgresql.conf', 'iterable_sync.rescan_interval = 1s');
$alone->reload;
$alone->poll_query_until('postgres', q{SELECT current_setting('iterable_sync.rescan_interval') = '1s'});

my $reader = $alone->background_psql('postgres', on_error_stop => 1);
$reader->query_safe(q{BEGIN; LOCK TABLE iterable.change_0, iterable.change_1, iterable.change_2, iterable.change_3 IN ACCESS SHARE MODE});
$alone->safe_psql('postgres', $keep);
unlike(log_of($alone), $lost_alone, 'nor for one that is in use');
$reader->query_safe('COMMIT');
$reader->quit;

$alone->safe_psql('postgres', $keep);
like(log_of($alone), $lost_alone, 'without a worker iterable_run_now() keeps the limit');
unlike(log_of($alone), qr/sync "b" has lost its place/, 'for others that keep the log');
$alone->safe_psql('postgres', q{CALL iterable_run_now('a'); CALL iterable_run_now('b')});
is(join(' ', map { $_->{dataFields}{n} } grep { $_->{email} =~ /^lone/ } $emulator->users), '0 0', 'they compare when they are run');
cmp_ok($alone->safe_psql('postgres', q{SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname ~ '^change_[0-3]$'}), '<', $limit * 1048576, 'and the log has shrunk');

unlike(log_of($node), qr/PANIC|TRAP|terminated by signal/, 'nothing odd in the log');

$node->stop('fast');
done_testing();
