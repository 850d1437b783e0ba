# Copyright (c) 2026, the iterable_sync developers

# When syncs run: at every commit, at intervals, or when asked; and that a run
# covers everything that has changed since the last, also while there was no
# worker.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use Time::HiRes qw(time);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);

# Nothing but commits and schedules may bring a worker.
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
	my ($name, $schedule, $apply, $rows) = @_;

	$rows //= 0;
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, n int);
		INSERT INTO $name SELECT -i, '$name-' || i || '\@example.com', i FROM generate_series(1, $rows) i;
		SELECT iterable_create_sync('$name', 'prod', '$name', 'user', 'id', 'email', schedule => '$schedule');
		SELECT iterable_add_mapping('$name', 'n', column_name => 'n');
		SELECT iterable_enable_sync('$name', '$apply');
	});
	return;
}

sub insert
{
	my ($name, @numbers) = @_;

	sql("INSERT INTO $name VALUES "
		  . join(', ', map { "($_, '$name$_\@example.com', $_)" } @numbers));
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

sub pending
{
	my ($name) = @_;

	return sql("SELECT pending FROM iterable.sync_status WHERE sync = '$name'");
}

# Runs of a sync: "rows accepted, finished".
sub runs
{
	my ($name) = @_;

	return join(' ', split /\n/, sql("SELECT accepted || CASE WHEN finished_at IS NULL THEN '*' ELSE '' END FROM iterable.run WHERE sync = '$name' ORDER BY run_id"));
}

# Times at which requests with rows of a table arrived.
sub sent_at
{
	my ($name) = @_;

	return map { $_->{at} } grep { $_->{body} =~ /"$name\d/ } $emulator->requests;
}

sub worker
{
	return sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker' AND datname = 'postgres'});
}

#
# At an interval; this takes its time, and goes on while we look at others
#
create_sync('every', '2 seconds', 'updates_only');
insert('every', 1);
synced($node, 'every', 'every 2 seconds: the first run');

# Commit for five seconds, every 100 ms or so.
my $writer = $node->background_psql('postgres');
$writer->query_safe(q{
	CREATE PROCEDURE write_on() LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 2..50 LOOP
			INSERT INTO every VALUES (i, 'every' || i || '@example.com', i);
			COMMIT;
			PERFORM pg_sleep(0.1);
		END LOOP;
	END $$});
$writer->query_until(qr/started/, qq{\\echo started\nCALL write_on();\n});

#
# Continuous
#
create_sync('always', 'continuous', 'updates_only');
foreach my $n (1 .. 3)
{
	insert('always', $n);
	wait_until(sub { arrived('always') =~ /\b$n$/ }, 'continuous: a change goes by itself', 5);
}
synced($node, 'always');
is(runs('always'), '3*', 'continuous: while it is busy it is one run');
is(pending('always'), '0', 'continuous: nothing is pending');
sql(q{SELECT iterable_run('always')});
is(sql(q{SELECT done FROM iterable_wait('always')}), 't', 'continuous: it may be asked for a run');

#
# Manual
#
create_sync('manual', 'manual', 'updates_only');
is(sql(q{SELECT * FROM iterable_wait('manual')}), 't|0|', 'manual: at first there is nothing to wait for');
insert('manual', 1, 2);
my $started = time();
is( sql(q{SELECT * FROM iterable_wait('manual', '1 min')}),
	'f|0|the schedule is manual and no run was requested',
	'manual: changes would wait for ever');
cmp_ok(time() - $started, '<', 10, 'manual: so one need not');
insert('manual', 3);
insert('always', 4);
wait_until(sub { arrived('always') =~ /\b4$/ }, 'manual: while others run');
is(arrived('manual'), '', 'manual: nothing is sent');
is(pending('manual'), '3', 'manual: it is pending');
sql(q{SELECT iterable_run('manual')});
synced($node, 'manual', 'manual: until a run is asked for');
is(arrived('manual'), '1 2 3', 'manual: it covers everything');
is(runs('manual'), '3', 'manual: it ends');

# The sync's state is never such that one would not wait.
my $odd = $node->safe_psql('postgres', q{
	CREATE TABLE answers (done boolean, reason text);
	CREATE PROCEDURE run_and_wait(rounds int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 101..100 + rounds LOOP
			INSERT INTO manual VALUES (i, 'manual' || i || '@example.com', i);
			PERFORM iterable_run('manual');
			COMMIT;
			INSERT INTO answers SELECT done, reason FROM iterable_wait('manual');
			COMMIT;
		END LOOP;
	END $$;
	CALL run_and_wait(60);
	SELECT string_agg(DISTINCT reason, ', ') FROM answers WHERE NOT done});
is($odd, '', 'manual: whoever asks for a run and waits sees it through');
is(sql(q{SELECT count(*) FROM iterable.run WHERE sync = 'manual'}), 61, 'manual: each time is a run');
is(sql(q{SELECT count(*) FROM iterable.run WHERE sync = 'manual' AND finished_at IS NULL}), '0', 'manual: all end');
sql(q{SELECT iterable_run('manual')});
synced($node, 'manual', 'manual: a run with nothing to do');
is(sql(q{SELECT count(*) FROM iterable.run WHERE sync = 'manual'}), 61, 'manual: is none');

# Nor does a backfill look done before all of it is.
is( $node->safe_psql('postgres', q{
	CREATE PROCEDURE fill_and_wait(rounds int) LANGUAGE plpgsql AS $$
	DECLARE
		since timestamptz;
	BEGIN
		TRUNCATE answers;
		FOR i IN 1..rounds LOOP
			PERFORM iterable_drop_mapping('always', 'n', 'updates_only');
			PERFORM iterable_add_mapping('always', 'n', expression => 'n + ' || i, apply => 'updates_only');
			COMMIT;
			since := clock_timestamp();
			PERFORM iterable_enable_sync('always', 'backfill');
			COMMIT;
			INSERT INTO answers SELECT done, reason FROM iterable_wait('always');
			INSERT INTO answers SELECT false, 'too early: ' || count(*) FROM iterable.delivery
			WHERE sync = 'always' AND at < since HAVING count(*) > 0;
			COMMIT;
		END LOOP;
	END $$;
	CALL fill_and_wait(30);
	SELECT count(*), string_agg(DISTINCT reason, ', ') FROM answers}),
	'30|',
	'continuous: whoever waits for a backfill sees it through');

create_sync('filled', 'manual', 'backfill', 2500);
is( sql(q{SELECT * FROM iterable_wait('filled')}),
	'f|0|the schedule is manual and no run was requested',
	'manual: a backfill waits for a run, too');
sql(q{SELECT iterable_run('filled')});
synced($node, 'filled', 'manual: and is done by it');
is(runs('filled'), '2500', 'manual: all of it by one');

sql(q{
	SELECT iterable_disable_sync('manual');
	INSERT INTO manual VALUES (9, 'manual9@example.com', 9);
});
like(sql_error($node, q{SELECT iterable_run('manual')}), qr/^55000: sync "manual" is not enabled/,
	'manual: a disabled sync has no runs');
like(sql_error($node, q{SELECT iterable_run('nosuch')}), qr/^42704: /, 'nor has one that is not there');
sql(q{SELECT iterable_enable_sync('manual')});
is(pending('manual'), '1', 'manual: being enabled again is no run');

#
# At a long interval
#
create_sync('hourly', '1 hour', 'backfill', 2);
synced($node, 'hourly', 'hourly: it begins when it is enabled');
is(runs('hourly'), '2', 'hourly: with a run');
insert('hourly', 1);
is(sql(q{SELECT * FROM iterable_wait('hourly', '200 ms')}), 'f|0|timeout', 'hourly: the next is in an hour');
is(pending('hourly'), '1', 'hourly: what changes is pending');
sql(q{SELECT iterable_run('hourly')});
synced($node, 'hourly', 'hourly: or when it is asked for');
is(arrived('hourly'), '1', 'hourly: which sends it');
is(runs('hourly'), '2 1', 'hourly: that is another run');

#
# What the interval has done meanwhile
#
wait_until(sub { arrived('every') eq join(' ', 1 .. 50) }, 'every 2 seconds: all rows arrive');
$writer->quit;
synced($node, 'every');
is( sql(q{SELECT count(finished_at) = count(*), sum(accepted), count(*) >= 3 FROM iterable.run WHERE sync = 'every'}),
	't|50|t',
	'every 2 seconds: by runs that end');
is( sql(q{
	SELECT min(gap) > '1.9 s' FROM (
		SELECT started_at - lag(started_at) OVER (ORDER BY run_id) FROM iterable.run WHERE sync = 'every'
	) AS gaps (gap)}),
	't',
	'every 2 seconds: not more often');

#
# Without a worker in between
#
sql(q{SELECT iterable_disable_sync('every')});
create_sync('rarely', '3 seconds', 'updates_only');
insert('rarely', 1);
synced($node, 'rarely');
wait_until(sub { worker() eq '' }, 'rarely: the worker goes between runs');
insert('rarely', 2);
wait_until(sub { arrived('rarely') eq '1 2' }, 'rarely: and is back in time', 10);
my @times = sent_at('rarely');
cmp_ok($times[1] - $times[0], '>', 2.9, 'rarely: not before');
cmp_ok($times[1] - $times[0], '<', 12, 'rarely: nor much later');
sql(q{SELECT iterable_disable_sync('rarely')});

wait_until(sub { worker() eq '' }, 'manual: the worker goes');
sql(q{SELECT iterable_run('manual')});
synced($node, 'manual', 'manual: a run that is asked for brings it back');
like(arrived('manual'), qr/^1 2 3 9 /, 'manual: and sends');

wait_until(sub { worker() eq '' }, 'continuous: the worker goes');
is( sql(q{SELECT count(*) FROM iterable.run WHERE finished_at IS NULL}),
	'0', 'continuous: and leaves no run open');
insert('always', 5);
wait_until(sub { arrived('always') =~ /\b5$/ }, 'continuous: a commit brings it back', 5);

unlike(log_of($node), qr/PANIC|terminated by signal|TRAP/, 'nothing has crashed');
done_testing();
