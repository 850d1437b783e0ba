# Copyright (c) 2026, the iterable_sync developers

# What could not be captured: by default the transaction fails; with
# on_capture_error = compare it passes, and nothing of it is lost, whatever
# happens to the server until the source has been compared.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use Time::HiRes qw(usleep);

my $emulator = start_emulator(usersRate => 0);
my $node = start_cluster(
	'main', conf => q{
iterable_sync.rescan_interval = 1s
max_prepared_transactions = 10
log_min_messages = warning
});

create_connection($node, 'prod', $emulator, users_rate => 1000);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# Returns the numbers of errors and warnings, and the text of them.
sub complaints
{
	my ($sql) = @_;
	my ($rc, $stdout, $stderr) = $node->psql('postgres', $sql);

	return (scalar(() = $stderr =~ /ERROR:/g), scalar(() = $stderr =~ /WARNING:/g), $stderr);
}

# The sequence of the log is used up, and not any more.
sub break_log
{
	sql(q{SELECT setval('iterable.change_seq', 9223372036854775807)});
	return;
}

sub mend_log
{
	sql(q{SELECT setval('iterable.change_seq', 1000000 + (SELECT coalesce(max(seq), 0) FROM iterable.change
		WHERE seq < 9223372036854775807))});
	return;
}

sub n_of
{
	my ($email) = @_;
	my ($user) = grep { $_->{email} eq $email } $emulator->users;

	return $user ? $user->{dataFields}{n} // '' : '';
}

sub set_mode
{
	my ($mode) = @_;

	sql("ALTER SYSTEM SET iterable_sync.on_capture_error = '$mode'");
	sql('SELECT pg_reload_conf()');
	$node->poll_query_until('postgres',
		"SELECT current_setting('iterable_sync.on_capture_error') = '$mode'");
	return;
}

# A database takes part when it remembers that it does.
sub compares
{
	my ($dbname) = @_;

	return $node->poll_query_until($dbname // 'postgres', 'SELECT compares FROM iterable.capture_memory');
}

sub delivered
{
	my ($email, $n, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until(sub { n_of($email) eq $n }, $what);
}

# While this session is there the worker cannot write a request down.
sub hold_requests
{
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	$session->query_safe('BEGIN; LOCK TABLE iterable.sync_scan IN SHARE MODE');
	return $session;
}

# Whether the row of "other" that is not sent comes shows whether it is compared.
sub forget_other
{
	$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM iterable.sync_scan');
	sql(q{DELETE FROM iterable.sync_delivery d USING iterable.sync s WHERE s.sync_id = d.sync_id AND s.name = 'other'});
	$emulator->reset;
	return;
}

my $quiet = 'no scan is asked for or under way';
my $scans = 'SELECT count(*) FROM iterable.sync_scan';

# "other" has rows that it does not send, unless it is compared.
sql(q{
	CREATE TABLE people (id int PRIMARY KEY, email text, n int NOT NULL);
	CREATE TABLE other (id int PRIMARY KEY, email text, n int NOT NULL);
	INSERT INTO other VALUES (1, 'left@example.com', 1);
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('people', 'n', column_name => 'n');
	SELECT iterable_enable_sync('people', 'updates_only');
	SELECT iterable_create_sync('other', 'prod', 'other', 'user', 'id', 'email');
	SELECT iterable_add_mapping('other', 'n', column_name => 'n');
	SELECT iterable_enable_sync('other', 'updates_only');
	INSERT INTO people SELECT i, 'p' || i || '@example.com', 0 FROM generate_series(1, 9) i});
synced($node, 'people', 'captured and sent');

### error

break_log();
my ($errors, $warnings, $text) = complaints('UPDATE people SET n = 1 WHERE id = 1');
is("$errors $warnings", '1 0', 'by default a transaction fails that cannot be captured');
like($text, qr/reached maximum value of sequence "change_seq"/, 'and says why');
($errors, $warnings) = complaints(q{BEGIN; UPDATE people SET n = 1 WHERE id = 1; PREPARE TRANSACTION 'x'});
is("$errors $warnings", '1 0', 'nor is it prepared');
is(sql('SELECT sum(n) FROM people'), '0', 'nothing of it stays');
mend_log();
sql('UPDATE people SET n = 1 WHERE id = 1');
synced($node, 'people', 'when the log is mended it goes on');
is(n_of('p1@example.com'), 1, 'and what was changed is sent');

### compare

my $memory = $node->background_psql('postgres', on_error_stop => 1);
$memory->query_safe('BEGIN; LOCK TABLE iterable.capture_memory IN SHARE MODE');
set_mode('compare');
break_log();
($errors, $warnings) = complaints('UPDATE people SET n = 2 WHERE id = 2');
is("$errors $warnings", '1 0', 'a transaction fails as long as the database would not know after a crash');
$memory->query_safe('COMMIT');
$memory->quit;
compares();
($errors, $warnings, $text) = complaints('UPDATE people SET n = 2 WHERE id = 2');
is("$errors $warnings", '0 1', 'now it passes, with a warning');
like($text, qr/could not capture changes, so it compares.*DETAIL: .*change_seq/s, 'which says why');
unlike($text, qr/p2\@example/, 'and has no data');
is(sql('SELECT n FROM people WHERE id = 2'), '2', 'it is committed');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM iterable.progress
	WHERE sync = 'people' AND reason = 'changes of the source could not be captured'});
is(sql(q{SELECT count(*) FROM iterable.sync_status WHERE backfilling}), '1', 'the status shows that the source is compared, and that alone');
like(log_of($node), qr/sync "people" compares its source with what was sent: changes of the source could not be captured/,
	'as does the log');

# in savepoints and blocks, at COMMIT and before, several times
($errors, $warnings) = complaints(q{
	BEGIN;
	UPDATE people SET n = 3 WHERE id = 3;
	SAVEPOINT a;
	INSERT INTO people SELECT i, 'q' || i || '@example.com', 3 FROM generate_series(1001, 12000) i;
	UPDATE people SET n = 4 WHERE id > 1000;
	ROLLBACK TO a;
	DO $$ BEGIN UPDATE people SET n = 4 WHERE id = 4; EXCEPTION WHEN OTHERS THEN RAISE; END $$;
	DELETE FROM people WHERE id = 9;
	INSERT INTO other VALUES (2, 'two@example.com', 2);
	COMMIT});
is("$errors $warnings", '0 1', 'a transaction has one warning');
($errors, $warnings) = complaints(q{
	CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE people SET n = 5 WHERE id = 5;
		COMMIT;
		UPDATE people SET n = 99 WHERE id = 6;
		ROLLBACK;
		UPDATE people SET n = 6 WHERE id = 6;
	END $$;
	CALL commits()});
is("$errors $warnings", '0 2', 'as has each of a procedure that commits');
($errors, $warnings) = complaints(q{
	BEGIN;
	DECLARE c CURSOR WITH HOLD FOR SELECT count(*) FROM people;
	UPDATE people SET n = 99 WHERE id = 7;
	SET TRANSACTION READ ONLY;
	ROLLBACK;
	BEGIN;
	DECLARE c CURSOR WITH HOLD FOR SELECT n FROM people WHERE id = 7;
	UPDATE people SET n = 7 WHERE id = 7;
	SET TRANSACTION READ ONLY;
	COMMIT;
	FETCH c});
is("$errors $warnings", '0 1', 'and one that ends read only, with a cursor');
mend_log();
delivered("p$_\@example.com", $_, "what had changed is found and sent: $_") foreach 2 .. 7;
delivered('two@example.com', 2, 'of the other source, too');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM iterable.delivery WHERE key = '9' AND state = 'vanished'});
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE length(key) > 3}), '0', 'what was rolled back is not');
is(sql('SELECT count(*) FROM iterable.failure'), '0', 'there is no failure');
unlike(log_of($node), qr/not written before commit/, 'nothing is left behind');

# another thing that breaks: a segment of the log has gone
my $segment = sql(q{SELECT 'change_' || last_value FROM iterable.change_segment});
sql("ALTER TABLE iterable.$segment RENAME TO gone");
($errors, $warnings) = complaints('UPDATE people SET n = 8 WHERE id = 8');
is("$errors $warnings", '0 1', 'a missing table of the log');
sql("ALTER TABLE iterable.gone RENAME TO $segment");
delivered('p8@example.com', 8, 'is made up for');

# what is not of our making
my $blocker = $node->background_psql('postgres', on_error_stop => 1);
$blocker->query_safe('BEGIN; LOCK TABLE iterable.change_0, iterable.change_1, iterable.change_2, iterable.change_3 IN SHARE MODE');
($errors, $warnings, $text) = complaints(q{
	SET statement_timeout = '300ms';
	INSERT INTO people SELECT i, 'q' || i || '@example.com', 3 FROM generate_series(1001, 12000) i});
is("$errors $warnings", '1 0', 'a statement that is canceled while it captures fails');
like($text, qr/statement timeout/, 'because it was canceled');
($errors, $warnings) = complaints(q{SET lock_timeout = '100ms'; UPDATE people SET n = 9 WHERE id = 8});
is("$errors $warnings", '0 1', 'one that cannot have the lock on the log passes');
$blocker->query_safe('COMMIT');
$blocker->quit;
delivered('p8@example.com', 9, 'and is compared');

### Rows that are noted after they were changed

my $enable = q{
	CREATE TABLE fresh_%s (id int PRIMARY KEY, email text, n int NOT NULL);
	INSERT INTO fresh_%s VALUES (1, 'one%s@example.com', 0), (2, 'two%s@example.com', 0);
	SELECT iterable_create_sync('fresh_%s', 'prod', 'fresh_%s', 'user', 'id', 'email');
	SELECT iterable_add_mapping('fresh_%s', 'n', column_name => 'n');
	BEGIN;
	SELECT iterable_enable_sync('fresh_%s', 'updates_only');
	UPDATE fresh_%s SET n = 51 WHERE id = 1;
	COMMIT};
break_log();
sql($enable =~ s/%s/a/gr);
mend_log();
delivered('onea@example.com', 51, 'what could not be captured was not noted');
### A clean stop

sql('CREATE DATABASE dropped');
$node->safe_psql('dropped', 'CREATE EXTENSION iterable_sync');
compares('dropped');
my $dropped = sql(q{SELECT oid FROM pg_database WHERE datname = 'dropped'});
forget_other();
my $held = hold_requests();
break_log();
sql('UPDATE people SET n = 12 WHERE id = 2');
mend_log();
is(sql($scans), '0', 'nothing is asked for yet');
$node->stop('fast');
$held->quit;
my $marks = $node->data_dir . '/pg_stat/iterable_sync.marks';
ok(slurp_file($marks) =~ /\Q${\ pack('L', $dropped)}/, 'marks are in a file');
$node->start;
ok(!-e $marks, 'which goes at the start');
delivered('p2@example.com', 12, 'a mark survives a clean stop');
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM iterable.sync_scan');
is(n_of('left@example.com'), '', 'no other source is compared');
sql('DROP DATABASE dropped');
$node->stop('fast');
ok(slurp_file($marks) !~ /\Q${\ pack('L', $dropped)}/, 'those of a database that is dropped are forgotten');
$node->start;
sql('UPDATE people SET n = 13 WHERE id = 2');
delivered('p2@example.com', 13, 'started again, it sends');
is(n_of('left@example.com'), '', 'and compares nothing');

### Prepared transactions

break_log();
($errors, $warnings) = complaints(q{
	BEGIN; UPDATE people SET n = 14 WHERE id = 4; PREPARE TRANSACTION 'four';
	BEGIN; UPDATE people SET n = 15 WHERE id = 5; PREPARE TRANSACTION 'five';
	BEGIN; UPDATE people SET n = 16 WHERE id = 6; PREPARE TRANSACTION 'six'});
is("$errors $warnings", '0 3', 'transactions are prepared whose changes are not captured');
mend_log();
$node->restart;
sql('UPDATE people SET n = 14 WHERE id = 2');
delivered('p2@example.com', 14, 'they hold up nothing');
is(sql($scans), '0', $quiet);
sql(q{ROLLBACK PREPARED 'six'; COMMIT PREPARED 'four'});
is(n_of('p4@example.com'), '', 'what is not committed is not sent');
sql(q{COMMIT PREPARED 'five'});
delivered('p4@example.com', 14, 'what is, also after a restart, when all are finished');
delivered('p5@example.com', 15, 'and the other');
isnt(n_of('p6@example.com'), 16, 'but not what was rolled back');

### Other ends

forget_other();
break_log();
complaints(q{BEGIN; UPDATE people SET n = 24 WHERE id = 4; PREPARE TRANSACTION 'four'});
$held = hold_requests();
sql('UPDATE people SET n = 23 WHERE id = 3');
mend_log();
$node->stop('immediate');
ok(!-e $marks, 'an immediate stop leaves no file');
$node->start;
$held->quit;
delivered('p3@example.com', 23, 'after an immediate stop what was marked is compared');
delivered('left@example.com', 1, 'as is all else');
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM iterable.sync_scan');
sql(q{COMMIT PREPARED 'four'});
delivered('p4@example.com', 24, 'and once more when what was prepared then is finished');

# nobody has looked since rows were to be noted
compares();
my $worker = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker' AND datname = 'postgres'});
kill('STOP', $worker);
break_log();
sql($enable =~ s/%s/b/gr);
mend_log();
kill('QUIT', $node->{_pid});
usleep(100_000);
kill('CONT', $worker);
$node->stop('immediate', fail_ok => 1);
$node->start;
delivered('oneb@example.com', 51, 'what may not have been captured was not noted either');

# the death of a session takes shared memory along
forget_other();
$held = hold_requests();
break_log();
sql('UPDATE people SET n = 33 WHERE id = 3');
mend_log();
my $postmaster = $node->{_pid};
kill('KILL', sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'iterable_sync worker' AND datname = 'postgres'}));
wait_until(sub { !kill(0, $postmaster) }, 'the server goes down');
$node->stop('immediate', fail_ok => 1);
$node->start;
$held->quit;
delivered('p3@example.com', 33, 'after a kill -9 what was marked is compared');
delivered('left@example.com', 1, 'as is all else');

# switched off meanwhile
forget_other();
compares();
break_log();
complaints(q{BEGIN; UPDATE people SET n = 41 WHERE id = 5; PREPARE TRANSACTION 'five'});
$held = hold_requests();
sql('UPDATE people SET n = 43 WHERE id = 3');
mend_log();
set_mode('error');
$node->stop('immediate');
$node->start;
$held->quit;
delivered('p3@example.com', 43, 'also if the setting is another one by then');
delivered('left@example.com', 1, 'as is all else');
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM iterable.sync_scan');
$node->stop('immediate');
$node->start;
sql(q{COMMIT PREPARED 'five'});
delivered('p5@example.com', 41, 'and what was prepared then, after the next crash');
forget_other();
$node->stop('immediate');
$node->start;
delivered('left@example.com', 1, 'what had been prepared might have been lost once more');
forget_other();
$node->stop('immediate');
$node->start;
sql('UPDATE people SET n = 34 WHERE id = 3');
synced($node, 'people', 'without it');
is(sql($scans) . n_of('left@example.com'), '0', 'nothing is compared after an immediate stop');
break_log();
($errors, $warnings) = complaints('UPDATE people SET n = 35 WHERE id = 3');
is("$errors $warnings", '1 0', 'and a transaction fails again');
mend_log();

### Not preloaded

my $plain = start_cluster('plain', preload => 0, conf => "iterable_sync.on_capture_error = compare\n");
my ($rc, $stdout, $stderr) = $plain->psql('postgres',
	q{LOAD 'iterable_sync'; SHOW iterable_sync.on_capture_error});
is($stdout, 'error', 'without preloading the setting is refused');
like($stderr, qr/WARNING: .*can be "compare" only if iterable_sync is preloaded.*HINT: .*shared_preload_libraries/s, 'which says what to do');
like(sql_error($plain, q{LOAD 'iterable_sync'; ALTER SYSTEM SET iterable_sync.on_capture_error = 'compare'}),
	qr/\n55000: .*shared_preload_libraries/s, 'also when it is set');

done_testing();
