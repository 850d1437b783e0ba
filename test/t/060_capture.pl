# Copyright (c) 2026, the iterable_sync developers

# Capture where pg_regress cannot go: across a restart, in a library that is
# loaded late, next to an extension that writes late, in replication.

use strict;
use warnings;

use File::Copy;
use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

# A table that is captured; disabled, so that the log stays.
sub create_captured
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{
		CREATE TABLE t (id int PRIMARY KEY, email text, v text);
		SELECT iterable_create_connection('nowhere', 'us', 'email',
			api_key => 'canary', base_url => 'http://127.0.0.1:1');
		SELECT iterable_create_sync('t', 'nowhere', 't', 'user', 'id', 'email');
		SELECT iterable_add_mapping('t', 'v', 'v');
		SELECT iterable_enable_sync('t', 'updates_only');
		SELECT iterable_disable_sync('t');
		CREATE TABLE seen AS SELECT coalesce(max(seq), 0) AS seq FROM iterable.change;
		CREATE FUNCTION captured() RETURNS text LANGUAGE sql AS $$
			WITH old AS (SELECT seq FROM seen),
				now AS (UPDATE seen SET seq = (SELECT coalesce(max(seq), 0) FROM iterable.change))
			SELECT string_agg(concat(CASE length(c.ops) WHEN 1 THEN c.ops ELSE substr(c.ops, k.place::int, 1) END, k.key), ' '
				ORDER BY c.seq, k.place)
			FROM old, iterable.change c
			CROSS JOIN LATERAL unnest(CASE c.n WHEN 0 THEN '{NULL}' ELSE c.keys END) WITH ORDINALITY k (key, place)
			WHERE c.seq > old.seq $$});
	return;
}

# What was captured since the last call.
sub captured
{
	my ($node) = @_;

	return $node->safe_psql('postgres', 'SELECT captured()');
}

# ----------------------------------------------------------------
# Prepared transactions
# ----------------------------------------------------------------

my $emulator = start_emulator(usersRate => 0);
my $node = start_cluster(
	'main',
	conf => q{
iterable_sync.rescan_interval = 1h
max_prepared_transactions = 10
wal_level = logical
log_min_messages = warning
});
create_connection($node, 'prod', $emulator, users_rate => 1000);
$node->safe_psql('postgres', q{
	CREATE TABLE person (id int PRIMARY KEY, v text, email text GENERATED ALWAYS AS ('p' || id || '@example.com') STORED);
	SELECT iterable_create_sync('persons', 'prod', 'person', 'user', 'id', 'email');
	SELECT iterable_add_mapping('persons', 'v', 'v');
	SELECT iterable_enable_sync('persons', 'updates_only');
	BEGIN; INSERT INTO person VALUES (1, 'prepared'); PREPARE TRANSACTION 'small';
	BEGIN; INSERT INTO person SELECT i, 'prepared' FROM generate_series(1001, 6000) i; PREPARE TRANSACTION 'large';
	BEGIN; INSERT INTO person VALUES (2, 'prepared'); PREPARE TRANSACTION 'forgotten';
	INSERT INTO person VALUES (3, 'committed')});
is($node->safe_psql('postgres', q{SELECT done FROM iterable_wait('persons', '1 min')}),
	't', 'prepared transactions hold up nothing');
is($emulator->stats->{users}, 1, 'and are not sent');

$node->stop('immediate');
$node->start;
$node->safe_psql('postgres', q{
	INSERT INTO person VALUES (4, 'committed');
	SELECT iterable.rotate_change_log() FROM generate_series(1, 3)});
$node->safe_psql('postgres', q{
	DO $$ BEGIN FOR i IN 1..1000 LOOP UPDATE person SET v = i WHERE id = 4; COMMIT; END LOOP; END $$;
	SELECT iterable.rotate_change_log();
	INSERT INTO person VALUES (5, 'committed')});
is($node->safe_psql('postgres', q{SELECT done FROM iterable_wait('persons', '1 min')}),
	't', 'nor after a crash and 1,000 other commits');
$node->safe_psql('postgres', 'SELECT iterable.rotate_change_log()') for 1 .. 5;
is($emulator->stats->{users}, 3, 'what was committed is sent');

# COMMIT PREPARED by itself wakes the worker
$node->safe_psql('postgres', q{COMMIT PREPARED 'small'});
wait_until(sub { $emulator->stats->{users} == 4 }, 'one is committed and sent');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'forgotten'; COMMIT PREPARED 'large'});
wait_until(sub { $emulator->stats->{users} == 5004 }, 'another, of which some keys were in the log before');
is($node->safe_psql('postgres', q{SELECT done, failures FROM iterable_wait('persons', '1 min')}),
	't|0', 'that is all');
is(join(' ', sort grep { !/^p\d{4}@/ } map { $_->{email} } $emulator->users),
	'p1@example.com p3@example.com p4@example.com p5@example.com',
	'one that was rolled back is not sent');
$node->safe_psql('postgres', q{SELECT iterable_drop_sync('persons')});

# ----------------------------------------------------------------
# Many subtransactions, much in one statement
# ----------------------------------------------------------------

create_captured($node);
is( $node->safe_psql('postgres', q{
		DO $$
		BEGIN
			FOR i IN 1..200000 LOOP
				BEGIN
					INSERT INTO t VALUES (i);
					IF i % 10 = 0 THEN
						RAISE division_by_zero;
					END IF;
				EXCEPTION
					WHEN division_by_zero THEN NULL;
				END;
			END LOOP;
			-- PostgreSQL itself remembers the ids of subtransactions there
			ASSERT (SELECT total_bytes < 3 * 1024 * 1024 FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext'),
				(SELECT total_bytes FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext');
		END
		$$;
		SELECT sum(n), count(*) < 200, count(DISTINCT xid) FROM iterable.change WHERE seq > (SELECT seq FROM seen)}),
	'180000|t|1',
	'200,000 subtransactions make few log rows');
captured($node);
is( $node->safe_psql('postgres', q{
		BEGIN;
		DELETE FROM t;
		INSERT INTO t SELECT generate_series(1, 1000000);
		SELECT total_bytes < 1024 * 1024 FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext';
		COMMIT;
		SELECT sum(n), bool_and(n < 10000) FROM iterable.change WHERE seq > (SELECT seq FROM seen)}),
	"t\n1180000|t",
	'1,000,000 rows in a statement are not kept in memory');
captured($node);
is( $node->safe_psql('postgres', q{
		DO $$
		DECLARE
			place tid := (SELECT ctid FROM t WHERE id = 1);
		BEGIN
			FOR i IN 1..1000000 LOOP
				UPDATE t SET v = i WHERE ctid = place RETURNING ctid INTO place;
			END LOOP;
		END
		$$}) . captured($node),
	'U1', 'a row that is updated 1,000,000 times is one key');
$node->safe_psql('postgres', 'TRUNCATE t');
is(captured($node), 'T', 'truncated');

# Each open level keeps no more than it has not written.
is( $node->safe_psql('postgres', q{
		CREATE FUNCTION nest(depth int) RETURNS bigint LANGUAGE plpgsql AS $$
		DECLARE
			bytes bigint;
		BEGIN
			INSERT INTO t SELECT generate_series(20000 * depth, 20000 * depth + 9999);
			IF depth = 0 THEN
				RETURN (SELECT total_bytes FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext');
			END IF;
			bytes := nest(depth - 1);
			INSERT INTO t SELECT generate_series(20000 * depth + 10000, 20000 * depth + 19999);
			IF depth % 10 = 5 THEN
				RAISE division_by_zero;
			END IF;
			RETURN greatest(bytes, (SELECT total_bytes FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext'));
		EXCEPTION
			WHEN division_by_zero THEN RETURN bytes;
		END
		$$;
		SELECT nest(50) / 51 < 80 * 1024;
		SELECT count(*) FROM t;
		SELECT sum(n), count(*) < 500 FROM iterable.change WHERE seq > (SELECT seq FROM seen)}),
	"t\n100000\n100000|t", 'nested levels of many keys');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM t FULL JOIN (SELECT unnest(keys)::int AS id FROM iterable.change WHERE seq > (SELECT seq FROM seen)) c USING (id)
		WHERE t.id IS NULL OR c.id IS NULL}),
	'0', 'what is rolled back with its level is not captured');
captured($node);
$node->safe_psql('postgres', 'TRUNCATE t');
captured($node);

# ----------------------------------------------------------------
# Replication
# ----------------------------------------------------------------

$node->safe_psql('postgres', q{
	SET session_replication_role = replica;
	INSERT INTO t VALUES (1), (2);
	UPDATE t SET v = 'x' WHERE id = 1;
	DELETE FROM t WHERE id = 2;
	TRUNCATE t});
is(captured($node), 'I1 I2 U1 D2 T', 'session_replication_role = replica');

my $publisher = start_cluster('publisher', preload => 0, extension => 0,
	conf => "wal_level = logical\nmax_wal_senders = 5\nmax_replication_slots = 5\n");
$publisher->safe_psql('postgres', q{
	CREATE TABLE t (id int PRIMARY KEY, email text, v text);
	INSERT INTO t VALUES (1), (2), (3);
	CREATE PUBLICATION p FOR TABLE t});
my $conninfo = $publisher->connstr . ' dbname=postgres';
$node->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$conninfo' PUBLICATION p");
$node->wait_for_subscription_sync($publisher, 's');
is(captured($node), 'I1 I2 I3', 'first copy of a subscription');
$publisher->safe_psql('postgres', q{
	INSERT INTO t VALUES (4);
	UPDATE t SET v = 'x' WHERE id = 1;
	UPDATE t SET id = 5 WHERE id = 2;
	BEGIN; DELETE FROM t WHERE id = 3; SAVEPOINT a; DELETE FROM t WHERE id = 4; ROLLBACK TO a; INSERT INTO t VALUES (6); COMMIT});
$publisher->wait_for_catchup('s');
is(captured($node), 'I4 U1 D2 I5 D3 I6', 'changes of a subscription');
$publisher->safe_psql('postgres', q{TRUNCATE t; INSERT INTO t VALUES (7)});
$publisher->wait_for_catchup('s');
is(captured($node), 'T I7', 'truncation of a subscription');
# a large transaction that is sent before it is committed
$node->safe_psql('postgres', 'ALTER SUBSCRIPTION s SET (streaming = on)');
$publisher->safe_psql('postgres', q{
	SET logical_decoding_work_mem = '64kB';
	ALTER SYSTEM SET logical_decoding_work_mem = '64kB';
	SELECT pg_reload_conf()});
$publisher->safe_psql('postgres', q{
	BEGIN;
	INSERT INTO t SELECT generate_series(1001, 6000);
	SAVEPOINT a;
	INSERT INTO t SELECT generate_series(6001, 9000);
	ROLLBACK TO a;
	COMMIT});
$publisher->wait_for_catchup('s');
is( $node->safe_psql('postgres', q{
		SELECT sum(n), min(keys[1]::int), max(keys[cardinality(keys)]::int) FROM iterable.change WHERE seq > (SELECT seq FROM seen)}),
	'5000|1001|6000',
	'streamed changes of a subscription');
$node->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$publisher->stop;
unlike(log_of($node), qr/not written before commit|PANIC|TRAP|terminated by signal/, 'nothing odd in the log');
$node->stop;

# ----------------------------------------------------------------
# The library is not preloaded: it comes with the first change, wherever that is
# ----------------------------------------------------------------

my $plain = start_cluster('plain', preload => 0, conf => "max_prepared_transactions = 10\n");
create_captured($plain);
$plain->safe_psql('postgres', q{
	BEGIN;
	SAVEPOINT a;
	INSERT INTO t VALUES (1);
	ROLLBACK TO a;
	INSERT INTO t VALUES (2);
	SAVEPOINT b;
	INSERT INTO t VALUES (3);
	SAVEPOINT c;
	INSERT INTO t VALUES (4);
	RELEASE c;
	ROLLBACK TO b;
	INSERT INTO t VALUES (5);
	COMMIT});
is(captured($plain), 'I2 I5', 'loaded in a savepoint that is rolled back');
$plain->safe_psql('postgres', q{
	BEGIN;
	SAVEPOINT a;
	SAVEPOINT b;
	INSERT INTO t VALUES (11);
	RELEASE b;
	SAVEPOINT c;
	INSERT INTO t VALUES (12);
	ROLLBACK TO c;
	RELEASE a;
	COMMIT});
is(captured($plain), 'I11', 'loaded in a savepoint that is released');
$plain->safe_psql('postgres', q{
	BEGIN;
	SAVEPOINT a;
	SAVEPOINT b;
	INSERT INTO t SELECT generate_series(1001, 9000);
	RELEASE b;
	ROLLBACK TO a;
	INSERT INTO t VALUES (21);
	COMMIT});
is(captured($plain), 'I21', 'loaded, written and rolled back with the outer savepoint');
$plain->safe_psql('postgres', q{
	DO $$
	BEGIN
		BEGIN
			INSERT INTO t VALUES (31);
			RAISE division_by_zero;
		EXCEPTION
			WHEN division_by_zero THEN
				INSERT INTO t VALUES (32);
		END;
	END
	$$});
is(captured($plain), 'I32', 'loaded in a block that fails');
$plain->safe_psql('postgres', q{
	BEGIN; SAVEPOINT a; INSERT INTO t VALUES (41); PREPARE TRANSACTION 'p';
	COMMIT PREPARED 'p'; INSERT INTO t VALUES (42)});
is(captured($plain), 'I41 I42', 'loaded in a transaction that is prepared');
$plain->safe_psql('postgres', q{
	BEGIN; INSERT INTO t VALUES (51); ROLLBACK;
	INSERT INTO t VALUES (52)});
is(captured($plain), 'I52', 'loaded in a transaction that is rolled back');
$plain->stop;

# ----------------------------------------------------------------
# Another extension writes when we have written
# ----------------------------------------------------------------

my $build = PostgreSQL::Test::Utils::tempdir();
copy("$FindBin::Bin/late_writer/$_", $build) foreach qw(late_writer.c Makefile);
my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
system_or_bail('make', '-s', '-C', $build, 'with_llvm=no', "PG_CONFIG=$pg_config");

# Callbacks are called in the opposite order of registration.
foreach my $libraries ("$build/late_writer, iterable_sync", "iterable_sync, $build/late_writer")
{
	my $after = $libraries =~ /sync$/ ? 'after' : 'before';
	my $late = start_cluster(
		$after,
		preload => 0,
		conf => "shared_preload_libraries = '$libraries'\nmax_prepared_transactions = 10\n");

	create_captured($late);
	$late->safe_psql('postgres', q{
		BEGIN;
		INSERT INTO t VALUES (1);
		SET LOCAL late_writer.command = 'INSERT INTO t VALUES (2), (3)';
		COMMIT});
	is(captured($late), 'I1 I2 I3', "written $after");
	$late->safe_psql('postgres', q{
		BEGIN;
		SELECT pg_current_xact_id();
		SET LOCAL late_writer.command = 'UPDATE t SET v = 1 WHERE id = 1';
		COMMIT});
	is(captured($late), 'U1', "only that, $after");
	$late->safe_psql('postgres', q{
		BEGIN;
		UPDATE t SET v = 2 WHERE id = 1;
		SET LOCAL late_writer.command = 'UPDATE t SET v = 3 WHERE id = 1; TRUNCATE t; INSERT INTO t VALUES (1)';
		COMMIT});
	like(captured($late), qr/^U1( U1)? T I1$/, "the same row and more, $after");
	$late->safe_psql('postgres', q{
		BEGIN;
		INSERT INTO t VALUES (2);
		SET LOCAL late_writer.command = 'INSERT INTO t SELECT generate_series(1001, 9000)';
		PREPARE TRANSACTION 'p';
		COMMIT PREPARED 'p'});
	is( $late->safe_psql('postgres',
			'SELECT sum(n), max(keys[cardinality(keys)]::int) FROM iterable.change WHERE seq > (SELECT seq FROM seen)'),
		'8001|9000',
		"in a transaction that is prepared, $after");
	captured($late);
	$late->psql('postgres', q{
		BEGIN;
		INSERT INTO t VALUES (3);
		SET LOCAL late_writer.command = 'INSERT INTO t VALUES (4); SELECT 1 / 0';
		COMMIT});
	is(captured($late), '', "nothing of it when that fails, $after");
	$late->safe_psql('postgres', 'INSERT INTO t VALUES (5), (6)');
	is(captured($late), 'I5 I6', "and the next is as ever, $after");
	unlike(log_of($late), qr/not written before commit/, "all is written, $after");
	$late->stop;
}

done_testing();
