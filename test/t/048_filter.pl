# Copyright (c) 2026, the iterable_sync developers

# Which rows a filter lets through, what becomes of rows that begin or cease
# to match, and dry runs.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('main');

create_connection($node, 'prod', $emulator, users_rate => 100, events_rate => 100);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub change
{
	my ($name, $sql, $failures) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	sql($sql);
	return synced($node, $name, "$name: $sql", $failures);
}

# A table of three rows, of which the third does not match, and a sync.
sub create_sync
{
	my ($name, $object, $mode) = @_;

	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, email text, plan text, amount int, consent boolean);
		INSERT INTO $name SELECT i, '$name' || i || '\@example.com', 'first', 5, i < 3 FROM generate_series(1, 3) i;
		SELECT iterable_create_sync('$name', 'prod', '$name', '$object', 'id', 'email', mode => '$mode', filter => 'consent');
		SELECT iterable_add_mapping('$name', 'plan', column_name => 'plan');
	});
	sql(qq{SELECT iterable_add_mapping('$name', 'eventName', constant => '$name');
		SELECT iterable_add_mapping('$name', 'id', expression => \$\$'$name-' || id\$\$)})
	  if $object eq 'event';
	sql(qq{SELECT iterable_enable_sync('$name', 'backfill')});
	synced($node, $name, "$name: the rows that are there are dealt with");
	return;
}

# "number plan writes" of what Iterable has of a sync, in order.
sub users_of
{
	my ($name) = @_;

	return join(', ',
		sort map { ($_->{email} =~ /^$name(\d+)/)[0] . " $_->{dataFields}{plan} $_->{writes}" }
		  grep { $_->{email} =~ /^$name\d+@/ } $emulator->users);
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

create_sync('uf', 'user', 'upsert');
is(users_of('uf'), '1 first 1, 2 first 1', 'a row that does not match is not sent');
is(deliveries('uf'), '1 accepted, 2 accepted', 'and leaves no trace');
change('uf', q{UPDATE uf SET consent = true WHERE id = 3});
is(users_of('uf'), '1 first 1, 2 first 1, 3 first 1', 'a change of a column that only the filter reads is captured: it begins to match');
change('uf', q{UPDATE uf SET consent = NULL, plan = 'unseen' WHERE id = 1});
is(users_of('uf'), '1 first 1, 2 first 1, 3 first 1', 'null is not true');
is(deliveries('uf'), '1 left, 2 accepted, 3 accepted', 'a row that ceases to match has left');
change('uf', q{UPDATE uf SET plan = 'still unseen' WHERE id = 1});
is(counted('uf', 'filtered'), '2', 'such rows are counted');
change('uf', q{UPDATE uf SET plan = 'first', consent = true WHERE id = 1});
is(users_of('uf'), '1 first 1, 2 first 1, 3 first 1', 'a row that comes back as Iterable has it is not sent again');
is(deliveries('uf'), '1 accepted, 2 accepted, 3 accepted', 'and is accepted');
change('uf', q{UPDATE uf SET consent = false WHERE id = 1});
change('uf', q{DELETE FROM uf WHERE id = 1});
is(deliveries('uf'), '1 vanished, 2 accepted, 3 accepted', 'a row that has left may vanish');
change('uf', q{INSERT INTO uf VALUES (1, 'uf1@example.com', 'new', 1, false)});
is(deliveries('uf'), '1 left, 2 accepted, 3 accepted', 'and come back without matching');
change('uf', q{UPDATE uf SET consent = true WHERE id = 1});
is(users_of('uf'), '1 new 2, 2 first 1, 3 first 1', 'and match');

# What is mapped is not evaluated for rows that do not match.
change('uf', q{
	SELECT iterable_update_sync('uf', filter => 'consent AND amount > 0', apply => 'updates_only');
	SELECT iterable_add_mapping('uf', 'share', expression => '10 / amount', apply => 'updates_only');
	UPDATE uf SET amount = 0 WHERE id = 2});
is(deliveries('uf'), '1 accepted, 2 left, 3 accepted', 'a filter guards what is mapped');
change('uf', q{SELECT iterable_update_sync('uf', filter => '10 / amount > 1', apply => 'backfill')}, 1);
like(sql(q{SELECT key || ' ' || class || ' ' || message FROM iterable.failure WHERE sync = 'uf'}),
	qr/^2 expression 22012: division by zero/, 'a filter that fails for a row is a failure of that row');
change('uf', q{SELECT iterable_update_sync('uf', filter => '', apply => 'backfill')}, 1);
is(sql(q{SELECT filter IS NULL FROM iterable.sync WHERE name = 'uf'}), 't', 'a filter can be taken away');
change('uf', q{UPDATE uf SET amount = 2 WHERE id = 2});

create_sync('ui', 'user', 'insert');
change('ui', q{UPDATE ui SET consent = false WHERE id = 1});
change('ui', q{UPDATE ui SET consent = true, plan = 'second'});
is(users_of('ui'), '1 first 1, 2 first 1, 3 second 1', 'insert: a row that begins to match is new, one that was sent is not');

$emulator->seed({ email => 'eu3@example.com' });
create_sync('eu', 'event', 'update');
is(deliveries('eu'), '1 seen, 2 seen, 3 left', 'update: what is there is remembered');
change('eu', q{UPDATE eu SET consent = true WHERE id = 3});
is(events_of('eu'), '', 'update: a row that begins to match is new, whatever its trigger says');
change('eu', q{UPDATE eu SET plan = 'second' WHERE id = 3});
is(events_of('eu'), '3 second 1', 'update: and has changed when it changes again');

# Dry runs
sql(q{
	CREATE TABLE ud (id int PRIMARY KEY, email text, plan text);
	INSERT INTO ud SELECT i, CASE WHEN i = 3 THEN 'nowhere' ELSE 'ud' || i || '@example.com' END, 'first' FROM generate_series(1, 2500) i;
	SELECT iterable_create_sync('ud', 'prod', 'ud', 'user', 'id', 'email', dry_run => true);
	SELECT iterable_add_mapping('ud', 'plan', column_name => 'plan');
	SELECT iterable_enable_sync('ud', 'backfill')});
synced($node, 'ud', 'a dry run comes to its end', 1);
is(users_of('ud'), '', 'a dry run sends nothing');
is(deliveries('ud'), '', 'and remembers nothing');
is(sql(q{SELECT sum(would_send), sum(requests), sum(accepted), sum(rejected), sum(bytes) > 100000 FROM iterable.run WHERE sync = 'ud'}),
	'2499|3|0|1|t', 'it tells what would have gone');
change('ud', q{UPDATE ud SET email = 'ud3@example.com' WHERE id = 3});
is(counted('ud', 'would_send'), '2500', 'a row that is mended has no failure any more');
like(sql_error($node, q{SELECT iterable_update_sync('ud', dry_run => false)}),
	qr/^22023: argument "apply" must be given/, 'what was not sent must be thought of when it ends');
change('ud', q{SELECT iterable_update_sync('ud', dry_run => false, apply => 'backfill')});
is(scalar(grep { $_->{email} =~ /^ud\d/ } $emulator->users), 2500, 'then all is sent');
is(counted('ud', 'accepted'), '2500', 'and accepted');

done_testing();
