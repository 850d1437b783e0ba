# Copyright (c) 2026, the iterable_sync developers

# Both objects while pgbench runs: in the end Iterable has what the tables
# have, every field of every row, and each event once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use HTTP::Tiny;
use IterableSync::Test;
use JSON::PP ();

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, recordBodies => JSON::PP::false());
my $node = start_cluster('bench', conf => "fsync = off\n");

$node->command_ok(
	[ 'pgbench', '-i', '-s', '1', '-q', '-h', $node->host, '-p', $node->port, 'postgres' ],
	'pgbench tables');
create_connection($node, 'prod', $emulator, users_rate => 1000, events_rate => 1000);
$node->safe_psql('postgres', q{
	ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
	SELECT iterable_create_sync('accounts', 'prod', 'pgbench_accounts', 'user', 'aid');
	SELECT iterable_add_mapping('accounts', 'email', expression => $$'user' || aid || '@example.com'$$);
	SELECT iterable_add_mapping('accounts', 'bid', column_name => 'bid');
	SELECT iterable_add_mapping('accounts', 'abalance', column_name => 'abalance');
	SELECT iterable_add_mapping('accounts', 'filler', column_name => 'filler');
	SELECT iterable_create_sync('history', 'prod', 'pgbench_history', 'event', 'id');
	SELECT iterable_add_mapping('history', 'email', expression => $$'user' || aid || '@example.com'$$);
	SELECT iterable_add_mapping('history', 'eventName', constant => 'transaction');
	SELECT iterable_add_mapping('history', 'createdAt', column_name => 'mtime');
	SELECT iterable_add_mapping('history', 'bid', column_name => 'bid');
	SELECT iterable_add_mapping('history', 'tid', column_name => 'tid');
	SELECT iterable_add_mapping('history', 'delta', column_name => 'delta');
	SELECT iterable_enable_sync('accounts', apply => 'backfill');
});
synced($node, 'accounts', 'the accounts arrive');
$node->safe_psql('postgres', q{SELECT iterable_enable_sync('history', apply => 'updates_only')});

$node->command_ok(
	[ 'pgbench', '-n', '-c', '4', '-T', '10', '-h', $node->host, '-p', $node->port, 'postgres' ],
	'pgbench runs');
synced($node, 'accounts', 'all changes of accounts are dealt with');
synced($node, 'history', 'all of the history is dealt with');

# What Iterable has, as tables beside ours.
my $dir = PostgreSQL::Test::Utils::tempdir;
for my $what (qw(users events))
{
	my $answer = HTTP::Tiny->new->mirror($emulator->url . "/control/$what", "$dir/$what");
	ok($answer->{success}, "$what of the emulator");
	$node->safe_psql('postgres', "CREATE TABLE there_$what (doc jsonb)");
	$node->safe_psql('postgres',
		"COPY there_$what FROM '$dir/$what' WITH (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')");
}

my $differences = $node->safe_psql('postgres', q{
	WITH here AS (
		SELECT 'user' || aid || '@example.com' AS email, bid, abalance,
			filler::text AS filler FROM pgbench_accounts),
	there AS (
		SELECT doc ->> 'email' AS email, (doc #>> '{dataFields,bid}')::int AS bid,
			(doc #>> '{dataFields,abalance}')::int AS abalance,
			doc #>> '{dataFields,filler}' AS filler FROM there_users)
	SELECT count(*) FROM (
		(TABLE here EXCEPT ALL TABLE there) UNION ALL (TABLE there EXCEPT ALL TABLE here)) d});
is($differences, '0', 'every account is at Iterable as it is in the table');

$differences = $node->safe_psql('postgres', q{
	WITH here AS (
		SELECT 'user' || aid || '@example.com' AS email, 'transaction' AS name, bid, tid, delta,
			extract(epoch FROM date_trunc('second', mtime AT TIME ZONE 'UTC'))::bigint AS at
		FROM pgbench_history),
	there AS (
		SELECT doc ->> 'email' AS email, doc ->> 'eventName' AS name,
			(doc #>> '{dataFields,bid}')::int AS bid, (doc #>> '{dataFields,tid}')::int AS tid,
			(doc #>> '{dataFields,delta}')::int AS delta, (doc ->> 'createdAt')::bigint AS at
		FROM there_events)
	SELECT count(*) FROM (
		(TABLE here EXCEPT ALL TABLE there) UNION ALL (TABLE there EXCEPT ALL TABLE here)) d});
is($differences, '0', 'every row of the history is at Iterable, once and as it is in the table');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM pgbench_history'), '>', 100,
	'there was something to compare');
is($node->safe_psql('postgres', 'SELECT count(*) FROM iterable.failure'), '0', 'no failures');
is($emulator->stats->{maxInFlightSameUser}, 1, 'no user was in two requests at once');

done_testing();
