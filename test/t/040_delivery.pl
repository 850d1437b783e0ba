# Copyright (c) 2026, the iterable_sync developers

# From a committed change to the row at Iterable, by the worker: every way a
# row can change, what the request holds to the byte, what a request may hold,
# what is sent again and what is not, and what happens to what cannot be sent.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use Encode qw(decode);
use Time::HiRes qw(time);

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster('main', conf => "log_statement = 'none'\nlog_min_error_statement = panic\n");

create_connection($node, 'prod', $emulator,
	users_rate => 100, events_rate => 100);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# A user at Iterable by e-mail, or undef.
sub user
{
	my ($email) = @_;

	return (grep { $_->{email} eq lc $email } $emulator->users)[0];
}

sub names
{
	return join(' ',
		sort map { $_->{email} =~ s/@.*//r } $emulator->users);
}

# Requests that have arrived since mark() was called.
my $marked = 0;

sub mark
{
	my @requests = $emulator->requests($marked);

	$marked = $requests[-1]{n} if @requests;
	return;
}

sub requests
{
	return $emulator->requests($marked);
}

sub user_requests
{
	return grep { $_->{path} eq '/api/users/bulkUpdate' } requests();
}

sub rows_sent
{
	my $rows = 0;

	$rows += $_->{rows} foreach requests();
	return $rows;
}

# Sum of a count of all runs of a sync.
sub counted
{
	my ($sync, $count) = @_;

	return sql("SELECT coalesce(sum($count), 0) FROM iterable.run WHERE sync = '$sync'");
}

sub failures
{
	my ($sync) = @_;

	return sql("SELECT key, class, coalesce(code, '-') FROM iterable.failure WHERE sync = '$sync' ORDER BY key");
}

sub wait_result
{
	my ($sync, $timeout) = @_;

	return sql("SELECT * FROM iterable_wait('$sync', '$timeout')");
}

#
# Backfill, and every way to change a row
#
sql(q{
	CREATE TABLE people (id bigint PRIMARY KEY, email text, name text,
		big bigint, price numeric, city text, street text, seen timestamptz,
		extra jsonb, note text, unmapped text);
	INSERT INTO people (id, email, name, big, price, city, street, seen, extra)
	VALUES (1, 'ann@example.com', E'\u00c4nn "\\\\" \u4e2d', 9007199254740993,
		12345678901234567890.0123456789, 'oslo', NULL,
		'2024-02-29 12:34:56.789+02', '{"n": 123456789012345678901234567890.5, "a": [1, null]}'),
		(2, 'Bob@Example.com', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
	SELECT iterable_create_sync('people', 'prod', 'people', 'user', 'id', 'email');
	SELECT iterable_add_mapping('people', 'name', column_name => 'name', null_policy => 'clear');
	SELECT iterable_add_mapping('people', 'big', column_name => 'big');
	SELECT iterable_add_mapping('people', 'price', column_name => 'price');
	SELECT iterable_add_mapping('people', 'address.city', expression => 'initcap(city)');
	SELECT iterable_add_mapping('people', 'address.street', column_name => 'street', null_policy => 'clear');
	SELECT iterable_add_mapping('people', 'seen', column_name => 'seen');
	SELECT iterable_add_mapping('people', 'extra', column_name => 'extra');
	SELECT iterable_add_mapping('people', 'note', column_name => 'note');
	SELECT iterable_add_mapping('people', 'vip', constant => 'no');
});
is( wait_result('people', '1 min'),
	'f|0|the sync has never been enabled',
	'there is nothing to wait for before a sync is enabled');
sql(q{SELECT iterable_enable_sync('people', 'backfill')});
synced($node, 'people', 'the backfill ends');
is(names(), 'ann bob', 'it has sent what is there');

my @bodies = map { $_->{body} } requests();
is( "@bodies",
	decode('UTF-8', sql(q{
		SELECT format('{"users":[%s]}', string_agg(payload::text, ',' ORDER BY key))
		FROM iterable_preview('people', 10)})),
	'what arrives is what the preview shows');
my $ann = '{"email":"ann@example.com","dataFields":{"address":{"city":"Oslo","street":null},'
  . '"big":9007199254740993,"extra":{"a": [1, null], "n": 123456789012345678901234567890.5},'
  . "\"name\":\"\x{c4}nn \\\"\\\\\\\" \x{4e2d}\","
  . '"price":12345678901234567890.0123456789,"seen":"2024-02-29 10:34:56 +00:00","vip":"no"}}';
is( $bodies[0],
	"{\"users\":[$ann,{\"email\":\"Bob\@Example.com\",\"dataFields\":{\"address\":{\"street\":null},\"name\":null,\"vip\":\"no\"}}]}",
	'byte by byte');

mark();
sql(q{INSERT INTO people (id, email, name) VALUES (3, 'cleo@example.com', 'Cleo')});
synced($node, 'people');
is(user('cleo@example.com')->{dataFields}{name}, 'Cleo', 'an insert arrives');

sql(q{UPDATE people SET name = 'Cleopatra', city = 'alexandria' WHERE id = 3});
synced($node, 'people');
is(user('cleo@example.com')->{dataFields}{name}, 'Cleopatra', 'an update arrives');
is(user('cleo@example.com')->{dataFields}{address}{city}, 'Alexandria',
	'in a nested field, too');

sql(q{UPDATE people SET name = NULL, city = NULL WHERE id = 3});
synced($node, 'people');
ok(!exists user('cleo@example.com')->{dataFields}{name},
	'NULL deletes a field where the mapping says so');
is(user('cleo@example.com')->{dataFields}{vip}, 'no', 'and only that');

$node->safe_psql('postgres', "COPY people (id, email, name) FROM STDIN;\n"
	  . join('', map { "$_\tcopied$_\@example.com\tCopied $_\n" } 10 .. 19)
	  . "\\.\n");
synced($node, 'people');
is(scalar(grep { $_->{email} =~ /^copied/ } $emulator->users), 10, 'COPY arrives');

sql(q{
	BEGIN;
	INSERT INTO people (id, email) VALUES (30, 'rolled-back@example.com');
	SAVEPOINT s;
	INSERT INTO people (id, email) VALUES (31, 'kept@example.com');
	ROLLBACK TO s;
	COMMIT;
	BEGIN;
	INSERT INTO people (id, email) VALUES (32, 'never@example.com');
	ROLLBACK;
});
synced($node, 'people');
ok(user('rolled-back@example.com'), 'a transaction that commits arrives');
ok(!user('kept@example.com') && !user('never@example.com'),
	'what was rolled back does not');

#
# Vanished rows
#
is(counted('people', 'vanished'), '0', 'no row has vanished yet');
mark();
sql(q{DELETE FROM people WHERE id IN (3, 10)});
synced($node, 'people');
is(rows_sent(), 0, 'a delete sends nothing');
is(counted('people', 'vanished'), '2', 'but is counted');
is( sql(q{SELECT key, state FROM iterable.delivery WHERE sync = 'people' AND state <> 'accepted' ORDER BY key}),
	"10|vanished\n3|vanished",
	'and stands in the deliveries');
sql(q{INSERT INTO people (id, email, name) VALUES (10, 'copied10@example.com', 'Copied 10')});
synced($node, 'people');
is(rows_sent(), 0, 'a row that comes back as it was is not sent again');
is( sql(q{SELECT state FROM iterable.delivery WHERE sync = 'people' AND key = '10'}),
	'accepted', 'Iterable has it');

# The same with many rows that were captured more than once.
sql(q{
	CREATE TABLE twice (id int PRIMARY KEY, email text, n int);
	SELECT iterable_create_sync('twice', 'prod', 'twice', 'user', 'id', 'email');
	SELECT iterable_add_mapping('twice', 'n', column_name => 'n');
	SELECT iterable_enable_sync('twice', 'updates_only');
	INSERT INTO twice SELECT i, 'twice' || i || '@example.com', 0 FROM generate_series(1, 300) i;
});
synced($node, 'twice');
sql(q{DELETE FROM twice});
synced($node, 'twice');
mark();
sql(q{
	SELECT iterable_disable_sync('twice');
	INSERT INTO twice SELECT i, 'twice' || i || '@example.com', 0 FROM generate_series(1, 300) i;
	UPDATE twice SET n = 1;
	UPDATE twice SET n = 0;
	SELECT iterable_enable_sync('twice');
});
synced($node, 'twice', 'rows that came back and were changed back are dealt with');
is(rows_sent(), 0, 'they are not sent again');
is( sql(q{SELECT count(*) FILTER (WHERE state = 'accepted'), count(*) FROM iterable.delivery WHERE sync = 'twice'}),
	'300|300', 'Iterable has them');
is(sql(q{SELECT last_error IS NULL FROM iterable.sync_status WHERE sync = 'twice'}),
	't', 'nothing went wrong');
sql(q{SELECT iterable_drop_sync('twice'); DROP TABLE twice});
$emulator->reset({ usersRate => 0, eventsRate => 0 });
$marked = 0;
sql(q{SELECT iterable_disable_sync('people'); DELETE FROM iterable.sync_delivery; SELECT iterable_enable_sync('people', 'backfill')});
synced($node, 'people');

#
# What is unchanged is not sent
#
my $unchanged = counted('people', 'unchanged');
my $seen = counted('people', 'keys_seen');
mark();
sql(q{
	BEGIN;
	UPDATE people SET name = 'x' WHERE id = 11;
	UPDATE people SET name = 'Copied 11' WHERE id = 11;
	COMMIT;
});
synced($node, 'people');
is(rows_sent(), 0, 'an update back and forth sends nothing');
is(counted('people', 'unchanged'), $unchanged + 1, 'it is counted as unchanged');
is(counted('people', 'keys_seen'), $seen + 1, 'as one row');
sql(q{UPDATE people SET unmapped = 'x'; UPDATE people SET name = name});
synced($node, 'people');
is(counted('people', 'keys_seen'), $seen + 1,
	'an update of no mapped column is not captured at all');

#
# Several syncs, on one table and on one connection
#
mark();
sql(q{
	CREATE TABLE orders (id int PRIMARY KEY, email text, total numeric(10,2), at timestamptz, note text);
	INSERT INTO orders VALUES (1, 'ann@example.com', 10.10, '2024-01-01', 'there before');
	SELECT iterable_create_sync('orders', 'prod', 'orders', 'event', 'id', 'email');
	SELECT iterable_add_mapping('orders', 'eventName', constant => 'Order');
	SELECT iterable_add_mapping('orders', 'createdAt', column_name => 'at');
	SELECT iterable_add_mapping('orders', 'total', column_name => 'total');
	SELECT iterable_enable_sync('orders', 'updates_only');

	SELECT iterable_create_sync('renamed', 'prod', 'people', 'event', 'id', 'email');
	SELECT iterable_add_mapping('renamed', 'eventName', constant => 'Renamed');
	SELECT iterable_add_mapping('renamed', 'to', column_name => 'name');
	SELECT iterable_enable_sync('renamed', 'updates_only');
});
synced($node, $_) foreach qw(orders renamed);
is(scalar(requests()), 0, 'updates_only sends nothing that is there');

sql(q{
	UPDATE people SET name = 'Anna' WHERE id = 1;
	INSERT INTO orders VALUES (2, 'ann@example.com', 20.20, '2024-06-01 12:00+00', 'new');
});
synced($node, $_) foreach qw(people renamed orders);
is(user('ann@example.com')->{dataFields}{name}, 'Anna',
	'one change goes through one sync of the table');
is( join(' ', sort map { $_->{eventName} } $emulator->events),
	'Order Renamed',
	'and through the other, and another table\'s through a third');

my $id = sql(q{
	SELECT encode(sha256(uuid_send(sync_uuid) || '2'), 'hex')
	FROM iterable.sync WHERE name = 'orders'});
is( join(' ', map { $_->{body} } grep { $_->{body} =~ /"Order"/ } requests()),
	qq({"events":[{"email":"ann\@example.com","eventName":"Order","id":"$id","createdAt":1717243200,"dataFields":{"total":20.20}}]}),
	'an event byte by byte, with the id that follows from sync and key');
sql(q{UPDATE orders SET total = 20.30 WHERE id = 2});
synced($node, 'orders');
my @orders = grep { $_->{eventName} eq 'Order' } $emulator->events;
is(scalar(@orders), 1, 'an event that is sent again is the same event');
is($orders[0]{id}, $id, 'by its id');
is($orders[0]{writes}, 2, 'written twice');
cmp_ok($orders[0]{dataFields}{total}, '==', 20.3, 'with its new data');

sql(q{SELECT iterable_drop_sync('renamed')});

# The same bytes when nothing is known of what was accepted.
mark();
my ($first) = grep { $_->{body} =~ /20\.30/ } $emulator->requests;
sql(q{
	DELETE FROM iterable.sync_delivery;
	UPDATE orders SET total = 0 WHERE id = 2;
	UPDATE orders SET total = 20.30 WHERE id = 2;
});
synced($node, 'orders');
is((requests())[-1]{body}, $first->{body}, 'an event that is sent again is the same to the byte');

#
# What a request may hold
#
$emulator->reset({ usersRate => 0, eventsRate => 0, latencyMs => 60 });
$marked = 0;
sql(q{
	CREATE TABLE many (id int PRIMARY KEY, email text, n int, note text);
	SELECT iterable_create_sync('many', 'prod', 'many', 'user', 'id', 'email');
	SELECT iterable_add_mapping('many', 'n', column_name => 'n');
	SELECT iterable_add_mapping('many', 'note', column_name => 'note');
	SELECT iterable_enable_sync('many', 'updates_only');
});
$emulator->config({ recordBodies => JSON::PP::false });
sql(q{INSERT INTO many SELECT i, 'user' || i || '@example.com', i FROM generate_series(1, 3500) i});
synced($node, 'many');
is($emulator->stats->{users}, 3500, 'many rows arrive');
is(rows_sent(), 3500, 'each once');
is((sort { $b <=> $a } map { $_->{rows} } requests())[0], 1000,
	'at most 1000 in a request');
cmp_ok(scalar(requests()), '<=', 5, 'and in few requests');

mark();
sql(q{UPDATE many SET note = repeat(chr(228), 5000) WHERE id <= 1000});
synced($node, 'many');
is(rows_sent(), 1000, '1000 rows of 10 kB arrive');
my @bytes = sort { $b <=> $a } map { $_->{bytes} } requests();
cmp_ok($bytes[0], '<=', 4_000_000, 'in requests of at most 4,000,000 bytes');
cmp_ok($bytes[0], '>', 3_900_000, 'that are well filled');
is(scalar(@bytes), 3, 'three of them');

#
# One row a user at a time
#
mark();
$emulator->config({ recordBodies => JSON::PP::true });
sql(q{
	UPDATE many SET note = NULL WHERE id <= 1000;
	INSERT INTO many SELECT 10000 + i,
		CASE WHEN i % 3 = 0 THEN 'User' ELSE 'USER' END || (i % 40) || '@EXAMPLE.com', i
	FROM generate_series(1, 200) i;
	UPDATE many SET n = -n WHERE id <= 100;
});
synced($node, 'many');
my $twice = 0;
foreach my $request (requests())
{
	my %users;

	while ($request->{body} =~ /"email":"([^"]*)"/g)
	{
		$twice++ if $users{ lc $1 }++;
	}
}
is($twice, 0, 'no user is twice in a request');
cmp_ok($emulator->stats->{maxInFlightSameUser}, '<=', 1,
	'nor in two requests at a time');
cmp_ok($emulator->stats->{maxInFlight}, '>', 1, 'though requests overlap');
is($emulator->stats->{users}, 3501, 'e-mails do not differ by case');

#
# Nor in requests of two syncs
#
sql(q{
	CREATE TABLE twin AS SELECT id, 'USER' || id || '@example.com' AS email, 0 AS n FROM generate_series(1, 100) id;
	ALTER TABLE twin ADD PRIMARY KEY (id);
	SELECT iterable_create_sync('twin', 'prod', 'twin', 'user', 'id', 'email');
	SELECT iterable_add_mapping('twin', 'twin', column_name => 'n');
	SELECT iterable_enable_sync('twin', 'updates_only');
});
$emulator->config({ latencyMs => 50 });
mark();
foreach (1 .. 10)
{
	sql(q{UPDATE many SET n = n + 1 WHERE id <= 200; UPDATE twin SET n = n + 1});
	select(undef, undef, undef, 0.03);
}
synced($node, $_) foreach qw(many twin);
$emulator->config({ latencyMs => 0 });
cmp_ok($emulator->stats->{maxInFlightSameUser}, '<=', 1, 'no user is in requests of two syncs at a time');
cmp_ok(scalar(grep { $_->{body} =~ /"twin"/ } requests()), '>', 1, 'none of which waits until the other has nothing to do');
is(user('user1@example.com')->{dataFields}{twin}, 10, 'what is newest arrives');

# Who waits for the other goes when that has its answer, or waits itself.
$emulator->script({ action => 'hang' });
sql(q{UPDATE many SET n = 0 WHERE id = 1});
wait_until(sub { $emulator->stats->{inFlight} == 1 }, 'a request of one sync hangs');
sql(q{UPDATE twin SET n = 0 WHERE id = 1});
sql(q{SELECT * FROM iterable_wait('twin', '500ms')});
is(user('user1@example.com')->{dataFields}{twin}, 10, 'the other waits');
$emulator->release;
synced($node, $_, 'and goes when there is an answer') foreach qw(twin many);
$emulator->script({ status => 503, body => 'oops', headers => { 'Retry-After' => '5' } });
sql(q{UPDATE many SET n = 1 WHERE id = 1});
wait_until(sub { (requests())[-1]{status} == 503 }, 'the one has an answer and must wait');
my $twin_at = time();
sql(q{UPDATE twin SET n = 1 WHERE id = 1});
synced($node, 'twin', 'the other does not wait');
cmp_ok(time() - $twin_at, '<', 3, 'not at all');
sql(q{SELECT iterable_drop_sync('twin')});
synced($node, 'many', 'nor is anything lost');

$emulator->reset({ usersRate => 0, eventsRate => 0 });
$marked = 0;

#
# A backfill in pieces, and changes meanwhile
#
create_connection($node, 'slow', $emulator, users_rate => 2, rate_group => 'slow');
sql(q{
	CREATE TABLE words (word text PRIMARY KEY, email text, n int);
	INSERT INTO words SELECT (CASE i % 3 WHEN 0 THEN 'A_' WHEN 1 THEN E'a"\u00e4' ELSE 'b ' END) || i,
		'word' || i || '@example.com', i
	FROM generate_series(1, 5500) i;
	SELECT iterable_create_sync('words', 'slow', 'words', 'user', 'word', 'email');
	SELECT iterable_add_mapping('words', 'n', column_name => 'n');
	SELECT iterable_enable_sync('words', 'backfill');
});
wait_until(sub { $emulator->stats->{users} > 0 }, 'a backfill is under way');
sql(qq{
	UPDATE words SET n = -n WHERE n % 50 = $_;
	DELETE FROM words WHERE n % 500 = $_;
	INSERT INTO words VALUES ('b new$_', 'new$_\@example.com', 10000);
}) foreach 1 .. 10;
is( sql(q{SELECT backfilling, pending > 0 FROM iterable.sync_status WHERE sync = 'words'}),
	't|t', 'it still is after some changes');
synced($node, 'words', 'it ends');
my %words = map { $_->{email} => $_->{dataFields}{n} } $emulator->users;
my @wrong = grep { my ($email, $n) = split /\|/; ($words{$email} // 'none') ne $n }
  split /\n/, sql('SELECT email, n FROM words');
is("@wrong", '', 'Iterable has the state of the table');
is( sql(q{
	SELECT count(*) FROM iterable.delivery d FULL JOIN words w ON w.word = d.key
	WHERE d.sync = 'words' AND (d.state = 'accepted') IS DISTINCT FROM (w.word IS NOT NULL)}),
	'0', 'and so have the deliveries');
sql(q{SELECT iterable_drop_sync('words')});
$emulator->reset({ usersRate => 0, eventsRate => 0 });
$marked = 0;

#
# Mappings of an enabled sync
#
sql(q{UPDATE people SET unmapped = 'late' WHERE id IN (2, 12); UPDATE people SET unmapped = NULL WHERE id NOT IN (2, 12)});
sql(q{SELECT iterable_enable_sync('people', 'backfill')});
synced($node, 'people');
mark();
sql(q{SELECT iterable_add_mapping('people', 'late', column_name => 'unmapped', apply => 'backfill')});
synced($node, 'people');
is(join(' ', sort map { /(bob|copied\d+)@/i ? lc $1 : '?' }
		map { $_->{body} =~ /"email":"[^"]*"/g } requests()),
	'bob copied12',
	'a mapping with apply => backfill sends the rows whose payload it changes');
is(user('bob@example.com')->{dataFields}{late}, 'late', 'they arrive');
mark();
sql(q{SELECT iterable_add_mapping('people', 'source', constant => 'db', apply => 'updates_only')});
synced($node, 'people');
is(rows_sent(), 0, 'a mapping with apply => updates_only sends nothing');
sql(q{UPDATE people SET unmapped = 'now' WHERE id = 13});
synced($node, 'people');
is(rows_sent(), 1, 'but what changes from now on');
is(user('copied13@example.com')->{dataFields}{source}, 'db', 'has it');
mark();
sql(q{SELECT iterable_enable_sync('people', 'backfill')});
synced($node, 'people');
my $all = sql('SELECT count(*) FROM people');
is(rows_sent(), $all - 1, 'a backfill sends the rows that differ from what was accepted');

#
# Disable and enable
#
mark();
sql(q{
	SELECT iterable_disable_sync('people');
	INSERT INTO people (id, email, name) VALUES (40, 'patience@example.com', 'Patience'),
		(41, 'shortlived@example.com', 'Short');
	DELETE FROM people WHERE id = 41;
	INSERT INTO orders VALUES (3, 'ann@example.com', 3, now(), 'meanwhile');
});
my $started = time();
is(wait_result('people', '1 min'), 'f|0|the sync is disabled',
	'one does not wait for a disabled sync');
cmp_ok(time() - $started, '<', 10, 'not at all');
synced($node, 'orders', 'another sync of the connection goes on');
is( sql(q{SELECT state, reason IS NULL, pending FROM iterable.sync_status WHERE sync = 'people'}),
	'disabled|t|3', 'changes of a disabled sync are captured');
is(scalar(user_requests()), 0, 'and not sent');
my $vanished = counted('people', 'vanished');
sql(q{SELECT iterable_enable_sync('people')});
synced($node, 'people');
ok(user('patience@example.com'), 'they are sent when it is enabled again');
ok(!user('shortlived@example.com'), 'what is gone by then is not');
is(counted('people', 'vanished'), $vanished + 1, 'but counted');
is(sql(q{SELECT pending FROM iterable.sync_status WHERE sync = 'people'}),
	'0', 'nothing is pending');

#
# Rows that cannot be sent, or are refused
#
mark();
sql(q{
	INSERT INTO people (id, email, name, price) VALUES
		(50, 'before@example.com', 'Before', 1), (51, 'canary-nowhere', 'Bad', 1),
		(52, 'nan@example.com', 'NaN', 'NaN'), (53, NULL, 'Nobody', 1),
		(54, 'after@example.com', 'After', 1);
});
synced($node, 'people', 'rows with problems are dealt with', 3);
is(rows_sent(), 2, 'their neighbours are sent');
ok(user('before@example.com') && user('after@example.com'), 'and arrive');
is( failures('people'),
	"51|bad_email|-\n52|not_a_number|-\n53|no_identifier|-",
	'each has its reason');
is( sql(q{SELECT state, failures, what_to_do FROM iterable.sync_status WHERE sync = 'people'}),
	'enabled|3|Look at iterable.failure; mend the rows, or call iterable_retry_failures().',
	'the status says that there is something to do');
is(sql(q{SELECT iterable_retry_failures('people')}), '3', 'failures are tried again');
wait_until(
	sub { sql(q{SELECT min(attempts) FROM iterable.failure WHERE sync = 'people'}) eq '2' },
	'all of them');
is(rows_sent(), 2, 'in vain');
sql(q{
	UPDATE people SET email = 'mended@example.com' WHERE id = 51;
	UPDATE people SET price = 2 WHERE id = 52;
	DELETE FROM people WHERE id = 53;
});
synced($node, 'people', 'mended rows go by themselves');
is(failures('people'), '', 'and are no failures any more');
ok(user('mended@example.com') && user('nan@example.com'), 'they arrive');

$emulator->config({ forgottenEmails => ['gone@example.com'] });
sql(q{INSERT INTO people (id, email) VALUES (60, 'gone@example.com'), (61, 'here@example.com')});
synced($node, 'people', 'a row that Iterable refuses is dealt with', 1);
is(failures('people'), '60|forgottenEmails|-', 'with Iterable\'s reason');
ok(user('here@example.com'), 'its neighbour arrives');
$emulator->config({ forgottenEmails => [] });
is(sql(q{SELECT iterable_retry_failures('people')}), '1', 'it is tried again');
synced($node, 'people', 'and waited for');
ok(user('gone@example.com'), 'and arrives');

#
# Dropped while a request is under way
#
mark();
$emulator->script({ path => '/api/users/bulkUpdate', action => 'hang' });
sql(q{INSERT INTO many SELECT 20000 + i, 'late' || i || '@example.com', 1 FROM generate_series(1, 3000) i});
wait_until(sub { $emulator->stats->{inFlight} >= 1 }, 'a request hangs');
sql(q{SELECT iterable_drop_sync('many')});
$emulator->release;
sql(q{INSERT INTO people (id, email) VALUES (70, 'survivor@example.com')});
synced($node, 'people', 'a sync that is dropped in flight does not hold up others');
is( sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'many'::regclass}),
	'0', 'its triggers are gone');
is( sql(q{
	SELECT (SELECT count(*) FROM iterable.sync_delivery WHERE sync_id NOT IN (SELECT sync_id FROM iterable.sync)) +
		(SELECT count(*) FROM iterable.sync_run WHERE sync_id NOT IN (SELECT sync_id FROM iterable.sync)) +
		(SELECT count(*) FROM iterable.sync_failure WHERE sync_id NOT IN (SELECT sync_id FROM iterable.sync))}),
	'0',
	'nothing of it is left, or comes back');

#
# iterable_wait()
#
like(
	sql_error($node, q{
		BEGIN;
		UPDATE people SET name = 'uncommitted' WHERE id = 1;
		SELECT iterable_wait('people')}),
	qr/^55000: .*own transaction/,
	'one cannot wait for changes of one\'s own transaction');
like(
	sql_error($node, q{
		BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT iterable_wait('people')}),
	qr/^55000: /,
	'nor in a fixed snapshot');
like(sql_error($node, q{SELECT iterable_wait('nosuch')}), qr/^42704: /,
	'nor for a sync that is not there');
is(sql(q{BEGIN; SELECT done FROM iterable_wait('people'); COMMIT}), 't',
	'but in a transaction that has changed nothing');

$emulator->script({ path => '/api/users/bulkUpdate', action => 'hang' });
sql(q{UPDATE people SET name = 'hanging' WHERE id = 1});
$started = time();
is(wait_result('people', '300 ms'), 'f|0|timeout', 'waiting ends');
cmp_ok(time() - $started, '>', 0.3, 'not before its time');
is(sql(q{SELECT pending > 0 FROM iterable.sync_status WHERE sync = 'people'}),
	't', 'the change is pending');
is( sql(q{
	SELECT a.backend_xmin, a.xact_start, string_agg(l.locktype, ' ') FILTER (WHERE l.locktype <> 'advisory')
	FROM pg_stat_activity a LEFT JOIN pg_locks l USING (pid)
	WHERE a.backend_type = 'iterable_sync worker' AND a.datname = 'postgres' GROUP BY 1, 2}),
	'||',
	'nothing is open while a request is under way');
$emulator->release;
synced($node, 'people', 'a request without answer is made again');
is(user('ann@example.com')->{dataFields}{name}, 'hanging', 'and arrives');

is( sql(q{SELECT string_agg(sync || ' ' || state || ' ' || pending, ', ' ORDER BY sync) FROM iterable.sync_status}),
	'orders enabled 0, people enabled 0',
	'in the end nothing is pending');
is( sql(q{
	SELECT count(*) FROM iterable.run
	WHERE keys_seen <> accepted + rejected + retried + unchanged + skipped + vanished}),
	'0',
	'every row of every run is accounted for');

#
# What is nobody's business
#
log_lacks($node, $emulator->key, 'no key is in the log');
log_lacks($node, $_, "no data such as $_ is in the log")
  foreach qw(example.com canary-nowhere Cleopatra);
unlike(sql('SELECT * FROM iterable.failure; SELECT * FROM iterable.sync_status'),
	qr/example\.com|canary/, 'nor in failures and status');
unlike(log_of($node), qr/PANIC|terminated by signal|TRAP/, 'nothing has crashed');

done_testing();
