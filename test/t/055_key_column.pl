# Copyright (c) 2026, the iterable_sync developers

# Keys that change, and a key column that is away for a while: writers are not
# disturbed, and what they changed meanwhile reaches Iterable when the column is
# back.

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

# ----------------------------------------------------------------
# Keys and identifiers change
# ----------------------------------------------------------------

$emulator->reset;
$node->safe_psql('postgres', q{
	SELECT iterable_drop_sync('people');
	TRUNCATE people;
	INSERT INTO people SELECT i, 'user' || i || '@example.com', i FROM generate_series(1, 6) i;
	CREATE TABLE orders (id int PRIMARY KEY, email text, n int);
	INSERT INTO orders SELECT i, 'user' || i || '@example.com', i FROM generate_series(1, 6) i;
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('people', 'n', column_name => 'n');
	SELECT iterable_create_sync('orders', 'prod', 'orders', 'event', 'id', 'email');
	SELECT iterable_set_mappings('orders', '{"eventName": {"constant": "order"}, "n": "n", "dataFields.id": "id"}');
});

# events of users that Iterable does not know would be failures
foreach my $sync (qw(people orders))
{
	$node->safe_psql('postgres', "SELECT iterable_enable_sync('$sync', 'backfill')");
	synced($node, $sync, "all of $sync are there");
}
$node->safe_psql('postgres', q{
	ALTER TABLE people DROP CONSTRAINT people_pkey, ADD PRIMARY KEY (id) DEFERRABLE;
	ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id) DEFERRABLE});

sub change
{
	my ($changes, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $sync (qw(people orders))
	{
		$node->safe_psql('postgres', $changes =~ s/%s/$sync/gr);
		synced($node, $sync, "$what, $sync");
	}
	return;
}

# What Iterable has of each: "user:n" of the users, "id:n" of the events.
sub users_now
{
	return join(' ', sort map { ($_->{email} =~ /^(\w+)@/)[0] . ":$_->{dataFields}{n}" } $emulator->users);
}

sub events_now
{
	return join(' ', sort map { "$_->{dataFields}{id}:$_->{dataFields}{n}" . ($_->{email} =~ /^(x\d)@/ ? ":$1" : '') } $emulator->events);
}

sub gone
{
	return $node->safe_psql('postgres', qq{SELECT string_agg(key, ' ' ORDER BY key) FROM iterable.delivery WHERE sync = '$_[0]' AND state = 'vanished'});
}

change('UPDATE %s SET id = 11, n = 11 WHERE id = 1', 'a key changes');
is(users_now(), 'user1:11 user2:2 user3:3 user4:4 user5:5 user6:6', 'the user has what its row has');
is(events_now(), '11:11 1:1 2:2 3:3 4:4 5:5 6:6', 'the event of the new key is another one');
is(gone('people') . ',' . gone('orders'), '1,1', 'the former key has vanished');

change(q{UPDATE %s SET email = 'x2@example.com' WHERE id = 2}, 'an identifier changes');
is(users_now(), 'user1:11 user2:2 user3:3 user4:4 user5:5 user6:6 x2:2', 'the new one is sent');
is(events_now(), '11:11 1:1 2:2:x2 3:3 4:4 5:5 6:6', 'the event is with the new one');

change(q{BEGIN; DELETE FROM %s WHERE id = 3; INSERT INTO %s VALUES (3, 'user3@example.com', 33); COMMIT}, 'a row is replaced');
is(users_now(), 'user1:11 user2:2 user3:33 user4:4 user5:5 user6:6 x2:2', 'the new row is sent');
is(events_now(), '11:11 1:1 2:2:x2 3:33 4:4 5:5 6:6', 'as the same event');

change('UPDATE %s SET id = 9 - id WHERE id IN (4, 5)', 'two keys change places');
is(users_now(), 'user1:11 user2:2 user3:33 user4:4 user5:5 user6:6 x2:2', 'users are what they were');
is(events_now(), '11:11 1:1 2:2:x2 3:33 4:5 5:4 6:6', 'the events change places');
is($node->safe_psql('postgres', q{SELECT key || identifier FROM iterable.delivery WHERE sync = 'people' AND key IN ('4', '5') ORDER BY key}),
	"4user5\@example.com\n5user4\@example.com", 'the deliveries say whose row it is now');

change(q{BEGIN; DELETE FROM %s WHERE id = 6; INSERT INTO %s VALUES (6, 'user6@example.com', 6); UPDATE %s SET id = 16 WHERE id = 6;
	INSERT INTO %s VALUES (6, 'x6@example.com', 66); COMMIT}, 'a key goes to another row');
is(users_now(), 'user1:11 user2:2 user3:33 user4:4 user5:5 user6:6 x2:2 x6:66', 'which is sent');
is(events_now(), '11:11 16:6 1:1 2:2:x2 3:33 4:5 5:4 6:66:x6', 'and the row under its new key');

done_testing();
