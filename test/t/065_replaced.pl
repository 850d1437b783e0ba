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
sql(q{DROP TABLE people_old});

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
$sent = rows_sent();
sql(q{
	BEGIN;
	CREATE TABLE people_new AS SELECT id, email, n + (id = 10)::int AS n FROM people;
	DROP TABLE people;
	ALTER TABLE people_new RENAME TO people;
	COMMIT});
paused('people', qr/^paused: column "id" of "public\.people" may be NULL and cannot be a unique field\. Use ALTER TABLE public\.people ALTER COLUMN id SET NOT NULL\./,
	'a new table that cannot be a source pauses the sync');
sql(q{ALTER TABLE people ALTER id SET NOT NULL; UPDATE people SET n = n + 1 WHERE id = 11});
paused('people', qr/^paused: "public\.people" has no unique index on exactly \(id\)\. Use CREATE UNIQUE INDEX/, 'whatever is missing');
is(rows_sent(), $sent, 'and nothing is sent');
noticed('people', 'mended', 2, q{CREATE UNIQUE INDEX ON people (id)});
enabled('people', 'it goes on');

### Locks

# Readers are not in the way of the triggers, but of taking them off.
my $reader = $node->background_psql('postgres');
sql(q{CREATE TABLE people_new (LIKE people INCLUDING ALL);
	INSERT INTO people_new SELECT * FROM people});
$reader->query_safe(q{
	BEGIN; ALTER TABLE people RENAME TO people_old; ALTER TABLE people_new RENAME TO people; COMMIT;
	BEGIN; LOCK people, people_old IN ACCESS SHARE MODE});
wait_until(sub { (triggers_of('people') // '') =~ /A, .*A/ }, 'a reader of the new table is not in the way of the triggers');
synced($node, 'people', 'and it is compared');
$reader->query_safe('COMMIT');
sql(q{UPDATE people_old SET n = n + 1 WHERE id = 12});
synced($node, 'people', 'changes of the old table may be captured if its triggers could not be dropped');
is(differences('people'), '', 'but what is sent is what the new one has');
sql(q{DROP TABLE people_old});

# A writer keeps the triggers away; nobody waits for long behind us.
my $writer = $node->background_psql('postgres');
$before = compares('people');
sql(q{
	CREATE TABLE people_new (LIKE people INCLUDING ALL);
	INSERT INTO people_new SELECT id, email, n + (id = 13)::int FROM people});
$writer->query_safe('BEGIN; LOCK people_new IN ROW EXCLUSIVE MODE; UPDATE people_new SET n = n + 1 WHERE id = 14');
# the one who renames must be the one who writes on
$writer->query_safe('ALTER TABLE people RENAME TO people_old; ALTER TABLE people_new RENAME TO people; COMMIT');
$writer->query_safe('BEGIN; UPDATE people SET n = n + 1 WHERE id = 15');
paused('people', qr/^failing: .*lock timeout\. Other transactions use the table "people"\..* \/ It tries again by itself/, 'the status says that the table is in use');
my $longest = 0;
my $end = time() + 4;
while (time() < $end)
{
	my $start = time();

	sql(q{UPDATE people SET n = n + 1 WHERE id = 16});
	$longest = time() - $start if time() - $start > $longest;
}
cmp_ok($longest, '<', 1.5, 'writers do not queue behind us for long');
$writer->query_safe('COMMIT');
wait_until(sub { compares('people') > $before }, 'it goes on when the writer has ended');
synced($node, 'people', 'and is compared');
is(differences('people'), '', 'nothing is lost');
enabled('people', 'and all is well');
sql(q{DROP TABLE people_old});

### dbt

noticed('people', 'dbt table with a contract', 2, q{
	BEGIN;
	create table "postgres"."public"."people__dbt_tmp" (id int not null primary key, email text, n int);
	insert into "postgres"."public"."people__dbt_tmp" ("id", "email", "n")
		(select id, email, case when id in (17, 18) then n + 1 else n end from (select * from "postgres"."public"."people") as model_subq);
	alter table "postgres"."public"."people" rename to "people__dbt_backup";
	alter table "postgres"."public"."people__dbt_tmp" rename to "people";
	COMMIT;
	BEGIN;
	drop table if exists "postgres"."public"."people__dbt_backup" cascade;
	COMMIT});
noticed('people', 'dbt table without, with index and post-hook', 0, q{
	BEGIN;
	create table "postgres"."public"."people__dbt_tmp" as (select * from "postgres"."public"."people");
	alter table "postgres"."public"."people" rename to "people__dbt_backup";
	alter table "postgres"."public"."people__dbt_tmp" rename to "people";
	create unique index if not exists "8f2c" on "postgres"."public"."people" (id);
	alter table "postgres"."public"."people" alter column id set not null;
	COMMIT;
	BEGIN;
	drop table if exists "postgres"."public"."people__dbt_backup" cascade;
	COMMIT});

# Statements that the triggers see; nothing must be compared.
sub seen
{
	my ($name, $what, $rows, $statements) = @_;
	my $compared = compares($name);
	my $start = rows_sent();
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	sql($statements);
	synced($node, $name, "$what: it is sent");
	is(differences($name), '', "$what: Iterable has what the table has");
	is(rows_sent() - $start, $rows, "$what: what has not changed was not sent");
	usleep(1_200_000);
	is(compares($name), $compared, "$what: the triggers have seen it");
	return;
}

seen('people', 'dbt incremental with delete+insert', 2, q{
	BEGIN;
	create temporary table "people__dbt_tmp150" as (select id, email, n + (id = 1)::int as n from people where id < 10
		union all select 31, 'people31@example.com', 0);
	delete from "postgres"."public"."people" where (id) in (select (id) from "people__dbt_tmp150");
	insert into "postgres"."public"."people" ("id", "email", "n") (select "id", "email", "n" from "people__dbt_tmp150");
	COMMIT});
seen('people', 'dbt incremental with merge', 2, q{
	BEGIN;
	create temporary table "people__dbt_tmp151" as (select id, email, n + (id = 2)::int as n from people where id < 10
		union all select 32, 'people32@example.com', 0);
	merge into "postgres"."public"."people" as DBT_INTERNAL_DEST using "people__dbt_tmp151" as DBT_INTERNAL_SOURCE
		on (DBT_INTERNAL_SOURCE.id = DBT_INTERNAL_DEST.id)
	when matched then update set "id" = DBT_INTERNAL_SOURCE."id", "email" = DBT_INTERNAL_SOURCE."email", "n" = DBT_INTERNAL_SOURCE."n"
	when not matched then insert ("id", "email", "n")
		values (DBT_INTERNAL_SOURCE."id", DBT_INTERNAL_SOURCE."email", DBT_INTERNAL_SOURCE."n");
	COMMIT});

# A view in the place of a table, and back.
$before = compares('people');
$sent = rows_sent();
sql(q{
	BEGIN;
	create view "postgres"."public"."people__dbt_tmp" as (select 1 as id, 'x' as email, 2 as n);
	alter table "postgres"."public"."people" rename to "people__dbt_backup";
	alter view "postgres"."public"."people__dbt_tmp" rename to "people";
	COMMIT});
paused('people', qr/^paused: source "public\.people" of sync "people" is not a table any more\. .*views/, 'a view in the place of a table pauses the sync');
is(rows_sent(), $sent, 'nothing is sent');
sql(q{BEGIN; DROP VIEW people; UPDATE people__dbt_backup SET n = n + 1 WHERE id = 3; ALTER TABLE people__dbt_backup RENAME TO people; COMMIT});
enabled('people', 'when it is a table again the sync goes on');
synced($node, 'people', 'with what has changed');
is(differences('people'), '', 'nothing is lost');

### TRUNCATE

seen('people', 'TRUNCATE and COPY', 1, q{
	CREATE TEMPORARY TABLE kept AS SELECT id, email, n + (id = 4)::int AS n FROM people WHERE id <> 6;
	BEGIN;
	TRUNCATE people;
	INSERT INTO people TABLE kept;
	COMMIT});
is(sql(q{SELECT state FROM iterable.delivery WHERE sync = 'people' AND key = '6'}), 'vanished', 'a row that was not loaded again has vanished');
seen('people', 'TRUNCATE alone', 0, q{CREATE TABLE people_kept AS TABLE people; TRUNCATE people});
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'people' AND state <> 'vanished'}), '0', 'all rows have vanished');
seen('people', 'loaded again', 0, q{COPY people FROM PROGRAM 'true'; INSERT INTO people TABLE people_kept});

### Triggers

noticed('people', 'DISABLE TRIGGER ALL', 1, q{ALTER TABLE people DISABLE TRIGGER ALL; UPDATE people SET n = n + 1 WHERE id = 7});
is(triggers_of('people'), 'iterable_capture A, iterable_truncate A', 'they are enabled again');
noticed('people', 'DISABLE TRIGGER USER, TRUNCATE, ENABLE TRIGGER ALL', 1, q{
	BEGIN;
	ALTER TABLE people DISABLE TRIGGER USER;
	CREATE TEMPORARY TABLE kept AS SELECT id, email, n + (id = 8)::int AS n FROM people WHERE id <> 9;
	TRUNCATE people;
	INSERT INTO people TABLE kept;
	ALTER TABLE people ENABLE TRIGGER ALL;
	COMMIT});
is(triggers_of('people'), 'iterable_capture A, iterable_truncate A', 'always');
my ($trigger) = sql(q{SELECT tgname FROM pg_trigger WHERE tgrelid = 'people'::regclass AND tgname LIKE 'iterable_capture%'});
noticed('people', 'disabled by name, and enabled as it was', 1, qq{
	ALTER TABLE people DISABLE TRIGGER $trigger;
	UPDATE people SET n = n + 1 WHERE id = 10;
	ALTER TABLE people ENABLE ALWAYS TRIGGER $trigger});
noticed('people', 'DROP TRIGGER', 1, qq{DROP TRIGGER $trigger ON people; UPDATE people SET n = n + 1 WHERE id = 11});

# A data-only restore with triggers disabled.
my $dump = PostgreSQL::Test::Utils::tempdir() . '/people.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-t', 'people', '-f', $dump, $node->connstr('postgres') ], 'pg_dump of the table');
sql(q{DELETE FROM people WHERE id IN (12, 13); UPDATE people SET n = n + 1 WHERE id = 14; TRUNCATE people});
synced($node, 'people', 'changes after the dump');
$before = compares('people');
$sent = rows_sent();
$node->command_ok([ 'pg_restore', '--data-only', '--disable-triggers', '-d', $node->connstr('postgres'), $dump ], 'pg_restore --data-only --disable-triggers');
wait_until(sub { compares('people') > $before }, 'a restore without triggers is noticed');
synced($node, 'people', 'and compared');
is(differences('people'), '', 'Iterable has what the table has');
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'people' AND key IN ('12', '13', '14') AND state = 'accepted'}), '3', 'the rows have come back');

done_testing();
