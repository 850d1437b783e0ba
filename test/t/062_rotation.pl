# Copyright (c) 2026, the iterable_sync developers

# The log is rotated as fast as it goes, under writers of all kinds and readers
# that stay: every committed key is read exactly once.

use strict;
use warnings;

use FindBin;
use JSON::PP ();
use lib $FindBin::Bin;
use IterableSync::Test;
use PostgreSQL::Test::BackgroundPsql;

my $seconds = $ENV{ITERABLE_SYNC_ROTATION_TIME} // 15;
my $emulator = start_emulator(eventsRate => 0, recordBodies => JSON::PP::false);
$emulator->seed({ email => 'ann@example.com' });
my $node = start_cluster('rotation', conf => "max_prepared_transactions = 20\n");
create_connection($node, 'prod', $emulator, events_rate => 1000);

# A key has 900 bytes, so 50 of them are more than a buffer holds.  One sync
# sends; the other notes only that it has seen a row, and so is close behind the
# writers: that is when there is something to empty.
$node->safe_psql('postgres', q{
	CREATE SEQUENCE number;
	CREATE TABLE event (
		id text COLLATE "C" PRIMARY KEY DEFAULT rpad(nextval('number') || ' ', 900, 'x'),
		kind text,
		email text DEFAULT 'ann@example.com');
	SELECT iterable_create_sync('sent', 'prod', 'event', 'event', 'id', 'email');
	SELECT iterable_create_sync('seen', 'prod', 'event', 'event', 'id', 'email', mode => 'update');
	SELECT iterable_add_mapping(s, 'eventName', constant => 'e') FROM unnest('{sent,seen}'::text[]) s;
	SELECT iterable_add_mapping('seen', 'id', expression => 'md5(id)');
	SELECT iterable_add_mapping(s, 'kind', 'kind') FROM unnest('{sent,seen}'::text[]) s;
	SELECT iterable_enable_sync(s, 'updates_only') FROM unnest('{sent,seen}'::text[]) s;

	CREATE TABLE rotation (moved int, emptied int);
	CREATE PROCEDURE rotate(seconds int) LANGUAGE plpgsql AS $$
	DECLARE
		until timestamptz := clock_timestamp() + make_interval(secs => seconds);
		segment bigint := -1;
		nodes oid[];
		old_nodes oid[];
		moved int := 0;
		emptied int := 0;
	BEGIN
		WHILE clock_timestamp() < until LOOP
			PERFORM iterable.rotate_change_log();
			COMMIT;
			IF segment <> (SELECT last_value FROM iterable.change_segment) THEN
				segment := (SELECT last_value FROM iterable.change_segment);
				moved := moved + 1;
			END IF;
			nodes := ARRAY(SELECT relfilenode FROM pg_class WHERE relname ~ '^change_[0-3]$' ORDER BY relname);
			IF nodes <> old_nodes THEN
				emptied := emptied + 1;
			END IF;
			old_nodes := nodes;
			COMMIT;
		END LOOP;
		INSERT INTO rotation VALUES (moved, emptied);
	END
	$$});

my %script = (
	small => "INSERT INTO event (kind) VALUES ('small');",
	large => "INSERT INTO event (kind) SELECT 'large' FROM generate_series(1, 60);",
	# stays open while others come and go, and ends at any moment
	slow => "BEGIN;\nINSERT INTO event (kind) VALUES ('slow');\n\\sleep :ms ms\nCOMMIT;",
	# wrote to the log early
	slow_large => "BEGIN;\nINSERT INTO event (kind) SELECT 'slow large' FROM generate_series(1, 50);\n\\sleep :ms ms\nCOMMIT;",
	rollback => "BEGIN;\nINSERT INTO event (kind) SELECT 'rolled back' FROM generate_series(1, 50);\n\\sleep :ms ms\nROLLBACK;",
	savepoint => "BEGIN;\nINSERT INTO event (kind) VALUES ('before');\nSAVEPOINT a;\n"
	  . "INSERT INTO event (kind) SELECT 'rolled back' FROM generate_series(1, 50);\nROLLBACK TO a;\nSAVEPOINT b;\n"
	  . "INSERT INTO event (kind) SELECT 'released' FROM generate_series(1, 40);\n\\sleep :ms ms\nRELEASE b;\nCOMMIT;",
	fixed => "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM pg_class;\n\\sleep :ms ms\nINSERT INTO event (kind) VALUES ('fixed');\nCOMMIT;",
	prepared => "BEGIN;\nINSERT INTO event (kind) VALUES ('prepared');\nPREPARE TRANSACTION 'p:client_id';\n\\sleep :ms ms\nCOMMIT PREPARED 'p:client_id';",
	# over many rotations
	prepared_long => "BEGIN;\nINSERT INTO event (kind) SELECT 'prepared long' FROM generate_series(1, 60);\nPREPARE TRANSACTION 'l:client_id';\n\\sleep 2 s\nCOMMIT PREPARED 'l:client_id';",
	prepared_away => "BEGIN;\nINSERT INTO event (kind) SELECT 'rolled back' FROM generate_series(1, 60);\nPREPARE TRANSACTION 'r:client_id';\n\\sleep :ms ms\nROLLBACK PREPARED 'r:client_id';",
	fixed_long => "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM event;\n\\sleep 3 s\nINSERT INTO event (kind) SELECT 'fixed long' FROM generate_series(1, 60);\nCOMMIT;",
	# what pg_dump does
	reader => "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM iterable.change;\n\\sleep :ms ms\nSELECT sum(n) FROM iterable.change;\nCOMMIT;\n\\sleep 200 ms");
my %weight = (small => 60, large => 1, slow => 20, slow_large => 2, rollback => 1,
	savepoint => 2, fixed => 5, prepared => 5, prepared_long => 1, prepared_away => 1,
	fixed_long => 1, reader => 2);
my $directory = PostgreSQL::Test::Utils::tempdir();
my @files;

foreach my $name (sort keys %script)
{
	append_to_file("$directory/$name.sql", "\\set ms random(1, 150)\n$script{$name}\n");
	push @files, '-f', "$directory/$name.sql\@$weight{$name}";
}

my $rotator = $node->background_psql('postgres', on_error_stop => 1, timeout => 180 + $seconds);
$rotator->query_until(qr/begun/, "\\echo begun\nCALL rotate($seconds);\n");
$node->command_checks_all(
	[ 'pgbench', '-n', '-c', 10, '-T', $seconds, @files, $node->connstr('postgres') ],
	0,
	[ qr/number of failed transactions: 0 / ],
	[ qr/^(pgbench.*\n)?$/ ],
	'writers are not disturbed');
$rotator->query_safe('SELECT 1');
$rotator->quit;

my ($moved, $emptied) =
  split /\|/, $node->safe_psql('postgres', 'SELECT moved, emptied FROM rotation');
note("writers moved on $moved times, $emptied segments were emptied");
cmp_ok($moved, '>', 2 * $seconds, 'writers have moved on often');
cmp_ok($emptied, '>', 2 * $seconds, 'and many segments were emptied');

foreach my $sync (qw(seen sent))
{
	is($node->safe_psql('postgres', "SELECT done, failures FROM iterable_wait('$sync', '3 min')"),
		't|0', "$sync: everything is dealt with");
	is( $node->safe_psql('postgres', qq{
			SELECT (SELECT count(*) FROM event e WHERE NOT EXISTS (
				SELECT FROM iterable.delivery d WHERE d.sync = '$sync' AND d.key = e.id)),
				(SELECT count(*) FROM iterable.delivery d WHERE d.sync = '$sync' AND NOT EXISTS (
				SELECT FROM event e WHERE d.key = e.id))}),
		'0|0',
		"$sync: no key is lost, none is invented");
	is( $node->safe_psql('postgres', qq{
			SELECT sum(keys_seen) - (SELECT count(*) FROM event) FROM iterable.run WHERE sync = '$sync'}),
		'0',
		"$sync: each was read once");
}
is($emulator->stats->{events}, $node->safe_psql('postgres', 'SELECT count(*) FROM event'),
	'Iterable has as many events as there are rows');
is( $node->safe_psql('postgres', q{SELECT count(DISTINCT kind) FROM event WHERE kind <> 'rolled back'}),
	'10', 'of every kind of writer that commits');
is($node->safe_psql('postgres', 'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'),
	'0', 'no deadlock');

# Nothing is left behind.
$node->poll_query_until('postgres', q{
	SELECT (SELECT iterable.rotate_change_log()) IS NOT NULL
		AND (SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relname ~ '^change_[0-3]$') = 0});
is($node->safe_psql('postgres', 'SELECT count(*) FROM iterable.change'), '0', 'the log is empty in the end');
unlike(log_of($node), qr/not written before commit|PANIC|TRAP|terminated by signal|ERROR/, 'nothing odd in the log');

done_testing();
