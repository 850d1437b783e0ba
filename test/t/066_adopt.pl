# Copyright (c) 2026, the iterable_sync developers

# A copy of a database sends nothing until it is adopted, and then only what
# differs from what had been accepted, or was being sent, when it was made.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use Time::HiRes qw(usleep);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('main', conf => "iterable_sync.rescan_interval = 1s\n");
my $what_to_do = 'Call iterable_adopt() if this database shall send from now on.';

create_connection($node, 'prod', $emulator, users_rate => 100);

sub sql
{
	my ($sql, $dbname) = @_;

	return $node->safe_psql($dbname // 'postgres', $sql);
}

sub rows_sent { return $emulator->stats->{requests}{'/api/users/bulkUpdate'}{rows} // 0; }

sub n_of
{
	my ($email) = @_;
	my ($user) = grep { $_->{email} eq $email } $emulator->users;

	return $user->{dataFields}{n};
}

# What became of a sync of a database, when it has sent all.
sub waited
{
	my ($sync, $dbname) = @_;

	return sql(qq{SELECT done, failures, reason FROM iterable_wait('$sync', '60 s')}, $dbname);
}

sql(q{
	CREATE ROLE other;
	CREATE ROLE app;
	GRANT USAGE ON FOREIGN SERVER prod TO app;
	GRANT CREATE ON SCHEMA public TO app;
	SET ROLE app;
	CREATE TABLE people (id int PRIMARY KEY, email text, n int);
	INSERT INTO people SELECT i, 'p' || i || '@example.com', 0 FROM generate_series(1, 20) i;
	CREATE TABLE idle (LIKE people INCLUDING ALL);
	INSERT INTO idle SELECT i, 'i' || i || '@example.com', 0 FROM generate_series(1, 5) i;
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('people', 'n', column_name => 'n');
	SELECT iterable_enable_sync('people', 'backfill');
	SELECT iterable_create_sync('idle', 'prod', 'idle', 'user', 'id', 'email');
	SELECT iterable_add_mapping('idle', 'n', column_name => 'n');
	SELECT iterable_enable_sync('idle', 'backfill')});
sql(q{
	SET ROLE app;
	CREATE TABLE old (LIKE people INCLUDING ALL);
	INSERT INTO old SELECT i, 'o' || i || '@example.com', 0 FROM generate_series(1, 5) i;
	SELECT iterable_create_sync('old', 'prod', 'old', 'user', 'id', 'email');
	SELECT iterable_add_mapping('old', 'n', column_name => 'n');
	SELECT iterable_enable_sync('old', 'updates_only')});
is(waited('old'), 't|0|', 'rows are noted');
# captured and noted, but not sent yet
sql(q{
	SET ROLE app;
	CREATE TABLE late (LIKE people INCLUDING ALL);
	INSERT INTO late SELECT i, 'l' || i || '@example.com', 0 FROM generate_series(1, 5) i;
	SELECT iterable_create_sync('late', 'prod', 'late', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('late', 'n', column_name => 'n');
	BEGIN;
	SELECT iterable_enable_sync('late', 'updates_only');
	UPDATE late SET n = 1 WHERE id = 1;
	COMMIT});
wait_until(sub { sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'late' AND state = 'noted'}) eq '5' }, 'also of a sync that does not run yet');
is(waited('people'), 't|0|', 'the rows are sent');
is(waited('idle'), 't|0|', 'of both');
sql(q{SELECT iterable_disable_sync('idle')});

# The copy is made while a request is under way.
$emulator->script({ action => 'hang' });
sql(q{UPDATE people SET n = 1 WHERE id = 3});
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'a request is under way');
sql(q{CREATE DATABASE copy TEMPLATE postgres}, 'template1');
$emulator->release;
is(waited('people'), 't|0|', 'the original goes on');
is(n_of('p3@example.com'), 1, 'and sends what was under way');

my $sent = rows_sent();
sql(q{
	UPDATE people SET n = 0 WHERE id = 3;
	UPDATE people SET n = 5 WHERE id = 4;
	DELETE FROM people WHERE id = 5;
	UPDATE old SET n = 3 WHERE id = 2;
	UPDATE idle SET n = 6 WHERE id = 1}, 'copy');
usleep(2_500_000);
is(rows_sent(), $sent, 'the copy sends nothing');
is(sql(q{SELECT sync, state, what_to_do FROM iterable.sync_status WHERE sync IN ('idle', 'people') ORDER BY sync}, 'copy'),
	"idle|disabled|Call iterable_enable_sync() to go on; changes are captured meanwhile.\npeople|paused|$what_to_do", 'and says what to do');
is(sql(q{SET ROLE other; SELECT iterable_adopt()}, 'copy'), '0', 'nobody adopts the syncs of others');
is(sql(q{SET ROLE app; SELECT iterable_adopt()}, 'copy'), '4', 'their owner does');
is(sql(q{SET ROLE app; SELECT iterable_adopt()}, 'copy'), '0', 'once');
is(waited('people', 'copy'), 't|0|', 'the copy sends');
is(waited('old', 'copy'), 't|0|', 'and what was only noted');
is(rows_sent() - $sent, 3, 'what differs, and what was under way');
is(join(' ', map { n_of("p$_\@example.com") } 3, 4) . ' ' . n_of('o2@example.com'), '0 5 3', 'as it is here');
is(sql(q{SELECT state FROM iterable.delivery WHERE sync = 'people' AND key = '5'}, 'copy'), 'vanished', 'what is gone has vanished');
is(sql(q{SELECT reason FROM iterable.progress WHERE sync = 'idle'}, 'copy'), 'the database was adopted', 'a disabled sync waits');
$sent = rows_sent();
sql(q{SELECT iterable_enable_sync('idle')}, 'copy');
is(waited('idle', 'copy'), 't|0|', 'until it is enabled');
is(rows_sent() - $sent, 1, 'then it sends what differs');
$sent = rows_sent();
sql(q{UPDATE people SET n = 7 WHERE id = 6}, 'copy');
is(waited('people', 'copy'), 't|0|', 'changes of the copy are captured');
is(rows_sent() - $sent, 1, 'and sent');

sql(q{SELECT iterable_run('late')}, 'copy');
is(waited('late', 'copy'), 't|0|', 'a change that was captured before its row was noted');
is(n_of('l1@example.com'), 1, 'is not hidden by the note');

# Another environment; the triggers have been lost on the way, and a table.
sql(q{
	ALTER SYSTEM SET iterable_sync.environment = 'staging'});
$node->restart;
sql(q{UPDATE people SET n = 8 WHERE id = 7; ALTER TABLE people DISABLE TRIGGER ALL; UPDATE people SET n = 9 WHERE id = 8;
	ALTER TABLE idle RENAME TO idle_elsewhere});
$sent = rows_sent();
is(sql(q{SELECT state, reason, what_to_do FROM iterable.sync_status WHERE sync = 'people'}),
	"paused|it was enabled on another server or in another database|$what_to_do", 'another environment pauses the syncs');
usleep(2_500_000);
is(rows_sent(), $sent, 'and they send nothing');
is(sql(q{SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger WHERE tgrelid = 'people'::regclass AND NOT tgisinternal}), 'D',
	'nor touch the source');
my ($rc, $adopted, $warning) = $node->psql('postgres', 'SELECT iterable_adopt()');
is($adopted, '4', 'they are adopted');
like($warning, qr/WARNING:  sync "idle" is adopted, but its source cannot be captured yet: source "public\.idle" of sync "idle" does not exist/,
	'also one that is in trouble');
is(waited('people'), 't|0|', 'the sync sends');
is(rows_sent() - $sent, 2, 'what differs, also what was not captured');
is(join(' ', map { n_of("p$_\@example.com") } 7, 8), '8 9', 'as it is');
is(sql(q{SELECT string_agg(DISTINCT tgenabled::text, '') FROM pg_trigger WHERE tgrelid = 'people'::regclass AND NOT tgisinternal}), 'A',
	'the triggers are enabled');
sql(q{ALTER TABLE idle_elsewhere RENAME TO idle; UPDATE idle SET n = 10 WHERE id = 2; SELECT iterable_enable_sync('idle')});
is(waited('idle'), 't|0|', 'the other one goes on when its source is back');
is(n_of('i2@example.com'), 10, 'and has captured');

$node->stop('fast');
done_testing();
