# Copyright (c) 2026, the iterable_sync developers

# A key column that is away for a while: writers are not disturbed, and what
# they changed meanwhile reaches Iterable when the column is back.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $emulator = start_emulator(usersRate => 0);
my $node = start_cluster('key', conf => "iterable_sync.rescan_interval = 1s\n");

create_connection($node, 'prod', $emulator, users_rate => 1000);
$node->safe_psql('postgres', q{
	CREATE TABLE people (id int PRIMARY KEY, email text, n int);
	INSERT INTO people SELECT i, 'user' || i || '@example.com', 0 FROM generate_series(1, 50) i;
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('people', 'n', column_name => 'n');
	SELECT iterable_enable_sync('people', 'backfill');
});
synced($node, 'people', 'the rows that are there arrive');

$node->safe_psql('postgres', q{
	ALTER TABLE people RENAME COLUMN id TO number;
	UPDATE people SET n = 1 WHERE number IN (7, 8);
	UPDATE people SET n = 2 WHERE number = 8;
});
is($node->safe_psql('postgres', q{
		SELECT string_agg(ops, '' ORDER BY seq) FROM iterable.change WHERE ops = 'L'}),
	'LL', 'each transaction notes once that keys could not be told');
wait_until(sub {
		$node->safe_psql('postgres', q{SELECT state || ' ' || reason FROM iterable.sync_status})
		  =~ /^paused key column "id" of source "public\.people" of sync "people" does not exist/;
	},
	'the sync is paused and says why');
is((grep { ($_->{dataFields}{n} // 0) != 0 } $emulator->users), 0, 'nothing is sent meanwhile');

my $requests = $emulator->stats->{requests}{'/api/users/bulkUpdate'}{rows};
$node->safe_psql('postgres', q{ALTER TABLE people RENAME COLUMN number TO id});
wait_until(sub {
		join(' ', sort map { "$_->{email}=$_->{dataFields}{n}" }
			  grep { $_->{dataFields}{n} != 0 } $emulator->users)
		  eq 'user7@example.com=1 user8@example.com=2';
	},
	'the changes arrive when the column is back');
is($emulator->stats->{requests}{'/api/users/bulkUpdate'}{rows} - $requests, 2,
	'no row that has not changed was sent');
is($node->safe_psql('postgres', 'SELECT state FROM iterable.sync_status'), 'enabled',
	'the sync has gone on by itself');

done_testing();
