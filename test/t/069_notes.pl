# Copyright (c) 2026, the iterable_sync developers

# Rows that were there when a sync was enabled with updates_only are noted, in
# the background: what was captured is sent whatever the notes say, and where
# rows are compared only those that have changed since.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('main', conf => "iterable_sync.rescan_interval = 1s\n");

create_connection($node, 'prod', $emulator, users_rate => 100, events_rate => 100);
$emulator->seed(map { { email => "p$_\@example.com" } } 1 .. 100);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Ids of the events that have arrived of a sync since they were asked for last,
# in order.
my %told;
sub arrived
{
	my ($name) = @_;
	my @events = map { "$_->{dataFields}{id}=$_->{dataFields}{n}" } grep { $_->{eventName} eq $name } $emulator->events;
	my @new = grep { !$told{$name}{$_}++ } @events;

	return join(' ', sort { ($a =~ /(\d+)/)[0] <=> ($b =~ /(\d+)/)[0] } @new);
}

sub states
{
	my ($name) = @_;

	return sql("SELECT string_agg(n || ' ' || state, ', ' ORDER BY state) "
		  . "FROM (SELECT state, count(*) AS n FROM iterable.delivery WHERE sync = '$name' GROUP BY state) x");
}

# A table of 20 rows and a sync of events, both of the name; more is done in
# the transaction that enables it.
sub create_sync
{
	my ($name, $more, %options) = @_;
	my $options = join('', map { ", $_ => '$options{$_}'" } sort keys %options);

	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, n int);
		INSERT INTO $name SELECT i, 'p' || i || '\@example.com', 0 FROM generate_series(1, 20) i;
		SELECT iterable_create_sync('$name', 'prod', '$name', 'event', 'id', 'email'$options);
		SELECT iterable_add_mapping('$name', 'eventName', constant => '$name');
		SELECT iterable_set_mappings('$name', jsonb_build_object('eventName', jsonb_build_object('constant', '$name'),
			'n', 'n', 'dataFields.id', 'id', 'id', jsonb_build_object('expression', '''$name-'' || id')));
		BEGIN;
		SELECT iterable_enable_sync('$name', 'updates_only');
		$more;
		COMMIT});
	return;
}

# As dbt builds a table anew.
sub swap
{
	my ($name, $query) = @_;

	return qq{
		CREATE TABLE ${name}_new (LIKE $name INCLUDING ALL);
		INSERT INTO ${name}_new $query;
		DROP TABLE $name;
		ALTER TABLE ${name}_new RENAME TO $name};
}

# How often the worker has found that something must be compared.
sub compares
{
	my ($table) = @_;

	return scalar(() = log_of($node) =~ /source "\w+\.$table" is compared/g);
}

# Statements that no trigger sees, and what is sent because of them.
sub compared
{
	my ($name, $statements, $sent, $what) = @_;
	my $before = compares($name);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	sql("BEGIN; $statements; COMMIT");
	wait_until(sub { compares($name) > $before }, "$what: is noticed");
	synced($node, $name, "$what: is compared");
	return is(arrived($name), $sent, "$what: only what has changed is sent");
}

### The rows that are there

create_sync('visit', '');
synced($node, 'visit', 'enabled');
is(states('visit'), '20 noted', 'what is there is noted');
is(arrived('visit'), '', 'and not sent');
is(sql(q{SELECT count(*) FROM iterable.run WHERE sync = 'visit'}), '0', 'which is no run');
sql(q{UPDATE visit SET n = 1 WHERE id = 1; INSERT INTO visit VALUES (21, 'p21@example.com', 0)});
synced($node, 'visit', 'changes');
is(arrived('visit'), '1=1 21=0', 'are sent');
compared('visit', swap('visit', q{SELECT id, email, n FROM visit}), '', 'a table that is built anew as it was');
compared('visit',
	swap('visit', q{SELECT id, email, n + (id IN (1, 2))::int FROM visit WHERE id <> 3 UNION ALL SELECT 22, 'p22@example.com', 0}),
	'1=2 2=1 22=0', 'one that is built anew with changes');
is(states('visit'), '4 accepted, 17 noted', 'what is known is up to date, the note of a row that is gone has gone, too');
compared('visit', q{ALTER TABLE visit DISABLE TRIGGER ALL; UPDATE visit SET n = 5 WHERE id = 5}, '5=5', 'a change behind the triggers');
sql(q{BEGIN; UPDATE visit SET n = 6 WHERE id = 6; UPDATE visit SET n = 0 WHERE id = 6; COMMIT});
synced($node, 'visit', 'a row that changes and goes back');
is(arrived('visit'), '', 'is as it was noted');
sql(q{BEGIN; CREATE TEMP TABLE kept AS TABLE visit; TRUNCATE visit; INSERT INTO visit SELECT id, email, n + (id = 6)::int FROM kept; COMMIT});
synced($node, 'visit', 'a table that is loaded again');
is(arrived('visit'), '6=1', 'of which only what has changed is sent');
sql(q{BEGIN; CREATE TEMP TABLE kept AS TABLE visit; DELETE FROM visit; INSERT INTO visit TABLE kept; COMMIT});
synced($node, 'visit', 'rows that are deleted and inserted');
is(arrived('visit'), '', 'are what they were');
sql(q{UPDATE visit SET email = 'nowhere' WHERE id = 7});
synced($node, 'visit', 'a row that was noted fails', 1);
compared('visit', swap('visit', q{SELECT id, CASE WHEN id = 7 THEN 'p7@example.com' ELSE email END, n FROM visit}), '7=0',
	'one that has failed, mended');
sql(q{SELECT iterable_backfill('visit', condition => 'id < 10')});
synced($node, 'visit', 'a backfill of some rows');
is(arrived('visit'), '4=0 8=0 9=0', 'sends those that were noted');
sql(q{SELECT iterable_backfill('visit')});
synced($node, 'visit', 'one of all');
is(arrived('visit'), join(' ', map { "$_=0" } 10 .. 20), 'the rest');
is(states('visit'), '21 accepted', 'nothing is only noted any more');

### What happens before they are noted

create_sync('early', q{UPDATE early SET n = 1 WHERE id = 1; SELECT iterable_backfill('early', condition => 'id = 2');
	SELECT iterable_backfill('early', condition => 'id = 3')}, schedule => 'manual');
wait_until(sub { states('early') eq '20 noted' }, 'noting waits for no schedule');
is(sql(q{SELECT string_agg(phase || ' ' || condition, ', ') FROM iterable.progress WHERE sync = 'early'}), 'waiting ((id = 2)) OR ((id = 3))',
	'a backfill does, and stays one of some rows');
is(arrived('early'), '', 'nothing is sent yet');
sql(q{SELECT iterable_run('early')});
synced($node, 'early', 'then it runs');
is(arrived('early'), '1=1 2=0 3=0', 'what was captured before it was noted is sent, and the backfill');

create_sync('soon', swap('soon', 'SELECT id, email, 1 FROM soon'));
wait_until(sub { compares('soon') }, 'a table that is replaced before its rows are noted');
synced($node, 'soon');
is(arrived('soon') . '|' . states('soon'), '|20 noted', 'they are noted as they are then');
compared('soon', swap('soon', 'SELECT id, email, 1 + (id = 4)::int FROM soon'), '4=2', 'later');

### Filter and modes

create_sync('part', '', filter => 'n < 5');
synced($node, 'part', 'a filter');
compared('part', swap('part', 'SELECT id, email, CASE id WHEN 1 THEN 9 WHEN 2 THEN 2 ELSE n END FROM part'), '2=2', 'a row leaves, one changes');
is(states('part'), '1 accepted, 18 noted', 'the note of the one that has left has gone');
compared('part', swap('part', 'SELECT id, email, CASE id WHEN 1 THEN 0 ELSE n END FROM part'), '1=0', 'it comes back, and is new');

create_sync('once', '', mode => 'insert');
synced($node, 'once', 'mode insert');
compared('once', swap('once', q{SELECT id, email, n + (id = 1)::int FROM once UNION ALL SELECT 21, 'p21@example.com', 0}), '21=0', 'mode insert: new is what was not there');
sql(q{UPDATE once SET n = 3 WHERE id = 2});
synced($node, 'once', 'mode insert: a change that is captured');
is(arrived('once'), '2=3', 'mode insert: is sent once');

create_sync('again', '', mode => 'update');
synced($node, 'again', 'mode update');
compared('again', swap('again', q{SELECT id, email, n + (id = 1)::int FROM again UNION ALL SELECT 21, 'p21@example.com', 0}), '1=1', 'mode update: what was there and has changed');

### Rows that cannot be rendered

sql(q{CREATE TABLE odd (id int PRIMARY KEY, email text, n int); INSERT INTO odd VALUES (1, 'nowhere', 0), (2, 'p2@example.com', 0);
	SELECT iterable_create_sync('odd', 'prod', 'odd', 'event', 'id', 'email');
	SELECT iterable_set_mappings('odd', '{"eventName": {"constant": "odd"}, "n": "n", "dataFields.id": "id"}');
	SELECT iterable_enable_sync('odd', 'updates_only')});
synced($node, 'odd', 'a row that cannot be sent');
compared('odd', swap('odd', 'SELECT id, email, n FROM odd'), '', 'is no failure while it is as it was');
compared('odd', swap('odd', q{SELECT id, 'p' || id || '@example.com', n FROM odd}), '1=0', 'mended');

### Many rows

sql(q{
	CREATE TABLE many (id int PRIMARY KEY, email text, n int);
	INSERT INTO many SELECT i, 'p1@example.com', 0 FROM generate_series(1, 40000) i;
	ANALYZE many;
	SELECT iterable_create_sync('many', 'prod', 'many', 'event', 'id', 'email');
	SELECT iterable_set_mappings('many', '{"eventName": {"constant": "many"}, "n": "n", "dataFields.id": "id"}');
	SELECT iterable_enable_sync('many', 'updates_only')});
wait_until(sub { sql(q{SELECT phase, rows_seen < 40000 FROM iterable.progress WHERE sync = 'many' AND rows_seen > 0}) eq 'reading|t' },
	'iterable.progress shows the noting');
is(sql(q{SELECT backfilling FROM iterable.sync_status WHERE sync = 'many'}), 'f', 'which is no backfill');
my $start = time;
sql(q{UPDATE many SET n = 1 WHERE id = 40000});
wait_until(sub { arrived('many') eq '40000=1' }, 'a change is sent meanwhile');
sql(q{SELECT iterable_backfill('many', condition => 'id = 39999'); SELECT iterable_cancel_backfill('many')});
ok(states('many') !~ /^1 accepted, 39999/, 'a canceled backfill does not end it');
my $seen = sql(q{SELECT sum(rows_seen) FROM iterable.progress WHERE sync = 'many'});
$node->stop('immediate');
$node->start;
synced($node, 'many', 'it goes on after a crash');
is(states('many'), '1 accepted, 39999 noted', 'to its end');
compared('many', swap('many', 'SELECT id, email, n + (id = 7)::int FROM many'), '7=1', 'many rows');

unlike(log_of($node), qr/PANIC|terminated by signal 1[01]|TRAP/, 'nothing has crashed');
done_testing();
