# Copyright (c) 2026, the iterable_sync developers

# What no trigger sees: tables that are replaced, triggers that are disabled,
# partitions that come and go with their rows.  It is noticed, the triggers are
# put back, and one comparing run sends what differs and nothing else.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use Time::HiRes qw(time usleep);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('main', conf => "iterable_sync.rescan_interval = 1s\nlog_lock_waits = off\n");

create_connection($node, 'prod', $emulator, users_rate => 100);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub rows_sent { return $emulator->stats->{requests}{'/api/users/bulkUpdate'}{rows} // 0; }

# How often the worker has found that something must be compared.
sub compares
{
	my ($table) = @_;

	return scalar(() = log_of($node) =~ /source "\w+\.$table" of sync "\w+" is compared|source "\w+\.$table" is compared/g);
}

# A sync of a table of 20 rows, under its name.
sub create_sync
{
	my ($name, $definition) = @_;

	$definition //= "CREATE TABLE $name (id int PRIMARY KEY, email text, n int)";
	sql(qq{
		$definition;
		INSERT INTO $name SELECT i, '$name' || i || '\@example.com', 0 FROM generate_series(1, 20) i;
		SELECT iterable_create_sync('$name', 'prod', '$name', 'user', 'id', 'email');
		SELECT iterable_add_mapping('$name', 'n', column_name => 'n');
		SELECT iterable_enable_sync('$name', 'backfill')});
	synced($node, $name, "$name: the rows that are there arrive");
	return;
}

# Of the rows of a table that Iterable has otherwise, or of which the deliveries
# say so, and of deliveries that should be vanished: '' if there are none.
sub differences
{
	my ($name) = @_;
	my %users = map { $_->{email} => $_->{dataFields}{n} } $emulator->users;
	my @rows = split /\n/, sql(qq{
		SELECT t.email || ' ' || t.n FROM $name t ORDER BY t.id});
	my @differences = grep { my ($email, $n) = split / /; ($users{$email} // 'none') ne $n } @rows;

	push @differences, sql(qq{
		SELECT coalesce(string_agg(key || ' is ' || coalesce(state, 'missing'), ', ' ORDER BY key), '')
		FROM (SELECT key, state FROM iterable.delivery WHERE sync = '$name') d
		FULL JOIN (SELECT id::text AS key FROM $name) t USING (key)
		WHERE coalesce(state, '') <> CASE WHEN t.key IS NULL THEN 'vanished' ELSE 'accepted' END});
	return join(', ', grep { $_ ne '' } @differences);
}

# Statements after which the worker must find something to compare, exactly
# once, send so many rows, and have the table and Iterable alike; after which
# changes are captured.
sub noticed
{
	my ($name, $what, $rows, @statements) = @_;
	my $before = compares($name);
	my $sent = rows_sent();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$node->safe_psql('postgres', $_) foreach @statements;
	wait_until(sub { compares($name) > $before }, "$what: it is noticed");
	synced($node, $name, "$what: it is compared");
	is(differences($name), '', "$what: Iterable has what the table has");
	is(rows_sent() - $sent, $rows, "$what: what has not changed was not sent");
	captured($name, $what);
	usleep(1_500_000);
	is(compares($name) - $before, 1, "$what: it is compared once");
	return;
}

sub captured
{
	my ($name, $what) = @_;
	my $sent = rows_sent();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	sql("UPDATE $name SET n = n + 1 WHERE id = (SELECT min(id) FROM $name)");
	synced($node, $name, "$what: later changes are captured");
	is(differences($name), '', "$what: and sent");
	is(rows_sent() - $sent, 1, "$what: alone");
	return;
}

sub paused
{
	my ($name, $pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $status = '';

	wait_until(
		sub {
			$status = sql(qq{SELECT state || ': ' || coalesce(reason, '') || ' / ' || coalesce(what_to_do, '') FROM iterable.sync_status WHERE sync = '$name'});
			$status =~ $pattern;
		},
		$what, 20) or diag($status);
	return;
}

sub enabled
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	paused($name, qr/^enabled/, $what);
	return;
}

sub triggers_of
{
	my ($table) = @_;

	return sql(qq{SELECT string_agg(regexp_replace(tgname, '_\\d+\$', '') || ' ' || tgenabled::text, ', ' ORDER BY tgname)
		FROM pg_trigger WHERE tgrelid = '$table'::regclass AND NOT tgisinternal});
}

### Names

create_sync('people');
noticed('people', 'rename swap', 3, q{
	BEGIN;
	CREATE TABLE people_new AS SELECT id, email, CASE WHEN id IN (3, 4) THEN n + 1 ELSE n END AS n
		FROM people WHERE id <> 5 UNION ALL SELECT 21, 'people21@example.com', 0;
	ALTER TABLE people RENAME TO people_old;
	ALTER TABLE people_new RENAME TO people;
	ALTER TABLE people ADD PRIMARY KEY (id);
	COMMIT});
is(triggers_of('people'), 'iterable_capture A, iterable_truncate A', 'the new table has the triggers');
is(triggers_of('people_old'), '', 'the old one not any more');

noticed('people', 'DROP and CREATE', 1, q{
	CREATE TABLE people_copy AS TABLE people;
	BEGIN;
	DROP TABLE people;
	CREATE TABLE people (n int, id bigint PRIMARY KEY, email text);
	INSERT INTO people SELECT n + (id = 7)::int, id, email FROM people_copy;
	COMMIT});

my $before = compares('people');
my $sent = rows_sent();
sql(q{ALTER TABLE people RENAME TO away});
paused('people', qr/^paused: source "public\.people" of sync "people" does not exist\. .*rename it back/, 'a table that is away: the sync is paused and says why');
sql(q{UPDATE away SET n = n + 1 WHERE id = 8; ALTER TABLE away RENAME TO people});
enabled('people', 'it goes on when the table is back');
synced($node, 'people', 'with what has changed');
is(differences('people'), '', 'nothing is lost');
sql(q{CREATE SCHEMA elsewhere; ALTER TABLE people SET SCHEMA elsewhere});
paused('people', qr/^paused: source "public\.people" of sync "people" does not exist/, 'the same for another schema');
sql(q{UPDATE elsewhere.people SET n = n + 1 WHERE id = 9; ALTER TABLE elsewhere.people SET SCHEMA public});
enabled('people', 'and back');
synced($node, 'people', 'with what has changed');
is(differences('people'), '', 'nothing is lost');
is(rows_sent() - $sent, 2, 'and no more than that was sent');
is(compares('people') - $before, 0, 'there was nothing to compare');

# Not what may be a source.
$before = compares('people');
sql(q{
	BEGIN;
	CREATE TABLE people_new AS SELECT id, email, n + (id = 10)::int AS n FROM people;
	ALTER TABLE people RENAME TO people_old;
	ALTER TABLE people_new RENAME TO people;
	COMMIT});
paused('people', qr/^paused: column "id" of "public\.people" may be NULL and cannot be a unique field\. Use ALTER TABLE public\.people ALTER COLUMN id SET NOT NULL\./,
	'a new table that cannot be a source pauses the sync');
sql(q{ALTER TABLE people ALTER id SET NOT NULL; UPDATE people SET n = n + 1 WHERE id = 11});
paused('people', qr/^paused: "public\.people" has no unique index on exactly \(id\)\. Use CREATE UNIQUE INDEX/, 'whatever is missing');
is(rows_sent(), $sent + 2, 'and nothing is sent');
noticed('people', 'mended', 2, q{CREATE UNIQUE INDEX ON people (id)});
enabled('people', 'it goes on');

# A writer that does not end.
my $writer = $node->background_psql('postgres');
sql(q{
	BEGIN;
	CREATE TABLE people_new AS SELECT id, email, n + (id = 10)::int AS n FROM people;
	ALTER TABLE people_new ADD PRIMARY KEY (id);
	ALTER TABLE people RENAME TO people_old2;
	ALTER TABLE people_new RENAME TO people;
	LOCK people IN ROW EXCLUSIVE MODE;
	COMMIT});
$writer->query_safe('BEGIN; LOCK people IN ROW EXCLUSIVE MODE');
done_testing();
