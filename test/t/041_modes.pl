# Copyright (c) 2026, the iterable_sync developers

# What the modes send, of users and of events: insert each row once, update
# only what exists at Iterable, upsert both; and none of them twice because
# rows were deleted and inserted, or the table was truncated and loaded again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('main',
	conf => "log_statement = 'none'\nlog_min_error_statement = panic\n");

create_connection($node, 'prod', $emulator,
	users_rate => 100, events_rate => 100);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# A table of three rows and a sync, both of the name; the rows are backfilled.
sub create_sync
{
	my ($name, $object, $mode, %options) = @_;
	my $apply = $options{apply} // 'backfill';
	my $rows = $options{rows} // join(', ', map { "($_, '$name$_\@example.com', 'first')" } 1 .. 3);

	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, plan text);
		INSERT INTO $name VALUES $rows;
		SELECT iterable_create_sync('$name', 'prod', '$name', '$object', 'id', 'email', mode => '$mode');
		SELECT iterable_add_mapping('$name', 'plan', column_name => 'plan');
	});
	sql(qq{SELECT iterable_add_mapping('$name', 'eventName', constant => '$name')})
	  if $object eq 'event';
	sql(qq{SELECT iterable_add_mapping('$name', 'id', expression => \$\$'$name-' || id\$\$)})
	  if $object eq 'event' && $mode eq 'update';
	sql(qq{SELECT iterable_enable_sync('$name', '$apply')});
	synced($node, $name, "$name: the rows that are there are dealt with");
	return;
}

# "number plan writes" of what Iterable has of a sync, in order.
sub users_of
{
	my ($name) = @_;

	return join(', ',
		sort map { ($_->{email} =~ /^$name(\d+)/)[0] . " $_->{dataFields}{plan} $_->{writes}" }
		  grep { $_->{email} =~ /^$name\d+@/ && $_->{dataFields}{plan} } $emulator->users);
}

sub events_of
{
	my ($name) = @_;

	return join(', ',
		sort map { ($_->{email} =~ /(\d+)/)[0] . " $_->{dataFields}{plan} $_->{writes}" }
		  grep { $_->{eventName} eq $name } $emulator->events);
}

sub deliveries
{
	my ($name) = @_;

	return sql(qq{SELECT string_agg(key || ' ' || state, ', ' ORDER BY key) FROM iterable.delivery WHERE sync = '$name'});
}

sub counted
{
	my ($sync, $count) = @_;

	return sql("SELECT coalesce(sum($count), 0) FROM iterable.run WHERE sync = '$sync'");
}

# Change a table, and wait until its sync has seen it.
sub change
{
	my ($name, $sql, $failures) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	sql($sql);
	return synced($node, $name, "$name: $sql", $failures);
}

# The ways in which a table is rebuilt without changing.
sub rebuild
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	change($name, qq{DELETE FROM $name WHERE id = 1});
	change($name, qq{INSERT INTO $name SELECT 1, '${name}1\@example.com', plan FROM $name WHERE id = 2});
	change($name, qq{BEGIN; CREATE TEMP TABLE saved AS TABLE $name; DELETE FROM $name; INSERT INTO $name TABLE saved; COMMIT});
	change($name, qq{BEGIN; CREATE TEMP TABLE saved AS TABLE $name; TRUNCATE $name; INSERT INTO $name TABLE saved; COMMIT});
	change($name, qq{CREATE TABLE saved AS TABLE $name; TRUNCATE $name});
	change($name, qq{INSERT INTO $name TABLE saved; DROP TABLE saved});
	return;
}

sub seed
{
	my ($name, @numbers) = @_;

	$emulator->seed(map { { email => "$name$_\@example.com" } } @numbers);
	return;
}

#
# Users
#
create_sync('ui', 'user', 'insert');
is(users_of('ui'), '1 first 1, 2 first 1, 3 first 1', 'insert: a backfill adds users');
change('ui', q{UPDATE ui SET plan = 'second'});
is(users_of('ui'), '1 first 1, 2 first 1, 3 first 1', 'insert: a change is not sent');
is(counted('ui', 'skipped'), '3', 'insert: but counted');
change('ui', q{INSERT INTO ui VALUES (4, 'ui4@example.com', 'new')});
rebuild('ui');
change('ui', q{UPDATE ui SET email = 'ui5@example.com' WHERE id = 3});
is( users_of('ui'),
	'1 first 1, 2 first 1, 3 first 1, 4 new 1',
	'insert: a row is sent once, whatever happens to it later');
change('ui', q{UPDATE ui SET email = 'nowhere' WHERE id = 3});
change('ui', q{INSERT INTO ui VALUES (6, 'nowhere', 'bad')}, 1);
change('ui', q{UPDATE ui SET email = 'ui6@example.com', plan = 'mended' WHERE id = 6});
like(users_of('ui'), qr/, 6 mended 1$/, 'insert: a row that was never accepted is sent when it is mended');
$emulator->config({ forgottenEmails => ['ui7@example.com'] });
change('ui', q{INSERT INTO ui VALUES (7, 'ui7@example.com', 'refused')}, 1);
$emulator->config({ forgottenEmails => [] });
sql(q{SELECT iterable_retry_failures('ui')});
wait_until(sub { users_of('ui') =~ /7 refused 1$/ }, 'insert: or when it is accepted at last');

create_sync('uu', 'user', 'update');
is(users_of('uu'), '', 'update: unknown users are not created');
is(deliveries('uu'), '', 'update: nothing of them was accepted');
is(counted('uu', 'skipped'), '3', 'update: they are counted');
seed('uu', 2);
my $lookups = $emulator->stats->{requests};
change('uu', q{UPDATE uu SET plan = 'second'});
is(users_of('uu'), '2 second 1', 'update: a user that a look-up finds is sent');
is(sql(q{SELECT count(*) FROM iterable.failure WHERE sync = 'uu'}), '0', 'update: the others are no failures');

# Once accepted a user needs no look-up.
my $since = ($emulator->requests)[-1]{n};
change('uu', q{UPDATE uu SET plan = 'third' WHERE id = 2});
is( join(' ', map { $_->{method} } $emulator->requests($since)),
	'POST', 'update: a user that was accepted before is not looked up again');
is(users_of('uu'), '2 third 2', 'update: and is sent');
rebuild('uu');
is(users_of('uu'), '2 third 2', 'update: a rebuilt table sends nothing');
change('uu', q{DELETE FROM uu WHERE id = 2});
$since = ($emulator->requests)[-1]{n};
change('uu', q{INSERT INTO uu VALUES (2, 'uu2@example.com', 'back')});
is(users_of('uu'), '2 back 3', 'update: a row that comes back was accepted before');
is( join(' ', map { $_->{method} } $emulator->requests($since)),
	'POST', 'update: and needs no look-up');

# Look-ups fail, too; rows of both kinds in one batch.
$emulator->script(
	{ path => '/api/users/', status => 500, body => 'oops' },
	{ path => '/api/users/', action => 'drop' });
seed('uu', 10 .. 14);
change('uu', q{INSERT INTO uu SELECT i, 'uu' || i || '@example.com', 'many' FROM generate_series(10, 30) i; UPDATE uu SET plan = 'many' WHERE id = 2});
is( users_of('uu'),
	'10 many 1, 11 many 1, 12 many 1, 13 many 1, 14 many 1, 2 many 4',
	'update: known users among unknown ones are sent, though look-ups failed at first');
is(sql(q{SELECT count(*) FROM iterable.failure WHERE sync = 'uu'}), '0', 'update: without a failure');

create_sync('up', 'user', 'upsert');
change('up', q{UPDATE up SET plan = 'second' WHERE id = 2});
change('up', q{INSERT INTO up VALUES (4, 'up4@example.com', 'new')});
is( users_of('up'),
	'1 first 1, 2 second 2, 3 first 1, 4 new 1',
	'upsert: every change is sent');
change('up', q{UPDATE up SET plan = 'same'});
rebuild('up');
is( users_of('up'),
	'1 same 2, 2 same 3, 3 same 2, 4 same 2',
	'upsert: a rebuilt table sends nothing');
change('up', q{BEGIN; TRUNCATE up; INSERT INTO up VALUES (1, 'up1@example.com', 'same'), (2, 'up2@example.com', 'other'); COMMIT});
is( users_of('up'),
	'1 same 2, 2 other 4, 3 same 2, 4 same 2',
	'upsert: a reload sends what differs');

#
# Events
#
seed($_, 1 .. 9) foreach qw(ei eu ep);

create_sync('ei', 'event', 'insert');
is(events_of('ei'), '1 first 1, 2 first 1, 3 first 1', 'insert: a backfill makes events');
change('ei', q{UPDATE ei SET plan = 'second'});
change('ei', q{INSERT INTO ei VALUES (4, 'ei4@example.com', 'new')});
rebuild('ei');
is( events_of('ei'),
	'1 first 1, 2 first 1, 3 first 1, 4 new 1',
	'insert: an event is sent once, whatever happens to its row');

create_sync('eu', 'event', 'update');
is(events_of('eu'), '', 'update: rows that have not changed make no events');
is(deliveries('eu'), '1 seen, 2 seen, 3 seen', 'update: that they were there is remembered');
change('eu', q{INSERT INTO eu VALUES (4, 'eu4@example.com', 'new')});
is(events_of('eu'), '', 'update: nor does a new row');
change('eu', q{UPDATE eu SET plan = 'second' WHERE id = 2});
is(events_of('eu'), '2 second 1', 'update: a change makes one');
change('eu', q{UPDATE eu SET plan = 'third' WHERE id = 2});
is(events_of('eu'), '2 third 2', 'update: another change makes the same');
change('eu', q{BEGIN; INSERT INTO eu VALUES (5, 'eu5@example.com', 'new'); UPDATE eu SET plan = 'changed' WHERE id = 5; COMMIT});
is(events_of('eu'), '2 third 2, 5 changed 1',
	'update: a row that is inserted and changed at once has changed');
change('eu', q{DELETE FROM eu WHERE id = 3});
change('eu', q{INSERT INTO eu VALUES (3, 'eu3@example.com', 'first')});
is(events_of('eu'), '2 third 2, 5 changed 1', 'update: a row that comes back as it was has not');
is( deliveries('eu'),
	'1 seen, 2 accepted, 3 seen, 4 seen, 5 accepted',
	'update: and is not taken for accepted');
change('eu', q{BEGIN; DELETE FROM eu WHERE id = 3; INSERT INTO eu VALUES (3, 'eu3@example.com', 'other'); COMMIT});
is( events_of('eu'),
	'2 third 2, 3 other 1, 5 changed 1',
	'update: a row that is replaced by another has');
change('eu', q{BEGIN; CREATE TEMP TABLE saved AS TABLE eu; TRUNCATE eu; INSERT INTO eu TABLE saved; COMMIT});
change('eu', q{BEGIN; CREATE TEMP TABLE saved AS TABLE eu; DELETE FROM eu; INSERT INTO eu TABLE saved; COMMIT});
is( events_of('eu'),
	'2 third 2, 3 other 1, 5 changed 1',
	'update: a rebuilt table makes no events');

create_sync('ep', 'event', 'upsert');
is(events_of('ep'), '1 first 1, 2 first 1, 3 first 1', 'upsert: a backfill makes events');
change('ep', q{UPDATE ep SET plan = 'second' WHERE id = 2});
is(events_of('ep'), '1 first 1, 2 second 2, 3 first 1', 'upsert: a change changes the event');
change('ep', q{UPDATE ep SET plan = 'same'});
rebuild('ep');
is( events_of('ep'),
	'1 same 2, 2 same 3, 3 same 2',
	'upsert: a rebuilt table makes no event again');

#
# Without memory
#
create_sync('um', 'user', 'upsert');
sql(q{SELECT iterable_update_sync('um', track => false)});
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'um'}), '0', 'without memory: what was sent is forgotten');
change('um', q{UPDATE um SET plan = 'second' WHERE id = 2});
is(users_of('um'), '1 first 1, 2 second 2, 3 first 1', 'without memory: a change is sent');
change('um', q{BEGIN; UPDATE um SET plan = 'x' WHERE id = 2; UPDATE um SET plan = 'second' WHERE id = 2; COMMIT});
is(users_of('um'), '1 first 1, 2 second 3, 3 first 1', 'without memory: and sent again, although it is the same');
change('um', q{INSERT INTO um VALUES (4, 'no address', 'fourth')}, 1);
is(sql(q{SELECT key FROM iterable.failure WHERE sync = 'um'}), '4', 'without memory: failures are kept');
change('um', q{UPDATE um SET email = 'um4@example.com' WHERE id = 4});
is(users_of('um'), '1 first 1, 2 second 3, 3 first 1, 4 fourth 1', 'without memory: until the row is mended');
sql(q{SELECT iterable_backfill('um')});
synced($node, 'um', 'without memory: a backfill');
is(users_of('um'), '1 first 2, 2 second 4, 3 first 2, 4 fourth 2', 'without memory: sends all rows');
change('um', q{DELETE FROM um WHERE id = 4});
is(sql(q{SELECT count(*) FROM iterable.delivery WHERE sync = 'um'}), '0', 'without memory: nothing is kept');
sql(q{SELECT iterable_update_sync('um', track => true)});
change('um', q{UPDATE um SET plan = 'third'});
sql(q{SELECT iterable_backfill('um')});
synced($node, 'um', 'with memory again: a backfill');
is(users_of('um'), '1 third 3, 2 third 5, 3 third 3, 4 fourth 2', 'with memory again: sends what differs');

my %ids;
$ids{ $_->{id} }++ foreach $emulator->events;
is((grep { $_ > 1 } values %ids), 0, 'no id is there twice');

#
# Look-ups by user id
#
my $hybrid = start_emulator(projectType => 'hybrid', usersRate => 0, otherRates => JSON::PP::false);
create_connection($node, 'hybrid', $hybrid, users_rate => 100);
$hybrid->seed({ userId => 'id/1 ?' }, { userId => 'id 2' });
sql(q{
	CREATE TABLE h (id int PRIMARY KEY, uid text, plan text);
	INSERT INTO h VALUES (1, 'id/1 ?', 'known'), (2, 'ID 2', 'of another case'), (3, 'id 3', 'unknown');
	SELECT iterable_create_sync('h', 'hybrid', 'h', 'user', 'id', mode => 'update');
	SELECT iterable_add_mapping('h', 'userId', column_name => 'uid');
	SELECT iterable_add_mapping('h', 'plan', column_name => 'plan');
	SELECT iterable_enable_sync('h', 'backfill');
});
synced($node, 'h', 'users are looked up by their user id');
is( join(', ', sort map { "$_->{userId}: " . ($_->{dataFields}{plan} // '-') } $hybrid->users),
	'id 2: -, id/1 ?: known',
	'and found by it, exactly');

unlike(log_of($node), qr/PANIC|terminated by signal|TRAP/, 'nothing has crashed');
done_testing();
