# Copyright (c) 2026, the iterable_sync developers

# A source that is locked or slow ends in an error soon, and leaves the
# session as it was.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use Time::HiRes qw(time);

my $node = start_cluster('main', conf => "lc_messages = 'C'\n");

$node->safe_psql('postgres', q{
	SELECT iterable_create_connection('prod', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
	CREATE TABLE person (id int PRIMARY KEY, email text DEFAULT 'a@example.com', seconds float8 DEFAULT 0);
	INSERT INTO person SELECT i FROM generate_series(1, 3) i;
	SELECT iterable_create_sync('people', 'prod', 'person', 'user', 'id', match_field => 'email', schedule => 'manual');
	CREATE FUNCTION nap(float8) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN PERFORM pg_sleep($1); RETURN 'slept'; END$$;
	CREATE TABLE part (id int PRIMARY KEY, email text) PARTITION BY RANGE (id);
	CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
	INSERT INTO part VALUES (1, 'a@example.com');
	SELECT iterable_create_sync('parts', 'prod', 'part', 'user', 'id', match_field => 'email', schedule => 'manual');
});

sub timed
{
	my ($code) = @_;
	my $start = time();

	return ($code->(), time() - $start);
}

my $preview = q{SELECT count(*) FROM iterable_preview('people')};
my ($result, $seconds);

#
# Locks
#
my $other = $node->background_psql('postgres');
foreach my $lock ([ 'person', 'people' ], [ 'part', 'parts' ], [ 'part_1', 'parts' ])
{
	my ($table, $sync) = @$lock;

	$other->query_safe("BEGIN; LOCK TABLE $table IN ACCESS EXCLUSIVE MODE");
	($result, $seconds) =
	  timed(sub { sql_error($node, "SET lock_timeout = 0; SELECT * FROM iterable_preview('$sync')") });
	like($result, qr/^55P03: canceling statement due to lock timeout/,
		"$table is locked");
	cmp_ok($seconds, '<', 5, "$table is not waited for");
	$other->query_safe('ROLLBACK');
}
# in a transaction, what comes after is not disturbed
is( $node->safe_psql('postgres', qq{
		SET lock_timeout = '7s';
		DO \$\$BEGIN PERFORM iterable_preview('people'); END\$\$;
		SHOW lock_timeout;
	}),
	'7s', 'lock_timeout is the session\'s again');
# a reader does not wait for writers
$other->query_safe(q{BEGIN; UPDATE person SET email = 'b@example.com'});
is($node->safe_psql('postgres', $preview), '3', 'writers are not waited for');
$other->query_safe('ROLLBACK');

#
# Time
#
$node->safe_psql('postgres', q{SELECT iterable_add_mapping('people', 'nap', expression => 'public.nap(seconds)')});
is($node->safe_psql('postgres', $preview), '3', 'nobody sleeps');
$node->safe_psql('postgres', 'UPDATE person SET seconds = 60 WHERE id = 2');
($result, $seconds) = timed(sub { sql_error($node, $preview) });
like($result, qr/^57014: canceling statement due to statement timeout/,
	'a slow expression is stopped');
cmp_ok($seconds, '>', 9, 'after ten seconds');
cmp_ok($seconds, '<', 30, 'and not much later');
# the client's own limit stays
($result, $seconds) =
  timed(sub { sql_error($node, "SET statement_timeout = '1s'; $preview") });
like($result, qr/^57014: canceling statement due to statement timeout/,
	'a slow expression is stopped by the session\'s own limit');
cmp_ok($seconds, '<', 8, 'after a second');
# nothing is left armed, be it that it struck or not
is( $node->safe_psql('postgres', qq{
		DO \$\$BEGIN PERFORM iterable_preview('people'); EXCEPTION WHEN query_canceled THEN RAISE NOTICE 'canceled'; END\$\$;
		UPDATE person SET seconds = 0;
		$preview;
		SELECT pg_sleep(11);
		SELECT 'not cancelled';
	}),
	"3\n\nnot cancelled", 'what comes after is not stopped');

#
# An error in the middle leaves nothing behind
#
$node->safe_psql('postgres', q{
	CREATE FUNCTION fault(float8) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN RETURN 1 / $1::int; END$$;
	SELECT iterable_add_mapping('people', 'fault', expression => 'public.fault(seconds)');
});
is( $node->safe_psql('postgres', q{
		SELECT count(problem) FROM iterable_preview('people');
		BEGIN;
		SAVEPOINT s;
		SELECT count(problem) FROM iterable_preview('people');
		ROLLBACK TO s;
		SELECT count(problem) FROM iterable_preview('people');
		UPDATE person SET seconds = 1 WHERE id = 1;
		SELECT count(problem) FROM iterable_preview('people');
		SELECT current_user = session_user, current_setting('transaction_read_only'), current_setting('search_path');
		ROLLBACK;
	}),
	"3\n3\n3\n2\nt|off|\"\$user\", public", 'the session is as it was');

$other->quit;
unlike(log_of($node), qr/leak|WARNING/, 'nothing leaks');
$node->stop;
done_testing();
