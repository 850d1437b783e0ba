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
paused('people', qr/^paused: "public\.people" cannot be synced continuously\..* Use a schedule/, 'a view in the place of a table pauses the sync');
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

# What is under way when the triggers are bypassed must have its verdict before
# anything can be said of its row.
my $n = sql(q{SELECT n FROM people WHERE id = 12});
$before = compares('people');
$emulator->script({ action => 'hang' });
sql(q{UPDATE people SET n = 1000 WHERE id = 12});
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'a request is under way');
sql(qq{BEGIN; ALTER TABLE people DISABLE TRIGGER ALL; UPDATE people SET n = $n WHERE id = 12; COMMIT});
wait_until(sub { compares('people') > $before }, 'its row goes back to what it was, behind the triggers');
usleep(500_000);
is(sql(q{SELECT phase FROM iterable.progress WHERE sync = 'people'}), 'waiting', 'comparing waits for the verdict');
$emulator->release;
synced($node, 'people', 'then it goes on');
is(differences('people'), '', 'and finds the row');

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

### Partitions

create_sync('parted', q{
	CREATE TABLE parted (id int PRIMARY KEY, email text, n int) PARTITION BY RANGE (id);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (11);
	CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (11) TO (21)});
noticed('parted', 'ATTACH PARTITION with rows', 5, q{
	CREATE TABLE parted_3 (LIKE parted INCLUDING ALL);
	INSERT INTO parted_3 SELECT i, 'parted' || i || '@example.com', 1 FROM generate_series(21, 25) i;
	ALTER TABLE parted ATTACH PARTITION parted_3 FOR VALUES FROM (21) TO (31)});
seen('parted', 'a partition that is empty', 0, q{CREATE TABLE parted_4 PARTITION OF parted FOR VALUES FROM (31) TO (41)});

# Rows of the table that are not there any more and are known to be gone.
sub vanished
{
	my ($count, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	wait_until(sub { sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'parted' AND state = 'vanished'}) == $count }, $what);
	return;
}

# The triggers of partitions see their TRUNCATE, also of new ones.
seen('parted', 'TRUNCATE of a partition', 0, q{TRUNCATE parted_2});
vanished(10, 'its rows have vanished');
is(triggers_of('parted_4'), 'iterable_capture A, iterable_truncate A', 'a new partition has both triggers soon');
sql(q{INSERT INTO parted SELECT i, 'parted' || i || '@example.com', 1 FROM generate_series(31, 35) i});
synced($node, 'parted', 'rows of a new partition');
seen('parted', 'TRUNCATE of a new partition, one that is rewritten', 0, q{TRUNCATE parted_4; VACUUM FULL parted_1});
vanished(15, 'these have vanished, too');

# One that is in use gets none, and nobody waits for anybody; its storage tells.
my $user = $node->background_psql('postgres');
$user->query_safe(q{BEGIN; CREATE TABLE parted_5 PARTITION OF parted FOR VALUES FROM (41) TO (51); COMMIT; BEGIN; LOCK parted_5 IN ROW EXCLUSIVE MODE});
wait_until(sub { sql(q{SELECT 'parted_5'::regclass = ANY (parts) FROM iterable.source_state JOIN iterable.source USING (source_id) WHERE table_name = 'parted'}) eq 't' }, 'a partition that is in use');
sql(q{INSERT INTO parted SELECT i, 'parted' || i || '@example.com', 1 FROM generate_series(41, 45) i});
synced($node, 'parted', 'its rows arrive');
is(triggers_of('parted_5'), 'iterable_capture A', 'it is left alone');
is(sql(q{SELECT state FROM iterable.sync_status WHERE sync = 'parted'}), 'enabled', 'which is no trouble');
$before = compares('parted');
$user->query_safe('TRUNCATE parted_5; COMMIT');
$user->quit;
wait_until(sub { compares('parted') > $before }, 'its truncation is noticed');
vanished(20, 'its rows have vanished');
is(triggers_of('parted_5'), 'iterable_capture A, iterable_truncate A', 'and it has both triggers');

# Nor does one of an owner who has not given his rights.
sql(q{CREATE ROLE landlord; CREATE ROLE tenant; ALTER TABLE parted OWNER TO tenant; GRANT USAGE ON FOREIGN SERVER prod TO tenant;
	CREATE TABLE parted_7 PARTITION OF parted FOR VALUES FROM (61) TO (71);
	ALTER TABLE parted_7 OWNER TO landlord;
	INSERT INTO parted SELECT i, 'parted' || i || '@example.com', 1 FROM generate_series(61, 65) i});
wait_until(sub { sql(q{SELECT 'parted_7'::regclass = ANY (parts) FROM iterable.source_state JOIN iterable.source USING (source_id) WHERE table_name = 'parted'}) eq 't' }, 'a partition of another owner');
synced($node, 'parted', 'its rows arrive');
is(triggers_of('parted_7'), 'iterable_capture A', 'it is left alone');
noticed('parted', 'TRUNCATE of a partition of another owner', 0, q{TRUNCATE parted_7});
vanished(25, 'its rows have vanished');
sql(q{ALTER TABLE parted OWNER TO CURRENT_USER; ALTER TABLE parted_7 OWNER TO CURRENT_USER});

noticed('parted', 'DETACH PARTITION', 0, q{ALTER TABLE parted DETACH PARTITION parted_3});
vanished(30, 'so have these');
wait_until(sub { (triggers_of('parted_3') // '') eq '' }, 'and its triggers are gone');
noticed('parted', 'a trigger of a partition that is disabled', 1, q{
	ALTER TABLE parted_1 DISABLE TRIGGER ALL;
	UPDATE parted SET n = n + 1 WHERE id = 5});
is(triggers_of('parted_1'), 'iterable_capture A, iterable_truncate A', 'it is enabled again');
$before = compares('parted');
sql(q{
	DO $$ BEGIN EXECUTE (SELECT 'DROP TRIGGER ' || tgname || ' ON parted_1' FROM pg_trigger WHERE tgrelid = 'parted_1'::regclass AND tgname ~ 'truncate'); END $$;
	TRUNCATE parted_1});
wait_until(sub { compares('parted') > $before }, 'a TRUNCATE trigger of a partition that is dropped is noticed');
vanished(40, 'what was removed meanwhile has vanished');
is(triggers_of('parted_1'), 'iterable_capture A, iterable_truncate A', 'it is back');
seen('parted', 'rows of a partition itself', 1, q{INSERT INTO parted_1 VALUES (6, 'parted6@example.com', 7)});

### Inheritance

create_sync('being');
sql(q{CREATE TABLE cat () INHERITS (being); INSERT INTO cat VALUES (1, 'cat@example.com', 5); UPDATE ONLY being SET n = 1 WHERE id = 2});
paused('being', qr/^paused: source "public\.being" of sync "being" has inheritance children now\. Changes of their rows are not captured\. Use ALTER TABLE \.\.\. NO INHERIT/,
	'a table that gets a child pauses the sync');
sql(q{DROP TABLE cat});
enabled('being', 'without it, it goes on');
synced($node, 'being', 'with what has changed');
is(differences('being'), '', 'nothing is lost');

### Owners

sql(q{CREATE ROLE team; CREATE ROLE member IN ROLE team; CREATE ROLE stranger;
	GRANT USAGE ON FOREIGN SERVER prod TO team; GRANT CREATE ON SCHEMA public TO team, member, stranger});
sql(q{
	SET ROLE member;
	CREATE TABLE owned (id int PRIMARY KEY, email text, n int);
	INSERT INTO owned SELECT i, 'owned' || i || '@example.com', 0 FROM generate_series(1, 20) i;
	SELECT iterable_create_sync('owned', 'prod', 'owned', 'user', 'id', 'email');
	SELECT iterable_add_mapping('owned', 'n', column_name => 'n');
	SELECT iterable_enable_sync('owned', 'backfill')});
synced($node, 'owned', 'owned: the rows that are there arrive');
seen('owned', 'an owner whose rights the sync has', 1, q{ALTER TABLE owned OWNER TO team; UPDATE owned SET n = n + 1 WHERE id = 2});
$sent = rows_sent();
sql(q{ALTER TABLE owned OWNER TO stranger; UPDATE owned SET n = n + 1 WHERE id = 3});
paused('owned', qr/^paused: owner of sync "owned" may not use source "public\.owned"\. Role "member" does not have the rights of role "stranger", which owns the table\. Make it a member/,
	'another owner pauses the sync');
is(rows_sent(), $sent, 'nothing is sent');
sql(q{ALTER TABLE owned OWNER TO team});
enabled('owned', 'given back, it goes on');
synced($node, 'owned', 'with what has changed');
is(differences('owned'), '', 'nothing is lost');

### Columns

create_sync('shape', q{CREATE TABLE shape (id int PRIMARY KEY, email text, n int, city text)});
sql(q{SELECT iterable_add_mapping('shape', 'town', expression => 'upper(city)', apply => 'backfill')});
synced($node, 'shape', 'shape: a mapping more');
foreach my $case (
	[ 'a mapped column is renamed', 'ALTER TABLE shape RENAME n TO m', 'ALTER TABLE shape RENAME m TO n',
		qr/^paused: column "n" of relation "public\.shape" does not exist\. It is mapped to "n"\. Rename the column back/ ],
	[ 'a column of an expression is renamed', 'ALTER TABLE shape RENAME city TO town', 'ALTER TABLE shape RENAME town TO city',
		qr/^paused: column "city" does not exist\. It is needed by the mapping to "town"\. Give the source what is missing/ ],
	[ 'a key column is renamed', 'ALTER TABLE shape RENAME id TO key', 'ALTER TABLE shape RENAME key TO id',
		qr/^paused: key column "id" of source "public\.shape" of sync "shape" does not exist\. Rename the column back/ ],
	[ 'a mapped column is dropped', 'ALTER TABLE shape ADD spare int; UPDATE shape SET spare = n; ALTER TABLE shape DROP n',
		'ALTER TABLE shape ADD n int; UPDATE shape SET n = spare; ALTER TABLE shape DROP spare',
		qr/^paused: column "n" of relation "public\.shape" does not exist\. It is mapped to "n"\. Rename the column back or add it again/ ],
	[ 'a mapped column gets a type that cannot be sent', 'ALTER TABLE shape ALTER city TYPE tsvector USING NULL',
		'ALTER TABLE shape ALTER city TYPE text USING NULL',
		qr/^paused: function .*upper\(tsvector\) does not exist\. It is needed by the mapping to "town"\./ ],
	[ 'a mapped column becomes money', 'ALTER TABLE shape ALTER n TYPE money', 'ALTER TABLE shape ALTER n TYPE int USING n::numeric::int',
		qr/^paused: a value of type money cannot be sent to Iterable\. It is mapped to "n"\. Map an expression/ ],
	[ 'a key column gets a type without canonical text', 'ALTER TABLE shape ALTER id TYPE float8', 'ALTER TABLE shape ALTER id TYPE int',
		qr/^paused: key column "id" of source "public\.shape" of sync "shape" has no canonical text any more\. Its type is double precision now\. Change the type back/ ])
{
	my ($what, $break, $mend, $reason) = @$case;
	my $key = $break =~ /id TO key/ ? 'key' : 'id';

	sql($break);
	sql(qq{UPDATE shape SET email = email || 'x' WHERE $key = 1; UPDATE shape SET email = replace(email, 'x\@', '\@') WHERE $key = 2});
	paused('shape', $reason, $what);
	$sent = rows_sent();
	sql(qq{UPDATE shape SET email = 'changed' || email WHERE $key = 3});
	sql($mend);
	enabled('shape', "$what and mended: the sync goes on");
	synced($node, 'shape', "$what and mended: what has changed is sent");
	is(differences('shape'), '', "$what and mended: nothing is lost");
	cmp_ok(rows_sent() - $sent, '<=', 3, "$what and mended: and nothing else is sent");
}
is(triggers_of('shape'), 'iterable_capture A, iterable_truncate A', 'the triggers are what they were');

### Swaps under load

create_sync('busy');
my @writers = map { $node->background_psql('postgres') } 1 .. 2;
$node->safe_psql('postgres', q{
	CREATE PROCEDURE write_busy(which int, seconds int) LANGUAGE plpgsql AS $$
	DECLARE
		until timestamptz := clock_timestamp() + make_interval(secs => seconds);
		key int;
	BEGIN
		WHILE clock_timestamp() < until LOOP
			key := 1 + 2 * floor(10 * random())::int + which % 2;
			CASE floor(6 * random())::int
				WHEN 0 THEN DELETE FROM busy WHERE id = key;
				WHEN 1 THEN INSERT INTO busy VALUES (key, 'busy' || key || '@example.com', 0) ON CONFLICT DO NOTHING;
				ELSE UPDATE busy SET n = (1000000 * random())::int WHERE id = key;
			END CASE;
			COMMIT;
			PERFORM pg_sleep(0.002);
		END LOOP;
	END $$;
	CREATE PROCEDURE swap_busy() LANGUAGE plpgsql AS $$
	BEGIN
		LOCK busy IN ACCESS EXCLUSIVE MODE;
		CREATE TABLE busy_new (LIKE busy INCLUDING ALL);
		INSERT INTO busy_new SELECT id, email, (1000000 * random())::int FROM busy WHERE id <> 1 + floor(20 * random())::int;
		ALTER TABLE busy RENAME TO busy_old;
		ALTER TABLE busy_new RENAME TO busy;
		DROP TABLE busy_old;
	END $$});
my @ends;
foreach my $which (0, 1)
{
	$writers[$which]->query_until(qr/started/, "\\echo started\nCALL write_busy($which, 14);\n\\echo writer_done\n");
}
$before = compares('busy');
foreach my $swap (1 .. 8)
{
	sql('CALL swap_busy()');
	usleep(300_000 + rand(1_800_000));
}
$writers[$_]->quit foreach 0, 1;
wait_until(sub { compares('busy') > $before }, 'swaps under load are noticed');
wait_until(sub { sql(q{SELECT relid = 'busy'::regclass FROM iterable.source_state JOIN iterable.source USING (source_id) WHERE table_name = 'busy'}) eq 't' }, 'the last one too');
synced($node, 'busy', 'all is sent in the end');
is(differences('busy'), '', 'no change is lost between the birth of a table and its triggers');

### A table that has the name between two looks only

my $rare = start_cluster('rare', conf => "iterable_sync.rescan_interval = 8s\n");
create_connection($rare, 'prod', $emulator, users_rate => 100);
$rare->safe_psql('postgres', q{
	CREATE TABLE brief (id int PRIMARY KEY, email text, n int);
	INSERT INTO brief SELECT i, 'brief' || i || '@example.com', 0 FROM generate_series(1, 20) i;
	CREATE TABLE guest (LIKE brief INCLUDING ALL);
	INSERT INTO guest SELECT id, email, 100 FROM brief;
	SELECT iterable_create_sync('brief', 'prod', 'brief', 'user', 'id', 'email');
	SELECT iterable_add_mapping('brief', 'n', column_name => 'n');
	SELECT iterable_enable_sync('brief', 'backfill')});
synced($rare, 'brief', 'brief: the rows that are there arrive');
$rare->safe_psql('postgres', q{
	BEGIN;
	UPDATE brief SET n = 1 WHERE id = 1;
	ALTER TABLE brief RENAME TO host;
	ALTER TABLE guest RENAME TO brief;
	COMMIT});
sub brief_n { return (map { $_->{dataFields}{n} } grep { $_->{email} eq 'brief1@example.com' } $emulator->users)[0]; }
wait_until(sub { brief_n() == 100 }, 'a row is read from the guest');
$rare->safe_psql('postgres', q{BEGIN; ALTER TABLE brief RENAME TO guest; ALTER TABLE host RENAME TO brief; COMMIT});
wait_until(sub { brief_n() == 1 }, 'and again from the host, although both were exchanged back');

# A partition that is made, filled and truncated between two looks
$rare->safe_psql('postgres', q{
	CREATE TABLE parts (id int PRIMARY KEY, email text, n int) PARTITION BY RANGE (id);
	SELECT iterable_create_sync('parts', 'prod', 'parts', 'user', 'id', 'email');
	SELECT iterable_add_mapping('parts', 'n', column_name => 'n');
	SELECT iterable_enable_sync('parts', 'backfill');
	CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
	INSERT INTO parts SELECT i, 'parts' || i || '@example.com', 0 FROM generate_series(1, 20) i});
synced($rare, 'parts', 'rows of a partition that is new');
$rare->safe_psql('postgres', 'TRUNCATE parts_1');
wait_until(sub { $rare->safe_psql('postgres', q{SELECT count(*) FROM iterable.delivery WHERE sync = 'parts' AND state = 'vanished'}) == 20 },
	'its truncation is noticed');
$rare->stop('fast');

### Without a worker

my $alone = start_cluster('alone', preload => 0);
create_connection($alone, 'prod', $emulator, users_rate => 100);
$alone->safe_psql('postgres', q{
	CREATE TABLE lone (id int PRIMARY KEY, email text, n int);
	INSERT INTO lone SELECT i, 'lone' || i || '@example.com', 0 FROM generate_series(1, 20) i;
	SELECT iterable_create_sync('lone', 'prod', 'lone', 'user', 'id', 'email');
	SELECT iterable_add_mapping('lone', 'n', column_name => 'n');
	SELECT iterable_enable_sync('lone', 'backfill')});
$alone->safe_psql('postgres', q{CALL iterable_run_now('lone')});
$sent = rows_sent();
$alone->safe_psql('postgres', q{
	BEGIN;
	CREATE TABLE lone_new (LIKE lone INCLUDING ALL);
	INSERT INTO lone_new SELECT id, email, (id = 7)::int FROM lone;
	DROP TABLE lone;
	ALTER TABLE lone_new RENAME TO lone;
	COMMIT});
$alone->safe_psql('postgres', q{CALL iterable_run_now('lone')});
is(rows_sent() - $sent, 1, 'iterable_run_now() notices a replaced table, too');
$alone->safe_psql('postgres', q{UPDATE lone SET n = 2 WHERE id = 8});
$alone->safe_psql('postgres', q{CALL iterable_run_now('lone')});
is(join(' ', map { "$_->{email}=$_->{dataFields}{n}" } sort { $a->{email} cmp $b->{email} } grep { $_->{email} =~ /^lone/ && $_->{dataFields}{n} } $emulator->users),
	'lone7@example.com=1 lone8@example.com=2', 'and puts the triggers');

done_testing();
