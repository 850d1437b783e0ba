# Copyright (c) 2026, the iterable_sync developers

# What is known of failed rows, and what becomes of them: by themselves, when
# they change, and when somebody asks.  One emulator and one table a scene.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $node = start_cluster('main', conf => "log_statement = 'none'\nlog_min_error_statement = panic\niterable_sync.rescan_interval = 3600\n");
my %emulator;

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

# A table and its sync, both of this name, by e-mail.
sub scene
{
	my ($name, %options) = @_;
	my $object = delete $options{object} // 'user';

	$emulator{$name} = start_emulator(
		usersRate => 0,
		eventsRate => 0,
		otherRates => JSON::PP::false,
		%options);
	create_connection($node, $name, $emulator{$name}, users_rate => 100, events_rate => 100);
	sql(qq{
		CREATE TABLE $name (id int PRIMARY KEY, who text, v jsonb DEFAULT '1', extra text);
		SELECT iterable_create_sync('$name', '$name', '$name', '$object', 'id', match_field => 'who');
		SELECT iterable_add_mapping('$name', 'v', column_name => 'v');
		SELECT iterable_add_mapping('$name', 'extra', column_name => 'extra');
	});
	sql(qq{SELECT iterable_add_mapping('$name', 'eventName', constant => 'Event')}) if $object eq 'event';
	sql(qq{SELECT iterable_enable_sync('$name', 'updates_only')});
	return $emulator{$name};
}

sub email
{
	return "canary-person-$_[0]\@example.com";
}

sub insert
{
	my ($name, @numbers) = @_;

	sql("INSERT INTO $name (id, who) VALUES " . join(', ', map { "($_, '" . email($_) . "')" } @numbers));
	return;
}

sub accepted
{
	return sql("SELECT coalesce(string_agg(key, ' ' ORDER BY key::int), '') FROM iterable.delivery WHERE sync = '$_[0]' AND state = 'accepted'");
}

sub failures
{
	return sql("SELECT coalesce(string_agg(key || ' ' || class || CASE WHEN next_at IS NULL THEN '' ELSE ' later' END, ', ' ORDER BY key::int), '') FROM iterable.failure WHERE sync = '$_[0]'");
}

# A list of failures for the next request.
sub fail_rows
{
	my ($name, $list, @numbers) = @_;

	$emulator{$name}->script({ failRows => { emails => [ map { email($_) } @numbers ], list => $list } });
	return;
}

#
# What a failure shows
#
scene('shown');
fail_rows('shown', 'invalidDataEmails', 1);
insert('shown', 1, 2);
synced($node, 'shown', 'a row fails', 1);
is( sql(q{SELECT key, class, code, message, what_to_do, attempts, next_at, payload, first_at = last_at FROM iterable.failure}),
	'1|invalidDataEmails||Iterable refuses a value in dataFields|Compare the types of the mapped fields with those in the project.|1|||t',
	'a failure has class, message, advice, times, and no payload');
like(sql(q{SELECT request_id FROM iterable.failure}), qr/^[0-9a-f-]{8,}$/, 'and the id of the request');

sql(q{ALTER SYSTEM SET iterable_sync.keep_failed_payloads = on});
sql(q{SELECT pg_reload_conf()});
fail_rows('shown', 'invalidDataEmails', 1);
is(sql(q{SELECT iterable_retry_failures('shown')}), '1', 'it is tried again');
synced($node, 'shown', 'it fails again', 1);
is( sql(q{SELECT payload->>'email', payload->'dataFields'->>'v', attempts, first_at < last_at FROM iterable.failure}),
	email(1) . '|1|2|t',
	'where a setting says so, with the payload');
fail_rows('shown', 'invalidDataEmails', 1);
sql(q{UPDATE shown SET v = '2' WHERE id = 1});
synced($node, 'shown', 'it changes, and fails again', 1);
is( sql(q{SELECT payload->'dataFields'->>'v', attempts FROM iterable.failure}),
	'2|1', 'attempts count from the latest change');
sql(q{ALTER SYSTEM RESET iterable_sync.keep_failed_payloads});
sql(q{SELECT pg_reload_conf()});
fail_rows('shown', 'invalidDataEmails', 1);
sql(q{SELECT iterable_retry_failures('shown')});
synced($node, 'shown', 'once more', 1);
is(sql(q{SELECT payload, attempts FROM iterable.failure}), '|2', 'without the setting, the payload is gone');
is( sql(q{SELECT count(*) FROM iterable.failure WHERE payload IS NOT NULL OR message LIKE '%canary%'}),
	'0', 'no message holds data');

sql(q{UPDATE shown SET v = '3' WHERE id = 1});
synced($node, 'shown', 'a newer change is tried by itself');
is(accepted('shown'), '1 2', 'and clears the failure');

#
# Some of the failures
#
scene('chosen');
fail_rows('chosen', 'invalidDataEmails', 1, 2, 3);
insert('chosen', 1 .. 4);
synced($node, 'chosen', 'three rows fail', 3);
$emulator{chosen}->script({ status => 409, body => { code => 'EmailAlreadyExists', msg => 'x' } });
insert('chosen', 5);
synced($node, 'chosen', 'and another one, differently', 4);
is(sql(q{SELECT iterable_retry_failures('chosen', keys => '{1,4}')}), '1', 'a key is tried again');
synced($node, 'chosen', 'a key is done', 3);
is(failures('chosen'), '2 invalidDataEmails, 3 invalidDataEmails, 5 EmailAlreadyExists', 'no other');
is(sql(q{SELECT iterable_retry_failures('chosen', code => 'EmailAlreadyExists', older_than => '0')}), '1', 'a code is tried again');
synced($node, 'chosen', 'a code is done', 2);
is(sql(q{SELECT iterable_retry_failures('chosen', class => 'invalidDataEmails', older_than => '1 h')}), '0', 'none is so old');
is(sql(q{SELECT iterable_discard_failures('chosen', class => 'invalidDataEmails', keys => '{3}')}), '1', 'one is discarded');
is(failures('chosen'), '2 invalidDataEmails', 'the other stays');
is(accepted('chosen'), '1 4 5', 'what was discarded is not accepted');
sql(q{UPDATE chosen SET extra = 'x' WHERE id = 3});
synced($node, 'chosen', 'it changes', 1);
is(accepted('chosen'), '1 3 4 5', 'and is sent then');

#
# A discarded row that goes back to what was accepted: what Iterable has is not
# known, so it is no unchanged one.
#
my $back = scene('back');
insert('back', 1);
synced($node, 'back', 'a row is accepted');
$back->script({
	action => 'apply_then_answer', status => 200,
	body => { successCount => 0, failCount => 1, failedUpdates => { invalidDataEmails => [ email(1) ] } } });
sql(q{UPDATE back SET v = '2'});
synced($node, 'back', 'its change is applied, and refused', 1);
is(sql(q{SELECT iterable_discard_failures('back')}), '1', 'the failure is discarded');
sql(q{UPDATE back SET v = '1'});
synced($node, 'back', 'it goes back');
is(join(' ', map { $_->{dataFields}{v} } $back->users), '1', 'and is sent');

#
# What is nobody's business
#
my $public = sql(q{
	SELECT message FROM iterable.failure;
	SELECT reason, last_error, what_to_do FROM iterable.sync_status;
});
foreach my $secret (map({ $_->key } values %emulator), 'canary-person')
{
	log_lacks($node, $secret, "no $secret is in the log");
	ok(index($public, $secret) < 0, 'nor in what people see');
}
is( sql(q{SELECT count(*) FROM iterable.failure WHERE what_to_do IS NULL}), '0',
	'there is advice for every failure');

done_testing();
