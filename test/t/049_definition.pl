# Copyright (c) 2026, the iterable_sync developers

# Changing what an enabled sync is, and what its flags make of its requests.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $emulator = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $other = start_emulator(usersRate => 0, eventsRate => 0, otherRates => JSON::PP::false);
my $node = start_cluster('main');

create_connection($node, 'prod', $emulator, users_rate => 100, events_rate => 100);
create_connection($node, 'other', $other, users_rate => 100, events_rate => 100, update_only => 'true');

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

# "email plan writes" of the users that an emulator has.
sub users_of
{
	my ($of) = @_;

	return join(', ', sort map { "$_->{email} $_->{dataFields}{plan} $_->{writes}" }
		  grep { $_->{dataFields}{plan} } $of->users);
}

# Bodies of the bulk requests that came since one.
sub bodies
{
	my ($of, $since) = @_;

	return map { JSON::PP::decode_json($_->{body}) } grep { $_->{method} eq 'POST' } $of->requests($since);
}

sub last_request
{
	my ($of) = @_;
	my @requests = $of->requests;

	return @requests ? $requests[-1]{n} : 0;
}

sql(q{
	CREATE TABLE customer (id int PRIMARY KEY, code text NOT NULL UNIQUE, email text, plan text, spent int);
	INSERT INTO customer SELECT i, 'c' || i, 'c' || i || '@example.com', 'free', i FROM generate_series(1, 3) i;
	SELECT iterable_create_sync('customers', 'prod', 'customer', 'user', 'id', 'email');
	SELECT iterable_add_mapping('customers', 'plan', column_name => 'plan');
	SELECT iterable_enable_sync('customers', 'backfill')});
synced($node, 'customers', 'the rows are sent');
is(users_of($emulator), 'c1@example.com free 1, c2@example.com free 1, c3@example.com free 1', 'as they are');

# Mappings of one transaction are one change.
my $since = last_request($emulator);
change('customers', q{
	BEGIN;
	SELECT iterable_drop_mapping('customers', 'plan', apply => 'backfill');
	SELECT iterable_add_mapping('customers', 'plan', expression => 'upper(plan)', apply => 'backfill');
	SELECT iterable_add_mapping('customers', 'spent', column_name => 'spent', apply => 'backfill');
	COMMIT});
is(users_of($emulator), 'c1@example.com FREE 2, c2@example.com FREE 2, c3@example.com FREE 2', 'changes of one transaction are sent as one');
is(scalar(bodies($emulator, $since)), 1, 'in one request');

# An enabled sync may be without what it needs inside a transaction only.
sql(q{
	BEGIN;
	SELECT iterable_set_mappings('customers', '{"email": "email", "plan": "plan"}', apply => 'updates_only');
	SELECT iterable_update_sync('customers', match_field => '', apply => 'updates_only');
	SELECT iterable_drop_mapping('customers', 'email', apply => 'updates_only');
	SELECT iterable_add_mapping('customers', 'email', expression => 'lower(email)', apply => 'updates_only');
	COMMIT});
like(sql_error($node, q{SELECT iterable_drop_mapping('customers', 'email', apply => 'updates_only')}),
	qr/^22023: sync "customers" has no identifier/, 'but not when it ends');
is(sql(q{SELECT count(*) FROM iterable.mapping}), '2', 'then nothing is changed');

# Another source: a copy of the table, where one row differs.
$since = last_request($emulator);
sql(q{CREATE TABLE customer2 (LIKE customer INCLUDING ALL);
	INSERT INTO customer2 SELECT id, code, email, CASE id WHEN 2 THEN 'paid' ELSE plan END, spent FROM customer});
change('customers', q{SELECT iterable_update_sync('customers', source => 'customer2', apply => 'backfill')});
is(users_of($emulator), 'c1@example.com free 3, c2@example.com paid 3, c3@example.com free 3',
	'another source is read');
change('customers', q{SELECT iterable_update_sync('customers', source => 'customer', apply => 'backfill')});
is(users_of($emulator), 'c1@example.com free 3, c2@example.com free 4, c3@example.com free 3',
	'only what differs is sent');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'customer2'::regclass AND NOT tgisinternal}), '0',
	'a source that no sync uses has no triggers');
change('customers', q{UPDATE customer SET plan = 'gold' WHERE id = 1});
is((grep { $_->{email} eq 'c1@example.com' } $emulator->users)[0]{dataFields}{plan}, 'gold', 'the source is captured');

# Another connection has nothing of what was delivered to the first.
change('customers', q{SELECT iterable_update_sync('customers', connection => 'other', apply => 'backfill')});
is(users_of($other), 'c1@example.com gold 1, c2@example.com free 1, c3@example.com free 1', 'another connection gets all rows');
is(sql(q{SELECT count(*) FROM iterable.run WHERE sync = 'customers' AND finished_at IS NULL}), '1', 'the runs of before are closed');

# What is under way to the first must not be taken for known by the other.
sql(q{SELECT iterable_update_sync('customers', connection => 'prod', apply => 'updates_only')});
$emulator->script({ path => '/api/users/bulkUpdate', action => 'apply', delayMs => 1500, times => 1 });
$since = last_request($other);
sql(q{UPDATE customer SET plan = 'late' WHERE id = 3});
sleep(1);
change('customers', q{SELECT iterable_update_sync('customers', connection => 'other', apply => 'backfill')});
sleep(1);
synced($node, 'customers', 'a request to the old connection is answered late');
is((grep { $_->{email} eq 'c3@example.com' } $other->users)[0]{dataFields}{plan}, 'late', 'the row was sent to the new one too');
is(sql(q{SELECT string_agg(key || ' ' || state, ', ' ORDER BY key) FROM iterable.delivery}), '1 accepted, 2 accepted, 3 accepted',
	'all rows are accepted there');
is(sql(q{SELECT count(*) FROM iterable.sync_status WHERE last_error IS NOT NULL}), '0', 'without an error');

# Another unique field
change('customers', q{SELECT iterable_update_sync('customers', unique_field => 'code', apply => 'backfill')});
is(sql(q{SELECT string_agg(key, ', ' ORDER BY key) FROM iterable.delivery}), 'c1, c2, c3', 'another unique field makes other keys');

# Rename and copy
change('customers', q{SELECT iterable_rename_sync('customers', 'people'); SELECT iterable_rename_sync('people', 'customers');
	UPDATE customer SET plan = 'renamed' WHERE id = 1});
is((grep { $_->{email} eq 'c1@example.com' } $other->users)[0]{dataFields}{plan}, 'renamed', 'a sync goes on after it was renamed');
sql(q{SELECT iterable_copy_sync('customers', 'copy', connection => 'prod')});
is(sql(q{SELECT replace(iterable_sync_sql('copy'), 'copy', 'customers') = replace(iterable_sync_sql('customers'), 'other', 'prod')}), 't',
	'a copy is like the original');
is(sql(q{SELECT enabled FROM iterable.sync WHERE name = 'copy'}), 'f', 'but disabled');

# Flags
$since = last_request($other);
change('customers', q{SELECT iterable_update_sync('customers', prefer_user_id => true, merge_nested_objects => true,
	create_new_fields => 'never', apply => 'backfill')});
my ($body) = bodies($other, $since);
ok(defined $body->{createNewFields} && !$body->{createNewFields}, 'createNewFields stands at the top for users');
is(scalar(grep { $_->{preferUserId} && $_->{mergeNestedObjects} && !exists $_->{createNewFields} } @{ $body->{users} }), 3,
	'the other flags at each user');
$since = last_request($emulator);
sql(q{CREATE TABLE visit (id int PRIMARY KEY, email text);
	SELECT iterable_create_sync('visits', 'prod', 'visit', 'event', 'id', 'email', create_new_fields => 'always');
	SELECT iterable_add_mapping('visits', 'eventName', constant => 'visit');
	SELECT iterable_enable_sync('visits', 'updates_only')});
change('visits', q{INSERT INTO visit VALUES (1, 'c1@example.com')});
($body) = bodies($emulator, $since);
ok(!exists $body->{createNewFields} && $body->{events}[0]{createNewFields}, 'createNewFields stands at each event');

# updateOnly, where the account has it, instead of look-ups
$other->config({ updateOnly => JSON::PP::true });
$since = last_request($other);
change('customers', q{SELECT iterable_update_sync('customers', mode => 'update', create_new_fields => 'project', apply => 'updates_only');
	INSERT INTO customer VALUES (8, 'c8', 'c8@example.com', 'new', 1);
	UPDATE customer SET plan = 'updated' WHERE id = 1});
is(scalar(grep { $_->{method} eq 'GET' } $other->requests($since)), 0, 'nobody is looked up');
is(scalar(grep { !$_->{updateOnly} } bodies($other, $since)), 0, 'updateOnly stands at the top');
is(scalar(grep { $_->{email} eq 'c8@example.com' } $other->users), 0, 'an unknown user is not made');
is((grep { $_->{email} eq 'c1@example.com' } $other->users)[0]{dataFields}{plan}, 'updated', 'a known one is updated');
is(sql(q{SELECT count(*) FROM iterable.failure}), '0', 'and none is a failure');

done_testing();
